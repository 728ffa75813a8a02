//! How often a camera's picture is exactly the one before, and how unlikely it is that it is so often.
//!
//! A sensor never gives the same picture twice, so a repeated picture says more than any distribution of changes could: a camera, an
//! encoder or a recorder has stopped. Some streams repeat a picture now and then all the same (a stutter, a rate that does not
//! divide), and those that do tend to do it in runs. So the number of repeats in a window is held against the baseline's share by
//! the binomial distribution, with windows counted smaller by as much as their numbers scatter more than binomially (Pearson's
//! dispersion), and at least by half.

use driftglass_protocol::feature::Feature;
use serde::{Deserialize, Serialize};

use super::rarity::many;
use crate::decision::CountedWindow;

/// Least by which frames are counted fewer: a repeat is likelier after a repeat.
const LEAST_EFFECT: f64 = 2.0;

/// What is normal for one camera.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repeats {
    /// Share of the frames that repeat the one before, with one repeat and one change added (Laplace).
    share: f64,
    /// Frames per independent frame.
    effect: f64,
}

/// Frames that repeat the one before, and all that have one before.
fn count(window: &CountedWindow) -> Option<(u64, u64)> {
    let changes = window.histogram(Feature::ChangeFraction)?;
    let [repeats, ..] = changes.counts();
    Some((u64::from(*repeats), changes.total())).filter(|(_, all)| *all > 0)
}

impl Repeats {
    /// From clean windows; `None` where none has frames with one before them.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
    pub fn learn(windows: &[&CountedWindow]) -> Option<Self> {
        let counts: Vec<(u64, u64)> = windows.iter().filter_map(|window| count(window)).collect();
        let (repeats, all) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        if all == 0 {
            return None;
        }
        let share = repeats as f64 / all as f64;
        let scatter: f64 =
            counts.iter().map(|&(repeats, all)| all as f64 * (repeats as f64 / all as f64 - share).powi(2)).sum();
        let expected = share * (1.0 - share) * (counts.len().max(2) - 1) as f64;
        let dispersion = if expected > 0.0 { scatter / expected } else { 1.0 };
        Some(Self { share: (repeats + 1) as f64 / (all + 2) as f64, effect: dispersion.max(LEAST_EFFECT) })
    }

    /// The standard normal deviate of so many repeats, or more (mid-p); `None` for a window that has nothing to count.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
    pub fn deviate(&self, window: &CountedWindow) -> Option<f32> {
        let (repeats, all) = count(window)?;
        Some(many(repeats as f64 / self.effect, all as f64 / self.effect, self.share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftglass_protocol::sketch::Histogram;
    use driftglass_protocol::summary::{Quality, Window};
    use driftglass_protocol::unit::{Millis, UnixMillis};

    fn window(repeats: u32, all: u32) -> CountedWindow {
        let mut histogram = Histogram::new();
        (0..all).for_each(|frame| histogram.add(if frame < repeats { 0 } else { 40 }));
        CountedWindow {
            window: Window { start: UnixMillis(0), length: Millis(60_000), merged: 1 },
            quality: Quality { frames: all, ..Quality::default() },
            model: None,
            histograms: vec![(Feature::ChangeFraction, histogram)],
        }
    }

    fn learned(windows: &[CountedWindow]) -> Repeats {
        Repeats::learn(&windows.iter().collect::<Vec<_>>()).expect("frames")
    }

    #[test]
    fn three_repeats_in_four_are_beyond_doubt_where_there_never_was_one() {
        let normal = learned(&vec![window(0, 60); 100]);
        assert!(normal.deviate(&window(45, 60)).expect("frames") > 10.0);
        assert!(normal.deviate(&window(0, 60)).expect("frames").abs() < 0.1);
        assert!(normal.deviate(&window(2, 3)).expect("frames") < 4.0, "a hiccup in a short window is little");
    }

    #[test]
    fn a_stream_that_stutters_in_runs_may_go_on_doing_so() {
        let stutters: Vec<CountedWindow> = (0..100).map(|w| window(if w % 10 == 0 { 30 } else { 0 }, 60)).collect();
        let normal = learned(&stutters);
        assert!(normal.deviate(&window(30, 60)).expect("frames") < 3.0);
        assert!(normal.effect > 10.0);
    }

    #[test]
    fn nothing_to_count_says_nothing() {
        assert!(Repeats::learn(&[]).is_none());
        let normal = learned(&vec![window(0, 60); 40]);
        assert_eq!(normal.deviate(&window(0, 0)), None);
    }
}
