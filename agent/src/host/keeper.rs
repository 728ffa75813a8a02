//! Keeps inferences passing, whatever becomes of the agent.
//!
//! Where inferences are watched, the service is two processes. This one passes inferences on and does nothing else; the agent is its
//! child, does all the rest, and may fail, hang or run out of memory without an inference noticing. It is started again then, with
//! waits that grow as those of the uplink do. A failure before the agent was ever ready is the service's, as it would be without
//! inferences.
//!
//! Must hold: what takes pictures and answers apart runs in the child; of the configuration nothing is read here but whether there is
//! anything to keep; signals reach the child, and its exit code is this one's.

use std::cell::Cell;
use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal as Kind, kill_process};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{interval, sleep, timeout};

use super::clock;
use crate::config::{Config, SourceKind};
use crate::proxy::{Handle, Proxies};
use crate::sign::{Sign, tell};
use crate::uplink::backoff::Backoff;

/// An agent that makes no progress for so long is killed.
pub(super) const STUCK: Duration = Duration::from_secs(120);
/// An agent that was ready for so long did not fail at its start.
const STEADY: Duration = Duration::from_secs(60);
/// How often it is looked after both, unless the service manager wants it more often.
const LOOK: Duration = Duration::from_secs(5);
/// The proxies say every second that they are alive; without that for so long they are not.
const DEAD: Duration = Duration::from_secs(15);
/// Time for an agent to end once it is told to.
const STOP: Duration = Duration::from_secs(20);
/// The argument by which the child knows that it is one.
pub const KEPT: &str = "--kept";

/// Why nothing is kept.
#[derive(Debug, Error)]
pub enum KeepError {
    /// No thread, process or signal handler.
    #[error("the system refuses a thread, a process or a signal handler: {0}")]
    System(#[from] io::Error),
    /// The agent ended, and has said why.
    #[error("the agent ended with code {0}")]
    Ended(u8),
}

/// Where inferences are passed on.
pub(super) fn places(config: &Config) -> impl Iterator<Item = SocketAddr> {
    config.cameras().iter().filter_map(|camera| match &camera.source.kind {
        SourceKind::Inference(inference) => Some(inference.listen),
        _ => None,
    })
}

/// Whether inferences are watched, and there is therefore something to keep.
#[must_use]
pub fn is_needed(config: &Config) -> bool {
    places(config).next().is_some()
}

/// Passes inferences on, with the agent as a child that is called with `arguments` and [`KEPT`].
///
/// # Errors
/// One variant of [`KeepError`] per cause.
pub fn keep(arguments: Vec<OsString>) -> Result<(), KeepError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let proxies = Proxies::start(clock::now)?;
        let keeper = Keeper {
            arguments,
            handle: proxies.handle(),
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            was_ready: false,
        };
        keeper.run(proxies).await
    })
}

/// How a child ended.
#[derive(Debug)]
struct Ended {
    status: ExitStatus,
    /// Whether it was told to.
    told: bool,
    /// How long it was ready.
    ready: Option<Duration>,
}

#[derive(Debug)]
struct Keeper {
    arguments: Vec<OsString>,
    handle: Handle,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Whether any child ever was.
    was_ready: bool,
}

impl Keeper {
    async fn run(mut self, mut proxies: Proxies) -> Result<(), KeepError> {
        let mut backoff = Backoff::default();
        loop {
            let why = match self.one(&mut proxies).await {
                Ok(Ended { status, told: true, .. }) => return code(status),
                Ok(Ended { status, .. }) if !self.was_ready => {
                    code(status)?;
                    return Err(KeepError::Ended(1));
                }
                Ok(Ended { status, ready, .. }) => {
                    if ready.is_some_and(|ready| ready >= STEADY) {
                        backoff.reset();
                    }
                    status.to_string()
                }
                Err(error) if !self.was_ready => return Err(error.into()),
                Err(error) => error.to_string(),
            };
            let wait = backoff.next_delay(rand::random()).max(Duration::from_millis(200));
            tracing::error!(why, ?wait, "the agent ended by itself and is started again; inferences pass meanwhile");
            if self.wait(wait).await {
                self.handle.end().await;
                return Ok(());
            }
        }
    }

    /// Runs one child to its end.
    async fn one(&mut self, proxies: &mut Proxies) -> io::Result<Ended> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut child = start(&self.arguments, theirs)?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        let now = || clock::now().elapsed;
        let (ready, alive) = (Cell::new(None), Cell::new(now()));
        let ours = UnixStream::from_std(ours)?;
        let sign = |sign| {
            alive.set(now());
            match sign {
                Sign::Ready => {
                    ready.set(ready.get().or_else(|| Some(now())));
                    tell(sign);
                }
                Sign::Reloading => tell(sign),
                // Of these two, it is this process that knows.
                Sign::Alive | Sign::Stopping => {}
            }
        };
        let attend = async {
            let error = proxies.attend(ours, sign).await;
            tracing::debug!(%error, "the agent gives no orders any more");
            // What counts is the end of its process.
            std::future::pending().await
        };
        tokio::pin!(attend);
        let mut pulse = Pulse::new(&self.handle);
        let mut look = interval(pulse.every);
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                never = &mut attend => match never {},
                _ = self.terminate.recv() => return stop(child, pid, &self.handle, attend).await,
                _ = self.interrupt.recv() => return stop(child, pid, &self.handle, attend).await,
                Some(()) = self.hangup.recv() => send(pid, Kind::HUP),
                _ = look.tick() => {
                    pulse.look(&self.handle);
                    if now().saturating_sub(alive.get()) > STUCK {
                        tracing::error!(after = ?STUCK, "the agent makes no progress and is killed");
                        alive.set(now());
                        send(pid, Kind::KILL);
                    }
                }
            }
            self.was_ready |= ready.get().is_some();
        };
        self.was_ready |= ready.get().is_some();
        Ok(Ended { status, told: false, ready: ready.get().map(|since| now().saturating_sub(since)) })
    }

    /// Waits before the next child; whether it was told to stop meanwhile.
    async fn wait(&mut self, wait: Duration) -> bool {
        let mut pulse = Pulse::new(&self.handle);
        let mut look = interval(pulse.every);
        let end = sleep(wait);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return false,
                _ = self.terminate.recv() => return true,
                _ = self.interrupt.recv() => return true,
                // The next child reads the configuration anyway.
                Some(()) = self.hangup.recv() => {}
                _ = look.tick() => pulse.look(&self.handle),
            }
        }
    }
}

/// Feeds the service manager's watchdog while the proxies are alive.
#[derive(Debug)]
struct Pulse {
    every: Duration,
    wanted: bool,
    last: u64,
    since: Duration,
}

impl Pulse {
    fn new(handle: &Handle) -> Self {
        let wanted = sd_notify::watchdog_enabled();
        let every = wanted.map_or(LOOK, |limit| (limit / 3).min(LOOK)).max(Duration::from_millis(100));
        Self { every, wanted: wanted.is_some(), last: handle.progress(), since: clock::now().elapsed }
    }

    fn look(&mut self, handle: &Handle) {
        let (progress, now) = (handle.progress(), clock::now().elapsed);
        if progress != self.last {
            (self.last, self.since) = (progress, now);
        }
        if self.wanted && now.saturating_sub(self.since) < DEAD {
            tell(Sign::Alive);
        }
    }
}

fn start(arguments: &[OsString], theirs: std::os::unix::net::UnixStream) -> io::Result<Child> {
    // Also where the file was replaced meanwhile it is this program, so that both speak the same.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("driftglass-agent").args(arguments).arg(KEPT).stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
    command.spawn()
}

fn send(pid: Option<Pid>, signal: Kind) {
    // A child that has ended and was not waited for yet takes it without harm.
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, signal)) {
        tracing::warn!(%error, ?signal, "the agent could not be told");
    }
}

/// Tells the child and the proxies to end, and waits for both.
async fn stop(
    mut child: Child,
    pid: Option<Pid>,
    handle: &Handle,
    attend: impl Future<Output = Infallible>,
) -> io::Result<Ended> {
    tell(Sign::Stopping);
    send(pid, Kind::TERM);
    let wait = async {
        match timeout(STOP, child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                tracing::error!(after = ?STOP, "the agent does not end and is killed");
                send(pid, Kind::KILL);
                child.wait().await
            }
        }
    };
    let both = async { tokio::join!(wait, handle.end()).0 };
    let status = tokio::select! {
        status = both => status?,
        never = attend => match never {},
    };
    Ok(Ended { status, told: true, ready: None })
}

fn code(status: ExitStatus) -> Result<(), KeepError> {
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(KeepError::Ended(u8::try_from(code).unwrap_or(1))),
        None => Err(KeepError::Ended(1)),
    }
}
