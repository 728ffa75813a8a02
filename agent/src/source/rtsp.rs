//! RTSP cameras that send Motion JPEG (RFC 2435): each frame becomes a JPEG file, without decoding anything.
//!
//! Cameras that send H.264 or H.265 need a decoder, and with it more memory than this agent has for itself: the kind `exec` with
//! `ffmpeg` does that in a process of its own, and the failure says so.
//!
//! Must hold: looking around, setting up and starting have their time; a frame has at most the limit of the source (and 2 MB, which is
//! the library's own).
//!
//! Deliberately absent: sound, metadata, RTSP over TLS.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream as _;
use retina::client::{
    Credentials, Demuxed, PlayOptions, Session, SessionGroup, SessionOptions, SetupOptions, TcpTransportOptions,
    TeardownPolicy, Transport, UdpTransportOptions,
};
use retina::codec::CodecItem;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::address::{Address, redact};
use super::jpeg_stream::Piece;
use super::live::Feed;
use super::status::Failure;

/// A camera that is asked to play.
#[derive(Debug)]
pub(super) struct Rtsp {
    address: Address,
    udp: bool,
    wait: Duration,
}

impl Rtsp {
    pub(super) const fn new(address: Address, udp: bool, wait: Duration) -> Self {
        Self { address, udp, wait }
    }

    /// Plays until something fails.
    pub(super) async fn attempt(&mut self, feed: &Feed) -> Failure {
        let mut playing = match timeout(self.wait, self.play()).await {
            Ok(Ok(playing)) => playing,
            Ok(Err(failure)) => return failure,
            Err(_) => return Failure::Timeout { doing: "beginning to play", after: self.wait },
        };
        let mut deadline = Instant::now() + self.wait;
        loop {
            let next = poll_fn(|context| Pin::new(&mut playing).poll_next(context));
            match timeout_at(deadline, next).await {
                Err(_) => return Failure::Stalled(self.wait),
                Ok(None) => return Failure::Ended,
                Ok(Some(Err(error))) => return failed(&error),
                Ok(Some(Ok(CodecItem::VideoFrame(frame)))) => {
                    let data = frame.data();
                    let fits = data.len() <= feed.limit();
                    feed.put(if fits { Piece::Picture(data.to_vec()) } else { Piece::TooLarge });
                    deadline = Instant::now() + self.wait;
                }
                Ok(Some(Ok(_))) => {}
            }
        }
    }

    async fn play(&self) -> Result<Demuxed, Failure> {
        // Credentials go beside the URL: what is in a request line ends up in logs of others.
        let text = format!("rtsp://{}{}", self.address.authority(), self.address.target());
        let url = Url::parse(&text).map_err(|error| Failure::Protocol(error.to_string()))?;
        let credentials = self
            .address
            .credentials()
            .map(|known| Credentials { username: known.user.clone(), password: known.password.clone() });
        let options = SessionOptions::default()
            .creds(credentials)
            .user_agent(concat!("driftglass-agent/", env!("CARGO_PKG_VERSION")).into())
            .session_group(Arc::new(SessionGroup::default()))
            .teardown(TeardownPolicy::Auto);
        let mut session = Session::describe(url, options).await.map_err(|error| failed(&error))?;
        let streams = session.streams();
        let Some(picture) =
            streams.iter().position(|stream| stream.media() == "video" && stream.encoding_name() == "jpeg")
        else {
            let found: Vec<&str> = streams
                .iter()
                .filter(|stream| stream.media() == "video")
                .map(|stream| stream.encoding_name())
                .collect();
            let found = if found.is_empty() { "no video".into() } else { found.join(", ") };
            return Err(Failure::Protocol(format!(
                "the camera sends {found} and no jpeg; the kind \"exec\" with ffmpeg decodes it, see the example configuration"
            )));
        };
        let transport = if self.udp {
            Transport::Udp(UdpTransportOptions::default())
        } else {
            Transport::Tcp(TcpTransportOptions::default())
        };
        session.setup(picture, SetupOptions::default().transport(transport)).await.map_err(|error| failed(&error))?;
        let playing = session.play(PlayOptions::default()).await.map_err(|error| failed(&error))?;
        playing.demuxed().map_err(|error| failed(&error))
    }
}

/// The first line of what the library says, without addresses' credentials.
fn failed(error: &retina::Error) -> Failure {
    let text = error.to_string();
    let line: String = text.lines().next().unwrap_or_default().chars().take(300).collect();
    Failure::Protocol(format!("RTSP: {}", redact(&line)))
}
