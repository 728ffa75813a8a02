//! What to send where the spool cannot continue the aggregator's mark: a tombstone for what nobody has any more.
//!
//! It happens when the aggregator was restored from an older copy, or begins from nothing: it expects records that it acknowledged
//! once and that the spool has let go. Without this the session would be refused for ever; with it the loss is counted and shown.

use driftglass_protocol::session::chain::{Verdict, judge};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{Body, Mark, Record, RecordId, Tombstone, TombstoneCause};

/// The tombstone to send before (or, for a tombstone that reaches back behind the mark, instead of) the stored record; `None` where
/// the record continues the mark.
#[must_use]
pub(super) fn bridge(mark: Mark, id: RecordId, previous: Mark) -> Option<Record<'static>> {
    let (id, previous) = match judge(mark, id, previous) {
        Verdict::Accept | Verdict::Duplicate => return None,
        // Only a tombstone spans several numbers, so nothing but its own range is lost.
        Verdict::Overlap => (RecordId { first: mark.sequence + 1, ..id }, previous),
        Verdict::Gap if id.epoch == mark.epoch => {
            (RecordId { epoch: id.epoch, first: mark.sequence + 1, last: id.first.saturating_sub(1) }, previous)
        }
        Verdict::Gap if id.first > 1 => (RecordId { epoch: id.epoch, first: 1, last: id.first - 1 }, mark),
        Verdict::Gap => {
            let first = if previous.epoch == mark.epoch { mark.sequence + 1 } else { 1 };
            (RecordId { epoch: previous.epoch, first, last: previous.sequence.max(first) }, mark)
        }
    };
    let tombstone = Tombstone { cause: TombstoneCause::Damaged, from: UnixMillis(0), to: UnixMillis(0) };
    Some(Record { id, previous, body: Body::Tombstone(tombstone) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
                let Some(tombstone) = bridge(mark, id, previous) else {
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
