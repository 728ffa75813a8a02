//! Follows the configuration while the agent runs: on SIGHUP the file is read again.
//!
//! A configuration is taken up as a whole or not at all: it is read and checked first, and one that is bad changes nothing. What can be
//! followed is handed to the pipeline in one message, and each camera follows between two of its windows ([`crate::pipeline::Change`]);
//! what cannot be followed is named in the log and counted until the next start. `Follower::apply` does not care where a
//! configuration came from.
//!
//! Must hold: a source begins when the pipeline takes its frames, and ends when it does so no more.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, watch};

use super::health::Probe;
use super::log::Level;
use super::run::{setup, timing};
use super::service::Manager;
use super::steward::Steward;
use super::worker::Commander;
use crate::config::{CameraConfig, ChangedCamera, Config};
use crate::pipeline::{Change, Replacement, Retired, Update};
use crate::sign::Sign;
use crate::source::{FrameSource, Prepared, Running, prepare};
use crate::telemetry::Telemetry;
use crate::uplink::Counters;

/// Reads the configuration again; what is wrong with it where it is bad.
pub type Reread = Box<dyn FnMut() -> Result<Config, String> + Send>;

/// Keeps what runs in step with the configuration.
pub(super) struct Follower {
    /// What this process was started with.
    pub(super) started: Config,
    /// What it follows now.
    pub(super) config: Config,
    pub(super) reread: Reread,
    /// Lays over it what the centre wishes.
    pub(super) steward: Steward,
    pub(super) level: Level,
    pub(super) manager: Manager,
    pub(super) running: Running,
    pub(super) commander: Commander,
    /// Sources that gave way: at most one for each change of a source that was handed over.
    pub(super) retired: mpsc::UnboundedReceiver<Retired>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) uplink: Arc<Counters>,
}

impl Follower {
    /// Begins these sources and follows until told to stop; then ends them all.
    pub(super) async fn run(mut self, first: Vec<Prepared>, mut hangup: Signal, mut stop: watch::Receiver<bool>) {
        self.begin(first).await;
        loop {
            tokio::select! {
                biased;
                // Nothing but the end is said there; an error is one too.
                _ = stop.changed() => break,
                Some(retired) = self.retired.recv() => self.give_way(retired).await,
                Some(()) = hangup.recv() => self.reload().await,
                event = self.steward.event() => {
                    if let Some(config) = self.steward.handle(event) {
                        self.follow(config).await;
                    }
                }
            }
        }
        self.running.end_all().await;
    }

    async fn begin(&mut self, sources: Vec<Prepared>) {
        self.running.start(sources).await;
        self.telemetry.watch(self.running.statuses());
    }

    async fn reload(&mut self) {
        tracing::info!("the configuration is read again");
        self.manager.tell(Sign::Reloading);
        match (self.reread)() {
            Ok(local) => {
                let config = self.steward.rebase(local);
                self.follow(config).await;
            }
            Err(faults) => {
                self.telemetry.reloaded(Err(()));
                for fault in faults.lines() {
                    tracing::error!(fault, "the new configuration is bad; the old one stays");
                }
            }
        }
        self.manager.tell(Sign::Ready);
    }

    async fn follow(&mut self, config: Config) {
        let handed_on = self.apply(config).await;
        self.steward.taken_up(handed_on, self.started.window() != self.config.window());
    }

    /// Takes up a checked configuration; false where it could not be handed on.
    async fn apply(&mut self, new: Config) -> bool {
        let changes = self.config.changes_to(&new);
        let outside = self.running.outside();
        let mut begin = Vec::new();
        let mut told = Vec::new();
        for name in &changes.removed {
            // First the source, so that nothing comes after the window was closed.
            self.running.end(name).await;
            told.push(Change::Remove(name.clone()));
        }
        for camera in &changes.added {
            let (source, prepared) = prepare(&camera.name, &camera.source, &outside);
            begin.push(prepared);
            told.push(Change::Add(Box::new(setup(camera, &self.started, new.detectors(), source))));
        }
        for ChangedCamera { camera, source } in &changes.changed {
            let source = source.then(|| {
                let (source, prepared) = prepare(&camera.name, &camera.source, &outside);
                Replacement { source, prepared }
            });
            told.push(Change::Update(Box::new(update(camera, &new, source))));
        }
        let probe = changes.device_health.then(|| self.probe(&new));
        if !self.commander.change(told, probe) {
            self.telemetry.reloaded(Err(()));
            tracing::error!(
                "the pipeline has not taken up earlier changes yet; the configuration waits for another reload"
            );
            return false;
        }
        self.begin(begin).await;
        if changes.log_level {
            self.level.set(new.log_level());
        }
        let restart = self.started.restart_for(&new);
        self.telemetry.reloaded(Ok(restart.len()));
        if !restart.is_empty() {
            tracing::warn!(settings = restart.join(", "), "these settings changed and take a restart");
        }
        if changes.is_empty() {
            tracing::info!("nothing changes in the configuration that is followed while running");
        } else {
            tracing::info!(
                added = names(changes.added.iter()),
                removed = changes.removed.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" "),
                changed = names(changes.changed.iter().map(|changed| &changed.camera)),
                log_level = new.log_level(),
                device_health = new.device_health(),
                "the configuration is taken up; what changes of a camera does so with its next window"
            );
        }
        self.config = new;
        true
    }

    fn probe(&self, new: &Config) -> Option<Probe> {
        new.device_health().then(|| probe(&self.started, &self.uplink))
    }

    /// A source gave way: what fetched for it ends, what it left is counted, and its successor begins.
    async fn give_way(&mut self, Retired { camera, source, next }: Retired) {
        if self.config.cameras().iter().all(|known| known.name != camera) {
            // Removed meanwhile.
            return;
        }
        self.running.end(&camera).await;
        if let FrameSource::Live(live) = source {
            let left = live.left_over();
            if left > 0 && !self.commander.change(vec![Change::Skipped(camera.clone(), left)], None) {
                tracing::warn!(%camera, left, "the pipeline is busy; these frames are missing from the count of skipped ones");
            }
        }
        tracing::info!(%camera, "the source of the camera is another from this window on");
        self.begin(vec![next]).await;
    }
}

/// The device's own figures.
pub(super) fn probe(config: &Config, uplink: &Arc<Counters>) -> Probe {
    Probe::new(PathBuf::from("/"), config.state_dir().to_path_buf(), Arc::clone(uplink))
}

fn update(camera: &CameraConfig, config: &Config, source: Option<Replacement>) -> Update {
    Update {
        name: camera.name.clone(),
        model: camera.model.clone(),
        timing: timing(camera),
        rate: camera.source.rate,
        max_memory: camera.source.max_memory(),
        detectors: config.detectors(),
        source,
    }
}

fn names<'c>(cameras: impl Iterator<Item = &'c CameraConfig>) -> String {
    cameras.map(|camera| camera.name.as_str()).collect::<Vec<_>>().join(" ")
}
