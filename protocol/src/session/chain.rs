//! The chain rule: may this record be counted on top of this mark?
//!
//! Accept only the same epoch with `first = mark + 1`, or a newer epoch with `first = 1` whose `previous` (the last record known
//! when the epoch began) is not beyond the mark. A newer epoch can only begin once everything known at its beginning has
//! arrived; so whatever lies at or before the mark has been counted and may be acknowledged again.

use crate::wire::{Mark, RecordId};

/// What to do with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Count it; the mark becomes the record's.
    Accept,
    /// It has been counted before: acknowledge again, change nothing.
    Duplicate,
    /// Records before it are missing: refuse it and say what is expected.
    Gap,
    /// It spans the mark: part of it has been counted. A correct agent never merges what it has sent.
    Overlap,
}

/// Judges a record against everything counted so far.
#[must_use]
pub fn judge(mark: Mark, id: RecordId, previous: Mark) -> Verdict {
    if id.mark() <= mark {
        Verdict::Duplicate
    } else if id.epoch > mark.epoch {
        if id.first == 1 && previous <= mark { Verdict::Accept } else { Verdict::Gap }
    } else if id.first == mark.sequence + 1 {
        Verdict::Accept
    } else if id.first <= mark.sequence {
        Verdict::Overlap
    } else {
        Verdict::Gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(epoch: u32, sequence: u64) -> Mark {
        Mark { epoch, sequence }
    }
    const fn id(epoch: u32, first: u64, last: u64) -> RecordId {
        RecordId { epoch, first, last }
    }

    #[test]
    fn the_table_of_the_chain_rule() {
        let none = at(0, 0);
        let cases = [
            (none, id(5, 1, 1), none, Verdict::Accept),
            (none, id(5, 2, 2), none, Verdict::Gap),
            (at(5, 3), id(5, 4, 9), none, Verdict::Accept),
            (at(5, 3), id(5, 3, 3), none, Verdict::Duplicate),
            (at(5, 3), id(5, 5, 5), none, Verdict::Gap),
            (at(5, 3), id(5, 2, 4), none, Verdict::Overlap),
            (at(5, 3), id(6, 1, 1), at(5, 3), Verdict::Accept),
            (at(5, 3), id(6, 1, 1), at(5, 4), Verdict::Gap),
            (at(5, 3), id(6, 2, 2), at(5, 3), Verdict::Gap),
            (at(5, 3), id(9, 1, 1), none, Verdict::Accept),
            (at(5, 3), id(4, 99, 99), none, Verdict::Duplicate),
        ];
        for (mark, record, previous, verdict) in cases {
            assert_eq!(judge(mark, record, previous), verdict, "{mark} {record:?} {previous}");
        }
    }

    #[test]
    fn the_largest_sequence_number_does_not_overflow() {
        assert_eq!(judge(at(1, u64::MAX), id(1, u64::MAX, u64::MAX), at(0, 0)), Verdict::Duplicate);
        assert_eq!(judge(at(1, u64::MAX - 1), id(1, u64::MAX, u64::MAX), at(0, 0)), Verdict::Accept);
    }
}
