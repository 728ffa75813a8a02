//! A camera of this machine, asked to deliver Motion JPEG.
//!
//! A device that only delivers raw pixels is refused with what it has; most USB cameras compress. The descriptor is waited for like a
//! socket, so that a camera that stops holds nothing up.
//!
//! Deliberately absent: exposure and other controls, which belong to whoever owns the camera; raw formats.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use linuxvideo::format::{PixFormat, PixelFormat};
use linuxvideo::stream::ReadStream;
use linuxvideo::{BufType, Device as Camera};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout, timeout_at};

use super::jpeg_stream::Piece;
use super::live::Feed;
use super::status::Failure;

/// A device file.
#[derive(Debug)]
pub(super) struct Device {
    path: PathBuf,
    size: Option<(u32, u32)>,
    wait: Duration,
}

impl Device {
    pub(super) const fn new(path: PathBuf, size: Option<(u32, u32)>, wait: Duration) -> Self {
        Self { path, size, wait }
    }

    /// Reads until something fails.
    pub(super) async fn attempt(&mut self, feed: &Feed) -> Failure {
        let (path, size) = (self.path.clone(), self.size);
        let opened = timeout(self.wait, tokio::task::spawn_blocking(move || open(path, size))).await;
        let failed = |error: &dyn std::fmt::Display| Failure::Device {
            path: self.path.display().to_string(),
            error: error.to_string(),
        };
        let stream = match opened {
            Err(_) => return Failure::Timeout { doing: "opening the device", after: self.wait },
            Ok(Err(error)) => return failed(&error),
            Ok(Ok(Err(error))) => return failed(&error),
            Ok(Ok(Ok(stream))) => stream,
        };
        match read(stream, feed, self.wait).await {
            Ok(()) => Failure::Stalled(self.wait),
            Err(error) => failed(&error),
        }
    }
}

fn open(path: PathBuf, size: Option<(u32, u32)>) -> io::Result<ReadStream> {
    let camera = Camera::open(path)?;
    let known = |format: PixelFormat| format == PixelFormat::MJPG || format == PixelFormat::JPEG;
    let mut offered = Vec::new();
    for format in camera.formats(BufType::VIDEO_CAPTURE) {
        offered.push(format?.pixel_format());
    }
    let Some(&format) = offered.iter().find(|format| known(**format)) else {
        let text = format!("the device delivers {offered:?} and no MJPG; the kind \"exec\" with ffmpeg converts it");
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    };
    let (width, height) = match size {
        Some(size) => size,
        None => match camera.format(BufType::VIDEO_CAPTURE)? {
            linuxvideo::format::Format::VideoCapture(now) => (now.width(), now.height()),
            _ => (640, 480),
        },
    };
    let capture = camera.video_capture(PixFormat::new(width, height, format))?;
    if !known(capture.format().pixel_format()) {
        let text = format!("the device insists on {:?} instead of MJPG", capture.format().pixel_format());
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    tracing::debug!(width = capture.format().width(), height = capture.format().height(), "the device is open");
    capture.into_stream()
}

/// Reads until no picture comes in time.
#[expect(
    deprecated,
    reason = "what replaces it asks for unsafe code; the stream owns its descriptor and keeps it while it lives"
)]
async fn read(stream: ReadStream, feed: &Feed, wait: Duration) -> io::Result<()> {
    let mut stream = AsyncFd::with_interest(stream, Interest::READABLE)?;
    let mut deadline = Instant::now() + wait;
    loop {
        let Ok(ready) = timeout_at(deadline, stream.readable_mut()).await else { return Ok(()) };
        let mut ready = ready?;
        if ready.get_inner().will_block()? {
            ready.clear_ready();
            continue;
        }
        let limit = feed.limit();
        let picture = ready.get_inner_mut().dequeue(|view| {
            Ok(match view.len() {
                // The driver says that it is damaged or has nothing: the next one, then.
                _ if view.is_error() => None,
                0 => None,
                length if length > limit => Some(Piece::TooLarge),
                _ => Some(Piece::Picture(view.to_vec())),
            })
        })?;
        if let Some(picture) = picture {
            feed.put(picture);
            deadline = Instant::now() + wait;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_camera_is_said_with_its_path() {
        let (_stop, feed, _live) = super::super::live::tests::pair(1 << 20);
        let file = tempfile::NamedTempFile::new().expect("a file");
        for path in ["/nonexistent/video0", "/dev/null", file.path().to_str().expect("UTF-8")] {
            let failure = Device::new(path.into(), None, Duration::from_secs(5)).attempt(&feed).await;
            assert_eq!(failure.reason(), "device", "{failure}");
            assert!(failure.to_string().starts_with(path), "{failure}");
        }
    }
}
