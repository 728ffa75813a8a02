//! Effect sizes of windows whose level wanders, against the baseline learned from windows before them.

use driftglass_protocol::feature::Feature;
use driftglass_protocol::sketch::Histogram;
use driftglass_protocol::summary::{Quality, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::{Baseline, Tolerances};
use crate::decision::CountedWindow;
use crate::evidence::effect_size::EffectSizes;

const FRAMES: u32 = 60;

/// Windows of a camera whose luma has noise of 6 levels, a window's own level of 3 and a shift.
struct Wandering {
    random: ChaCha8Rng,
    minute: i64,
}

impl Wandering {
    fn window(&mut self, shift: f64) -> CountedWindow {
        let level = 120.0 + shift + 3.0 * self.random.sample::<f64, _>(StandardNormal);
        let mut histogram = Histogram::new();
        for _ in 0..FRAMES {
            let value = (level + 6.0 * self.random.sample::<f64, _>(StandardNormal)).clamp(0.0, 255.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the bins")]
            histogram.add(value as u8);
        }
        self.minute += 1;
        CountedWindow {
            window: Window { start: UnixMillis(self.minute * 60_000), length: Millis(60_000), merged: 1 },
            quality: Quality { frames: FRAMES, ..Quality::default() },
            model: None,
            histograms: vec![(Feature::LumaMean, histogram)],
        }
    }
}

fn sizes(baseline: &Baseline, window: &CountedWindow) -> EffectSizes {
    let normal = baseline.feature(Feature::LumaMean).expect("learned");
    let counts = window.histogram(Feature::LumaMean).expect("counted");
    normal.effect_sizes(counts, window.window.merged).expect("measured")
}

#[test]
fn what_wandering_windows_show_by_chance_is_taken_off_and_a_shift_is_what_remains() {
    let (mut raw, mut by_chance, mut shifted) = ([0.0; 3], [0.0; 3], 0.0);
    let (runs, windows) = (6, 40);
    for seed in 0..runs {
        let mut camera = Wandering { random: ChaCha8Rng::seed_from_u64(seed), minute: 0 };
        let learned: Vec<CountedWindow> = (0..60).map(|_| camera.window(0.0)).collect();
        let baseline = Baseline::learn(&learned, 30, &Tolerances::CATALOGUE).expect("enough windows");
        let part = 1.0 / (runs * windows) as f64;
        for _ in 0..windows {
            let sizes = sizes(&baseline, &camera.window(0.0));
            for (index, measure) in [sizes.psi, sizes.jensen_shannon, sizes.wasserstein].into_iter().enumerate() {
                raw[index] += part * measure.raw;
                by_chance[index] += part * measure.by_chance;
            }
            let far = CountedWindow::sum((0..4).map(|_| camera.window(25.0))).expect("four windows");
            shifted += part * self::sizes(&baseline, &far).wasserstein.beyond_chance();
        }
    }
    for (what, (raw, by_chance)) in ["psi", "js", "w1"].iter().zip(raw.into_iter().zip(by_chance)) {
        // The design effect is that of the worst octile, so a little more than the mean is taken off.
        assert!((0.4..1.15).contains(&(raw / by_chance)), "{what}: {raw} seen, {by_chance} said");
    }
    assert!(raw[0] > 0.1, "plain PSI alone would call these windows changed: {raw:?}");
    assert!((23.0..26.0).contains(&shifted), "{shifted} levels for a shift of 25");
}
