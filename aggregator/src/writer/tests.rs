//! The writer as the ingest sees it: what is answered is durable, and what is not durable is not answered for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use driftglass_protocol::id::DeviceId;
use driftglass_protocol::session::RefuseReason;
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::Mark;

use super::*;
use crate::decision::Wish;
use crate::store::Standing;
use crate::store::embedded::fixture::{Counting, Fault, Faulty, NOW, camera, device, frame, hello, id};
use crate::store::embedded::{EmbeddedStore, Reader};

const NOTHING: Mark = Mark { epoch: 0, sequence: 0 };

struct Stand {
    writer: Writer,
    thread: JoinHandle<()>,
    reader: Arc<Reader>,
    fault: Fault,
    /// How often a core was made.
    cores: Arc<AtomicU64>,
}

fn start(folder: &tempfile::TempDir, settings: Settings) -> Stand {
    let inner = EmbeddedStore::open(folder.path()).expect("opens");
    let reader = Arc::new(inner.reader());
    let fault = Fault::default();
    let store = Faulty { inner, fault: fault.clone() };
    let cores = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&cores);
    let fresh = move || {
        counter.fetch_add(1, Ordering::SeqCst);
        Counting::default()
    };
    let (writer, thread) = Writer::start(store, fresh, || NOW, settings).expect("starts");
    Stand { writer, thread, reader, fault, cores }
}

const fn at(sequence: u64) -> Mark {
    Mark { epoch: 1, sequence }
}

fn record(sequence: u64) -> Vec<u8> {
    frame(id(1, sequence, sequence), NOTHING, "door", i64::try_from(sequence).expect("small"))
}

async fn submit(writer: &Writer, device: &DeviceId, sequence: u64) -> Outcome {
    writer.submit(device.clone(), record(sequence)).await.expect("the writer lives")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_durable_when_it_arrives_and_many_share_one_commit() {
    const DEVICES: u64 = 64;
    const RECORDS: u64 = 20;
    let folder = tempfile::tempdir().expect("folder");
    let stand = start(&folder, Settings::default());
    let tasks: Vec<_> = (0..DEVICES)
        .map(|number| {
            let (writer, reader) = (stand.writer.clone(), Arc::clone(&stand.reader));
            tokio::spawn(async move {
                let gateway = device(&format!("gw-{number}"));
                for sequence in 1..=RECORDS {
                    assert_eq!(submit(&writer, &gateway, sequence).await, Outcome::Accepted(at(sequence)));
                    // Through another connection, which sees only what has been committed.
                    let seen = reader.device(&gateway).expect("reads").expect("known");
                    assert_eq!(seen.mark, at(sequence));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no assertion failed");
    }
    let progress = *stand.writer.progress().borrow();
    assert_eq!((progress.accepted, progress.failures), (DEVICES * RECORDS, 0));
    assert!(progress.commits * 2 < progress.accepted, "{progress:?}: records hardly share commits");
    assert_eq!(stand.reader.totals().expect("reads").accepted, DEVICES * RECORDS);
}

#[tokio::test]
async fn duplicates_are_acknowledged_again_and_gaps_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let stand = start(&folder, Settings::default());
    let gateway = device("gw");
    assert_eq!(stand.writer.mark(&gateway).await, Ok(NOTHING));
    assert_eq!(
        stand.writer.hello(hello(&gateway, 1, 1)).await,
        Ok(Greeting { mark: NOTHING, standing: Standing::Welcome })
    );
    assert_eq!(submit(&stand.writer, &gateway, 1).await, Outcome::Accepted(at(1)));
    assert_eq!(submit(&stand.writer, &gateway, 1).await, Outcome::Duplicate(at(1)));
    let gap = Outcome::Refused { reason: RefuseReason::Gap, expected_after: at(1) };
    assert_eq!(submit(&stand.writer, &gateway, 3).await, gap);
    assert_eq!(stand.writer.mark(&gateway).await, Ok(at(1)));
    assert_eq!(
        stand.writer.hello(hello(&gateway, 1, 2)).await,
        Ok(Greeting { mark: at(1), standing: Standing::Cloned })
    );
}

async fn nothing_is_acknowledged_and_all_goes_on_afterwards(fault: u8) {
    let folder = tempfile::tempdir().expect("folder");
    let stand = start(&folder, Settings::default());
    let gateway = device("gw");
    for sequence in 1..=3 {
        assert_eq!(submit(&stand.writer, &gateway, sequence).await, Outcome::Accepted(at(sequence)));
    }
    let mut events = stand.writer.events().expect("the writer lives");

    stand.fault.set(fault);
    // A full disk is noticed once the free space within the file is used up.
    let mut sequence = 4;
    let refused = loop {
        match submit(&stand.writer, &gateway, sequence).await {
            Outcome::Accepted(mark) => assert_eq!(mark, at(sequence)),
            other => break other,
        }
        assert!(matches!(events.try_recv(), Ok(Event::Window { .. })));
        while events.try_recv().is_ok() {}
        sequence += 1;
        assert!(sequence < 100, "the fault shows");
    };
    let durable = at(sequence - 1);
    let unavailable = Outcome::Refused { reason: RefuseReason::Unavailable, expected_after: durable };
    assert_eq!(refused, unavailable);
    let (first, second) =
        tokio::join!(submit(&stand.writer, &gateway, sequence), submit(&stand.writer, &gateway, sequence + 1));
    assert_eq!((first, second), (unavailable, unavailable), "the group as a whole");
    assert!(!stand.writer.is_healthy());
    assert!(events.try_recv().is_err(), "nothing happened, so nothing is told");
    let door = camera(&gateway, "door");
    assert_eq!(stand.reader.device(&gateway).expect("reads").expect("known").mark, durable);
    assert_eq!(stand.reader.camera(&door).expect("reads").expect("known").windows_total, durable.sequence);
    assert_eq!(stand.writer.mark(&gateway).await, Ok(durable), "reading goes on");
    assert!(!stand.writer.is_healthy(), "a read proves nothing");

    stand.fault.set(Fault::NONE);
    for next in sequence..sequence + 9 {
        // The core itself checks that it has seen as many windows as the store has.
        assert_eq!(submit(&stand.writer, &gateway, next).await, Outcome::Accepted(at(next)));
    }
    assert!(stand.writer.is_healthy());
    assert!(stand.cores.load(Ordering::SeqCst) >= 2, "the core was made anew");
    let alerts = stand.reader.alerts(&Default::default(), Default::default()).expect("reads");
    let ids: Vec<u64> = alerts.iter().rev().map(|alert| alert.id).collect();
    assert_eq!(ids, (1..=(sequence + 8) / 4).collect::<Vec<u64>>(), "no number is lost or given twice");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_acknowledges_nothing() {
    nothing_is_acknowledged_and_all_goes_on_afterwards(Fault::FULL).await;
}

#[tokio::test]
async fn a_commit_that_fails_loses_nothing_and_acknowledges_nothing() {
    nothing_is_acknowledged_and_all_goes_on_afterwards(Fault::COMMIT).await;
}

#[tokio::test]
async fn a_group_is_closed_when_it_is_full() {
    let folder = tempfile::tempdir().expect("folder");
    // Were the group not closed by its size, the second record would wait for nearly an hour's slice.
    let settings = Settings { group_records: 2, group_wait: Duration::from_secs(3600), ..Settings::default() };
    let stand = start(&folder, settings);
    let (one, two) = (device("one"), device("two"));
    let both = async { tokio::join!(submit(&stand.writer, &one, 1), submit(&stand.writer, &two, 1)) };
    let answers = tokio::time::timeout(Duration::from_secs(20), both).await.expect("answered at once");
    assert_eq!(answers, (Outcome::Accepted(at(1)), Outcome::Accepted(at(1))));
    assert_eq!(stand.writer.progress().borrow().commits, 1);
}

#[tokio::test]
async fn a_full_queue_makes_submitters_wait_and_loses_none() {
    let folder = tempfile::tempdir().expect("folder");
    let stand = start(&folder, Settings { queue: 2, ..Settings::default() });
    let tasks: Vec<_> = (0..32)
        .map(|number| {
            let writer = stand.writer.clone();
            tokio::spawn(async move { submit(&writer, &device(&format!("gw-{number}")), 1).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.expect("ends"), Outcome::Accepted(at(1)));
    }
    assert_eq!(stand.reader.totals().expect("reads").accepted, 32);
}

#[tokio::test]
async fn the_thread_ends_with_the_last_handle_and_commits_what_was_handed_in() {
    let folder = tempfile::tempdir().expect("folder");
    let stand = start(&folder, Settings::default());
    let writer = stand.writer.clone();
    let submitted = tokio::spawn(async move { submit(&writer, &device("gw"), 1).await });
    assert_eq!(submitted.await.expect("ends"), Outcome::Accepted(at(1)));
    let mut events = stand.writer.events().expect("the writer lives");
    drop(stand.writer);
    stand.thread.join().expect("ends in order");
    assert!(matches!(events.try_recv(), Err(broadcast::error::TryRecvError::Closed)));
    EmbeddedStore::open(folder.path()).expect("the store is free again");
}

#[tokio::test]
async fn old_windows_are_forgotten_on_request() {
    let folder = tempfile::tempdir().expect("folder");
    let stand = start(&folder, Settings::default());
    let gateway = device("gw");
    for sequence in 1..=5 {
        submit(&stand.writer, &gateway, sequence).await;
    }
    assert_eq!(stand.writer.forget_before(UnixMillis(4 * 60_000)).await, Ok(3));
    let left = stand.reader.windows(&camera(&gateway, "door"), UnixMillis(0), 10).expect("reads");
    assert_eq!(left.len(), 2);
}

#[tokio::test]
async fn an_order_is_durable_when_it_is_answered_and_one_that_is_refused_says_why() {
    let folder = tempfile::tempdir().expect("folder");
    // What is asked at the same time shares a commit.
    let settings = Settings { group_wait: Duration::from_secs(2), ..Settings::default() };
    let stand = start(&folder, settings);
    let gateway = device("gw");
    for sequence in 1..=3 {
        submit(&stand.writer, &gateway, sequence).await;
    }
    let door = camera(&gateway, "door");
    let order = |to| Order { wish: Wish::Rollback { to: Some(to) }, author: "jo".into(), note: String::new() };
    let in_force = || stand.reader.camera(&door).expect("reads").expect("known").baseline_version;
    assert_eq!(stand.writer.order(&door, order(7)).await, Ok(Err(OrderError::UnknownVersion(7))));
    assert_eq!(in_force(), Some(3));
    assert_eq!(stand.writer.order(&door, order(2)).await, Ok(Ok(())));
    assert_eq!(in_force(), Some(2));

    stand.fault.set(Fault::COMMIT);
    let refused = tokio::join!(stand.writer.order(&door, order(1)), submit(&stand.writer, &gateway, 4));
    assert_eq!(refused.0, Err(WriterError::Unavailable), "it shared a commit that failed");
    assert_eq!(in_force(), Some(2), "all of it, or nothing");
}

#[tokio::test]
async fn a_writer_whose_thread_died_says_so() {
    let folder = tempfile::tempdir().expect("folder");
    let stand = start(&folder, Settings::default());
    let gateway = device("gw");
    submit(&stand.writer, &gateway, 1).await;
    // The test core insists on as many windows as it has seen; without them it panics, as nothing of ours should.
    stand.writer.forget_before(UnixMillis(i64::MAX)).await.expect("forgets");
    assert_eq!(stand.writer.submit(gateway.clone(), record(2)).await, Err(WriterGone));
    assert_eq!(stand.writer.mark(&gateway).await, Err(WriterError::Gone));
    assert!(stand.thread.join().is_err());
    assert!(!stand.writer.is_healthy());
    assert!(stand.writer.events().is_err());
}
