//! Records from many devices to durable and decided, beside raw append and fdatasync on the same disk.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a bench prints its figures")]

use std::fs::File;
use std::io::Write;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use driftglass_aggregator::decision::{Core, Settings};
use driftglass_aggregator::ledger::Outcome;
use driftglass_aggregator::store::embedded::EmbeddedStore;
use driftglass_aggregator::writer::{self, Writer};
use driftglass_benches::timed;
use driftglass_protocol::feature::CATALOGUE;
use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::limit::{FRAME_BYTES, HISTOGRAM_BYTES};
use driftglass_protocol::sketch::Histogram;
use driftglass_protocol::summary::{FeatureSketch, Quality, Summary, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};
use driftglass_protocol::wire::{Body, Mark, Record, RecordId};

const DEVICES: u32 = 64;
const RECORDS_EACH: u32 = 60;

/// The record of one minute of one device, 60 frames, about 800 bytes.
fn record(minute: u32) -> Vec<u8> {
    let encoded: Vec<Vec<u8>> = CATALOGUE
        .iter()
        .map(|spec| {
            let mut histogram = Histogram::new();
            for frame in 0..60_u32 {
                let bin = 60 + (frame * (u32::from(spec.feature.number()) + 3) + minute) % 30;
                histogram.add(u8::try_from(bin).expect("a bin"));
            }
            let mut bytes = [0; HISTOGRAM_BYTES];
            let length = histogram.encode(&mut bytes);
            bytes.get(..length).expect("written").to_vec()
        })
        .collect();
    let summary = Summary {
        camera: Name::parse("entrance").expect("a name"),
        model: None,
        window: Window { start: UnixMillis(i64::from(minute) * 60_000), length: Millis(60_000), merged: 1 },
        first_frame: None,
        last_frame: None,
        quality: Quality { frames: 60, ..Quality::default() },
        sketches: CATALOGUE
            .iter()
            .zip(&encoded)
            .map(|(spec, histogram)| FeatureSketch { feature: spec.feature.number(), absent: 0, histogram })
            .collect(),
    };
    let sequence = u64::from(minute) + 1;
    let record = Record {
        id: RecordId { epoch: 1, first: sequence, last: sequence },
        previous: Mark::default(),
        body: Body::Summary(summary),
    };
    let mut out = vec![0; FRAME_BYTES];
    let length = record.write(&mut out).expect("fits");
    out.truncate(length);
    out
}

/// All records of all devices, one in flight per device; returns how many were accepted.
fn ingest(folder: &Path, records: &[Vec<u8>]) -> usize {
    let store = EmbeddedStore::open(folder).expect("a store");
    let settings = Settings { q: 0.05, epoch: Millis(86_400_000), learning: Millis(86_400_000) };
    let (writer, thread) =
        Writer::start(store, move || Core::new(settings), || UnixMillis(0), writer::Settings::default())
            .expect("a writer");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let accepted = runtime.block_on(async {
        let tasks: Vec<_> = (0..DEVICES)
            .map(|device| {
                let (writer, records) = (writer.clone(), records.to_vec());
                let name = Name::parse(&format!("gw-{device}")).expect("a name");
                let device = DeviceId { site: Name::parse("store-1").expect("a name"), device: name };
                tokio::spawn(async move {
                    let mut accepted = 0;
                    for record in records {
                        if matches!(writer.submit(device.clone(), record).await, Ok(Outcome::Accepted(_))) {
                            accepted += 1;
                        }
                    }
                    accepted
                })
            })
            .collect();
        let mut accepted = 0;
        for task in tasks {
            accepted += task.await.expect("a task");
        }
        accepted
    });
    drop(writer);
    thread.join().expect("the writer ends");
    accepted
}

/// The same bytes appended to a file, with an fdatasync after every `group` records.
fn append(folder: &Path, records: &[Vec<u8>], group: usize, count: usize) {
    let mut file = File::create(folder.join("raw")).expect("a file");
    for (index, record) in records.iter().cycle().take(count).enumerate() {
        file.write_all(record).expect("written");
        if (index + 1) % group == 0 {
            file.sync_data().expect("synced");
        }
    }
}

fn commit(c: &mut Criterion) {
    let records: Vec<Vec<u8>> = (0..RECORDS_EACH).map(record).collect();
    let total = f64::from(DEVICES * RECORDS_EACH);
    let fresh = || tempfile::tempdir().expect("a folder");
    let mut rates = Vec::new();
    for _ in 0..3 {
        let folder = fresh();
        let mut accepted = 0;
        let ours = timed(&mut || accepted = ingest(folder.path(), &records));
        assert_eq!(accepted, (DEVICES * RECORDS_EACH) as usize, "every record is accepted");
        let one_by_one = timed(&mut || append(folder.path(), &records, 1, 500));
        let grouped =
            timed(&mut || append(folder.path(), &records, DEVICES as usize, (DEVICES * RECORDS_EACH) as usize));
        rates.push((total / ours.as_secs_f64(), 500.0 / one_by_one.as_secs_f64(), total / grouped.as_secs_f64()));
    }
    rates.sort_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((ours, one_by_one, grouped)) = rates.get(1) {
        println!(
            "{} B records from {DEVICES} devices: {ours:.0}/s durable and decided; append+fdatasync of each: {one_by_one:.0}/s \
             (ratio {:.2}); of {DEVICES} at a time: {grouped:.0}/s (ratio {:.2})",
            records.first().map_or(0, Vec::len),
            ours / one_by_one,
            ours / grouped
        );
    }
    let mut group = c.benchmark_group("ingest_to_commit");
    group.sample_size(10);
    group.bench_function("3840 records", |b| {
        b.iter_batched(fresh, |folder| ingest(folder.path(), &records), criterion::BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, commit);
criterion_main!(benches);
