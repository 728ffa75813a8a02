//! A connection whose bytes are known, followed as one that passes. For those who try what the follower makes of strange bytes.

use std::sync::Arc;

use tokio::sync::watch as signal;

use super::follow::Follower;
use super::note::{Inferences, Note, Place, Watched};
use super::teller::{Notes, Overheard, notes};
use super::watch::Watch;
use crate::moment::Moment;

/// One who follows with a camera `c` for whatever model, and what there is to be heard of it.
pub(super) fn listener() -> (Follower, signal::Sender<Arc<Watch>>, Notes) {
    let (teller, notes) = notes();
    teller.hear();
    let camera =
        Watched { name: "c".into(), inferences: Inferences::Open(Vec::new()), max_body: 1 << 20, millihertz: None };
    let place = Place {
        id: 1,
        listen: ([127, 0, 0, 1], 1).into(),
        upstream: "h:1".into(),
        camera_header: None,
        cameras: vec![camera],
    };
    let (sender, watch) = signal::channel(Arc::new(Watch::new(place, teller, Moment::default)));
    (Follower::new(watch), sender, notes)
}

/// Follows what client and server say, in pieces of so many bytes; what is told of it, and of how many inferences nothing could be.
pub(super) fn follow(asked: &[u8], answered: &[u8], piece: usize) -> (Vec<Overheard>, u64) {
    let (mut follower, _watch, mut notes) = listener();
    asked.chunks(piece.max(1)).for_each(|piece| follower.asked(piece));
    answered.chunks(piece.max(1)).for_each(|piece| follower.answered(piece));
    follower.server_ended(false);
    drop(follower);
    notes.take()
}

/// How many inferences are told of where a client and a server of the Open Inference Protocol say this, in pieces of so many bytes.
#[must_use]
pub fn overhear(asked: &[u8], answered: &[u8], piece: usize) -> u64 {
    let (told, missed) = follow(asked, answered, piece);
    missed + told.iter().filter(|(note, ..)| matches!(note, Note::Passed(_))).count() as u64
}
