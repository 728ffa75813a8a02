//! A device's public key: taken from a signed request or from a verified certificate, and known by its hash ever after.
//!
//! Must hold: a key from a request has proved that the asker holds its private half. Of a request nothing but the key is used; the
//! names it asks for are not even read.

use std::fmt;

use driftglass_protocol::identity::certificate;
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use webpki::EndEntityCert;

/// What comes before the point in the SubjectPublicKeyInfo of every P-256 key (RFC 5480 §2).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The AlgorithmIdentifier ecdsa-with-SHA256 (RFC 5758 §3.2).
const ECDSA_WITH_SHA256: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// An uncompressed point: its mark and two coordinates.
const POINT_BYTES: usize = 1 + 2 * 32;

/// SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    out
}

/// The name of a public key: SHA-256 of its SubjectPublicKeyInfo.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 32]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to tell keys apart in a log.
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl KeyId {
    /// The key of a certificate; `None` where it is not one.
    #[must_use]
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        Some(Self(sha256(&certificate.subject_public_key_info())))
    }
}

/// Why a request is no proof of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// Not PKCS#10.
    #[error("the request is not PKCS#10 (RFC 2986) in DER")]
    Form,
    /// Another kind of key or signature.
    #[error("the request is not for a P-256 key signed with ECDSA and SHA-256")]
    Algorithm,
    /// Whoever asks does not hold the key.
    #[error("the signature of the request is not by the key in it")]
    Signature,
}

/// A P-256 key whose owner has proved that it is his.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    point: [u8; POINT_BYTES],
    id: KeyId,
}

impl DeviceKey {
    /// The key of a PKCS#10 request whose signature is right.
    ///
    /// # Errors
    /// One variant of [`RequestError`] per cause.
    pub fn from_request(der: &[u8]) -> Result<Self, RequestError> {
        let request = certificate::request(der).ok_or(RequestError::Form)?;
        let point = request.public_key.strip_prefix(&P256_PREFIX).ok_or(RequestError::Algorithm)?;
        let point: [u8; POINT_BYTES] = point.try_into().map_err(|_| RequestError::Algorithm)?;
        if request.algorithm != ECDSA_WITH_SHA256 {
            return Err(RequestError::Algorithm);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
            .verify(request.signed, request.signature)
            .map_err(|_| RequestError::Signature)?;
        Ok(Self { point, id: KeyId(sha256(request.public_key)) })
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }
}

impl PublicKeyData for DeviceKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};

    use super::*;

    pub(in crate::identity) fn request(key: &KeyPair) -> Vec<u8> {
        let params = CertificateParams::new(vec!["root.example".into()]).expect("names");
        params.serialize_request(key).expect("signed").der().to_vec()
    }

    #[test]
    fn the_key_of_a_request_is_the_key_of_the_certificate_made_from_it() {
        let pair = KeyPair::generate().expect("key");
        let key = DeviceKey::from_request(&request(&pair)).expect("a good request");
        assert_eq!(key.der_bytes(), pair.public_key_raw());
        let certificate = CertificateParams::default().self_signed(&pair).expect("certificate");
        assert_eq!(KeyId::of_certificate(certificate.der()), Some(key.id()));
        assert_eq!(KeyId::of_certificate(&vec![1, 2, 3].into()), None);
    }

    #[test]
    fn a_request_that_proves_nothing_is_refused_with_its_cause() {
        let (own, other) = (KeyPair::generate().expect("key"), KeyPair::generate().expect("key"));
        assert_eq!(DeviceKey::from_request(b"hello"), Err(RequestError::Form));
        let edwards = KeyPair::generate_for(&PKCS_ED25519).expect("key");
        assert_eq!(DeviceKey::from_request(&request(&edwards)), Err(RequestError::Algorithm));
        // Somebody else's key put into one's own request: same length, so only the signature can tell.
        let good = request(&own);
        let at = good.windows(POINT_BYTES).position(|bytes| bytes == own.public_key_raw()).expect("the key is in it");
        let mut stolen = good.clone();
        stolen[at..at + POINT_BYTES].copy_from_slice(other.public_key_raw());
        assert_eq!(DeviceKey::from_request(&stolen), Err(RequestError::Signature));
        // Nor may a signed request be changed anywhere else.
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert!(DeviceKey::from_request(&changed).is_err(), "byte {at}");
        }
    }
}
