//! A device: cameras whose windows close, the product's spool on a disk that fails, and the product's side of a session.

use std::collections::VecDeque;
use std::sync::Arc;

use driftglass_agent::spool::{CameraCheckpoint, OpenError, Opened, Reader, Settings, Shared, Writer, open_on};
use driftglass_agent::uplink::{Counters, Exchange, Fatal, Next, follow};
use driftglass_protocol::feature::Feature;
use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::limit::{FRAME_BYTES, FRAME_HEADER_BYTES, HISTOGRAM_BYTES};
use driftglass_protocol::session::{Hello, Sender};
use driftglass_protocol::sketch::Histogram;
use driftglass_protocol::summary::{FeatureSketch, Quality, Summary, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};
use driftglass_protocol::wire::Body;

use crate::disk::SimDisk;
use crate::rules::{PlainNumbers, Rules};

/// The folder of the agent on its disk.
const STATE: &str = "/state";

/// One camera as its source sees it: windows that could be counted by now, and where the files that are still there begin.
#[derive(Clone, Debug)]
pub(crate) struct Camera {
    pub(crate) name: Name,
    /// Windows whose frames exist.
    pub(crate) made: u32,
    /// Windows there will ever be.
    pub(crate) most: u32,
    /// Older frames are gone.
    pub(crate) floor: u32,
}

/// The running process.
pub(crate) struct Process {
    pub(crate) writer: Writer,
    pub(crate) shared: Arc<Shared>,
    sender: Sender,
    reader: Reader,
    counters: Counters,
    pub(crate) instance: u64,
    positions: Vec<u32>,
    /// The connection, and bytes received that are not a whole frame yet.
    pub(crate) link: Option<u64>,
    inbox: Vec<u8>,
    plain_inbox: Vec<u8>,
    pub(crate) retry_at: u64,
}

/// One device.
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) disk: SimDisk,
    pub(crate) cameras: Vec<Camera>,
    pub(crate) process: Option<Process>,
    /// Its clock minus the world's, in seconds.
    pub(crate) clock_ahead: i64,
    pub(crate) max_bytes: u64,
    rules: Rules,
    numbers: PlainNumbers,
    pub(crate) starts: u64,
    pub(crate) starts_refused: u64,
    pub(crate) appends_refused: u64,
    pub(crate) rebases: u64,
    pub(crate) merged: u64,
    pub(crate) buried: u64,
}

/// What a step of the session led to.
pub(crate) enum Step {
    /// Bytes to put on the connection.
    Say(Vec<u8>),
    Nothing,
    /// The session is over.
    HungUp,
}

fn body<'a>(camera: &Name, item: u32, encoded: &'a [u8]) -> Body<'a> {
    let sketch = FeatureSketch { feature: Feature::LumaMean.number(), absent: 0, histogram: encoded };
    Body::Summary(Summary {
        camera: camera.clone(),
        model: None,
        window: Window { start: UnixMillis(i64::from(item) * 60_000), length: Millis(60_000), merged: 1 },
        first_frame: None,
        last_frame: None,
        quality: Quality { frames: 1, ..Quality::default() },
        sketches: [sketch].into_iter().collect(),
        predictions: None,
    })
}

impl Device {
    pub(crate) fn new(id: DeviceId, disk: SimDisk, cameras: Vec<Camera>, max_bytes: u64, rules: Rules) -> Self {
        if rules == Rules::MergeAnything {
            disk.hide_claims();
        }
        Self {
            id,
            disk,
            cameras,
            process: None,
            clock_ahead: 0,
            max_bytes,
            rules,
            numbers: PlainNumbers::default(),
            starts: 0,
            starts_refused: 0,
            appends_refused: 0,
            rebases: 0,
            merged: 0,
            buried: 0,
        }
    }

    /// The process starts; a disk that fails may prevent it.
    pub(crate) fn start(&mut self, seconds: u64, instance: u64) {
        let settings = Settings { state_dir: STATE.into(), device: self.id.clone(), max_bytes: self.max_bytes };
        let clock = u64::try_from(i64::try_from(seconds).expect("small") + self.clock_ahead).unwrap_or(0);
        let disk = Arc::new(self.disk.clone());
        let Opened { writer, shared } = match open_on(disk, settings, clock) {
            Ok(opened) => opened,
            Err(OpenError::InUse { .. }) => panic!("nobody else is there"),
            Err(_) => {
                self.starts_refused += 1;
                return;
            }
        };
        self.starts += 1;
        tracing::info!(device = %self.id, epoch = writer.epoch(), previous = %writer.previous(), pending = shared.pending(), "started");
        let positions = self.cameras.iter().map(|camera| {
            let known = writer.cameras().get(&camera.name);
            known.map_or(0, |known| std::str::from_utf8(&known.position).expect("ours").parse().expect("ours"))
        });
        let positions = positions.collect();
        if self.rules.numbers_are_plain() {
            self.numbers.start(writer.epoch());
        }
        self.process = Some(Process {
            sender: Sender::new(writer.epoch(), shared.acknowledged()),
            reader: Reader::new(Arc::clone(&shared)),
            counters: Counters::default(),
            instance,
            positions,
            link: None,
            inbox: Vec::new(),
            plain_inbox: Vec::new(),
            retry_at: 0,
            writer,
            shared,
        });
    }

    /// The power is cut under the disk.
    pub(crate) fn cut_power(&mut self) {
        self.disk.cut_power();
        self.numbers.cut_power();
    }

    /// The process is gone; the connection it held is returned.
    pub(crate) fn stop(&mut self) -> Option<u64> {
        let process = self.process.take()?;
        let relief = process.shared.relief();
        self.merged += relief.merged.load(std::sync::atomic::Ordering::Relaxed);
        self.buried += relief.buried.load(std::sync::atomic::Ordering::Relaxed);
        process.link
    }

    /// The next window of a camera closes and is appended, where its frames are there.
    pub(crate) fn close_window(&mut self, camera: usize, store_numbers: bool) {
        let (Some(process), Some(source)) = (&mut self.process, self.cameras.get(camera)) else { return };
        let item = process.positions[camera].max(source.floor);
        if item >= source.made {
            return;
        }
        let mut histogram = Histogram::new();
        histogram.add(u8::try_from(item).expect("at most 256 windows"));
        let mut encoded = [0; HISTOGRAM_BYTES];
        let length = histogram.encode(&mut encoded);
        let checkpoint = CameraCheckpoint {
            camera: source.name.clone(),
            position: (item + 1).to_string().into_bytes(),
            closed_until: None,
            sample_due: None,
            state: None,
        };
        match process.writer.append(&[body(&source.name, item, &encoded[..length])], vec![checkpoint]) {
            Ok(()) => {
                process.positions[camera] = item + 1;
                let mark = process.writer.last();
                tracing::debug!(device = %self.id, camera = %source.name, item, %mark, "appended");
                if self.rules.numbers_are_plain() {
                    self.numbers.note(mark, store_numbers);
                }
                assert!(process.shared.bytes() <= self.max_bytes, "{} of {}", process.shared.bytes(), self.max_bytes);
            }
            Err(error) => {
                tracing::debug!(device = %self.id, camera = %source.name, item, %error, "not appended");
                self.appends_refused += 1;
            }
        }
    }

    /// The greeting of a new connection.
    pub(crate) fn greet(&mut self, link: u64, clock: UnixMillis) -> Vec<u8> {
        let Some(process) = &mut self.process else { return Vec::new() };
        process.link = Some(link);
        process.inbox.clear();
        process.plain_inbox.clear();
        process.sender.handle_connected();
        let hello = Hello {
            device: self.id.clone(),
            epoch: process.writer.epoch(),
            instance: process.instance,
            clock,
            version: Default::default(),
        };
        let mut out = vec![0; 256];
        let length = hello.write(&mut out).expect("fits");
        out.truncate(length);
        out
    }

    /// Sends the next record, where one may be sent.
    pub(crate) fn transmit(&mut self, now: u64) -> Step {
        let Some(process) = &mut self.process else { return Step::Nothing };
        let mut frame = [0; 4096];
        let mut exchange = process.exchange();
        match exchange.transmit(&mut frame) {
            Ok(None) => Step::Nothing,
            Ok(Some(length)) if self.rules.numbers_are_plain() => Step::Say(self.numbers.outgoing(&frame[..length])),
            Ok(Some(length)) => Step::Say(frame[..length].to_vec()),
            Err(ended) => self.follow(ended, now),
        }
    }

    /// Bytes arrive from the aggregator.
    pub(crate) fn receive(&mut self, bytes: &mut VecDeque<u8>, count: usize, now: u64) -> Step {
        let Some(process) = &mut self.process else { return Step::Nothing };
        if self.rules.numbers_are_plain() {
            process.plain_inbox.extend(bytes.drain(..count));
            let epoch = process.writer.epoch();
            while let Some(length) = whole_frame(&process.plain_inbox) {
                let frame: Vec<u8> = process.plain_inbox.drain(..length).collect();
                let sent = process.sender.last_sent();
                process.inbox.extend(self.numbers.incoming(&frame, sent, epoch));
            }
        } else {
            process.inbox.extend(bytes.drain(..count));
        }
        let mut inbox = std::mem::take(&mut process.inbox);
        let received = process.exchange().receive(&mut inbox);
        process.inbox = inbox;
        match received {
            Ok(_) => Step::Nothing,
            Err(ended) => self.follow(ended, now),
        }
    }

    fn follow(&mut self, ended: driftglass_agent::uplink::Ended, now: u64) -> Step {
        let Some(process) = &mut self.process else { return Step::HungUp };
        process.sender.handle_disconnected();
        match follow(ended, &process.shared, &process.counters) {
            Next::Again { least } => process.retry_at = now + least.map_or(1, |wait| wait.as_secs()),
            Next::Stop => {}
            // The service manager starts it again; the spool it leaves is what the next start finds.
            Next::Restart(fatal) => {
                self.rebases += u64::from(matches!(fatal, Fatal::Behind { .. }));
                self.stop();
            }
        }
        Step::HungUp
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&mut self, now: u64) {
        if let Some(process) = &mut self.process {
            process.link = None;
            process.sender.handle_disconnected();
            process.retry_at = process.retry_at.max(now + 1);
        }
    }

    /// Whether everything that was ever made is acknowledged.
    pub(crate) fn is_drained(&self) -> bool {
        let Some(process) = &self.process else { return false };
        process.shared.pending() == 0
            && self
                .cameras
                .iter()
                .zip(&process.positions)
                .all(|(camera, &position)| position >= camera.made || camera.floor >= camera.made)
    }

    pub(crate) fn describe(&self) -> String {
        match &self.process {
            None => "not running".into(),
            Some(process) => format!(
                "epoch {} pending {} positions {:?} of {:?} link {:?} in flight {}",
                process.writer.epoch(),
                process.shared.pending(),
                process.positions,
                self.cameras.iter().map(|camera| camera.made).collect::<Vec<_>>(),
                process.link,
                process.sender.in_flight(),
            ),
        }
    }
}

impl Process {
    fn exchange(&mut self) -> Exchange<'_> {
        Exchange { sender: &mut self.sender, reader: &mut self.reader, spool: &self.shared, counters: &self.counters }
    }
}

fn whole_frame(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..FRAME_HEADER_BYTES)?;
    let length = usize::try_from(u32::from_le_bytes([header[0], header[1], header[2], header[3]])).expect("small");
    (length <= bytes.len() && length <= FRAME_BYTES).then_some(length)
}
