//! The agent's settings: flags over `DRIFTGLASS_*` over the file over defaults, checked once, all faults at once.
//!
//! A value of [`Config`] is right by construction: its fields are private and the only way to one is [`Config::resolve`]. The file is
//! walked key by key instead of being decoded into a struct, because a decoder stops at the first fault and an operator wants
//! them all.

mod change;
mod fault;
#[cfg(feature = "inference")]
mod inference;
mod pushed;
mod section;
mod source;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use driftglass_protocol::advisory::Detector;
use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::summary::Model;
use driftglass_protocol::unit::Millis;
use toml::{Table, Value};

pub use change::{ChangedCamera, Changes};
pub use fault::{Fault, Faults};
#[cfg(feature = "inference")]
pub use inference::{Api, InferenceConfig, Pixels, Pointer, ScoreConfig};
pub use pushed::check_pushed;
use section::Section;
pub use source::{HttpSource, SourceConfig, SourceKind};

use crate::prediction::Detectors;
use crate::spool;
use crate::uplink::Fallback;
use crate::window::FrameRate;

/// Where the configuration is looked for unless said otherwise.
pub const DEFAULT_FILE: &str = "/etc/driftglass/agent.toml";
/// Most cameras of one agent.
pub const MAX_CAMERAS: usize = 256;

const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
const LONGEST_WINDOW: Duration = Duration::from_secs(24 * 3600);
const SHORTEST_TRIAL: Duration = Duration::from_secs(5);
const LONGEST_TRIAL: Duration = Duration::from_secs(24 * 3600);

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Which time a file of a folder counts as taken at; a live source's frames count as taken when they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventTime {
    /// When it was last written.
    #[default]
    Modified,
    /// When the agent took it.
    Arrival,
}

/// One camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraConfig {
    /// Its name.
    pub name: Name,
    /// Where its frames come from.
    pub source: SourceConfig,
    /// The model watched on it.
    pub model: Option<Model>,
}

/// Settings from flags and environment, which win over the file. Empty texts count as not given.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `site`
    pub site: Option<String>,
    /// `device`
    pub device: Option<String>,
    /// `state_dir`
    pub state_dir: Option<String>,
    /// `aggregator.address`
    pub aggregator: Option<String>,
    /// `telemetry.listen`
    pub telemetry: Option<String>,
    /// `log.level`
    pub log_level: Option<String>,
}

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    device: DeviceId,
    state_dir: PathBuf,
    aggregator_host: String,
    aggregator_port: u16,
    server_name: Option<String>,
    fallback: Option<Fallback>,
    segmentation_offload: bool,
    window: Millis,
    spool_bytes: u64,
    telemetry: SocketAddr,
    trust_domain: String,
    log_format: Option<LogFormat>,
    log_level: String,
    cameras: Vec<CameraConfig>,
    detectors: Detectors,
    device_health: bool,
    takes_pushed: bool,
    confirm_within: Duration,
}

impl Config {
    /// Reads, merges and checks.
    ///
    /// # Errors
    /// Every fault there is.
    pub fn resolve(file: &Path, text: &str, overrides: &Overrides) -> Result<Self, Faults> {
        let table = match text.parse::<Table>() {
            Ok(table) => table,
            Err(error) => {
                let mut faults = Faults::new(file);
                let line = error
                    .span()
                    .map_or(0, |span| text.get(..span.start).map_or(0, |before| before.matches('\n').count()) + 1);
                faults.add(format!("line {line}"), "", format!("TOML: {}", error.message()));
                return Err(faults);
            }
        };
        let mut faults = Faults::new(file);
        let config = Self::from_table(with_overrides(table, overrides), &mut faults);
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(faults),
        }
    }

    fn from_table(table: Table, faults: &mut Faults) -> Option<Self> {
        let mut root = Section::new(table, String::new());
        let site = root.required("site", NAME, faults, |text| Name::parse(text).map_err(|e| e.to_string()));
        let device = root.required("device", NAME, faults, |text| Name::parse(text).map_err(|e| e.to_string()));
        let state_dir = root.required("state_dir", "an absolute path", faults, absolute);

        let mut section = root.section("aggregator", faults);
        let address = section.required("address", "HOST:PORT", faults, host_and_port);
        let server_name = section.optional("server_name", "a host name or IP address", faults, server_name);
        let fallback = section.optional("fallback", "HOST:PORT, over TCP", faults, host_and_port);
        let retry_quic = section.optional("retry_quic", "a duration from 10s to 24h, such as \"30m\"", faults, retry);
        let segmentation_offload = section.flag("segmentation_offload", faults);
        section.finish(faults);

        let mut section = root.section("window", faults);
        let length = section.optional("length", WINDOW, faults, window_length);
        section.finish(faults);

        let mut section = root.section("spool", faults);
        let max_bytes = section.optional("max_bytes", "a size of at least 1MiB, such as \"16MiB\"", faults, spool_size);
        section.finish(faults);

        let mut section = root.section("telemetry", faults);
        let listen =
            section.optional("listen", "a loopback IP address and port, such as \"127.0.0.1:9464\"", faults, loopback);
        section.finish(faults);

        let mut section = root.section("prediction", faults);
        let detectors = section.texts("detectors", DETECTORS, faults, Detector::from_name);
        section.finish(faults);

        let mut section = root.section("device_health", faults);
        let device_health = section.flag("enabled", faults);
        section.finish(faults);

        let mut section = root.section("pushed_configuration", faults);
        let takes_pushed = section.flag("accept", faults);
        let confirm_within =
            section.optional("confirm_within", "a duration from 5s to 24h, such as \"10m\"", faults, confirm_within);
        section.finish(faults);

        let mut section = root.section("identity", faults);
        let trust_domain =
            section.optional("trust_domain", "a SPIFFE trust domain: a-z 0-9 . - _", faults, trust_domain);
        section.finish(faults);

        let mut section = root.section("log", faults);
        let log_format = section.optional("format", "\"text\" or \"json\"", faults, |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(String::new()),
        });
        let log_level = section.optional("level", LEVELS, faults, log_level);
        section.finish(faults);

        let cameras = cameras(&mut root, faults);
        root.finish(faults);
        let (host, port) = address?;
        Some(Self {
            device: DeviceId { site: site?, device: device? },
            state_dir: state_dir?,
            server_name,
            fallback: fallback.map(|(host, port)| Fallback {
                host,
                port,
                retry_quic: retry_quic.unwrap_or(Duration::from_secs(1800)),
            }),
            segmentation_offload: segmentation_offload.unwrap_or(true),
            aggregator_host: host,
            aggregator_port: port,
            window: length.unwrap_or(Millis(60_000)),
            spool_bytes: max_bytes.unwrap_or(16 << 20),
            telemetry: listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9464))),
            trust_domain: trust_domain.unwrap_or_else(|| "driftglass.local".into()),
            log_format,
            log_level: log_level.unwrap_or_else(|| "info".into()),
            cameras,
            device_health: device_health.unwrap_or(false),
            takes_pushed: takes_pushed.unwrap_or(true),
            confirm_within: confirm_within.unwrap_or(Duration::from_secs(600)),
            detectors: detectors
                .map_or_else(Detectors::default, |list| list.into_iter().fold(Detectors::none(), Detectors::with)),
        })
    }

    /// The device this is.
    #[must_use]
    pub const fn device(&self) -> &DeviceId {
        &self.device
    }
    /// The folder for everything that must outlive the process.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }
    /// Host of the aggregator.
    #[must_use]
    pub fn aggregator_host(&self) -> &str {
        &self.aggregator_host
    }
    /// UDP port of the aggregator.
    #[must_use]
    pub const fn aggregator_port(&self) -> u16 {
        self.aggregator_port
    }
    /// Where the aggregator is reached over TCP, where UDP is blocked.
    #[must_use]
    pub const fn fallback(&self) -> Option<&Fallback> {
        self.fallback.as_ref()
    }
    /// Whether several packets are handed to the system at once.
    #[must_use]
    pub const fn segmentation_offload(&self) -> bool {
        self.segmentation_offload
    }
    /// The name the aggregator's certificate must bear.
    #[must_use]
    pub fn server_name(&self) -> &str {
        self.server_name.as_deref().unwrap_or(&self.aggregator_host)
    }
    /// Whether the aggregator has to bear that name, and may not show the name of its role instead.
    #[must_use]
    pub const fn insists_on_server_name(&self) -> bool {
        self.server_name.is_some()
    }
    /// Length of a window.
    #[must_use]
    pub const fn window(&self) -> Millis {
        self.window
    }
    /// Limit of the spool in bytes.
    #[must_use]
    pub const fn spool_bytes(&self) -> u64 {
        self.spool_bytes
    }
    /// Where metrics are served.
    #[must_use]
    pub const fn telemetry(&self) -> SocketAddr {
        self.telemetry
    }
    /// The SPIFFE trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }
    /// How log lines look, where the file says so.
    #[must_use]
    pub const fn log_format(&self) -> Option<LogFormat> {
        self.log_format
    }
    /// Which log lines there are.
    #[must_use]
    pub fn log_level(&self) -> &str {
        &self.log_level
    }
    /// Whether the device's own figures travel as features.
    #[must_use]
    pub const fn device_health(&self) -> bool {
        self.device_health
    }
    /// Whether the centre may lay settings over these.
    #[must_use]
    pub const fn takes_pushed(&self) -> bool {
        self.takes_pushed
    }
    /// Within what time something has to be delivered under settings from the centre, besides two windows.
    #[must_use]
    pub const fn confirm_within(&self) -> Duration {
        self.confirm_within
    }
    /// Which detectors watch the models.
    #[must_use]
    pub const fn detectors(&self) -> Detectors {
        self.detectors
    }
    /// The cameras.
    #[must_use]
    pub fn cameras(&self) -> &[CameraConfig] {
        &self.cameras
    }
}

const NAME: &str = "1 to 63 of a-z 0-9 . _ - beginning with a letter or digit";
const WINDOW: &str = "a duration from 1s to 24h, such as \"60s\"";
const DETECTORS: &str = "a list of \"ddm\", \"eddm\", \"hddm_a\", \"adwin\", \"page_hinkley\", \"kswin\"";
const LEVELS: &str = "error, warn, info, debug or trace";

fn with_overrides(mut table: Table, overrides: &Overrides) -> Table {
    let mut set = |section: Option<&str>, key: &str, value: &Option<String>| {
        let Some(value) = value.as_ref().filter(|value| !value.is_empty()) else { return };
        let target = match section {
            None => Some(&mut table),
            Some(section) => table.entry(section).or_insert_with(|| Value::Table(Table::new())).as_table_mut(),
        };
        if let Some(target) = target {
            target.insert(key.into(), Value::String(value.clone()));
        }
    };
    set(None, "site", &overrides.site);
    set(None, "device", &overrides.device);
    set(None, "state_dir", &overrides.state_dir);
    set(Some("aggregator"), "address", &overrides.aggregator);
    set(Some("telemetry"), "listen", &overrides.telemetry);
    set(Some("log"), "level", &overrides.log_level);
    table
}

fn cameras(root: &mut Section, faults: &mut Faults) -> Vec<CameraConfig> {
    let mut cameras = Vec::new();
    let mut names = BTreeSet::new();
    let mut keys = Vec::new();
    let tables = root.tables("camera", faults);
    if tables.len() > MAX_CAMERAS {
        faults.add("camera".into(), tables.len().to_string(), format!("at most {MAX_CAMERAS} cameras an agent"));
    }
    for mut camera in tables {
        let key = camera.key("source");
        let name = camera.required("name", NAME, faults, |text| Name::parse(text).map_err(|e| e.to_string()));
        if let Some(name) = &name
            && !names.insert(name.clone())
        {
            faults.add(camera.key("name"), name.to_string(), "a name no other camera has".into());
        }
        let mut section = camera.section("source", faults);
        let source = source::source(&mut section, faults);
        section.finish(faults);
        let model = camera.has("model").then(|| {
            let mut section = camera.section("model", faults);
            let name = section.required("name", NAME, faults, |text| Name::parse(text).map_err(|e| e.to_string()));
            let version =
                section.required("version", NAME, faults, |text| Name::parse(text).map_err(|e| e.to_string()));
            section.finish(faults);
            Some(Model { name: name?, version: version? })
        });
        camera.finish(faults);
        if let (Some(name), Some(source)) = (name, source) {
            keys.push(key);
            cameras.push(CameraConfig { name, source, model: model.flatten() });
        }
    }
    source::conflicts(keys.into_iter().zip(cameras.iter().map(|camera| &camera.source)), faults);
    cameras
}

/// A rate in frames per second, as the file and the flags give it.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie in 0.001..=1000 first")]
pub fn frame_rate(fps: f64) -> Option<FrameRate> {
    if !(0.001..=1000.0).contains(&fps) {
        return None;
    }
    FrameRate::from_millihertz((fps * 1000.0).round() as u32)
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("the path is relative".into()) }
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|&port| port > 0).ok_or("the port is not a number from 1 to 65535")?;
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err("the host is missing".into());
    }
    Ok((host.into(), port))
}

fn retry(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(10)..=Duration::from_secs(86_400)).contains(&time) { Ok(time) } else { Err(String::new()) }
}

fn server_name(text: &str) -> Result<String, String> {
    rustls::pki_types::ServerName::try_from(text).map(|_| text.to_string()).map_err(|error| error.to_string())
}

fn window_length(text: &str) -> Result<Millis, String> {
    let length = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if !(SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&length) {
        return Err(String::new());
    }
    u32::try_from(length.as_millis()).map(Millis).map_err(|error| error.to_string())
}

fn confirm_within(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (SHORTEST_TRIAL..=LONGEST_TRIAL).contains(&time) { Ok(time) } else { Err(String::new()) }
}

fn spool_size(text: &str) -> Result<u64, String> {
    let size = text.parse::<bytesize::ByteSize>()?.as_u64();
    if size < spool::MIN_BYTES { Err(String::new()) } else { Ok(size) }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| String::new())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("metrics are not protected, so they stay on this machine".into())
    }
}

fn trust_domain(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    if !text.is_empty() && text.len() <= 255 && text.chars().all(allowed) {
        Ok(text.into())
    } else {
        Err(String::new())
    }
}

fn log_level(text: &str) -> Result<String, String> {
    match text {
        "error" | "warn" | "info" | "debug" | "trace" => Ok(text.into()),
        _ => Err(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        site = "store-12"
        device = "gw-01"
        state_dir = "/var/lib/driftglass-agent"
        [aggregator]
        address = "aggregator.example:4433"
        [window]
        length = "60s"
        [spool]
        max_bytes = "16MiB"
        [telemetry]
        listen = "127.0.0.1:9464"
        [[camera]]
        name = "entrance"
        source = { kind = "directory", path = "/var/spool/frames", fps = 1 }
        model = { name = "people-detector", version = "3.2.0" }
    "#;

    #[test]
    fn the_owner_says_whether_the_centre_may_lay_settings_over_these() {
        let resolve = |section: &str| {
            let text = format!("{section}\n{GOOD}");
            Config::resolve(Path::new("agent.toml"), &text, &Overrides::default()).map_err(|faults| faults.to_string())
        };
        let default = resolve("").expect("valid");
        assert_eq!((default.takes_pushed(), default.confirm_within()), (true, Duration::from_secs(600)));
        let own = resolve("pushed_configuration = { accept = false, confirm_within = \"5s\" }").expect("valid");
        assert_eq!((own.takes_pushed(), own.confirm_within()), (false, Duration::from_secs(5)));
        let faults =
            resolve("pushed_configuration = { accept = \"no\", confirm_within = \"4s\" }").expect_err("faults");
        assert!(faults.contains("true or false") && faults.contains("from 5s to 24h"), "{faults}");
    }

    #[test]
    fn the_shipped_example_is_valid() {
        let example = include_str!("../../deploy/config/agent.toml");
        if let Err(faults) = Config::resolve(Path::new("agent.toml"), example, &Overrides::default()) {
            panic!("{faults}");
        }
    }

    fn resolve(text: &str, overrides: &Overrides) -> Result<Config, Faults> {
        Config::resolve(Path::new("agent.toml"), text, overrides)
    }

    #[test]
    fn the_documented_example_is_accepted_and_flags_win() {
        let config = resolve(GOOD, &Overrides::default()).expect("good");
        assert_eq!(config.device().to_string(), "store-12/gw-01");
        assert_eq!((config.window(), config.spool_bytes()), (Millis(60_000), 16 << 20));
        assert_eq!(config.cameras()[0].source.rate, FrameRate::from_millihertz(1_000));
        assert_eq!(config.server_name(), "aggregator.example");
        let overrides =
            Overrides { aggregator: Some("[::1]:9".into()), site: Some("s".into()), ..Overrides::default() };
        let config = resolve(GOOD, &overrides).expect("good");
        assert_eq!((config.aggregator_host(), config.aggregator_port()), ("::1", 9));
        assert_eq!(config.device().to_string(), "s/gw-01");
    }

    #[test]
    fn detectors_are_chosen_by_name_and_an_empty_list_is_none() {
        let of = |line: &str| {
            let text = format!(
                "site = \"s\"\ndevice = \"d\"\nstate_dir = \"/s\"\n[aggregator]\naddress = \"a:1\"\n[prediction]\n{line}\n"
            );
            Config::resolve(Path::new("agent.toml"), &text, &Overrides::default()).map(|config| config.detectors())
        };
        assert_eq!(of("").ok(), Some(Detectors::default()));
        assert_eq!(of("detectors = []").ok(), Some(Detectors::none()));
        assert_eq!(of("detectors = [\"kswin\"]").ok(), Some(Detectors::none().with(Detector::Kswin)));
        for wrong in ["detectors = [\"adwin\", \"oracle\"]", "detectors = \"adwin\"", "detectors = [1]"] {
            assert!(of(wrong).expect_err("wrong").to_string().contains("prediction.detectors"), "{wrong}");
        }
    }

    #[test]
    fn the_way_over_tcp_is_off_unless_it_is_given() {
        let of = |line: &str| {
            let text =
                format!("site = \"s\"\ndevice = \"d\"\nstate_dir = \"/s\"\n[aggregator]\naddress = \"a:1\"\n{line}\n");
            Config::resolve(Path::new("agent.toml"), &text, &Overrides::default())
        };
        let plain = of("").expect("valid");
        assert_eq!((plain.fallback(), plain.segmentation_offload()), (None, true));
        let given = of("fallback = \"b:443\"\nsegmentation_offload = false").expect("valid");
        let half_an_hour = Duration::from_secs(1800);
        let expected = Fallback { host: "b".into(), port: 443, retry_quic: half_an_hour };
        assert_eq!((given.fallback(), given.segmentation_offload()), (Some(&expected), false));
        let often = of("fallback = \"b:443\"\nretry_quic = \"10s\"").expect("valid");
        assert_eq!(often.fallback().map(|fallback| fallback.retry_quic), Some(Duration::from_secs(10)));
        for wrong in ["fallback = \"b\"", "retry_quic = \"1s\"", "retry_quic = 5", "segmentation_offload = \"no\""] {
            let key = wrong.split(' ').next().unwrap_or_default();
            let faults = of(wrong).expect_err("wrong").to_string();
            assert!(faults.contains(&format!("aggregator.{key}")), "{faults}");
        }
    }

    #[test]
    fn device_health_is_off_unless_asked_for() {
        let of = |line: &str| {
            let text = format!(
                "site = \"s\"\ndevice = \"d\"\nstate_dir = \"/s\"\n[aggregator]\naddress = \"a:1\"\n[device_health]\n{line}\n"
            );
            Config::resolve(Path::new("agent.toml"), &text, &Overrides::default()).map(|config| config.device_health())
        };
        assert_eq!((of("").ok(), of("enabled = true").ok()), (Some(false), Some(true)));
        assert!(of("enabled = \"yes\"").expect_err("a text").to_string().contains("true or false"));
    }

    #[test]
    fn every_fault_is_reported_at_once_with_key_value_and_what_is_allowed() {
        let text = r#"
            site = "Store 12"
            state_dir = "relative"
            colour = "red"
            [aggregator]
            address = "nowhere"
            port = 1
            [window]
            length = "10ms"
            [spool]
            max_bytes = 7
            [telemetry]
            listen = "0.0.0.0:1"
            [[camera]]
            name = "a"
            source = { kind = "telepathy", url = "http://u:secret@x" }
            [[camera]]
            name = "a"
            source = { kind = "directory", path = "/x", fps = "fast", every = 2 }
        "#;
        let shown = resolve(text, &Overrides::default()).expect_err("faulty").to_string();
        for part in [
            "site = \"Store 12\"",
            "device",
            "state_dir = \"relative\"",
            "colour = \"red\"",
            "address = \"nowhere\"",
            "aggregator.port",
            "window.length",
            "spool.max_bytes = 7",
            "telemetry.listen",
            "kind = \"telepathy\"",
            "camera[1].name",
            "camera[1].source.fps = \"fast\"",
            "camera[1].source.every",
            "agent.toml",
        ] {
            assert!(shown.contains(part), "{part} is missing from:\n{shown}");
        }
        assert_eq!(shown.lines().count(), 13, "{shown}");
    }

    #[test]
    fn broken_toml_is_one_fault_with_its_line() {
        let shown = resolve("site = \"a\"\ndevice = ", &Overrides::default()).expect_err("faulty").to_string();
        assert!(shown.contains("line 2"), "{shown}");
    }
}
