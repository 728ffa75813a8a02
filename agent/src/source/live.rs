//! Frames that come by themselves: a small waiting room between what fetches them and the pipeline.
//!
//! Whoever fetches does not wait for the pipeline: when the room is full the oldest frame gives way, and it is counted as skipped.
//! Whoever is pushed to may refuse instead ([`Feed::offer`]), so that the sender learns of it.
//!
//! Must hold: at most [`WAITING`] frames wait, and of them at most the newest and one limit's worth of bytes; no frame disappears
//! without being counted; at most [`VERDICTS`] truths of earlier frames wait.
//!
//! Deliberately absent: a position. A stream cannot be read again: what the open window had counted when the process died is gone, and
//! shows as missing where a rate is configured.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driftglass_protocol::unit::UnixMillis;
use tokio::sync::watch;

use super::huffman::with_tables;
use super::jpeg_stream::Piece;
use super::status::{Failure, Status};
use super::{Candidate, Condition, Moment, Unusable};
use crate::decode::decoded_bytes;
use crate::prediction::Heard;

/// Frames that wait at most.
pub(super) const WAITING: usize = 8;
/// Truths of earlier frames that wait at most.
#[cfg(feature = "inference")]
const VERDICTS: usize = 4096;

/// What a live source takes from outside.
#[derive(Clone)]
pub struct Outside {
    /// The clocks.
    pub now: fn() -> Moment,
    /// 64 random bits.
    pub random: fn() -> u64,
    /// Turns true when the source is to end.
    pub stop: watch::Receiver<bool>,
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outside")
    }
}

impl Outside {
    /// Resolves when the source is to end.
    pub async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // An error means that nobody is left who could say it.
        if stop.wait_for(|&stop| stop).await.is_err() {
            tracing::debug!("a source outlived its agent");
        }
    }
}

/// What a stranger's picture may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most bytes as it comes.
    pub(super) bytes: usize,
    /// Most pixels of three bytes; a picture that needs more bytes for each may have fewer of them.
    pub(super) pixels: u64,
}

#[derive(Debug)]
struct Waiting {
    taken: UnixMillis,
    /// Nothing where only the model was heard.
    picture: Result<Option<Vec<u8>>, Unusable>,
    heard: Option<Box<Heard>>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.picture.as_ref().ok().and_then(Option::as_ref).map_or(0, Vec::len)
    }
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Waiting>,
    bytes: usize,
    skipped: u32,
    verdicts: VecDeque<bool>,
}

impl Queue {
    fn pop(&mut self) -> Option<Waiting> {
        let frame = self.frames.pop_front()?;
        self.bytes = self.bytes.saturating_sub(frame.bytes());
        Some(frame)
    }

    fn push(&mut self, frame: Waiting) {
        self.bytes = self.bytes.saturating_add(frame.bytes());
        self.frames.push_back(frame);
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // Each change is whole before the lock is let go, so what a panicking thread left is sound.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The end that frames go in at, with all that the one who fetches them needs.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    queue: Arc<Mutex<Queue>>,
    status: Arc<Status>,
    limits: Limits,
    outside: Outside,
}

impl Feed {
    /// Most bytes of a frame.
    #[must_use]
    pub(super) const fn limit(&self) -> usize {
        self.limits.bytes
    }

    /// Whether a picture would take more memory than allowed once it is decoded.
    #[must_use]
    pub(super) fn too_many_pixels(&self, picture: &[u8]) -> bool {
        decoded_bytes(picture) > self.limits.pixels.saturating_mul(3)
    }

    /// How the source is.
    #[must_use]
    pub(super) const fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Clocks, randomness, end.
    #[must_use]
    pub(super) const fn outside(&self) -> &Outside {
        &self.outside
    }

    /// A frame that has just arrived.
    pub(super) fn put(&self, piece: Piece) {
        self.put_taken(piece, (self.outside.now)().wall);
    }

    /// A frame of a known time.
    pub(super) fn put_taken(&self, piece: Piece, taken: UnixMillis) {
        let frame = Waiting { taken, picture: self.checked(piece).map(Some), heard: None };
        self.status.delivered((self.outside.now)());
        self.wait(frame);
    }

    /// What a model was heard to say, with the picture it said it of where there is one.
    #[cfg(feature = "inference")]
    pub(super) fn put_heard(&self, picture: Option<Piece>, heard: Option<Box<Heard>>, taken: UnixMillis) {
        let picture = picture.map(|piece| self.checked(piece)).transpose();
        self.status.delivered((self.outside.now)());
        self.wait(Waiting { taken, picture, heard });
    }

    /// A frame that was left out before it came here.
    #[cfg(feature = "inference")]
    pub(super) fn skip(&self) {
        self.status.alive((self.outside.now)());
        let mut queue = lock(&self.queue);
        queue.skipped = queue.skipped.saturating_add(1);
    }

    /// The truth of an earlier frame; false where too many wait.
    #[cfg(feature = "inference")]
    #[must_use]
    pub(super) fn judge(&self, wrong: bool) -> bool {
        let mut queue = lock(&self.queue);
        let room = queue.verdicts.len() < VERDICTS;
        if room {
            queue.verdicts.push_back(wrong);
        }
        room
    }

    fn wait(&self, frame: Waiting) {
        let mut queue = lock(&self.queue);
        while queue.frames.len() >= WAITING || queue.bytes > self.limits.bytes {
            if queue.pop().is_none() {
                break;
            }
            queue.skipped = queue.skipped.saturating_add(1);
        }
        queue.push(frame);
    }

    /// A frame that may be refused because too many wait; it is not counted then.
    #[must_use]
    pub(super) fn offer(&self, piece: Piece) -> bool {
        let now = (self.outside.now)();
        let frame = Waiting { taken: now.wall, picture: self.checked(piece).map(Some), heard: None };
        self.status.delivered(now);
        let mut queue = lock(&self.queue);
        if queue.frames.len() >= WAITING || queue.bytes > self.limits.bytes {
            return false;
        }
        queue.push(frame);
        true
    }

    /// Whether a frame offered now would be refused.
    #[must_use]
    pub(super) fn full(&self) -> bool {
        let queue = lock(&self.queue);
        queue.frames.len() >= WAITING || queue.bytes > self.limits.bytes
    }

    /// An attempt failed.
    pub(super) fn failed(&self, failure: &Failure) {
        self.status.failed(failure, (self.outside.now)());
    }

    fn checked(&self, piece: Piece) -> Result<Vec<u8>, Unusable> {
        match piece {
            Piece::Picture(bytes) if bytes.is_empty() => Err(Unusable::Empty),
            Piece::Picture(bytes) if bytes.len() > self.limits.bytes => Err(Unusable::TooLarge),
            Piece::Picture(bytes) if self.too_many_pixels(&bytes) => Err(Unusable::TooManyPixels),
            Piece::Picture(bytes) => Ok(with_tables(bytes)),
            Piece::TooLarge => Err(Unusable::TooLarge),
        }
    }
}

/// The end that the pipeline takes frames from.
#[derive(Debug)]
pub struct Live {
    queue: Arc<Mutex<Queue>>,
    status: Arc<Status>,
    current: Vec<u8>,
    heard: Option<Box<Heard>>,
    idle_at: Option<UnixMillis>,
}

/// Both ends for one camera.
#[must_use]
pub(super) fn live(status: Arc<Status>, limits: Limits, outside: Outside) -> (Feed, Live) {
    let queue = Arc::new(Mutex::default());
    let feed = Feed { queue: Arc::clone(&queue), status: Arc::clone(&status), limits, outside };
    (feed, Live { queue, status, current: Vec::new(), heard: None, idle_at: None })
}

impl Live {
    /// How the source is.
    #[must_use]
    pub const fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// See [`super::FrameSource::idle_at`].
    #[must_use]
    pub const fn idle_at(&self) -> Option<UnixMillis> {
        self.idle_at
    }

    /// See [`super::FrameSource::poll`].
    pub fn poll(&mut self, now: Moment) -> Option<Candidate> {
        let mut queue = lock(&self.queue);
        self.idle_at = None;
        let candidate = |taken, condition| Some(Candidate { position: Vec::new(), taken: Some(taken), condition });
        if queue.skipped > 0 {
            let skipped = std::mem::take(&mut queue.skipped);
            let taken = queue.frames.front().map_or(now.wall, |frame| frame.taken);
            return candidate(taken, Condition::Skipped(skipped));
        }
        if let Some(wrong) = queue.verdicts.pop_front() {
            return candidate(now.wall, Condition::Judged(wrong));
        }
        // Between two frames a camera holds none.
        (self.current, self.heard) = (Vec::new(), None);
        match queue.pop() {
            Some(Waiting { taken, picture: Ok(picture), heard }) => {
                self.heard = heard;
                let condition = if picture.is_some() { Condition::Ready } else { Condition::Heard };
                self.current = picture.unwrap_or_default();
                candidate(taken, condition)
            }
            Some(Waiting { taken, picture: Err(reason), .. }) => candidate(taken, Condition::Unusable(reason)),
            None => {
                self.idle_at = Some(now.wall);
                None
            }
        }
    }

    /// What a model said of the frame taken last, where that was heard.
    #[must_use]
    pub fn heard(&self) -> Option<&Heard> {
        self.heard.as_deref()
    }

    /// Frames that nobody will take any more, once whoever fetched them has ended.
    #[must_use]
    pub fn left_over(&self) -> u32 {
        let queue = lock(&self.queue);
        u32::try_from(queue.frames.len()).unwrap_or(u32::MAX).saturating_add(queue.skipped)
    }

    /// The frame taken last.
    #[must_use]
    pub fn read(&self) -> &[u8] {
        &self.current
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use driftglass_protocol::id::Name;

    use super::*;

    pub(in crate::source) fn outside() -> (watch::Sender<bool>, Outside) {
        let (sender, stop) = watch::channel(false);
        (sender, Outside { now: crate::host::clock::now, random: rand::random::<u64>, stop })
    }

    pub(in crate::source) fn pair(limit: usize) -> (watch::Sender<bool>, Feed, Live) {
        let (stop, outside) = outside();
        let (feed, live) = live(
            Arc::new(Status::new(Name::parse("door").expect("a name"), "test".into())),
            Limits { bytes: limit, pixels: 100 },
            outside,
        );
        (stop, feed, live)
    }

    fn at(millis: i64) -> Moment {
        Moment { wall: UnixMillis(millis), elapsed: Duration::ZERO }
    }

    #[test]
    fn frames_come_out_in_order_and_an_empty_room_is_idle() {
        let (_stop, feed, mut live) = pair(10);
        assert_eq!((live.poll(at(5)), live.idle_at()), (None, Some(UnixMillis(5))));
        feed.put_taken(Piece::Picture(vec![1]), UnixMillis(1));
        feed.put_taken(Piece::TooLarge, UnixMillis(2));
        feed.put_taken(Piece::Picture(vec![]), UnixMillis(3));
        let candidate = live.poll(at(6)).expect("waits");
        assert_eq!((candidate.taken, candidate.condition), (Some(UnixMillis(1)), Condition::Ready));
        assert_eq!((live.read(), live.idle_at()), ([1].as_slice(), None));
        assert_eq!(live.poll(at(7)).expect("waits").condition, Condition::Unusable(Unusable::TooLarge));
        assert_eq!(live.poll(at(8)).expect("waits").condition, Condition::Unusable(Unusable::Empty));
        assert_eq!((live.poll(at(9)), live.idle_at()), (None, Some(UnixMillis(9))));
    }

    #[cfg(feature = "inference")]
    #[test]
    fn what_a_model_said_comes_with_its_frame_and_truths_come_first() {
        let (_stop, feed, mut live) = pair(10);
        let heard = Heard { labels: vec!["a".into()], ..Heard::default() };
        feed.put_heard(Some(Piece::Picture(vec![1])), Some(Box::new(heard.clone())), UnixMillis(1));
        feed.put_heard(None, Some(Box::new(heard.clone())), UnixMillis(2));
        feed.put_heard(Some(Piece::Picture(vec![2])), None, UnixMillis(3));
        assert!(feed.judge(true));
        assert_eq!(live.poll(at(5)).expect("waits").condition, Condition::Judged(true));
        assert_eq!(live.poll(at(5)).expect("waits").condition, Condition::Ready);
        assert_eq!((live.read(), live.heard()), ([1].as_slice(), Some(&heard)));
        assert_eq!(live.poll(at(5)).expect("waits").condition, Condition::Heard);
        assert_eq!((live.read(), live.heard()), ([].as_slice(), Some(&heard)));
        assert_eq!(live.poll(at(5)).expect("waits").condition, Condition::Ready);
        assert_eq!((live.read(), live.heard()), ([2].as_slice(), None));
        assert_eq!((0..=VERDICTS).filter(|_| feed.judge(false)).count(), VERDICTS);
    }

    #[test]
    fn what_does_not_fit_gives_way_to_the_newest_and_is_counted() {
        let (_stop, feed, mut live) = pair(10);
        for number in 0..100 {
            feed.put(Piece::Picture(vec![number]));
            assert!(lock(&feed.queue).frames.len() <= WAITING);
        }
        assert!(!feed.offer(Piece::Picture(vec![1])), "the one who pushes is told");
        assert_eq!(live.poll(at(0)).expect("some").condition, Condition::Skipped(92));
        let mut numbers = Vec::new();
        while live.poll(at(0)).is_some() {
            numbers.extend_from_slice(live.read());
        }
        assert_eq!(numbers, [92, 93, 94, 95, 96, 97, 98, 99]);
        let bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x0b\0\0\0\x0a\x08\x02\0\0\0";
        let (_, other, mut bombed) = pair(100);
        other.put(Piece::Picture(bomb.to_vec()));
        assert_eq!(bombed.poll(at(0)).expect("some").condition, Condition::Unusable(Unusable::TooManyPixels));
        for _ in 0..100 {
            feed.put(Piece::Picture(vec![0; 10]));
            assert!(lock(&feed.queue).bytes <= 20);
        }
        assert_eq!(live.poll(at(0)).expect("some").condition, Condition::Skipped(98));
        assert_eq!(live.poll(at(0)).expect("some").condition, Condition::Ready);
        assert!(!feed.full() && feed.offer(Piece::Picture(vec![1])));
    }
}
