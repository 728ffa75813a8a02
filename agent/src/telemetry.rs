//! The agent's own figures, by the names of the outside contract.

mod process;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::source::{Health, Status};
use crate::spool::Shared;
use crate::uplink::{Counters, Transport};
use process::Process;

/// Everything measured about the agent itself.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    frames: IntCounterVec,
    frame_errors: IntCounterVec,
    frames_skipped: IntCounterVec,
    other_model: IntCounterVec,
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
    sources: Mutex<Vec<Watched>>,
    reloads: IntCounterVec,
    restart_needed: IntGauge,
    detectors_lost: IntCounter,
    process: Process,
}

/// A source whose state is shown.
#[derive(Debug)]
struct Watched {
    status: Arc<Status>,
    /// Failures of sources that this camera had before.
    earlier: BTreeMap<&'static str, u64>,
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
        let process = Process::new(&registry)?;
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
            other_model: counters(
                "driftglass_agent_predictions_of_other_models_total",
                "Predictions not counted because the window's figures are those of another model or version",
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
            reloads: counters(
                "driftglass_agent_config_reloads_total",
                "Configurations taken up or refused while running, by result",
                &["result"],
            )?,
            detectors_lost: counter(
                "driftglass_agent_detector_states_lost_total",
                "Cameras whose detectors began anew because what they had learned could not be read",
            )?,
            restart_needed: gauge(
                "driftglass_agent_config_restart_needed",
                "Settings that changed in the configuration and take a restart",
            )?,
            refused: counter("driftglass_agent_sessions_refused_total", "Sessions refused by the aggregator")?,
            process,
            registry,
            spool,
            uplink,
            sources: Mutex::default(),
        })
    }

    /// Sources whose states are shown from now on, instead of those before. Failures of a camera add up over its sources.
    pub fn watch(&self, statuses: Vec<Arc<Status>>) {
        let mut sources = self.sources();
        self.show(&sources);
        let watched = statuses.into_iter().map(|status| {
            let same = sources.iter().position(|known| Arc::ptr_eq(&known.status, &status));
            let earlier = match same {
                Some(index) => sources.swap_remove(index).earlier,
                None => sources
                    .iter()
                    .filter(|known| known.status.camera() == status.camera())
                    .flat_map(|known| {
                        let camera = known.status.camera().as_str();
                        known.status.failures().into_keys().chain(known.earlier.keys().copied()).map(move |reason| {
                            (reason, self.source_failures.with_label_values(&[camera, reason]).get())
                        })
                    })
                    .collect(),
            };
            Watched { status, earlier }
        });
        let watched: Vec<Watched> = watched.collect();
        for gone in sources.iter().map(|gone| gone.status.camera()) {
            if watched.iter().all(|kept| kept.status.camera() != gone)
                && self.source_up.remove_label_values(&[gone.as_str()]).is_err()
            {
                tracing::debug!(camera = %gone, "a source went before it was ever shown");
            }
        }
        *sources = watched;
    }

    fn sources(&self) -> MutexGuard<'_, Vec<Watched>> {
        // Each change is whole before the lock is let go, so what a panicking thread left is sound.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, sources: &[Watched]) {
        for Watched { status, earlier } in sources {
            let camera = status.camera().as_str();
            self.source_up.with_label_values(&[camera]).set(i64::from(status.health() == Health::Delivering));
            for (reason, count) in status.failures() {
                let counter = self.source_failures.with_label_values(&[camera, reason]);
                let count = count.saturating_add(earlier.get(reason).copied().unwrap_or(0));
                counter.inc_by(count.saturating_sub(counter.get()));
            }
        }
    }

    /// The sources that do not deliver, a line each; nothing where all do.
    #[must_use]
    pub fn ailing(&self) -> String {
        let sources = self.sources();
        let lines = sources.iter().filter_map(|Watched { status, .. }| match status.health() {
            Health::Delivering => None,
            Health::Beginning => Some(format!("camera {}: no picture yet\n", status.camera())),
            Health::Failed { reason, message, .. } => {
                Some(format!("camera {}: {reason}: {message}\n", status.camera()))
            }
        });
        lines.collect()
    }

    /// A line where the aggregator is not reached the usual way; it is no reason to restart the agent.
    #[must_use]
    pub fn detour(&self) -> &'static str {
        match self.uplink.carrier.get() {
            Some(Transport::Tcp) => {
                "aggregator: reached over tcp, for nothing answered over quic; no configuration comes that way\n"
            }
            Some(Transport::Quic) | None => "",
        }
    }

    /// A configuration was taken up, all but so many settings that take a restart; or it was refused.
    pub fn reloaded(&self, outcome: Result<usize, ()>) {
        let result = if outcome.is_ok() { "applied" } else { "refused" };
        self.reloads.with_label_values(&[result]).inc();
        if let Ok(settings) = outcome {
            self.restart_needed.set(i64::try_from(settings).unwrap_or(i64::MAX));
        }
    }

    /// Frames were left out.
    pub fn skipped(&self, camera: &str, count: u32) {
        self.frames_skipped.with_label_values(&[camera]).inc_by(u64::from(count));
    }

    /// A prediction came from another model than the window's first.
    pub fn other_model(&self, camera: &str) {
        self.other_model.with_label_values(&[camera]).inc();
    }

    /// Figures that a source keeps of its own are shown from now on.
    ///
    /// # Errors
    /// Only where two figures have one name.
    pub fn register(&self, figures: Vec<Box<dyn Collector>>) -> Result<(), prometheus::Error> {
        figures.into_iter().try_for_each(|figure| self.registry.register(figure))
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

    /// What a camera's detectors had learned could not be read.
    pub fn detectors_lost(&self) {
        self.detectors_lost.inc();
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
        self.show(&self.sources());
        self.process.update();
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
