//! The HTTP server: how many may be connected, with TLS or without, and how long anybody is waited for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rcgen::KeyPair;
use rustix::net::sockopt::set_tcp_user_timeout;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::clock::now;
use super::credentials::{CredentialsError, certificates, private_key};
use super::door::told_to_stop;
use super::random::random;
use crate::access::Refusal;
use crate::identity::authority::{Authority, SERVER_LIFETIME, Term};
use crate::ingest::Shares;
use crate::metrics::Metrics;

/// Connections at once, and those of one network among them.
const CONNECTIONS_MAX: usize = 1_024;
const CONNECTIONS_OF_A_NETWORK: usize = 256;
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long the head of a request may take, and how long a connection may wait for its next one.
const HEAD_LIMIT: Duration = Duration::from_secs(15);
/// Longest head.
const HEAD_BYTES: usize = 32 * 1024;
/// How long what was sent may stay unread, in milliseconds.
const UNACKNOWLEDGED_MS: u32 = 30_000;
/// How long the answers under way may take when the service stops.
const GRACE: Duration = Duration::from_secs(4);
/// After a failure to accept, as where there are no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the files of a certificate are looked at, for whoever renews them does not tell us.
const FILES_INTERVAL: Duration = Duration::from_secs(60);

type Config = Arc<rustls::ServerConfig>;

/// Where certificates come from.
pub(super) enum Certificate {
    /// From the fleet's own authority, for these names.
    Own { authority: Arc<Authority>, names: Vec<String>, folder: PathBuf },
    /// From files.
    Files { certificate: PathBuf, key: PathBuf },
}

impl Certificate {
    /// A TLS configuration with a certificate as it is now.
    pub(super) fn config(&self) -> Result<Config, CredentialsError> {
        let (path, chain, key) = match self {
            Self::Own { authority, names, folder } => {
                let failed = |detail: String| CredentialsError::Tls { path: folder.clone(), detail };
                let serial = random().ok_or_else(|| failed("the system gives no random numbers".to_owned()))?;
                // A key of its own for every certificate: nothing to keep, and nothing to lose.
                let key = KeyPair::generate().map_err(|error| failed(error.to_string()))?;
                let term = Term::new(now(), SERVER_LIFETIME);
                let chain = authority.certify_web(&key, names, term, serial);
                let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| failed(error.to_owned()))?;
                (folder, chain.map_err(|error| failed(error.to_string()))?, key)
            }
            Self::Files { certificate, key } => (certificate, certificates(certificate)?, private_key(key)?),
        };
        config(path, chain, key)
    }

    fn interval(&self) -> Duration {
        match self {
            Self::Own { .. } => SERVER_LIFETIME * 2 / 3,
            Self::Files { .. } => FILES_INTERVAL,
        }
    }
}

fn config(
    path: &Path,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Config, CredentialsError> {
    let tls = |error: rustls::Error| CredentialsError::Tls { path: path.to_owned(), detail: error.to_string() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(tls)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // What is replayed could be a change.
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Takes up certificates that were made anew; never returns.
pub(super) async fn renew(certificate: Certificate, current: watch::Sender<Config>) {
    loop {
        tokio::time::sleep(certificate.interval()).await;
        match certificate.config() {
            Ok(config) => drop(current.send_replace(config)),
            Err(error) => {
                tracing::error!(%error, "the certificate for HTTP cannot be renewed: the one before stays in use")
            }
        }
    }
}

/// Answers until `stop` turns true, and then what is under way.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<watch::Receiver<Config>>,
    router: Router,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let shares = Shares::new(CONNECTIONS_OF_A_NETWORK);
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = told_to_stop(&mut stop) => break,
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no HTTP connection can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (Ok(place), Some(share)) = (Arc::clone(&places).try_acquire_owned(), shares.take(address.ip())) else {
            metrics.refuse_http(Refusal::Connections);
            continue;
        };
        let config = tls.as_ref().map(|tls| Arc::clone(&tls.borrow()));
        let (router, metrics, stop) = (router.clone(), Arc::clone(&metrics), stop.clone());
        tasks.spawn(async move {
            receive(stream, address, config, router, &metrics, stop).await;
            drop((place, share));
        });
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

async fn receive(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Config>,
    router: Router,
    metrics: &Metrics,
    stop: watch::Receiver<bool>,
) {
    // Also ends the wait for a peer that asks and does not read the answer.
    if let Err(error) = set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS) {
        return tracing::debug!(%address, %error, "an HTTP connection failed");
    }
    let Some(config) = tls else { return answer(stream, address, router, stop).await };
    match tokio::time::timeout(HANDSHAKE_LIMIT, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => return answer(stream, address, router, stop).await,
        Ok(Err(error)) => tracing::debug!(%address, %error, "no TLS for HTTP"),
        Err(_) => tracing::debug!(%address, "no TLS for HTTP: it took too long"),
    }
    metrics.refuse_http(Refusal::Handshake);
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    address: SocketAddr,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told_to_stop(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "an HTTP connection failed");
    }
}
