//! What the evidence of an epoch begins with: all of it, 1, or what an earlier beginning in the same epoch has left.
//!
//! Must hold: the promise. Evidence that an operator ends for the sake of another baseline has had its chance of a false alarm, and what
//! begins in its place is one more. The two are one game where the second begins with what the first had come to: played on from there,
//! the capital still expects never to grow, however often and for whatever reason one begins anew. More than 1 is not taken along, so
//! that nothing is left of what spoke against the camera; after an alert the new beginning is therefore a full one. A camera whose
//! evidence had sunk begins with as little as it had: whoever begins anew every hour gains nothing by it.

use serde::{Deserialize, Serialize};

/// What evidence begins with.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Stake {
    pub(super) own: f64,
    /// Of the evidence against its own past: its picture, what its model says.
    pub(super) past: [f64; 2],
}

impl Stake {
    /// Nothing was staked before.
    pub const WHOLE: Self = Self { own: 1.0, past: [1.0; 2] };

    /// Of the evidence against the camera, 0..=1.
    #[must_use]
    pub const fn own(&self) -> f64 {
        self.own
    }
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::feature::Subject;

    use super::*;
    use crate::evidence::betting::{Capital, blocks};
    use crate::evidence::camera::CameraEvidence;
    use crate::evidence::fixture::{camera, judge};
    use crate::evidence::whitening::LENGTHS;

    /// A standard normal deviate, nearly: twelve uniform numbers of a linear congruential generator (Knuth's MMIX constants).
    fn deviate(state: &mut u64) -> f32 {
        let mut uniform = || {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f32::from(u16::try_from(*state >> 48).expect("16 bits")) / 65_536.0
        };
        (0..12).map(|_| uniform()).sum::<f32>() - 6.0
    }

    /// On how many of 2,000 quiet days the evidence doubles, where it begins anew every so many windows.
    fn days_that_double(every: u32, stake: impl Fn(&CameraEvidence) -> Stake) -> u32 {
        let (mut state, mut count) = (11, 0);
        for _ in 0..2_000 {
            let (mut evidence, mut reached) = (camera(), false);
            for window in 0..240_u32 {
                if window > 0 && window % every == 0 {
                    evidence = camera().staking(stake(&evidence));
                }
                for (length, windows) in LENGTHS.iter().enumerate() {
                    if (window + 1).is_multiple_of(*windows) {
                        let of = blocks(evidence.horizon, *windows);
                        let mut bet = |capital: &mut Capital| {
                            capital.bet(length, window / windows, of, f64::from(deviate(&mut state)));
                        };
                        bet(&mut evidence.joint);
                        bet(&mut evidence.repeats);
                        evidence.streams.iter_mut().for_each(|stream| bet(&mut stream.state.capital));
                    }
                }
                evidence.passed = window + 1;
                reached |= evidence.now() * evidence.stake.own >= 2.0;
            }
            count += u32::from(reached);
        }
        count
    }

    #[test]
    fn who_begins_anew_with_what_is_left_has_fewer_chances_than_with_a_whole_stake_and_than_without_beginning_anew() {
        let once = days_that_double(240, |_| Stake::WHOLE);
        let left = days_that_double(20, CameraEvidence::left);
        let whole = days_that_double(20, |_| Stake::WHOLE);
        println!("{once} of 2,000 days; beginning anew {left}, and {whole}");
        assert!(left <= once && 3 * whole > 5 * left, "{once} {left} {whole}");
    }

    #[test]
    fn what_is_left_is_never_more_than_whole_and_weighs_what_comes_after_it() {
        let mut risen = vec![camera()];
        (0..20).for_each(|window| judge(&mut risen, &[0.5], window, 1));
        let Stake { own, past: [picture, model] } = risen[0].left();
        assert_eq!([own, picture], [1.0; 2]);
        assert!(model < 1.0, "of which nothing was said");
        let mut sunk = vec![camera()];
        (0..120).for_each(|window| judge(&mut sunk, &[0.0], window, 1));
        let stake = sunk[0].left();
        assert!(stake.own < 0.9 && stake.past[0] < 0.9, "{stake:?}");
        let (mut full, mut less) = (vec![camera()], vec![camera().staking(stake)]);
        for cameras in [&mut full, &mut less] {
            (120..160).for_each(|window| judge(cameras, &[0.4], window, 1));
        }
        assert!((less[0].supremum / full[0].supremum - stake.own).abs() < 1e-9);
        let against = |cameras: &[CameraEvidence]| cameras[0].against_past(Subject::Picture);
        assert!((against(&less) / against(&full) - stake.past[0]).abs() < 1e-6);
        assert!(less[0].left().own <= 1.0);
    }
}
