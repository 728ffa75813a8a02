//! When nothing has changed, nothing may be found: the chain from frames to alerts, simulated under the null.
//!
//! Each test also shows that the naive rule it guards against fails in the same simulation, so that the simulation can tell.

use super::design_effect::DesignEffect;
use super::fdr::benjamini_hochberg_of;
use super::process::{EvidenceProcess, Supremum, device_evidence};
use crate::stats::binned::{Comparison, baseline_margin};

/// Uniform and normal numbers from a 64-bit linear congruential generator (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// The bin of a value of about unit variance among 256 from −6 to 6.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the bins")]
fn bin(value: f64) -> usize {
    ((value + 6.0) / 12.0 * 256.0).clamp(0.0, 255.0) as usize
}

/// One autoregressive stream of unit variance, with or without as much white noise on top.
struct Stream {
    random: Random,
    memory: f64,
    noise: f64,
    level: f64,
}

impl Stream {
    fn window(&mut self, frames: usize) -> [u32; 256] {
        let mut counts = [0; 256];
        for _ in 0..frames {
            self.level = self.memory * self.level + (1.0 - self.memory * self.memory).sqrt() * self.random.normal();
            let value = self.level + self.noise * self.random.normal();
            counts[bin(value)] += 1;
        }
        counts
    }
}

#[test]
fn slow_streams_with_and_without_sensor_noise_are_not_called_drift() {
    for (memory, noise) in [(0.99, 0.0), (0.99, 1.0)] {
        let (mut tested, mut naive, mut found) = (0, 0, 0);
        for seed in 0..12 {
            let mut stream = Stream { random: Random(seed * 7919 + 1), memory, noise, level: 0.0 };
            let windows: Vec<[u32; 256]> = (0..60).map(|_| stream.window(900)).collect();
            let mut baseline = [0_u32; 256];
            for window in &windows {
                baseline.iter_mut().zip(window).for_each(|(sum, count)| *sum += count);
            }
            let effect = DesignEffect::from_histograms(&windows).unwrap();
            let comparison = Comparison {
                window_design_effect: effect.for_window_of(900.0),
                baseline_design_effect: effect.for_pooled(),
                margin: 0.0,
                tolerance: 0,
                circular: false,
            };
            let every_frame = Comparison { window_design_effect: 1.0, baseline_design_effect: 1.0, ..comparison };
            for _ in 0..25 {
                let window = stream.window(900);
                tested += 1;
                found += i32::from(comparison.test(&window, &baseline).unwrap().p <= 0.05);
                naive += i32::from(every_frame.test(&window, &baseline).unwrap().p <= 0.05);
            }
        }
        assert!(f64::from(found) <= 0.1 * f64::from(tested), "noise {noise}: {found} of {tested}");
        assert!(f64::from(naive) >= 0.6 * f64::from(tested), "noise {noise}: {naive} of {tested}");
    }
}

#[test]
fn a_small_shared_baseline_does_not_drift_into_evidence_with_its_margin() {
    let (runs, frames) = (150, 200_u32);
    let mut reached = [0, 0];
    for run in 0..runs {
        let mut random = Random(run * 104_729 + 3);
        let mut window = || {
            let mut counts = [0_u32; 64];
            // 64 equal bins
            (0..frames).for_each(|_| counts[bin(random.uniform() * 12.0 - 6.0) / 4] += 1);
            counts
        };
        let baseline = window();
        let margins = [0.0, baseline_margin(f64::from(frames), 0.05).unwrap()];
        let mut processes = margins.map(|_| EvidenceProcess::new(240).unwrap());
        for at in 0..240 {
            let window = window();
            for (process, margin) in processes.iter_mut().zip(margins) {
                let comparison = Comparison {
                    window_design_effect: 1.0,
                    baseline_design_effect: 1.0,
                    margin,
                    tolerance: 0,
                    circular: false,
                };
                process.observe(comparison.test(&window, &baseline).unwrap().p, at);
            }
        }
        for (count, process) in reached.iter_mut().zip(&processes) {
            *count += i32::from(process.supremum().value() >= 20.0);
        }
    }
    let limit = f64::from(u32::try_from(runs).unwrap()) * 0.05;
    assert!(f64::from(reached[1]) <= limit, "{reached:?} of {runs}");
    assert!(reached[0] > reached[1], "without a margin the shared error adds up: {reached:?}");
}

#[test]
fn a_null_day_raises_an_alert_with_probability_at_most_q_where_a_test_every_window_is_sure_to() {
    let (days, devices, features, windows, q) = (200_u32, 25, 3, 96_u32, 0.1);
    let mut random = Random(11);
    let (mut alerted, mut alerted_per_window) = (0, 0);
    for _ in 0..days {
        let mut streams: Vec<Vec<EvidenceProcess>> =
            (0..devices).map(|_| (0..features).map(|_| EvidenceProcess::new(windows).unwrap()).collect()).collect();
        let mut suprema = vec![Supremum::default(); devices];
        let mut any_window = false;
        for at in 0..u64::from(windows) {
            let mut now = Vec::with_capacity(devices * features);
            for (device, supremum) in streams.iter_mut().zip(&mut suprema) {
                let evidence = device.iter_mut().map(|feature| {
                    let p = random.uniform();
                    now.push(p);
                    feature.observe(p, at)
                });
                supremum.observe(device_evidence(evidence));
            }
            any_window |= benjamini_hochberg_of(now.len(), &now, q).unwrap().count > 0;
        }
        let anytime: Vec<f64> = suprema.iter().map(|supremum| supremum.anytime_p()).collect();
        alerted += u32::from(benjamini_hochberg_of(devices, &anytime, q).unwrap().count > 0);
        alerted_per_window += u32::from(any_window);
    }
    // 200 days at 10 % have a standard error of 2 %.
    assert!(f64::from(alerted) <= (q + 0.04) * f64::from(days), "{alerted} of {days}");
    assert!(alerted_per_window >= days * 95 / 100, "{alerted_per_window} of {days}");
}
