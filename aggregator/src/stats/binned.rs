//! Kolmogorov-Smirnov and Kuiper on histograms, with a margin in probability and a tolerance along the axis.
//!
//! Both cumulative distributions are compared at the edges of a grid fixed beforehand, so the distance can only be smaller than
//! the one between the raw samples and every p-value that is valid for the latter stays valid.
//!
//! **Tolerance of `t` bins** (a Lévy-type distance). With `F` the cumulative distributions at bin edges,
//! `D_t = max_x max(F_w(x) − F_b(x+t), F_b(x−t) − F_w(x), 0)`, where `F` is 0 before the first edge and 1 from the last one on.
//! The null hypothesis becomes "the window could have come from the baseline by moving each value by at most `t` bins". If `X`
//! are the values before that move, then `F_w(x) ≤ F_X(x+t)` and `F_w(x) ≥ F_X(x−t)` hold on every path, hence
//! `D_t(w, b) ≤ D_0(X, b)`: a bound on the tail of the plain distance is a bound for this null. `t = 0` gives the plain distance.
//!
//! **On a circle** there is no first edge. For an arc `A` let `A^t` be the arc grown by `t` bins at both ends; then
//! `V_t = max_A (w(A) − b(A^t))`, never below 0. `t = 0` gives Kuiper's `V = D⁺ + D⁻` (the maximum over arcs of `|w(A) − b(A)|`),
//! so neither depends on where the circle is cut. The same coupling shows `w(A) ≤ X(A^t)` and with it `V_t(w, b) ≤ V_0(X, b)`.
//! Taking the complement of a grown arc shows that the roles of `w` and `b` may be exchanged.
//!
//! Tails: `p = min(1, 2·exp(−2·n_e·max(0, D−δ)²))` (Smirnov's limit, its leading term), and for Kuiper
//! `p = min(1, 8λ²·exp(−2λ²))` with `λ² = n_e·max(0, V−δ)²`, which bounds Kuiper's series `2Σ(4j²λ²−1)exp(−2j²λ²)`.
//! No finite-sample correction is applied: Stephens' corrections make the tests of two samples liberal.
//!
//! **Steps of the grid.** Looking at the edges only, one misses what the distance does between them, and the tail above is up to twice as
//! large as it need be. A random walk watched at steps of variance `σ²` behaves like a Brownian motion whose barrier is `β·σ` further away,
//! `β = −ζ(½)/√(2π) = 0.5826` (Chernoff 1965; Siegmund 1979). For a bridge with steps `p_j`, that is
//! `p = 2·exp(−2λ²)·Σ w_j·exp(−4λβ√p_j)`, where `w_j` says how likely the largest distance is at step `j`, the density of the place of a
//! Brownian bridge's maximum given its height: `∝ p_j·(t(1−t))^(−3/2)·exp(−λ²/(2t(1−t)))`. A step of more than a sixteenth counts
//! as that. With that β, and grids of 16, 32 and 256 steps, the true probability on 400,000 simulated bridges is 0.88 to 1.01 of it at
//! 0.2 … 0.001; of Smirnov's tail at 0.05 it is 0.4 to 0.7. The β used is smaller, and errs on the safe side.

use super::error::{StatisticsError, total, within};

/// The distance `D_t` between a window and a baseline on a line.
///
/// # Errors
/// `Length` if the histograms have different numbers of bins, `Empty` or `Overflow` for a histogram without a usable total.
pub fn kolmogorov_smirnov<W, B>(window: &[W], baseline: &[B], tolerance: usize) -> Result<f64, StatisticsError>
where
    W: Copy + Into<u64>,
    B: Copy + Into<u64>,
{
    let totals = totals(window, baseline)?;
    // Running counts up to and including bin x of the window, x+t and x−t of the baseline.
    let mut counted = 0_u64;
    let mut ahead = sum(&baseline[..tolerance.min(baseline.len())]);
    let mut behind = 0_u64;
    let mut distance = 0.0_f64;
    for (bin, &frames) in window.iter().enumerate() {
        counted += frames.into();
        if let Some(&count) = bin.checked_add(tolerance).and_then(|index| baseline.get(index)) {
            ahead += count.into();
        }
        if let Some(&count) = bin.checked_sub(tolerance).and_then(|index| baseline.get(index)) {
            behind += count.into();
        }
        let share = ratio(counted, totals.0);
        distance = distance.max(share - ratio(ahead, totals.1)).max(ratio(behind, totals.1) - share);
    }
    Ok(distance)
}

/// The distance `V_t` between a window and a baseline on a circle.
///
/// # Errors
/// As [`kolmogorov_smirnov`].
pub fn kuiper<W, B>(window: &[W], baseline: &[B], tolerance: usize) -> Result<f64, StatisticsError>
where
    W: Copy + Into<u64>,
    B: Copy + Into<u64>,
{
    let totals = totals(window, baseline)?;
    let bins = window.len();
    // Each arc grown by t at both ends is the whole circle from 2t+1 = bins on.
    if tolerance.saturating_mul(2) >= bins {
        return Ok(0.0);
    }
    // Cumulative counts unrolled around the circle: `ahead` starts at F_b(t−1), `behind` at F_b(−t−1) = F_b(bins−t−1) − 1.
    let mut counted = 0_u64;
    let mut ahead = sum(&baseline[..tolerance]);
    let mut lag = sum(&baseline[bins - tolerance..]);
    let mut behind = 0_u64;
    let (mut highest, mut lowest) = (f64::NEG_INFINITY, f64::INFINITY);
    for (bin, &frames) in window.iter().enumerate() {
        counted += frames.into();
        ahead += baseline[(bin + tolerance) % bins].into();
        let entering: u64 = baseline[(bin + bins - tolerance) % bins].into();
        if bin < tolerance {
            lag -= entering;
        } else {
            behind += entering;
        }
        let share = ratio(counted, totals.0);
        highest = highest.max(share - ratio(ahead, totals.1));
        lowest = lowest.min(share - ratio(behind, totals.1) + ratio(lag, totals.1));
    }
    Ok((highest - lowest).max(0.0))
}

/// `n_e = 1/(deff_w/n_w + deff_b/n_b)`: how many independent values a comparison is worth.
///
/// Sizes in frames, design effects in frames per independent frame.
///
/// # Errors
/// `Parameter` if a size or a design effect is not a positive number.
pub fn effective_size(
    window: f64,
    window_design_effect: f64,
    baseline: f64,
    baseline_design_effect: f64,
) -> Result<f64, StatisticsError> {
    let smallest = f64::MIN_POSITIVE;
    let per_window = within("window design effect", window_design_effect, smallest, f64::MAX)?
        / within("window size", window, smallest, f64::MAX)?;
    let per_baseline = within("baseline design effect", baseline_design_effect, smallest, f64::MAX)?
        / within("baseline size", baseline, smallest, f64::MAX)?;
    Ok(1.0 / (per_window + per_baseline))
}

/// `min(1, 2·exp(−2·n_e·max(0, D−δ)²))`. A NaN among the arguments gives 1, so that it can never raise an alert.
#[must_use]
pub fn kolmogorov_smirnov_tail(distance: f64, margin: f64, effective_size: f64) -> f64 {
    let excess = (distance - margin).max(0.0);
    (2.0 * (-2.0 * effective_size * excess * excess).exp()).min(1.0)
}

/// β of the steps of a grid: a little less than `−ζ(½)/√(2π)`, for the values of few frames lie on steps of their own.
const OVERSHOOT: f64 = 0.5;
/// The approximation by overshoots is one for small steps.
const LARGEST_STEP: f64 = 1.0 / 16.0;

/// The same for a distance on a grid whose steps hold these shares of the baseline, which sum to 1 or to their total.
///
/// Never above [`kolmogorov_smirnov_tail`]. A NaN among the arguments gives 1.
#[must_use]
pub fn grid_tail(distance: f64, margin: f64, effective_size: f64, shares: impl IntoIterator<Item = f64>) -> f64 {
    let plain = kolmogorov_smirnov_tail(distance, margin, effective_size);
    let square = effective_size * (distance - margin).max(0.0).powi(2);
    if plain >= 1.0 || !square.is_finite() {
        return plain;
    }
    let (mut passed, mut weights, mut sum) = (0.0, 0.0, 0.0);
    for share in shares {
        let middle = passed + share / 2.0;
        passed += share;
        let variance = middle * (1.0 - middle);
        if share > 0.0 && variance > 0.0 {
            // Beside the weight in the very middle, so that nothing underflows.
            let weight = share * variance.powf(-1.5) * (square * (2.0 - 0.5 / variance)).exp();
            weights += weight;
            sum += weight * (-4.0 * square.sqrt() * OVERSHOOT * share.min(LARGEST_STEP).sqrt()).exp();
        }
    }
    if weights > 0.0 { plain * (sum / weights).min(1.0) } else { plain }
}

/// The same for a grid of equal steps, each of which holds this share.
#[must_use]
pub fn even_grid_tail(distance: f64, margin: f64, effective_size: f64, step: f64) -> f64 {
    let square = effective_size * (distance - margin).max(0.0).powi(2);
    let exponent = -2.0 * square - 4.0 * square.sqrt() * OVERSHOOT * step.min(LARGEST_STEP).sqrt();
    (2.0 * exponent.exp()).min(1.0)
}

/// `min(1, 8λ²·exp(−2λ²))` with `λ² = n_e·max(0, V−δ)²`, and 1 up to `λ² = ½`, where the bound has its maximum.
/// A NaN among the arguments gives 1.
#[must_use]
pub fn kuiper_tail(distance: f64, margin: f64, effective_size: f64) -> f64 {
    let excess = (distance - margin).max(0.0);
    let square = effective_size * excess * excess;
    if square > 0.5 { (8.0 * square * (-2.0 * square).exp()).min(1.0) } else { 1.0 }
}

/// `δ = √(ln(2/β)/(2·n_b))`: how far a baseline worth `n_b` independent values strays from the truth with probability at most `β`
/// (Dvoretzky, Kiefer and Wolfowitz with Massart's constant). The least margin that keeps evidence valid while all windows are
/// compared with the same baseline.
///
/// # Errors
/// `Parameter` unless `n_b` is positive and `0 < β ≤ 1`.
pub fn baseline_margin(effective_baseline: f64, beta: f64) -> Result<f64, StatisticsError> {
    within("effective baseline size", effective_baseline, f64::MIN_POSITIVE, f64::MAX)?;
    within("beta", beta, f64::MIN_POSITIVE, 1.0)?;
    Ok(((2.0 / beta).ln() / (2.0 * effective_baseline)).sqrt())
}

/// The same for Kuiper's distance. An arc has two ends, each of which strays by at most [`baseline_margin`]: twice that.
///
/// # Errors
/// As [`baseline_margin`].
pub fn circular_baseline_margin(effective_baseline: f64, beta: f64) -> Result<f64, StatisticsError> {
    Ok(2.0 * baseline_margin(effective_baseline, beta)?)
}

/// What is held constant when a window is compared with a baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Frames of the window per independent frame, above 0.
    pub window_design_effect: f64,
    /// Frames of the baseline per independent frame, above 0.
    pub baseline_design_effect: f64,
    /// δ, the distance that still counts as equal, 0..1. For a circle in units of V.
    pub margin: f64,
    /// t, how many bins a value may move and still count as equal.
    pub tolerance: usize,
    /// Whether the last bin neighbours the first.
    pub circular: bool,
}

/// How far a window is from its baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// `D_t` or `V_t`, 0..1, before the margin is taken off.
    pub distance: f64,
    /// `n_e`.
    pub effective_size: f64,
    /// Probability of such a distance if the window is within margin and tolerance, 0..1.
    pub p: f64,
}

impl Comparison {
    /// Compares a window with a baseline.
    ///
    /// # Errors
    /// As [`kolmogorov_smirnov`] and [`effective_size`], and `Parameter` if the margin is outside 0..=1.
    #[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
    pub fn test<W, B>(&self, window: &[W], baseline: &[B]) -> Result<Outcome, StatisticsError>
    where
        W: Copy + Into<u64>,
        B: Copy + Into<u64>,
    {
        let margin = within("margin", self.margin, 0.0, 1.0)?;
        let (frames, reference) = totals(window, baseline)?;
        let size =
            effective_size(frames as f64, self.window_design_effect, reference as f64, self.baseline_design_effect)?;
        let (distance, p) = if self.circular {
            let distance = kuiper(window, baseline, self.tolerance)?;
            (distance, kuiper_tail(distance, margin, size))
        } else {
            let distance = kolmogorov_smirnov(window, baseline, self.tolerance)?;
            (distance, kolmogorov_smirnov_tail(distance, margin, size))
        };
        Ok(Outcome { distance, effective_size: size, p })
    }
}

impl Comparison {
    /// The same, where the tail of a distance on a line takes the steps of the grid into account ([`grid_tail`]), as the baseline shows them.
    ///
    /// # Errors
    /// As [`Self::test`].
    pub fn test_on_grid<W, B>(&self, window: &[W], baseline: &[B]) -> Result<Outcome, StatisticsError>
    where
        W: Copy + Into<u64>,
        B: Copy + Into<u64>,
    {
        let outcome = self.test(window, baseline)?;
        if self.circular {
            return Ok(outcome);
        }
        let total = total("baseline", baseline)?;
        let shares = baseline.iter().map(|&count| ratio(count.into(), total));
        Ok(Outcome { p: grid_tail(outcome.distance, self.margin, outcome.effective_size, shares), ..outcome })
    }
}

fn totals<W, B>(window: &[W], baseline: &[B]) -> Result<(u64, u64), StatisticsError>
where
    W: Copy + Into<u64>,
    B: Copy + Into<u64>,
{
    if window.len() != baseline.len() {
        return Err(StatisticsError::Length { left: window.len(), right: baseline.len() });
    }
    Ok((total("window", window)?, total("baseline", baseline)?))
}

// Only called on parts of histograms whose total is known to fit.
fn sum<C: Copy + Into<u64>>(counts: &[C]) -> u64 {
    counts.iter().map(|&count| count.into()).sum()
}

#[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    /// Largest values of simulated Brownian bridges at the ends of steps, descending.
    fn bridges(steps: &[f64], count: usize) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut largest: Vec<f64> = (0..count)
            .map(|_| {
                let mut walk: Vec<f64> = Vec::with_capacity(steps.len());
                let mut at = 0.0;
                for step in steps {
                    at += step.sqrt() * random.sample::<f64, _>(StandardNormal);
                    walk.push(at);
                }
                let mut passed = 0.0;
                let distance = |(walk, step): (&f64, &f64)| {
                    passed += step;
                    (walk - passed * at).abs()
                };
                walk.iter().zip(steps).map(distance).fold(0.0, f64::max)
            })
            .collect();
        largest.sort_unstable_by(|a, b| b.total_cmp(a));
        largest
    }

    #[test]
    fn the_tail_on_a_grid_holds_its_level_and_little_more() {
        let hills: Vec<f64> = (1..=32).map(|step| f64::from(step) / 528.0).collect();
        let spike: Vec<f64> = std::iter::once(0.4).chain(std::iter::repeat_n(0.003, 200)).collect();
        for steps in [vec![1.0 / 16.0; 16], hills, spike] {
            let (count, largest) = (20_000, bridges(&steps, 20_000));
            for rejected in [200, 1000, 4000] {
                let level = rejected as f64 / f64::from(count);
                let said = grid_tail(largest[rejected], 0.0, 1.0, steps.iter().copied());
                // Three standard errors of the simulation.
                let error = 3.0 / (rejected as f64).sqrt();
                assert!(
                    said > level * (1.0 - error) && said < level * (1.3 + error),
                    "{said} for {level}: {}",
                    steps[0]
                );
                assert!(said < kolmogorov_smirnov_tail(largest[rejected], 0.0, 1.0));
            }
        }
    }

    #[test]
    fn an_even_grid_has_the_tail_of_any_grid_and_nothing_above_smirnov_s() {
        for distance in [0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 40.0] {
            let even = even_grid_tail(distance, 0.0, 1.0, 0.05);
            let any = grid_tail(distance, 0.0, 1.0, [0.05; 20]);
            assert!((even - any).abs() <= 1e-12 + 0.2 * any || distance < 0.5, "{distance}: {even} and {any}");
            assert!(even <= kolmogorov_smirnov_tail(distance, 0.0, 1.0) && even >= 0.0);
        }
        assert!((even_grid_tail(f64::NAN, 0.0, 1.0, 0.05) - 1.0).abs() < 1e-12);
        assert!((grid_tail(0.5, f64::NAN, 1.0, [1.0]) - 1.0).abs() < 1e-12);
        assert!(grid_tail(1.0, 0.0, 1e9, [0.0, 0.0]) < 1e-12, "without a step there is nothing between the edges");
    }

    /// D_t by its definition, with F looked up edge by edge.
    fn line_by_definition(window: &[u32], baseline: &[u32], tolerance: i64) -> f64 {
        let share = |counts: &[u32], edge: i64| {
            let up_to = usize::try_from(edge + 1).unwrap_or(0).min(counts.len());
            let part: u32 = counts[..up_to].iter().sum();
            f64::from(part) / f64::from(counts.iter().sum::<u32>())
        };
        let bins = i64::try_from(window.len()).unwrap();
        (-tolerance - 1..=bins + tolerance)
            .map(|x| {
                let w = share(window, x);
                (w - share(baseline, x + tolerance)).max(share(baseline, x - tolerance) - w)
            })
            .fold(0.0, f64::max)
    }

    /// V_t by its definition: every arc, grown by t at both ends.
    fn circle_by_definition(window: &[u32], baseline: &[u32], tolerance: usize) -> f64 {
        let bins = window.len();
        let total = |counts: &[u32]| f64::from(counts.iter().sum::<u32>());
        let mut largest = 0.0_f64;
        for first in 0..bins {
            for length in 1..=bins {
                let inside: u32 = (first..first + length).map(|bin| window[bin % bins]).sum();
                let grown = (length + 2 * tolerance).min(bins);
                let start = first + tolerance * bins - tolerance;
                let reach: u32 = (start..start + grown).map(|bin| baseline[bin % bins]).sum();
                largest = largest.max(f64::from(inside) / total(window) - f64::from(reach) / total(baseline));
            }
        }
        largest
    }

    fn histogram() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(0_u32..20, 12).prop_map(|mut counts| {
            counts[5] += 1;
            counts
        })
    }

    proptest! {
        #[test]
        fn the_line_distance_is_its_definition(w in histogram(), b in histogram(), t in 0_u8..15) {
            let fast = kolmogorov_smirnov(&w, &b, usize::from(t)).unwrap();
            prop_assert!((fast - line_by_definition(&w, &b, i64::from(t))).abs() < 1e-12);
        }

        #[test]
        fn the_circle_distance_is_its_definition(w in histogram(), b in histogram(), t in 0_usize..8) {
            let fast = kuiper(&w, &b, t).unwrap();
            prop_assert!((fast - circle_by_definition(&w, &b, t)).abs() < 1e-12);
        }

        #[test]
        fn turning_the_circle_changes_nothing(w in histogram(), b in histogram(), t in 0_usize..6, turn in 0_usize..12) {
            let before = kuiper(&w, &b, t).unwrap();
            let (mut turned_w, mut turned_b) = (w, b);
            turned_w.rotate_left(turn);
            turned_b.rotate_left(turn);
            prop_assert!((kuiper(&turned_w, &turned_b, t).unwrap() - before).abs() < 1e-12);
        }

        #[test]
        fn exchanging_window_and_baseline_changes_nothing(w in histogram(), b in histogram(), t in 0_usize..6) {
            let circle = kuiper(&w, &b, t).unwrap() - kuiper(&b, &w, t).unwrap();
            let line = kolmogorov_smirnov(&w, &b, t).unwrap() - kolmogorov_smirnov(&b, &w, t).unwrap();
            prop_assert!(circle.abs() < 1e-12 && line.abs() < 1e-12);
        }

        #[test]
        fn a_larger_tolerance_never_finds_more(w in histogram(), b in histogram(), t in 0_usize..8) {
            prop_assert!(kuiper(&w, &b, t + 1).unwrap() <= kuiper(&w, &b, t).unwrap() + 1e-12);
            let (wide, narrow) = (kolmogorov_smirnov(&w, &b, t + 1).unwrap(), kolmogorov_smirnov(&w, &b, t).unwrap());
            prop_assert!(wide <= narrow);
        }

        #[test]
        fn moving_each_value_by_at_most_the_tolerance_is_no_drift_beyond_the_noise(
            values in prop::collection::vec((0_usize..12, 0_usize..=4), 1..60),
            b in histogram(),
        ) {
            // X is an unmoved sample, the window is the same sample moved by −2..=2 bins.
            let (mut unmoved, mut line, mut circle) = (vec![0_u32; 12], vec![0_u32; 12], vec![0_u32; 12]);
            for (bin, step) in values {
                unmoved[bin] += 1;
                line[(bin + step).saturating_sub(2).min(11)] += 1;
                circle[(bin + step + 10) % 12] += 1;
            }
            let noise = kolmogorov_smirnov(&unmoved, &b, 0).unwrap();
            prop_assert!(kolmogorov_smirnov(&line, &b, 2).unwrap() <= noise + 1e-12);
            let noise = kuiper(&unmoved, &b, 0).unwrap();
            prop_assert!(kuiper(&circle, &b, 2).unwrap() <= noise + 1e-12);
        }
    }

    #[test]
    fn a_shift_within_the_tolerance_is_no_drift_and_one_bin_more_is() {
        let mut baseline = [0_u32; 256];
        let mut window = [0_u32; 256];
        baseline[100] = 500;
        window[103] = 50;
        assert_eq!(kolmogorov_smirnov(&window, &baseline, 3), Ok(0.0));
        assert_eq!(kolmogorov_smirnov(&window, &baseline, 2), Ok(1.0));
        assert_eq!(kuiper(&window, &baseline, 3), Ok(0.0));
        assert_eq!(kuiper(&window, &baseline, 2), Ok(1.0));
        baseline.rotate_right(154);
        window.rotate_right(154);
        assert_eq!((baseline[254], window[1]), (500, 50), "the shift now crosses the cut");
        assert_eq!(kuiper(&window, &baseline, 3), Ok(0.0));
        assert_eq!(kuiper(&window, &baseline, 2), Ok(1.0));
    }

    #[test]
    fn ties_are_compared_at_the_end_of_their_block() {
        assert_eq!(kolmogorov_smirnov(&[1_u32, 1], &[1_u32, 3], 0), Ok(0.25));
        assert_eq!(kolmogorov_smirnov(&[0_u32, 9, 0], &[0_u64, 4, 0], 0), Ok(0.0));
    }

    #[test]
    fn where_the_hue_circle_is_cut_moves_d_but_not_v() {
        let (mut window, mut baseline) = ([0_u32, 8, 1, 3, 0, 2], [2_u32, 1, 4, 0, 5, 2]);
        let before = (kolmogorov_smirnov(&window, &baseline, 0).unwrap(), kuiper(&window, &baseline, 0).unwrap());
        window.rotate_left(2);
        baseline.rotate_left(2);
        let after = (kolmogorov_smirnov(&window, &baseline, 0).unwrap(), kuiper(&window, &baseline, 0).unwrap());
        assert!((before.0 - after.0).abs() > 0.05);
        assert!((before.1 - after.1).abs() < 1e-12);
    }

    #[test]
    fn counting_every_frame_k_times_leaves_p_alone_once_the_design_effect_says_so() {
        let (window, baseline) = ([5_u64, 30, 12, 3], [40_u64, 200, 150, 110]);
        let mut comparison = Comparison {
            window_design_effect: 2.0,
            baseline_design_effect: 2.0,
            margin: 0.01,
            tolerance: 0,
            circular: false,
        };
        let once = comparison.test(&window, &baseline).unwrap();
        comparison.window_design_effect *= 1000.0;
        comparison.baseline_design_effect *= 1000.0;
        let often = comparison.test(&window.map(|count| count * 1000), &baseline.map(|count| count * 1000)).unwrap();
        assert!((once.p - often.p).abs() < 1e-12 && once.p < 1.0);
    }

    #[test]
    fn the_kuiper_bound_lies_above_its_series_everywhere_and_falls() {
        let mut last = 1.0;
        for step in 1..400 {
            let lambda = f64::from(step) * 0.02;
            let series: f64 = (1..200)
                .map(|j| {
                    let square = f64::from(j * j) * lambda * lambda;
                    2.0 * (4.0 * square - 1.0) * (-2.0 * square).exp()
                })
                .sum();
            let bound = kuiper_tail(lambda, 0.0, 1.0);
            assert!(bound >= series.min(1.0) * (1.0 - 1e-12) || lambda < 0.1, "λ={lambda}: {bound} < {series}");
            assert!(bound <= last);
            last = bound;
        }
    }

    /// Exact P(V ≥ range/n) for two samples of n without ties: of all walks of n steps up and n down, those whose
    /// highest and lowest point are at least `range` apart. Walks within [−a, r−a] are counted once for each a that fits;
    /// taking off the same count for r−1 leaves each walk of range at most r once.
    fn exact_kuiper_tail(n: usize, range: usize) -> f64 {
        let inside = |below: usize, above: usize| {
            let width = below + above + 1;
            let mut paths = vec![0.0_f64; width];
            paths[below] = 1.0;
            for _ in 0..2 * n {
                let mut next = vec![0.0; width];
                for (at, &weight) in paths.iter().enumerate() {
                    if at > 0 {
                        next[at - 1] += weight / 2.0;
                    }
                    if at + 1 < width {
                        next[at + 1] += weight / 2.0;
                    }
                }
                paths = next;
            }
            paths[below]
        };
        let within = |r: usize| (0..=r).map(|below| inside(below, r - below)).sum::<f64>();
        let all = inside(2 * n, 2 * n);
        1.0 - (within(range - 1) - if range >= 2 { within(range - 2) } else { 0.0 }) / all
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn the_kuiper_bound_is_never_below_the_exact_tail_of_small_samples() {
        for n in [5_usize, 20, 60] {
            for range in 1..=n.min(40) {
                let exact = exact_kuiper_tail(n, range);
                let bound = kuiper_tail(range as f64 / n as f64, 0.0, n as f64 / 2.0);
                assert!(bound >= exact - 1e-12, "n={n} range={range}: {bound} < {exact}");
            }
        }
    }

    #[test]
    fn a_nan_cannot_raise_an_alert() {
        for p in [
            kolmogorov_smirnov_tail(f64::NAN, 0.0, 9.0),
            kolmogorov_smirnov_tail(1.0, f64::NAN, 9.0),
            kolmogorov_smirnov_tail(1.0, 0.0, f64::NAN),
            kuiper_tail(f64::NAN, 0.0, 9.0),
            kuiper_tail(1.0, 0.0, f64::NAN),
        ] {
            assert!((p - 1.0).abs() < f64::EPSILON);
        }
    }

    #[test]
    fn histograms_that_cannot_be_compared_say_why() {
        assert_eq!(kolmogorov_smirnov(&[0_u32, 0], &[1_u32, 0], 0), Err(StatisticsError::Empty { what: "window" }));
        assert_eq!(kuiper(&[1_u32], &[0_u32], 0), Err(StatisticsError::Empty { what: "baseline" }));
        assert_eq!(kuiper(&[1_u32], &[1_u32, 1], 0), Err(StatisticsError::Length { left: 1, right: 2 }));
        let overflow = kolmogorov_smirnov(&[u64::MAX, 1], &[1_u64, 1], 0);
        assert_eq!(overflow, Err(StatisticsError::Overflow { what: "window" }));
        assert_eq!(kolmogorov_smirnov(&[1_u32, 2], &[2_u32, 1], usize::MAX), Ok(0.0));
        assert_eq!(kuiper(&[1_u32, 2], &[2_u32, 1], usize::MAX), Ok(0.0));
    }
}
