//! How a camera's level wanders from window to window, and what that leaves of a window as evidence.
//!
//! A camera's windows are not independent: light, weather and traffic give each stretch of time a level of its own. Holding such
//! windows against a baseline one by one, as if each were news, raises false alarms however the single test is calibrated. Three
//! steps make them news:
//!
//! 1. **Memory.** The variogram `γ(k) = ½·E(x_{t+k} − x_t)²` of the baseline windows' readings is modelled as a nugget (what is new
//!    in every window) and a wander that forgets with factor φ per window: `γ(k) = nugget + sill·(1 − φᵏ)`. A variogram needs no
//!    mean, so unlike an autocorrelation it is not biased by the short baseline it comes from. One camera's baseline is too short
//!    to tell a slow wander from a level; φ and the typical sill are therefore fitted to the mean variogram of the same feature on
//!    all cameras, and the camera's own sill is drawn towards it with the weight of [`PRIOR_WINDOWS`] independent windows.
//! 2. **Whitening.** The steady-state Kalman filter of that model predicts each window from those before; the innovation is what
//!    is tested. It has no memory under the null hypothesis, and of a constant error of the baseline only a share comes through. A
//!    prediction goes no further than three standard deviations of the wander ([`Calibration::furthest`]): a camera that is
//!    further away than it ever wanders has changed, and the filter must not grow used to it.
//! 3. **Blocks.** Innovations are tested singly and in sums over [`LENGTHS`] windows, so that a large change is found within
//!    minutes and a small one within the hour, and no block length has to be chosen.
//!
//! Evidence (1,000 cameras, 12 features, baseline of 60 windows, wander with standard deviation 0.3 and φ = 0.95): without
//! whitening 207 false alerts in a run of 240 windows; with blocks as long as the memory and no whitening, half the drifts lost.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::baseline::{Reading, THRESHOLDS};
use crate::packed;

/// Windows per block, shortest first.
pub const LENGTHS: [u32; 4] = [1, 4, 20, 120];
/// Lags, in windows, at which variograms are kept.
pub const LAGS: [usize; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 40];
/// Independent windows the fleet's typical wander is worth beside a camera's own.
pub const PRIOR_WINDOWS: f64 = 10.0;
/// Fewest cameras whose mean variogram can tell a memory; below, [`ASSUMED_MEMORY`] is assumed.
const ENOUGH_CAMERAS: f64 = 20.0;
/// φ where too few cameras are known: half of a level is forgotten after three windows.
const ASSUMED_MEMORY: f64 = 0.8;
/// Candidates for φ.
const MEMORIES: [f64; 13] = [0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99];
/// Windows of a whole fleet, of which no lag is short.
const MANY: f64 = 1e6;
/// Fewest pairs of windows a lag is estimated from.
const FEWEST_PAIRS: usize = 8;
/// Most a camera may wander, in units of the mean variogram of its own baseline.
const MOST_WANDER: f64 = 10.0;
/// Standard deviations of its wander, as seen from a baseline that is itself off, up to which a level is believed to have wandered.
const FURTHEST: f64 = 5.0;
/// Share of the variance by which the baseline's own wander is off that counts against a mean reading; what noise adds counts whole. Chosen by
/// simulation of a slow wander: all of it loses one drift in ten, none of it breaks the promise. Where the same share of the noise was left
/// out as well, one run in twenty of a fleet without a fault had an alert.
const OWN_WANDER: f64 = 0.6;

/// A variogram at [`LAGS`]; lags longer than the baseline allows are absent, and only at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Variogram(Vec<f32>);

impl Variogram {
    /// Of readings in order of time, in units of a share's own variance `p(1−p)`: the mean over every second threshold.
    #[must_use]
    pub fn of_readings(readings: &[Reading], shares: &[f32; THRESHOLDS]) -> Self {
        let weights: Vec<(usize, f64)> = (1..THRESHOLDS)
            .step_by(2)
            .filter_map(|j| {
                let variance = f64::from(shares[j]) * (1.0 - f64::from(shares[j]));
                (variance > 0.02).then_some((j, 1.0 / variance))
            })
            .collect();
        Self::of_pairs(readings.len(), |a, b| {
            let sum: f64 = weights.iter().map(|&(j, w)| w * f64::from(readings[a][j] - readings[b][j]).powi(2)).sum();
            sum / weights.len().max(1) as f64
        })
    }

    /// Of one number per window, in its own units.
    #[must_use]
    pub fn of_levels(levels: &[f64]) -> Self {
        Self::of_pairs(levels.len(), |a, b| (levels[a] - levels[b]).powi(2))
    }

    #[expect(clippy::cast_possible_truncation, reason = "a variance needs no more than single precision")]
    fn of_pairs(windows: usize, squared: impl Fn(usize, usize) -> f64) -> Self {
        let lags = LAGS.iter().take_while(|&&lag| windows >= lag + FEWEST_PAIRS);
        Self(
            lags.map(|&lag| {
                let pairs = windows - lag;
                let sum: f64 = (0..pairs).map(|start| squared(start, start + lag)).sum();
                (0.5 * sum / pairs as f64) as f32
            })
            .collect(),
        )
    }

    /// Nugget and sill by least squares; neither is negative.
    fn fit(&self, lags: &Lags) -> Fit {
        let (mut weight, mut x1, mut x2, mut y1, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (w, x, y) in lags.beside(self) {
            weight += w;
            x1 += w * x;
            x2 += w * x * x;
            y1 += w * y;
            xy += w * x * y;
        }
        let determinant = weight * x2 - x1 * x1;
        let slope = if determinant > 1e-9 * weight * weight { (weight * xy - x1 * y1) / determinant } else { 0.0 };
        let sill = if slope * x1 > y1 { xy / x2 } else { slope.max(0.0) };
        Fit { nugget: ((y1 - sill * x1) / weight.max(f64::MIN_POSITIVE)).max(0.0), sill }
    }
}

/// A model of a variogram, for a given φ.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Fit {
    nugget: f64,
    sill: f64,
}

/// What a variogram is fitted to.
struct Lags {
    /// What each lag weighs: by its pairs, and less the longer it is.
    weights: [f64; LAGS.len()],
    /// Share of the sill that it shows: `1 − φᵏ`.
    shown: [f64; LAGS.len()],
}

impl Lags {
    /// For a given φ and a variogram of so many windows.
    fn of(phi: f64, windows: f64) -> Self {
        Self {
            weights: LAGS.map(|lag| (windows - lag as f64).max(1.0) / (lag as f64).sqrt()),
            shown: LAGS.map(|lag| 1.0 - i32::try_from(lag).map_or(0.0, |lag| phi.powi(lag))),
        }
    }

    /// Weight, share of the sill and variogram at each lag that the variogram has.
    fn beside(&self, variogram: &Variogram) -> impl Iterator<Item = (f64, f64, f64)> {
        let model = self.weights.iter().zip(&self.shown);
        model.zip(&variogram.0).map(|((&weight, &shown), &gamma)| (weight, shown, f64::from(gamma)))
    }
}

/// The mean variograms of one feature over all cameras.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    shares: [f64; LAGS.len()],
    levels: [f64; LAGS.len()],
    cameras: [f64; LAGS.len()],
    /// Fitted when it is asked for; every camera does at the beginning of an epoch.
    memory: OnceLock<Memory>,
}

impl Pool {
    /// Adds a camera's variograms: of its readings, and of their mean.
    pub fn add(&mut self, shares: &Variogram, levels: &Variogram) {
        for (lag, (share, level)) in shares.0.iter().zip(&levels.0).enumerate().take(LAGS.len()) {
            self.shares[lag] += f64::from(*share);
            self.levels[lag] += f64::from(*level);
            self.cameras[lag] += 1.0;
        }
        self.memory.take();
    }

    #[expect(clippy::cast_possible_truncation, reason = "a variance needs no more than single precision")]
    fn mean(&self, sums: &[f64; LAGS.len()]) -> Variogram {
        let known = sums.iter().zip(&self.cameras).take_while(|(_, cameras)| **cameras > 0.0);
        Variogram(known.map(|(sum, cameras)| (sum / cameras) as f32).collect())
    }

    /// The memory of this feature, as the fleet shows it.
    #[must_use]
    pub fn memory(&self) -> Memory {
        *self.memory.get_or_init(|| self.fit())
    }

    fn fit(&self) -> Memory {
        let (shares, levels) = (self.mean(&self.shares), self.mean(&self.levels));
        // Every lag weighs the same in choosing φ: the means have little noise, and the long lags tell a slow wander.
        let misfit = |phi: f64| {
            let lags = Lags::of(phi, MANY);
            let fit = shares.fit(&lags);
            let off = lags.beside(&shares).map(|(_, shown, gamma)| gamma - fit.nugget - fit.sill * shown);
            off.map(|off| off * off).sum::<f64>()
        };
        let phi = if self.cameras[0] < ENOUGH_CAMERAS {
            ASSUMED_MEMORY
        } else {
            MEMORIES.into_iter().min_by(|a, b| misfit(*a).total_cmp(&misfit(*b))).unwrap_or(ASSUMED_MEMORY)
        };
        let lags = Lags::of(phi, MANY);
        let level = levels.fit(&lags);
        // Of the mean of many windows: 1 + 2·Σ of the correlations at all lags.
        let wandering = level.sill / (level.sill + level.nugget).max(f64::MIN_POSITIVE);
        let windows = 1.0 + 2.0 * wandering * phi / (1.0 - phi);
        let windows = if self.cameras[0] < ENOUGH_CAMERAS { 1.0 } else { windows };
        Memory { phi, sill: shares.fit(&lags).sill, level_sill: level.sill, windows }
    }
}

/// How long a feature remembers, and how far it typically wanders.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// φ, share of a level that is still there one window later.
    pub phi: f64,
    /// Variance of the wander of shares, in units of `p(1−p)`.
    pub sill: f64,
    /// Variance of the wander of the mean reading.
    pub level_sill: f64,
    /// Windows per independent window, at least 1; 1 where too few cameras are known to tell.
    pub windows: f64,
}

/// What is known of one camera's own windows.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// Variogram of its readings.
    pub shares: &'a Variogram,
    /// Variogram of their mean.
    pub levels: &'a Variogram,
    /// Baseline windows.
    pub windows: u32,
    /// Least variance of a reading, in units of `p(1−p)`, for each of [`LENGTHS`]: no window says more than its frames.
    pub floor: [f64; LENGTHS.len()],
}

/// How one camera's readings of one feature are whitened and weighed. Fixed before the windows it is used on are seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// φ.
    pub phi: f32,
    /// Windows per independent window, as far as the fleet shows.
    pub memory: f32,
    /// Kalman gain.
    pub gain: f32,
    /// How far a prediction goes at most, in units of `√(p(1−p))`.
    pub furthest: f32,
    /// Variance of the mean innovation over each of [`LENGTHS`], in units of `p(1−p)`.
    #[serde(with = "packed")]
    pub share_variance: [f32; LENGTHS.len()],
    /// Variance of the mean over the thresholds of the same.
    #[serde(with = "packed")]
    pub level_variance: [f32; LENGTHS.len()],
    /// The part of the variance of the baseline's own error that `level_variance` leaves out.
    pub level_left_out: f32,
    /// Mean share of a step that comes through in the first block after it.
    #[serde(with = "packed")]
    pub response: [f32; LENGTHS.len()],
}

impl Calibration {
    /// From a camera's own variograms and the fleet's memory.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the hot state is kept in single precision")]
    pub fn new(memory: Memory, own: &Own<'_>) -> Self {
        let phi = memory.phi;
        let windows = f64::from(own.windows.max(2));
        let independent = windows * (1.0 - phi) / (1.0 + phi);
        let drawn =
            |typical: f64, sill: f64| (PRIOR_WINDOWS * typical + independent * sill) / (PRIOR_WINDOWS + independent);

        let [floor, ..] = own.floor;
        let lags = Lags::of(phi, windows);
        let (sill, nugget) = split(own.shares, &lags, |own| drawn(memory.sill, own), floor);
        // The variance of a prediction, P = φ²·P·N/(P + N) + S·(1 − φ²).
        let forgets = 1.0 - phi * phi;
        let linear = forgets * (sill - nugget);
        let prediction = f64::midpoint(linear, (linear * linear + 4.0 * forgets * sill * nugget).sqrt());
        let gain = prediction / (prediction + nugget).max(f64::MIN_POSITIVE);

        // A share's sampling variance p(1−p)/n belongs to a mean reading's 1/(12n).
        let (level_sill, level_nugget) = split(own.levels, &lags, |own| drawn(memory.level_sill, own), floor / 12.0);
        // With the same gain, L = φ²·((1 − g)²·L + g²·N) + S·(1 − φ²).
        let kept = phi * (1.0 - gain);
        let level = ((phi * gain).powi(2) * level_nugget + forgets * level_sill) / (1.0 - kept * kept);

        let steady = (1.0 - phi) / (1.0 - kept);
        // The baseline is itself a mean of few windows; its error comes through as a constant offset, of which noise is one part and wander
        // the other.
        let of_noise = |nugget: f64| steady * steady * nugget / windows;
        let of_wander = |sill: f64| steady * steady * sill * mean_variance(phi, own.windows);
        let share_error = of_noise(nugget) + of_wander(sill);
        let level_error = of_noise(level_nugget) + OWN_WANDER * of_wander(level_sill);
        let per_length = |value: &dyn Fn(usize, f64) -> f64| {
            let mut values = [0.0; LENGTHS.len()];
            for (index, (slot, length)) in values.iter_mut().zip(LENGTHS).enumerate() {
                *slot = value(index, f64::from(length)) as f32;
            }
            values
        };
        // How a block ends up when the camera steps by one at its beginning: what is left of the step falls from 1 to `steady`.
        let response = |length: f64| steady + (1.0 - steady) * (1.0 - kept.powf(length)) / (length * (1.0 - kept));
        Self {
            phi: phi as f32,
            memory: memory.windows as f32,
            gain: gain as f32,
            furthest: (FURTHEST * (sill * (1.0 + mean_variance(phi, own.windows))).sqrt()) as f32,
            share_variance: per_length(&|index, length| {
                ((prediction + nugget) / length + share_error).max(own.floor[index])
            }),
            level_variance: per_length(&|index, length| {
                ((level + level_nugget) / length + level_error).max(own.floor[index] / 12.0)
            }),
            level_left_out: ((1.0 - OWN_WANDER) * of_wander(level_sill)) as f32,
            response: per_length(&|_, length| response(length)),
        }
    }
}

/// Sill and nugget of a camera: its sill drawn towards the fleet's, its nugget what remains, and never below the floor.
///
/// A camera that hardly moved in its whole baseline does not wander as the others do, however few independent windows it had: its
/// sill is at most [`MOST_WANDER`] times what it showed. Otherwise one restless camera would blind the quiet ones, whose filters
/// would take every fault for wander.
fn split(own: &Variogram, lags: &Lags, drawn: impl Fn(f64) -> f64, floor: f64) -> (f64, f64) {
    let mean = |part: &dyn Fn(f64, f64) -> f64| {
        let (sum, total) = lags.beside(own).fold((0.0, 0.0), |(sum, total), (weight, shown, gamma)| {
            (sum + weight * part(shown, gamma), total + weight)
        });
        sum / total.max(f64::MIN_POSITIVE)
    };
    let shown = mean(&|_, gamma| gamma);
    let sill = drawn(own.fit(lags).sill).min(MOST_WANDER * shown);
    let rest = mean(&|shown, gamma| gamma - sill * shown);
    // What the camera shows is never explained by wander alone.
    (sill, rest.max(0.1 * shown).max(floor).max(1e-9))
}

/// Variance of the mean of `windows` values of a wander with unit variance.
fn mean_variance(phi: f64, windows: u32) -> f64 {
    let n = f64::from(windows.max(1));
    if phi <= 0.0 {
        return 1.0 / n;
    }
    let forgotten = phi.powf(n);
    ((1.0 + phi) / (1.0 - phi) - 2.0 * phi * (1.0 - forgotten) / (n * (1.0 - phi).powi(2))) / n
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    const SILL: f64 = 0.03;
    const NUGGET: f64 = 0.02;

    /// Readings of a camera whose level wanders with φ: in units of `√(p(1−p))`, a variance of [`SILL`] and noise of [`NUGGET`].
    #[expect(clippy::cast_possible_truncation, reason = "readings are kept in single precision")]
    fn readings(phi: f64, windows: usize, random: &mut ChaCha8Rng) -> Vec<Reading> {
        let mut normal = move || random.sample::<f64, _>(StandardNormal);
        let mut level = SILL.sqrt() * normal();
        (0..windows)
            .map(|_| {
                level = phi * level + (SILL * (1.0 - phi * phi)).sqrt() * normal();
                let seen = level + NUGGET.sqrt() * normal();
                let mut reading = [0.0; THRESHOLDS];
                for (slot, share) in reading.iter_mut().zip(shares()) {
                    *slot = (seen * f64::from(share * (1.0 - share)).sqrt()) as f32;
                }
                reading
            })
            .collect()
    }

    fn shares() -> [f32; THRESHOLDS] {
        std::array::from_fn(|j| (j as f32 + 1.0) / (THRESHOLDS as f32 + 1.0))
    }

    fn variograms(readings: &[Reading]) -> (Variogram, Variogram) {
        let means: Vec<f64> = readings.iter().map(|r| r.iter().map(|&d| f64::from(d)).sum::<f64>() / 15.0).collect();
        (Variogram::of_readings(readings, &shares()), Variogram::of_levels(&means))
    }

    fn fleet(phi: f64, cameras: usize, random: &mut ChaCha8Rng) -> Pool {
        let mut pool = Pool::default();
        for _ in 0..cameras {
            let (shares, levels) = variograms(&readings(phi, 60, random));
            pool.add(&shares, &levels);
        }
        pool
    }

    #[test]
    fn a_fleet_of_short_baselines_tells_how_long_its_cameras_remember_and_how_far_they_wander() {
        for phi in [0.5, 0.8, 0.95] {
            let memory = fleet(phi, 400, &mut ChaCha8Rng::seed_from_u64(3)).memory();
            assert!((memory.phi - phi).abs() <= 0.051, "{phi}: {}", memory.phi);
            assert!((memory.sill / SILL - 1.0).abs() < 0.35, "{phi}: {}", memory.sill);
            let windows = 1.0 + 2.0 * SILL / (SILL + NUGGET) * phi / (1.0 - phi);
            assert!((memory.windows / windows).ln().abs() < 0.5, "{phi}: {} beside {windows}", memory.windows);
        }
        let few = fleet(0.95, 5, &mut ChaCha8Rng::seed_from_u64(3)).memory();
        assert!((few.phi - ASSUMED_MEMORY).abs() < 1e-12 && (few.windows - 1.0).abs() < 1e-12, "too few to tell");
    }

    #[test]
    fn innovations_are_as_large_as_the_calibration_says_and_remember_nothing() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let phi = 0.9;
        let memory = fleet(phi, 400, &mut random).memory();
        let (mut squares, mut products, mut count, mut said) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..200 {
            let all = readings(phi, 160, &mut random);
            let (shares, levels) = variograms(&all[..100]);
            let own = Own { shares: &shares, levels: &levels, windows: 100, floor: [1e-6; LENGTHS.len()] };
            let calibration = Calibration::new(memory, &own);
            let (mut predicted, mut last) = (0.0_f64, 0.0);
            for reading in &all {
                let innovation = f64::from(reading[7]) / 0.5 - predicted;
                predicted = f64::from(calibration.phi) * (predicted + f64::from(calibration.gain) * innovation);
                squares += innovation * innovation;
                products += innovation * last;
                last = innovation;
                count += 1.0;
            }
            said += f64::from(calibration.share_variance[0]);
        }
        let (variance, said) = (squares / count, said / 200.0);
        assert!((variance / said - 1.0).abs() < 0.1, "{variance} beside {said}");
        assert!((products / squares).abs() < 0.06, "correlation {}", products / squares);
    }

    #[test]
    fn a_calibration_is_where_the_filter_settles_and_a_step_comes_through_as_it_says() {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        for phi in [0.5, 0.9, 0.99] {
            let memory = Memory { phi, sill: SILL, level_sill: SILL / 2.0, windows: 1.0 };
            let (shares, levels) = variograms(&readings(phi, 100, &mut random));
            let own = Own { shares: &shares, levels: &levels, windows: 100, floor: [1e-6; LENGTHS.len()] };
            let found = Calibration::new(memory, &own);

            let lags = Lags::of(phi, 100.0);
            let drawn = |typical: f64| {
                let independent = 100.0 * (1.0 - phi) / (1.0 + phi);
                move |sill: f64| (PRIOR_WINDOWS * typical + independent * sill) / (PRIOR_WINDOWS + independent)
            };
            let (sill, nugget) = split(&shares, &lags, drawn(SILL), 1e-6);
            let (level_sill, level_nugget) = split(&levels, &lags, drawn(SILL / 2.0), 1e-6 / 12.0);
            let (mut prediction, mut level, mut gain) = (sill, level_sill, 0.0);
            for _ in 0..20_000 {
                gain = prediction / (prediction + nugget);
                prediction = phi * phi * prediction * nugget / (prediction + nugget) + sill * (1.0 - phi * phi);
                level = phi * phi * ((1.0 - gain).powi(2) * level + gain * gain * level_nugget)
                    + level_sill * (1.0 - phi * phi);
            }
            assert!((f64::from(found.gain) / gain - 1.0).abs() < 1e-5, "{phi}: {} beside {gain}", found.gain);
            // Between lengths only the innovation's own variance differs, the baseline's error is the same.
            for (variance, settled) in
                [(found.share_variance, prediction + nugget), (found.level_variance, level + level_nugget)]
            {
                let said = f64::from(variance[0] - variance[1]) / (1.0 - 1.0 / f64::from(LENGTHS[1]));
                assert!((said / settled - 1.0).abs() < 1e-4, "{phi}: {said} beside {settled}");
            }
            for (length, said) in LENGTHS.into_iter().zip(found.response) {
                let (mut predicted, mut sum) = (0.0, 0.0);
                for _ in 0..length {
                    sum += 1.0 - predicted;
                    predicted = phi * (predicted + gain * (1.0 - predicted));
                }
                let share = sum / f64::from(length);
                assert!((f64::from(said) - share).abs() < 1e-5, "{phi}, {length} windows: {said} beside {share}");
            }
        }
    }

    #[test]
    fn a_camera_that_stood_still_does_not_inherit_the_wander_of_the_others() {
        let memory = fleet(0.9, 100, &mut ChaCha8Rng::seed_from_u64(7)).memory();
        let (shares, levels) = variograms(&vec![[0.0; THRESHOLDS]; 60]);
        let own = Own { shares: &shares, levels: &levels, windows: 60, floor: [1.0 / 60.0; LENGTHS.len()] };
        let calibration = Calibration::new(memory, &own);
        assert!(calibration.furthest < 1e-6 && calibration.gain < 1e-3, "{calibration:?}");
    }
}
