//! The aggregator's own certificate and whom it trusts, and the TLS configuration made of them.
//!
//! Either an authority of somebody else's has certified everybody (`identity/ca.pem`, `cert.pem`, `key.pem`), and who has no
//! certificate of it is turned away in the handshake; or the fleet's own authority has. Then a device may also come without a
//! certificate, to enrol, or with one that has expired, to renew it: the handshake lets both in, and [`super::quic`] looks at what
//! they have before anything else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driftglass_protocol::identity::ENROLMENT_ALPN;
use driftglass_protocol::unit::UnixMillis;
use quinn::crypto::rustls::QuicServerConfig;
use rcgen::KeyPair;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use thiserror::Error;

use crate::identity::authority::{Authority, SERVER_LIFETIME, Serial, Term};
use crate::identity::registry::Issuance;

/// The protocol name that both sides must offer.
pub(super) const ALPN: &[u8] = b"driftglass/1";

/// Why the identity files cannot be used.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("{path}: {source}; the aggregator needs ca.pem, cert.pem and key.pem there")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The private key can be read by others.
    #[error("{path}: its permissions are {mode:03o}, others could read the private key; allowed is 600 or stricter")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Permission bits found.
        mode: u32,
    },
    /// A file is not PEM, or holds something else.
    #[error("{path}: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: rustls::pki_types::pem::Error,
    },
    /// A file holds no certificate.
    #[error("{path}: no certificate in it")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// An authority's certificate cannot be used.
    #[error("{path}: {source}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// What the TLS library said.
        source: rustls::Error,
    },
    /// Certificate and key do not fit each other, or the algorithms are not supported.
    #[error("{path}: certificate and key cannot be used: {detail}")]
    Tls {
        /// The folder.
        path: PathBuf,
        /// What the TLS library said.
        detail: String,
    },
}

/// The aggregator's certificate chain and key, and the authority that devices must come from.
#[derive(Debug)]
pub struct Credentials {
    folder: PathBuf,
    authorities: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    issuance: Issuance,
}

impl Credentials {
    /// The private key's bytes, to derive further keys from. Never logged.
    pub(super) fn secret(&self) -> &[u8] {
        self.key.secret_der()
    }

    /// Reads `ca.pem`, `cert.pem` and `key.pem` in a folder.
    ///
    /// # Errors
    /// One variant of [`CredentialsError`] per cause.
    pub fn read(folder: &Path) -> Result<Self, CredentialsError> {
        let authority_path = folder.join("ca.pem");
        let mut authorities = RootCertStore::empty();
        for certificate in certificates(&authority_path)? {
            authorities
                .add(certificate)
                .map_err(|source| CredentialsError::Authority { path: authority_path.clone(), source })?;
        }
        let chain = certificates(&folder.join("cert.pem"))?;
        let key = private_key(&folder.join("key.pem"))?;
        Ok(Self { folder: folder.to_owned(), authorities, chain, key, issuance: Issuance::Foreign })
    }

    /// Whether any of the files of [`Self::read`] is there: then they are what counts, and what is missing is a fault.
    #[must_use]
    pub fn are_in(folder: &Path) -> bool {
        ["ca.pem", "cert.pem", "key.pem"].iter().any(|name| folder.join(name).exists())
    }

    /// Has the fleet's own authority certify the aggregator's key.
    ///
    /// # Errors
    /// [`CredentialsError::Tls`].
    pub(super) fn own(
        folder: &Path,
        authority: &Authority,
        key: &KeyPair,
        now: UnixMillis,
        serial: Serial,
    ) -> Result<Self, CredentialsError> {
        let tls = |detail: String| CredentialsError::Tls { path: folder.to_owned(), detail };
        let mut authorities = RootCertStore::empty();
        for certificate in authority.trusted() {
            authorities.add(certificate.clone()).map_err(|error| tls(error.to_string()))?;
        }
        let chain = authority.certify_server(key, Term::new(now, SERVER_LIFETIME), serial);
        let chain = chain.map_err(|error| tls(error.to_string()))?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| tls(error.to_owned()))?;
        Ok(Self { folder: folder.to_owned(), authorities, chain, key, issuance: Issuance::Own })
    }

    /// The same for QUIC.
    ///
    /// # Errors
    /// [`CredentialsError::Tls`].
    pub(super) fn quic_config(&self) -> Result<QuicServerConfig, CredentialsError> {
        QuicServerConfig::try_from(self.tls_config()?)
            .map_err(|error| CredentialsError::Tls { path: self.folder.clone(), detail: error.to_string() })
    }

    /// TLS 1.3 with client certificates, without early data and without resumption: a resumed session would skip the check of the
    /// client's chain.
    ///
    /// # Errors
    /// [`CredentialsError::Tls`].
    pub(super) fn tls_config(&self) -> Result<rustls::ServerConfig, CredentialsError> {
        let tls = |detail: String| CredentialsError::Tls { path: self.folder.clone(), detail };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authorities = Arc::new(self.authorities.clone());
        let verifier = WebPkiClientVerifier::builder_with_provider(authorities, Arc::clone(&provider))
            .build()
            .map_err(|error| tls(error.to_string()))?;
        let (verifier, protocols): (Arc<dyn ClientCertVerifier>, _) = match self.issuance {
            Issuance::Foreign => (verifier, vec![ALPN.to_vec()]),
            Issuance::Own => {
                (Arc::new(DeviceVerifier { inner: verifier }), vec![ALPN.to_vec(), ENROLMENT_ALPN.to_vec()])
            }
        };
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| tls(error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| tls(error.to_string()))?;
        config.alpn_protocols = protocols;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }
}

/// Lets in, besides devices with a valid certificate, those with none and those whose certificate has expired. A certificate that is
/// shown has to lead to a trusted authority in any case, and the key has to be the peer's.
#[derive(Debug)]
struct DeviceVerifier {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for DeviceVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.inner.verify_client_cert(end_entity, intermediates, now) {
            Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                self.inner.verify_client_cert(end_entity, intermediates, not_after)
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    fs::read(path).map_err(|source| CredentialsError::File { path: path.to_owned(), source })
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let found = found.map_err(|source| CredentialsError::Pem { path: path.to_owned(), source })?;
    if found.is_empty() {
        return Err(CredentialsError::Empty { path: path.to_owned() });
    }
    Ok(found)
}

pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    PrivateKeyDer::from_pem_slice(&private_text(path)?)
        .map_err(|source| CredentialsError::Pem { path: path.to_owned(), source })
}

/// A file that nobody else may be able to read.
pub(super) fn private_text(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let text = read(path)?;
    let metadata = fs::metadata(path).map_err(|source| CredentialsError::File { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(CredentialsError::Permissions { path: path.to_owned(), mode });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("folder");
        let key = rcgen::KeyPair::generate().expect("key");
        let certificate = rcgen::CertificateParams::new(vec!["aggregator".into()])
            .expect("name")
            .self_signed(&key)
            .expect("certificate");
        for (name, text) in
            [("ca.pem", certificate.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())]
        {
            fs::write(folder.path().join(name), text).expect("written");
        }
        fs::set_permissions(folder.path().join("key.pem"), fs::Permissions::from_mode(0o600)).expect("private");
        folder
    }

    #[test]
    fn a_complete_folder_makes_a_server_without_early_data() {
        let folder = folder();
        let credentials = Credentials::read(folder.path()).expect("reads");
        assert!(credentials.quic_config().is_ok());
    }

    #[test]
    fn every_cause_has_its_own_error_and_names_the_file() {
        let folder = folder();
        let key = folder.path().join("key.pem");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("opened");
        let error = Credentials::read(folder.path()).expect_err("readable by the group");
        assert!(matches!(&error, CredentialsError::Permissions { mode: 0o640, .. }), "{error}");

        fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).expect("stricter");
        assert!(Credentials::read(folder.path()).is_ok(), "stricter than 600 is allowed");

        fs::write(folder.path().join("cert.pem"), "nothing").expect("written");
        let error = Credentials::read(folder.path()).expect_err("no certificate");
        assert!(matches!(&error, CredentialsError::Empty { path } if path.ends_with("cert.pem")), "{error}");

        fs::remove_file(folder.path().join("ca.pem")).expect("removed");
        let error = Credentials::read(folder.path()).expect_err("missing");
        assert!(matches!(&error, CredentialsError::File { path, .. } if path.ends_with("ca.pem")), "{error}");
    }
}
