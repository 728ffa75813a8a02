//! Whom the device takes for the aggregator.
//!
//! Its certificate has to lead to a trusted authority, and to bear either the name configured or the name that the fleet's own
//! authority gives to aggregators alone (`spiffe://TRUST-DOMAIN/aggregator`), so that an enrolled device needs no DNS names in
//! certificates. At first contact the authority is the certificate in the chain whose fingerprint the token carries.
//!
//! A certificate that seems not to be valid yet is judged at the beginning of its validity: it is this device's clock that is late.

use std::sync::Arc;
use std::time::Duration;

use driftglass_protocol::identity::{certificate, is_aggregator};
use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use webpki::EndEntityCert;

/// Where a chain has to lead.
#[derive(Debug)]
pub(super) enum Anchor {
    /// To one of these.
    Authorities(RootCertStore),
    /// To the certificate of this SHA-256, which the peer has to show.
    Fingerprint([u8; 32]),
}

/// The judge of the aggregator's certificate.
#[derive(Debug)]
pub(super) struct AggregatorVerifier {
    pub(super) anchor: Anchor,
    /// The trust domain whose aggregator is accepted whatever its address is called.
    pub(super) trust_domain: Option<String>,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AggregatorVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown;
        let roots = match &self.anchor {
            Anchor::Authorities(roots) => roots,
            Anchor::Fingerprint(fingerprint) => {
                shown = pinned(fingerprint, intermediates)?;
                &shown
            }
        };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            roots,
            intermediates,
            at_least(now, end_entity),
            algorithms,
        )?;
        let named = self.trust_domain.as_deref().is_some_and(|trust_domain| {
            EndEntityCert::try_from(end_entity)
                .is_ok_and(|parsed| parsed.valid_uri_names().any(|uri| is_aggregator(uri, trust_domain)))
        });
        match &self.anchor {
            _ if named => {}
            Anchor::Authorities(_) => verify_server_name(&parsed, server_name)?,
            Anchor::Fingerprint(_) => return Err(CertificateError::NotValidForName.into()),
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// SHA-256 of a certificate, as tokens carry it.
pub(super) fn is_fingerprint(fingerprint: &[u8; 32], certificate: &CertificateDer<'_>) -> bool {
    digest(&SHA256, certificate).as_ref() == fingerprint
}

fn pinned(fingerprint: &[u8; 32], shown: &[CertificateDer<'_>]) -> Result<RootCertStore, Error> {
    let authority = shown.iter().find(|certificate| is_fingerprint(fingerprint, certificate)).ok_or_else(|| {
        Error::General(
            "this is not the aggregator that made the token: no certificate it shows has the token's fingerprint"
                .into(),
        )
    })?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    Ok(roots)
}

fn at_least(now: UnixTime, certificate: &CertificateDer<'_>) -> UnixTime {
    let begins = certificate::validity(certificate).and_then(|validity| u64::try_from(validity.not_before.0).ok());
    begins.map_or(now, |millis| now.max(UnixTime::since_unix_epoch(Duration::from_millis(millis))))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
        date_time_ymd,
    };

    use super::*;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("signed")
    }

    /// Valid in the year 2030.
    fn server(authority: &Authority, uri: &str, usage: ExtendedKeyUsagePurpose) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["aggregator.test".into()]).expect("name");
        params.subject_alt_names.push(SanType::URI(uri.try_into().expect("ASCII")));
        params.extended_key_usages = vec![usage];
        (params.not_before, params.not_after) = (date_time_ymd(2030, 1, 1), date_time_ymd(2031, 1, 1));
        params.signed_by(&KeyPair::generate().expect("key"), authority).expect("signed").into()
    }

    fn judge(anchor: Anchor, trust_domain: Option<&str>, chain: &[CertificateDer<'_>], host: &str, year: u64) -> bool {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = AggregatorVerifier { anchor, trust_domain: trust_domain.map(Into::into), provider };
        let name = ServerName::try_from(host).expect("name");
        let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 365 * 86_400 + 40 * 86_400));
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now).is_ok()
    }

    fn trusted(authority: &Authority) -> Anchor {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).expect("root");
        Anchor::Authorities(roots)
    }

    fn fingerprint(authority: &Authority) -> Anchor {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, authority.der()).as_ref());
        Anchor::Fingerprint(fingerprint)
    }

    const AGGREGATOR: &str = "spiffe://acme/aggregator";

    #[test]
    fn the_aggregator_is_known_by_its_role_or_by_its_address() {
        let authority = authority();
        let chain = [server(&authority, AGGREGATOR, ExtendedKeyUsagePurpose::ServerAuth)];
        let judge = |trust_domain, host| judge(trusted(&authority), trust_domain, &chain, host, 2030);
        assert!(judge(Some("acme"), "10.0.0.7"), "by its role, whatever its address");
        assert!(judge(None, "aggregator.test") && judge(Some("evil"), "aggregator.test"), "by its address");
        assert!(!judge(None, "10.0.0.7") && !judge(Some("evil"), "10.0.0.7"));
    }

    #[test]
    fn another_authority_a_client_certificate_and_an_expired_one_are_refused() {
        let own = authority();
        let chain = [server(&own, AGGREGATOR, ExtendedKeyUsagePurpose::ServerAuth)];
        let good = |chain: &[CertificateDer<'_>], year| judge(trusted(&own), Some("acme"), chain, "x", year);
        assert!(good(&chain, 2030));
        assert!(!good(&chain, 2032), "expired");
        assert!(good(&chain, 1970), "a clock that is late is no reason");
        let foreign = server(&authority(), AGGREGATOR, ExtendedKeyUsagePurpose::ServerAuth);
        assert!(!good(&[foreign], 2030));
        assert!(!good(&[server(&own, AGGREGATOR, ExtendedKeyUsagePurpose::ClientAuth)], 2030));
    }

    #[test]
    fn at_first_contact_only_the_authority_of_the_token_counts() {
        let (own, other) = (authority(), authority());
        let chain = |authority: &Authority, shown: &Authority, uri| {
            [server(authority, uri, ExtendedKeyUsagePurpose::ServerAuth), shown.der().clone()]
        };
        let judge =
            |chain: &[CertificateDer<'_>], trust_domain| judge(fingerprint(&own), trust_domain, chain, "x", 2030);
        assert!(judge(&chain(&own, &own, AGGREGATOR), Some("acme")));
        assert!(!judge(&chain(&other, &other, AGGREGATOR), Some("acme")), "the wrong fingerprint");
        assert!(!judge(&chain(&other, &own, AGGREGATOR), Some("acme")), "shown, and not what has signed");
        assert!(
            !judge(&chain(&own, &own, "spiffe://acme/site/s/device/gw"), Some("acme")),
            "a device is no aggregator"
        );
        assert!(!judge(&chain(&own, &own, AGGREGATOR), None));
    }
}
