//! What is counted of the traffic itself, all of it, sampled or not.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts};

use super::Unread;
use crate::proxy::note::Outcome;

/// How inferences end, and what that is called.
const OUTCOMES: [(Outcome, &str); 5] = [
    (Outcome::Ok, "ok"),
    (Outcome::ClientError, "client_error"),
    (Outcome::ServerError, "server_error"),
    (Outcome::Unreachable, "unreachable"),
    (Outcome::Broken, "broken"),
];

/// Figures of all cameras.
#[derive(Clone, Debug)]
pub(in crate::source) struct Figures {
    requests: IntCounterVec,
    unobserved: IntCounterVec,
    truths: IntCounterVec,
    missed: IntCounter,
    latency: HistogramVec,
}

impl Default for Figures {
    #[expect(
        clippy::expect_used,
        reason = "fails only where a name written here is malformed, which every test would see"
    )]
    fn default() -> Self {
        let counter = |name: &str, help: &str, label| {
            IntCounterVec::new(Opts::new(name, help), &["camera", label]).expect("well-formed")
        };
        let latency = HistogramOpts::new(
            "driftglass_agent_prediction_latency_seconds",
            "Time from the last byte of an inference request to the first of its answer",
        );
        let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        Self {
            requests: counter(
                "driftglass_agent_inference_requests_total",
                "Inferences that passed the sidecar, by how they ended",
                "outcome",
            ),
            unobserved: counter(
                "driftglass_agent_inference_unobserved_total",
                "Inferences that passed and gave no frame, by reason; those left out by the sampling rate are not among them",
                "reason",
            ),
            truths: counter(
                "driftglass_agent_inference_truths_total",
                "Labels posted for earlier inferences, by what became of them",
                "result",
            ),
            missed: IntCounter::new(
                "driftglass_agent_inference_missed_total",
                "Inferences that passed while the agent was away or too busy to be told of them",
            )
            .expect("well-formed"),
            latency: HistogramVec::new(latency.buckets(buckets), &["camera"]).expect("well-formed"),
        }
    }
}

impl Figures {
    /// For the registry.
    pub(in crate::source) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.requests.clone()),
            Box::new(self.unobserved.clone()),
            Box::new(self.truths.clone()),
            Box::new(self.missed.clone()),
            Box::new(self.latency.clone()),
        ]
    }

    /// So many passed of which nothing is known.
    pub(super) fn missed(&self, inferences: u64) {
        self.missed.inc_by(inferences);
    }

    /// Those of one camera, which from now on are there, at zero.
    pub(super) fn of(&self, camera: &str) -> CameraFigures {
        CameraFigures {
            outcomes: OUTCOMES.map(|(_, name)| self.requests.with_label_values(&[camera, name])),
            latency: self.latency.with_label_values(&[camera]),
            camera: camera.to_owned(),
            all: self.clone(),
        }
    }
}

/// Figures of one camera.
#[derive(Clone, Debug)]
pub(super) struct CameraFigures {
    outcomes: [IntCounter; 5],
    latency: Histogram,
    camera: String,
    all: Figures,
}

impl CameraFigures {
    pub(super) fn ended(&self, outcome: Outcome) {
        for ((known, _), counter) in OUTCOMES.iter().zip(&self.outcomes) {
            if *known == outcome {
                counter.inc();
            }
        }
    }

    pub(super) fn took(&self, latency: Duration) {
        self.latency.observe(latency.as_secs_f64());
    }

    pub(super) fn unobserved(&self, reason: Unread) {
        self.all.unobserved.with_label_values(&[self.camera.as_str(), reason.name()]).inc();
    }

    pub(super) fn truth(&self, result: &str) {
        self.all.truths.with_label_values(&[self.camera.as_str(), result]).inc();
    }
}
