//! Windows to decisions, in memory: what the core takes for one window of a hundred thousand cameras, on one core.
//!
//! A thousand cameras of a hundred sites have learned; further windows of each are handed in, and only [`Core::observe`] is timed: reading
//! a window against its baseline, peers, bets, discoveries over all cameras, and the state to be kept. Nothing is drifting, which is
//! the usual case. The first of the windows begins an epoch, with calibrations of its own. Then the same with a single site of a thousand,
//! and last the statistics alone, without reading windows and keeping states.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and one that cannot run stops and says why"
)]

use std::convert::Infallible;
use std::ops::Range;
use std::time::Duration;

use driftglass_aggregator::baseline::{Baseline, MIN_WINDOWS, Sample, Tolerances};
use driftglass_aggregator::decision::{Change, Core, CountedWindow, Dependence, History, Settings};
use driftglass_aggregator::evidence::camera::CameraEvidence;
use driftglass_aggregator::evidence::site::{self, Member};
use driftglass_aggregator::evidence::stream::Stream;
use driftglass_aggregator::evidence::whitening::{Calibration, Pool};
use driftglass_aggregator::ledger::Decide;
use driftglass_benches::material::{FRAMES, MINUTE, Numbers};
use driftglass_benches::turns::time;
use driftglass_protocol::feature::{CATALOGUE, Feature};
use driftglass_protocol::id::CameraId;
use driftglass_protocol::sketch::Histogram;
use driftglass_protocol::summary::{Quality, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};

const CAMERAS: u32 = 1_000;
/// Cameras at a site.
const FEW: u64 = 10;
const MANY: u64 = 1_000;
const FEATURES: usize = 14;
/// Cameras of the goal, and the time they may take.
const GOAL_CAMERAS: f64 = 100_000.0;
const GOAL_SECONDS: f64 = 1.0;
/// Windows that are timed; among them are ends of blocks of every length but the longest.
const TIMED: i64 = 40;

fn main() {
    // Criterion's arguments: a filter, and `--test` where it is only to be seen that it runs.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    if filter.is_some_and(|filter| !"evaluate".contains(filter.as_str())) {
        return;
    }
    let turns = if arguments.iter().any(|argument| argument == "--test") { 1 } else { TIMED };
    report("windows to decisions, 10 cameras a site", decisions(FEW, turns), turns);
    report("windows to decisions, 1000 cameras a site", decisions(MANY, turns), turns);
    report("readings to evidence", evidence(turns), turns);
}

fn report(what: &str, took: Duration, turns: i64) {
    let each = took.as_secs_f64() / (f64::from(CAMERAS) * turns as f64);
    let whole = each * GOAL_CAMERAS;
    println!(
        "{what}: {:.2} µs for a camera's {FEATURES} features, {:.0} ns each; 100000 cameras {whole:.2} s on one core; goal {GOAL_SECONDS} s, ratio {:.2}",
        each * 1e6,
        each * 1e9 / FEATURES as f64,
        whole / GOAL_SECONDS,
    );
}

/// Nothing has to be looked up while nothing drifts; what is learned from is handed in.
struct Learned<'a>(&'a [CountedWindow]);

impl History for Learned<'_> {
    type Error = Infallible;
    fn windows(&self, _: &CameraId, _: Range<UnixMillis>, _: usize) -> Result<Vec<CountedWindow>, Infallible> {
        Ok(self.0.to_vec())
    }
}

fn features() -> impl Iterator<Item = Feature> {
    CATALOGUE.iter().map(|spec| spec.feature).take(FEATURES)
}

fn window(numbers: &mut Numbers, minute: i64) -> CountedWindow {
    let histograms = features().map(|feature| {
        let mut histogram = Histogram::new();
        for _ in 0..FRAMES {
            histogram.add(numbers.bin());
        }
        (feature, histogram)
    });
    CountedWindow {
        window: Window { start: UnixMillis(minute * i64::from(MINUTE.0)), length: MINUTE, merged: 1 },
        quality: Quality { frames: FRAMES, ..Quality::default() },
        model: None,
        histograms: histograms.collect(),
    }
}

fn decisions(at_site: u64, turns: i64) -> Duration {
    let learning = i64::try_from(MIN_WINDOWS).expect("small");
    let mut core = Core::new(Settings {
        q: 0.05,
        dependence: Dependence::Positive,
        budget: None,
        epoch: Millis(86_400_000),
        learning: Millis(1),
        tolerances: Tolerances::CATALOGUE,
    });
    let mut cameras: Vec<(CameraId, Numbers)> = (0..u64::from(CAMERAS))
        .map(|number| {
            let text = format!("site-{}/gateway/camera-{number}", number / at_site);
            (text.parse().expect("a camera id"), Numbers::new(number))
        })
        .collect();
    for (id, numbers) in &mut cameras {
        let windows: Vec<CountedWindow> = (0..learning).map(|minute| window(numbers, minute)).collect();
        let mut learned = false;
        for (seen, newest) in windows.iter().enumerate() {
            let Ok(changes) = core.observe(id, newest, &Learned(&windows[..seen]));
            learned |= changes.iter().any(|change| matches!(change, Change::Baseline { .. }));
        }
        assert!(learned, "{id} is still learning");
    }
    let mut took = Duration::ZERO;
    for minute in learning..learning + turns {
        for (id, numbers) in &mut cameras {
            // As in service, where a record is counted just before it is decided on.
            let window = window(numbers, minute);
            took += time(1, || {
                let Ok(changes) = core.observe(id, &window, &Learned(&[]));
                changes
            });
        }
    }
    took
}

fn evidence(turns: i64) -> Duration {
    let numbers = &mut Numbers::new(1);
    let windows: Vec<CountedWindow> = (0..60).map(|minute| window(numbers, minute)).collect();
    let baseline = Baseline::learn(&windows, MIN_WINDOWS, &Tolerances::CATALOGUE).expect("enough");
    let streams: Vec<Stream> = baseline
        .features()
        .iter()
        .filter_map(|normal| {
            let mut pool = Pool::default();
            let (shares, levels) = normal.variograms();
            pool.add(shares, levels);
            Some(Stream::new(normal.feature()?.number(), false, Calibration::new(pool.memory(), &normal.own()), None))
        })
        .collect();
    let mut cameras = vec![CameraEvidence::new(0, 1440, streams, 4.0); CAMERAS as usize];
    let mut took = Duration::ZERO;
    let at_site = usize::try_from(FEW).expect("small");
    for minute in 0..turns {
        let samples: Vec<Vec<Sample>> =
            cameras.iter().map(|_| baseline.read(&window(numbers, minute)).samples).collect();
        let mut next = cameras.chunks_mut(at_site).zip(samples.chunks(at_site));
        took += time(u64::from(CAMERAS) / FEW, || {
            let (site, samples) = next.next().expect("as many");
            let mut members: Vec<Member<'_>> = site
                .iter_mut()
                .zip(samples)
                .map(|(evidence, samples)| Member { evidence, samples, repeats: None, extremes: None })
                .collect();
            site::observe(&mut members, u32::try_from(minute).expect("small"), at_site);
        });
    }
    took
}
