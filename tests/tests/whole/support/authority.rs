//! Certificates: what enrolment would give, and what nobody should have.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;

/// The SPIFFE name of a device.
pub(crate) fn device_uri(site: &str, device: &str) -> String {
    format!("spiffe://driftglass.local/site/{site}/device/{device}")
}

/// A certificate and its key.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: Certificate,
    pub(crate) key: KeyPair,
}

/// Something that signs certificates.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "Driftglass test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("signed");
        Self { issuer: Issuer::new(params, key), certificate }
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    pub(crate) fn server(&self) -> Identity {
        self.server_at(vec!["127.0.0.1".into()])
    }

    /// An aggregator's certificate for these addresses.
    pub(crate) fn server_at(&self, addresses: Vec<String>) -> Identity {
        let mut params = CertificateParams::new(addresses).expect("addresses");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params)
    }

    /// A client's certificate with these URIs.
    pub(crate) fn client(&self, uris: &[&str]) -> Identity {
        self.sign(&client_params(uris))
    }

    pub(crate) fn device(&self, site: &str, device: &str) -> Identity {
        self.client(&[&device_uri(site, device)])
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("key");
        Identity { certificate: params.signed_by(&key, &self.issuer).expect("signed"), key }
    }

    /// Writes an identity that trusts this authority into `folder/identity`.
    pub(crate) fn install(&self, identity: &Identity, folder: &Path) {
        let folder = folder.join("identity");
        fs::create_dir_all(&folder).expect("created");
        fs::write(folder.join("ca.pem"), self.certificate.pem()).expect("written");
        fs::write(folder.join("cert.pem"), identity.certificate.pem()).expect("written");
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join("key.pem")).expect("created");
        file.write_all(identity.key.serialize_pem().as_bytes()).expect("written");
    }
}

/// A certificate that nobody but its owner has signed.
pub(crate) fn self_signed(uri: &str) -> Identity {
    let key = KeyPair::generate().expect("key");
    Identity { certificate: client_params(&[uri]).self_signed(&key).expect("signed"), key }
}

fn client_params(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("ASCII"))).collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}
