//! What to send where the spool cannot continue the aggregator's mark: a tombstone for what nobody has any more.
//!
//! It happens when the aggregator was restored from an older copy, or begins from nothing: it expects records that it acknowledged
//! once and that the spool has let go. Without this the session would be refused for ever; with it the loss is counted and shown.

use driftglass_protocol::session::chain::{Verdict, judge};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{Body, Mark, Record, RecordId, Tombstone, TombstoneCause, parse_frame};

use crate::spool::Stored;

/// The tombstone to send before (or, for a tombstone that reaches back behind the mark, instead of) the stored record; `None` where
/// the record continues the mark.
#[must_use]
pub(super) fn bridge(mark: Mark, stored: &Stored<'_>) -> Option<Record<'static>> {
    let (id, previous) = (stored.id, stored.previous);
    let mut tombstone = Tombstone { cause: TombstoneCause::Forgotten, from: UnixMillis(0), to: UnixMillis(0) };
    let (id, previous) = match judge(mark, id, previous) {
        Verdict::Accept | Verdict::Duplicate => return None,
        // What was offered once is never merged, so this is a tombstone put in the place of records of which some had arrived.
        Verdict::Overlap => {
            let record = parse_frame(stored.frame).ok().and_then(|frame| Record::parse(frame).ok());
            if let Some(Record { body: Body::Tombstone(kept), .. }) = record {
                tombstone = kept;
            }
            (RecordId { first: mark.sequence + 1, ..id }, previous)
        }
        Verdict::Gap if id.epoch == mark.epoch => {
            (RecordId { epoch: id.epoch, first: mark.sequence + 1, last: id.first.saturating_sub(1) }, previous)
        }
        // What came before this start is lost too, as far as is known.
        Verdict::Gap if previous > mark => {
            let first = if previous.epoch == mark.epoch { mark.sequence + 1 } else { 1 };
            (RecordId { epoch: previous.epoch, first, last: previous.sequence.max(first) }, mark)
        }
        Verdict::Gap => (RecordId { epoch: id.epoch, first: 1, last: id.first.saturating_sub(1).max(1) }, mark),
    };
    Some(Record { id, previous, body: Body::Tombstone(tombstone) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_gone_is_counted_in_the_epoch_it_was_numbered_in() {
        let stored = |first| Stored {
            id: RecordId { epoch: 3, first, last: first },
            previous: Mark { epoch: 2, sequence: 20 },
            frame: &[],
        };
        let lost = |mark: (u32, u64), first| {
            let mut mark = Mark { epoch: mark.0, sequence: mark.1 };
            let mut lost = Vec::new();
            while let Some(Record { id, .. }) = bridge(mark, &stored(first)) {
                lost.push((id.epoch, id.first, id.last));
                mark = id.mark();
            }
            lost
        };
        assert_eq!(lost((2, 15), 4), [(2, 16, 20), (3, 1, 3)], "five of the start before, three of this one");
        assert_eq!(lost((1, 9), 4), [(2, 1, 20), (3, 1, 3)], "what came after 9 in the first is known to nobody");
        assert_eq!(lost((2, 20), 4), [(3, 1, 3)]);
        assert_eq!(lost((3, 1), 4), [(3, 2, 3)]);
        assert_eq!(lost((2, 15), 1), [(2, 16, 20)]);
        assert_eq!(lost((2, 20), 1), []);
    }

    proptest! {
        #[test]
        fn from_any_mark_the_stored_record_is_reached_in_a_few_accepted_steps(
            mark in (0_u32..4, 0_u64..9), epoch in 0_u32..4, first in 1_u64..9, span in 0_u64..3, previous in (0_u32..4, 0_u64..9),
        ) {
            let mut mark = Mark { epoch: mark.0, sequence: mark.1 };
            let id = RecordId { epoch, first, last: first + span };
            let previous = Mark { epoch: previous.0, sequence: previous.1 };
            prop_assume!(id.mark() > mark && previous.epoch < id.epoch);
            for _ in 0..3 {
                let Some(tombstone) = bridge(mark, &Stored { id, previous, frame: &[] }) else {
                    prop_assert!(matches!(judge(mark, id, previous), Verdict::Accept | Verdict::Duplicate));
                    return Ok(());
                };
                prop_assert_eq!(judge(mark, tombstone.id, tombstone.previous), Verdict::Accept, "{:?}", tombstone.id);
                prop_assert!(tombstone.id.mark() > mark && tombstone.id.mark() <= id.mark());
                mark = tombstone.id.mark();
                if mark == id.mark() {
                    return Ok(());
                }
            }
            prop_assert!(false, "never reached");
        }
    }
}
