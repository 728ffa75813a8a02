//! Records to durable decisions, through the writer with the real core and store, beside bare appends made durable on the same disk.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and one that cannot run stops and says why"
)]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use driftglass_aggregator::baseline::Tolerances;
use driftglass_aggregator::decision::{Core, Dependence, Settings};
use driftglass_aggregator::ledger::Outcome;
use driftglass_aggregator::store::embedded::EmbeddedStore;
use driftglass_aggregator::writer::{self, Progress, Writer};
use driftglass_benches::material::Camera;
use driftglass_benches::turns::{Turns, time};
use driftglass_protocol::id::{CameraId, DeviceId, Name};
use driftglass_protocol::unit::{Millis, UnixMillis};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Devices that submit at the same time.
const SUBMITTERS: usize = 64;
/// Records of each in one iteration.
const RECORDS_EACH: usize = 16;
const RECORDS: u32 = 1024;
const _: () = assert!(RECORDS as usize == SUBMITTERS * RECORDS_EACH, "all records of one iteration");
/// Bytes of an append; a record has about as many.
const RECORD_BYTES: usize = 1_500;
/// Appends with a sync of their own in one turn; they stand for all of its records, for a whole turn of them takes seconds.
const SINGLE_APPENDS: u32 = 32;
/// Windows that every camera has before anything is timed: its baseline is learned, and every further window is compared with it.
const LEARNING_WINDOWS: usize = 48;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(10)
        .configure_from_args();
    let mut lines = Vec::new();
    for in_flight in [1, RECORDS_EACH] {
        lines.extend(bench(&mut criterion, in_flight));
    }
    criterion.final_summary();
    for line in lines {
        println!("{line}");
    }
}

/// A device with one camera.
struct Gateway {
    device: DeviceId,
    camera: Camera,
}

/// A fleet and the writer that it reports to.
struct Fleet {
    gateways: Vec<Gateway>,
    runtime: Runtime,
    writer: Option<Writer>,
    thread: Option<JoinHandle<()>>,
    folder: TempDir,
}

impl Fleet {
    fn start() -> Self {
        let name = |text: &str| Name::parse(text).expect("a name");
        let gateways: Vec<Gateway> = (0..SUBMITTERS as u64)
            .map(|number| Gateway {
                device: DeviceId { site: name("site"), device: name(&format!("gateway-{number}")) },
                camera: Camera::new(name("entrance"), number),
            })
            .collect();
        // Among the build's own files and not in the system's folder for temporary ones, which is memory on many machines.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let store = EmbeddedStore::open(folder.path()).expect("opens");
        let reader = store.reader();
        let settings = Settings {
            q: 0.05,
            epoch: Millis(86_400_000),
            learning: Millis(30 * 60_000),
            tolerances: Tolerances::CATALOGUE,
            budget: None,
            dependence: Dependence::Positive,
        };
        let clock = || UnixMillis(1_800_000_000_000);
        let (writer, thread) =
            Writer::start(store, move || Core::new(settings), clock, writer::Settings::default()).expect("starts");
        let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("starts");
        let mut fleet = Self { gateways, runtime, writer: Some(writer), thread: Some(thread), folder };
        let windows = fleet.records(LEARNING_WINDOWS);
        fleet.submit(windows, RECORDS_EACH);
        for Gateway { device, .. } in &fleet.gateways {
            let camera = CameraId { device: device.clone(), camera: name("entrance") };
            assert!(reader.baseline(&camera).expect("reads").is_some(), "{camera} is still learning");
        }
        fleet
    }

    /// The next records of every device.
    fn records(&mut self, each: usize) -> Vec<(DeviceId, Vec<Vec<u8>>)> {
        self.gateways
            .iter_mut()
            .map(|Gateway { device, camera }| {
                let records = (0..each).map(|_| camera.next_record().expect("fits")).collect();
                (device.clone(), records)
            })
            .collect()
    }

    fn writer(&self) -> &Writer {
        self.writer.as_ref().expect("runs until dropped")
    }

    fn progress(&self) -> Progress {
        *self.writer().progress().borrow()
    }

    /// Every device submits its records, `in_flight` of them before it waits for the answers. Returns when all are durable.
    fn submit(&self, records: Vec<(DeviceId, Vec<Vec<u8>>)>, in_flight: usize) {
        self.runtime.block_on(async {
            let tasks: Vec<_> = records
                .into_iter()
                .map(|(device, records)| {
                    let writer = self.writer().clone();
                    tokio::spawn(deliver(writer, device, records, in_flight))
                })
                .collect();
            for task in tasks {
                task.await.expect("delivers");
            }
        });
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // The thread ends with the last handle, and must before its folder goes.
        drop(self.writer.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the writer ends in order");
        }
    }
}

async fn deliver(writer: Writer, device: DeviceId, records: Vec<Vec<u8>>, in_flight: usize) {
    let mut records = records.into_iter();
    loop {
        let mut tickets = Vec::with_capacity(in_flight);
        for record in records.by_ref().take(in_flight) {
            tickets.push(writer.enqueue(device.clone(), record).await.expect("the writer lives"));
        }
        if tickets.is_empty() {
            return;
        }
        for ticket in tickets {
            let outcome = ticket.await.expect("the writer lives");
            assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
        }
    }
}

/// A bare file that every append is made durable in.
struct Log {
    file: File,
    payload: Vec<u8>,
}

impl Log {
    fn create(folder: &Path, name: &str, bytes: usize) -> Self {
        Self { file: File::create(folder.join(name)).expect("creates"), payload: vec![0x5a; bytes] }
    }

    fn append(&mut self) {
        self.file.write_all(&self.payload).expect("writes");
        self.file.sync_data().expect("syncs");
    }
}

/// What takes turns, made once: criterion calls its closure anew for every sample.
struct Contestants {
    single: Log,
    grouped: Log,
    fleet: Fleet,
    /// What the writer had done before anything was timed.
    before: Progress,
}

impl Contestants {
    fn start() -> Self {
        let fleet = Fleet::start();
        let folder = fleet.folder.path();
        let single = Log::create(folder, "single", RECORD_BYTES);
        let grouped = Log::create(folder, "grouped", RECORD_BYTES * SUBMITTERS);
        let before = fleet.progress();
        Self { single, grouped, fleet, before }
    }

    fn run(&mut self, turns: &mut Turns, iterations: u64, in_flight: usize) -> Duration {
        let Self { single, grouped, fleet, .. } = self;
        let mut ours = |runs| {
            (0..runs)
                .map(|_| {
                    // Once, so taken out rather than copied.
                    let mut records = Some(fleet.records(RECORDS_EACH));
                    time(1, || fleet.submit(records.take().expect("once"), in_flight))
                })
                .sum()
        };
        let mut single = |runs: u64| {
            let some = time(runs * u64::from(SINGLE_APPENDS), || single.append());
            some * RECORDS / SINGLE_APPENDS
        };
        let mut grouped = |runs: u64| time(runs * RECORDS_EACH as u64, || grouped.append());
        turns.run(iterations, &mut [&mut ours, &mut single, &mut grouped])
    }
}

fn bench(criterion: &mut Criterion, in_flight: usize) -> Option<String> {
    let mut turns = Turns::new(1, &["writer", "fdatasync per record", "fdatasync per group"]);
    let mut contestants = None;
    let mut group = criterion.benchmark_group("ingest_to_commit");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(u64::from(RECORDS)));
    group.bench_function(BenchmarkId::from_parameter(format!("{in_flight}_in_flight")), |bencher| {
        let contestants = contestants.get_or_insert_with(Contestants::start);
        bencher.iter_custom(|iterations| contestants.run(&mut turns, iterations, in_flight));
    });
    group.finish();
    let Contestants { fleet, before, .. } = contestants?;
    let done = fleet.progress();
    assert_eq!(done.failures, 0, "every commit succeeded");
    let per_commit = ratio(done.accepted - before.accepted, done.commits - before.commits);
    let rate = |contestant| Some(ratio(u64::from(RECORDS), 1) / turns.seconds(contestant)?);
    Some(format!(
        "{SUBMITTERS} submitters, {in_flight} in flight each: {:.0} records/s, {per_commit:.0} in a commit; append and fdatasync \
         per record {:.0} records/s, ratio {:.1}; per group of {SUBMITTERS} {:.0} records/s, ratio {:.2} (medians of {} turns of \
         {RECORDS} records)",
        rate(0)?,
        rate(1)?,
        1.0 / turns.ratio(1)?,
        rate(2)?,
        1.0 / turns.ratio(2)?,
        turns.blocks(),
    ))
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn ratio(numerator: u64, denominator: u64) -> f64 {
    numerator as f64 / denominator.max(1) as f64
}
