//! Certificates for the fleet that is simulated.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The protocol that agents ask for.
const ALPN: &[u8] = b"driftglass/1";

/// An authority, and a key that all of its devices share: what keys cost is paid in the handshake, and each device does its own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
    device_key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).expect("signed");
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), pem, der, device_key: KeyPair::generate().expect("a key") }
    }

    fn server(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).expect("an address");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (params.signed_by(&key, &self.issuer).expect("signed"), key)
    }

    /// Writes the identity of an aggregator.
    pub(crate) fn install(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("created");
        let (certificate, key) = self.server();
        fs::write(folder.join("ca.pem"), &self.pem).expect("written");
        fs::write(folder.join("cert.pem"), certificate.pem()).expect("written");
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join("key.pem")).expect("new");
        file.write_all(key.serialize_pem().as_bytes()).expect("written");
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("an authority");
        roots
    }

    /// A server of devices that insists on their certificates, as the aggregator does.
    pub(crate) fn server_tls(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), Arc::clone(&provider));
        let (certificate, key) = self.server();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("TLS 1.3")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate");
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls
    }

    /// The device of that name.
    pub(crate) fn device_tls(&self, device: &str) -> ClientConfig {
        let mut params = CertificateParams::default();
        let uri = format!("spiffe://driftglass.local/site/load/device/{device}");
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().expect("ASCII"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&self.device_key, &self.issuer).expect("signed");
        let key = PrivateKeyDer::try_from(self.device_key.serialize_der()).expect("a key");
        let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(self.roots())
            .with_client_auth_cert(vec![certificate.der().clone()], key)
            .expect("a certificate");
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.resumption = rustls::client::Resumption::disabled();
        tls
    }
}
