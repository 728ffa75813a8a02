//! Tokens: how they look, and the list of those that count.

use std::fmt;

use driftglass_protocol::id::Name;
use driftglass_protocol::unit::UnixMillis;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Refusal, Role};
use crate::identity::sha256;

/// Most tokens in a list.
pub const TOKENS_MAX: usize = 1_000;
/// What every token begins with, so that one that lies about is recognised by those who look for secrets.
const PREFIX: &str = "dga1.";

/// A token. It has no `Display`, so that none is written by mistake.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken([u8; 16]);

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(..)")
    }
}

/// The text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a token is dga1. and 32 hexadecimal digits")]
pub struct ParseTokenError;

impl AccessToken {
    /// A token of 128 random bits.
    #[must_use]
    pub const fn new(secret: [u8; 16]) -> Self {
        Self(secret)
    }

    /// Its text.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", hex(&self.0))
    }

    /// Reads its text.
    ///
    /// # Errors
    /// [`ParseTokenError`].
    pub fn parse(text: &str) -> Result<Self, ParseTokenError> {
        text.strip_prefix(PREFIX).and_then(unhex).map(Self).ok_or(ParseTokenError)
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        sha256(&self.0)
    }
}

/// A token that counts, without what makes it valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Whose it is, for people.
    pub name: Name,
    /// What it allows.
    pub role: Role,
    /// SHA-256 of its secret, hexadecimal.
    #[serde(with = "hash_text")]
    pub hash: [u8; 32],
    /// When it was made, milliseconds since 1970.
    pub created_at: i64,
    /// When it ends, milliseconds since 1970; never where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

/// Why a list cannot be read or changed.
#[derive(Debug, Error)]
pub enum ListError {
    /// Not such a list.
    #[error("not a list of access tokens: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Too many.
    #[error("there are {TOKENS_MAX} tokens already: revoke those that nobody needs")]
    Full,
    /// The name is taken.
    #[error("there is a token named {0} already: revoke it first, or choose another name")]
    Taken(Name),
    /// No such token.
    #[error("there is no token named {0}")]
    Unknown(Name),
}

/// The tokens that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens(Vec<Entry>);

impl Tokens {
    /// Reads what [`Self::write`] has written.
    ///
    /// # Errors
    /// [`ListError::Malformed`], [`ListError::Full`].
    pub fn parse(text: &str) -> Result<Self, ListError> {
        let entries: Vec<Entry> = serde_json::from_str(text)?;
        if entries.len() > TOKENS_MAX { Err(ListError::Full) } else { Ok(Self(entries)) }
    }

    /// The list as text, a token a line.
    ///
    /// # Errors
    /// [`ListError::Malformed`], where a token cannot be written.
    pub fn write(&self) -> Result<String, ListError> {
        let lines: Result<Vec<String>, _> = self.0.iter().map(serde_json::to_string).collect();
        Ok(format!("[\n{}\n]\n", lines?.join(",\n")))
    }

    /// Adds a token.
    ///
    /// # Errors
    /// [`ListError::Full`], [`ListError::Taken`].
    pub fn add(&mut self, entry: Entry) -> Result<(), ListError> {
        if self.0.len() >= TOKENS_MAX {
            return Err(ListError::Full);
        }
        if self.0.iter().any(|other| other.name == entry.name) {
            return Err(ListError::Taken(entry.name));
        }
        self.0.push(entry);
        Ok(())
    }

    /// Takes a token out.
    ///
    /// # Errors
    /// [`ListError::Unknown`].
    pub fn revoke(&mut self, name: &Name) -> Result<(), ListError> {
        let before = self.0.len();
        self.0.retain(|entry| entry.name != *name);
        if self.0.len() == before { Err(ListError::Unknown(name.clone())) } else { Ok(()) }
    }

    /// All of them, the oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// [`Refusal::Unknown`], [`Refusal::Expired`].
    pub fn find(&self, token: &str, now: UnixMillis) -> Result<&Entry, Refusal> {
        let token = AccessToken::parse(token).map_err(|_| Refusal::Unknown)?;
        self.by_hash(&token.hash(), now)
    }

    /// Whose token has this hash. Takes as long for every hash: all are compared, and each to its end.
    ///
    /// # Errors
    /// [`Refusal::Unknown`], [`Refusal::Expired`].
    pub fn by_hash(&self, hash: &[u8; 32], now: UnixMillis) -> Result<&Entry, Refusal> {
        let mut found = None;
        for entry in &self.0 {
            if same(&entry.hash, hash) {
                found = Some(entry);
            }
        }
        let entry = found.ok_or(Refusal::Unknown)?;
        match entry.expires_at {
            Some(end) if now.0 >= end => Err(Refusal::Expired),
            _ => Ok(entry),
        }
    }
}

/// Whether two hashes are the same, without stopping at the first difference.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| std::hint::black_box(difference | (a ^ b)));
    difference == 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| (digit as char).to_digit(16).filter(|_| !digit.is_ascii_uppercase());
        let [high, low] = pair else { return None };
        *byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
    }
    Some(bytes)
}

mod hash_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(hash: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::hex(hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        super::unhex(&text).ok_or_else(|| D::Error::custom("a hash is 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn entry(name: &str, secret: u8, expires_at: Option<i64>) -> Entry {
        let hash = AccessToken::new([secret; 16]).hash();
        Entry { name: Name::parse(name).expect("name"), role: Role::Viewer, hash, created_at: NOW.0, expires_at }
    }

    #[test]
    fn a_token_is_found_by_its_secret_until_it_ends_or_is_revoked() {
        let mut tokens = Tokens::default();
        tokens.add(entry("grafana", 1, None)).expect("added");
        tokens.add(entry("anna", 2, Some(NOW.0 + 5))).expect("added");
        assert!(matches!(tokens.add(entry("anna", 3, None)), Err(ListError::Taken(_))));
        let text = |secret: u8| AccessToken::new([secret; 16]).reveal();
        assert_eq!(tokens.find(&text(1), NOW).map(|found| found.name.as_str()), Ok("grafana"));
        assert_eq!(tokens.find(&text(2), UnixMillis(NOW.0 + 4)).map(|found| found.name.as_str()), Ok("anna"));
        assert_eq!(tokens.find(&text(2), UnixMillis(NOW.0 + 5)), Err(Refusal::Expired));
        assert_eq!(tokens.find(&text(3), NOW), Err(Refusal::Unknown));
        let upper = text(1).to_uppercase();
        for wrong in ["", "dga1.", "dga1.00", "dg1.x.y", &text(1)[5..], &upper, &format!("{} ", text(1))] {
            assert_eq!(tokens.find(wrong, NOW), Err(Refusal::Unknown), "{wrong:?}");
        }
        let written = tokens.write().expect("written");
        assert!(!written.contains(&text(1)[5..]), "the secret is not kept: {written}");
        assert_eq!(Tokens::parse(&written).expect("reads"), tokens);
        tokens.revoke(&Name::parse("grafana").expect("name")).expect("revoked");
        assert_eq!(tokens.find(&text(1), NOW), Err(Refusal::Unknown));
        assert!(matches!(tokens.revoke(&Name::parse("grafana").expect("name")), Err(ListError::Unknown(_))));
        assert_eq!(Tokens::parse(&Tokens::default().write().expect("written")).expect("reads"), Tokens::default());
    }

    #[test]
    fn a_list_that_is_none_is_refused_and_a_token_does_not_show_itself() {
        for text in ["", "{}", "[{}]", r#"[{"name":"a","role":"root","hash":"00","created_at":1}]"#, "[1]"] {
            assert!(matches!(Tokens::parse(text), Err(ListError::Malformed(_))), "{text}");
        }
        assert_eq!(format!("{:?}", AccessToken::new([0xab; 16])), "AccessToken(..)");
        assert_eq!(AccessToken::parse("dga1.000102030405060708090a0b0c0d0e0f").map(|token| token.0[15]), Ok(15));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_no_text_does_harm(secret: [u8; 16], noise in ".{0,60}") {
            let token = AccessToken::new(secret);
            prop_assert_eq!(AccessToken::parse(&token.reveal()), Ok(token));
            prop_assert_eq!(AccessToken::parse(&noise), Err(ParseTokenError));
            drop((AccessToken::parse(&format!("dga1.{noise}")), Tokens::parse(&noise)));
        }

        #[test]
        fn only_equal_hashes_are_the_same(a: [u8; 32], place in 0_usize..32, bit in 0_u8..8) {
            let mut b = a;
            prop_assert!(same(&a, &b));
            b[place] ^= 1 << bit;
            prop_assert!(!same(&a, &b));
        }
    }
}
