//! The service, and the same machinery for a replay: spool, pipeline thread, sources, uplink, metrics, service manager, signals.
//!
//! A clean stop leaves open windows as they are: their files are not committed and are read again at the next start, so nothing is
//! counted twice or lost. The uplink is told to stop after the pipeline.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use std::{fmt, io};

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::identity::Vault;
use super::learned::Learned;
use super::log::Level;
use super::reload::{self, Follower, Reread};
use super::service::Manager;
use super::steward::Steward;
use super::worker::{Pace, Worker};
use super::{clock, guest, identity, web};
use crate::config::{CameraConfig, Config, EventTime, SourceKind};
use crate::pipeline::{Pipeline, Setup, Timing};
use crate::prediction::{Detectors, Recorded};
use crate::sign::Sign;
use crate::source::{self, FrameSource, Prepared, Running};
use crate::spool::{self, OpenError, Settings, Shared};
use crate::telemetry::Telemetry;
use crate::uplink::{self, ConnectError, Connector, Counters, Fatal, Guidance, Speaker, Target};

/// Without progress for so long the agent calls itself unhealthy, and the watchdog is no longer fed.
const STALLED: Duration = Duration::from_secs(60);
/// How often progress is looked at, unless the service manager wants it more often.
const LOOK: Duration = Duration::from_secs(5);

/// Time for sources to end what they started.
const SOURCES_END: Duration = Duration::from_secs(5);
/// Threads for what the system does only while a thread waits for it: mostly looking up addresses.
const BLOCKING_THREADS: usize = 16;

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
    /// Metrics, service manager, running sources: what only the service has.
    pub(super) service: Option<Service>,
    /// Shows how far it is.
    pub(super) progress: Option<fn(&Shared)>,
}

/// What only the service has.
pub(super) struct Service {
    running: Running,
    sources: Vec<Prepared>,
    reread: Reread,
    level: Level,
    manager: Manager,
    steward: Steward,
    guidance: Guidance,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("running", &self.running).finish_non_exhaustive()
    }
}

/// Runs the service until it is told to stop. `reread` reads the configuration again, and `level` changes that of the log. `kept` says
/// that the process of the inference proxies started this one, and is at the other end of its standard input.
///
/// # Errors
/// One variant of [`RunError`] per cause.
pub fn run(config: &Config, reread: Reread, level: Level, kept: bool) -> Result<(), RunError> {
    guest::step_back();
    let open = open(config)?;
    let (steward, guidance, effective) = Steward::open(config, Arc::clone(&open.spool.shared));
    if effective.log_level() != config.log_level() {
        level.set(effective.log_level());
    }
    let config = &effective;
    let running = Running::new(clock::now, rand::random::<u64>);
    let manager = manager(config, &running, kept)?;
    let outside = running.outside();
    let prepared = config.cameras().iter().map(|camera| {
        let (source, prepared) = source::prepare(&camera.name, &camera.source, &outside);
        (setup(camera, config, config.detectors(), source), prepared)
    });
    let (cameras, sources) = prepared.unzip();
    let service = Service { running, sources, reread, level, manager, steward, guidance };
    work(config, open, Job { cameras, pace: Pace::Live, service: Some(service), progress: None })
}

/// Who is told how the agent is.
#[cfg(feature = "inference")]
fn manager(config: &Config, running: &Running, kept: bool) -> io::Result<Manager> {
    use std::os::fd::AsFd;

    if !kept {
        return Ok(Manager::System);
    }
    // The system would call it after the path it was started by.
    if let Err(error) = rustix::thread::set_name(c"driftglass-agent") {
        tracing::debug!(%error, "the process has no name of its own");
    }
    let link = running.attach(io::stdin().as_fd().try_clone_to_owned()?.into())?;
    link.only(super::keeper::places(config).collect());
    Ok(Manager::Keeper(link))
}

#[cfg(not(feature = "inference"))]
const fn manager(_: &Config, _: &Running, _: bool) -> io::Result<Manager> {
    Ok(Manager::System)
}

/// How a camera of the service begins; its window and its folder are those that the process was started with.
pub(super) fn setup(camera: &CameraConfig, started: &Config, detectors: Detectors, source: FrameSource) -> Setup {
    Setup {
        name: camera.name.clone(),
        model: camera.model.clone(),
        source,
        timing: timing(camera),
        window: started.window(),
        rate: camera.source.rate,
        max_memory: camera.source.max_memory(),
        predictions: Recorded::default(),
        detectors,
        learned: Learned::new(started.state_dir()).read(&camera.name),
    }
}

/// Which time the frames of a camera count as taken at.
pub(super) const fn timing(camera: &CameraConfig) -> Timing {
    Timing::Live(match camera.source.kind {
        SourceKind::Directory { time, .. } => time,
        // When it came, not when the pipeline got to it.
        _ => EventTime::Modified,
    })
}

/// What a job works with.
pub(super) struct Open {
    pub(super) spool: spool::Opened,
    pub(super) connector: Connector,
    pub(super) vault: Vault,
}

/// Where the aggregator is, and how it is recognised.
pub(super) fn target(config: &Config) -> Target {
    Target {
        host: config.aggregator_host().into(),
        port: config.aggregator_port(),
        server_name: config.server_name().into(),
        trust_domain: (!config.insists_on_server_name()).then(|| config.trust_domain().into()),
        segmentation_offload: config.segmentation_offload(),
        fallback: config.fallback().cloned(),
    }
}

/// Where this device's identity is kept.
pub(super) fn vault(config: &Config) -> Vault {
    let clock = clock::Clock::default();
    Vault::new(config.state_dir().to_path_buf(), config.device().clone(), config.trust_domain(), clock)
}

/// Identity first: a start that cannot succeed leaves no trace in the spool.
pub(super) fn open(config: &Config) -> Result<Open, RunError> {
    let vault = vault(config);
    let connector = Connector::new(vault.credentials()?, target(config), vault.floor())?;
    let settings = Settings {
        state_dir: config.state_dir().to_path_buf(),
        device: config.device().clone(),
        max_bytes: config.spool_bytes(),
    };
    Ok(Open { spool: spool::open(settings, clock::unix_seconds())?, connector, vault })
}

pub(super) fn work(config: &Config, open: Open, job: Job) -> Result<(), RunError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build()?;
    runtime.block_on(work_async(config, open, job))
}

async fn work_async(config: &Config, open: Open, job: Job) -> Result<(), RunError> {
    let Open { spool, connector, vault } = open;
    let counters = Arc::new(Counters::default());
    let shared = spool.shared;
    let telemetry = Arc::new(Telemetry::new(Arc::clone(&shared), Arc::clone(&counters))?);
    if let Some(service) = &job.service {
        telemetry.register(service.running.figures())?;
    }
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
    let manager = job.service.as_ref().map(|service| service.manager.clone());
    let server = if manager.is_some() { Some(serve(config, &telemetry, &healthy).await?) } else { None };
    // What this device does now says nothing of when recorded frames were taken.
    let probe = (config.device_health() && job.pace == Pace::Live).then(|| reload::probe(config, &counters));
    let (gave_way, retired) = mpsc::unbounded_channel();
    let pipeline = Pipeline::new(job.cameras, spool.writer, Arc::clone(&telemetry));
    let learned = Learned::new(config.state_dir());
    let mut worker = Worker::start(pipeline, job.pace, probe, learned, gave_way)?;
    let (end_sources, sources_end) = watch::channel(false);
    let mut guidance = None;
    let sources = match job.service {
        Some(Service { running, sources, reread, level, manager, steward, guidance: given }) => {
            guidance = Some(given);
            let follower = Follower {
                started: config.clone(),
                config: config.clone(),
                reread,
                steward,
                level,
                manager,
                running,
                commander: worker.commander(),
                retired,
                telemetry,
                uplink: Arc::clone(&counters),
            };
            Some(tokio::spawn(follower.run(sources, signal(SignalKind::hangup())?, sources_end)))
        }
        None => None,
    };
    let (stop, stopping) = watch::channel(false);
    let mut random = rand::random::<u64>;
    let surroundings = uplink::Surroundings {
        clock: &clock::wall,
        random: &mut random,
        stop: stopping,
        counters: &counters,
        keeper: Some(&vault),
        guidance: guidance.as_mut(),
    };
    let uplink = uplink::run(connector, &speaker, &shared, surroundings);
    tokio::pin!(uplink);
    let looks = watchdog(manager.as_ref(), Arc::clone(&worker.progress), &healthy, &shared, job.progress);
    tokio::pin!(looks);
    tracing::info!(device = %speaker.device, epoch = speaker.epoch, pending = shared.pending(), "the agent is running");
    if let Some(manager) = &manager {
        manager.tell(Sign::Ready);
    }
    let gone = async {
        match &manager {
            Some(manager) => manager.gone().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(gone);

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
            () = &mut gone => {
                tracing::error!("the process of the inference proxies is gone");
                break Ok(());
            }
            _ = terminate.recv() => break interrupted(recorded, &shared, config),
            _ = interrupt.recv() => break interrupted(recorded, &shared, config),
        }
    };
    tracing::info!(pending = shared.pending(), "the agent stops");
    if let Some(manager) = &manager {
        manager.tell(Sign::Stopping);
    }
    end_sources.send_replace(true);
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
    if let Some(sources) = sources
        && tokio::time::timeout(SOURCES_END, sources).await.is_err()
    {
        tracing::warn!("a source took too long to stop");
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
    manager: Option<&Manager>,
    progress: Arc<AtomicU64>,
    healthy: &AtomicBool,
    shared: &Shared,
    show: Option<fn(&Shared)>,
) {
    let wanted = manager.and_then(Manager::patience);
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
        if let Some(manager) = manager.filter(|_| wanted.is_some() && still.is_zero()) {
            manager.tell(Sign::Alive);
        }
    }
}
