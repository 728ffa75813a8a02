//! A program of the operator's that writes JPEG files to its standard output, one after the other.
//!
//! It opens every door: `ffmpeg` for H.264 over RTSP, vendors' tools, test pictures; and it has its own memory. It is started without a
//! shell, in a process group of its own, which is told to end with the agent and when it stalls, and killed when it does not.
//!
//! Must hold: what it writes to standard error is read and forgotten except for the last line, which is shown, without credentials, when
//! the program ends; its arguments are never shown.
//!
//! A command that is killed together with the agent by SIGKILL is not our doing; under systemd its group ends with the service's.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout, timeout_at};

use super::address::redact;
use super::jpeg_stream::Splitter;
use super::live::Feed;
use super::multipart::Malformed;
use super::status::Failure;

/// Time between being told to end and being killed.
const GRACE: Duration = Duration::from_secs(2);
/// Time to die by itself after it closed its output.
const ENDING: Duration = Duration::from_secs(1);
/// Bytes kept of a line of standard error.
const LINE: usize = 1000;
/// Variables that mean something between the service manager and the agent only.
const OURS: [&str; 5] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "CREDENTIALS_DIRECTORY"];

/// A program and its arguments.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The program.
    pub program: String,
    /// Its arguments, which may hold credentials.
    pub arguments: Vec<String>,
}

impl CommandLine {
    /// The program's name, without its path and arguments.
    #[must_use]
    pub fn name(&self) -> String {
        Path::new(&self.program).file_name().map_or_else(|| self.program.clone(), |name| name.to_string_lossy().into())
    }
}

impl std::fmt::Debug for CommandLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CommandLine({} and {} arguments)", self.program, self.arguments.len())
    }
}

/// A program that delivers pictures.
#[derive(Debug)]
pub(super) struct Exec {
    command: CommandLine,
    wait: Duration,
    /// The child, and the group it leads.
    child: Option<(Child, Option<Pid>)>,
}

impl Exec {
    pub(super) const fn new(command: CommandLine, wait: Duration) -> Self {
        Self { command, wait, child: None }
    }

    /// Runs it until it ends or stalls.
    pub(super) async fn attempt(&mut self, feed: &Feed) -> Failure {
        let mut command = Command::new(&self.command.program);
        command.args(&self.command.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        for variable in OURS {
            command.env_remove(variable);
        }
        let program = self.command.name();
        let child = match command.spawn() {
            Ok(child) => {
                let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
                &mut self.child.insert((child, group)).0
            }
            Err(error) => return Failure::Start { program, error },
        };
        let (Some(mut pictures), Some(mut messages)) = (child.stdout.take(), child.stderr.take()) else {
            return Failure::Start { program, error: io::ErrorKind::BrokenPipe.into() };
        };
        let mut said = LastLine::default();
        let failure = read(&mut pictures, &mut messages, &mut said, feed, self.wait).await;
        if let Some(failure) = failure {
            return failure;
        }
        let Ok(status) = timeout(ENDING, child.wait()).await else {
            return Failure::Exited { program, status: "it closed its output".into(), said: said.shown() };
        };
        // What it said last may still be in the pipe.
        let rest = async { while said.read(&mut messages).await {} };
        if timeout(ENDING, rest).await.is_err() {
            tracing::debug!("a program's child holds its standard error open");
        }
        let status = status.map_or_else(|error| error.to_string(), shown);
        Failure::Exited { program, status, said: said.shown() }
    }

    /// Ends it and whatever it started.
    pub(super) async fn close(&mut self) {
        let Some((mut child, group)) = self.child.take() else { return };
        let tell = |signal| {
            if let Some(group) = group
                && let Err(error) = kill_process_group(group, signal)
            {
                tracing::debug!(%error, "nobody is left in the group");
            }
        };
        tell(Signal::TERM);
        let ended = timeout(GRACE, child.wait()).await.is_ok();
        tell(Signal::KILL);
        if !ended && timeout(GRACE, child.wait()).await.is_err() {
            tracing::warn!(program = self.command.name(), "a killed program does not end");
        }
    }
}

fn shown(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".into(),
    }
}

/// Reads until the output ends (`None`) or something is wrong.
async fn read(
    pictures: &mut (impl AsyncRead + Unpin),
    messages: &mut (impl AsyncRead + Unpin),
    said: &mut LastLine,
    feed: &Feed,
    wait: Duration,
) -> Option<Failure> {
    let mut splitter = Splitter::new(feed.limit());
    let mut buffer = vec![0; 64 * 1024];
    let mut deadline = Instant::now() + wait;
    let mut talks = true;
    loop {
        let read = tokio::select! {
            biased;
            more = said.read(messages), if talks => {
                talks = more;
                // A program that only talks is no reason to wait for ever.
                if Instant::now() >= deadline {
                    return Some(Failure::Stalled(wait));
                }
                continue;
            }
            read = timeout_at(deadline, pictures.read(&mut buffer)) => read,
        };
        let count = match read {
            Err(_) => return Some(Failure::Stalled(wait)),
            Ok(Err(_) | Ok(0)) => return None,
            Ok(Ok(count)) => count,
        };
        let fed = splitter.feed(buffer.get(..count).unwrap_or_default(), &mut |picture| {
            feed.put(picture);
            deadline = Instant::now() + wait;
        });
        if fed.is_err() {
            return Some(Malformed::NoPicture.into());
        }
    }
}

/// The last line of an endless text, in fixed memory.
#[derive(Debug, Default)]
struct LastLine {
    last: Vec<u8>,
    open: Vec<u8>,
}

impl LastLine {
    /// Reads some; false at the end. Nothing is lost when it is dropped while it waits.
    async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) -> bool {
        let mut buffer = [0; 1024];
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.take(buffer.get(..count).unwrap_or_default());
                true
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if matches!(byte, b'\n' | b'\r') {
                if !self.open.trim_ascii().is_empty() {
                    std::mem::swap(&mut self.last, &mut self.open);
                }
                self.open.clear();
            } else if self.open.len() < LINE {
                self.open.push(byte);
            }
        }
    }

    /// With a colon in front, or nothing.
    fn shown(&self) -> String {
        let line = if self.open.trim_ascii().is_empty() { &self.last } else { &self.open };
        // A word that was cut off may be a URL whose credentials can no longer be told.
        let whole =
            if line.len() < LINE { line.len() } else { line.iter().rposition(u8::is_ascii_whitespace).unwrap_or(0) };
        let text = String::from_utf8_lossy(line.get(..whole).unwrap_or_default().trim_ascii());
        let text: String = text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
        if text.is_empty() { text } else { format!(": {}", redact(&text)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_endless_text_the_last_line_is_kept_without_credentials() {
        let mut said = LastLine::default();
        assert_eq!(said.shown(), "");
        said.take(b"one\r\ntwo\n\n   \n");
        assert_eq!(said.shown(), ": two");
        said.take(b"rtsp://admin:secret@cam/1: 401 Unauth");
        said.take(b"orized\x1b");
        assert_eq!(said.shown(), ": rtsp://***@cam/1: 401 Unauthorized?");
        said.take(b"\nlong ");
        said.take(&[vec![b'/'; LINE - 20], b" rtsp://admin:secret@cam".repeat(1000)].concat());
        assert_eq!(said.open.len(), LINE);
        assert!(said.shown().ends_with('/'), "{}", said.shown());
    }

    #[test]
    fn arguments_never_show() {
        let command = CommandLine { program: "/usr/bin/ffmpeg".into(), arguments: vec!["rtsp://u:secret@h".into()] };
        assert_eq!(format!("{command:?} {}", command.name()), "CommandLine(/usr/bin/ffmpeg and 1 arguments) ffmpeg");
    }
}
