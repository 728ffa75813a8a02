//! Commands that ask a running aggregator.

use std::io::{self, Write};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::exit::{Failure, Outcome};

/// Rows asked for at a time.
const PAGE: usize = 500;
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the aggregator is, and how to print what it says.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Address of the aggregator.
    #[arg(long, value_name = "URL", env = "DRIFTGLASS_SERVER", default_value = "http://127.0.0.1:8080")]
    pub(crate) server: String,
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
    /// The site.
    pub(crate) site: String,
    /// The device there.
    pub(crate) device: String,
    /// The camera's name.
    pub(crate) camera: String,
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
}

impl Client {
    /// For the aggregator at this address.
    pub(crate) fn new(server: &str) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build();
        Self { agent: config.into(), server: server.trim_end_matches('/').to_owned() }
    }

    /// Every item of a paged list.
    ///
    /// # Errors
    /// Where the server does not answer, or with something else.
    pub(crate) fn list(&self, path: &str, filters: &[(&str, &str)]) -> Result<Vec<serde_json::Value>, Failure> {
        let (mut items, mut offset) = (Vec::new(), 0);
        loop {
            let url = format!("{}/api/v1/{path}", self.server);
            let mut request = self.agent.get(&url).query("limit", PAGE.to_string()).query("offset", offset.to_string());
            for (key, value) in filters {
                request = request.query(key, value);
            }
            let page: Page = request
                .call()
                .and_then(|mut response| response.body_mut().read_json())
                .map_err(|error| Failure::Job(format!("{url}: {error}")))?;
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
        let failed = |error: ureq::Error| Failure::Job(format!("{url}: {error}"));
        // A refusal has a body too, and it says more than its number.
        let request = self.agent.post(&url).config().http_status_as_error(false).build();
        let mut response = request.send_json(body).map_err(failed)?;
        answered(&url, &mut response)
    }

    /// One thing.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub(crate) fn get<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T, Failure> {
        let url = format!("{}/api/v1/{path}", self.server);
        let request = self.agent.get(&url).config().http_status_as_error(false).build();
        let mut response = request.call().map_err(|error| Failure::Job(format!("{url}: {error}")))?;
        answered(&url, &mut response)
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

/// What was asked for, or what the refusal says.
fn answered<T: for<'de> Deserialize<'de>>(
    url: &str,
    response: &mut ureq::http::Response<ureq::Body>,
) -> Result<T, Failure> {
    let (status, body) = (response.status(), response.body_mut());
    if status.is_success() {
        return body.read_json().map_err(|error| Failure::Job(format!("{url}: {error}")));
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
    let items = Client::new(&arguments.server).list("cameras", &[])?;
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
    let items = Client::new(&arguments.list.server).list("alerts", &filters)?;
    print(
        arguments.list.format,
        items,
        "  ID STATE       SEVERITY CAUSE          SINCE                    CAMERA",
        |alert: Alert| {
            format!(
                "{:>4} {:<11} {:<8} {:<14} {:<24} {}/{}/{}",
                alert.id,
                alert.state,
                alert.severity,
                alert.cause,
                alert.first_window,
                alert.site,
                alert.device,
                alert.camera
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
