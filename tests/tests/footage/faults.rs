//! Every fault has a feature that shows it, and the name it should have.

use std::collections::BTreeMap;
use std::sync::Mutex;

use driftglass_agent::fault::{Kind, Severity};
use driftglass_aggregator::alert::Cause;
use driftglass_aggregator::batch::compare_batches;

use crate::camera::{Camera, Measured, REFERENCE, cameras, reference, values};
use crate::separation::{Separation, Sequence, separation};

/// Share of faults found that must have one of their names.
const NAMED_PERCENT: usize = 80;
const LEVEL: f64 = 0.05;

/// What one fault did to one camera.
struct Pair {
    camera: String,
    kind: Kind,
    separation: Separation,
    /// What the comparison of both halves calls it; `None` where it saw nothing.
    named: Option<Cause>,
    /// The same where there is no fault.
    clean: Option<Cause>,
}

impl Pair {
    fn of(camera: &Camera, measured: &Measured<'_>) -> Self {
        let few = reference(&measured.normal[..REFERENCE.min(measured.normal.len())]);
        let [normal, clean, faulted] =
            [measured.normal, measured.clean, &measured.faulted].map(|frames| values(&few, frames));
        let [before, after] = camera.parts();
        let learned = REFERENCE.min(normal.len());
        let sequence = |values, parts| Sequence { values, parts };
        let clean = [sequence(&normal[learned..], &before[learned..]), sequence(&clean, &after)];
        let separation = separation(&clean, sequence(&faulted, &after));
        let all = reference(measured.normal);
        let [normal, clean, faulted] =
            [measured.normal, measured.clean, &measured.faulted].map(|frames| values(&all, frames));
        let cause = |current| {
            let report = compare_batches(&normal, current, LEVEL).expect("enough frames");
            report.diagnosis.map(|diagnosis| diagnosis.cause)
        };
        let (named, clean) = (cause(&faulted), cause(&clean));
        Self { camera: camera.name.clone(), kind: measured.kind, separation, named, clean }
    }

    /// How well a feature tells the fault: frame by frame, but by windows for a camera that freezes in some frames only, the
    /// others being as live as ever.
    fn auc(&self) -> f64 {
        if self.kind == Kind::Frozen { self.separation.windows.auc } else { self.separation.frames.auc }
    }

    fn falls_short(&self) -> bool {
        self.auc() < if self.kind == Kind::Turned { 0.90 } else { 0.95 }
    }

    fn is_named_rightly(&self) -> bool {
        self.named.is_some_and(|cause| names(self.kind).contains(&cause))
    }
}

/// What a fault may be called: an object that hides a part of the view covers it or changes the scene.
const fn names(kind: Kind) -> &'static [Cause] {
    match kind {
        Kind::Defocus => &[Cause::Defocused],
        Kind::Covered => &[Cause::Covered],
        Kind::Occluded => &[Cause::Covered, Cause::SceneChange],
        Kind::Dark => &[Cause::Dark],
        Kind::Frozen => &[Cause::Frozen],
        Kind::Moved | Kind::Turned | Kind::Zoomed => &[Cause::Moved],
        Kind::Noise => &[Cause::Noise],
        Kind::Fogged => &[Cause::Fogged],
        Kind::Dirty => &[Cause::Dirty],
        Kind::Overexposed => &[Cause::Overexposed],
        Kind::ColourCast => &[Cause::ColourCast],
        Kind::Infrared => &[Cause::Infrared],
        Kind::Compression => &[Cause::Compression],
    }
}

fn pairs(cameras: &[Camera]) -> Vec<Pair> {
    let (next, pairs) = (Mutex::new(cameras.iter()), Mutex::new(Vec::new()));
    let work = || {
        while let Some(camera) = { next.lock().unwrap().next() } {
            camera.with_every_fault(Severity::MARKED, |measured| {
                pairs.lock().unwrap().push(Pair::of(camera, &measured));
            });
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let mut pairs = pairs.into_inner().unwrap();
    pairs.sort_by(|a, b| (a.kind, &a.camera).cmp(&(b.kind, &b.camera)));
    pairs
}

fn print_separation(cameras: &[Camera], pairs: &[Pair]) {
    println!("\nbest feature of each fault at severity 3: AUC by frame, AUC by windows of 12 frames, feature");
    for camera in cameras {
        println!("{}", camera.name);
        for pair in pairs.iter().filter(|pair| pair.camera == camera.name) {
            let Separation { frames, windows } = pair.separation;
            let short = if pair.falls_short() { "  FALLS SHORT" } else { "" };
            let name = frames.feature.name();
            println!("  {:12} {:.3} {:.3}  {name}{short}", pair.kind.name(), frames.auc, windows.auc);
        }
    }
}

fn print_names(pairs: &[Pair]) {
    println!(
        "\nwhat each fault is called, and by how many cameras; - is nothing found, * is a name it should not have"
    );
    let mut table: BTreeMap<Kind, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for pair in pairs {
        let name = pair.named.map_or("-", Cause::name);
        table.entry(pair.kind).or_default().entry(name).or_default().push(&pair.camera);
    }
    for (kind, named) in &table {
        let columns: Vec<String> = named
            .iter()
            .map(|(name, cameras)| {
                let right = names(*kind).iter().any(|cause| cause.name() == *name);
                if right {
                    format!("{name} {}", cameras.len())
                } else {
                    format!("*{name} {} ({})", cameras.len(), cameras.join(" "))
                }
            })
            .collect();
        println!("  {:12} {}", kind.name(), columns.join(", "));
    }
}

#[test]
fn every_fault_at_severity_3_has_a_feature_that_tells_it_and_most_have_their_name() {
    let cameras = cameras();
    let pairs = pairs(&cameras);
    assert_eq!(pairs.len(), cameras.len() * Kind::ALL.len());
    print_separation(&cameras, &pairs);
    print_names(&pairs);
    let alarmed: Vec<String> = pairs
        .iter()
        .filter_map(|pair| Some(format!("{} as {} ({})", pair.camera, pair.clean?.name(), pair.kind)))
        .collect();
    println!("\nclean halves that are called a fault: {alarmed:?}");

    let short: Vec<String> = pairs
        .iter()
        .filter(|pair| pair.falls_short())
        .map(|pair| format!("{} at {}: {:.3}", pair.kind, pair.camera, pair.auc()))
        .collect();
    println!("{} of {} pairs fall short of AUC 0.95 (turned: 0.90): {short:?}", short.len(), pairs.len());
    let found = pairs.iter().filter(|pair| pair.named.is_some()).count();
    let named = pairs.iter().filter(|pair| pair.is_named_rightly()).count();
    println!("{found} of {} pairs found by the comparison, {named} named rightly", pairs.len());
    assert!(short.is_empty(), "{short:?}");
    assert!(named * 100 >= pairs.len() * NAMED_PERCENT, "{named} of {}", pairs.len());
}
