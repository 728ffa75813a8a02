//! The agent's side of a session over any byte stream: greets, keeps some records in flight, waits for acknowledgements.

use driftglass_aggregator::ingest::FrameSplitter;
use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::limit::{FRAME_BYTES, IN_FLIGHT};
use driftglass_protocol::session::{Acknowledge, Hello, Refuse, Welcome};
use driftglass_protocol::unit::UnixMillis;
use driftglass_protocol::wire::{FrameError, Kind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Records written at once.
const BATCH: usize = 16;

/// A device of the fleet.
pub(crate) fn device(name: &str) -> DeviceId {
    DeviceId { site: Name::parse("load").expect("a name"), device: Name::parse(name).expect("a name") }
}

pub(crate) fn hello(device: DeviceId) -> Hello {
    let version = "load".try_into().expect("short");
    Hello { device, epoch: 1, instance: 1, clock: UnixMillis(1_800_000_000_000), version }
}

pub(crate) fn written(write: impl FnOnce(&mut [u8]) -> Result<usize, FrameError>) -> Vec<u8> {
    let mut out = vec![0; FRAME_BYTES];
    let length = write(&mut out).expect("fits");
    out.truncate(length);
    out
}

/// One side's view of a session.
pub(crate) struct Client<R, W> {
    pub(crate) reader: R,
    pub(crate) writer: W,
    splitter: FrameSplitter,
    acknowledged: u64,
    sent: u64,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Client<R, W> {
    pub(crate) fn new(reader: R, writer: W) -> Self {
        Self { reader, writer, splitter: FrameSplitter::new(), acknowledged: 0, sent: 0 }
    }

    pub(crate) async fn greet(&mut self, device: DeviceId) {
        self.try_greet(device).await.expect("welcomed");
    }

    /// Greets; an error where the connection ends before the welcome.
    pub(crate) async fn try_greet(&mut self, device: DeviceId) -> std::io::Result<()> {
        let hello = hello(device);
        self.writer.write_all(&written(|out| hello.write(out))).await?;
        self.writer.flush().await?;
        while !self.try_read().await? {}
        Ok(())
    }

    /// Delivers records in order; returns when all are acknowledged.
    pub(crate) async fn deliver(&mut self, records: &[Vec<u8>]) {
        let end = self.sent + records.len() as u64;
        for batch in records.chunks(BATCH) {
            while self.sent - self.acknowledged > (IN_FLIGHT - BATCH) as u64 {
                self.read().await;
            }
            self.writer.write_all(&batch.concat()).await.expect("sent");
            self.writer.flush().await.expect("sent");
            self.sent += batch.len() as u64;
        }
        while self.acknowledged < end {
            self.read().await;
        }
    }

    async fn read(&mut self) {
        self.try_read().await.expect("read");
    }

    /// Reads once; true where a welcome came.
    async fn try_read(&mut self) -> std::io::Result<bool> {
        let mut welcome = false;
        let count = self.reader.read(self.splitter.spare()).await?;
        assert!(count > 0, "the aggregator ended the session");
        self.splitter.advance(count);
        while let Some(located) = self.splitter.take_frame().expect("frames") {
            match located.frame.kind {
                Kind::Welcome => {
                    self.acknowledged = Welcome::parse(located.frame).expect("a welcome").mark.sequence;
                    welcome = true;
                }
                Kind::Acknowledge => {
                    self.acknowledged = Acknowledge::parse(located.frame).expect("an acknowledgement").mark.sequence;
                }
                kind => panic_on(kind, located.frame),
            }
        }
        Ok(welcome)
    }
}

#[expect(clippy::panic, reason = "a refused load measures nothing")]
fn panic_on(kind: Kind, frame: driftglass_protocol::wire::Frame<'_>) {
    panic!("{kind:?}: {:?}", Refuse::parse(frame));
}
