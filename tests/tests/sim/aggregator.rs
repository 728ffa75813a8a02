//! The aggregator: the product's splitter, receiver, greeting and ledger over a store in memory, with a queue and group commits.

use std::collections::{BTreeMap, VecDeque};

use driftglass_aggregator::ingest::{FrameSplitter, IN_FLIGHT, refusal};
use driftglass_aggregator::ledger::{Outcome, enter};
use driftglass_aggregator::store::{Batch, Store};
use driftglass_protocol::id::{CameraId, DeviceId};
use driftglass_protocol::session::chain::Verdict;
use driftglass_protocol::session::{Acknowledge, Hello, Incoming, Receiver, Refuse, RefuseReason, Welcome};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{Body, Mark, Record, RecordId, parse_frame};

use crate::random::Random;
use crate::rules::Rules;
use crate::store::{Indifferent, MemoryStore};

/// One connection, both directions.
#[derive(Debug)]
pub(crate) struct Connection {
    device: DeviceId,
    receiver: Receiver,
    splitter: FrameSplitter,
    /// Bytes on their way to the aggregator.
    pub(crate) up: VecDeque<u8>,
    /// Bytes on their way to the agent.
    pub(crate) down: VecDeque<u8>,
    /// The agent still holds its end.
    pub(crate) agent_is_there: bool,
    /// The aggregator has ended it.
    closed: bool,
    superseded: bool,
    greeting: bool,
    pending: usize,
    mark: Mark,
    /// What a mutant that judges on receipt keeps.
    received: Mark,
}

/// A frame that was understood.
enum Taken {
    Hello(Box<Hello>),
    Record(RecordId, Mark, Vec<u8>),
}

enum Command {
    Hello(Box<Hello>),
    Submit(Vec<u8>),
}

/// The one aggregator.
pub(crate) struct Aggregator {
    pub(crate) store: MemoryStore,
    core: Indifferent,
    rules: Rules,
    pub(crate) connections: BTreeMap<u64, Connection>,
    next: u64,
    queue: VecDeque<(u64, DeviceId, Command)>,
    pub(crate) commits_failed: u64,
    pub(crate) crashes: u64,
}

impl Aggregator {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            store: MemoryStore::default(),
            core: Indifferent,
            rules,
            connections: BTreeMap::new(),
            next: 0,
            queue: VecDeque::new(),
            commits_failed: 0,
            crashes: 0,
        }
    }

    /// A device connects; its older connections are told to stop.
    pub(crate) fn connect(&mut self, device: &DeviceId) -> u64 {
        for connection in self.connections.values_mut().filter(|connection| connection.device == *device) {
            connection.superseded = true;
        }
        let number = self.next;
        self.next += 1;
        let connection = Connection {
            device: device.clone(),
            receiver: Receiver::new(device.clone()),
            splitter: FrameSplitter::new(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            agent_is_there: true,
            closed: false,
            superseded: false,
            greeting: false,
            pending: 0,
            mark: Mark::default(),
            received: Mark::default(),
        };
        self.connections.insert(number, connection);
        number
    }

    /// The process dies and starts again.
    pub(crate) fn crash(&mut self) {
        self.crashes += 1;
        self.queue.clear();
        self.core = Indifferent;
        for connection in self.connections.values_mut() {
            connection.closed = true;
            connection.up.clear();
            connection.down.clear();
        }
    }

    /// Moves some bytes from the network into sessions.
    pub(crate) fn read(&mut self, number: u64, most: usize, hears_of_the_newer_one: bool) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if connection.closed {
            connection.up.clear();
            return;
        }
        // What it had handed in before the newer connection came is answered first.
        if connection.superseded && hears_of_the_newer_one {
            if connection.pending == 0 && !connection.greeting {
                refuse(connection, RefuseReason::Superseded);
            }
            return;
        }
        let count = most.min(connection.up.len()).min(connection.splitter.spare().len());
        for (place, byte) in connection.splitter.spare().iter_mut().zip(connection.up.drain(..count)) {
            *place = byte;
        }
        connection.splitter.advance(count);
        self.take(number);
    }

    fn take(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        while !connection.greeting && !connection.closed && connection.pending < IN_FLIGHT {
            let taken = match connection.splitter.take_frame() {
                Ok(None) => return,
                Err(_) => Err(RefuseReason::Malformed),
                Ok(Some(located)) => match connection.receiver.handle_frame(located.frame, Mark::default()) {
                    Ok(Incoming::Hello(hello)) => Ok(Taken::Hello(Box::new(hello))),
                    Ok(Incoming::Record(record)) => {
                        Ok(Taken::Record(record.id, record.previous, located.bytes.to_vec()))
                    }
                    Err(reason) => Err(reason),
                },
            };
            match taken {
                Err(reason) => return refuse(connection, reason),
                Ok(Taken::Hello(hello)) => {
                    connection.greeting = true;
                    self.queue.push_back((number, connection.device.clone(), Command::Hello(hello)));
                }
                Ok(Taken::Record(id, previous, bytes)) => {
                    if self.rules.judges_on_receive() {
                        match self.rules.judge(connection.received, id, previous) {
                            Verdict::Accept => connection.received = id.mark(),
                            Verdict::Duplicate => {
                                let acknowledge = Acknowledge { mark: connection.mark };
                                say(connection, |out| acknowledge.write(out).expect("fits"));
                                continue;
                            }
                            Verdict::Gap => return refuse(connection, RefuseReason::Gap),
                            Verdict::Overlap => return refuse(connection, RefuseReason::Overlap),
                        }
                    }
                    connection.pending += 1;
                    self.queue.push_back((number, connection.device.clone(), Command::Submit(bytes)));
                }
            }
        }
    }

    /// Commits a group. It may fail as a whole, and the process may die between the commit and the answers.
    pub(crate) fn commit(&mut self, most: usize, fails: bool, dies: bool, now: UnixMillis) {
        let count = most.min(self.queue.len());
        let group: Vec<_> = self.queue.drain(..count).collect();
        if group.is_empty() {
            return;
        }
        self.store.commit_fails = fails;
        let mut answers = Vec::new();
        let mut batch = self.store.begin().expect("begins");
        for (number, device, command) in &group {
            match command {
                Command::Hello(hello) => {
                    let greeting = batch.greet(hello, now).expect("in memory");
                    answers.push((*number, Answer::Greeting(greeting, hello.epoch)));
                }
                Command::Submit(frame) => {
                    let outcome = if self.rules.aggregator_is_real() {
                        enter(&mut batch, &mut self.core, device, frame, now, &mut Vec::new()).expect("in memory")
                    } else {
                        enter_wrongly(&mut batch, self.rules, device, frame, now)
                    };
                    answers.push((*number, Answer::Outcome(outcome)));
                }
            }
        }
        if batch.commit().is_err() {
            self.commits_failed += 1;
            for (number, device, command) in group {
                let mark = self.store.rows.get(&device).map(|row| row.mark).unwrap_or_default();
                let outcome = Outcome::Refused { reason: RefuseReason::Unavailable, expected_after: mark };
                if matches!(command, Command::Hello(_)) {
                    if let Some(connection) = self.connections.get_mut(&number) {
                        refuse(connection, RefuseReason::Unavailable);
                    }
                } else {
                    self.settle(number, Answer::Outcome(outcome), now);
                }
            }
            return;
        }
        if dies {
            return self.crash();
        }
        for (number, answer) in answers {
            self.settle(number, answer, now);
        }
    }

    fn settle(&mut self, number: u64, answer: Answer, now: UnixMillis) {
        let rules = self.rules;
        let Some(connection) = self.connections.get_mut(&number) else { return };
        match answer {
            Answer::Greeting(greeting, epoch) => {
                connection.greeting = false;
                connection.mark = greeting.mark;
                connection.received = greeting.mark;
                // A device without epochs is never behind.
                let reason = if rules.numbers_are_plain() { None } else { refusal(greeting, epoch) };
                if let Some(reason) = reason {
                    return refuse(connection, reason);
                }
                let in_flight = u16::try_from(IN_FLIGHT).expect("small");
                let welcome = Welcome { mark: greeting.mark, clock: now, in_flight };
                say(connection, |out| welcome.write(out).expect("fits"));
            }
            Answer::Outcome(outcome) => {
                connection.pending = connection.pending.saturating_sub(1);
                if connection.closed {
                    return;
                }
                match outcome {
                    Outcome::Accepted(mark) | Outcome::Duplicate(mark) => {
                        connection.mark = connection.mark.max(mark);
                        let acknowledge = Acknowledge { mark: connection.mark };
                        say(connection, |out| acknowledge.write(out).expect("fits"));
                    }
                    Outcome::Refused { reason, .. } => return refuse(connection, reason),
                }
            }
        }
        self.take(number);
    }

    /// Forgets connections that nobody holds any more.
    pub(crate) fn sweep(&mut self, random: &mut Random) {
        self.connections.retain(|_, connection| {
            connection.agent_is_there || (!connection.closed && !connection.up.is_empty() && !random.chance(50))
        });
    }

    pub(crate) fn is_closed(&self, number: u64) -> bool {
        self.connections.get(&number).is_none_or(|connection| connection.closed && connection.down.is_empty())
    }
}

enum Answer {
    Greeting(driftglass_aggregator::store::Greeting, u32),
    Outcome(Outcome),
}

fn say(connection: &mut Connection, write: impl FnOnce(&mut [u8]) -> usize) {
    let mut out = [0; 128];
    let length = write(&mut out);
    connection.down.extend(&out[..length]);
}

fn refuse(connection: &mut Connection, reason: RefuseReason) {
    if connection.closed {
        return;
    }
    let refuse = Refuse { reason, expected_after: connection.mark, retry_after_s: 0 };
    say(connection, |out| refuse.write(out).expect("fits"));
    connection.closed = true;
    connection.up.clear();
}

/// What the broken variants do with a record inside the transaction.
fn enter_wrongly(
    batch: &mut crate::store::MemoryBatch<'_>,
    rules: Rules,
    device: &DeviceId,
    frame: &[u8],
    now: UnixMillis,
) -> Outcome {
    let mark = batch.register(device, now).expect("in memory");
    let record = Record::parse(parse_frame(frame).expect("a frame")).expect("a record");
    if !rules.judges_on_receive() && rules.judge(mark, record.id, record.previous) != Verdict::Accept {
        return Outcome::Duplicate(mark);
    }
    match &record.body {
        Body::Summary(summary) => {
            let camera = CameraId { device: device.clone(), camera: summary.camera.clone() };
            batch.insert_window(&camera, summary, frame, now).expect("in memory");
        }
        Body::Tombstone(tombstone) => {
            batch.insert_tombstone(device, record.id, *tombstone, now).expect("in memory");
        }
    }
    batch.force_mark(device, record.id.mark());
    Outcome::Accepted(record.id.mark().max(mark))
}
