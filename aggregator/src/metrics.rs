//! What Prometheus reads. The names are a contract; the client library is known to this module alone.
//!
//! Must hold: no label has values that a peer can choose freely; per-camera series end at a configured number of cameras. Figures
//! that the store knows are taken from it when they are read, so they survive a restart.

use std::sync::{Mutex, PoisonError};

use driftglass_protocol::identity::DenyReason;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use thiserror::Error;

use crate::access::Refusal;
use crate::alert::{AlertState, Severity};
use crate::decision::Target;
use crate::ingest::{Observer, Rejection};

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Why there are no metrics: a name is wrong or taken, which a test would have found.
#[derive(Debug, Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// Everything measured.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    accepted: IntCounter,
    duplicates: IntCounter,
    throttled: IntCounter,
    retries: IntCounter,
    rejected: IntCounterVec,
    enrolments: IntCounterVec,
    http_refused: IntCounterVec,
    lag: Histogram,
    evaluation: Histogram,
    q: Gauge,
    target: Mutex<Target>,
    /// Series that are set from a [`Snapshot`]; the lock keeps two readers from seeing each other's half.
    set: Mutex<FromStore>,
}

#[derive(Debug)]
struct FromStore {
    frames: IntCounterVec,
    devices: IntGaugeVec,
    alerts: IntGaugeVec,
    drift: GaugeVec,
}

/// Figures of one moment that the store and the connections know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Frames measured, by site.
    pub frames: Vec<(String, u64)>,
    /// Devices connected now.
    pub connected: u64,
    /// Devices known and not connected.
    pub offline: u64,
    /// Alerts by site, severity and state.
    pub alerts: Vec<(String, Severity, AlertState, u64)>,
    /// The largest distance of each camera, 0..1; empty beyond `metrics.max_cameras`.
    pub drift: Vec<CameraDrift>,
}

/// How far a camera is from its baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraDrift {
    /// Its site.
    pub site: String,
    /// Its device.
    pub device: String,
    /// Its name.
    pub camera: String,
    /// Name and version of the model watched; empty where there is none.
    pub model: String,
    /// The largest distance over all features, 0..1.
    pub score: f64,
}

impl Metrics {
    /// All series, at zero.
    ///
    /// # Errors
    /// Only for a mistake in this file.
    pub fn new(promised: Target) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| -> Result<Histogram, prometheus::Error> {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let labelled = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok(gauges)
        };
        let accepted =
            counter("driftglass_summaries_accepted_total", "Records counted and durable since this process started.")?;
        let duplicates =
            counter("driftglass_summaries_duplicates_total", "Records that had been counted before and came again.")?;
        let throttled = counter(
            "driftglass_sessions_throttled_total",
            "Times that a session was made to wait because its device had sent more than its quota.",
        )?;
        let retries = counter(
            "driftglass_quic_retries_total",
            "Handshakes that had to prove their address first, because many were under way.",
        )?;
        let rejected = IntCounterVec::new(
            Opts::new(
                "driftglass_summaries_rejected_total",
                "Connections and records turned away since this process started, by reason.",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(rejected.clone()))?;
        for reason in Rejection::ALL {
            rejected.with_label_values(&[reason.name()]).inc_by(0);
        }
        let enrolments = IntCounterVec::new(
            Opts::new(
                "driftglass_enrolments_total",
                "Requests for a certificate since this process started, by what became of them.",
            ),
            &["result"],
        )?;
        registry.register(Box::new(enrolments.clone()))?;
        for result in ["enrolled", "renewed"].into_iter().chain(DenyReason::ALL.map(DenyReason::name)) {
            enrolments.with_label_values(&[result]).inc_by(0);
        }
        let http_refused = IntCounterVec::new(
            Opts::new(
                "driftglass_http_refused_total",
                "HTTP connections and requests refused since this process started, by reason.",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(http_refused.clone()))?;
        for refusal in Refusal::ALL {
            http_refused.with_label_values(&[refusal.name()]).inc_by(0);
        }
        let lag = histogram(
            "driftglass_ingest_lag_seconds",
            "Time from the end of a window to its commit.",
            &[0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0],
        )?;
        let evaluation = histogram(
            "driftglass_evaluation_seconds",
            "Time to judge one window.",
            &[0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0],
        )?;
        let target = Gauge::new(
            "driftglass_false_discovery_rate_target",
            "Largest expected share of false alerts among the alerts of an epoch.",
        )?;
        registry.register(Box::new(target.clone()))?;
        target.set(promised.q);
        let frames = IntCounterVec::new(
            Opts::new("driftglass_frames_total", "Frames measured in all windows ever counted, by site."),
            &["site"],
        )?;
        registry.register(Box::new(frames.clone()))?;
        let devices = labelled("driftglass_devices", "Devices known, by whether they are connected.", &["state"])?;
        let alerts =
            labelled("driftglass_alerts", "Alerts kept, by site, severity and state.", &["site", "severity", "state"])?;
        let drift = GaugeVec::new(
            Opts::new(
                "driftglass_drift_score",
                "Largest distance of a camera's newest windows from its baseline over all features, 0 to 1.",
            ),
            &["site", "device", "camera", "model"],
        )?;
        registry.register(Box::new(drift.clone()))?;
        let build = labelled("driftglass_build_info", "The version running; always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let set = Mutex::new(FromStore { frames, devices, alerts, drift });
        Ok(Self {
            registry,
            accepted,
            duplicates,
            throttled,
            retries,
            rejected,
            enrolments,
            http_refused,
            lag,
            evaluation,
            q: target,
            target: Mutex::new(promised),
            set,
        })
    }

    /// Counts something turned away.
    pub fn reject(&self, reason: Rejection) {
        self.rejected.with_label_values(&[reason.name()]).inc();
    }

    /// Counts a request for a certificate by what became of it: `enrolled`, `renewed`, or the name of a [`DenyReason`].
    pub fn enrolment(&self, result: &str) {
        self.enrolments.with_label_values(&[result]).inc();
    }

    /// Counts a handshake that had to prove its address first.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// Counts an HTTP connection or request that was refused.
    pub fn refuse_http(&self, refusal: Refusal) {
        self.http_refused.with_label_values(&[refusal.name()]).inc();
    }

    /// Notes how long one window took to judge, in seconds.
    pub fn evaluated(&self, seconds: f64) {
        self.evaluation.observe(seconds);
    }

    /// Says what is promised from now on.
    pub fn promise(&self, target: Target) {
        let mut promised = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        if *promised != target {
            *promised = target;
            self.q.set(target.q);
        }
    }

    /// What is promised now.
    #[must_use]
    pub fn promised(&self) -> Target {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// Where the library cannot write it.
    pub fn render(&self, snapshot: &Snapshot) -> Result<String, MetricsError> {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        set.frames.reset();
        for (site, frames) in &snapshot.frames {
            set.frames.with_label_values(&[site]).inc_by(*frames);
        }
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        set.devices.with_label_values(&["connected"]).set(gauge(snapshot.connected));
        set.devices.with_label_values(&["offline"]).set(gauge(snapshot.offline));
        set.alerts.reset();
        for (site, severity, state, count) in &snapshot.alerts {
            set.alerts.with_label_values(&[site, severity_name(*severity), state_name(*state)]).set(gauge(*count));
        }
        set.drift.reset();
        for CameraDrift { site, device, camera, model, score } in &snapshot.drift {
            set.drift.with_label_values(&[site, device, camera, model]).set(*score);
        }
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        drop(set);
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

impl Observer for Metrics {
    fn accepted(&self, lag_s: Option<f64>) {
        self.accepted.inc();
        if let Some(lag_s) = lag_s {
            self.lag.observe(lag_s);
        }
    }

    fn duplicate(&self) {
        self.duplicates.inc();
    }

    fn throttled(&self) {
        self.throttled.inc();
    }
}

const fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

const fn state_name(state: AlertState) -> &'static str {
    match state {
        AlertState::Pending => "pending",
        AlertState::Alerting => "alerting",
        AlertState::Confirmed => "confirmed",
        AlertState::RootCaused => "root-caused",
        AlertState::Resolved => "resolved",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_contract_are_there_and_a_second_reading_counts_nothing_twice() {
        let metrics = Metrics::new(Target::fixed(0.05)).expect("valid names");
        metrics.reject(Rejection::Checksum);
        metrics.accepted(Some(0.3));
        metrics.duplicate();
        metrics.evaluated(0.000_2);
        let snapshot = Snapshot {
            frames: vec![("store-1".into(), 7)],
            connected: 1,
            offline: 2,
            alerts: vec![("store-1".into(), Severity::High, AlertState::RootCaused, 3)],
            drift: vec![CameraDrift {
                site: "store-1".into(),
                device: "gw".into(),
                camera: "door".into(),
                model: String::new(),
                score: 0.25,
            }],
        };
        let first = metrics.render(&snapshot).expect("renders");
        let text = metrics.render(&snapshot).expect("renders");
        for line in [
            "driftglass_summaries_accepted_total 1",
            "driftglass_summaries_duplicates_total 1",
            "driftglass_summaries_rejected_total{reason=\"checksum\"} 1",
            "driftglass_summaries_rejected_total{reason=\"identity\"} 0",
            "driftglass_frames_total{site=\"store-1\"} 7",
            "driftglass_devices{state=\"connected\"} 1",
            "driftglass_devices{state=\"offline\"} 2",
            "driftglass_ingest_lag_seconds_bucket{le=\"0.5\"} 1",
            "driftglass_alerts{severity=\"high\",site=\"store-1\",state=\"root-caused\"} 3",
            "driftglass_false_discovery_rate_target 0.05",
            "driftglass_evaluation_seconds_count 1",
            "driftglass_drift_score{camera=\"door\",device=\"gw\",model=\"\",site=\"store-1\"} 0.25",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing from\n{text}");
            assert!(first.contains(line), "{line}");
        }
        assert!(text.contains("process_resident_memory_bytes"));
        let gone = metrics.render(&Snapshot::default()).expect("renders");
        assert!(!gone.contains("store-1"), "what is gone from the store is gone from the metrics");
    }

    #[test]
    fn names_of_severities_and_states_are_those_of_every_other_interface() {
        for severity in [Severity::Low, Severity::Medium, Severity::High, Severity::Critical] {
            assert_eq!(serde_json::json!(severity), severity_name(severity));
        }
        for state in [
            AlertState::Pending,
            AlertState::Alerting,
            AlertState::Confirmed,
            AlertState::RootCaused,
            AlertState::Resolved,
        ] {
            assert_eq!(serde_json::json!(state), state_name(state));
        }
    }
}
