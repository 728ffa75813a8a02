//! The one place of the aggregator that asks for randomness.

use ring::rand::{SecureRandom, SystemRandom};

/// 128 random bits, fit for secrets.
pub(super) fn random() -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}
