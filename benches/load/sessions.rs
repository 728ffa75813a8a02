//! Many sessions through the ledger and the writer without connections: greeting, one window each, and what is kept of them in memory,
//! beside bare appends of as many bytes made durable in groups of the same size on the same disk.

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use driftglass_aggregator::baseline::Tolerances;
use driftglass_aggregator::decision::{Core, Dependence, Settings};
use driftglass_aggregator::ledger::Outcome;
use driftglass_aggregator::store::embedded::EmbeddedStore;
use driftglass_aggregator::writer::{self, Writer};
use driftglass_benches::material::Camera;
use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::unit::{Millis, UnixMillis};
use tokio::task::JoinSet;

use super::client::hello;
use super::process::{kib_each, memory_of};

/// Unless told otherwise.
pub(crate) const SESSIONS: usize = 20_000;
/// Sessions that wait for an answer at the same time.
const AT_ONCE: usize = 1_024;
/// Windows of each session.
const WINDOWS: usize = 4;
/// Durable records a second.
const GOAL: f64 = 10_000.0;

/// In a process of its own, so that its memory is that of the sessions.
pub(crate) fn measure(count: usize) {
    let own = std::env::current_exe().expect("known");
    let status = Command::new(own).arg("--run-sessions").arg(count.to_string()).status().expect("starts");
    assert!(status.success(), "{status}");
}

pub(crate) fn run(count: usize) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let store = EmbeddedStore::open(folder.path()).expect("opens");
    let settings = Settings {
        q: 0.05,
        epoch: Millis(86_400_000),
        learning: Millis(86_400_000),
        tolerances: Tolerances::CATALOGUE,
        budget: None,
        dependence: Dependence::Positive,
    };
    let clock = || UnixMillis(1_800_000_000_000);
    let writer_settings = writer::Settings::default();
    let (writer, thread) = Writer::start(store, move || Core::new(settings), clock, writer_settings).expect("starts");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let own = std::process::id();
    // The devices' side is made beforehand: it is not what is measured.
    let records: Vec<Vec<Vec<u8>>> = (0..AT_ONCE)
        .map(|seed| {
            let mut camera = Camera::new(Name::parse("entrance").expect("a name"), seed as u64);
            (0..WINDOWS).map(|_| camera.next_record().expect("fits")).collect()
        })
        .collect();
    let records: &'static [Vec<Vec<u8>>] = records.leak();
    let before = memory_of(own);
    let began = Instant::now();
    runtime.block_on(each(&writer, count, None));
    let greeting = began.elapsed();
    let progress = *writer.progress().borrow();
    let began = Instant::now();
    for window in 0..WINDOWS {
        runtime.block_on(each(&writer, count, Some((records, window))));
    }
    let delivering = began.elapsed();
    let done = *writer.progress().borrow();
    assert_eq!((done.failures, done.accepted), (0, (count * WINDOWS) as u64));
    let kept = memory_of(own).saturating_sub(before);
    drop(writer);
    thread.join().expect("ends in order");
    let per_commit = ratio(count * WINDOWS, usize::try_from(done.commits - progress.commits).expect("few"));
    let bare = appends(folder.path(), count * WINDOWS, writer_settings.group_records);
    let rate = |count: usize, time: Duration| ratio(count, 1) / time.as_secs_f64();
    let ours = rate(count * WINDOWS, delivering);
    println!(
        "{count} sessions without connections: {:.0} greetings/s; {ours:.0} durable windows/s, {per_commit:.0} in a commit, goal {GOAL:.0}, \
         ratio {:.2}; bare append and fdatasync per {} records {bare:.0} records/s, ratio {:.2}; {:.1} KiB of memory for each device and its camera",
        rate(count, greeting),
        ours / GOAL,
        writer_settings.group_records,
        ours / bare,
        kib_each(kept, count),
    );
}

/// Ten at a site.
fn device_of(number: usize) -> DeviceId {
    let name = |text: String| Name::parse(&text).expect("a name");
    DeviceId { site: name(format!("site-{}", number / 10)), device: name(format!("gw-{}", number % 10)) }
}

/// Every session says one thing, so many at once.
async fn each(writer: &Writer, count: usize, window: Option<(&'static [Vec<Vec<u8>>], usize)>) {
    let mut tasks = JoinSet::new();
    for lane in 0..AT_ONCE.min(count) {
        let writer = writer.clone();
        tasks.spawn(async move {
            for number in (lane..count).step_by(AT_ONCE) {
                let device = device_of(number);
                match window {
                    None => drop(writer.hello(hello(device)).await.expect("greeted")),
                    Some((records, window)) => {
                        let outcome =
                            writer.submit(device, records[lane][window].clone()).await.expect("the writer lives");
                        assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
                    }
                }
            }
        });
    }
    tasks.join_all().await;
}

/// Records a second of a bare file that so many at once are appended to and made durable in.
fn appends(folder: &std::path::Path, count: usize, group: usize) -> f64 {
    let mut file = File::create(folder.join("bare")).expect("created");
    let payload = vec![0x5a; 1_500 * group];
    let groups = count.div_ceil(group);
    let began = Instant::now();
    for _ in 0..groups {
        file.write_all(&payload).expect("written");
        file.sync_data().expect("synced");
    }
    ratio(groups * group, 1) / began.elapsed().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "counts")]
fn ratio(numerator: usize, denominator: usize) -> f64 {
    numerator as f64 / denominator.max(1) as f64
}
