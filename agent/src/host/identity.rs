//! The device's identity on disk: `identity/cert.pem`, `identity/key.pem`, `identity/ca.pem` in the state folder.
//!
//! Checked at start, because a wrong identity is found at once here and at the aggregator only after a round trip: the key must be
//! readable by its owner alone, and the certificate must name the configured device.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use driftglass_protocol::id::{DeviceId, SpiffeError};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use webpki::EndEntityCert;

use crate::uplink::Credentials;

/// The folder within the state folder.
pub const FOLDER: &str = "identity";

/// Why there is no usable identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("{path}: {source}; an identity is cert.pem, key.pem (0600) and ca.pem in this folder")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what its name says.
    #[error("{path}: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// A file holds nothing of what is needed.
    #[error("{path}: no certificate in it")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Others may read the key.
    #[error("{path} has mode {mode:04o}: others can read the key; chmod 600 it")]
    KeyMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The certificate is not one.
    #[error("{path}: {source}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: webpki::Error,
    },
    /// The certificate names nobody.
    #[error("{path} carries no URI name; spiffe://{trust_domain}/site/SITE/device/DEVICE is needed")]
    Nameless {
        /// The file.
        path: PathBuf,
        /// The trust domain configured.
        trust_domain: String,
    },
    /// The name is not a device's.
    #[error("{path} carries the name {uri}: {source} (trust domain configured: {trust_domain})")]
    Name {
        /// The file.
        path: PathBuf,
        /// The name.
        uri: String,
        /// What is wrong with it.
        source: SpiffeError,
        /// The trust domain configured.
        trust_domain: String,
    },
    /// The certificate is another device's.
    #[error(
        "{path} is the certificate of {certificate}, but the configuration says {configured}: change site and device, or take the right certificate"
    )]
    OtherDevice {
        /// The file.
        path: PathBuf,
        /// Who the certificate names.
        certificate: Box<DeviceId>,
        /// Who the configuration names.
        configured: Box<DeviceId>,
    },
}

/// Reads and checks the identity of `device`.
///
/// # Errors
/// One variant of [`IdentityError`] per cause.
pub fn load(state_dir: &Path, device: &DeviceId, trust_domain: &str) -> Result<Credentials, IdentityError> {
    let folder = state_dir.join(FOLDER);
    let certificate_path = folder.join("cert.pem");
    let chain = certificates(&certificate_path)?;
    let authorities = certificates(&folder.join("ca.pem"))?;
    let key = key(&folder.join("key.pem"))?;
    let named = certificate_device(&certificate_path, &chain, trust_domain)?;
    if named != *device {
        let (certificate, configured) = (Box::new(named), Box::new(device.clone()));
        return Err(IdentityError::OtherDevice { path: certificate_path, certificate, configured });
    }
    Ok(Credentials { chain, key, authorities })
}

fn certificate_device(
    path: &Path,
    chain: &[CertificateDer<'_>],
    trust_domain: &str,
) -> Result<DeviceId, IdentityError> {
    let path = path.to_path_buf();
    let Some(first) = chain.first() else { return Err(IdentityError::Empty { path }) };
    let certificate =
        EndEntityCert::try_from(first).map_err(|source| IdentityError::Certificate { path: path.clone(), source })?;
    let trust_domain = trust_domain.to_string();
    let Some(uri) = certificate.valid_uri_names().next() else {
        return Err(IdentityError::Nameless { path, trust_domain });
    };
    DeviceId::from_spiffe(uri, &trust_domain).map_err(|source| IdentityError::Name {
        path,
        uri: uri.into(),
        source,
        trust_domain,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(path).map_err(|source| IdentityError::Read { path: path.to_path_buf(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let bytes = read(path)?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let list = list.map_err(|source| IdentityError::Pem { path: path.to_path_buf(), source })?;
    if list.is_empty() { Err(IdentityError::Empty { path: path.to_path_buf() }) } else { Ok(list) }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let unreadable = |source| IdentityError::Read { path: path.to_path_buf(), source };
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::KeyMode { path: path.to_path_buf(), mode });
    }
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|source| IdentityError::Pem { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::id::Name;

    use super::*;

    fn device(site: &str) -> DeviceId {
        DeviceId { site: Name::parse(site).expect("name"), device: Name::parse("gw").expect("name") }
    }

    fn write_identity(folder: &Path, uri: &str, mode: u32) {
        let identity = folder.join(FOLDER);
        fs::create_dir_all(&identity).expect("created");
        let mut parameters = rcgen::CertificateParams::default();
        parameters.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().expect("ascii"))];
        let key = rcgen::KeyPair::generate().expect("key");
        let certificate = parameters.self_signed(&key).expect("signed").pem();
        fs::write(identity.join("cert.pem"), &certificate).expect("written");
        fs::write(identity.join("ca.pem"), &certificate).expect("written");
        fs::write(identity.join("key.pem"), key.serialize_pem()).expect("written");
        fs::set_permissions(identity.join("key.pem"), fs::Permissions::from_mode(mode)).expect("set");
    }

    #[test]
    fn the_certificate_must_name_the_configured_device() {
        let folder = tempfile::tempdir().expect("folder");
        write_identity(folder.path(), "spiffe://driftglass.local/site/s/device/gw", 0o600);
        assert!(load(folder.path(), &device("s"), "driftglass.local").is_ok());
        let error = load(folder.path(), &device("t"), "driftglass.local").expect_err("another").to_string();
        assert!(error.contains("s/gw") && error.contains("t/gw"), "{error}");
        let error = load(folder.path(), &device("s"), "elsewhere").expect_err("another domain");
        assert!(matches!(error, IdentityError::Name { .. }), "{error}");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_and_so_is_a_missing_file() {
        let folder = tempfile::tempdir().expect("folder");
        write_identity(folder.path(), "spiffe://driftglass.local/site/s/device/gw", 0o640);
        let error = load(folder.path(), &device("s"), "driftglass.local").expect_err("readable");
        assert!(matches!(error, IdentityError::KeyMode { mode: 0o640, .. }), "{error}");
        fs::write(folder.path().join(FOLDER).join("ca.pem"), "rubbish").expect("written");
        assert!(matches!(load(folder.path(), &device("s"), "driftglass.local"), Err(IdentityError::Empty { .. })));
        fs::remove_file(folder.path().join(FOLDER).join("cert.pem")).expect("removed");
        assert!(matches!(load(folder.path(), &device("s"), "driftglass.local"), Err(IdentityError::Read { .. })));
    }
}
