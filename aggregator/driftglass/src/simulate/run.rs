//! One run: a simulated fleet through the aggregator's decision core, and what became of it.
//!
//! The core is the one the service runs, called as the service calls it, with a store that keeps windows in memory. Only the
//! tolerances are set to none, because the simulated null hypothesis is that nothing changed at all.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::Range;
use std::time::{Duration, Instant};

use driftglass_aggregator::alert::{Alert, Scope};
use driftglass_aggregator::baseline::Tolerances;
use driftglass_aggregator::decision::{Change, Core, CountedWindow, Dependence, History, Settings};
use driftglass_aggregator::ledger::Decide;
use driftglass_protocol::feature::{CATALOGUE, Feature};
use driftglass_protocol::id::{CameraId, DeviceId, Name};
use driftglass_protocol::limit::HISTOGRAM_BYTES;
use driftglass_protocol::sketch::{EncodedHistogram, Histogram};
use driftglass_protocol::summary::{Quality, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};
use serde::Serialize;

use super::fleet::{FRAMES, Fleet, Plan, SITE};

/// Clean windows before the run, from which baselines are learned.
pub(super) const BASELINE: u32 = 60;
/// Length of a window.
const WINDOW: Millis = Millis(60_000);
/// Windows kept per camera.
const KEPT: usize = 64;
/// Number of the epoch that is the run: any one that leaves room before it.
const EPOCH: i64 = 1000;

/// What became of one run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) seed: u64,
    /// Alerts on cameras that did not drift, or not yet.
    pub(super) false_alerts: usize,
    /// Alerts on cameras that drift.
    pub(super) found: usize,
    /// Cameras that drift.
    pub(super) drifting: usize,
    /// Share of the alerts that are false; 0 where there are none.
    pub(super) false_discovery_proportion: f64,
    /// Alerts on whole sites. They are no alerts on cameras and count in none of the above.
    pub(super) site_alerts: usize,
    /// Of these, those at sites without a shock so far; and every alert on a model or the fleet, which never change here.
    pub(super) false_group_alerts: usize,
    /// Windows from the drift to its alert, one per camera found.
    pub(super) delays: Vec<u32>,
    /// Camera windows decided upon, baseline included.
    pub(super) camera_windows: u64,
    /// Time the core took for them.
    #[serde(skip)]
    pub(super) core: Duration,
}

/// The linear features of the catalogue, which the simulated ones stand for.
pub(super) fn features() -> Vec<Feature> {
    CATALOGUE.iter().filter(|spec| !spec.axis.is_circular()).map(|spec| spec.feature).collect()
}

/// Runs a fleet. `progress` is told after every window, and how many there are.
pub(super) fn run(plan: Plan, q: f64, dependence: Dependence, seed: u64, progress: impl Fn(u32, u32)) -> Outcome {
    let mut fleet = Fleet::new(plan, seed);
    let epoch = Millis(plan.windows.saturating_mul(WINDOW.0));
    let mut core = Core::new(Settings {
        q,
        dependence,
        budget: None,
        epoch,
        learning: Millis(BASELINE * WINDOW.0),
        tolerances: Tolerances::NONE,
    });
    let features = features();
    let cameras: Vec<CameraId> = (0..plan.cameras).filter_map(name).collect();
    let mut store = Recorded { windows: vec![VecDeque::with_capacity(KEPT); cameras.len()], ids: cameras.clone() };
    let mut outcome = Outcome {
        seed,
        false_alerts: 0,
        found: 0,
        drifting: fleet.drifting(),
        false_discovery_proportion: 0.0,
        site_alerts: 0,
        false_group_alerts: 0,
        delays: Vec::new(),
        camera_windows: 0,
        core: Duration::ZERO,
    };
    let mut alerted = vec![false; cameras.len()];
    for step in 0..BASELINE + plan.windows {
        let window = step.checked_sub(BASELINE);
        let start = EPOCH * i64::from(epoch.0) + (i64::from(step) - i64::from(BASELINE)) * i64::from(WINDOW.0);
        for (index, camera) in cameras.iter().enumerate() {
            let histograms = (0..plan.features)
                .map(|feature| {
                    let mut histogram = Histogram::new();
                    fleet.count(index, feature, window, |bin| histogram.add(bin));
                    (features[feature], histogram)
                })
                .collect();
            let counted = CountedWindow {
                window: Window { start: UnixMillis(start), length: WINDOW, merged: 1 },
                quality: Quality { frames: FRAMES, ..Quality::default() },
                model: None,
                histograms,
            };
            let began = now();
            let Ok(changes) = core.observe(camera, &counted, &store);
            outcome.core += began.elapsed();
            outcome.camera_windows += 1;
            store.keep(index, &counted);
            for change in changes {
                let (Change::Alert(alert), Some(window)) = (change, window) else { continue };
                let Some(index) = cameras.iter().position(|camera| *camera == alert.camera) else { continue };
                match alert.scope {
                    Scope::Camera if !std::mem::replace(&mut alerted[index], true) => {
                        match fleet.drift(index).filter(|drift| drift.at <= window) {
                            Some(drift) => outcome.delays.push(window - drift.at),
                            None => outcome.false_alerts += 1,
                        }
                    }
                    Scope::Site if is_new(&alert) => {
                        outcome.site_alerts += 1;
                        outcome.false_group_alerts += usize::from(!fleet.shocked(index, window));
                    }
                    Scope::Model | Scope::Fleet if is_new(&alert) => outcome.false_group_alerts += 1,
                    _ => {}
                }
            }
        }
        progress(step + 1, BASELINE + plan.windows);
    }
    outcome.found = outcome.delays.len();
    let alerts = outcome.false_alerts + outcome.found;
    if alerts > 0 {
        #[expect(clippy::cast_precision_loss, reason = "counts of alerts")]
        let share = outcome.false_alerts as f64 / alerts as f64;
        outcome.false_discovery_proportion = share;
    }
    outcome
}

/// Whether an alert was raised just now, and not changed.
const fn is_new(alert: &Alert) -> bool {
    alert.history.len() == 1
}

#[expect(clippy::disallowed_methods, reason = "how fast the core is, is part of the report and of nothing else")]
fn now() -> Instant {
    Instant::now()
}

fn name(camera: usize) -> Option<CameraId> {
    let site = Name::parse(&format!("site-{:05}", camera / SITE)).ok()?;
    let device = Name::parse(&format!("gw-{:02}", camera % SITE)).ok()?;
    Some(CameraId { device: DeviceId { site, device }, camera: Name::parse("camera").ok()? })
}

/// A window as the store keeps it: start, and encoded counts per feature.
type Kept = (i64, Vec<(Feature, Vec<u8>)>);

/// The newest windows of every camera.
struct Recorded {
    ids: Vec<CameraId>,
    windows: Vec<VecDeque<Kept>>,
}

impl Recorded {
    fn keep(&mut self, camera: usize, window: &CountedWindow) {
        let encoded = window
            .histograms
            .iter()
            .map(|(feature, histogram)| {
                let mut bytes = [0; HISTOGRAM_BYTES];
                let length = histogram.encode(&mut bytes);
                (*feature, bytes[..length].to_vec())
            })
            .collect();
        let windows = &mut self.windows[camera];
        if windows.len() == KEPT {
            windows.pop_front();
        }
        windows.push_back((window.window.start.0, encoded));
    }
}

impl History for Recorded {
    type Error = Infallible;

    fn windows(
        &self,
        camera: &CameraId,
        span: Range<UnixMillis>,
        limit: usize,
    ) -> Result<Vec<CountedWindow>, Infallible> {
        let Ok(index) = self.ids.binary_search(camera) else { return Ok(Vec::new()) };
        let kept = self.windows[index].iter().filter(|(start, _)| span.contains(&UnixMillis(*start)));
        let count = kept.clone().count();
        Ok(kept
            .skip(count.saturating_sub(limit))
            .map(|(start, encoded)| CountedWindow {
                window: Window { start: UnixMillis(*start), length: WINDOW, merged: 1 },
                quality: Quality { frames: FRAMES, ..Quality::default() },
                model: None,
                histograms: encoded
                    .iter()
                    .map(|(feature, bytes)| {
                        let mut histogram = Histogram::new();
                        if let Ok(parsed) = EncodedHistogram::parse(bytes) {
                            histogram.merge(parsed);
                        }
                        (*feature, histogram)
                    })
                    .collect(),
            })
            .collect())
    }
}
