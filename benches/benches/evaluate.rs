//! Windows to decisions, in memory: what the core takes for one window of a hundred thousand cameras, on one core.
//!
//! Ten thousand cameras have learned, more than a processor's caches hold; further windows of each are handed in, and only
//! [`Core::observe`] is timed: reading a window against its baseline, peers, bets, discoveries over all cameras, and the state to be kept.
//! Nothing is drifting, which is the usual case. The first of the windows begins an epoch, with calibrations of its own. Then the same
//! with sites of a thousand cameras, and last the statistics alone, without reading windows and keeping states.
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

const CAMERAS: u32 = 10_000;
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
    let test = arguments.iter().any(|argument| argument == "--test");
    let (cameras, turns) = if test { (CAMERAS / 10, 1) } else { (CAMERAS, TIMED) };
    for at_site in [FEW, MANY] {
        report(&format!("windows to decisions, {at_site} cameras a site"), decisions(cameras, at_site, turns));
    }
    report("readings to evidence", evidence(cameras, turns));
}

/// `each`: what a window of a camera took.
fn report(what: &str, each: Duration) {
    let each = each.as_secs_f64();
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

fn decisions(cameras: u32, at_site: u64, turns: i64) -> Duration {
    let learning = i64::try_from(MIN_WINDOWS).expect("small");
    let mut core = Core::new(Settings {
        q: 0.05,
        dependence: Dependence::Positive,
        budget: None,
        epoch: Millis(86_400_000),
        learning: Millis(1),
        tolerances: Tolerances::CATALOGUE,
    });
    let mut ids: Vec<(CameraId, Numbers)> = (0..u64::from(cameras))
        .map(|number| {
            let text = format!("site-{}/gateway/camera-{number}", number / at_site);
            (text.parse().expect("a camera id"), Numbers::new(number))
        })
        .collect();
    for (id, numbers) in &mut ids {
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
        for (id, numbers) in &mut ids {
            // As in service, where a record is counted just before it is decided on.
            let window = window(numbers, minute);
            took += time(1, || {
                let Ok(changes) = core.observe(id, &window, &Learned(&[]));
                changes
            });
        }
    }
    each(took, ids.len(), turns)
}

fn each(took: Duration, cameras: usize, turns: i64) -> Duration {
    took.div_f64(cameras as f64 * turns as f64)
}

fn evidence(cameras: u32, turns: i64) -> Duration {
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
    let mut fleet = vec![CameraEvidence::new(0, 1440, streams, 4.0); cameras as usize];
    let mut took = Duration::ZERO;
    let at_site = usize::try_from(FEW).expect("small");
    for minute in 0..turns {
        let samples: Vec<Vec<Sample>> = fleet.iter().map(|_| baseline.read(&window(numbers, minute)).samples).collect();
        let mut next = fleet.chunks_mut(at_site).zip(samples.chunks(at_site));
        took += time(u64::from(cameras) / FEW, || {
            let (site, samples) = next.next().expect("as many");
            let mut members: Vec<Member<'_>> = site
                .iter_mut()
                .zip(samples)
                .map(|(evidence, samples)| Member { evidence, samples, repeats: None, extremes: None })
                .collect();
            site::observe(&mut members, u32::try_from(minute).expect("small"), at_site);
        });
    }
    each(took, fleet.len(), turns)
}
