//! What is wrong with a source, and since when: one truth for the log, the metrics and the health page.
//!
//! Must hold: a line in the log is a change of state, never an attempt; a source that changes its state all the time has a few lines
//! at once and then one a minute, with the number of those not shown; the reasons are a fixed set, so that metrics cannot grow; no
//! message holds credentials.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use driftglass_protocol::id::Name;
use driftglass_protocol::unit::UnixMillis;
use thiserror::Error;

use super::Moment;
use super::multipart::Malformed;

/// Lines that may follow each other at once.
const LINES: u32 = 8;
/// Time after which one more line is allowed.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// Why a source does not deliver.
#[derive(Debug, Error)]
pub enum Failure {
    /// The name has no address.
    #[error("{host} has no address: {error}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// No connection.
    #[error("no connection to {address}: {error}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// No answer in time.
    #[error("no answer within {:.1} s while {doing}", after.as_secs_f64())]
    Timeout {
        /// What was being done.
        doing: &'static str,
        /// How long it was waited.
        after: Duration,
    },
    /// TLS failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// The server wants other credentials, or some at all.
    #[error("the server refuses the credentials (status 401){0}")]
    Unauthorized(&'static str),
    /// Not the status of success.
    #[error("the server answers with status {0}")]
    Status(u16),
    /// Not what a camera sends.
    #[error("the server sends {0:?}, which is no picture")]
    ContentType(String),
    /// Not HTTP, a header beyond the limits, or a body cut off.
    #[error("HTTP: {0}")]
    Http(String),
    /// A body that is no stream of pictures.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A protocol other than HTTP was not followed.
    #[error("{0}")]
    Protocol(String),
    /// Connected, and nothing comes.
    #[error("no picture for {:.1} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// The other side ended the stream.
    #[error("the stream ended")]
    Ended,
    /// A program that cannot be started.
    #[error("{program} cannot be started: {error}")]
    Start {
        /// Its name without arguments.
        program: String,
        /// What the system said.
        error: io::Error,
    },
    /// A program that ended.
    #[error("{program} ended ({status}){said}")]
    Exited {
        /// Its name without arguments.
        program: String,
        /// How.
        status: String,
        /// The last line it wrote to standard error, redacted.
        said: String,
    },
    /// A socket that cannot be opened for those who push.
    #[error("listening at {place} is not possible: {error}")]
    Listen {
        /// Where.
        place: String,
        /// What the system said.
        error: io::Error,
    },
    /// A watched folder that cannot be listed.
    #[error("{path} cannot be listed: {error}")]
    Folder {
        /// The folder.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// A model server that does not answer the inferences that pass.
    #[error("{0}")]
    Upstream(String),
    /// Inferences pass, and nothing can be made of them.
    #[error("an inference passed and could not be looked at: {0}")]
    Unread(String),
    /// A camera of this machine.
    #[error("{path}: {error}")]
    Device {
        /// The device file.
        path: String,
        /// What the system said.
        error: String,
    },
}

impl Failure {
    /// Its name in metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "resolve",
            Self::Connect { .. } => "connect",
            Self::Timeout { .. } => "timeout",
            Self::Tls(_) => "tls",
            Self::Unauthorized(_) => "unauthorized",
            Self::Status(_) => "status",
            Self::ContentType(_) => "content_type",
            Self::Http(_) => "http",
            Self::Malformed(_) => "malformed",
            Self::Protocol(_) => "protocol",
            Self::Stalled(_) => "stalled",
            Self::Ended => "ended",
            Self::Start { .. } => "start",
            Self::Exited { .. } => "exited",
            Self::Listen { .. } => "listen",
            Self::Folder { .. } => "folder",
            Self::Upstream(_) => "upstream",
            Self::Unread(_) => "unread",
            Self::Device { .. } => "device",
        }
    }
}

/// What is wrong, and what made it so, down to the last cause.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// How a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// No picture yet, and nothing has failed.
    Beginning,
    /// Pictures come, or would if anybody wrote them into the folder.
    Delivering,
    /// They don't, for this reason.
    Failed {
        /// See [`Failure::reason`].
        reason: &'static str,
        /// For people.
        message: String,
        /// Since when.
        since: UnixMillis,
    },
}

#[derive(Debug)]
struct Inner {
    health: Health,
    failures: BTreeMap<&'static str, u64>,
    /// Lines that may still be written, and when they were last counted.
    lines: u32,
    counted: Duration,
    hidden: u64,
    pictures: u64,
    /// When there was last anything to say of it.
    heard: Option<Duration>,
}

/// The state of one source.
#[derive(Debug)]
pub struct Status {
    camera: Name,
    place: String,
    inner: Mutex<Inner>,
}

impl Status {
    /// A source that has not begun. `place` tells people what it is; it must not hold credentials.
    #[must_use]
    pub const fn new(camera: Name, place: String) -> Self {
        let inner = Inner {
            health: Health::Beginning,
            failures: BTreeMap::new(),
            lines: LINES,
            counted: Duration::ZERO,
            hidden: 0,
            pictures: 0,
            heard: None,
        };
        Self { camera, place, inner: Mutex::new(inner) }
    }

    /// Whose frames these are.
    #[must_use]
    pub const fn camera(&self) -> &Name {
        &self.camera
    }

    /// How it is now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.inner().health.clone()
    }

    /// Failures so far by reason.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<&'static str, u64> {
        self.inner().failures.clone()
    }

    /// Pictures so far.
    #[must_use]
    pub fn pictures(&self) -> u64 {
        self.inner().pictures
    }

    /// How long ago a picture came or a failure was told; since the first question where neither ever was.
    pub fn silent_for(&self, now: Moment) -> Duration {
        now.elapsed.saturating_sub(*self.inner().heard.get_or_insert(now.elapsed))
    }

    /// A picture came.
    pub fn delivered(&self, now: Moment) {
        let mut inner = self.inner();
        inner.pictures = inner.pictures.saturating_add(1);
        inner.heard = Some(now.elapsed);
        if inner.health == Health::Delivering {
            return;
        }
        inner.health = Health::Delivering;
        if let Some(not_shown) = inner.line(now.elapsed) {
            tracing::info!(camera = %self.camera, source = %self.place, not_shown, "pictures arrive");
        }
    }

    /// Something came that is no picture, but a sign of life.
    #[cfg(feature = "inference")]
    pub fn alive(&self, now: Moment) {
        self.inner().heard = Some(now.elapsed);
    }

    /// A folder could be listed.
    pub fn listed(&self, now: Moment) {
        let mut inner = self.inner();
        let before = std::mem::replace(&mut inner.health, Health::Delivering);
        if matches!(before, Health::Failed { .. })
            && let Some(not_shown) = inner.line(now.elapsed)
        {
            tracing::info!(camera = %self.camera, source = %self.place, not_shown, "the folder is there");
        }
    }

    /// An attempt failed.
    pub fn failed(&self, failure: &Failure, now: Moment) {
        let reason = failure.reason();
        let mut inner = self.inner();
        inner.heard = Some(now.elapsed);
        let count = inner.failures.entry(reason).or_default();
        *count = count.saturating_add(1);
        let since = match &inner.health {
            Health::Failed { reason: before, since, .. } if *before == reason => *since,
            _ => now.wall,
        };
        let changed = !matches!(&inner.health, Health::Failed { reason: before, .. } if *before == reason);
        inner.health = Health::Failed { reason, message: failure.to_string(), since };
        if changed && let Some(not_shown) = inner.line(now.elapsed) {
            tracing::warn!(camera = %self.camera, source = %self.place, reason, error = %failure, not_shown, "no pictures; it is tried again and again");
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole before the lock is let go, so what a panicking thread left is sound.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether a line may be written; with how many were not since the last.
    fn line(&mut self, elapsed: Duration) -> Option<u64> {
        let passed = elapsed.saturating_sub(self.counted).as_secs() / LINE_EVERY.as_secs();
        if passed > 0 {
            self.lines = self.lines.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX)).min(LINES);
            self.counted = elapsed;
        }
        if self.lines == 0 {
            self.hidden = self.hidden.saturating_add(1);
            return None;
        }
        self.lines -= 1;
        Some(std::mem::take(&mut self.hidden))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        let wall = UnixMillis(i64::try_from(seconds).expect("small") * 1000);
        Moment { wall, elapsed: Duration::from_secs(seconds) }
    }

    fn status() -> Status {
        Status::new(Name::parse("door").expect("a name"), "http://cam/".into())
    }

    #[test]
    fn every_failure_is_counted_by_reason_and_remembered_since_the_first_of_its_kind() {
        let status = status();
        assert_eq!(status.health(), Health::Beginning);
        status.failed(&Failure::Ended, at(1));
        status.failed(&Failure::Ended, at(2));
        let ended = Health::Failed { reason: "ended", message: "the stream ended".into(), since: UnixMillis(1000) };
        assert_eq!(status.health(), ended);
        status.failed(&Failure::Status(503), at(3));
        status.delivered(at(4));
        assert_eq!(status.health(), Health::Delivering);
        assert_eq!(status.failures(), BTreeMap::from([("ended", 2), ("status", 1)]));
    }

    #[test]
    fn a_source_that_comes_and_goes_has_few_lines_and_loses_count_of_none() {
        let status = status();
        let (mut shown, mut counted) = (0, 0);
        for second in 0..600 {
            if let Some(hidden) = status.inner().line(Duration::from_secs(second)) {
                shown += 1;
                counted += 1 + hidden;
            }
        }
        assert_eq!(shown, 8 + 9, "eight at once, then one a minute");
        assert_eq!(counted + status.inner().hidden, 600);
    }
}
