//! The agent's own figures, by the names of the outside contract.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::source::{Health, Status};
use crate::spool::Shared;
use crate::uplink::{Counters, Transport};

/// Everything measured about the agent itself.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    frames: IntCounterVec,
    frame_errors: IntCounterVec,
    frames_skipped: IntCounterVec,
    source_up: IntGaugeVec,
    source_failures: IntCounterVec,
    feature_seconds: Histogram,
    spool_bytes: IntGauge,
    spool_windows: IntGauge,
    spool_paused: IntGauge,
    spool_merged: IntCounter,
    spool_lost: IntCounter,
    uplink_connected: IntGauge,
    uplink_transport: IntGaugeVec,
    sent: IntCounter,
    acknowledged: IntCounter,
    refused: IntCounter,
    renewed: IntCounter,
    certificate_expires: IntGauge,
    spool: Arc<Shared>,
    uplink: Arc<Counters>,
    sources: Vec<Arc<Status>>,
}

impl Telemetry {
    /// Registers every figure.
    ///
    /// # Errors
    /// Only where two figures have one name.
    pub fn new(spool: Arc<Shared>, uplink: Arc<Counters>) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let source_up = IntGaugeVec::new(
            Opts::new("driftglass_agent_source_up", "1 while pictures arrive, or the watched folder can be listed"),
            &["camera"],
        )?;
        registry.register(Box::new(source_up.clone()))?;
        let uplink_transport = IntGaugeVec::new(
            Opts::new("driftglass_agent_uplink_transport", "1 for what carries the connection to the aggregator"),
            &["transport"],
        )?;
        registry.register(Box::new(uplink_transport.clone()))?;
        let buckets = vec![0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
        let feature_seconds = Histogram::with_opts(
            HistogramOpts::new("driftglass_agent_feature_seconds", "Time to read, decode and measure one frame")
                .buckets(buckets),
        )?;
        registry.register(Box::new(feature_seconds.clone()))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self {
            frames: counters("driftglass_agent_frames_total", "Frames measured", &["camera"])?,
            frame_errors: counters(
                "driftglass_agent_frame_errors_total",
                "Files and live frames that were not measured, by reason",
                &["camera", "reason"],
            )?,
            frames_skipped: counters(
                "driftglass_agent_frames_skipped_total",
                "Frames left out by the sampling rate, or because they came faster than they could be measured",
                &["camera"],
            )?,
            source_failures: counters(
                "driftglass_agent_source_failures_total",
                "Attempts to get pictures that failed, by reason",
                &["camera", "reason"],
            )?,
            source_up,
            uplink_transport,
            feature_seconds,
            spool_bytes: gauge("driftglass_agent_spool_bytes", "Committed bytes in the spool")?,
            spool_windows: gauge("driftglass_agent_spool_windows", "Windows in the spool that are not acknowledged")?,
            spool_paused: gauge(
                "driftglass_agent_spool_paused",
                "1 while the sources pause because the spool takes nothing",
            )?,
            spool_merged: counter(
                "driftglass_agent_spool_merged_total",
                "Windows merged into others because the spool was full",
            )?,
            spool_lost: counter(
                "driftglass_agent_spool_lost_windows_total",
                "Windows given up because the spool was full and nothing was left to merge",
            )?,
            uplink_connected: gauge(
                "driftglass_agent_uplink_connected",
                "1 while the aggregator has welcomed this device",
            )?,
            sent: counter("driftglass_agent_summaries_sent_total", "Records sent, repetitions included")?,
            acknowledged: counter("driftglass_agent_summaries_acked_total", "Records acknowledged by the aggregator")?,
            renewed: counter("driftglass_agent_certificates_renewed_total", "Certificates renewed")?,
            certificate_expires: gauge(
                "driftglass_agent_certificate_expiry_timestamp_seconds",
                "When the device's certificate expires, in seconds since 1970",
            )?,
            refused: counter("driftglass_agent_sessions_refused_total", "Sessions refused by the aggregator")?,
            registry,
            spool,
            uplink,
            sources: Vec::new(),
        })
    }

    /// Sources whose states are shown from now on.
    pub fn watch(&mut self, sources: Vec<Arc<Status>>) {
        self.sources = sources;
    }

    /// The sources that do not deliver, a line each; nothing where all do.
    #[must_use]
    pub fn ailing(&self) -> String {
        let lines = self.sources.iter().filter_map(|source| match source.health() {
            Health::Delivering => None,
            Health::Beginning => Some(format!("camera {}: no picture yet\n", source.camera())),
            Health::Failed { reason, message, .. } => {
                Some(format!("camera {}: {reason}: {message}\n", source.camera()))
            }
        });
        lines.collect()
    }

    /// A line where the aggregator is not reached the usual way; it is no reason to restart the agent.
    #[must_use]
    pub fn detour(&self) -> &'static str {
        match self.uplink.carrier.get() {
            Some(Transport::Tcp) => "aggregator: reached over tcp, for nothing answered over quic\n",
            Some(Transport::Quic) | None => "",
        }
    }

    /// Frames were left out.
    pub fn skipped(&self, camera: &str, count: u32) {
        self.frames_skipped.with_label_values(&[camera]).inc_by(u64::from(count));
    }

    /// A frame was measured.
    pub fn frame(&self, camera: &str, seconds: f64) {
        self.frames.with_label_values(&[camera]).inc();
        self.feature_seconds.observe(seconds);
    }

    /// A file or live frame was not measured.
    pub fn frame_error(&self, camera: &str, reason: &str) {
        self.frame_errors.with_label_values(&[camera, reason]).inc();
    }

    /// The sources pause or go on.
    pub fn paused(&self, paused: bool) {
        self.spool_paused.set(i64::from(paused));
    }

    /// Whether the sources pause.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.spool_paused.get() != 0
    }

    /// Everything in the text format of Prometheus.
    ///
    /// # Errors
    /// Only where a figure cannot be written.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.spool_bytes.set(gauge(self.spool.bytes()));
        self.spool_windows.set(gauge(self.spool.pending()));
        self.uplink_connected.set(i64::from(self.uplink.connected.load(Ordering::Relaxed)));
        for transport in Transport::ALL {
            let in_use = self.uplink.carrier.get() == Some(transport);
            self.uplink_transport.with_label_values(&[transport.name()]).set(i64::from(in_use));
        }
        self.certificate_expires.set(self.uplink.certificate_expires.load(Ordering::Relaxed));
        for (counter, value) in [
            (&self.sent, &self.uplink.sent),
            (&self.acknowledged, &self.uplink.acknowledged),
            (&self.refused, &self.uplink.refused),
            (&self.renewed, &self.uplink.renewed),
            (&self.spool_merged, &self.spool.relief().merged),
            (&self.spool_lost, &self.spool.relief().buried),
        ] {
            counter.inc_by(value.load(Ordering::Relaxed).saturating_sub(counter.get()));
        }
        for source in &self.sources {
            let camera = source.camera().as_str();
            self.source_up.with_label_values(&[camera]).set(i64::from(source.health() == Health::Delivering));
            for (reason, count) in source.failures() {
                let counter = self.source_failures.with_label_values(&[camera, reason]);
                counter.inc_by(count.saturating_sub(counter.get()));
            }
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
