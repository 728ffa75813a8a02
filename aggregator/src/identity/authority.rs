//! The fleet's own authority: what it certifies, for whom, and for how long. No files, no clock, no randomness.
//!
//! Must hold: the name in a device's certificate is written here and never taken from what was asked; a device's certificate is good
//! for being a client and for nothing else, the aggregator's for being a server, so neither can play the other. Two authorities are
//! trusted at most: the one that issues, and the one before it. The newer one's key is also certified by the older one, so that
//! devices that know only the older one recognise the aggregator and learn of the newer one when they renew.

use std::time::Duration;

use driftglass_protocol::id::DeviceId;
use driftglass_protocol::identity::{BACKDATED_MS, write_aggregator};
use driftglass_protocol::unit::UnixMillis;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;

use super::key::{DeviceKey, sha256};

/// How long an authority is valid; it is replaced by rotation long before.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
/// How long the aggregator's own certificate is valid; a new one is made at every start and at two thirds of it.
pub const SERVER_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Last second that a certificate can express, 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

/// 128 random bits that make a certificate's number unique (RFC 5280 §4.1.2.2).
pub type Serial = [u8; 16];

/// From when to when, with the beginning moved back for devices whose clock is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    now: UnixMillis,
    lifetime: Duration,
}

impl Term {
    /// A term that begins (a day before) now.
    #[must_use]
    pub const fn new(now: UnixMillis, lifetime: Duration) -> Self {
        Self { now, lifetime }
    }

    /// Its end.
    #[must_use]
    pub fn end(self) -> UnixMillis {
        UnixMillis(self.now.0.saturating_add(i64::try_from(self.lifetime.as_millis()).unwrap_or(i64::MAX)))
    }

    fn write(self, params: &mut CertificateParams) {
        let instant = |at: i64| {
            let seconds = u64::try_from(at.div_euclid(1000)).unwrap_or(0).min(LAST_SECOND);
            date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
        };
        params.not_before = instant(self.now.0.saturating_sub(BACKDATED_MS));
        params.not_after = instant(self.end().0);
    }
}

/// An authority that issues.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// The authority before it, and this one's key certified by that.
    older: Option<Older>,
    trust_domain: String,
}

/// The authority before the one that issues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Older {
    /// Its own certificate.
    pub certificate: CertificateDer<'static>,
    /// The newer one's key, certified by it; absent where its key was gone before that could be done.
    pub cross: Option<CertificateDer<'static>>,
}

impl Authority {
    /// The authority with this key and the certificate that [`root`] made for it.
    #[must_use]
    pub fn new(
        key: KeyPair,
        certificate: CertificateDer<'static>,
        older: Option<Older>,
        trust_domain: impl Into<String>,
    ) -> Self {
        Self { issuer: Issuer::new(root_params(&key), key), certificate, older, trust_domain: trust_domain.into() }
    }

    /// SHA-256 of its certificate: what a token carries.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.certificate)
    }

    /// The trust domain its names are in.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Every authority trusted, the one that issues first; at most two.
    pub fn trusted(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        std::iter::once(&self.certificate).chain(self.older.iter().map(|older| &older.certificate))
    }

    /// Certifies a device's key under the device's name.
    ///
    /// # Errors
    /// Where the library cannot sign.
    pub fn certify_device(
        &self,
        device: &DeviceId,
        key: &DeviceKey,
        term: Term,
        serial: Serial,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut uri = String::new();
        device.write_spiffe(&self.trust_domain, &mut uri).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let mut params = leaf(term, serial, ExtendedKeyUsagePurpose::ClientAuth);
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        Ok(params.signed_by(key, &self.issuer)?.into())
    }

    /// Certifies the aggregator's own key, and returns the chain it shows: a device that trusts either authority can follow it, and
    /// one at first contact finds in it the certificate whose fingerprint its token carries.
    ///
    /// # Errors
    /// Where the library cannot sign.
    pub fn certify_server(
        &self,
        key: &KeyPair,
        term: Term,
        serial: Serial,
    ) -> Result<Vec<CertificateDer<'static>>, rcgen::Error> {
        let mut uri = String::new();
        write_aggregator(&self.trust_domain, &mut uri).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let mut names = vec![SanType::URI(uri.try_into()?)];
        names.extend(this_machine()?);
        self.server_chain(key, names, term, serial)
    }

    /// Certifies a key for HTTP under these DNS names and addresses, and those of the machine itself; returns the chain to show. It does
    /// not bear the name by which devices know their aggregator.
    ///
    /// # Errors
    /// Where a name is none, or the library cannot sign.
    pub fn certify_web(
        &self,
        key: &KeyPair,
        names: &[String],
        term: Term,
        serial: Serial,
    ) -> Result<Vec<CertificateDer<'static>>, rcgen::Error> {
        let mut all = Vec::from(this_machine()?);
        for name in names {
            all.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            });
        }
        self.server_chain(key, all, term, serial)
    }

    fn server_chain(
        &self,
        key: &KeyPair,
        names: Vec<SanType>,
        term: Term,
        serial: Serial,
    ) -> Result<Vec<CertificateDer<'static>>, rcgen::Error> {
        let mut params = leaf(term, serial, ExtendedKeyUsagePurpose::ServerAuth);
        params.subject_alt_names = names;
        let mut chain = vec![params.signed_by(key, &self.issuer)?.into(), self.certificate.clone()];
        chain.extend(self.older.iter().filter_map(|older| older.cross.clone()));
        Ok(chain)
    }

    /// Certifies the key of the authority that comes after this one.
    ///
    /// # Errors
    /// Where the library cannot sign.
    pub fn certify_successor(&self, key: &KeyPair, term: Term, serial: Serial) -> Result<Certificate, rcgen::Error> {
        let mut params = root_params(key);
        term.write(&mut params);
        params.serial_number = Some(number(serial));
        params.signed_by(key, &self.issuer)
    }
}

fn this_machine() -> Result<[SanType; 3], rcgen::Error> {
    Ok([
        SanType::DnsName("localhost".try_into()?),
        SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
        SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into()),
    ])
}

/// A new authority's own certificate.
///
/// # Errors
/// Where the library cannot sign.
pub fn root(key: &KeyPair, now: UnixMillis, serial: Serial) -> Result<Certificate, rcgen::Error> {
    let mut params = root_params(key);
    Term::new(now, ROOT_LIFETIME).write(&mut params);
    params.serial_number = Some(number(serial));
    params.self_signed(key)
}

/// What follows from the key alone, so that an authority can be taken up again from its key and its certificate.
fn root_params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    // The name differs with the key: two authorities with one name could be taken for each other when chains are built.
    let id: String = sha256(key.public_key_raw()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Driftglass authority {id}"));
    // One authority below it: its successor.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf(term: Term, serial: Serial, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(number(serial));
    term.write(&mut params);
    params
}

/// Positive, and as long as it was given.
fn number(mut serial: Serial) -> SerialNumber {
    serial[0] = serial[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&serial)
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::id::Name;
    use driftglass_protocol::identity::certificate::validity;
    use driftglass_protocol::identity::is_aggregator;
    use rustls::pki_types::UnixTime;
    use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

    use super::super::device_of;
    use super::super::key::tests::request;
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn authority() -> Authority {
        let key = KeyPair::generate().expect("key");
        let certificate = root(&key, NOW, [1; 16]).expect("signed").into();
        Authority::new(key, certificate, None, "acme")
    }

    fn successor(of: &Authority) -> Authority {
        let key = KeyPair::generate().expect("key");
        let certificate = root(&key, NOW, [2; 16]).expect("signed").into();
        let cross = of.certify_successor(&key, Term::new(NOW, ROOT_LIFETIME), [3; 16]).expect("signed");
        let older = Older { certificate: of.certificate.clone(), cross: Some(cross.into()) };
        Authority::new(key, certificate, Some(older), "acme")
    }

    fn verify(chain: &[CertificateDer<'_>], anchor: &CertificateDer<'_>, usage: KeyUsage, at: i64) -> bool {
        let anchors = [anchor_from_trusted_cert(anchor).expect("an anchor")];
        let leaf = EndEntityCert::try_from(&chain[0]).expect("a certificate");
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let time = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(at).expect("after 1970")));
        leaf.verify_for_usage(algorithms, &anchors, &chain[1..], time, usage, None, None).is_ok()
    }

    fn device(authority: &Authority) -> (CertificateDer<'static>, DeviceId) {
        let key = DeviceKey::from_request(&request(&KeyPair::generate().expect("key"))).expect("a request");
        let id = DeviceId { site: Name::parse("s").expect("name"), device: Name::parse("gw").expect("name") };
        (authority.certify_device(&id, &key, Term::new(NOW, HOUR), [7; 16]).expect("signed"), id)
    }

    #[test]
    fn a_device_is_certified_under_the_name_given_and_as_a_client_only() {
        let authority = authority();
        let (certificate, id) = device(&authority);
        // The request asked for `root.example`.
        assert_eq!(device_of(std::slice::from_ref(&certificate), "acme"), Ok(id));
        let parsed = EndEntityCert::try_from(&certificate).expect("a certificate");
        assert_eq!(parsed.valid_dns_names().count(), 0);
        let chain = [certificate];
        let root = &authority.certificate;
        assert!(verify(&chain, root, KeyUsage::client_auth(), NOW.0));
        assert!(!verify(&chain, root, KeyUsage::server_auth(), NOW.0), "a device cannot play the aggregator");
    }

    #[test]
    fn a_certificate_begins_a_day_early_and_ends_when_it_was_said_to() {
        let authority = authority();
        let (certificate, _) = device(&authority);
        let found = validity(&certificate).expect("a certificate");
        assert_eq!(found.not_before, UnixMillis(NOW.0 - 24 * 3_600_000));
        assert_eq!(found.not_after, UnixMillis(NOW.0 + 3_600_000));
        assert_eq!(found.not_after, Term::new(NOW, HOUR).end());
        let chain = [certificate];
        let valid = |at: i64| verify(&chain, &authority.certificate, KeyUsage::client_auth(), at);
        assert!(valid(found.not_before.0) && valid(found.not_after.0));
        assert!(!valid(found.not_before.0 - 1000) && !valid(found.not_after.0 + 1000));
        let endless = Term::new(UnixMillis(i64::MAX), ROOT_LIFETIME);
        assert!(root(&KeyPair::generate().expect("key"), endless.end(), [0; 16]).is_ok(), "no instant is too late");
        let before = root(&KeyPair::generate().expect("key"), UnixMillis(0), [0; 16]).expect("signed");
        assert_eq!(validity(before.der()).map(|validity| validity.not_before), Some(UnixMillis(0)), "nor too early");
    }

    #[test]
    fn the_aggregator_is_a_server_under_its_own_name_and_no_client() {
        let authority = authority();
        let key = KeyPair::generate().expect("key");
        let chain = authority.certify_server(&key, Term::new(NOW, HOUR), [9; 16]).expect("signed");
        assert!(verify(&chain, &authority.certificate, KeyUsage::server_auth(), NOW.0));
        assert!(!verify(&chain, &authority.certificate, KeyUsage::client_auth(), NOW.0));
        let leaf = EndEntityCert::try_from(&chain[0]).expect("a certificate");
        assert!(leaf.valid_uri_names().any(|uri| is_aggregator(uri, "acme")));
        assert!(chain[1..].iter().any(|certificate| sha256(certificate) == authority.fingerprint()));
    }

    #[test]
    fn after_a_rotation_either_root_leads_to_the_aggregator_and_both_sorts_of_device_are_known() {
        let old = authority();
        let (old_device, _) = device(&old);
        let new = successor(&old);
        let key = KeyPair::generate().expect("key");
        let chain = new.certify_server(&key, Term::new(NOW, HOUR), [9; 16]).expect("signed");
        assert!(
            verify(&chain, &old.certificate, KeyUsage::server_auth(), NOW.0),
            "a device that knows only the old root"
        );
        assert!(
            verify(&chain, &new.certificate, KeyUsage::server_auth(), NOW.0),
            "a device that knows only the new root"
        );
        let (new_device, _) = device(&new);
        let trusted: Vec<_> = new.trusted().cloned().collect();
        assert_eq!(trusted, [new.certificate.clone(), old.certificate.clone()]);
        assert!(verify(&[new_device], &trusted[0], KeyUsage::client_auth(), NOW.0));
        assert!(verify(&[old_device], &trusted[1], KeyUsage::client_auth(), NOW.0));
        // Two rotations later the first one is forgotten.
        let third = successor(&new);
        let chain = third.certify_server(&key, Term::new(NOW, HOUR), [9; 16]).expect("signed");
        assert!(!verify(&chain, &old.certificate, KeyUsage::server_auth(), NOW.0));
        assert!(third.trusted().all(|certificate| *certificate != old.certificate));
    }

    #[test]
    fn an_authority_is_taken_up_again_from_its_files() {
        let key = KeyPair::generate().expect("key");
        let certificate: CertificateDer<'static> = root(&key, NOW, [1; 16]).expect("signed").into();
        let pem = key.serialize_pem();
        let again = Authority::new(KeyPair::from_pem(&pem).expect("key"), certificate.clone(), None, "acme");
        let (device, _) = device(&again);
        assert!(verify(&[device], &certificate, KeyUsage::client_auth(), NOW.0));
    }
}
