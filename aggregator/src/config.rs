//! The aggregator's settings: flags, then `DRIFTGLASS_*` variables, then the file, then defaults.
//!
//! Must hold: every fault is reported at once, with file, line, key, value and what is allowed; a [`Config`] that exists is
//! valid, its fields cannot be changed; nothing is accepted that this release would then ignore.
//!
//! Deliberately absent: reading the file and the environment (the program does that and hands both in).

mod document;
mod http;
mod overrides;
mod reader;
mod sites;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use document::Fault;
use document::Value;
pub use http::{Http, HttpTls};
pub use overrides::Overrides;
use reader::Reader;
use thiserror::Error;

use crate::decision::Dependence;
use crate::decision::season::Places;
use crate::evidence::budget::{AlarmBudget, LARGEST_Q};

/// Where the service looks for its file unless told otherwise.
pub const DEFAULT_FILE: &str = "/etc/driftglass/aggregator.toml";

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Settings of the QUIC endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quic {
    /// UDP address that agents connect to.
    pub listen: SocketAddr,
    /// Most connections at once, over QUIC and TCP together.
    pub max_connections: usize,
    /// Most connections at once from one network (an IPv4 /24, an IPv6 /56).
    pub max_connections_per_network: usize,
    /// Whether several packets are handed to the system at once (UDP segmentation offload).
    pub segmentation_offload: bool,
}

/// What one device may send; beyond that it is slowed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Records a second.
    pub records_per_second: u32,
    /// Bytes of records a second.
    pub bytes_per_second: u32,
}

/// Checked settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    data_dir: PathBuf,
    quic: Quic,
    tcp_listen: Option<SocketAddr>,
    quota: Quota,
    http: Http,
    trust_domain: String,
    certificate_lifetime: Duration,
    q: f64,
    dependence: Dependence,
    budget: Option<AlarmBudget>,
    epoch: Duration,
    retention: Duration,
    learning: Duration,
    max_cameras: usize,
    places: Places,
}

impl Config {
    /// Folder of the store and the identity.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The QUIC endpoint.
    #[must_use]
    pub const fn quic(&self) -> Quic {
        self.quic
    }

    /// TCP address for agents whose site blocks UDP, where there is one.
    #[must_use]
    pub const fn tcp_listen(&self) -> Option<SocketAddr> {
        self.tcp_listen
    }

    /// What one device may send.
    #[must_use]
    pub const fn quota(&self) -> Quota {
        self.quota
    }

    /// Dashboard, REST and metrics.
    #[must_use]
    pub const fn http(&self) -> &Http {
        &self.http
    }

    /// SPIFFE trust domain that device certificates must name.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// How long a device's certificate is valid.
    #[must_use]
    pub const fn certificate_lifetime(&self) -> Duration {
        self.certificate_lifetime
    }

    /// Target of the false discovery rate, 0 < q <= 0.5; with a budget the most that it leads to.
    #[must_use]
    pub const fn q(&self) -> f64 {
        self.q
    }

    /// Under which dependence between cameras the rate is promised.
    #[must_use]
    pub const fn dependence(&self) -> Dependence {
        self.dependence
    }

    /// False alerts allowed per site and month, where the operator has said so instead of giving `q`.
    #[must_use]
    pub const fn budget(&self) -> Option<AlarmBudget> {
        self.budget
    }

    /// The stretch of time over which the false discovery rate is promised.
    #[must_use]
    pub const fn epoch(&self) -> Duration {
        self.epoch
    }

    /// How long windows are kept.
    #[must_use]
    pub const fn retention(&self) -> Duration {
        self.retention
    }

    /// How much of a camera's event time its first baseline is learnt from.
    #[must_use]
    pub const fn learning(&self) -> Duration {
        self.learning
    }

    /// Beyond this many cameras there are no metrics with a label per camera.
    #[must_use]
    pub const fn max_cameras(&self) -> usize {
        self.max_cameras
    }

    /// Folder of `ca.pem`, `cert.pem` and `key.pem`, where an authority of somebody else's certifies everybody.
    #[must_use]
    pub fn identity_dir(&self) -> PathBuf {
        self.data_dir.join("identity")
    }

    /// Where sites are.
    #[must_use]
    pub const fn places(&self) -> &Places {
        &self.places
    }

    /// Checks a file's text together with what overrides it. `file` is its name for messages.
    ///
    /// # Errors
    /// Every fault found, in the order of the file.
    pub fn parse(file: &str, text: &str, overrides: &Overrides) -> Result<Self, Faults> {
        let mut reader = Reader::new(file, text, overrides);
        let data_dir = reader.take("data_dir", "/var/lib/driftglass", path);
        let quic = quic(&mut reader);
        let tcp_listen = reader.take("tcp.listen", "off", off_or_socket);
        let quota = quota(&mut reader);
        let http = http::read(&mut reader);
        let trust_domain = reader.take("identity.trust_domain", "driftglass.local", trust_domain);
        let certificate_lifetime = reader
            .take("identity.certificate_lifetime", "30d", |value| duration(value, Duration::from_secs(10), 90 * DAY));
        let promise = promise(&mut reader);
        let dependence = reader.take("alerting.dependence", "positive", dependence);
        let epoch = reader.take("alerting.epoch", "1d", |value| duration(value, 60 * MINUTE, 7 * DAY));
        reader.take("store.kind", "embedded", embedded);
        let retention = reader.take("store.retention", "30d", |value| duration(value, DAY, 3650 * DAY));
        let learning =
            reader.take("baseline.learning", "1d", |value| duration(value, Duration::from_secs(10), 40 * DAY));
        let max_cameras = reader.take("metrics.max_cameras", "1000", count);
        let places = sites::read(&mut reader);
        reader.refuse("grpc", "gRPC is not available in this release: remove the section");
        reader.refuse("notify", "notifications are not available in this release: remove the section");
        if let (Some(learning), Some(retention)) = (learning, retention)
            && learning > retention
        {
            let allowed = format!("allowed is at most store.retention, which is {}", short(retention));
            reader.fault(file.to_owned(), "baseline.learning", short(learning), allowed);
        }
        let faults = reader.finish();
        match (
            data_dir,
            quic,
            tcp_listen,
            quota,
            http,
            trust_domain,
            certificate_lifetime,
            promise,
            dependence,
            epoch,
            retention,
            learning,
            max_cameras,
            places,
        ) {
            (
                Some(data_dir),
                Some(quic),
                Some(tcp_listen),
                Some(quota),
                Some(http),
                Some(trust_domain),
                Some(certificate_lifetime),
                Some((q, budget)),
                Some(dependence),
                Some(epoch),
                Some(retention),
                Some(learning),
                Some(max_cameras),
                Some(places),
            ) if faults.is_empty() => Ok(Self {
                data_dir,
                quic,
                tcp_listen,
                quota,
                http,
                trust_domain,
                certificate_lifetime,
                q,
                dependence,
                budget,
                epoch,
                retention,
                learning,
                max_cameras,
                places,
            }),
            _ => Err(Faults(faults)),
        }
    }
}

/// Everything that is wrong, one line each.
#[derive(Debug, PartialEq, Eq, Error)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// The faults.
    #[must_use]
    pub fn list(&self) -> &[Fault] {
        &self.0
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        Value::Number(_) | Value::Flag(_) | Value::Other(_) => None,
    }
}

fn path(value: &Value) -> Result<PathBuf, String> {
    text(value).filter(|text| !text.is_empty()).map(PathBuf::from).ok_or_else(|| "allowed is a path".to_owned())
}

fn socket(value: &Value) -> Result<SocketAddr, String> {
    text(value).and_then(|text| text.parse().ok()).ok_or_else(|| {
        "allowed is ADDRESS:PORT with a numeric address, such as \"[::]:4433\" or \"0.0.0.0:4433\"".to_owned()
    })
}

fn quic(reader: &mut Reader<'_>) -> Option<Quic> {
    let whole = |value: &Value| number(value, 1, 1_000_000).map(|count| count as usize);
    let listen = reader.take("quic.listen", "[::]:4433", socket);
    let max_connections = reader.take("quic.max_connections", "100000", whole);
    let max_connections_per_network = reader.take("quic.max_connections_per_network", "25000", whole);
    let segmentation_offload = reader.take("quic.segmentation_offload", "true", flag);
    Some(Quic {
        listen: listen?,
        max_connections: max_connections?,
        max_connections_per_network: max_connections_per_network?,
        segmentation_offload: segmentation_offload?,
    })
}

fn quota(reader: &mut Reader<'_>) -> Option<Quota> {
    let records = reader.take("quota.records_per_second", "500", |value| number(value, 1, 1_000_000));
    let bytes = reader.take("quota.bytes_per_second", "1048576", |value| number(value, 65_536, 1_000_000_000));
    Some(Quota { records_per_second: records?, bytes_per_second: bytes? })
}

fn off_or_socket(value: &Value) -> Result<Option<SocketAddr>, String> {
    if text(value) == Some("off") {
        return Ok(None);
    }
    socket(value).map(Some).map_err(|allowed| format!("{allowed}, or \"off\""))
}

fn flag(value: &Value) -> Result<bool, String> {
    match value {
        Value::Flag(flag) => Ok(*flag),
        _ => Err("allowed are true and false".to_owned()),
    }
}

fn number(value: &Value, least: u32, most: u32) -> Result<u32, String> {
    match value {
        Value::Number(number) => number.replace('_', "").parse().ok(),
        Value::Text(_) | Value::Flag(_) | Value::Other(_) => None,
    }
    .filter(|number| (least..=most).contains(number))
    .ok_or_else(|| format!("allowed is a whole number from {least} to {most}"))
}

/// SPIFFE ID §2.1: lower-case letters, digits, dots, dashes and underscores, at most 255 bytes.
fn trust_domain(value: &Value) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    text(value)
        .filter(|text| (1..=255).contains(&text.len()) && text.bytes().all(allowed))
        .map(str::to_owned)
        .ok_or_else(|| "allowed are 1 to 255 characters out of a-z, 0-9, '.', '-', '_'".to_owned())
}

fn rate(value: &Value) -> Result<f64, String> {
    match value {
        Value::Number(number) => number.replace('_', "").parse().ok(),
        Value::Text(_) | Value::Flag(_) | Value::Other(_) => None,
    }
    .filter(|&q| 0.0 < q && q <= 0.5)
    .ok_or_else(|| "allowed is a number above 0 and at most 0.5".to_owned())
}

/// `q` itself, or a budget and the most that it leads to.
fn promise(reader: &mut Reader<'_>) -> Option<(f64, Option<AlarmBudget>)> {
    let q = reader.take("alerting.q", "0.05", rate);
    let key = "alerting.false_alerts_per_site_month";
    let budget = reader.take(key, "off", budget)?;
    if budget.is_none() {
        return Some((q?, None));
    }
    if !reader.defaults.contains("alerting.q") {
        reader.fault_at(key, "this sets q, and alerting.q is given too: remove one of the two");
        return None;
    }
    Some((LARGEST_Q, budget))
}

/// Fewer than one in a thousand years, or more than three a day, are no budgets.
fn budget(value: &Value) -> Result<Option<AlarmBudget>, String> {
    if text(value) == Some("off") {
        return Ok(None);
    }
    match value {
        Value::Number(number) => number.replace('_', "").parse().ok(),
        Value::Text(_) | Value::Flag(_) | Value::Other(_) => None,
    }
    .filter(|budget| (0.0001..=100.0).contains(budget))
    .and_then(|budget| AlarmBudget::per_site_month(budget).ok())
    .map(Some)
    .ok_or_else(|| "allowed is a number from 0.0001 to 100 (1 is one a month, 0.083 one a year), or \"off\"".to_owned())
}

fn count(value: &Value) -> Result<usize, String> {
    match value {
        Value::Number(number) => number.replace('_', "").parse().ok(),
        Value::Text(_) | Value::Flag(_) | Value::Other(_) => None,
    }
    .filter(|&count| count <= 100_000)
    .ok_or_else(|| "allowed is a whole number from 0 to 100000".to_owned())
}

fn duration(value: &Value, least: Duration, most: Duration) -> Result<Duration, String> {
    text(value)
        .and_then(|text| humantime::parse_duration(text).ok())
        .filter(|&duration| least <= duration && duration <= most)
        .ok_or_else(|| {
            format!("allowed is a duration such as \"1d\" or \"12h\", from {} to {}", short(least), short(most))
        })
}

/// A duration in the largest unit that divides it.
fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(24 * 60 * 60, "d"), (60 * 60, "h"), (60, "m")];
    match units.into_iter().find(|(length, _)| seconds >= *length && seconds.is_multiple_of(*length)) {
        Some((length, unit)) => format!("{}{unit}", seconds / length),
        None => format!("{seconds}s"),
    }
}

fn dependence(value: &Value) -> Result<Dependence, String> {
    match text(value) {
        Some("positive") => Ok(Dependence::Positive),
        Some("arbitrary") => Ok(Dependence::Arbitrary),
        _ => Err("allowed is \"positive\" or \"arbitrary\"".to_owned()),
    }
}

fn embedded(value: &Value) -> Result<(), String> {
    match text(value) {
        Some("embedded") => Ok(()),
        _ => Err("allowed is \"embedded\", the only store of this release".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        Config::parse("a.toml", text, &Overrides::default())
            .map_err(|faults| faults.list().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_empty_file_gives_the_documented_defaults() {
        let config = parse("").expect("defaults are valid");
        assert_eq!(config.quic().listen.to_string(), "[::]:4433");
        assert_eq!(config.http().listen.to_string(), "127.0.0.1:8080");
        assert_eq!((&config.http().tls, config.http().tokens, config.tcp_listen()), (&HttpTls::Off, false, None));
        assert_eq!(config.trust_domain(), "driftglass.local");
        assert_eq!((config.q(), config.epoch(), config.learning()), (0.05, DAY, DAY));
        assert_eq!(config.identity_dir(), Path::new("/var/lib/driftglass/identity"));
    }

    #[test]
    fn every_fault_is_listed_at_once_with_line_key_value_and_what_is_allowed() {
        let faults = parse(
            "data_dir = 5\nretention = \"1d\"\n[quic]\nlisten = \"nowhere\"\nport = 1\n[alerting]\nq = 0.9\nepoch = \"1s\"\n\
             [grpc]\nlisten = \"127.0.0.1:8081\"\n[store]\nkind = \"cluster\"\n[colour]\nhue = 1\n[empty]\n[[notify]]\nkind = \"slack\"\n",
        )
        .expect_err("faults");
        let expected = [
            "a.toml:1: data_dir = 5: allowed is a path",
            "a.toml:2: retention = \"1d\": unknown key; known here are data_dir and the sections alerting, baseline,",
            "a.toml:4: quic.listen = \"nowhere\": allowed is ADDRESS:PORT",
            "a.toml:5: quic.port = 1: unknown key; known in this section are listen, max_connections",
            "a.toml:7: alerting.q = 0.9: allowed is a number above 0 and at most 0.5",
            "a.toml:8: alerting.epoch = \"1s\": allowed is a duration",
            "a.toml:9: grpc: gRPC is not available in this release",
            "a.toml:12: store.kind = \"cluster\": allowed is \"embedded\"",
            "a.toml:14: colour.hue = 1: unknown section",
            "a.toml:15: empty: unknown section",
            "a.toml:16: notify: notifications are not available in this release",
        ];
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.starts_with(expected), "{fault}\n{expected}");
        }
    }

    #[test]
    fn http_beyond_loopback_is_refused_without_both_tls_and_tokens() {
        for address in ["0.0.0.0:8080", "[::]:8080", "192.168.1.4:8080"] {
            for rest in ["", "tls = \"own\"\nnames = \"a.example\"", "auth = \"tokens\""] {
                let faults = parse(&format!("[http]\nlisten = \"{address}\"\n{rest}")).expect_err("beyond loopback");
                assert_eq!(faults.len(), 1, "{faults:?}");
                let expected = format!(
                    "a.toml:2: http.listen = \"{address}\": beyond loopback HTTP is served only with TLS and tokens"
                );
                assert!(faults[0].starts_with(&expected), "{faults:?}");
            }
        }
        for address in ["127.0.0.1:0", "[::1]:8080", "127.8.8.8:80", "[::ffff:127.0.0.1]:80"] {
            assert!(parse(&format!("[http]\nlisten = \"{address}\"")).is_ok(), "{address}");
        }
        let both = "[http]\nlisten = \"0.0.0.0:8443\"\nauth = \"tokens\"\n";
        let own = parse(&format!("{both}tls = \"own\"\nnames = \"drift.example, 10.0.0.7\"")).expect("valid");
        assert_eq!(own.http().tls, HttpTls::Own { names: vec!["drift.example".into(), "10.0.0.7".into()] });
        let files = parse(&format!("{both}tls = \"files\"\ncertificate = \"/c\"\nkey = \"/k\"")).expect("valid");
        assert_eq!(files.http().tls, HttpTls::Files { certificate: "/c".into(), key: "/k".into() });
        for (rest, expected) in [
            ("tls = \"own\"", "http.names = \"\": is missing"),
            ("tls = \"own\"\nnames = \"a b\"", "http.names = \"a b\": allowed are DNS names"),
            ("tls = \"files\"\nkey = \"/k\"", "http.certificate = \"\": is missing"),
            ("tls = \"own\"\nnames = \"a\"\nkey = \"/k\"", "http.key = \"/k\": allowed only with"),
            (
                "tls = \"files\"\ncertificate = \"/c\"\nkey = \"/k\"\nnames = \"a\"",
                "http.names = \"a\": allowed only with",
            ),
            ("tls = \"yes\"", "http.tls = \"yes\": allowed are"),
        ] {
            let faults = parse(&format!("{both}{rest}")).expect_err("faults");
            assert!(faults.len() == 1 && faults[0].contains(expected), "{faults:?}\n{expected}");
        }
    }

    #[test]
    fn an_override_wins_over_the_file_and_its_fault_names_flag_and_variable() {
        let overrides = Overrides { alerting_q: Some("0.1".into()), ..Overrides::default() };
        let config = Config::parse("a.toml", "[alerting]\nq = 0.2", &overrides).expect("valid");
        assert_eq!(config.q(), 0.1);
        let overrides = Overrides { alerting_q: Some("half".into()), ..Overrides::default() };
        let faults = Config::parse("a.toml", "", &overrides).expect_err("not a number").to_string();
        assert!(faults.starts_with("--alerting-q or DRIFTGLASS_ALERTING_Q: alerting.q = \"half\": "), "{faults}");
    }

    #[test]
    fn every_override_reaches_a_key() {
        let overrides = Overrides {
            data_dir: Some("/d".into()),
            quic_listen: Some("127.0.0.1:1".into()),
            quic_max_connections: Some("7".into()),
            quic_max_connections_per_network: Some("3".into()),
            quic_segmentation_offload: Some("false".into()),
            tcp_listen: Some("127.0.0.1:3".into()),
            quota_records_per_second: Some("11".into()),
            quota_bytes_per_second: Some("70000".into()),
            http_listen: Some("127.0.0.1:2".into()),
            http_tls: Some("files".into()),
            http_certificate: Some("/c".into()),
            http_key: Some("/k".into()),
            http_names: None,
            http_auth: Some("tokens".into()),
            identity_trust_domain: Some("acme".into()),
            identity_certificate_lifetime: Some("7d".into()),
            alerting_q: None,
            alerting_false_alerts_per_site_month: Some("0.5".into()),
            alerting_dependence: Some("arbitrary".into()),
            alerting_epoch: Some("2d".into()),
            store_retention: Some("9d".into()),
            baseline_learning: Some("4d".into()),
            metrics_max_cameras: Some("5".into()),
        };
        let expected = Config {
            data_dir: "/d".into(),
            quic: Quic {
                listen: SocketAddr::from(([127, 0, 0, 1], 1)),
                max_connections: 7,
                max_connections_per_network: 3,
                segmentation_offload: false,
            },
            tcp_listen: Some(SocketAddr::from(([127, 0, 0, 1], 3))),
            quota: Quota { records_per_second: 11, bytes_per_second: 70_000 },
            http: Http {
                listen: SocketAddr::from(([127, 0, 0, 1], 2)),
                tls: HttpTls::Files { certificate: "/c".into(), key: "/k".into() },
                tokens: true,
            },
            trust_domain: "acme".into(),
            certificate_lifetime: 7 * DAY,
            q: LARGEST_Q,
            budget: AlarmBudget::per_site_month(0.5).ok(),
            dependence: Dependence::Arbitrary,
            epoch: 2 * DAY,
            retention: 9 * DAY,
            learning: 4 * DAY,
            max_cameras: 5,
            places: Places::default(),
        };
        assert_eq!(Config::parse("a.toml", "", &overrides), Ok(expected));
    }

    #[test]
    fn a_budget_takes_the_place_of_q_and_both_at_once_are_refused() {
        let config = parse("[alerting]\nfalse_alerts_per_site_month = 1").expect("valid");
        assert_eq!((config.q(), config.budget()), (LARGEST_Q, AlarmBudget::per_site_month(1.0).ok()));
        let off = parse("[alerting]\nq = 0.1\nfalse_alerts_per_site_month = \"off\"").expect("valid");
        assert_eq!((off.q(), off.budget()), (0.1, None));
        let both = "[alerting]\nq = 0.05\nfalse_alerts_per_site_month = 2";
        assert_eq!(
            parse(both),
            Err(vec![
                "a.toml:3: alerting.false_alerts_per_site_month = 2: this sets q, and alerting.q is given too: remove one of the two"
                    .to_owned()
            ])
        );
        let overrides = Overrides { alerting_q: Some("0.1".into()), ..Overrides::default() };
        let text = "[alerting]\nfalse_alerts_per_site_month = 2";
        assert!(Config::parse("a.toml", text, &overrides).is_err(), "wherever the other one comes from");
        for wrong in ["0", "-1", "101", "nan", "\"one\"", "true"] {
            let faults = parse(&format!("[alerting]\nfalse_alerts_per_site_month = {wrong}")).expect_err("no budget");
            assert!(faults.len() == 1 && faults[0].contains("allowed is a number from 0.0001 to 100"), "{faults:?}");
        }
    }

    #[test]
    fn a_baseline_cannot_be_learnt_from_windows_that_are_no_longer_kept() {
        let faults = parse("[store]\nretention = \"1d\"\n[baseline]\nlearning = \"2d\"").expect_err("longer than kept");
        assert!(faults.iter().all(|fault| fault.contains("at most store.retention, which is 1d")), "{faults:?}");
    }

    /// Lines of the example that are commented out settings begin with `#` and no space.
    #[test]
    fn the_example_that_is_installed_is_valid_and_its_comments_show_the_defaults() {
        let example = include_str!("../../deploy/config/aggregator.toml");
        let defaults = parse("").expect("defaults are valid");
        assert_eq!(parse(example), Ok(defaults.clone()));
        let uncommented: Vec<&str> = example
            .lines()
            .map(|line| {
                line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_alphabetic())).unwrap_or(line)
            })
            .collect();
        assert_eq!(parse(&uncommented.join("\n")), Ok(defaults));
        let settings = uncommented.iter().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
        assert_eq!(settings, 24, "every setting is shown");
    }
}
