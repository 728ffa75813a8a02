//! What is counted of the traffic itself, all of it, sampled or not.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts};

use super::Unread;

/// How an inference ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Answered with success.
    Ok,
    /// Refused for what the client sent.
    ClientError,
    /// The model server failed.
    ServerError,
    /// The model server could not be reached, or went away before it answered.
    Unreachable,
    /// The answer was cut off, by either side.
    Broken,
}

impl Outcome {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Ok, "ok"),
        (Self::ClientError, "client_error"),
        (Self::ServerError, "server_error"),
        (Self::Unreachable, "unreachable"),
        (Self::Broken, "broken"),
    ];

    /// Of an HTTP status.
    pub(super) const fn of_status(status: u16) -> Self {
        match status {
            400..=499 => Self::ClientError,
            500.. => Self::ServerError,
            _ => Self::Ok,
        }
    }

    /// Of a gRPC status code.
    pub(super) const fn of_grpc(code: u16) -> Self {
        match code {
            0 => Self::Ok,
            // Cancelled, invalid argument, not found, already exists, denied, precondition, aborted, range, unauthenticated.
            1 | 3 | 5 | 6 | 7 | 9 | 10 | 11 | 16 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

/// Figures of all cameras.
#[derive(Clone, Debug)]
pub(in crate::source) struct Figures {
    requests: IntCounterVec,
    unobserved: IntCounterVec,
    truths: IntCounterVec,
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
            Box::new(self.latency.clone()),
        ]
    }

    /// Those of one camera, which from now on are there, at zero.
    pub(super) fn of(&self, camera: &str) -> CameraFigures {
        CameraFigures {
            outcomes: Outcome::ALL.map(|(_, name)| self.requests.with_label_values(&[camera, name])),
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
        for ((known, _), counter) in Outcome::ALL.iter().zip(&self.outcomes) {
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
