//! How much a frame counts: traps 1 to 4, 20, 25 and 30.

use driftglass_aggregator::evidence::design_effect::DesignEffect;
use driftglass_aggregator::evidence::indicator_ladder::IndicatorLadder;
use driftglass_aggregator::evidence::process::EvidenceProcess;
use driftglass_aggregator::stats::binned::{Comparison, baseline_margin};
use driftglass_aggregator::stats::effective_sample_size;

use crate::random::{BINS, Random, Stream, histogram, number, pooled};

const FRAMES: usize = 900;
const ALPHA: f64 = 0.05;

fn comparison(window_design_effect: f64, baseline_design_effect: f64) -> Comparison {
    Comparison { window_design_effect, baseline_design_effect, margin: 0.0, tolerance: 0, circular: false }
}

/// Share of null windows rejected at 5 %: with the design effect in use, and with frames per independent frame as the mutant
/// says of a window's values, in the order of time.
fn rejected(memory: f64, noise: f64, mutant: impl Fn(&[f64]) -> f64) -> (f64, f64) {
    let (mut tested, mut ours, mut theirs) = (0, 0, 0);
    for seed in 0..8 {
        let mut stream = Stream { random: Random(seed * 7919 + 5), memory, noise, level: 0.0 };
        let learning: Vec<Vec<f64>> = (0..60).map(|_| stream.frames(FRAMES)).collect();
        let windows: Vec<[u32; BINS]> = learning.iter().map(|window| histogram(window)).collect();
        let baseline = pooled(&windows);
        let effect = DesignEffect::from_histograms(&windows).unwrap();
        let rule = comparison(effect.for_window_of(number(FRAMES)), effect.for_pooled());
        for _ in 0..20 {
            let frames = stream.frames(FRAMES);
            let window = histogram(&frames);
            let mutant_effect = mutant(&frames);
            let broken = comparison(mutant_effect, mutant_effect);
            tested += 1;
            ours += usize::from(rule.test(&window, &baseline).unwrap().p <= ALPHA);
            theirs += usize::from(broken.test(&window, &baseline).unwrap().p <= ALPHA);
        }
    }
    (number(ours) / number(tested), number(theirs) / number(tested))
}

#[test]
fn trap_1_every_frame_as_an_independent_value_calls_a_slow_stream_drift() {
    let (ours, every_frame) = rejected(0.99, 0.0, |_| 1.0);
    assert!(ours <= 2.0 * ALPHA, "{ours}");
    assert!(every_frame > 0.9, "{every_frame}");
}

#[test]
fn trap_2_the_lag_one_rule_believes_slow_streams_under_sensor_noise() {
    let lag_one = |frames: &[f64]| number(FRAMES) / effective_sample_size::measure(frames).unwrap().effective_size;
    let (ours, theirs) = rejected(0.99, 1.0, lag_one);
    assert!(ours <= 2.0 * ALPHA, "{ours}");
    assert!(theirs > 0.5, "{theirs}");
}

#[test]
fn trap_3_a_short_window_cannot_see_its_own_slow_modes() {
    let own_ladder = |frames: &[f64]| {
        let mut sorted = frames.to_vec();
        sorted.sort_by(f64::total_cmp);
        let worst = [1, 2, 3].map(|quarter| {
            let threshold = sorted[quarter * sorted.len() / 4];
            let mut ladder = IndicatorLadder::new();
            frames.iter().for_each(|&value| ladder.push(value <= threshold));
            ladder.tau().unwrap()
        });
        worst.into_iter().fold(1.0, f64::max)
    };
    let (ours, theirs) = rejected(0.99, 0.0, own_ladder);
    assert!(ours <= 2.0 * ALPHA, "{ours}");
    assert!(theirs > 0.15, "{theirs}");
}

/// A compacting quantile sketch (Manku, Rajagopalan and Lindsay; KLL without its smaller lower levels): when a level is full it
/// is sorted and every other value, from a random start, goes up with twice the weight.
struct Compacting {
    capacity: usize,
    levels: Vec<Vec<f64>>,
    random: Random,
}

impl Compacting {
    fn insert(&mut self, value: f64) {
        self.levels[0].push(value);
        let mut level = 0;
        while self.levels[level].len() >= self.capacity {
            let mut full = std::mem::take(&mut self.levels[level]);
            full.sort_by(f64::total_cmp);
            if self.levels.len() == level + 1 {
                self.levels.push(Vec::new());
            }
            let start = usize::from(self.random.uniform() < 0.5);
            self.levels[level + 1].extend(full.into_iter().skip(start).step_by(2));
            level += 1;
        }
    }

    /// Values with their weights, ascending.
    fn weighted(&self) -> Vec<(f64, f64)> {
        let mut all: Vec<(f64, f64)> = Vec::new();
        for (level, values) in self.levels.iter().enumerate() {
            let weight = 2_f64.powi(i32::try_from(level).unwrap());
            all.extend(values.iter().map(|&value| (value, weight)));
        }
        all.sort_by(|left, right| left.0.total_cmp(&right.0));
        all
    }
}

/// D between two weighted samples.
fn weighted_distance(a: &[(f64, f64)], b: &[(f64, f64)]) -> f64 {
    let total = |sample: &[(f64, f64)]| sample.iter().map(|(_, weight)| weight).sum::<f64>();
    let (n, m) = (total(a), total(b));
    let (mut i, mut j, mut left, mut right, mut distance) = (0, 0, 0.0, 0.0, 0.0_f64);
    while i < a.len() && j < b.len() {
        if a[i].0 <= b[j].0 {
            left += a[i].1 / n;
            i += 1;
        } else {
            right += b[j].1 / m;
            j += 1;
        }
        distance = distance.max((left - right).abs());
    }
    distance
}

#[test]
fn trap_4_the_distance_of_two_quantile_sketches_is_no_distance_for_exact_critical_values() {
    let (runs, size) = (6, 100_000);
    let (mut ours, mut theirs) = (0, 0);
    for run in 0..runs {
        let mut random = Random(run * 31 + 7);
        let mut draw = || {
            let values: Vec<f64> = (0..size).map(|_| random.normal()).collect();
            let mut sketch = Compacting { capacity: 128, levels: vec![Vec::new()], random: Random(random.0 ^ 0x5555) };
            values.iter().for_each(|&value| sketch.insert(value));
            (histogram(&values), sketch.weighted())
        };
        let (first, second) = (draw(), draw());
        let outcome = comparison(1.0, 1.0).test(&first.0, &second.0).unwrap();
        ours += usize::from(outcome.p <= ALPHA);
        let distance = weighted_distance(&first.1, &second.1);
        let p = driftglass_aggregator::stats::binned::kolmogorov_smirnov_tail(distance, 0.0, outcome.effective_size);
        theirs += usize::from(p <= ALPHA);
    }
    assert!(ours <= 1, "{ours} of {runs}");
    assert!(theirs >= 5, "{theirs} of {runs}");
}

#[test]
fn trap_20_one_small_baseline_shared_by_all_windows_adds_up_to_evidence_without_its_margin() {
    let (runs, frames) = (150, 200_u32);
    let mut reached = [0, 0];
    for run in 0..runs {
        let mut random = Random(run * 104_729 + 3);
        let mut window = || {
            let mut counts = [0_u32; 64];
            (0..frames).for_each(|_| counts[crate::random::bin(random.uniform() * 12.0 - 6.0) / 4] += 1);
            counts
        };
        let baseline = window();
        let margins = [baseline_margin(f64::from(frames), 0.05).unwrap(), 0.0];
        let mut processes = margins.map(|_| EvidenceProcess::new(240).unwrap());
        for at in 0..240 {
            let window = window();
            for (process, margin) in processes.iter_mut().zip(margins) {
                let p = Comparison { margin, ..comparison(1.0, 1.0) }.test(&window, &baseline).unwrap().p;
                process.observe(p, at);
            }
        }
        for (count, process) in reached.iter_mut().zip(&processes) {
            *count += usize::from(process.supremum().value() >= 20.0);
        }
    }
    let [ours, theirs] = reached.map(|count| number(count) / 150.0);
    assert!(ours <= 0.05, "{ours}");
    assert!(theirs > 0.05, "{theirs}");
}

#[test]
fn trap_25_counting_every_pixel_of_a_frame_changes_no_p_value() {
    let mut stream = Stream { random: Random(12), memory: 0.9, noise: 0.0, level: 0.0 };
    let windows: Vec<[u32; BINS]> = (0..40).map(|_| histogram(&stream.frames(60))).collect();
    let window = histogram(&stream.frames(60));
    let p = |pixels: u32, measured: bool| {
        let counted: Vec<[u32; BINS]> = windows.iter().map(|counts| counts.map(|count| count * pixels)).collect();
        let effect = DesignEffect::from_histograms(&counted).unwrap();
        let rule = if measured {
            comparison(effect.for_window_of(f64::from(60 * pixels)), effect.for_pooled())
        } else {
            comparison(1.0, 1.0)
        };
        rule.test(&window.map(|count| count * pixels), &pooled(&counted)).unwrap().p
    };
    assert!((p(1, true) - p(2000, true)).abs() < 1e-9);
    assert!(p(2000, false) < 1e-9 * p(1, false), "{:e} {:e}", p(2000, false), p(1, false));
}

#[test]
fn trap_30_a_stream_without_variance_is_worth_one_value_a_window_and_says_so() {
    let capped = vec![[900_u32, 0, 0]; 40];
    let effect = DesignEffect::from_histograms(&capped).unwrap();
    assert!(effect.frozen, "the flag");
    let baseline = [900_u32 * 40, 0, 0];
    // One level up, as when the lens cap warms a little.
    let window = [0_u32, 900, 0];
    let ours = comparison(effect.for_window_of(900.0), effect.for_pooled()).test(&window, &baseline).unwrap().p;
    assert!(ours > 0.1, "one value cannot prove anything: {ours}");
    // The mutants divide by a variance of zero, or take no variance for no dependence.
    let share = |counts: &[u32; 3]| f64::from(counts[0]) / 900.0;
    let mean = capped.iter().map(share).sum::<f64>() / 40.0;
    let variance = capped.iter().map(|counts| (share(counts) - mean).powi(2)).sum::<f64>() / 39.0;
    let undefined = 900.0 * variance / (mean * (1.0 - mean));
    assert!(undefined.is_nan(), "{undefined}");
    let theirs = comparison(undefined.max(1.0), 1.0).test(&window, &baseline).unwrap().p;
    assert!(theirs < 1e-100, "{theirs:e}");
}
