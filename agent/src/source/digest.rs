//! Answers to a server that wants to know who asks: Basic (RFC 7617) and Digest with MD5 (RFC 7616, and RFC 2069 without `qop`).
//!
//! Digest is preferred where both are offered, because it does not hand over the password. MD5 is what cameras speak.
//!
//! Deliberately absent: SHA-256, `auth-int` and `-sess` variants, which no camera seen insists on; verifying the server's answer.

use std::fmt::Write as _;

use md5::{Digest as _, Md5};

use super::address::Credentials;

/// What a server wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The password itself.
    Basic,
    /// Proof of the password.
    Digest {
        /// What the password is for.
        realm: String,
        /// The server's number.
        nonce: String,
        /// Handed back as it came.
        opaque: Option<String>,
        /// Whether the client adds a number of its own.
        qop: bool,
    },
}

impl Challenge {
    /// The best of what the `WWW-Authenticate` headers offer; `None` where there is nothing this module knows.
    #[must_use]
    pub(super) fn choose<'h>(headers: impl Iterator<Item = &'h str>) -> Option<Self> {
        let mut best = None;
        for header in headers {
            for offer in offers(header) {
                match offer {
                    Self::Digest { .. } => return Some(offer),
                    Self::Basic => best = Some(offer),
                }
            }
        }
        best
    }

    /// The `Authorization` header of a request. `count` numbers the requests that answer this challenge, from 1; `random` becomes the
    /// client's number.
    #[must_use]
    pub(super) fn answer(
        &self,
        credentials: &Credentials,
        method: &str,
        target: &str,
        count: u32,
        random: u64,
    ) -> String {
        let Credentials { user, password } = credentials;
        match self {
            Self::Basic => format!("Basic {}", base64(format!("{user}:{password}").as_bytes())),
            Self::Digest { realm, nonce, opaque, qop } => {
                let secret = hash(&format!("{user}:{realm}:{password}"));
                let request = hash(&format!("{method}:{target}"));
                let mut answer = format!(
                    "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{}\", algorithm=MD5",
                    quoted(user),
                    quoted(realm),
                    quoted(nonce),
                    quoted(target)
                );
                let response = if *qop {
                    let (count, client) = (format!("{count:08x}"), format!("{random:016x}"));
                    add(&mut answer, format_args!(", qop=auth, nc={count}, cnonce=\"{client}\""));
                    hash(&format!("{secret}:{nonce}:{count}:{client}:auth:{request}"))
                } else {
                    hash(&format!("{secret}:{nonce}:{request}"))
                };
                add(&mut answer, format_args!(", response=\"{response}\""));
                if let Some(opaque) = opaque {
                    add(&mut answer, format_args!(", opaque=\"{}\"", quoted(opaque)));
                }
                answer
            }
        }
    }
}

fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    if text.write_fmt(more).is_err() {
        tracing::debug!("text without room");
    }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn hash(text: &str) -> String {
    let mut shown = String::with_capacity(32);
    for byte in Md5::digest(text.as_bytes()) {
        add(&mut shown, format_args!("{byte:02x}"));
    }
    shown
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let part = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = part(0) << 16 | part(1) << 8 | part(2);
        for index in 0..4 {
            let letter = ALPHABET.get((bits >> (18 - 6 * index) & 63) as usize).copied().unwrap_or(b'=');
            text.push(if index <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// The challenges in one header that are known here. Parameters are `name=value` or `name="value"` between commas; a word without `=`
/// begins another challenge.
fn offers(header: &str) -> Vec<Challenge> {
    let mut schemes: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() && schemes.len() < 8 {
        let end = rest.find([' ', ',', '=', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let blank = after.trim_start();
        match blank.strip_prefix('=') {
            Some(value) if !word.is_empty() => {
                let (value, next) = parameter(value.trim_start());
                match schemes.last_mut() {
                    Some((_, parameters)) if parameters.len() < 32 => {
                        parameters.push((word.to_ascii_lowercase(), value))
                    }
                    _ => {}
                }
                rest = next;
            }
            _ => {
                if !word.is_empty() {
                    schemes.push((word.to_ascii_lowercase(), Vec::new()));
                }
                // At least one character goes, whatever it is.
                rest = after.get(after.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default();
            }
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    schemes.into_iter().filter_map(|(scheme, parameters)| challenge(&scheme, parameters)).collect()
}

/// A value and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(inner) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([',', ' ', '\t']).unwrap_or(text.len()));
        return (value.into(), rest);
    };
    let mut value = String::new();
    let mut letters = inner.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, inner.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

fn challenge(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    let value = |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    match scheme {
        "basic" => Some(Challenge::Basic),
        "digest" => {
            let known = value("algorithm").is_none_or(|algorithm| algorithm.eq_ignore_ascii_case("md5"));
            let offered = value("qop");
            let qop =
                offered.as_ref().is_some_and(|list| list.split(',').any(|one| one.trim().eq_ignore_ascii_case("auth")));
            if !known || (offered.is_some() && !qop) {
                return None;
            }
            Some(Challenge::Digest { realm: value("realm")?, nonce: value("nonce")?, opaque: value("opaque"), qop })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials { user: user.into(), password: password.into() }
    }

    #[test]
    fn the_examples_of_the_standards_come_out() {
        // RFC 7617 section 2, RFC 4648 section 10.
        assert_eq!(
            Challenge::Basic.answer(&credentials("Aladdin", "open sesame"), "GET", "/", 1, 0),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        for (text, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
        // RFC 1321 appendix A.5.
        assert_eq!(hash(""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hash("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
        // RFC 2069 section 2.4 as corrected by its erratum 749.
        let header = "Digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
        let challenge = Challenge::choose([header].into_iter()).expect("known");
        let answer = challenge.answer(&credentials("Mufasa", "CircleOfLife"), "GET", "/dir/index.html", 1, 0);
        assert!(answer.contains("response=\"1949323746fe6a43ef61f9606e7febea\""), "{answer}");
        assert!(answer.ends_with("opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""), "{answer}");
    }

    #[test]
    fn a_client_number_goes_into_the_proof() {
        let header =
            "Basic realm=\"x\", Digest realm=\"a\\\"b, c\", qop=\"auth-int,auth\", algorithm=MD5, nonce=n, stale=false";
        let challenge = Challenge::choose([header].into_iter()).expect("known");
        let expected = Challenge::Digest { realm: "a\"b, c".into(), nonce: "n".into(), opaque: None, qop: true };
        assert_eq!(challenge, expected);
        let answer = challenge.answer(&credentials("u", "p"), "GET", "/x?y=\"1", 2, 0xabc);
        let proof = hash(&format!("{}:n:00000002:0000000000000abc:auth:{}", hash("u:a\"b, c:p"), hash("GET:/x?y=\"1")));
        assert!(
            answer.contains(&format!("nc=00000002, cnonce=\"0000000000000abc\", response=\"{proof}\"")),
            "{answer}"
        );
        assert!(answer.contains("realm=\"a\\\"b, c\"") && answer.contains("uri=\"/x?y=\\\"1\""), "{answer}");
    }

    #[test]
    fn of_several_offers_the_best_known_is_chosen_and_rubbish_is_none() {
        let choose = |headers: &[&str]| Challenge::choose(headers.iter().copied());
        let sha = "Digest realm=\"r\", nonce=\"s\", algorithm=SHA-256, qop=\"auth\"";
        let md5 = "Digest realm=\"r\", nonce=\"m\", algorithm=MD5, qop=\"auth\"";
        let nonce = |challenge| match challenge {
            Some(Challenge::Digest { nonce, .. }) => Some(nonce),
            _ => None,
        };
        assert_eq!(nonce(choose(&["Basic realm=\"r\"", sha, md5])).as_deref(), Some("m"));
        assert_eq!(choose(&[sha, "basic"]), Some(Challenge::Basic));
        assert_eq!(choose(&["Negotiate YII=="]), None);
        for rubbish in [
            "",
            "=",
            "===",
            ",,,",
            "Digest",
            "Digest nonce=\"",
            "Digest realm=a nonce",
            "\"\\",
            "Digest é=ü",
            &"a,".repeat(5000),
        ] {
            assert_eq!(choose(&[rubbish]), None, "{rubbish}");
        }
    }
}
