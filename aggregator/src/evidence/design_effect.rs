//! How many frames are worth one independent frame: the design effect, measured between windows.
//!
//! Neighbouring frames show the same scene and the windows of a camera have a level of their own, so `n` frames do not carry
//! `n` independent values. The spread of the clean windows' own distributions says how many they do carry. At each of up to
//! seven thresholds `x_j` (the smallest bins where the pooled distribution reaches an octile):
//! `deff_j = n·Var_between(F_w(x_j)) / max(p_j(1−p_j), 0.02)`, and `deff = max(1, max_j deff_j)`.
//!
//! **Windows of unequal size.** If `Var F_w = deff·p(1−p)/n_w`, then `Σ_w n_w(F_w − p)²/(M−1)` with the pooled
//! `p = Σ n_w F_w/Σ n_w` estimates `deff·p(1−p)` without bias (Pearson's dispersion of binomial proportions). So every window
//! weighs as many frames as it has. For equal sizes this is `n·Var`. A level of its own per window makes the effect grow with
//! the size of a window: [`DesignEffect::for_window_of`] scales it up for windows larger than those it was measured on, and
//! never down.
//!
//! **Few windows.** Below [`ENOUGH_WINDOWS`] the variance is multiplied by `(M−1)/χ²_{0.05, M−1}`, its upper 95 % limit.
//!
//! **Frozen.** If every window has all its frames in one and the same bin (a lens cap, a stuck frame) there is no variance to
//! measure. A window is then worth a single value, whatever its size, and the caller should raise a health flag.

use statrs::distribution::{ChiSquared, ContinuousCDF};

use crate::stats::error::{StatisticsError, total, within};
use crate::stats::sample::Sample;

/// From this many windows on the point estimate is used as it is.
pub const ENOUGH_WINDOWS: usize = 30;

/// The least `p(1−p)` a variance is divided by: a threshold in the far tail says little.
const LEAST_VARIANCE: f64 = 0.02;

/// How many frames of one stream are worth one independent frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DesignEffect {
    /// Frames per independent frame for windows of `mean_size`, at least 1.
    pub value: f64,
    /// How many windows it was measured on.
    pub windows: usize,
    /// Mean number of frames of those windows.
    pub mean_size: f64,
    /// Every window had all its frames in the same bin: there was nothing to measure.
    pub frozen: bool,
}

impl DesignEffect {
    /// From windows given as histograms over the same bins, with the allowance for few windows.
    ///
    /// # Errors
    /// `TooFew` below 2 windows, `Empty` or `Overflow` for a window without a usable total, `Length` if bins differ.
    pub fn from_histograms<H, C>(windows: &[H]) -> Result<Self, StatisticsError>
    where
        H: AsRef<[C]>,
        C: Copy + Into<u64>,
    {
        Self::point_estimate(windows)?.with_allowance()
    }

    /// From windows given as histograms, the bare estimate whatever the number of windows.
    ///
    /// # Errors
    /// As [`Self::from_histograms`].
    pub fn point_estimate<H, C>(windows: &[H]) -> Result<Self, StatisticsError>
    where
        H: AsRef<[C]>,
        C: Copy + Into<u64>,
    {
        let thresholds = octile_bins(windows)?;
        let mut spread = Spread::new(thresholds.len());
        let mut cumulative = Vec::with_capacity(thresholds.len());
        for window in windows {
            let counts = window.as_ref();
            cumulative.clear();
            let (mut next, mut below) = (0, 0_u64);
            for &threshold in &thresholds {
                below += counts[next..=threshold].iter().map(|&count| count.into()).sum::<u64>();
                next = threshold + 1;
                cumulative.push(below);
            }
            spread.add(total("window", counts)?, &cumulative);
        }
        let first_bin = only_bin(windows.first().map_or(&[], AsRef::as_ref));
        let frozen = first_bin.is_some() && windows.iter().all(|window| only_bin(window.as_ref()) == first_bin);
        Ok(spread.estimate(frozen))
    }

    /// From windows given as raw values, with the allowance for few windows. Thresholds are the octiles of the pooled values.
    ///
    /// # Errors
    /// `TooFew` below 2 windows, `Empty`, `NotANumber` and `Infinite` for bad values.
    pub fn from_samples<S: AsRef<[f64]>>(windows: &[S]) -> Result<Self, StatisticsError> {
        enough(windows.len())?;
        let samples =
            windows.iter().map(|window| Sample::finite("window", window.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let all: Vec<f64> = samples.iter().flat_map(|sample| sample.sorted().iter().copied()).collect();
        let pooled = Sample::finite("window", &all)?;
        let values = pooled.sorted();
        let mut thresholds: Vec<f64> =
            (1..8_usize).map(|eighth| values[(eighth * values.len()).div_ceil(8) - 1]).collect();
        thresholds.dedup();
        let mut spread = Spread::new(thresholds.len());
        for sample in &samples {
            let below: Vec<u64> = thresholds
                .iter()
                .map(|threshold| sample.sorted().partition_point(|value| value <= threshold) as u64)
                .collect();
            spread.add(sample.len() as u64, &below);
        }
        let frozen = values.first() == values.last();
        spread.estimate(frozen).with_allowance()
    }

    /// For streams without enough windows of their own: the larger of the own value and the median of the same stream on
    /// devices of the same model. Keeps the own value if there are no peers.
    #[must_use]
    pub fn or_peers(mut self, peers: &[f64]) -> Self {
        let mut known: Vec<f64> = peers.iter().copied().filter(|value| value.is_finite()).collect();
        known.sort_unstable_by(f64::total_cmp);
        if let Some(&upper_median) = known.get(known.len() / 2) {
            self.value = self.value.max(upper_median);
        }
        self
    }

    /// The design effect of a window of `size` frames: scaled up in proportion if that is more than `mean_size`, and all of
    /// `size` if the stream is frozen. At least 1.
    #[must_use]
    pub fn for_window_of(&self, size: f64) -> f64 {
        let value = if self.frozen { size } else { self.value * (size / self.mean_size).max(1.0) };
        value.max(1.0)
    }

    /// The design effect of the sum of all these windows, as a baseline. A frozen one is worth as many values as it has windows.
    #[must_use]
    pub const fn for_pooled(&self) -> f64 {
        if self.frozen { self.mean_size.max(1.0) } else { self.value }
    }

    /// Multiplies by the upper 95 % limit of a variance if there are fewer than [`ENOUGH_WINDOWS`].
    fn with_allowance(mut self) -> Result<Self, StatisticsError> {
        self.value *= allowance(self.windows)?;
        Ok(self)
    }
}

/// `(M−1)/χ²_{0.05, M−1}` below [`ENOUGH_WINDOWS`] windows, 1 from there on.
///
/// # Errors
/// `TooFew` below 2 windows.
#[expect(clippy::cast_precision_loss, reason = "a handful of windows")]
pub fn allowance(windows: usize) -> Result<f64, StatisticsError> {
    enough(windows)?;
    if windows >= ENOUGH_WINDOWS {
        return Ok(1.0);
    }
    let freedom = (windows - 1) as f64;
    let distribution = ChiSquared::new(freedom)
        .map_err(|_| StatisticsError::Parameter { name: "degrees of freedom", value: freedom })?;
    let quantile = within("chi-square quantile", distribution.inverse_cdf(0.05), f64::MIN_POSITIVE, freedom)?;
    Ok(freedom / quantile)
}

/// The up to seven thresholds: for each octile the smallest bin at which the pooled distribution reaches it.
///
/// # Errors
/// As [`DesignEffect::from_histograms`].
pub fn octile_bins<H, C>(windows: &[H]) -> Result<Vec<usize>, StatisticsError>
where
    H: AsRef<[C]>,
    C: Copy + Into<u64>,
{
    enough(windows.len())?;
    let bins = windows.first().map_or(0, |window| window.as_ref().len());
    let mut pooled = vec![0_u128; bins];
    for window in windows {
        let counts = window.as_ref();
        if counts.len() != bins {
            return Err(StatisticsError::Length { left: bins, right: counts.len() });
        }
        total("window", counts)?;
        for (sum, &count) in pooled.iter_mut().zip(counts) {
            *sum += u128::from(count.into());
        }
    }
    let all: u128 = pooled.iter().sum();
    let mut thresholds = Vec::with_capacity(7);
    let (mut below, mut eighth) = (0_u128, 1_u128);
    for (bin, count) in pooled.into_iter().enumerate() {
        below += count;
        let reached = eighth;
        while eighth < 8 && below * 8 >= eighth * all {
            eighth += 1;
        }
        if eighth > reached {
            thresholds.push(bin);
        }
    }
    Ok(thresholds)
}

/// Sums over windows from which the dispersion at every threshold follows.
struct Spread {
    windows: usize,
    frames: f64,
    sizes: Vec<f64>,
    shares: Vec<Vec<f64>>,
}

impl Spread {
    fn new(thresholds: usize) -> Self {
        Self { windows: 0, frames: 0.0, sizes: Vec::new(), shares: vec![Vec::new(); thresholds] }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
    fn add(&mut self, size: u64, below: &[u64]) {
        self.windows += 1;
        self.frames += size as f64;
        self.sizes.push(size as f64);
        for (shares, &below) in self.shares.iter_mut().zip(below) {
            shares.push(below as f64 / size as f64);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of windows")]
    fn estimate(&self, frozen: bool) -> DesignEffect {
        let mut value = 1.0_f64;
        for shares in &self.shares {
            let weighted = |f: &dyn Fn(f64) -> f64| -> f64 {
                self.sizes.iter().zip(shares).map(|(size, &share)| size * f(share)).sum()
            };
            let p = weighted(&|share| share) / self.frames;
            let spread = weighted(&|share| (share - p) * (share - p)) / (self.windows as f64 - 1.0);
            value = value.max(spread / (p * (1.0 - p)).max(LEAST_VARIANCE));
        }
        DesignEffect { value, windows: self.windows, mean_size: self.frames / self.windows as f64, frozen }
    }
}

/// The bin that holds everything, if one does.
fn only_bin<C: Copy + Into<u64>>(counts: &[C]) -> Option<usize> {
    let mut occupied = counts.iter().enumerate().filter(|&(_, &count)| count.into() > 0).map(|(bin, _)| bin);
    occupied.next().filter(|_| occupied.next().is_none())
}

const fn enough(windows: usize) -> Result<(), StatisticsError> {
    if windows < 2 {
        return Err(StatisticsError::TooFew { what: "windows", count: windows, needed: 2 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_camera_is_worth_one_value_a_window() {
        let windows = vec![[0_u32, 900, 0, 0]; 40];
        let effect = DesignEffect::from_histograms(&windows).unwrap();
        assert!(effect.frozen);
        assert!((effect.for_window_of(900.0) - 900.0).abs() < 1e-9);
        assert!((effect.for_pooled() - 900.0).abs() < 1e-9);
        let samples = vec![vec![3.0; 900]; 40];
        assert!(DesignEffect::from_samples(&samples).unwrap().frozen);
    }

    #[test]
    fn windows_that_stand_still_at_different_levels_are_worth_one_value_each() {
        let windows: Vec<[u32; 8]> =
            (0..64).map(|w| std::array::from_fn(|bin| u32::from(bin == w % 8) * 100)).collect();
        let effect = DesignEffect::from_histograms(&windows).unwrap();
        assert!(!effect.frozen);
        assert!(effect.value > 95.0 && effect.value < 105.0, "{effect:?}");
    }

    #[test]
    fn every_frame_counted_ten_times_makes_the_effect_ten_times_as_large() {
        let windows: Vec<[u32; 2]> = (0..50).map(|w| [40 + w * 7 % 20, 60 - w * 7 % 20]).collect();
        let tenfold: Vec<[u32; 2]> = windows.iter().map(|window| window.map(|count| count * 10)).collect();
        let once = DesignEffect::point_estimate(&windows).unwrap();
        let ten = DesignEffect::point_estimate(&tenfold).unwrap();
        assert!(once.value > 1.0);
        assert!((ten.value / once.value - 10.0).abs() < 1e-9);
    }

    #[test]
    fn unequal_windows_weigh_as_many_frames_as_they_have() {
        // Binomial windows of 10 and 1000 frames: at each size the spread is what independence predicts, ±√(p(1−p)/n).
        let mut windows = Vec::new();
        for turn in 0..40_u32 {
            let up = turn % 2 == 0;
            windows.push(if up { [500_u32 + 16, 500 - 16] } else { [500 - 16, 500 + 16] });
            windows.push(if up { [5_u32 + 2, 5 - 2] } else { [5 - 2, 5 + 2] });
        }
        let effect = DesignEffect::point_estimate(&windows).unwrap();
        // An unweighted mean size times an unweighted variance would give about 41.
        assert!(effect.value < 1.5, "{effect:?}");
        assert!((effect.mean_size - 505.0).abs() < 1e-9);
        assert!(effect.for_window_of(1010.0) / effect.value > 1.99);
        assert!((effect.for_window_of(10.0) - effect.value).abs() < 1e-12);
    }

    #[test]
    fn few_windows_are_given_the_upper_limit_of_their_variance() {
        // χ² table: 5 % quantiles at 1, 9 and 28 degrees of freedom.
        for (windows, quantile) in [(2, 0.003_932_140), (10, 3.325_112_843), (29, 16.927_875_044)] {
            let expected = f64::from(windows - 1) / quantile;
            let got = allowance(usize::try_from(windows).unwrap()).unwrap();
            assert!((got / expected - 1.0).abs() < 1e-6, "{windows}: {got} {expected}");
        }
        assert!((allowance(30).unwrap() - 1.0).abs() < 1e-15);
        assert!(allowance(1).is_err());
    }

    #[test]
    fn samples_and_histograms_of_them_agree() {
        let values: Vec<Vec<usize>> =
            (0..40).map(|w| (0..60).map(|k| (k * k * 7 + w * 13 + w * w) % 16).collect()).collect();
        #[expect(clippy::cast_precision_loss, reason = "below 16")]
        let samples: Vec<Vec<f64>> = values.iter().map(|window| window.iter().map(|&v| v as f64).collect()).collect();
        let mut histograms = [[0_u32; 16]; 40];
        for (histogram, window) in histograms.iter_mut().zip(&values) {
            window.iter().for_each(|&value| histogram[value] += 1);
        }
        let (left, right) =
            (DesignEffect::from_samples(&samples).unwrap(), DesignEffect::from_histograms(&histograms).unwrap());
        assert!((left.value - right.value).abs() < 1e-12, "{left:?} {right:?}");
    }

    #[test]
    fn peers_can_only_make_the_effect_larger() {
        let own = DesignEffect { value: 3.0, windows: 5, mean_size: 60.0, frozen: false };
        assert!((own.or_peers(&[9.0, 1.0, 4.0, f64::NAN]).value - 4.0).abs() < 1e-12);
        assert!((own.or_peers(&[1.0, 2.0]).value - 3.0).abs() < 1e-12);
        assert!((own.or_peers(&[]).value - 3.0).abs() < 1e-12);
    }

    #[test]
    fn windows_that_cannot_be_compared_are_refused() {
        let one = DesignEffect::from_histograms(&[[1_u32, 2]]);
        assert_eq!(one, Err(StatisticsError::TooFew { what: "windows", count: 1, needed: 2 }));
        assert!(DesignEffect::from_histograms(&[vec![1_u32, 2], vec![1]]).is_err());
        assert!(DesignEffect::from_histograms(&[[1_u32, 2], [0, 0]]).is_err());
        assert!(DesignEffect::from_samples(&[vec![1.0], vec![f64::NAN]]).is_err());
    }
}
