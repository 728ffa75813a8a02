//! The decision on real footage: which faults of which cameras are found, and that nothing is found where nothing is wrong.
//!
//! Every folder with a `meta.json` below `DRIFTGLASS_FOOTAGE` (relative paths start at the project's root; by default
//! `../shared/footage` from there) is a camera. Its pictures go through the agent's decoder, features and windows and the
//! aggregator's decision core, as in service; only time is compressed, so that half a clip is worth [`run::LEARNING`] windows. Put
//! other footage there and the same tests judge it. A missing folder is a failure, never a skip.
//!
//! What the table cannot show: half a clip of fifteen to eighty seconds is no day. The baseline has not seen what comes by once an
//! hour, so less is found, and later, than of a camera that was watched for a day. Clips of fewer than [`ENOUGH_FRAMES`] frames are
//! printed and not judged.
//!
//! The first 200 frames of a clip are one camera, the same backwards another, and the last 200 a third: other things are learned, and other
//! things come later. The end of `overhead-cars` backwards is not judged: the camera stands ten pixels beside where it was, and its clean half is alerted for that.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test program: a surprise must end it, and what it found is to be read"
)]

mod cold_start;
#[path = "../recorded.rs"]
mod recorded;
mod run;
mod scene;

use std::collections::BTreeMap;
use std::sync::Mutex;

use driftglass_agent::fault::{Injector, Kind, Severity, encode_jpeg};
use driftglass_aggregator::alert::{Alert, Cause};
use driftglass_protocol::unit::{Millis, UnixMillis};
use scene::Scene;

const MINUTE: Millis = Millis(60_000);
const DAY: u32 = 24 * 60 * 60_000;
const LEARNING_DAYS: Millis = Millis(3 * DAY);
/// Fewest frames a clip must have for its verdict to count.
const ENOUGH_FRAMES: usize = 120;
/// Share of the pairs of camera and fault that must be found, in percent: of cameras watched for a minute, and by day and night, where
/// the whole day is the normal and a colour cast or dirt is no more than what the lamps do every evening.
const FOUND: usize = 95;
const FOUND_BY_DAY_AND_NIGHT: usize = 80;

/// What became of one camera with one fault.
struct Verdict {
    alert: Option<Alert>,
    /// Windows before the fault.
    before: i64,
    /// Windows with it.
    windows: usize,
}

impl Verdict {
    /// Windows from the fault to the alert.
    fn delay(&self) -> i64 {
        self.alert.as_ref().map_or(0, |alert| alert.raised_at.0 / i64::from(MINUTE.0) - self.before)
    }
}

/// A clip, learned on its first half, with a fault in its second. `None` is no fault.
fn watch(scene: &Scene, pictures: &[image::RgbImage], kind: Option<Kind>) -> Verdict {
    let half = pictures.len() / 2;
    let per_window = (half / run::LEARNING).max(1);
    let spacing = i64::from(MINUTE.0) / i64::try_from(per_window).expect("small");
    let frames = (0..).map(|index| UnixMillis(index * spacing)).zip(shown(pictures, half, kind));
    let windows = (pictures.len() - half) / per_window;
    let before = i64::try_from(half / per_window).expect("small");
    let learning = Millis(MINUTE.0 * u32::try_from(half / per_window).expect("small"));
    let alerts = run::decide(frames, MINUTE, learning, Millis(DAY));
    assert!(alerts.len() <= 1, "{}: one camera, one alert", scene.name);
    Verdict { alert: alerts.into_iter().next(), before, windows }
}

/// What the camera shows, with a fault of severity 3 from a picture on.
fn shown(pictures: &[image::RgbImage], begins: usize, kind: Option<Kind>) -> impl Iterator<Item = Vec<u8>> {
    let mut injector = kind.map(|kind| Injector::new(kind, Severity::new(3.0).expect("in range"), 11));
    pictures.iter().enumerate().map(move |(index, picture)| {
        let jpeg = match &mut injector {
            Some(injector) if index >= begins => {
                let shown = injector.apply((index - begins) as u64, picture);
                encode_jpeg(&shown, injector.jpeg_quality(90))
            }
            // One that moves looked elsewhere before.
            Some(injector) => encode_jpeg(&injector.clear_view(picture), 90),
            None => encode_jpeg(picture, 90),
        };
        jpeg.expect("encodes")
    })
}

/// All clips with all faults.
struct Matrix {
    found: usize,
    pairs: usize,
    /// Clips whose clean halves were alerted.
    false_alerts: Vec<String>,
    /// What frozen cameras were called.
    frozen: Vec<Cause>,
}

impl Matrix {
    /// Watches every clip, and prints when what was alerted.
    fn of(scenes: &[Scene]) -> Self {
        let kinds: Vec<Option<Kind>> = std::iter::once(None).chain(Kind::ALL.map(Some)).collect();
        let verdicts: Mutex<BTreeMap<(usize, usize), Verdict>> = Mutex::default();
        let jobs = Mutex::new(0..scenes.len());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some(index) = next(&jobs) {
                        let scene = &scenes[index];
                        let pictures = scene.pictures();
                        for (column, kind) in kinds.iter().enumerate() {
                            let verdict = watch(scene, &pictures, *kind);
                            verdicts.lock().expect("no panic elsewhere").insert((index, column), verdict);
                        }
                    }
                });
            }
        });
        let verdicts = verdicts.into_inner().expect("no panic");

        let mut matrix = Self { found: 0, pairs: 0, false_alerts: Vec::new(), frozen: Vec::new() };
        eprintln!(
            "{:>20}  {}",
            "windows to the alert",
            scenes.iter().map(|s| format!("{:>22}", s.name)).collect::<String>()
        );
        for (column, kind) in kinds.iter().enumerate() {
            let mut line = format!("{:>20}  ", kind.map_or("clean", Kind::name));
            for (index, scene) in scenes.iter().enumerate() {
                let verdict = &verdicts[&(index, column)];
                let text = verdict.alert.as_ref().map_or_else(
                    || format!("- of {}", verdict.windows),
                    |alert| format!("{} {}", verdict.delay(), alert.cause.name()),
                );
                line += &format!("{text:>22}");
                if scene.frames.len() >= ENOUGH_FRAMES {
                    matrix.count(scene, *kind, verdict);
                }
            }
            eprintln!("{line}");
        }
        eprintln!("found {} of {} pairs of clips of at least {ENOUGH_FRAMES} frames", matrix.found, matrix.pairs);
        matrix
    }

    fn count(&mut self, scene: &Scene, kind: Option<Kind>, verdict: &Verdict) {
        if kind.is_none() {
            self.false_alerts.extend(verdict.alert.iter().map(|_| scene.name.clone()));
            return;
        }
        self.pairs += 1;
        self.found += usize::from(verdict.alert.is_some());
        if kind == Some(Kind::Frozen) {
            self.frozen.extend(verdict.alert.as_ref().map(|alert| alert.cause));
        }
    }

    fn hold(&self) {
        assert!(self.false_alerts.is_empty(), "alerts on clean halves: {:?}", self.false_alerts);
        assert!(self.frozen.iter().all(|cause| *cause == Cause::Frozen), "{:?}", self.frozen);
        assert!(self.found * 100 >= self.pairs * FOUND, "found {} of {}", self.found, self.pairs);
    }
}

fn clips() -> impl Iterator<Item = Scene> {
    scene::all().into_iter().filter(|scene| scene.times.is_none())
}

#[test]
fn faults_of_severity_three_are_found_and_clean_halves_are_quiet() {
    Matrix::of(&clips().map(Scene::beginning).collect::<Vec<_>>()).hold();
}

#[test]
fn so_they_are_in_the_same_clips_backwards() {
    Matrix::of(&clips().map(Scene::beginning).map(Scene::backwards).collect::<Vec<_>>()).hold();
}

#[test]
fn so_they_are_at_the_ends_of_the_clips() {
    Matrix::of(&clips().filter_map(Scene::end).collect::<Vec<_>>()).hold();
}

fn next(jobs: &Mutex<std::ops::Range<usize>>) -> Option<usize> {
    jobs.lock().expect("no panic elsewhere").next()
}

#[test]
fn days_and_nights_of_a_site_raise_nothing_after_the_learning_days() {
    for (scene, times) in of_days() {
        let frames = scene.frames.iter().zip(times).map(|(path, time)| (time, std::fs::read(path).expect("reads")));
        let alerts = run::decide(frames, MINUTE, LEARNING_DAYS, Millis(DAY));
        eprintln!("{}: {} pictures, {} alerts", scene.name, scene.frames.len(), alerts.len());
        assert!(alerts.is_empty(), "{}: {:?}", scene.name, alerts.first());
    }
}

/// A picture every half an hour is a window; the fault comes after three fifths of them.
#[test]
fn most_faults_of_a_site_of_days_and_nights_are_found() {
    for (scene, times) in of_days() {
        let pictures = scene.pictures();
        let begins = pictures.len() * 3 / 5;
        let jobs = Mutex::new(0..Kind::ALL.len());
        let missed = Mutex::new(Vec::new());
        let watch = |kind: Kind| {
            let frames = times.iter().copied().zip(shown(&pictures, begins, Some(kind)));
            let alerts = run::decide(frames, MINUTE, LEARNING_DAYS, Millis(DAY));
            let alert = alerts.first().filter(|alert| alert.raised_at >= times[begins]);
            let said = alert.map(|alert| {
                let hours = (alert.raised_at.0 - times[begins].0) / 3_600_000;
                format!("{} after {hours} hours", alert.cause.name())
            });
            eprintln!("{}, {}: {}", scene.name, kind.name(), said.as_deref().unwrap_or("-"));
            if said.is_none() {
                missed.lock().expect("no panic elsewhere").push(kind);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some(job) = next(&jobs) {
                        watch(Kind::ALL[job]);
                    }
                });
            }
        });
        let missed = missed.into_inner().expect("no panic elsewhere");
        assert!(missed.len() * 100 <= Kind::ALL.len() * (100 - FOUND_BY_DAY_AND_NIGHT), "{}: {missed:?}", scene.name);
    }
}

/// Clips of several days, and when each picture was taken.
fn of_days() -> impl Iterator<Item = (Scene, Vec<UnixMillis>)> {
    scene::all().into_iter().filter_map(|scene| scene.times.clone().map(|times| (scene, times)))
}
