//! Commands that ask a running aggregator.
//!
//! Must hold: an access token is not given on the command line, where every process of the machine could read it, and does not leave
//! this machine unencrypted.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::exit::{Failure, Outcome};

/// Rows asked for at a time.
const PAGE: usize = 500;
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The access token, for machines that hand secrets over in the environment.
const TOKEN_VARIABLE: &str = "DRIFTGLASS_ACCESS_TOKEN";
/// Longest token that is read; a real one is much shorter.
const TOKEN_BYTES: u64 = 1024;
/// Where systems keep the authorities they trust.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Which aggregator, and how it is spoken to.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArguments {
    /// Address of the aggregator.
    #[arg(long, value_name = "URL", env = "DRIFTGLASS_SERVER", default_value = "http://127.0.0.1:8080")]
    server: String,
    /// File with the access token, or - for standard input; without it the variable DRIFTGLASS_ACCESS_TOKEN, or none.
    #[arg(long, value_name = "FILE", env = "DRIFTGLASS_ACCESS_TOKEN_FILE")]
    access_token_file: Option<PathBuf>,
    /// The authority that the aggregator's certificate for HTTPS comes from, a PEM file; without it those that this system trusts.
    #[arg(long, value_name = "FILE", env = "DRIFTGLASS_CA")]
    ca: Option<PathBuf>,
}

impl ServerArguments {
    /// An aggregator of this machine that asks for no token.
    pub(crate) fn local(server: &str) -> Self {
        Self { server: server.to_owned(), access_token_file: None, ca: None }
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.access_token_file else {
            #[expect(clippy::disallowed_methods, reason = "the operator's tool takes a secret from its surroundings")]
            let token = std::env::var(TOKEN_VARIABLE).ok();
            return Ok(token.filter(|token| !token.is_empty()));
        };
        let mut text = String::new();
        let read = if path == Path::new("-") {
            io::stdin().take(TOKEN_BYTES).read_to_string(&mut text)
        } else {
            std::fs::File::open(path).and_then(|file| file.take(TOKEN_BYTES).read_to_string(&mut text))
        };
        read.map_err(|error| Failure::Usage(format!("--access-token-file {}: {error}", path.display())))?;
        match text.trim() {
            "" => Err(Failure::Usage(format!("--access-token-file {}: it is empty", path.display()))),
            token => Ok(Some(token.to_owned())),
        }
    }

    fn authorities(&self) -> Result<Vec<Certificate<'static>>, Failure> {
        let path = match &self.ca {
            Some(path) => path.as_path(),
            None => SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| path.exists()).ok_or_else(|| {
                Failure::Usage(
                    "this system has no list of authorities where it is looked for: give one with --ca".into(),
                )
            })?,
        };
        let failed = |error: &dyn std::fmt::Display| Failure::Usage(format!("--ca {}: {error}", path.display()));
        let text = std::fs::read(path).map_err(|error| failed(&error))?;
        let found: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let found = found.map_err(|error| failed(&error))?;
        Ok(found.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect())
    }
}

/// Whether a URL is sent where nobody else listens.
fn is_private(url: &str) -> bool {
    if url.starts_with("https://") {
        return true;
    }
    let authority = url.strip_prefix("http://").unwrap_or(url).split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    // A user's name before the host could look like one.
    !authority.contains('@')
        && (host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()))
}

/// Where the aggregator is, and how to print what it says.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    pub(crate) server: ServerArguments,
    /// Form of the list.
    #[arg(long, value_enum, default_value_t = ListFormat::Table)]
    pub(crate) format: ListFormat,
}

/// Which alerts.
#[derive(Debug, Args)]
pub(crate) struct AlertArguments {
    #[command(flatten)]
    list: ListArguments,
    /// Only those in this state: pending, alerting, confirmed, root-caused, resolved.
    #[arg(long)]
    state: Option<String>,
    /// Only those of this site.
    #[arg(long)]
    site: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// For people.
    Table,
    /// One JSON object a line, as the server sends it.
    Json,
}

/// A camera, as far as this tool reads it.
#[derive(Debug, Deserialize)]
pub(crate) struct Camera {
    /// `site/device/camera`.
    pub(crate) id: String,
    /// `learning`, `watched` or `alerting`.
    pub(crate) state: String,
    /// Whether its device is connected.
    pub(crate) connected: bool,
    /// Frames counted.
    pub(crate) frames_total: u64,
    /// Windows counted.
    pub(crate) windows_total: u64,
}

/// An alert, as far as this tool reads it.
#[derive(Debug, Deserialize)]
pub(crate) struct Alert {
    /// Its number.
    pub(crate) id: u64,
    /// What it speaks of: a camera, a site, a model or the fleet.
    pub(crate) subject: String,
    /// The fault.
    pub(crate) cause: String,
    /// How bad it is.
    pub(crate) severity: String,
    /// Where it stands.
    pub(crate) state: String,
    /// Since when.
    pub(crate) first_window: String,
    /// When it was raised.
    pub(crate) raised_at: String,
    /// What to do.
    pub(crate) recommended_action: String,
}

#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<serde_json::Value>,
    next_offset: Option<u64>,
}

/// What a refusal says (RFC 9457).
#[derive(Debug, Deserialize)]
struct Problem {
    detail: String,
}

/// Asks one aggregator.
pub(crate) struct Client {
    agent: ureq::Agent,
    server: String,
    /// The value of the header; never shown.
    authorization: Option<String>,
}

impl Client {
    /// For this aggregator.
    ///
    /// # Errors
    /// Where token or authorities cannot be read, or the token would leave this machine unencrypted.
    pub(crate) fn new(arguments: &ServerArguments) -> Result<Self, Failure> {
        let server = arguments.server.trim_end_matches('/').to_owned();
        let authorization = arguments.token()?.map(|token| format!("Bearer {token}"));
        if authorization.is_some() && !is_private(&server) {
            return Err(Failure::Usage(format!(
                "--server {server}: a token is sent to other machines over https only"
            )));
        }
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            // A token is for this server, not for where it points to.
            .max_redirects(0);
        if server.starts_with("https://") {
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::Specific(Arc::new(arguments.authorities()?)))
                .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .build();
            config = config.tls_config(tls);
        }
        Ok(Self { agent: config.build().into(), server, authorization })
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.authorization {
            Some(authorization) => request.header("Authorization", authorization),
            None => request,
        }
    }

    /// Every item of a paged list.
    ///
    /// # Errors
    /// Where the server does not answer, or with something else.
    pub(crate) fn list(&self, path: &str, filters: &[(&str, &str)]) -> Result<Vec<serde_json::Value>, Failure> {
        let (mut items, mut offset) = (Vec::new(), 0);
        loop {
            let url = format!("{}/api/v1/{path}", self.server);
            let request = self.agent.get(&url).config().http_status_as_error(false).build();
            let mut request =
                self.authorized(request).query("limit", PAGE.to_string()).query("offset", offset.to_string());
            for (key, value) in filters {
                request = request.query(key, value);
            }
            let page: Page = answer(&url, request.call())?;
            items.extend(page.items);
            match page.next_offset {
                Some(next) if next > offset => offset = next,
                _ => return Ok(items),
            }
        }
    }

    /// Asks for a change.
    ///
    /// # Errors
    /// Where the server does not answer, or refuses; with what it says.
    pub(crate) fn post<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<T, Failure> {
        let url = format!("{}/api/v1/{path}", self.server);
        // A refusal has a body too, and it says more than its number.
        let request = self.agent.post(&url).config().http_status_as_error(false).build();
        answer(&url, self.authorized(request).send_json(body))
    }

    /// One thing.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub(crate) fn get<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T, Failure> {
        let url = format!("{}/api/v1/{path}", self.server);
        let request = self.agent.get(&url).config().http_status_as_error(false).build();
        answer(&url, self.authorized(request).call())
    }

    /// The same, read into a type of this tool.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(crate) fn typed<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        filters: &[(&str, &str)],
    ) -> Result<Vec<T>, Failure> {
        self.list(path, filters)?
            .into_iter()
            .map(|item| serde_json::from_value(item).map_err(|error| Failure::Job(format!("{path}: {error}"))))
            .collect()
    }
}

/// What an answer holds, or why there is none.
fn answer<T: for<'de> Deserialize<'de>>(
    url: &str,
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<T, Failure> {
    let failed = |error: ureq::Error| Failure::Job(format!("{url}: {error}"));
    let mut response = response.map_err(failed)?;
    let (status, body) = (response.status(), response.body_mut());
    if status.is_success() {
        return body.read_json().map_err(failed);
    }
    match body.read_json::<Problem>() {
        Ok(problem) => Err(Failure::Job(problem.detail)),
        Err(_) => Err(Failure::Job(format!("{url}: {status}"))),
    }
}

/// Prints the cameras.
///
/// # Errors
/// Where the server does not answer.
pub(crate) fn cameras(arguments: &ListArguments) -> Result<Outcome, Failure> {
    let items = Client::new(&arguments.server)?.list("cameras", &[])?;
    print(
        arguments.format,
        items,
        "CAMERA                                   STATE     CONNECTED      FRAMES   WINDOWS",
        |camera: Camera| {
            format!(
                "{:<40} {:<9} {:<9} {:>11} {:>9}",
                camera.id, camera.state, camera.connected, camera.frames_total, camera.windows_total
            )
        },
    )
}

/// Prints the alerts.
///
/// # Errors
/// Where the server does not answer.
pub(crate) fn alerts(arguments: &AlertArguments) -> Result<Outcome, Failure> {
    let filters: Vec<(&str, &str)> = [("state", &arguments.state), ("site", &arguments.site)]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.as_deref()?)))
        .collect();
    let items = Client::new(&arguments.list.server)?.list("alerts", &filters)?;
    print(
        arguments.list.format,
        items,
        "  ID STATE       SEVERITY CAUSE          SINCE                    WHAT",
        |alert: Alert| {
            format!(
                "{:>4} {:<11} {:<8} {:<14} {:<24} {}",
                alert.id, alert.state, alert.severity, alert.cause, alert.first_window, alert.subject
            )
        },
    )
}

/// Prints a list in the form asked for.
///
/// # Errors
/// Where an item cannot be read, or nobody reads.
pub(crate) fn print<T: for<'de> Deserialize<'de>>(
    format: ListFormat,
    items: Vec<serde_json::Value>,
    heading: &str,
    row: impl Fn(T) -> String,
) -> Result<Outcome, Failure> {
    let mut out = io::stdout().lock();
    if format == ListFormat::Table {
        writeln!(out, "{heading}").map_err(Failure::job)?;
    }
    for item in items {
        let line = match format {
            ListFormat::Json => item.to_string(),
            ListFormat::Table => row(serde_json::from_value(item).map_err(Failure::job)?),
        };
        writeln!(out, "{line}").map_err(Failure::job)?;
    }
    Ok(Outcome::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_out_encrypted_or_not_at_all() {
        for url in ["https://drift.example", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:8080/x"] {
            assert!(is_private(url), "{url}");
        }
        let evil = [
            "http://drift.example",
            "http://127.0.0.1@evil.example",
            "http://localhost.evil",
            "http://10.0.0.1",
            "ftp://x",
            "",
        ];
        for url in evil {
            assert!(!is_private(url), "{url}");
        }
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "dga1.secret\n").expect("written");
        let arguments =
            |server: &str| ServerArguments { server: server.into(), access_token_file: Some(file.clone()), ca: None };
        assert!(matches!(Client::new(&arguments("http://drift.example")), Err(Failure::Usage(_))));
        let client = Client::new(&arguments("http://127.0.0.1:1")).expect("private");
        assert_eq!(client.authorization.as_deref(), Some("Bearer dga1.secret"));
        std::fs::write(&file, " \n").expect("written");
        assert!(matches!(Client::new(&arguments("http://127.0.0.1:1")), Err(Failure::Usage(_))));
    }
}
