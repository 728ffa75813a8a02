//! The one-time token: what an operator carries from the aggregator to a new device.
//!
//! `dg1.SECRET.FINGERPRINT`, both in lower-case hexadecimal: 16 bytes that only the two know, and the SHA-256 of the authority's
//! certificate, by which the device recognises the aggregator at first contact.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

const VERSION: &str = "dg1";
const SECRET_BYTES: usize = 16;
const FINGERPRINT_BYTES: usize = 32;

/// What makes a token valid: 128 random bits. Never printed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub [u8; SECRET_BYTES]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A one-time token. Its `Display` is the token itself, for the operator's eyes; its `Debug` shows no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What makes it valid.
    pub secret: Secret,
    /// SHA-256 of the authority's certificate in DER.
    pub fingerprint: [u8; FINGERPRINT_BYTES],
}

/// Why a text is not a token. Says nothing of what the text contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Not three parts, or another version.
    #[error("a token has the form dg1.SECRET.FINGERPRINT; copy all of it")]
    Form,
    /// A part has another length.
    #[error("the {part} of the token has {found} characters instead of {expected}; copy all of it")]
    Length {
        /// Which part.
        part: &'static str,
        /// Characters found.
        found: usize,
        /// Characters needed.
        expected: usize,
    },
    /// A part is not hexadecimal.
    #[error("the {part} of the token is not hexadecimal (0-9, a-f)")]
    Digit {
        /// Which part.
        part: &'static str,
    },
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}.")?;
        self.secret.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(".")?;
        self.fingerprint.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.trim().split('.');
        let (Some(VERSION), Some(secret), Some(fingerprint), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Form);
        };
        Ok(Self { secret: Secret(bytes("secret", secret)?), fingerprint: bytes("fingerprint", fingerprint)? })
    }
}

fn bytes<const N: usize>(part: &'static str, text: &str) -> Result<[u8; N], TokenError> {
    if text.len() != 2 * N {
        return Err(TokenError::Length { part, found: text.len(), expected: 2 * N });
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |index: usize| match pair.get(index) {
            Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
            Some(digit @ b'a'..=b'f') => Ok(digit - b'a' + 10),
            _ => Err(TokenError::Digit { part }),
        };
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    extern crate std;
    use std::format;
    use std::string::ToString;

    const TOKEN: Token = Token { secret: Secret([0xa5; 16]), fingerprint: [0x0f; 32] };

    #[test]
    fn a_token_is_read_as_it_was_written_and_debugging_does_not_show_its_secret() {
        let text = TOKEN.to_string();
        assert_eq!(text.len(), 3 + 1 + 32 + 1 + 64);
        assert_eq!(text.parse(), Ok(TOKEN));
        assert_eq!(format!(" {text}\n").parse(), Ok(TOKEN), "copied with the white space round it");
        let shown = format!("{TOKEN:?}");
        assert!(!shown.contains("165") && !shown.to_lowercase().contains("a5"), "{shown}");
    }

    #[test]
    fn every_way_to_copy_it_wrongly_has_its_own_error() {
        let text = TOKEN.to_string();
        let parse = |text: &str| text.parse::<Token>().expect_err("not a token");
        assert_eq!(parse(""), TokenError::Form);
        assert_eq!(parse(&text.replace("dg1", "dg2")), TokenError::Form);
        assert_eq!(parse(&format!("{text}.x")), TokenError::Form);
        let cut = &text[..text.len() - 1];
        assert_eq!(parse(cut), TokenError::Length { part: "fingerprint", found: 63, expected: 64 });
        assert_eq!(parse(&text.replacen('a', "A", 1)), TokenError::Digit { part: "secret" });
        assert_eq!(
            parse(&text.replacen("a5", "é", 1)),
            TokenError::Digit { part: "secret" },
            "two bytes, one character"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(dg1[.])?[0-9a-fé.]{0,110}") {
            if let Ok(token) = text.parse::<Token>() {
                prop_assert_eq!(token.to_string(), text);
            }
        }
    }
}
