//! The programs, and processes that do not outlive their test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::panicking;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, until};

/// Path of a program of this workspace.
pub(crate) fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its executable");
    let folder = own.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    let path = folder.join(name);
    assert!(path.is_file(), "{} is not there; build it first: cargo build --workspace --bins", path.display());
    path
}

/// A command without anything from the surroundings of the test that the programs would read.
pub(crate) fn command(name: &str) -> Command {
    command_within(&[], name)
}

/// The same, started by the command `within`, which leads into another network or mount namespace; nothing for here.
pub(crate) fn command_within(within: &[String], name: &str) -> Command {
    let mut words = within.iter().map(PathBuf::from).chain([program(name)]);
    let mut command = Command::new(words.next().expect("the program at least"));
    command.args(words).env_clear().stdin(Stdio::null());
    command
}

/// Runs a program that ends by itself.
pub(crate) fn run(name: &str, arguments: &[&str]) -> Output {
    command(name).args(arguments).output().expect("the program can be started")
}

/// What a program wrote, for messages and searches.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A running process and its log.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Option<Child>,
    log: PathBuf,
}

impl Process {
    /// Starts a program with its configuration; what it says is appended to `NAME.log` in the folder.
    pub(crate) fn start(folder: &Path, name: &str, program: &str, subcommand: &str, config: &str) -> Self {
        Self::start_within(&[], folder, name, program, subcommand, config)
    }

    /// The same, started by the command `within`.
    pub(crate) fn start_within(
        within: &[String],
        folder: &Path,
        name: &str,
        program: &str,
        subcommand: &str,
        config: &str,
    ) -> Self {
        let config_path = folder.join(format!("{name}.toml"));
        fs::write(&config_path, config).expect("written");
        let mut command = command_within(within, program);
        command.arg(subcommand).arg("--config").arg(config_path);
        Self::spawn(folder, name, command)
    }

    /// Starts a command; what it says is appended to `NAME.log` in the folder.
    pub(crate) fn spawn(folder: &Path, name: &str, mut command: Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).expect("opened");
        let err = out.try_clone().expect("the log can be shared");
        command.stdout(out).stderr(err);
        let child = command.spawn().expect("the program can be started");
        Self { name: name.to_owned(), child: Some(child), log }
    }

    /// One that has not been started yet.
    pub(crate) fn none(folder: &Path, name: &str) -> Self {
        Self { name: name.to_owned(), child: None, log: folder.join(format!("{name}.log")) }
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("it has been started")
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().expect("it has been started").id()
    }

    /// Everything it has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The most memory it ever had resident, in bytes.
    pub(crate) fn highest_memory(&self) -> u64 {
        let pid = self.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a Linux of this century");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes * 1024
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child().try_wait().expect("our own child")
    }

    /// Fails where it has ended.
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended ({status}); its log:\n{}", self.name, self.log());
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until(&format!("the end of {}", self.name), PATIENCE, || self.ended())
    }

    /// As a power cut would end it.
    pub(crate) fn kill(&mut self) {
        self.child().kill().expect("killed");
        self.child().wait().expect("our own child");
    }

    /// As a service manager would end it; it has to obey.
    pub(crate) fn terminate(&mut self) {
        self.ask_to_end();
        let status = self.wait();
        assert!(status.success(), "{} ended with {status}; its log:\n{}", self.name, self.log());
    }

    pub(crate) fn ask_to_end(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Holds it where it is.
    pub(crate) fn halt(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Sends it a signal.
    pub(crate) fn signal(&mut self, signal: Signal) {
        let pid = i32::try_from(self.child().id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("our own child has not been waited for");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child
            && child.try_wait().is_ok_and(|status| status.is_none())
        {
            // Nothing is kept of what it holds; it has nothing to say any more.
            child.kill().ok();
            child.wait().ok();
        }
        if panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(40);
            eprintln!("---- end of the log of {}:\n{}", self.name, lines[tail..].join("\n"));
        }
    }
}

/// A port that is free now and that the system hands out to nobody: for what must come back under its old address.
///
/// Each test process looks from another place on, and each call from behind the last, so that tests that run at the same time do not
/// meet and no test gets the same port twice.
pub(crate) fn lasting_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(7).wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed));
    (0..COUNT)
        .map(|step| u16::try_from(FIRST + begin.wrapping_add(step) % COUNT).expect("below 65536"))
        .find(|&port| {
            std::net::UdpSocket::bind(("0.0.0.0", port)).is_ok()
                && std::net::TcpListener::bind(("0.0.0.0", port)).is_ok()
        })
        .expect("a free port")
}

/// Time between two looks at something that changes slowly.
pub(crate) const STEP: Duration = Duration::from_millis(250);
