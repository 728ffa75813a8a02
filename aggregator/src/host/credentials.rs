//! The aggregator's identity files, and the TLS configuration made of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use thiserror::Error;

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
        Ok(Self { folder: folder.to_owned(), authorities, chain, key })
    }

    /// TLS 1.3 with client certificates, without early data and without resumption: a resumed session would skip the check of the
    /// client's chain.
    ///
    /// # Errors
    /// [`CredentialsError::Tls`].
    pub(super) fn server_config(self) -> Result<QuicServerConfig, CredentialsError> {
        let path = self.folder;
        let tls = |detail: String| CredentialsError::Tls { path: path.clone(), detail };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.authorities), Arc::clone(&provider))
            .build()
            .map_err(|error| tls(error.to_string()))?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| tls(error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain, self.key)
            .map_err(|error| tls(error.to_string()))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        QuicServerConfig::try_from(config).map_err(|error| tls(error.to_string()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    fs::read(path).map_err(|source| CredentialsError::File { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let found = found.map_err(|source| CredentialsError::Pem { path: path.to_owned(), source })?;
    if found.is_empty() {
        return Err(CredentialsError::Empty { path: path.to_owned() });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    let text = read(path)?;
    let metadata = fs::metadata(path).map_err(|source| CredentialsError::File { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(CredentialsError::Permissions { path: path.to_owned(), mode });
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|source| CredentialsError::Pem { path: path.to_owned(), source })
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
        assert!(credentials.server_config().is_ok());
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
