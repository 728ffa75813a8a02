//! The service, and the same machinery for a replay: spool, pipeline thread, uplink, metrics, service manager, signals.
//!
//! A clean stop leaves open windows as they are: their files are not committed and are read again at the next start, so nothing is
//! counted twice or lost. The uplink is told to stop after the pipeline.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::worker::{Pace, Worker};
use super::{clock, identity, service, web};
use crate::config::Config;
use crate::pipeline::{Pipeline, Setup, Timing};
use crate::source::{Directory, FrameSource};
use crate::spool::{self, OpenError, Settings, Shared};
use crate::telemetry::Telemetry;
use crate::uplink::{self, ConnectError, Connector, Counters, Fatal, Speaker, Target};

/// Without progress for so long the agent calls itself unhealthy, and the watchdog is no longer fed.
const STALLED: Duration = Duration::from_secs(60);
/// How often progress is looked at, unless the service manager wants it more often.
const LOOK: Duration = Duration::from_secs(5);

/// Why the job failed.
#[derive(Debug, Error)]
pub enum RunError {
    /// No identity.
    #[error(transparent)]
    Identity(#[from] identity::IdentityError),
    /// No TLS.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No spool.
    #[error(transparent)]
    Spool(#[from] OpenError),
    /// No metrics.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// No socket for the metrics.
    #[error("telemetry.listen = {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No thread, runtime or signal handler.
    #[error("the system refuses a thread or a signal handler: {0}")]
    System(#[from] io::Error),
    /// Only a new start can heal it.
    #[error(transparent)]
    Uplink(#[from] Fatal),
    /// The pipeline's thread ended by itself.
    #[error("the pipeline ended unexpectedly")]
    Pipeline,
    /// Stopped before everything was acknowledged.
    #[error(
        "stopped: {pending} windows are not acknowledged; they stay in the spool in {spool} and are sent by the next agent that uses it"
    )]
    Interrupted {
        /// Windows left.
        pending: u64,
        /// Where.
        spool: PathBuf,
    },
}

/// A job for the machinery.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) cameras: Vec<Setup>,
    pub(super) pace: Pace,
    /// Metrics, service manager: what only the service has.
    pub(super) service: bool,
    /// Shows how far it is.
    pub(super) progress: Option<fn(&Shared)>,
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// One variant of [`RunError`] per cause.
pub fn run(config: &Config) -> Result<(), RunError> {
    let (spool, connector) = open(config)?;
    let cameras = config.cameras().iter().map(|camera| {
        let known = spool.writer.cameras().get(&camera.name);
        let position = known.map(|known| known.position.clone()).unwrap_or_default();
        Setup {
            name: camera.name.clone(),
            model: camera.model.clone(),
            source: FrameSource::Directory(Directory::watched(camera.source.path.clone(), position)),
            timing: Timing::Live(camera.source.time),
            window: config.window(),
            rate: camera.source.rate,
            predictions: std::collections::BTreeMap::new(),
        }
    });
    let cameras = cameras.collect();
    work(config, spool, connector, Job { cameras, pace: Pace::Live, service: true, progress: None })
}

/// Identity first: a start that cannot succeed leaves no trace in the spool.
pub(super) fn open(config: &Config) -> Result<(spool::Opened, Connector), RunError> {
    let credentials = identity::load(config.state_dir(), config.device(), config.trust_domain())?;
    let target = Target {
        host: config.aggregator_host().into(),
        port: config.aggregator_port(),
        server_name: config.server_name().into(),
    };
    let connector = Connector::new(credentials, target)?;
    let settings = Settings {
        state_dir: config.state_dir().to_path_buf(),
        device: config.device().clone(),
        max_bytes: config.spool_bytes(),
    };
    Ok((spool::open(settings, clock::unix_seconds())?, connector))
}

pub(super) fn work(config: &Config, spool: spool::Opened, connector: Connector, job: Job) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work_async(config, spool, connector, job))
}

async fn work_async(config: &Config, spool: spool::Opened, connector: Connector, job: Job) -> Result<(), RunError> {
    let counters = Arc::new(Counters::default());
    let shared = spool.shared;
    let telemetry = Arc::new(Telemetry::new(Arc::clone(&shared), Arc::clone(&counters))?);
    let speaker = Speaker {
        device: config.device().clone(),
        epoch: spool.writer.epoch(),
        instance: rand::random(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let recorded = job.pace != Pace::Live;
    let healthy = Arc::new(AtomicBool::new(true));
    let server = if job.service { Some(serve(config, &telemetry, &healthy).await?) } else { None };

    let mut worker = Worker::start(Pipeline::new(job.cameras, spool.writer, telemetry), job.pace)?;
    let (stop, stopping) = watch::channel(false);
    let mut random = rand::random::<u64>;
    let surroundings =
        uplink::Surroundings { clock: &clock::wall, random: &mut random, stop: stopping, counters: &counters };
    let uplink = uplink::run(connector, &speaker, &shared, surroundings);
    tokio::pin!(uplink);
    let looks = watchdog(job.service, Arc::clone(&worker.progress), &healthy, &shared, job.progress);
    tokio::pin!(looks);
    tracing::info!(device = %speaker.device, epoch = speaker.epoch, pending = shared.pending(), "the agent is running");
    if job.service {
        service::tell(NotifyState::Ready);
    }

    let mut delivered = false;
    let ended = loop {
        tokio::select! {
            ended = &mut uplink => break ended.map_err(RunError::from),
            done = &mut worker.done, if !delivered => match done {
                Ok(true) if recorded => delivered = true,
                _ => break Err(RunError::Pipeline),
            },
            () = drained(&shared), if delivered => break Ok(()),
            () = &mut looks => {}
            _ = terminate.recv() => break interrupted(recorded, &shared, config),
            _ = interrupt.recv() => break interrupted(recorded, &shared, config),
        }
    };
    tracing::info!(pending = shared.pending(), "the agent stops");
    if job.service {
        service::tell(NotifyState::Stopping);
    }
    worker.stop();
    if stop.send(true).is_ok() && !matches!(ended, Err(RunError::Uplink(_))) {
        // The connection is closed in order, so that the aggregator need not wait for its time to run out.
        match tokio::time::timeout(Duration::from_secs(3), &mut uplink).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the uplink ended"),
            Err(_) => tracing::debug!("the uplink took too long to stop"),
        }
    }
    if let Some(server) = server {
        server.abort();
    }
    ended
}

fn interrupted(recorded: bool, shared: &Shared, config: &Config) -> Result<(), RunError> {
    if !recorded {
        return Ok(());
    }
    Err(RunError::Interrupted { pending: shared.pending(), spool: config.state_dir().join(spool::FOLDER) })
}

async fn drained(shared: &Shared) {
    while shared.pending() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn serve(
    config: &Config,
    telemetry: &Arc<Telemetry>,
    healthy: &Arc<AtomicBool>,
) -> Result<tokio::task::JoinHandle<()>, RunError> {
    let address = config.telemetry();
    let listener = TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })?;
    let healthy = Arc::clone(healthy);
    Ok(tokio::spawn(web::serve(listener, Arc::clone(telemetry), move || healthy.load(Ordering::Relaxed))))
}

/// Looks at the pipeline's progress; never returns.
async fn watchdog(
    service: bool,
    progress: Arc<AtomicU64>,
    healthy: &AtomicBool,
    shared: &Shared,
    show: Option<fn(&Shared)>,
) {
    let wanted = if service { sd_notify::watchdog_enabled() } else { None };
    let every = wanted.map_or(LOOK, |limit| (limit / 3).min(LOOK)).max(Duration::from_millis(100));
    let every = if show.is_some() { Duration::from_millis(500) } else { every };
    let (mut last, mut still) = (progress.load(Ordering::Relaxed), Duration::ZERO);
    loop {
        tokio::time::sleep(every).await;
        if let Some(show) = show {
            show(shared);
        }
        let now = progress.load(Ordering::Relaxed);
        still = if now == last { still + every } else { Duration::ZERO };
        last = now;
        let alive = still < STALLED;
        if healthy.swap(alive, Ordering::Relaxed) && !alive {
            tracing::error!(?still, "the pipeline makes no progress");
        }
        if wanted.is_some() && still.is_zero() {
            service::tell(NotifyState::Watchdog);
        }
    }
}
