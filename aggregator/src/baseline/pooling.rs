//! Shrinkage: a season slot seen for two days borrows from its day part, and that from its camera.
//!
//! `B = (h_slot + κ·h_parent/|h_parent|)/(|h_slot| + κ)`: the parent counts as κ further frames. With κ worth 200 independent
//! frames it speaks for a slot that has hardly been seen and is drowned out by one that has. Parents are shrunk towards theirs
//! first, so that a chain is one fold from the root.
//!
//! All in integers. The parent's κ frames are dealt to its bins so that every cumulative count is off by at most half a frame:
//! the total is exactly `|h_slot| + κ`, a cumulative share is off by at most `½/(|h_slot| + κ)`, and every machine gets the same
//! counts.
//!
//! Must hold: nothing borrowed makes a baseline worth more than it is. A parent worth fewer than κ independent frames lends only
//! what it is worth, and [`Pooled::effective_size`] (from which the margin δ follows) counts the loan once.

use driftglass_protocol::limit::BINS;

/// κ: how many independent frames a parent counts as, at most.
pub const PRIOR_EFFECTIVE_FRAMES: f64 = 200.0;

/// One level of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Level<'a> {
    /// What was counted at this level.
    pub histogram: &'a [u32; BINS],
    /// Frames per independent frame, at least 1. Of a level without frames, that of its parent.
    pub design_effect: f64,
}

/// What a window is held against.
#[derive(Clone, Debug, PartialEq)]
pub struct Pooled {
    /// Counts, own and borrowed. The total is exactly the own frames and the borrowed ones.
    pub counts: [u64; BINS],
    /// Independent frames it is worth: the own ones and those borrowed.
    pub effective_size: f64,
    /// Frames per independent frame, as at the narrowest level.
    pub design_effect: f64,
}

impl Pooled {
    /// Number of frames, own and borrowed.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Shrinks the narrowest level towards the wider ones. `levels` goes from the narrowest (the slot) to the widest (the camera, or
/// its site). None where not a single frame was counted at any level.
#[must_use]
pub fn pool(levels: &[Level<'_>]) -> Option<Pooled> {
    let mut chain = levels.iter().rev().skip_while(|level| total(level.histogram) == 0);
    let root = chain.next()?;
    let effect = root.design_effect.max(1.0);
    let widest = Pooled {
        counts: root.histogram.map(u64::from),
        effective_size: float(total(root.histogram)) / effect,
        design_effect: effect,
    };
    Some(chain.fold(widest, |parent, level| shrink(*level, &parent, PRIOR_EFFECTIVE_FRAMES)))
}

/// One step of the chain: `own` with up to `prior` independent frames of `parent`.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a few hundred frames times a design effect"
)]
pub fn shrink(own: Level<'_>, parent: &Pooled, prior: f64) -> Pooled {
    let effect = own.design_effect.max(1.0);
    let loan = prior.min(parent.effective_size).max(0.0);
    let borrowed = deal((loan * effect).round() as u64, &parent.counts);
    let mut counts = own.histogram.map(u64::from);
    for (count, more) in counts.iter_mut().zip(borrowed) {
        *count += more;
    }
    Pooled { counts, effective_size: float(total(own.histogram)) / effect + loan, design_effect: effect }
}

/// Deals `frames` to the bins in proportion to `counts`: every cumulative count is rounded to the nearest whole frame.
fn deal(frames: u64, counts: &[u64; BINS]) -> [u64; BINS] {
    let all: u128 = counts.iter().map(|&count| u128::from(count)).sum();
    let (mut below, mut dealt) = (0_u128, 0_u64);
    counts.map(|count| {
        below += u128::from(count);
        // Both factors are far below 2⁶³ in practice; where they are not, the product saturates and the last bin still gets the rest.
        let due = u128::from(frames).saturating_mul(2).saturating_mul(below).saturating_add(all)
            / all.saturating_mul(2).max(1);
        let due = u64::try_from(due).unwrap_or(frames).min(frames);
        let share = due.saturating_sub(dealt);
        dealt += share;
        share
    })
}

fn total(counts: &[u32; BINS]) -> u64 {
    counts.iter().map(|&count| u64::from(count)).sum()
}

#[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(bins: &[(usize, u32)]) -> [u32; BINS] {
        let mut counts = [0; BINS];
        for &(bin, count) in bins {
            counts[bin] = count;
        }
        counts
    }

    fn level(histogram: &[u32; BINS]) -> Level<'_> {
        Level { histogram, design_effect: 1.0 }
    }

    #[test]
    fn an_unseen_slot_is_its_parent_but_worth_no_more_than_the_loan() {
        let (empty, parent) = (at(&[]), at(&[(10, 30_000), (20, 10_000)]));
        let pooled = pool(&[level(&empty), level(&parent)]).expect("the parent has frames");
        assert_eq!((pooled.counts[10], pooled.counts[20], pooled.total()), (150, 50, 200));
        assert!((pooled.effective_size - 200.0).abs() < 1e-12);
    }

    #[test]
    fn a_well_known_slot_drowns_its_parent_out() {
        let (slot, parent) = (at(&[(100, 50_000)]), at(&[(10, 100_000)]));
        let pooled = pool(&[level(&slot), level(&parent)]).expect("frames");
        assert_eq!((pooled.counts[10], pooled.counts[100]), (200, 50_000));
        assert!(pooled.counts[10] * 100 < pooled.total(), "less than a hundredth is borrowed");
    }

    #[test]
    fn a_poor_parent_lends_only_what_it_is_worth_and_frames_that_repeat_lend_more_of_themselves() {
        let (slot, parent) = (at(&[(3, 60)]), at(&[(7, 120)]));
        let repeated = Level { histogram: &parent, design_effect: 10.0 };
        let pooled = pool(&[level(&slot), repeated]).expect("frames");
        assert!((pooled.effective_size - 72.0).abs() < 1e-12, "60 of its own and 12 of the parent's: {pooled:?}");
        let own = Level { histogram: &slot, design_effect: 10.0 };
        let pooled = pool(&[own, repeated]).expect("frames");
        assert_eq!(
            pooled.total(),
            60 + 120,
            "12 independent frames are 120 frames of a stream that repeats each ten times"
        );
        assert!((pooled.effective_size - 18.0).abs() < 1e-12);
    }

    #[test]
    fn a_chain_is_a_fold_from_the_root_and_empty_levels_at_its_end_do_not_count() {
        let (slot, part, camera, site) = (at(&[(1, 10)]), at(&[(2, 400)]), at(&[(3, 9_000)]), at(&[]));
        let chain = pool(&[level(&slot), level(&part), level(&camera), level(&site)]).expect("frames");
        // The day part with its loan: 400 + 200; of those 600 the slot borrows 200, a third of them the camera's.
        assert_eq!((chain.counts[1], chain.counts[2], chain.counts[3]), (10, 133, 67));
        assert_eq!(pool(&[level(&site), level(&site)]), None);
    }

    #[test]
    fn a_design_effect_that_is_none_counts_as_one() {
        let counts = at(&[(1, 10)]);
        for effect in [f64::NAN, 0.0, -3.0] {
            let pooled = pool(&[Level { histogram: &counts, design_effect: effect }]).expect("frames");
            assert!((pooled.effective_size - 10.0).abs() < 1e-12);
        }
    }

    fn counts() -> impl Strategy<Value = [u32; BINS]> {
        prop::collection::vec((0..BINS, prop_oneof![0_u32..50, any::<u32>()]), 1..40).prop_map(|bins| at(&bins))
    }

    proptest! {
        #[test]
        fn totals_are_exact_and_every_cumulative_share_is_off_by_half_a_frame_at_most(
            slot in counts(), parent in counts(), prior in 0.0..1000.0_f64,
        ) {
            prop_assume!(total(&parent) > 0);
            let wide = pool(&[level(&parent)]).expect("frames");
            let pooled = shrink(level(&slot), &wide, prior);
            let loan = prior.min(wide.effective_size);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a thousand")]
            let frames = loan.round() as u64;
            prop_assert_eq!(pooled.total(), total(&slot) + frames);
            let (mut own, mut lent, mut sum) = (0_u64, 0_u64, 0_u64);
            for bin in 0..BINS {
                own += u64::from(slot[bin]);
                lent += u64::from(parent[bin]);
                sum += pooled.counts[bin];
                let due = float(own) + float(frames) * (float(lent) / float(total(&parent)));
                prop_assert!((float(sum) - due).abs() <= 0.5 + 1e-6 * due.max(1.0), "bin {}: {} and {}", bin, sum, due);
            }
        }
    }
}
