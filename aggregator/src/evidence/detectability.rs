//! What a camera could not show: for one feature the smallest shift that would be found in the time given.
//!
//! The baseline is shifted along its axis by `s`, in the unit of the feature (values within a bin are spread evenly, values pushed
//! beyond an end stay in its bin). The distance between the shifted and the unshifted distribution gives the p-value that every
//! window would have on average; `windows` of them gather `windows·gain(p)` nats of evidence; and the smallest `s` for which that
//! reaches what is needed is found by bisection.
//!
//! On a line the distance grows with `s`: moving up lowers the cumulative distribution everywhere. On a circle it need not (a
//! camera that sees two opposite hues is unchanged by half a turn), so there the first shift found is bracketed bin by bin.
//!
//! That is the form of the textbook. The service asks with its own code in the place of the p-value ([`smallest_shifts`], called by
//! [`crate::foresight`]).
//!
//! Must hold: the answer does not depend on how evidence is gathered, which is an argument. It ignores sampling noise, which
//! finds a shift a little sooner or later. Deliberately absent: changes of shape; a shift is what can be said in a sentence.
//!
//! [`Reach::Undetectable`] is an answer of its own: a wall without texture has its detail at the low end of the axis, and no
//! defocus can lower it.

use driftglass_protocol::limit::BINS;
use driftglass_protocol::sketch::Axis;

use crate::stats::binned;
use crate::stats::error::{StatisticsError, total, within};

/// Frames that the shifted distribution is computed with: a resolution of 2⁻³².
const RESOLUTION: f64 = 4_294_967_296.0;
/// Halvings of a bracket, where a distance alone is computed: the answer is exact to a 2⁻²⁰th of the axis.
const HALVINGS: u32 = 20;

/// What a window of one feature is worth, and what must be gathered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sensitivity {
    /// `n_e`, independent values a comparison of one window with the baseline is worth; see [`binned::effective_size`].
    pub effective_size: f64,
    /// δ, share of the frames that may lie elsewhere.
    pub margin: f64,
    /// Bins a value may move.
    pub tolerance: usize,
    /// Windows in the time given.
    pub windows: u32,
    /// Nats of evidence to be gathered; see [`needed_nats`].
    pub needed: f64,
}

/// The smallest shift in one direction that is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reach {
    /// In the unit of the feature, above 0.
    Shift(f64),
    /// Not even the largest shift that the axis can show.
    Undetectable,
}

/// The smallest shifts in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detectability {
    /// Towards larger values; on a circle the way of growing angles.
    pub up: Reach,
    /// Towards smaller values.
    pub down: Reach,
}

/// Nats that one feature must gather for its camera to be the first one discovered: `ln(K·F/q)`. The evidence of a camera is the
/// mean over its `F` features, and Benjamini-Hochberg asks `K/q` of the first of `K` cameras. What the process pays for not
/// knowing when a change begins (the logarithm of the windows of an epoch, for a uniform mixture) comes on top.
///
/// # Errors
/// `Parameter` unless `0 < q ≤ 1` and there are cameras and features.
pub fn needed_nats(cameras: u32, features: u32, q: f64) -> Result<f64, StatisticsError> {
    let q = within("q", q, f64::MIN_POSITIVE, 1.0)?;
    let cameras = within("cameras", f64::from(cameras), 1.0, f64::MAX)?;
    let features = within("features", f64::from(features), 1.0, f64::MAX)?;
    Ok((cameras * features / q).ln())
}

/// The smallest shifts of one feature that are found. `gain(p)` is the evidence, in nats, that a window with p-value `p` adds; it
/// must not grow with `p`.
///
/// # Errors
/// `Empty` or `Overflow` for a baseline without a usable total, `Parameter` for a sensitivity that is none.
pub fn detectability<C: Copy + Into<u64>>(
    axis: Axis,
    baseline: &[C; BINS],
    sensitivity: &Sensitivity,
    gain: impl Fn(f64) -> f64,
) -> Result<Detectability, StatisticsError> {
    within("effective size", sensitivity.effective_size, f64::MIN_POSITIVE, f64::MAX)?;
    within("margin", sensitivity.margin, 0.0, 1.0)?;
    within("needed evidence", sensitivity.needed, 0.0, f64::MAX)?;
    let scene = Scene::new(axis, baseline.map(Into::into))?;
    scene.smallest_both_ways(HALVINGS, |window| {
        Ok(f64::from(sensitivity.windows) * gain(scene.p(window, sensitivity)?) >= sensitivity.needed)
    })
}

/// The smallest shifts of a baseline for which `found` says so of the shifted counts (2³² frames), to a 2^-`halvings`th of the axis. On a
/// line `found` must not turn false again as the shift grows.
///
/// # Errors
/// `Empty` or `Overflow` for a baseline without a usable total, and those of `found`.
pub fn smallest_shifts<C: Copy + Into<u64>>(
    axis: Axis,
    baseline: &[C; BINS],
    halvings: u32,
    found: impl Fn(&[u64; BINS]) -> Result<bool, StatisticsError>,
) -> Result<Detectability, StatisticsError> {
    Scene::new(axis, baseline.map(Into::into))?.smallest_both_ways(halvings, found)
}

struct Scene {
    axis: Axis,
    edges: Vec<f64>,
    /// Share of the baseline below every edge.
    below: Vec<f64>,
    baseline: [u64; BINS],
}

impl Scene {
    #[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
    fn new(axis: Axis, baseline: [u64; BINS]) -> Result<Self, StatisticsError> {
        let all = total("baseline", &baseline)? as f64;
        let mut sum = 0_u64;
        let mut below = vec![0.0];
        for count in baseline {
            sum += count;
            below.push(sum as f64 / all);
        }
        Ok(Self { axis, edges: (0..=BINS).map(|edge| axis.edge(edge)).collect(), below, baseline })
    }

    /// Length of the axis.
    fn length(&self) -> f64 {
        self.axis.edge(BINS) - self.axis.edge(0)
    }

    /// Share of the baseline below `x`; on a circle one more for every turn.
    fn share_below(&self, x: f64) -> f64 {
        let (first, length) = (self.axis.edge(0), self.length());
        let turns = if self.axis.is_circular() { ((x - first) / length).floor() } else { 0.0 };
        let x = x - turns * length;
        let above = self.edges.partition_point(|&edge| edge <= x);
        let within_turn = match (above.checked_sub(1), self.edges.get(above)) {
            (None, _) => 0.0,
            (Some(_), None) => 1.0,
            (Some(bin), Some(upper)) => {
                let part = (x - self.edges[bin]) / (upper - self.edges[bin]);
                self.below[bin] + part * (self.below[above] - self.below[bin])
            }
        };
        turns + within_turn
    }

    /// The baseline with every value moved by `shift`, in 2³² frames.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares of 2³² frames")]
    fn shifted(&self, shift: f64) -> [u64; BINS] {
        let start = if self.axis.is_circular() { self.share_below(self.edges[0] - shift) } else { 0.0 };
        let mut counted = 0_u64;
        std::array::from_fn(|bin| {
            let share = if bin + 1 == BINS { 1.0 } else { self.share_below(self.edges[bin + 1] - shift) - start };
            let upto = ((share.clamp(0.0, 1.0) * RESOLUTION).round() as u64).max(counted);
            let count = upto - counted;
            counted = upto;
            count
        })
    }

    /// The p-value of a window of the shifted scene.
    fn p(&self, window: &[u64; BINS], sensitivity: &Sensitivity) -> Result<f64, StatisticsError> {
        let Sensitivity { effective_size, margin, tolerance, .. } = *sensitivity;
        Ok(if self.axis.is_circular() {
            binned::kuiper_tail(binned::kuiper(window, &self.baseline, tolerance)?, margin, effective_size)
        } else {
            let distance = binned::kolmogorov_smirnov(window, &self.baseline, tolerance)?;
            binned::kolmogorov_smirnov_tail(distance, margin, effective_size)
        })
    }

    fn smallest_both_ways(
        &self,
        halvings: u32,
        found: impl Fn(&[u64; BINS]) -> Result<bool, StatisticsError>,
    ) -> Result<Detectability, StatisticsError> {
        let found = |shift: f64| found(&self.shifted(shift));
        Ok(Detectability { up: self.smallest(1.0, halvings, &found)?, down: self.smallest(-1.0, halvings, &found)? })
    }

    /// The smallest shift in one direction (1 or −1) for which `found`.
    fn smallest(
        &self,
        direction: f64,
        halvings: u32,
        found: &impl Fn(f64) -> Result<bool, StatisticsError>,
    ) -> Result<Reach, StatisticsError> {
        let Some((mut low, mut high)) = self.bracket(direction, found)? else { return Ok(Reach::Undetectable) };
        for _ in 0..halvings {
            let middle = f64::midpoint(low, high);
            if found(direction * middle)? {
                high = middle;
            } else {
                low = middle;
            }
        }
        Ok(Reach::Shift(high))
    }

    /// A shift that is not found, and a larger one that is.
    #[expect(clippy::cast_precision_loss, reason = "at most 256")]
    fn bracket(
        &self,
        direction: f64,
        found: &impl Fn(f64) -> Result<bool, StatisticsError>,
    ) -> Result<Option<(f64, f64)>, StatisticsError> {
        if !self.axis.is_circular() {
            return Ok(found(direction * self.length())?.then_some((0.0, self.length())));
        }
        let bin = self.length() / BINS as f64;
        for step in 1..=BINS / 2 {
            if found(direction * bin * step as f64)? {
                return Ok(Some((bin * (step - 1) as f64, bin * step as f64)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::feature::Feature;
    use driftglass_protocol::unit::Fixed;
    use proptest::prelude::*;

    use super::*;
    use crate::evidence::calibrator::half_power;
    use crate::evidence::process::EvidenceProcess;

    fn gain(p: f64) -> f64 {
        half_power(p).ln()
    }

    /// One minute windows for an hour, 1000 cameras with 14 features at 5 %, and the price of an unknown start within a day.
    fn usual(tolerance: usize) -> Sensitivity {
        let needed = needed_nats(1000, 14, 0.05).unwrap() + 1440.0_f64.ln();
        Sensitivity { effective_size: 2.5, margin: 0.05, tolerance, windows: 60, needed }
    }

    fn bell(centre: f64, spread: f64) -> [u64; BINS] {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "counts"
        )]
        std::array::from_fn(|bin| ((-((bin as f64 - centre) / spread).powi(2) / 2.0).exp() * 10_000.0).round() as u64)
    }

    fn shift_of(reach: Reach) -> f64 {
        match reach {
            Reach::Shift(shift) => shift,
            Reach::Undetectable => panic!("it should have been detectable"),
        }
    }

    #[test]
    fn a_wall_without_texture_cannot_lose_detail_and_can_gain_some() {
        let spec = Feature::HighFrequencyEnergy.spec();
        let mut wall = [0_u64; BINS];
        (wall[0], wall[1]) = (900, 100);
        let found = detectability(spec.axis, &wall, &usual(spec.tolerance_bins.into()), gain).unwrap();
        assert_eq!(found.down, Reach::Undetectable);
        let tolerance = spec.axis.edge(spec.tolerance_bins.into()) - spec.axis.edge(0);
        let up = shift_of(found.up);
        assert!(up > tolerance && up < 2.0 * tolerance, "{up} with a tolerance of {tolerance}");
        // Within the tolerance of the end is as good as at the end.
        let mut nearly = [0_u64; BINS];
        nearly[usize::from(spec.tolerance_bins)] = 1000;
        let found = detectability(spec.axis, &nearly, &usual(spec.tolerance_bins.into()), gain).unwrap();
        assert_eq!(found.down, Reach::Undetectable);
    }

    #[test]
    fn in_the_middle_of_its_axis_a_steady_feature_is_found_just_beyond_its_tolerance_both_ways() {
        let axis = Axis::linear(0, 256);
        let found = detectability(axis, &bell(128.0, 2.0), &usual(8), gain).unwrap();
        for shift in [shift_of(found.up), shift_of(found.down)] {
            assert!((8.0..14.0).contains(&shift), "{found:?}");
        }
        assert!((shift_of(found.up) - shift_of(found.down)).abs() < 0.01);
    }

    #[test]
    fn the_shift_found_is_enough_for_the_process_and_a_little_less_is_not() {
        let (axis, baseline, sensitivity) = (Axis::linear(0, 256), bell(100.0, 12.0), usual(4));
        let shift = shift_of(detectability(axis, &baseline, &sensitivity, gain).unwrap().up);
        let scene = Scene::new(axis, baseline).unwrap();
        let evidence = |shift: f64| {
            let mut process = EvidenceProcess::new(1440).unwrap();
            let p = scene.p(&scene.shifted(shift), &sensitivity).unwrap();
            for at in 0..sensitivity.windows {
                process.observe(p, at.into());
            }
            process.evidence().ln()
        };
        let of_the_feature = needed_nats(1000, 14, 0.05).unwrap();
        // All starts gather, not only the first, so the process may be a little ahead of the sum.
        assert!(evidence(shift) >= of_the_feature, "{} of {of_the_feature}", evidence(shift));
        assert!(evidence(shift * 0.97) < of_the_feature, "{} of {of_the_feature}", evidence(shift * 0.97));
    }

    #[test]
    fn around_the_circle_the_cut_does_not_matter_and_two_opposite_hues_are_told_from_half_a_turn() {
        let circle = Axis::Circular { period: Fixed::from_int(360) };
        let (mut hues, opposite) = (bell(60.0, 3.0), bell(188.0, 3.0));
        hues.iter_mut().zip(opposite).for_each(|(count, other)| *count += other);
        let sensitivity = Sensitivity { effective_size: 20.0, ..usual(4) };
        let before = detectability(circle, &hues, &sensitivity, gain).unwrap();
        assert!((shift_of(before.up) - shift_of(before.down)).abs() < 0.01, "{before:?}");
        assert!(shift_of(before.up) < 40.0, "{before:?}");
        hues.rotate_left(62);
        let after = detectability(circle, &hues, &sensitivity, gain).unwrap();
        assert!((shift_of(before.up) - shift_of(after.up)).abs() < 0.01, "{before:?} {after:?}");
        let everywhere = [100_u64; BINS];
        let none = detectability(circle, &everywhere, &sensitivity, gain).unwrap();
        assert_eq!(none, Detectability { up: Reach::Undetectable, down: Reach::Undetectable });
    }

    #[test]
    fn on_a_root_axis_the_shift_is_in_shares_and_not_in_bins() {
        let mut dark = [0_u64; BINS];
        // A share of 0.01 lies in bin 25.
        dark[25] = 1000;
        let found = detectability(Axis::SquareRoot, &dark, &usual(16), gain).unwrap();
        let up = shift_of(found.up);
        // 16 bins further is (41.5/256)² ≈ 0.026.
        assert!((0.014..0.024).contains(&up), "{up}");
    }

    #[test]
    fn more_cameras_need_more_and_no_windows_find_nothing() {
        assert!(needed_nats(10_000, 14, 0.05).unwrap() > needed_nats(1000, 14, 0.05).unwrap());
        assert!(needed_nats(0, 1, 0.05).is_err() && needed_nats(1, 1, 0.0).is_err());
        let baseline = bell(128.0, 5.0);
        let idle = Sensitivity { windows: 0, ..usual(8) };
        let found = detectability(Axis::linear(0, 256), &baseline, &idle, gain).unwrap();
        assert_eq!((found.up, found.down), (Reach::Undetectable, Reach::Undetectable));
        for bad in [
            Sensitivity { effective_size: f64::NAN, ..usual(8) },
            Sensitivity { margin: -0.1, ..usual(8) },
            Sensitivity { needed: f64::INFINITY, ..usual(8) },
        ] {
            assert!(detectability(Axis::linear(0, 256), &baseline, &bad, gain).is_err());
        }
        assert!(detectability(Axis::linear(0, 256), &[0_u64; BINS], &usual(8), gain).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_needs_more_evidence_or_is_worth_less_needs_a_larger_shift(
            centre in 40.0..210.0_f64, spread in 0.5..30.0_f64, size in 1.0..30.0_f64, tolerance in 0_usize..12,
        ) {
            let axis = Axis::linear(0, 256);
            let baseline = bell(centre, spread);
            let easy = Sensitivity { effective_size: size, ..usual(tolerance) };
            let hard = Sensitivity { needed: easy.needed * 1.5, ..easy };
            let poor = Sensitivity { effective_size: size / 2.0, ..easy };
            let up = |sensitivity: &Sensitivity| match detectability(axis, &baseline, sensitivity, gain).expect("a bell").up {
                Reach::Shift(shift) => shift,
                Reach::Undetectable => f64::INFINITY,
            };
            prop_assert!(up(&hard) >= up(&easy) && up(&poor) >= up(&easy));
        }
    }
}
