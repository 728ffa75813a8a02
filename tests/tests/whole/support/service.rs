//! An aggregator and agents as they are deployed, and what the aggregator says over HTTP.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use super::authority::{Authority, Identity};
use super::process::{Process, lasting_port};
use super::{PATIENCE, until};

/// Asks over HTTP.
fn get(url: &str) -> Result<String, ureq::Error> {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build();
    ureq::Agent::from(config).get(url).call()?.body_mut().read_to_string()
}

/// The sum of all samples of a metric whose labels contain `label`.
fn sample(text: &str, metric: &str, label: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(series, _)| {
            series.strip_prefix(metric).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
                && series.contains(label)
        })
        .map(|(_, value)| value.parse::<u64>().expect("a count"))
        .sum()
}

/// What the aggregator has counted of a camera.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) frames: u64,
    pub(crate) undecodable: u64,
    pub(crate) skipped: u64,
    pub(crate) late: u64,
}

impl Counts {
    pub(crate) const fn total(self) -> u64 {
        self.frames + self.undecodable + self.skipped + self.late
    }
}

/// A running aggregator.
#[derive(Debug)]
pub(crate) struct Aggregator {
    root: PathBuf,
    data: PathBuf,
    config: String,
    /// The command that leads to where it runs; nothing for here.
    pub(crate) within: Vec<String>,
    pub(crate) process: Process,
    pub(crate) quic: SocketAddr,
    http: SocketAddr,
}

impl Aggregator {
    /// Starts one; `quic_port` 0 lets the system choose.
    pub(crate) fn start(root: &Path, authority: &Authority, quic_port: u16) -> Self {
        Self::start_with(root, authority, quic_port, "", "")
    }

    /// The same with more settings for QUIC, and with more sections.
    pub(crate) fn start_with(root: &Path, authority: &Authority, quic_port: u16, quic: &str, sections: &str) -> Self {
        let data = root.join("aggregator");
        authority.install(&authority.server(), &data);
        let config = format!(
            "data_dir = {data:?}\n[quic]\nlisten = \"127.0.0.1:{quic_port}\"\n{quic}\n[http]\nlisten = \"127.0.0.1:0\"\n\
             [alerting]\nq = 0.05\nepoch = \"1h\"\n[baseline]\nlearning = \"30s\"\n{sections}\n"
        );
        Self::configured(root, data, config, Vec::new())
    }

    /// Starts one by the command `within`, at addresses that last. `seen` is its data folder as this process sees it.
    pub(crate) fn start_at(
        root: &Path,
        authority: &Authority,
        identity: &Identity,
        within: Vec<String>,
        seen: &Path,
        quic: SocketAddr,
    ) -> Self {
        let data = root.join("aggregator");
        authority.install(identity, seen);
        let http = SocketAddr::from(([127, 0, 0, 1], lasting_port()));
        let config = format!(
            "data_dir = {data:?}\n[quic]\nlisten = \"{quic}\"\n[http]\nlisten = \"{http}\"\n[baseline]\nlearning = \"30s\"\n"
        );
        let process = process(&within, root, &config);
        let mut aggregator = Self { root: root.to_owned(), data, config, within, process, quic, http };
        until("an aggregator that is ready", PATIENCE, || {
            aggregator.process.assert_running();
            aggregator.is_ready().then_some(())
        });
        aggregator
    }

    /// Whether it says that it can do its work.
    pub(crate) fn is_ready(&self) -> bool {
        get(&format!("http://{}/readyz", self.http)).is_ok()
    }

    fn configured(root: &Path, data: PathBuf, config: String, within: Vec<String>) -> Self {
        let (process, quic, http) = launch(&within, root, &data, &config);
        Self { root: root.to_owned(), data, config, within, process, quic, http }
    }

    /// Starts one that is the fleet's authority itself; certificates of devices live for so long.
    pub(crate) fn issuing(root: &Path, certificate_lifetime: &str, quic_port: u16) -> Self {
        Self::issuing_with(root, certificate_lifetime, quic_port, "")
    }

    /// The same with more sections.
    pub(crate) fn issuing_with(root: &Path, certificate_lifetime: &str, quic_port: u16, sections: &str) -> Self {
        let data = root.join("aggregator");
        let config = format!(
            "data_dir = {data:?}\n[quic]\nlisten = \"127.0.0.1:{quic_port}\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
             [identity]\ncertificate_lifetime = \"{certificate_lifetime}\"\n{sections}\n"
        );
        Self::configured(root, data, config, Vec::new())
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Where it listens for agents over TCP.
    pub(crate) fn tcp(&self) -> SocketAddr {
        let bytes = fs::read(self.data.join("addresses.json")).expect("announced");
        let addresses: Value = serde_json::from_slice(&bytes).expect("JSON");
        addresses["tcp"].as_str().and_then(|text| text.parse().ok()).expect("it listens on TCP")
    }

    /// Where it is asked.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Runs the operator's tool against it.
    pub(crate) fn operate(&self, arguments: &[&str]) -> Output {
        super::process::run("driftglass", &[arguments, &["--server", &self.url()]].concat())
    }

    /// `driftglass_enrolments_total` for a result.
    pub(crate) fn enrolments(&self, result: &str) -> u64 {
        let text = get(&format!("{}/metrics", self.url())).expect("metrics");
        assert!(text.contains(&format!("driftglass_enrolments_total{{result=\"{result}\"}}")), "{result}");
        sample(&text, "driftglass_enrolments_total", &format!("result=\"{result}\""))
    }

    /// Starts it again after its end.
    pub(crate) fn restart(&mut self) {
        (self.process, self.quic, self.http) = launch(&self.within, &self.root, &self.data, &self.config);
    }

    /// Starts it again after its end without waiting for anything; only where its addresses last.
    pub(crate) fn restart_blindly(&mut self) {
        self.process = process(&self.within, &self.root, &self.config);
    }

    /// All items of a list; `None` while nobody answers.
    pub(crate) fn list(&self, resource: &str) -> Option<Vec<Value>> {
        let text = get(&format!("http://{}/api/v1/{resource}?limit=500", self.http)).ok()?;
        let page: Value = serde_json::from_str(&text).expect("JSON");
        assert!(page["next_offset"].is_null(), "one page is enough for a test");
        Some(page["items"].as_array().expect("items").clone())
    }

    /// A camera, once it is known.
    pub(crate) fn camera(&self, id: &str) -> Option<Value> {
        self.list("cameras")?.into_iter().find(|camera| camera["id"] == id)
    }

    pub(crate) fn counts(&self, id: &str) -> Counts {
        let Some(camera) = self.camera(id) else { return Counts::default() };
        let count = |key: &str| camera[key].as_u64().expect("a count");
        Counts {
            frames: count("frames_total"),
            undecodable: count("undecodable_total"),
            skipped: count("skipped_total"),
            late: count("late_total"),
        }
    }

    /// `driftglass_summaries_rejected_total` for a reason.
    pub(crate) fn rejected(&self, reason: &str) -> u64 {
        let text = get(&format!("http://{}/metrics", self.http)).expect("metrics");
        assert!(text.contains(&format!("driftglass_summaries_rejected_total{{reason=\"{reason}\"}}")), "{reason}");
        sample(&text, "driftglass_summaries_rejected_total", &format!("reason=\"{reason}\""))
    }

    /// A counter without labels.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        sample(&get(&format!("{}/metrics", self.url())).expect("metrics"), name, "")
    }

    /// Rejections for all reasons.
    pub(crate) fn rejected_in_all(&self) -> u64 {
        let text = get(&format!("http://{}/metrics", self.http)).expect("metrics");
        sample(&text, "driftglass_summaries_rejected_total", "")
    }
}

fn process(within: &[String], root: &Path, config: &str) -> Process {
    Process::start_within(within, root, "aggregator", "driftglass-aggregator", "serve", config)
}

fn launch(within: &[String], root: &Path, data: &Path, config: &str) -> (Process, SocketAddr, SocketAddr) {
    let announced = data.join("addresses.json");
    if announced.exists() {
        fs::remove_file(&announced).expect("removed");
    }
    let mut process = process(within, root, config);
    let addresses: Value = until("the aggregator's addresses", PATIENCE, || {
        process.assert_running();
        fs::read(&announced).ok().map(|bytes| serde_json::from_slice(&bytes).expect("JSON"))
    });
    let address = |key: &str| addresses[key].as_str().and_then(|text| text.parse().ok()).expect("an address");
    let (quic, http) = (address("quic"), address("http"));
    until("an aggregator that is ready", PATIENCE, || get(&format!("http://{http}/readyz")).ok());
    (process, quic, http)
}

/// An agent with windows of one second.
#[derive(Debug)]
pub(crate) struct Agent {
    root: PathBuf,
    name: String,
    config: String,
    telemetry: SocketAddr,
    /// The command that leads to where it runs; nothing for here.
    pub(crate) within: Vec<String>,
    pub(crate) process: Process,
}

impl Agent {
    /// Installs an identity and starts.
    pub(crate) fn start(
        root: &Path,
        authority: &Authority,
        identity: &Identity,
        aggregator: SocketAddr,
        site: &str,
        frames: &Path,
        telemetry_port: u16,
    ) -> Self {
        Self::start_with(root, authority, identity, aggregator, site, &Self::door(frames), telemetry_port)
    }

    /// One camera over a folder, as the configuration file has it.
    pub(crate) fn door(frames: &Path) -> String {
        format!("[[camera]]\nname = \"door\"\nsource = {{ kind = \"directory\", path = {frames:?} }}\n")
    }

    /// Installs an identity and starts with these cameras, as the configuration file has them.
    pub(crate) fn start_with(
        root: &Path,
        authority: &Authority,
        identity: &Identity,
        aggregator: SocketAddr,
        site: &str,
        cameras: &str,
        telemetry_port: u16,
    ) -> Self {
        authority.install(identity, &root.join(format!("agent-{site}")));
        let mut agent = Self::configured(root, aggregator, site, cameras, telemetry_port);
        agent.restart();
        agent
    }

    /// Configured, and not started yet.
    pub(crate) fn configured(
        root: &Path,
        aggregator: SocketAddr,
        site: &str,
        cameras: &str,
        telemetry_port: u16,
    ) -> Self {
        let state = root.join(format!("agent-{site}"));
        let telemetry = SocketAddr::from(([127, 0, 0, 1], telemetry_port));
        let config = format!(
            "site = {site:?}\ndevice = \"gw\"\nstate_dir = {state:?}\n[aggregator]\naddress = \"{aggregator}\"\n\
             [window]\nlength = \"1s\"\n[telemetry]\nlisten = \"{telemetry}\"\n{cameras}"
        );
        let name = format!("agent-{site}");
        let process = Process::none(root, &name);
        Self { root: root.to_owned(), name, config, telemetry, within: Vec::new(), process }
    }

    /// With a way over TCP besides; QUIC is tried again after ten seconds.
    pub(crate) fn falling_back(mut self, tcp: SocketAddr) -> Self {
        let fallback = format!("fallback = \"{tcp}\"\nretry_quic = \"10s\"\n[window]");
        self.config = self.config.replacen("[window]", &fallback, 1);
        self
    }

    /// Enrols it with a token, as an operator would.
    pub(crate) fn enroll(&self, token: &str) -> Output {
        let path = self.root.join(format!("{}.toml", self.name));
        fs::write(&path, &self.config).expect("written");
        super::process::run(
            "driftglass-agent",
            &["enroll", "--config", path.to_str().expect("UTF-8"), "--token", token],
        )
    }

    /// Its state folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// Starts it again after its end.
    pub(crate) fn restart(&mut self) {
        self.process =
            Process::start_within(&self.within, &self.root, &self.name, "driftglass-agent", "run", &self.config);
    }

    /// Starts it with a socket of a service manager that it tells how it is.
    pub(crate) fn start_notifying(&mut self, socket: &Path) {
        self.edit(str::to_owned);
        let mut command = super::process::command("driftglass-agent");
        command.env("NOTIFY_SOCKET", socket).arg("run").arg("--config").arg(self.file());
        self.process = Process::spawn(&self.root, &self.name, command);
    }

    fn file(&self) -> PathBuf {
        self.root.join(format!("{}.toml", self.name))
    }

    /// Writes its configuration with these cameras instead of those it had when it was configured.
    pub(crate) fn reconfigure(&self, cameras: &str) {
        let (head, _) = self.config.split_once("[[camera]]").expect("it has cameras");
        fs::write(self.file(), format!("{head}{cameras}")).expect("written");
    }

    /// Changes its configuration file; what it is started with stays what it was.
    pub(crate) fn edit(&self, change: impl FnOnce(&str) -> String) {
        let file = self.file();
        let text = fs::read_to_string(&file).unwrap_or_else(|_| self.config.clone());
        fs::write(file, change(&text)).expect("written");
    }

    /// A page of its own small server; only for agents with a telemetry port.
    pub(crate) fn page(&self, path: &str) -> Option<String> {
        get(&format!("http://{}{path}", self.telemetry)).ok()
    }

    /// The sum of a metric of its own.
    pub(crate) fn metric(&self, metric: &str, label: &str) -> u64 {
        self.try_metric(metric, label).expect("the agent's metrics")
    }

    /// The same; `None` while it cannot be asked.
    pub(crate) fn try_metric(&self, metric: &str, label: &str) -> Option<u64> {
        Some(sample(&self.page("/metrics")?, metric, label))
    }
}
