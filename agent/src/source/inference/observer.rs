//! The thread that is told what has passed, and takes it apart.
//!
//! Must hold: one exchange at a time is held; the thread ends with the proxies' process, and whoever waits for it learns that.

use std::io::{self, BufReader, Read};
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use driftglass_protocol::unit::UnixMillis;
use tokio::sync::{oneshot, watch as signal};

use super::Unread;
use super::figures::{CameraFigures, Figures};
use super::reading::{Exchange, Reading, read};
use super::truths::Remembered;
use crate::config::InferenceConfig;
use crate::proxy::note::{Announced, BODY, Look, Note, Outcome, Passed, Uncopied, Unreadable, checked, parse};
use crate::source::jpeg_stream::Piece;
use crate::source::live::Feed;
use crate::source::status::Failure;

/// Many notes are short; bodies go past it.
const BUFFER: usize = 16 * 1024;

/// A camera whose model is watched.
#[derive(Clone, Debug)]
pub(super) struct Camera(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) config: InferenceConfig,
    pub(super) feed: Feed,
    pub(super) figures: CameraFigures,
    pub(super) remembered: Mutex<Remembered>,
}

impl Deref for Camera {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Camera {
    pub(super) fn new(config: InferenceConfig, feed: Feed, figures: &Figures) -> Self {
        Self(Arc::new(Inner {
            figures: figures.of(feed.status().camera().as_str()),
            remembered: Mutex::new(Remembered::new(config.remember)),
            config,
            feed,
        }))
    }

    pub(super) fn name(&self) -> &str {
        self.feed.status().camera().as_str()
    }
}

/// Each change made under these locks is whole before they are let go.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is served for this agent.
#[derive(Debug)]
pub(super) struct Place {
    /// What notes of it are marked with.
    pub(super) id: u64,
    pub(super) listen: SocketAddr,
    pub(super) upstream: String,
    pub(super) cameras: Arc<Vec<Camera>>,
}

/// Who waits for what.
pub(super) type Waiting<K, V> = Mutex<Vec<(K, oneshot::Sender<V>)>>;

/// What the thread and those who order share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) places: Mutex<Vec<Place>>,
    /// Who waits to learn whether a place is served.
    pub(super) served: Waiting<u64, Result<(), String>>,
    /// Who waits until nothing is served there.
    pub(super) left: Waiting<SocketAddr, ()>,
    pub(super) figures: Figures,
    /// Whether the proxies' process is gone.
    pub(super) gone: signal::Sender<bool>,
}

/// Says that nobody tells anything any more, however that came about.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        lock(&self.0.served).clear();
        lock(&self.0.left).clear();
        self.0.gone.send_replace(true);
    }
}

/// Is told what passes until nobody is left who tells.
pub(super) fn observe(notes: UnixStream, shared: Arc<Shared>) {
    let mut notes = BufReader::with_capacity(BUFFER, notes);
    let ending = Ending(shared);
    let shared = &ending.0;
    loop {
        match note(&mut notes) {
            Ok(Note::Passed(passed)) => {
                if let Err(error) = pass(&mut notes, shared, passed) {
                    tracing::debug!(%error, "an exchange was cut off on its way to the agent");
                    return;
                }
            }
            Ok(Note::Unanswered { place, why }) => {
                if let Some(Place { upstream, cameras, .. }) =
                    lock(&shared.places).iter().find(|known| known.id == place)
                {
                    let failure = Failure::Upstream(format!("the model server at {upstream} {why}"));
                    cameras.iter().for_each(|camera| camera.feed.failed(&failure));
                }
            }
            Ok(Note::Unread { place, why }) => {
                if let Some(Place { listen, cameras, .. }) = lock(&shared.places).iter().find(|known| known.id == place)
                {
                    let failure = Failure::Unread(format!("a connection through {listen} {why}"));
                    cameras.iter().for_each(|camera| camera.feed.failed(&failure));
                }
            }
            Ok(Note::Missed(inferences)) => shared.figures.missed(inferences),
            // Whoever no longer waits has given up.
            Ok(Note::Served(place, result)) => {
                take(&shared.served, &place).map(|waits| waits.send(result));
            }
            Ok(Note::Left(address)) => {
                take(&shared.left, &address).map(|waits| waits.send(()));
            }
            Err(error) => {
                tracing::debug!(%error, "the inference proxies tell nothing any more");
                return;
            }
        }
    }
}

/// Waits for something, in place of those who have given up.
pub(super) fn wait<K, V>(waiting: &Waiting<K, V>, key: K) -> oneshot::Receiver<V> {
    let (sender, receiver) = oneshot::channel();
    let mut waiting = lock(waiting);
    waiting.retain(|(_, sender)| !sender.is_closed());
    waiting.push((key, sender));
    receiver
}

/// Who waits for this.
fn take<K: PartialEq, V>(waiting: &Waiting<K, V>, key: &K) -> Option<oneshot::Sender<V>> {
    let mut waiting = lock(waiting);
    let index = waiting.iter().position(|(known, _)| known == key)?;
    Some(waiting.swap_remove(index).1)
}

fn note(notes: &mut impl Read) -> io::Result<Note> {
    let mut length = [0; 4];
    notes.read_exact(&mut length)?;
    let mut message = vec![0; checked(u32::from_le_bytes(length))?];
    notes.read_exact(&mut message)?;
    Ok(parse(&message)?)
}

fn body(notes: &mut impl Read, announced: Result<usize, Uncopied>) -> io::Result<Result<Vec<u8>, Unread>> {
    let length = match announced {
        Ok(length) if length > BODY => return Err(Unreadable::TooLarge(length).into()),
        Ok(length) => length,
        Err(Uncopied::TooLarge) => return Ok(Err(Unread::TooLarge)),
        Err(Uncopied::Incomplete) => return Ok(Err(Unread::Incomplete)),
    };
    let mut body = vec![0; length];
    notes.read_exact(&mut body)?;
    Ok(Ok(body))
}

/// Counts an inference, and takes it apart where it was copied.
///
/// # Errors
/// Its bodies do not come.
fn pass(notes: &mut impl Read, shared: &Shared, passed: Passed) -> io::Result<()> {
    let Passed { place, camera, outcome, latency, look } = passed;
    let known = |places: &[Place]| places.iter().find(|known| known.id == place)?.cameras.get(camera).cloned();
    let camera = known(&lock(&shared.places));
    if let Some(camera) = &camera {
        camera.figures.ended(outcome);
        if let Some(latency) = latency.filter(|_| outcome == Outcome::Ok) {
            camera.figures.took(latency);
        }
    }
    let read = match look {
        Look::Skipped => Ok(None),
        Look::Busy => Err(Unread::Busy),
        Look::Copied(announced) => {
            let (request, answer) = (body(notes, announced.request)?, body(notes, announced.answer)?);
            match &camera {
                Some(camera) => exchange(announced, latency, outcome, request, answer).and_then(|exchange| {
                    read(&exchange, &camera.config).map(|reading| Some((reading, exchange.taken)))
                }),
                None => Ok(None),
            }
        }
    };
    let Some(camera) = camera else { return Ok(()) };
    match read {
        Ok(Some((reading, taken))) => take_in(&camera, reading, taken),
        Ok(None) => camera.feed.skip(),
        Err(reason) => {
            match reason {
                Unread::Busy => camera.feed.skip(),
                Unread::OtherModel => {}
                _ => camera.feed.failed(&Failure::Unread(reason.to_string())),
            }
            camera.figures.unobserved(reason);
        }
    }
    Ok(())
}

fn exchange(
    announced: Announced,
    latency: Option<Duration>,
    outcome: Outcome,
    request: Result<Vec<u8>, Unread>,
    answer: Result<Vec<u8>, Unread>,
) -> Result<Exchange, Unread> {
    if announced.compressed {
        return Err(Unread::Compressed);
    }
    let request = request?;
    let answer = if outcome == Outcome::Ok { Some(answer?) } else { None };
    Ok(Exchange { spoken: announced.spoken, taken: announced.taken, request, answer, latency })
}

fn take_in(camera: &Camera, reading: Reading, taken: UnixMillis) {
    if let [frame] = reading.frames.as_slice()
        && let Some(label) = frame.heard.as_ref().and_then(|heard| heard.labels.first())
    {
        lock(&camera.remembered).add(&reading.id, label);
    }
    for frame in reading.frames {
        camera.feed.put_heard(frame.picture.map(Piece::Picture), frame.heard.map(Box::new), taken);
    }
    (0..reading.further).for_each(|_| camera.feed.skip());
}
