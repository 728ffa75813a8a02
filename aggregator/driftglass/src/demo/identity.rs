//! A development authority: what enrolment will do, for the length of a demo.
//!
//! Its keys live in the demo's folder only and die with it. It must never sign for a real fleet.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use driftglass_protocol::id::DeviceId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use thiserror::Error;

/// The trust domain of the demo's identities; the default of both programs.
const TRUST_DOMAIN: &str = "driftglass.local";

/// Why an identity could not be made.
#[derive(Debug, Error)]
pub(crate) enum IdentityError {
    /// The certificate.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The file.
    #[error("cannot write an identity: {0}")]
    File(#[from] io::Error),
}

/// The authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// A new one with a new key.
    pub(super) fn new() -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "Driftglass demo authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Writes the aggregator's identity into `folder/identity`.
    pub(super) fn certify_server(&self, folder: &Path) -> Result<(), IdentityError> {
        let mut params = CertificateParams::new(vec![String::from("localhost"), String::from("127.0.0.1")])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.certify(params, folder)
    }

    /// Writes a device's identity into `folder/identity`.
    pub(super) fn certify_device(&self, device: &DeviceId, folder: &Path) -> Result<(), IdentityError> {
        let mut uri = String::new();
        // Writing to a string cannot fail.
        device.write_spiffe(TRUST_DOMAIN, &mut uri).ok();
        let mut params = CertificateParams::new(Vec::new())?;
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.certify(params, folder)
    }

    fn certify(&self, params: CertificateParams, folder: &Path) -> Result<(), IdentityError> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let folder = folder.join("identity");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("ca.pem"), &self.certificate)?;
        fs::write(folder.join("cert.pem"), certificate.pem())?;
        let path = folder.join("key.pem");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(key.serialize_pem().as_bytes())?;
        Ok(())
    }
}
