//! Asking a camera over HTTP: one connection, kept as long as both sides like, and nothing on it without a limit.
//!
//! Must hold: looking up, connecting, TLS and the answer's header each have their time; a header has at most [`HEADERS`] fields and
//! [`BUFFER`] bytes; credentials go out only after the server asked, and never into a message; a connection ends with its client.
//!
//! TLS: the server's chain is checked against the authorities of the system, or of the file configured. A certificate that is itself in
//! that file is taken as it is, under any name: cameras sign their own.
//!
//! Deliberately absent: redirects (a camera that moved should be configured where it is), proxies, compression, cookies.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT, WWW_AUTHENTICATE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::digest::Challenge;
use super::live::Outside;
use super::status::{Failure, with_causes};

/// Most fields of an answer's header.
pub(super) const HEADERS: usize = 64;
/// Most bytes read ahead, and so of a header.
pub(super) const BUFFER: usize = 32 * 1024;
/// Time for each step until there is a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const ADDRESSES: usize = 4;
/// Requests for one answer: a connection the server had given up, and a number of its that had become stale.
const TRIES: u32 = 4;
/// Where systems keep the authorities they trust.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// The schemes this client speaks.
pub const SCHEMES: [(&str, u16); 2] = [("http", 80), ("https", 443)];

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A client for one URL.
pub(super) struct Client {
    address: Address,
    certificates: Option<PathBuf>,
    wait: Duration,
    tls: Option<TlsConnector>,
    connection: Option<Connection>,
    challenge: Option<Challenge>,
    answers: u32,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) const fn new(address: Address, certificates: Option<PathBuf>, wait: Duration) -> Self {
        Self { address, certificates, wait, tls: None, connection: None, challenge: None, answers: 0 }
    }

    /// Lets the connection go.
    pub(super) fn close(&mut self) {
        self.connection = None;
    }

    /// The answer to a GET, if it is one of success and does not claim to be text.
    pub(super) async fn get(&mut self, outside: &Outside) -> Result<Response<Incoming>, Failure> {
        for _ in 0..TRIES {
            let old = self.connection.take().filter(|connection| connection.sender.is_ready());
            let reused = old.is_some();
            let mut connection = match old {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let request = self.request(outside)?;
            let response = match timeout(self.wait, connection.sender.send_request(request)).await {
                Err(_) => return Err(Failure::Timeout { doing: "waiting for the answer", after: self.wait }),
                // The server may have closed it meanwhile.
                Ok(Err(_)) if reused => continue,
                Ok(Err(error)) => return Err(http(&error)),
                Ok(Ok(response)) => response,
            };
            if response.status() == StatusCode::UNAUTHORIZED {
                // Its body is of no interest, so the connection is of no use.
                drop(connection);
                self.challenged(&response)?;
                continue;
            }
            if !response.status().is_success() {
                return Err(Failure::Status(response.status().as_u16()));
            }
            self.connection = Some(connection);
            return not_text(response);
        }
        Err(Failure::Unauthorized(": it asks again and again"))
    }

    fn challenged(&mut self, response: &Response<Incoming>) -> Result<(), Failure> {
        if self.address.credentials().is_none() {
            return Err(Failure::Unauthorized(": the URL has no user and password"));
        }
        let headers = response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenge =
            Challenge::choose(headers).ok_or(Failure::Unauthorized(": it offers neither Basic nor Digest with MD5"))?;
        if self.challenge.as_ref() == Some(&challenge) {
            self.challenge = None;
            return Err(Failure::Unauthorized(""));
        }
        (self.challenge, self.answers) = (Some(challenge), 0);
        Ok(())
    }

    fn request(&mut self, outside: &Outside) -> Result<Request<Empty<Bytes>>, Failure> {
        let target = self.address.target();
        let mut request = Request::get(target)
            .header(HOST, self.address.authority())
            .header(USER_AGENT, concat!("driftglass-agent/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "multipart/x-mixed-replace, image/jpeg, image/png, */*;q=0.5");
        if let (Some(challenge), Some(credentials)) = (&self.challenge, self.address.credentials()) {
            self.answers = self.answers.saturating_add(1);
            let answer = challenge.answer(credentials, "GET", target, self.answers, (outside.random)());
            if let Ok(mut value) = HeaderValue::try_from(answer) {
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
        }
        // The target was checked to be visible ASCII; what hyper refuses beyond that is said without showing it.
        request.body(Empty::new()).map_err(|_| Failure::Http("the URL's path cannot be sent".into()))
    }

    async fn connect(&mut self) -> Result<Connection, Failure> {
        let stream = dial(self.address.host(), self.address.port()).await?;
        if self.address.scheme() != "https" {
            return shake(stream).await;
        }
        let tls = match &self.tls {
            Some(tls) => tls.clone(),
            None => self.tls.insert(connector(self.certificates.as_deref())?).clone(),
        };
        let name =
            ServerName::try_from(self.address.host().to_owned()).map_err(|error| Failure::Tls(error.to_string()))?;
        match timeout(CONNECT, tls.connect(name, stream)).await {
            Ok(Ok(stream)) => shake(stream).await,
            Ok(Err(error)) => Err(Failure::Tls(error.to_string())),
            Err(_) => Err(Failure::Timeout { doing: "beginning TLS", after: CONNECT }),
        }
    }
}

/// Bytes of a body's next piece; `None` at its end. Trailers are passed over.
pub(super) async fn piece(body: &mut Incoming) -> Result<Option<Bytes>, Failure> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(http(&error)),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// Length of a body, where it is known beforehand.
pub(super) fn length(body: &Incoming) -> Option<u64> {
    body.size_hint().exact()
}

fn not_text(response: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind.starts_with("text/") || kind == "application/json" || kind == "application/xml" {
        return Err(Failure::ContentType(kind.chars().take(64).collect()));
    }
    Ok(response)
}

/// A TCP connection to the first address that answers.
async fn dial(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let unresolved = |error| Failure::Resolve { host: host.to_owned(), error };
    let addresses = match timeout(CONNECT, tokio::net::lookup_host((host, port))).await {
        Ok(found) => found.map_err(unresolved)?,
        Err(_) => return Err(Failure::Timeout { doing: "looking up the host's address", after: CONNECT }),
    };
    let mut failure = unresolved(std::io::ErrorKind::NotFound.into());
    for address in addresses.take(ADDRESSES) {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = Failure::Connect { address, error },
            Err(_) => failure = Failure::Timeout { doing: "connecting", after: CONNECT },
        }
    }
    Err(failure)
}

async fn shake(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Connection, Failure> {
    let begun = Builder::new()
        .max_headers(HEADERS)
        .max_buf_size(BUFFER)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = begun.map_err(|error| http(&error))?;
    let driver = tokio::spawn(async move {
        // Whoever waits for the answer gets the same error.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a camera's connection ended");
        }
    });
    Ok(Connection { sender, driver })
}

fn http(error: &hyper::Error) -> Failure {
    Failure::Http(with_causes(error))
}

fn connector(certificates: Option<&Path>) -> Result<TlsConnector, Failure> {
    let failed = |what: String| Failure::Tls(what);
    let path = match certificates {
        Some(path) => path,
        None => AUTHORITIES.iter().map(Path::new).find(|path| path.is_file()).ok_or_else(|| {
            failed("this system has no list of authorities where it is looked for; set `certificates`".into())
        })?,
    };
    let unreadable = |error: &dyn Error| failed(format!("{}: {error}", path.display()));
    let mut roots = RootCertStore::empty();
    let mut own = Vec::new();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        // A camera's own certificate need not be fit for an authority.
        let fit = roots.add(certificate.clone()).is_ok();
        if certificates.is_some() {
            own.push(certificate);
        } else if !fit {
            tracing::debug!(path = %path.display(), "one of the system's authorities cannot be used");
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = if roots.is_empty() {
        None
    } else {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        Some(verifier.map_err(|error| unreadable(&error))?)
    };
    if chain.is_none() && own.is_empty() {
        return Err(failed(format!("{}: there is no certificate in it", path.display())));
    }
    let verifier = Arc::new(Verifier { own, chain, provider: Arc::clone(&provider) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes the certificates named, and otherwise asks for a chain.
#[derive(Debug)]
struct Verifier {
    own: Vec<CertificateDer<'static>>,
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.own.iter().any(|own| own.as_ref() == end_entity.as_ref()) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.chain {
            Some(chain) => chain.verify_server_cert(end_entity, intermediates, name, stapled, now),
            None => Err(rustls::CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
