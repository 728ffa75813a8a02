//! The rules of delivery, and the broken variants of them that the simulator has to catch.
//!
//! The real rules are the product's own code. A variant lives here alone: it replaces what the aggregator does with a record, or
//! the numbers that a device puts on the wire.

use std::collections::BTreeMap;

use driftglass_protocol::session::chain::{Verdict, judge};
use driftglass_protocol::session::{Acknowledge, Welcome};
use driftglass_protocol::wire::{Kind, Mark, Record, RecordId, parse_frame};

/// Which rules a world obeys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// The product's.
    Real,
    /// Plain sequence numbers, repetitions recognised when they are received.
    PlainOnReceive,
    /// Plain sequence numbers, repetitions recognised in the transaction.
    PlainInCommit,
    /// Epochs, but a gap in the sequence is no reason to refuse.
    NoChain,
    /// The chain rule, judged when a record is received and not in the transaction.
    ChainOnReceive,
    /// The spool forgets what it has offered, and merges it.
    MergeAnything,
    /// The chain rule over numbers that a power cut takes back.
    NumbersReused,
}

impl Rules {
    pub(crate) const MUTANTS: [Self; 6] = [
        Self::PlainOnReceive,
        Self::PlainInCommit,
        Self::NoChain,
        Self::ChainOnReceive,
        Self::MergeAnything,
        Self::NumbersReused,
    ];

    /// Whether records are judged when they are received, against a mark that the connection keeps.
    pub(crate) const fn judges_on_receive(self) -> bool {
        matches!(self, Self::PlainOnReceive | Self::ChainOnReceive)
    }

    /// Whether the aggregator's part is the product's.
    pub(crate) const fn aggregator_is_real(self) -> bool {
        matches!(self, Self::Real | Self::MergeAnything | Self::NumbersReused)
    }

    /// Whether devices number their records without an epoch.
    pub(crate) const fn numbers_are_plain(self) -> bool {
        matches!(self, Self::PlainOnReceive | Self::PlainInCommit | Self::NumbersReused)
    }

    /// The variant's judgement of a record.
    pub(crate) fn judge(self, mark: Mark, id: RecordId, previous: Mark) -> Verdict {
        match self {
            Self::ChainOnReceive => judge(mark, id, previous),
            _ if id.mark() <= mark => Verdict::Duplicate,
            _ => Verdict::Accept,
        }
    }
}

/// Numbers without an epoch: one counter for the life of the device, stored now and then.
#[derive(Debug, Default)]
pub(crate) struct PlainNumbers {
    /// What a start adds to its sequence numbers, by epoch.
    offsets: BTreeMap<u32, u64>,
    /// The last number given.
    last: u64,
    /// The counter as a power cut would leave it.
    stored: u64,
}

impl PlainNumbers {
    /// A start in `epoch`.
    pub(crate) fn start(&mut self, epoch: u32) {
        self.offsets.insert(epoch, self.last);
    }

    /// The power is cut: the counter is what was stored last.
    pub(crate) const fn cut_power(&mut self) {
        self.last = self.stored;
    }

    /// A record was numbered; now and then the counter becomes durable.
    pub(crate) fn note(&mut self, mark: Mark, durable: bool) {
        self.last = self.last.max(self.plain(mark));
        if durable {
            self.stored = self.last;
        }
    }

    fn plain(&self, mark: Mark) -> u64 {
        self.offsets.get(&mark.epoch).map_or(0, |offset| offset + mark.sequence)
    }

    /// The mark of the device that a plain number stands for, no further than `limit`.
    fn real(&self, plain: u64, limit: Mark) -> Mark {
        let mut real = Mark::default();
        for (&epoch, &offset) in &self.offsets {
            if plain > offset {
                real = Mark { epoch, sequence: plain - offset };
            }
        }
        real.min(limit)
    }

    /// A record as it goes out.
    pub(crate) fn outgoing(&self, frame: &[u8]) -> Vec<u8> {
        let parsed = parse_frame(frame).expect("our own");
        if parsed.kind != Kind::Record {
            return frame.to_vec();
        }
        let record = Record::parse(parsed).expect("our own");
        let last = self.plain(record.id.mark()).max(1);
        let first = last.saturating_sub(record.id.last - record.id.first).max(1);
        let id = RecordId { epoch: 1, first, last };
        let mut out = vec![0; frame.len() + 64];
        let length = Record { id, previous: Mark::default(), ..record }.write(&mut out).expect("fits");
        out.truncate(length);
        out
    }

    /// An answer as the device understands it.
    pub(crate) fn incoming(&self, frame: &[u8], sent: Mark, epoch: u32) -> Vec<u8> {
        let parsed = parse_frame(frame).expect("the simulator wrote it");
        let mut out = vec![0; 256];
        let length = match parsed.kind {
            Kind::Welcome => {
                let welcome = Welcome::parse(parsed).expect("its own");
                let mark = self.real(welcome.mark.sequence, Mark { epoch, sequence: u64::MAX });
                Welcome { mark, ..welcome }.write(&mut out)
            }
            Kind::Acknowledge => {
                let mark = Acknowledge::parse(parsed).expect("its own").mark;
                Acknowledge { mark: self.real(mark.sequence, sent) }.write(&mut out)
            }
            _ => return frame.to_vec(),
        };
        out.truncate(length.expect("fits"));
        out
    }
}
