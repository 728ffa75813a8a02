//! From configuration to a running service, and down again.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use driftglass_protocol::unit::{Millis, UnixMillis};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::access::{self, AccessError};
use super::authority::{self, AuthorityError};
use super::clock::now;
use super::credentials::{Credentials, CredentialsError};
use super::door::{self, Room, Shared};
use super::quic::{self, BindError, Renewal};
use super::random::random;
use super::restore::refuse_unfinished;
use super::stopwatch::TimedCore;
use super::systemd;
use super::{tcp, web};
use crate::access::Gate;
use crate::api::{Api, router};
use crate::baseline::Tolerances;
use crate::config::{Config, Http, HttpTls};
use crate::configurator::Configurator;
use crate::decision::{Core, Settings};
use crate::identity::authority::{Authority, SERVER_LIFETIME};
use crate::ingest::{Connections, Rate};
use crate::metrics::{Metrics, MetricsError};
use crate::operators::Operators;
use crate::registrar::{Registrar, Sources};
use crate::store::StoreError;
use crate::store::embedded::EmbeddedStore;
use crate::writer::{self, Progress, Writer};

/// How long the parts may take to stop, one after the other; within systemd's 90 s.
const SESSIONS_GRACE: Duration = Duration::from_secs(15);
const HTTP_GRACE: Duration = Duration::from_secs(5);
const WRITER_GRACE: Duration = Duration::from_secs(30);
/// How often windows beyond the retention are deleted.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Where the service can be reached; written as JSON to `addresses.json` in the data folder while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// For agents, UDP.
    pub quic: SocketAddr,
    /// For people and programs, TCP.
    pub http: SocketAddr,
    /// For agents whose site blocks UDP, TCP; absent where that is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<SocketAddr>,
}

impl Addresses {
    /// Name of the file within the data folder.
    pub const FILE_NAME: &'static str = "addresses.json";
}

/// Why the service does not run.
#[derive(Debug, Error)]
pub enum ServeError {
    /// A file or folder cannot be used.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An address cannot be bound.
    #[error("{key} = \"{address}\": cannot listen there: {source}{}", hint(.source))]
    Listen {
        /// The key in the configuration.
        key: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The identity files.
    #[error("identity: {0}")]
    Credentials(#[from] CredentialsError),
    /// The fleet's authority.
    #[error("authority: {0}")]
    Authority(#[from] AuthorityError),
    /// The store.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// The list of access tokens.
    #[error("access tokens: {0}")]
    Access(#[from] AccessError),
    /// There is no authority of our own to issue a certificate.
    #[error(
        "http.tls = \"own\": certificates come from the authority in identity/ca.pem here, so that for HTTP has to come from there too: \
         set http.tls = \"files\""
    )]
    NoAuthority,
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The system refuses signals or threads.
    #[error("the system refuses: {0}")]
    System(std::io::Error),
    /// A part ended that should not have.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; another program, or another aggregator, has it: stop it or choose another port"
        }
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege: choose a higher one",
        std::io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        _ => "",
    }
}

/// Runs the service until SIGTERM or SIGINT.
///
/// # Errors
/// One variant of [`ServeError`] per cause.
pub async fn run(config: &Config) -> Result<(), ServeError> {
    // Signals first: one that comes during start-up must not be lost.
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::System)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::System)?;

    let given = if Credentials::are_in(&config.identity_dir()) {
        Some(Credentials::read(&config.identity_dir())?)
    } else {
        None
    };
    create_data_dir(config.data_dir())?;
    let announcement = config.data_dir().join(Addresses::FILE_NAME);
    refuse_unfinished(config.data_dir())
        .map_err(|source| ServeError::File { path: config.data_dir().to_owned(), source })?;
    let store = EmbeddedStore::open(config.data_dir())?;
    // Only now is it certain that no other aggregator runs on this folder, and what it says is left over.
    drop(std::fs::remove_file(&announcement));
    let Identity { credentials, authority, renewal, tls } = identity(config, given)?;
    let certificate = web_certificate(config.http(), authority.as_ref(), config.data_dir())?;
    let gate = gate(config)?;
    let reader = Arc::new(store.reader());
    let settings = core_settings(config);
    let metrics = Arc::new(Metrics::new(settings.target(0))?);
    let timed = Arc::clone(&metrics);
    let places = config.places().clone();
    let fresh = move || TimedCore::new(Core::new(settings).at(places.clone()), Arc::clone(&timed));
    let (writer, writer_thread) = Writer::start(store, fresh, now, writer::Settings::default())?;
    let quota = config.quota();
    let rate = Rate { records_per_second: quota.records_per_second, bytes_per_second: quota.bytes_per_second };
    let connections = Arc::new(Connections::new(rate));

    let listen = config.quic().listen;
    let endpoint = quic::bind(config.quic(), &credentials).map_err(|error| match error {
        BindError::Credentials(error) => ServeError::Credentials(error),
        BindError::Socket(source) => ServeError::Listen { key: "quic.listen", address: listen, source },
    })?;
    let http_error = |source| ServeError::Listen { key: "http.listen", address: config.http().listen, source };
    let listener = TcpListener::bind(config.http().listen).await.map_err(http_error)?;
    let tcp_listener = match config.tcp_listen() {
        Some(address) => {
            let listener = TcpListener::bind(address).await;
            Some(listener.map_err(|source| ServeError::Listen { key: "tcp.listen", address, source })?)
        }
        None => None,
    };
    let addresses = Addresses {
        quic: endpoint.local_addr().map_err(ServeError::System)?,
        http: listener.local_addr().map_err(http_error)?,
        tcp: tcp_listener.as_ref().map(TcpListener::local_addr).transpose().map_err(ServeError::System)?,
    };

    let sources = Sources { clock: now, random };
    let registrar = Arc::new(Registrar::new(
        writer.clone(),
        authority,
        Arc::clone(&connections),
        config.certificate_lifetime(),
        sources,
    ));
    let configurator = Arc::new(Configurator::new(writer.clone()));
    let operators = Arc::new(Operators::new(writer.clone()));
    let (stop, stopped) = watch::channel(false);
    let shared = Arc::new(Shared {
        writer: writer.clone(),
        metrics: Arc::clone(&metrics),
        connections: Arc::clone(&connections),
        registrar: Arc::clone(&registrar),
        configurator: Arc::clone(&configurator),
        trust_domain: config.trust_domain().to_owned(),
        enrolments: door::enrolments(),
        room: Room::new(config.quic()),
    });
    let by_tcp = tcp_listener.map(|listener| tcp::accept(listener, tls, Arc::clone(&shared), stopped.clone()));
    let by_quic = quic::accept(endpoint, shared, renewal, stopped.clone());
    let mut ingest = tokio::spawn(async move {
        match by_tcp {
            Some(by_tcp) => drop(tokio::join!(by_quic, by_tcp)),
            None => by_quic.await,
        }
    });
    let desk = Arc::clone(&registrar);
    let (progress, shown, wishes) = (writer.progress(), Arc::clone(&metrics), Arc::clone(&configurator));
    let verdicts = Arc::clone(&operators);
    let api =
        Api::new(reader, progress, shown, connections, desk, wishes, verdicts, stopped.clone(), config.max_cameras());
    let api = api.at(config.places().clone()).behind(gate.clone()).promising(config.budget(), config.learning());
    let mut upkeep = JoinSet::new();
    if let Some(gate) = gate {
        upkeep.spawn(access::watch(gate, config.data_dir().to_owned()));
    }
    let http_tls = match certificate {
        Some(certificate) => {
            let (sender, current) = watch::channel(certificate.config()?);
            upkeep.spawn(web::renew(certificate, sender));
            Some(current)
        }
        None => None,
    };
    let scheme = if http_tls.is_some() { "https" } else { "http" };
    let mut http = tokio::spawn(web::serve(listener, http_tls, router(Arc::new(api)), metrics, stopped.clone()));
    let watchdog = tokio::spawn(systemd::feed_watchdog(writer.clone()));
    let retention = tokio::spawn(forget(writer.clone(), config.retention()));
    let log = tokio::spawn(super::alerts::log(writer.events().map_err(|_| ServeError::Ended("the writer"))?));
    announce(&announcement, addresses)?;
    let tcp = addresses.tcp.map_or_else(|| "off".to_owned(), |tcp| tcp.to_string());
    tracing::info!(quic = %addresses.quic, tcp, http = %addresses.http, scheme, "ready");
    systemd::ready(&format!("agents on {}, {scheme}://{}", addresses.quic, addresses.http));

    let failure = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        _ = &mut ingest => Some("the endpoint for agents"),
        _ = &mut http => Some("the HTTP server"),
        () = end_of(writer.progress()) => Some("the writer"),
    };
    tracing::info!("stopping");
    systemd::stopping();
    drop(std::fs::remove_file(&announcement));
    stop.send_replace(true);
    upkeep.abort_all();
    watchdog.abort();
    retention.abort();
    log.abort();
    if failure.is_none() {
        if tokio::time::timeout(SESSIONS_GRACE, &mut ingest).await.is_err() {
            tracing::warn!("some sessions did not end in time; their agents will send again what was not acknowledged");
            ingest.abort();
        }
        if tokio::time::timeout(HTTP_GRACE, &mut http).await.is_err() {
            http.abort();
        }
    } else {
        ingest.abort();
        http.abort();
    }
    registrar.close();
    configurator.close();
    operators.close();
    // The last handle: the writer commits what is queued and ends.
    drop((watchdog.await.is_ok(), retention.await.is_ok(), writer));
    let joined = tokio::task::spawn_blocking(move || writer_thread.join());
    match tokio::time::timeout(WRITER_GRACE, joined).await {
        Ok(Ok(Ok(()))) => {}
        _ => return Err(ServeError::Ended("the writer")),
    }
    tracing::info!("stopped");
    failure.map_or(Ok(()), |part| Err(ServeError::Ended(part)))
}

/// Returns when the writer's thread has ended: nothing can be counted any more, and only a new start helps.
async fn end_of(mut progress: watch::Receiver<Progress>) {
    while progress.changed().await.is_ok() {}
}

/// Who the aggregator is to those who connect.
struct Identity {
    credentials: Credentials,
    /// Ours, where there is one.
    authority: Option<Arc<Authority>>,
    renewal: Option<Renewal>,
    /// What connections over TCP are met with.
    tls: watch::Receiver<Arc<rustls::ServerConfig>>,
}

/// What was given, or else what our own authority certifies.
fn identity(config: &Config, given: Option<Credentials>) -> Result<Identity, ServeError> {
    if let Some(credentials) = given {
        tracing::info!(folder = %config.identity_dir().display(), "certificates come from the authority that was given");
        let (_, tls) = watch::channel(Arc::new(credentials.tls_config()?));
        return Ok(Identity { credentials, authority: None, renewal: None, tls });
    }
    let opened = authority::open(config.data_dir(), config.trust_domain(), now(), random)?;
    let (authority, key, folder) = (Arc::new(opened.authority), opened.server_key, opened.folder);
    let issuer = Arc::clone(&authority);
    let issue = Box::new(move || {
        let no_random = || CredentialsError::Tls { path: folder.clone(), detail: AuthorityError::Random.to_string() };
        Credentials::own(&folder, &issuer, &key, now(), random().ok_or_else(no_random)?)
    });
    let credentials = issue()?;
    let (sender, tls) = watch::channel(Arc::new(credentials.tls_config()?));
    let renewal = Renewal { interval: SERVER_LIFETIME * 2 / 3, credentials: issue, limits: config.quic(), tls: sender };
    Ok(Identity { credentials, authority: Some(authority), renewal: Some(renewal), tls })
}

/// Where the certificate for HTTP comes from; `None` without TLS.
fn web_certificate(
    http: &Http,
    authority: Option<&Arc<Authority>>,
    data_dir: &Path,
) -> Result<Option<web::Certificate>, ServeError> {
    Ok(match &http.tls {
        HttpTls::Off => None,
        HttpTls::Own { names } => {
            let authority = Arc::clone(authority.ok_or(ServeError::NoAuthority)?);
            Some(web::Certificate::Own { authority, names: names.clone(), folder: data_dir.join("authority") })
        }
        HttpTls::Files { certificate, key } => {
            Some(web::Certificate::Files { certificate: certificate.clone(), key: key.clone() })
        }
    })
}

/// Who may ask over HTTP; `None` where everybody on this machine may.
fn gate(config: &Config) -> Result<Option<Arc<Gate>>, ServeError> {
    if !config.http().tokens {
        return Ok(None);
    }
    let tokens = access::read(config.data_dir())?;
    if tokens.entries().is_empty() {
        tracing::warn!(
            "there is no access token yet, so nobody can ask over HTTP: driftglass-aggregator access-token create --name NAME --role admin"
        );
    }
    Ok(Some(Arc::new(Gate::new(tokens, now, random))))
}

fn core_settings(config: &Config) -> Settings {
    let millis = |duration: Duration| Millis(u32::try_from(duration.as_millis()).unwrap_or(u32::MAX));
    Settings {
        q: config.q(),
        dependence: config.dependence(),
        budget: config.budget(),
        epoch: millis(config.epoch()),
        learning: millis(config.learning()),
        tolerances: Tolerances::CATALOGUE,
    }
}

fn create_data_dir(path: &Path) -> Result<(), ServeError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| ServeError::File { path: path.to_owned(), source })
}

/// Writes the addresses so that a reader sees all of them or none.
fn announce(path: &Path, addresses: Addresses) -> Result<(), ServeError> {
    let temporary = path.with_extension("json.tmp");
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        serde_json::to_writer(&mut file, &addresses)?;
        file.write_all(b"\n")?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|source| ServeError::File { path: path.to_owned(), source })
}

async fn forget(writer: Writer, retention: Duration) {
    let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    loop {
        match writer.forget_before(UnixMillis(now().0.saturating_sub(retention))).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "windows beyond the retention were deleted"),
            Err(error) => {
                tracing::warn!(%error, "windows beyond the retention could not be deleted; trying again later")
            }
        }
        tokio::time::sleep(RETENTION_INTERVAL).await;
    }
}
