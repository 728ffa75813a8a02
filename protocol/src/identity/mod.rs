//! How a device comes by its identity, and keeps it.
//!
//! ```text
//! device                                        aggregator
//!   first contact, verified by the token's fingerprint, no certificate yet (ALPN `driftglass-enrol/1`):
//!     Enrol(device, secret, request)   -->        redeems the token, registers the key
//!                                      <--        Issued(certificate, authorities) or Deny(reason)
//!   renewal, on a second stream of the live connection, or with an expired certificate over `driftglass-enrol/1`:
//!     Renew(request)                   -->        compares the key with the registered one
//!                                      <--        Issued(certificate, authorities) or Deny(reason)
//! ```
//!
//! Must hold: the request is a PKCS#10 request signed with the device's key, of which only the key counts: the aggregator writes the
//! name itself. A secret is never printed, not even for debugging. Everything is checked for length before it is looked at.
//!
//! Deliberately absent: cryptography. Signatures and hashes are the business of whoever has a library for them.

pub mod certificate;
mod message;
mod token;

pub use message::{Deny, DenyReason, Enrol, Issued, Renew};
pub use token::{Secret, Token, TokenError};

/// The protocol of enrolment and of renewal with an expired certificate, as negotiated in the handshake.
pub const ENROLMENT_ALPN: &[u8] = b"driftglass-enrol/1";

/// How far a certificate's validity begins before it is issued, in milliseconds: a device whose clock is slow can use it at once.
pub const BACKDATED_MS: i64 = 24 * 60 * 60 * 1000;

/// The path of the name that an aggregator certified by the fleet's own authority bears: `spiffe://TRUST-DOMAIN/aggregator`.
const AGGREGATOR_PATH: &str = "/aggregator";

/// Whether a URI is the name of the aggregator of this trust domain.
#[must_use]
pub fn is_aggregator(uri: &str, trust_domain: &str) -> bool {
    uri.strip_prefix("spiffe://").and_then(|rest| rest.strip_prefix(trust_domain)) == Some(AGGREGATOR_PATH)
}

/// Writes the aggregator's name.
///
/// # Errors
/// Only where the writer itself fails.
pub fn write_aggregator(trust_domain: &str, out: &mut impl core::fmt::Write) -> core::fmt::Result {
    write!(out, "spiffe://{trust_domain}{AGGREGATOR_PATH}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_aggregator_of_another_trust_domain_and_a_device_are_not_the_aggregator() {
        let mut name = heapless::String::<64>::new();
        assert_eq!(write_aggregator("acme", &mut name), Ok(()));
        assert!(is_aggregator(&name, "acme"));
        for uri in ["spiffe://evil/aggregator", "spiffe://acme/site/a/device/aggregator", "spiffe://acme/aggregator/x"]
        {
            assert!(!is_aggregator(uri, "acme"), "{uri}");
        }
    }
}
