//! `[http]`: what is served beyond this machine only with TLS and tokens.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustls::pki_types::ServerName;

use super::document::Value;
use super::{Reader, path, socket, text};

/// Settings of dashboard, REST and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// TCP address.
    pub listen: SocketAddr,
    /// Whether TLS is spoken, and with which certificate.
    pub tls: HttpTls,
    /// Whether a token is needed.
    pub tokens: bool,
}

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpTls {
    /// No TLS.
    Off,
    /// The fleet's own authority issues one for these names and addresses, besides those of this machine itself.
    Own {
        /// DNS names and IP addresses.
        names: Vec<String>,
    },
    /// From files.
    Files {
        /// The chain, PEM.
        certificate: PathBuf,
        /// The private key, PEM.
        key: PathBuf,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Off,
    Own,
    Files,
}

/// Takes the section; `None` where it has faults, which have been noted.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Http> {
    let listen = reader.take("http.listen", "127.0.0.1:8080", socket);
    let kind = reader.take("http.tls", "off", kind);
    let certificate = reader.take("http.certificate", "", optional_path);
    let key = reader.take("http.key", "", optional_path);
    let names = reader.take("http.names", "", names);
    let tokens = reader.take("http.auth", "none", auth);
    let (listen, kind, certificate, key, names, tokens) = (listen?, kind?, certificate?, key?, names?, tokens?);
    let mut good = true;
    let mut fault = |key: &'static str, allowed: &str| {
        reader.fault_at(key, allowed);
        good = false;
    };
    if kind == Kind::Files {
        for (name, path) in [("http.certificate", &certificate), ("http.key", &key)] {
            if path.is_none() {
                fault(name, "is missing: http.tls = \"files\" needs the path of a PEM file");
            }
        }
    } else {
        for (name, path) in [("http.certificate", &certificate), ("http.key", &key)] {
            if path.is_some() {
                fault(name, "allowed only with http.tls = \"files\"");
            }
        }
    }
    if kind != Kind::Own && !names.is_empty() {
        fault("http.names", "allowed only with http.tls = \"own\"");
    }
    if !listen.ip().to_canonical().is_loopback() {
        if kind == Kind::Off || !tokens {
            fault(
                "http.listen",
                "beyond loopback HTTP is served only with TLS and tokens: set http.tls = \"own\" or \"files\" and http.auth = \"tokens\", \
                 or listen on a loopback address such as \"127.0.0.1:8080\"",
            );
        } else if kind == Kind::Own && names.is_empty() {
            fault(
                "http.names",
                "is missing: the names or addresses that others reach this machine by, separated by commas",
            );
        }
    }
    let tls = match (kind, certificate, key) {
        (Kind::Off, ..) => HttpTls::Off,
        (Kind::Own, ..) => HttpTls::Own { names },
        (Kind::Files, Some(certificate), Some(key)) => HttpTls::Files { certificate, key },
        (Kind::Files, ..) => return None,
    };
    good.then_some(Http { listen, tls, tokens })
}

fn kind(value: &Value) -> Result<Kind, String> {
    match text(value) {
        Some("off") => Ok(Kind::Off),
        Some("own") => Ok(Kind::Own),
        Some("files") => Ok(Kind::Files),
        _ => Err("allowed are \"off\", \"own\" (a certificate of the fleet's own authority), \"files\"".to_owned()),
    }
}

fn auth(value: &Value) -> Result<bool, String> {
    match text(value) {
        Some("none") => Ok(false),
        Some("tokens") => Ok(true),
        _ => Err("allowed are \"none\" (loopback only) and \"tokens\"".to_owned()),
    }
}

fn optional_path(value: &Value) -> Result<Option<PathBuf>, String> {
    if text(value) == Some("") { Ok(None) } else { path(value).map(Some) }
}

fn names(value: &Value) -> Result<Vec<String>, String> {
    let allowed = || "allowed are DNS names and IP addresses, separated by commas".to_owned();
    let text = text(value).ok_or_else(allowed)?;
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(|name| ServerName::try_from(name).map(|_| name.to_owned()).map_err(|_| allowed())).collect()
}
