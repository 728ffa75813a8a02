//! What is said on a session's stream besides, where there is no other stream to say it on: whole frames, in and out.
//!
//! Must hold: neither end waits for the other. What comes while the one before it has not been looked at is dropped, for the device
//! says it again; what goes out goes between two frames of the session.

use driftglass_protocol::wire::Kind;
use tokio::sync::mpsc;

/// Frames that may wait; a device says one thing and waits for the answer.
const WAITING: usize = 2;

/// The session's end.
#[derive(Debug)]
pub struct Aside {
    received: mpsc::Sender<Vec<u8>>,
    to_send: mpsc::Receiver<Vec<u8>>,
}

/// The end of whoever answers.
#[derive(Debug)]
pub struct Confidant {
    /// Frames that the device has sent.
    pub received: mpsc::Receiver<Vec<u8>>,
    /// Frames for the device.
    pub to_send: mpsc::Sender<Vec<u8>>,
}

impl Aside {
    /// Both ends.
    #[must_use]
    pub fn new() -> (Self, Confidant) {
        let ((received, reports), (messages, to_send)) = (mpsc::channel(WAITING), mpsc::channel(WAITING));
        (Self { received, to_send }, Confidant { received: reports, to_send: messages })
    }

    /// Whether frames of this kind are not the session's.
    pub(super) const fn takes(kind: Kind) -> bool {
        matches!(kind, Kind::ConfigurationReport)
    }

    /// Passes on a frame that the device has sent.
    pub(super) fn pass_on(&self, frame: &[u8]) {
        if self.received.try_send(frame.to_vec()).is_err() {
            tracing::debug!("a device says more than it is answered; this was dropped");
        }
    }
}

/// The next frame to send; never where there is nobody who would send one.
pub(super) async fn next(aside: Option<&mut Aside>) -> Vec<u8> {
    let next = match aside {
        Some(aside) => aside.to_send.recv().await,
        None => None,
    };
    match next {
        Some(frame) => frame,
        None => std::future::pending().await,
    }
}
