//! Where a camera is reached: a checked URL whose credentials never show.
//!
//! Must hold: no way of printing an [`Address`] shows user, password or query (many cameras take credentials there). [`redact`] does
//! the same for text from elsewhere: faults of the configuration, what a child process says.
//!
//! Deliberately absent: fragments, relative references, international host names (write them in their ASCII form).

use std::fmt;

use thiserror::Error;

/// Longest URL, in bytes.
pub const MAX_URL: usize = 2048;

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Longer than [`MAX_URL`].
    #[error("the URL has more than {MAX_URL} bytes")]
    TooLong,
    /// Blanks or control characters.
    #[error("the URL has blanks or characters beyond ASCII; write them as %20 and the like")]
    Characters,
    /// Another scheme, or none.
    #[error("the URL does not begin with one of the schemes allowed")]
    Scheme,
    /// No host.
    #[error("the URL has no host")]
    Host,
    /// A port that is none.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// A percent sign without two hexadecimal digits, or bytes that are not UTF-8.
    #[error("user or password are not percent-encoded text; a literal @ is %40, a literal % is %25")]
    Encoding,
}

/// User and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// A checked URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    scheme: &'static str,
    host: String,
    port: u16,
    target: String,
    credentials: Option<Credentials>,
}

impl Address {
    /// Checks a URL of one of the `schemes`, each with its port.
    ///
    /// # Errors
    /// One variant of [`AddressError`] per cause.
    pub fn parse(text: &str, schemes: &[(&'static str, u16)]) -> Result<Self, AddressError> {
        if text.len() > MAX_URL {
            return Err(AddressError::TooLong);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AddressError::Characters);
        }
        let (given, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let &(scheme, default_port) =
            schemes.iter().find(|(known, _)| known.eq_ignore_ascii_case(given)).ok_or(AddressError::Scheme)?;
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((user_info, place)) => (Some(credentials(user_info)?), place),
            None => (None, authority),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or(AddressError::Host)?;
                (host, after.strip_prefix(':').or(if after.is_empty() { Some("") } else { None }))
            }
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, Some("")),
            },
        };
        if host.is_empty() {
            return Err(AddressError::Host);
        }
        let port = match port.ok_or(AddressError::Port)? {
            "" => default_port,
            digits => digits.parse().ok().filter(|&port| port > 0).ok_or(AddressError::Port)?,
        };
        let target = if target.starts_with('/') { target.into() } else { format!("/{target}") };
        Ok(Self { scheme, host: host.into(), port, target, credentials })
    }

    /// The scheme, as in the list it was checked against.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Host name or address, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Path and query. The query may hold credentials: not for logs.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// User and password, where the URL has them.
    #[must_use]
    pub const fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Host and port as in a `Host` header.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{}://{}{path}", self.scheme, self.authority())?;
        if path.len() < self.target.len() { f.write_str("?***") } else { Ok(()) }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

fn credentials(user_info: &str) -> Result<Credentials, AddressError> {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    Ok(Credentials { user: decoded(user)?, password: decoded(password)? })
}

/// Percent-decoding (RFC 3986 section 2.1).
fn decoded(text: &str) -> Result<String, AddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    let digit =
        |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(AddressError::Encoding),
            },
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| AddressError::Encoding)
}

/// The text with credentials and queries of every URL in it replaced by `***`. A URL ends at a blank or a quotation mark.
#[must_use]
pub fn redact(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end =
            after.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>')).unwrap_or(after.len());
        let (url, next) = after.split_at(end);
        let place = match url.rsplit_once('@') {
            Some((_, place)) => {
                shown.push_str("***@");
                place
            }
            None => url,
        };
        match place.split_once('?') {
            Some((place, _)) => {
                shown.push_str(place);
                shown.push_str("?***");
            }
            None => shown.push_str(place),
        }
        rest = next;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: [(&str, u16); 2] = [("http", 80), ("https", 443)];

    fn parse(text: &str) -> Result<Address, AddressError> {
        Address::parse(text, &SCHEMES)
    }

    #[test]
    fn a_url_is_taken_apart() {
        let address = parse("HTTP://ad%40min:p%3Aa:ss@cam-1.lan:8080/video?channel=1#x").expect("good");
        assert_eq!((address.scheme(), address.host(), address.port()), ("http", "cam-1.lan", 8080));
        assert_eq!(address.target(), "/video?channel=1");
        let credentials = address.credentials().expect("given");
        assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("ad@min", "p:a:ss"));
        let address = parse("https://[fe80::1]?x").expect("good");
        assert_eq!((address.authority().as_str(), address.target()), ("[fe80::1]:443", "/?x"));
        assert_eq!(parse("http://h").expect("good").target(), "/");
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_cause() {
        for (text, error) in [
            ("rtsp://h/", AddressError::Scheme),
            ("h/path", AddressError::Scheme),
            ("http://", AddressError::Host),
            ("http://u:p@/x", AddressError::Host),
            ("http://h:0/", AddressError::Port),
            ("http://h:70000/", AddressError::Port),
            ("http://[::1]x/", AddressError::Port),
            ("http://a b/", AddressError::Characters),
            ("http://h/\r\nX: y", AddressError::Characters),
            ("http://u:100%@h/", AddressError::Encoding),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert_eq!(parse(&format!("http://h/{}", "x".repeat(MAX_URL))), Err(AddressError::TooLong));
    }

    #[test]
    fn credentials_never_show() {
        let address = parse("http://admin:secret@cam/snap?pwd=secret").expect("good");
        assert_eq!(format!("{address} {address:?}"), "http://cam:80/snap?*** Address(http://cam:80/snap?***)");
        assert!(!format!("{:?}", address.credentials()).contains("secret"));
        for (text, shown) in [
            ("rtsp://admin:secret@cam/1", "rtsp://***@cam/1"),
            (
                "[\"-i\", \"rtsp://a:s/e@c?r@cam/1\", \"http://x/?p=1\"]",
                "[\"-i\", \"rtsp://***@cam/1\", \"http://x/?***\"]",
            ),
            ("'http://u:p@h': refused", "'http://***@h': refused"),
            ("no address", "no address"),
            ("://", "://"),
        ] {
            assert_eq!(redact(text), shown);
        }
    }
}
