//! Who a device is, and who says so.
//!
//! Which device a connection belongs to is the URI in its certificate, and nothing it says itself. Certificates come from the fleet's
//! own [`authority`] for keys that are entered in the [`registry`], or from an authority that was given to the aggregator.
//!
//! Must hold: the certificate's chain has been verified before [`device_of`] is asked (the TLS verifier does that); exactly one URI
//! names the device (X.509-SVID, §2), so that no certificate can speak for two; nothing here reads a clock, a file or randomness.

pub mod authority;
mod key;
pub mod registry;

use driftglass_protocol::id::{DeviceId, SpiffeError};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use webpki::EndEntityCert;

pub use key::{DeviceKey, KeyId, RequestError, sha256};

/// Why a certificate names no device of ours.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// The peer sent none.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// It is not an X.509 certificate.
    #[error("the certificate does not parse: {0}")]
    Certificate(webpki::Error),
    /// It names no URI.
    #[error("the certificate has no URI among its alternative names; a device certificate has exactly one")]
    NoUri,
    /// It names more than one URI.
    #[error("the certificate has {count} URIs among its alternative names; a device certificate has exactly one")]
    SeveralUris {
        /// How many.
        count: usize,
    },
    /// The URI is not the identity of a device.
    #[error("the certificate names {uri:?}: {error}")]
    Spiffe {
        /// The URI, cut at 200 characters.
        uri: String,
        /// What is wrong with it.
        error: SpiffeError,
    },
}

/// The device that a verified certificate chain belongs to.
///
/// # Errors
/// One variant of [`IdentityError`] per cause.
pub fn device_of(chain: &[CertificateDer<'_>], trust_domain: &str) -> Result<DeviceId, IdentityError> {
    let leaf = chain.first().ok_or(IdentityError::NoCertificate)?;
    let certificate = EndEntityCert::try_from(leaf).map_err(IdentityError::Certificate)?;
    let mut uris = certificate.valid_uri_names();
    let uri = uris.next().ok_or(IdentityError::NoUri)?;
    let further = uris.count();
    if further > 0 {
        return Err(IdentityError::SeveralUris { count: 1 + further });
    }
    DeviceId::from_spiffe(uri, trust_domain)
        .map_err(|error| IdentityError::Spiffe { uri: uri.chars().take(200).collect(), error })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn answer(uris: &[&str], dns: &[&str]) -> Result<String, IdentityError> {
        let mut params =
            CertificateParams::new(dns.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("names");
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().expect("ASCII")));
        }
        let certificate = params.self_signed(&KeyPair::generate().expect("key")).expect("certificate");
        device_of(&[certificate.der().clone()], "acme").map(|device| device.to_string())
    }

    #[test]
    fn one_uri_of_the_trust_domain_is_the_device() {
        assert_eq!(answer(&["spiffe://acme/site/s/device/gw"], &["ignored.example"]), Ok("s/gw".into()));
    }

    #[test]
    fn every_other_certificate_is_refused_with_its_cause() {
        assert_eq!(answer(&[], &["s.example"]), Err(IdentityError::NoUri));
        let two = ["spiffe://acme/site/s/device/a", "spiffe://acme/site/s/device/b"];
        assert_eq!(answer(&two, &[]), Err(IdentityError::SeveralUris { count: 2 }));
        for (uri, error) in [
            ("spiffe://other/site/s/device/a", SpiffeError::TrustDomain),
            ("https://acme/site/s/device/a", SpiffeError::TrustDomain),
            ("spiffe://acme/site/s", SpiffeError::Path),
        ] {
            assert_eq!(answer(&[uri], &[]), Err(IdentityError::Spiffe { uri: uri.into(), error }));
        }
        assert_eq!(device_of(&[], "acme"), Err(IdentityError::NoCertificate));
        assert!(matches!(device_of(&[vec![1, 2, 3].into()], "acme"), Err(IdentityError::Certificate(_))));
    }
}
