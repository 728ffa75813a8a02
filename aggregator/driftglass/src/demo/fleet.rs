//! The demo's processes: their folders, configurations, logs, start and end.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use driftglass_protocol::id::{DeviceId, Name, NameError};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use thiserror::Error;

use crate::client::ServerArguments;
use crate::exit::Failure;
use crate::fleet::create_token;

/// Windows, of one second each, a camera learns from.
pub(super) const LEARNING_WINDOWS: u32 = 30;
/// Where the dashboard is put if nobody else is there.
const USUAL_PORT: u16 = 8080;
/// How long a process may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(50);
/// How long a token of the demo may be used.
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);

/// A camera of the demo and where it hangs.
pub(super) struct Place {
    site: &'static str,
    device: &'static str,
    camera: &'static str,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.site, self.device, self.camera)
    }
}

/// Two sites with four cameras each, every camera on a device of its own.
pub(super) const CAMERAS: [Place; 8] = [
    Place { site: "store-1", device: "gw-1", camera: "entrance" },
    Place { site: "store-1", device: "gw-2", camera: "checkout" },
    Place { site: "store-1", device: "gw-3", camera: "aisle" },
    Place { site: "store-1", device: "gw-4", camera: "car-park" },
    Place { site: "store-2", device: "gw-1", camera: "entrance" },
    Place { site: "store-2", device: "gw-2", camera: "checkout" },
    Place { site: "store-2", device: "gw-3", camera: "aisle" },
    Place { site: "store-2", device: "gw-4", camera: "car-park" },
];

impl Place {
    fn name(&self) -> String {
        format!("{}-{}", self.site, self.device)
    }

    /// The folder its frames arrive in.
    pub(super) fn frames(&self, root: &Path) -> PathBuf {
        root.join("cameras").join(self.name())
    }

    fn state(&self, root: &Path) -> PathBuf {
        root.join("agents").join(self.name())
    }
}

/// Why the fleet does not run.
#[derive(Debug, Error)]
pub(crate) enum FleetError {
    /// A program is not there.
    #[error("{program} is not beside this program ({folder}): build the whole workspace")]
    Missing {
        /// Its name.
        program: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A file or a process could not be made.
    #[error("{what}: {error}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why it failed.
        error: io::Error,
    },
    /// A device could not be enrolled.
    #[error("{device} could not be enrolled: {why}")]
    Enrolment {
        /// Which.
        device: Box<DeviceId>,
        /// Why.
        why: String,
    },
    /// A name of the demo is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A process ended early.
    #[error("{name} ended early ({status}); the end of its log:\n{log}")]
    Ended {
        /// Which.
        name: String,
        /// How.
        status: ExitStatus,
        /// What it said last.
        log: String,
    },
    /// The aggregator was not ready in time.
    #[error("the aggregator was not ready within {} s; the end of its log:\n{log}", PATIENCE.as_secs())]
    NotReady {
        /// What it said last.
        log: String,
    },
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> FleetError {
    let what = what.into();
    move |error| FleetError::Io { what, error }
}

struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Everything that runs.
pub(super) struct Fleet {
    processes: Vec<Process>,
    http: SocketAddr,
}

#[derive(Deserialize)]
struct Addresses {
    quic: SocketAddr,
    http: SocketAddr,
}

impl Fleet {
    /// Writes configurations below `root`, starts the aggregator, enrols every device as an operator would, and starts the agents.
    pub(super) fn start(root: &Path) -> Result<Self, FleetError> {
        let (aggregator, agent) = (program("driftglass-aggregator")?, program("driftglass-agent")?);
        let mut fleet = Self { processes: Vec::new(), http: SocketAddr::from(([127, 0, 0, 1], 0)) };

        let data = root.join("aggregator");
        fs::create_dir_all(&data).map_err(failed(data.display().to_string()))?;
        let announced = data.join("addresses.json");
        // What an earlier demo left must not be taken for the answer of this one.
        match fs::remove_file(&announced) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("addresses.json")(error)),
            _ => {}
        }
        // Held only to see whether it is free.
        let port = TcpListener::bind(("127.0.0.1", USUAL_PORT)).map_or(0, |_| USUAL_PORT);
        let config = format!(
            "data_dir = {data:?}\n[quic]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n\
             [alerting]\nq = 0.05\nepoch = \"1h\"\n[baseline]\nlearning = \"{LEARNING_WINDOWS}s\"\n"
        );
        fleet.spawn(root, "aggregator", &aggregator, "serve", &config)?;
        let addresses = fleet.await_addresses(&announced)?;
        fleet.http = addresses.http;

        for place in &CAMERAS {
            let state = place.state(root);
            let device = DeviceId { site: Name::parse(place.site)?, device: Name::parse(place.device)? };
            let config = format!(
                "site = {:?}\ndevice = {:?}\nstate_dir = {state:?}\n[aggregator]\naddress = \"{}\"\n[window]\nlength = \"1s\"\n\
                 [telemetry]\nlisten = \"127.0.0.1:0\"\n[[camera]]\nname = {:?}\nsource = {{ kind = \"directory\", path = {:?} }}\n",
                place.site,
                place.device,
                addresses.quic,
                place.camera,
                place.frames(root)
            );
            fleet.enrol(root, &place.name(), &agent, &device, &config)?;
            fleet.spawn(root, &place.name(), &agent, "run", &config)?;
        }
        Ok(fleet)
    }

    /// The address of the dashboard.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Fails where a process has ended.
    pub(super) fn check(&mut self) -> Result<(), FleetError> {
        for process in &mut self.processes {
            if let Some(status) = process.child.try_wait().map_err(failed(process.name.clone()))? {
                return Err(FleetError::Ended { name: process.name.clone(), status, log: tail(&process.log) });
            }
        }
        Ok(())
    }

    /// Asks every process to end, agents first, and insists after a while.
    pub(super) fn stop(&mut self) {
        for process in self.processes.iter().rev() {
            if let Some(pid) = i32::try_from(process.child.id()).ok().and_then(Pid::from_raw) {
                // Whoever has ended already needs no asking.
                kill_process(pid, Signal::TERM).ok();
            }
        }
        let mut left = PATIENCE.as_millis() / STEP.as_millis();
        for process in self.processes.iter_mut().rev() {
            while left > 0 && matches!(process.child.try_wait(), Ok(None)) {
                pause();
                left -= 1;
            }
            drop(process.child.kill());
            drop(process.child.wait());
        }
        self.processes.clear();
    }

    fn spawn(
        &mut self,
        root: &Path,
        name: &str,
        program: &Path,
        command: &str,
        config: &str,
    ) -> Result<(), FleetError> {
        let logs = root.join("logs");
        fs::create_dir_all(&logs).map_err(failed(logs.display().to_string()))?;
        let (config_path, log) = (write_config(root, name, config)?, logs.join(format!("{name}.log")));
        let out = File::create(&log).map_err(failed(log.display().to_string()))?;
        let err = out.try_clone().map_err(failed(log.display().to_string()))?;
        let child = Command::new(program)
            .arg(command)
            .arg("--config")
            .arg(&config_path)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(failed(program.display().to_string()))?;
        self.processes.push(Process { name: name.to_owned(), child, log });
        Ok(())
    }

    /// Has the aggregator make a token, and the agent redeem it.
    fn enrol(
        &self,
        root: &Path,
        name: &str,
        program: &Path,
        device: &DeviceId,
        config: &str,
    ) -> Result<(), FleetError> {
        let refused = |why: String| FleetError::Enrolment { device: Box::new(device.clone()), why };
        let token =
            create_token(&ServerArguments::local(&self.url()), device, TOKEN_LIFETIME).map_err(
                |failure| match failure {
                    Failure::Job(why) | Failure::Usage(why) => refused(why),
                },
            )?;
        let config_path = write_config(root, name, config)?;
        let output = Command::new(program)
            .args(["enroll", "--config"])
            .arg(config_path)
            .env("DRIFTGLASS_TOKEN", token)
            .stdin(Stdio::null())
            .output()
            .map_err(failed(program.display().to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }

    fn await_addresses(&mut self, path: &Path) -> Result<Addresses, FleetError> {
        for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
            if let Some(addresses) = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                return Ok(addresses);
            }
            self.check()?;
            pause();
        }
        Err(FleetError::NotReady { log: self.processes.first().map_or_else(String::new, |process| tail(&process.log)) })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop();
    }
}

fn write_config(root: &Path, name: &str, config: &str) -> Result<PathBuf, FleetError> {
    let folder = root.join("config");
    fs::create_dir_all(&folder).map_err(failed(folder.display().to_string()))?;
    let path = folder.join(format!("{name}.toml"));
    fs::write(&path, config).map_err(failed(path.display().to_string()))?;
    Ok(path)
}

fn program(name: &'static str) -> Result<PathBuf, FleetError> {
    let own = std::env::current_exe().map_err(failed("the path of this program"))?;
    let folder = own.parent().unwrap_or(Path::new("/")).to_owned();
    let path = folder.join(name);
    if path.is_file() { Ok(path) } else { Err(FleetError::Missing { program: name, folder }) }
}

/// The last lines of a log.
fn tail(path: &Path) -> String {
    const BYTES: u64 = 2_000;
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.take(BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("(the log cannot be read: {error})"))
}

#[expect(clippy::disallowed_methods, reason = "waits for processes to start and to end")]
fn pause() {
    std::thread::sleep(STEP);
}
