//! What is said on the session's stream besides, over a connection that carries no other: whole frames, in and out.
//!
//! Must hold: the session waits for nobody here. What comes while nobody listens is dropped: whoever asks does so again.

use tokio::sync::mpsc;

/// Frames that may wait.
const WAITING: usize = 4;

/// The session's end.
#[derive(Debug)]
pub(super) struct Aside {
    received: mpsc::Sender<Vec<u8>>,
    to_send: mpsc::Receiver<Vec<u8>>,
}

/// The end of whoever speaks besides.
#[derive(Debug)]
pub(super) struct Voice {
    /// Frames that the aggregator has sent.
    pub(super) received: mpsc::Receiver<Vec<u8>>,
    /// Frames for the aggregator.
    pub(super) to_send: mpsc::Sender<Vec<u8>>,
}

impl Aside {
    /// Both ends.
    pub(super) fn new() -> (Self, Voice) {
        let ((received, answers), (questions, to_send)) = (mpsc::channel(WAITING), mpsc::channel(WAITING));
        (Self { received, to_send }, Voice { received: answers, to_send: questions })
    }

    /// Passes on what the aggregator has sent.
    pub(super) fn pass_on(&self, frame: Vec<u8>) {
        if self.received.try_send(frame).is_err() {
            tracing::debug!("the aggregator says more than is listened to; this was dropped");
        }
    }
}

/// The next frame to send; never where nobody says anything.
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
