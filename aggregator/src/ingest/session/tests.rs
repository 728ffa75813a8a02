//! Whole sessions over a pair of pipes, with a ledger that commits when the test says so.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use driftglass_protocol::configuration::{ConfigurationId, ConfigurationOutcome, ConfigurationReport};
use driftglass_protocol::id::Name;
use driftglass_protocol::summary::{Quality, Summary, Window};
use driftglass_protocol::unit::Millis;
use driftglass_protocol::wire::{RecordId, parse_frame};
use tokio::io::DuplexStream;
use tokio::sync::oneshot;

use super::*;
use crate::ingest::{Meter, Rate};

/// Answers of the ledger that the test has not given yet, in order of submission.
#[derive(Default)]
struct HeldLedger {
    mark: Mark,
    standing: Standing,
    held: Mutex<VecDeque<oneshot::Sender<Outcome>>>,
}

struct HeldTicket(oneshot::Receiver<Outcome>);

impl Future for HeldTicket {
    type Output = Result<Outcome, LedgerError>;
    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(context).map_err(|_| LedgerError)
    }
}

impl Ledger for HeldLedger {
    type Ticket = HeldTicket;
    async fn greet(&self, _: Hello) -> Result<Greeting, LedgerError> {
        Ok(Greeting { mark: self.mark, standing: self.standing })
    }
    async fn submit(&self, _: &DeviceId, _: Vec<u8>) -> Result<HeldTicket, LedgerError> {
        let (sender, receiver) = oneshot::channel();
        self.held.lock().expect("no test panics with it").push_back(sender);
        Ok(HeldTicket(receiver))
    }
}

impl HeldLedger {
    fn held(&self) -> usize {
        self.held.lock().expect("no test panics with it").len()
    }
    fn answer(&self, outcome: Outcome) {
        let sender = self.held.lock().expect("no test panics with it").pop_front().expect("a record was submitted");
        sender.send(outcome).expect("the session waits");
    }
}

/// What a session tells and takes.
#[derive(Default)]
struct Counts {
    /// Records accepted and repeated.
    records: Mutex<(u64, u64)>,
    places: AtomicU64,
    spent: Mutex<Meter>,
    throttled: AtomicU64,
}

struct Seat<'a> {
    stop: watch::Receiver<Option<Stop>>,
    counts: &'a Counts,
    begin: Instant,
}

impl Place for Seat<'_> {
    fn stop(&mut self) -> &mut watch::Receiver<Option<Stop>> {
        &mut self.stop
    }
    fn accepted(&mut self) {
        self.counts.places.fetch_add(1, Ordering::Relaxed);
    }
    fn spend(&mut self, bytes: usize) -> Duration {
        let now = Instant::now().duration_since(self.begin);
        self.counts.spent.lock().expect("unpoisoned").spend(RATE, bytes, now)
    }
}

/// Far beyond what the other tests send.
const RATE: Rate = Rate { records_per_second: 10, bytes_per_second: 1_000_000 };

impl Observer for Counts {
    fn accepted(&self, lag_s: Option<f64>) {
        assert_eq!(lag_s, Some(5.0), "the clock says 65 s, the window ended at 60 s");
        self.records.lock().expect("unpoisoned").0 += 1;
    }
    fn duplicate(&self) {
        self.records.lock().expect("unpoisoned").1 += 1;
    }
    fn throttled(&self) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }
}

fn device(name: &str) -> DeviceId {
    DeviceId { site: Name::parse("s").expect("name"), device: Name::parse(name).expect("name") }
}

fn hello(name: &str, epoch: u32) -> Vec<u8> {
    let hello = Hello { device: device(name), epoch, instance: 1, clock: UnixMillis(0), version: Default::default() };
    let mut out = vec![0; 256];
    let length = hello.write(&mut out).expect("fits");
    out.truncate(length);
    out
}

fn record(sequence: u64) -> Vec<u8> {
    let summary = Summary {
        camera: Name::parse("door").expect("name"),
        model: None,
        window: Window { start: UnixMillis(0), length: Millis(60_000), merged: 1 },
        first_frame: None,
        last_frame: None,
        quality: Quality::default(),
        sketches: Default::default(),
        predictions: None,
    };
    let id = RecordId { epoch: 1, first: sequence, last: sequence };
    let mut out = vec![0; 256];
    let record = Record { id, previous: Mark::default(), body: Body::Summary(summary) };
    let length = record.write(&mut out).expect("fits");
    out.truncate(length);
    out
}

const fn at(sequence: u64) -> Mark {
    Mark { epoch: 1, sequence }
}

#[derive(Debug, PartialEq)]
enum Heard {
    Welcome(Mark),
    Acknowledge(Mark),
    Refuse(RefuseReason, Mark),
    End,
}

/// What a device says of its configuration.
fn report() -> Vec<u8> {
    let id = ConfigurationId { version: 0, digest: [0; 32] };
    let outcome = ConfigurationOutcome::Applied;
    let report = ConfigurationReport { in_effect: id, offered: id, outcome, restart: false, detail: "" };
    let mut out = vec![0; 256];
    let length = report.write(&mut out).expect("fits");
    out.truncate(length);
    out
}

struct Agent {
    stream: DuplexStream,
    buffer: Vec<u8>,
}

impl Agent {
    async fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the session reads");
    }

    async fn hear(&mut self) -> Heard {
        loop {
            if let Ok(frame) = parse_frame(&self.buffer) {
                let heard = Welcome::parse(frame)
                    .map(|welcome| Heard::Welcome(welcome.mark))
                    .or_else(|_| Acknowledge::parse(frame).map(|acknowledge| Heard::Acknowledge(acknowledge.mark)))
                    .or_else(|_| Refuse::parse(frame).map(|refuse| Heard::Refuse(refuse.reason, refuse.expected_after)))
                    .expect("one of the three");
                let length = frame.length;
                self.buffer.drain(..length);
                return heard;
            }
            if self.stream.read_buf(&mut self.buffer).await.expect("a pipe") == 0 {
                return Heard::End;
            }
        }
    }
}

/// Runs a session for device `a` beside an agent that follows `script`.
async fn with_session<F>(
    ledger: &HeldLedger,
    script: impl FnOnce(Agent, watch::Sender<Option<Stop>>) -> F,
) -> (Ended, Counts)
where
    F: Future<Output = ()>,
{
    with_session_beside(ledger, None, script).await
}

async fn with_session_beside<F>(
    ledger: &HeldLedger,
    aside: Option<Aside>,
    script: impl FnOnce(Agent, watch::Sender<Option<Stop>>) -> F,
) -> (Ended, Counts)
where
    F: Future<Output = ()>,
{
    let counts = Counts::default();
    let peer = Peer { device: device("a"), ledger, observer: &counts, clock: || UnixMillis(65_000) };
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (stop, stopped) = watch::channel(None);
    let mut place = Seat { stop: stopped, counts: &counts, begin: Instant::now() };
    let session = async {
        let (mut reader, mut writer) = tokio::io::split(near);
        serve_beside(&peer, &mut reader, &mut writer, &mut place, aside).await
    };
    let agent = Agent { stream: far, buffer: Vec::new() };
    let (ended, ()) = tokio::join!(session, script(agent, stop));
    (ended, counts)
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn records_are_handed_in_without_waiting_and_acknowledged_once_for_all_that_is_committed() {
    let ledger = HeldLedger::default();
    let (ended, counts) = with_session(&ledger, |mut agent, _stop| {
        let ledger = &ledger;
        async move {
            agent.say(&hello("a", 1)).await;
            assert_eq!(agent.hear().await, Heard::Welcome(Mark::default()));
            agent.say(&[record(1), record(2), record(3)].concat()).await;
            until(|| ledger.held() == 3).await;
            for sequence in 1..=3 {
                ledger.answer(if sequence == 2 { Outcome::Duplicate(at(2)) } else { Outcome::Accepted(at(sequence)) });
            }
            assert_eq!(agent.hear().await, Heard::Acknowledge(at(3)), "one acknowledgement covers all three");
            agent.stream.shutdown().await.expect("closes");
        }
    })
    .await;
    assert_eq!(ended, Ended::Finished);
    assert_eq!((*counts.records.lock().expect("unpoisoned"), counts.places.load(Ordering::Relaxed)), ((2, 1), 1));
}

#[tokio::test]
async fn what_is_said_besides_passes_between_the_frames_of_the_session_and_never_holds_it_up() {
    let ledger = HeldLedger::default();
    let (aside, mut confidant) = Aside::new();
    let (ended, counts) = with_session_beside(&ledger, Some(aside), |mut agent, _stop| {
        let ledger = &ledger;
        async move {
            agent.say(&hello("a", 1)).await;
            assert_eq!(agent.hear().await, Heard::Welcome(Mark::default()));
            // Far more than anybody looks at; the records after it are taken all the same.
            agent.say(&[record(1), report().repeat(9), record(2)].concat()).await;
            until(|| ledger.held() == 2).await;
            assert_eq!(confidant.received.recv().await, Some(report()));
            // One of the session's own messages, which is told from the others.
            let mut out = [0; 64];
            let length = Acknowledge { mark: at(9) }.write(&mut out).expect("fits");
            confidant.to_send.send(out[..length].to_vec()).await.expect("the session listens");
            assert_eq!(agent.hear().await, Heard::Acknowledge(at(9)));
            ledger.answer(Outcome::Accepted(at(1)));
            assert_eq!(agent.hear().await, Heard::Acknowledge(at(1)));
            ledger.answer(Outcome::Accepted(at(2)));
            assert_eq!(agent.hear().await, Heard::Acknowledge(at(2)));
            drop(confidant);
            agent.say(&record(3)).await;
            until(|| ledger.held() == 1).await;
            ledger.answer(Outcome::Accepted(at(3)));
            assert_eq!(agent.hear().await, Heard::Acknowledge(at(3)));
            agent.stream.shutdown().await.expect("closes");
        }
    })
    .await;
    assert_eq!((ended, counts.throttled.load(Ordering::Relaxed)), (Ended::Finished, 0));
}

#[tokio::test]
async fn what_is_said_besides_is_out_of_turn_before_the_greeting_and_where_it_has_a_stream_of_its_own() {
    for (greets, besides) in [(false, true), (true, false)] {
        let ledger = HeldLedger::default();
        let (aside, confidant) = Aside::new();
        let (ended, _) = with_session_beside(&ledger, besides.then_some(aside), |mut agent, _stop| async move {
            if greets {
                agent.say(&hello("a", 1)).await;
                agent.hear().await;
            }
            agent.say(&report()).await;
            assert_eq!(agent.hear().await, Heard::Refuse(RefuseReason::Protocol, Mark::default()));
        })
        .await;
        drop(confidant);
        assert!(matches!(&ended, Ended::Rejected { reason: Rejection::Protocol, .. }), "{ended:?}");
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_committed_and_the_window_of_records_is_bounded() {
    let ledger = HeldLedger::default();
    let (ended, _) = with_session(&ledger, |mut agent, _stop| {
        let ledger = &ledger;
        async move {
            agent.say(&hello("a", 1)).await;
            agent.hear().await;
            let many: Vec<u8> = (1..=IN_FLIGHT as u64 + 20).flat_map(record).collect();
            agent.say(&many).await;
            until(|| ledger.held() == IN_FLIGHT).await;
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(ledger.held(), IN_FLIGHT, "no more are taken while these are not committed");
            let silent = tokio::time::timeout(Duration::from_millis(50), agent.hear()).await;
            assert!(silent.is_err(), "{silent:?} came before any commit");
            ledger.answer(Outcome::Accepted(at(1)));
            assert_eq!(agent.hear().await, Heard::Acknowledge(at(1)));
            until(|| ledger.held() == IN_FLIGHT).await;
            // A ledger that goes away without an answer: nothing more is acknowledged.
            ledger.held.lock().expect("unpoisoned").clear();
            let mut heard = agent.hear().await;
            while heard == Heard::Acknowledge(at(1)) {
                heard = agent.hear().await;
            }
            assert_eq!(heard, Heard::Refuse(RefuseReason::Unavailable, at(1)));
        }
    })
    .await;
    assert!(matches!(&ended, Ended::Rejected { reason: Rejection::Unavailable, .. }), "{ended:?}");
}

#[tokio::test]
async fn what_the_ledger_refuses_is_refused_with_what_is_expected_after_acknowledging_what_came_before() {
    let ledger = HeldLedger::default();
    let second = u64::try_from(hello("a", 1).len() + record(1).len()).expect("small");
    let (ended, _) = with_session(&ledger, |mut agent, _stop| {
        let ledger = &ledger;
        async move {
            agent.say(&[hello("a", 1), record(1), record(5)].concat()).await;
            agent.hear().await;
            until(|| ledger.held() == 2).await;
            ledger.answer(Outcome::Accepted(at(1)));
            ledger.answer(Outcome::Refused { reason: RefuseReason::Gap, expected_after: at(1) });
            let heard = agent.hear().await;
            // Depending on when the session looks, the two outcomes come together or one after the other.
            assert_eq!(heard, Heard::Acknowledge(at(1)));
            let mut heard = agent.hear().await;
            while heard == Heard::Acknowledge(at(1)) {
                heard = agent.hear().await;
            }
            assert_eq!(heard, Heard::Refuse(RefuseReason::Gap, at(1)));
        }
    })
    .await;
    assert!(matches!(&ended, Ended::Rejected { reason: Rejection::Gap, offset, .. } if *offset == second), "{ended:?}");
}

#[tokio::test]
async fn every_malformed_or_misplaced_frame_ends_the_session_with_its_own_reason() {
    let flipped = |at: usize| {
        let mut bytes = record(1);
        bytes[at] ^= 0x55;
        [hello("a", 1), bytes].concat()
    };
    let cases: [(Vec<u8>, Rejection, RefuseReason); 7] = [
        (hello("b", 1), Rejection::Identity, RefuseReason::Identity),
        (hello("a", 0), Rejection::StaleEpoch, RefuseReason::StaleEpoch),
        (record(1), Rejection::Protocol, RefuseReason::Protocol),
        ([hello("a", 1), hello("a", 1)].concat(), Rejection::Protocol, RefuseReason::Protocol),
        (flipped(3), Rejection::TooLong, RefuseReason::Malformed),
        (flipped(4), Rejection::Version, RefuseReason::Malformed),
        (flipped(12), Rejection::Checksum, RefuseReason::Malformed),
    ];
    for (bytes, rejection, refusal) in cases {
        let ledger = HeldLedger { mark: at(0), ..HeldLedger::default() };
        let (ended, _) = with_session(&ledger, |mut agent, _stop| async move {
            agent.say(&bytes).await;
            let mut heard = agent.hear().await;
            if let Heard::Welcome(_) = heard {
                heard = agent.hear().await;
            }
            assert!(matches!(heard, Heard::Refuse(reason, _) if reason == refusal), "{heard:?} instead of {refusal:?}");
        })
        .await;
        assert!(matches!(&ended, Ended::Rejected { reason, .. } if *reason == rejection), "{ended:?}");
        assert_eq!(ledger.held(), 0, "nothing of it reaches the ledger");
    }
}

#[tokio::test]
async fn a_session_told_to_stop_acknowledges_what_it_had_handed_in_and_says_why_it_ends() {
    for (stop, reason) in
        [(Stop::Superseded, RefuseReason::Superseded), (Stop::ShuttingDown, RefuseReason::Unavailable)]
    {
        let ledger = HeldLedger::default();
        let (ended, _) = with_session(&ledger, |mut agent, stopper| {
            let ledger = &ledger;
            async move {
                agent.say(&[hello("a", 1), record(1)].concat()).await;
                agent.hear().await;
                until(|| ledger.held() == 1).await;
                stopper.send_replace(Some(stop));
                tokio::task::yield_now().await;
                ledger.answer(Outcome::Accepted(at(1)));
                assert_eq!(agent.hear().await, Heard::Acknowledge(at(1)));
                assert_eq!(agent.hear().await, Heard::Refuse(reason, at(1)));
                assert_eq!(agent.hear().await, Heard::End);
            }
        })
        .await;
        assert_eq!(ended, Ended::Stopped(stop));
    }
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_frame_is_a_lost_connection() {
    let ledger = HeldLedger::default();
    let (ended, _) = with_session(&ledger, |mut agent, _stop| async move {
        let cut = hello("a", 1);
        agent.say(&cut[..cut.len() - 1]).await;
        agent.stream.shutdown().await.expect("closes");
    })
    .await;
    assert!(matches!(&ended, Ended::Lost { detail } if detail.contains("ends early")), "{ended:?}");
}

#[tokio::test]
async fn of_two_instances_in_one_epoch_the_later_is_refused_with_the_reason_that_says_what_to_do() {
    for (standing, reason) in [(Standing::Cloned, RefuseReason::Cloned), (Standing::Spent, RefuseReason::StaleEpoch)] {
        let ledger = HeldLedger { mark: at(3), standing, ..HeldLedger::default() };
        let (ended, counts) = with_session(&ledger, |mut agent, _stop| async move {
            agent.say(&[hello("a", 1), record(4)].concat()).await;
            assert_eq!(agent.hear().await, Heard::Refuse(reason, at(3)));
        })
        .await;
        assert!(matches!(ended, Ended::Rejected { .. }), "{ended:?}");
        assert_eq!(counts.places.load(Ordering::Relaxed), 0, "it does not take the place of the other one");
        assert_eq!(ledger.held(), 0, "the record is not looked at");
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_sends_more_than_it_may_is_slowed_down_and_loses_nothing() {
    let ledger = HeldLedger::default();
    let (ended, counts) = with_session(&ledger, |mut agent, _stop| {
        let ledger = &ledger;
        async move {
            let begin = Instant::now();
            agent.say(&hello("a", 1)).await;
            agent.hear().await;
            let stream: Vec<u8> = (1..=200).flat_map(record).collect();
            let answer = async {
                for sequence in 1..=200 {
                    while ledger.held() == 0 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    ledger.answer(Outcome::Accepted(at(sequence)));
                }
            };
            let send = async {
                let (mut reader, mut writer) = tokio::io::split(&mut agent.stream);
                let mut sink = Vec::new();
                let write = async {
                    writer.write_all(&stream).await.expect("the session reads in the end");
                    writer.shutdown().await.expect("closes");
                };
                tokio::join!(write, async { reader.read_to_end(&mut sink).await.expect("a pipe") });
            };
            tokio::join!(answer, send);
            let took = begin.elapsed();
            assert!(
                (Duration::from_secs(9)..Duration::from_secs(12)).contains(&took),
                "a hundred at once, a hundred at ten a second: {took:?}"
            );
        }
    })
    .await;
    assert_eq!(ended, Ended::Finished);
    assert_eq!(counts.records.lock().expect("unpoisoned").0, 200);
    assert!(counts.throttled.load(Ordering::Relaxed) >= 90);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_trickles_in_ends_the_session_and_silence_between_frames_does_not() {
    let ledger = HeldLedger::default();
    let (ended, _) = with_session(&ledger, |mut agent, _stop| async move {
        agent.say(&hello("a", 1)).await;
        agent.hear().await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        for byte in record(1).iter().take(40) {
            if agent.stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        assert_eq!(agent.hear().await, Heard::Refuse(RefuseReason::Protocol, Mark::default()));
    })
    .await;
    assert!(matches!(ended, Ended::Rejected { reason: Rejection::Slow, .. }), "{ended:?}");
}
