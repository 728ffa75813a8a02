//! Commands that set the configuration of agents.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use driftglass_agent::config::check_pushed;
use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::limit::CONFIGURATION_BYTES;
use serde::Deserialize;
use serde_json::json;

use crate::client::{Client, ListArguments, ListFormat, ServerArguments, print};
use crate::exit::{Failure, Outcome};
use crate::fleet::{device_id, say};

/// What to do with the configuration of agents.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Have agents take settings over: those of one device, of a site, or of the whole fleet.
    ///
    /// FILE is TOML with any of window.length, prediction.detectors, device_health.enabled, log.level, and camera tables with name (or "*")
    /// and fps. It is all that the centre wishes: a setting it does not name is that of the device's own file. Of several wishes the
    /// narrowest counts, alone. Agents try it, and go back by themselves where nothing is delivered under it.
    Set(SetArguments),
    /// Withdraw a wish; the next wider one holds then, or the device's own file alone.
    Unset(UnsetArguments),
    /// Show how a device is set, and what it shall be set to.
    Show(ShowArguments),
    /// List the wishes that hold.
    List(ListArguments),
}

/// For whom. Neither: for the whole fleet.
#[derive(Debug, Args)]
struct Whom {
    /// For the devices of this site.
    #[arg(long, conflicts_with = "device")]
    site: Option<Name>,
    /// For one device: SITE/DEVICE.
    #[arg(long, value_parser = device_id, value_name = "SITE/DEVICE")]
    device: Option<DeviceId>,
}

/// What to set.
#[derive(Debug, Args)]
pub(crate) struct SetArguments {
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    whom: Whom,
    /// The settings; - is standard input.
    file: PathBuf,
    /// Why, for whoever reads about it later.
    #[arg(long, default_value = "")]
    note: String,
}

/// What to withdraw.
#[derive(Debug, Args)]
pub(crate) struct UnsetArguments {
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    whom: Whom,
    /// Why, for whoever reads about it later.
    #[arg(long, default_value = "")]
    note: String,
}

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// The device: SITE/DEVICE.
    #[arg(value_parser = device_id)]
    device: DeviceId,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t = ListFormat::Table)]
    format: ListFormat,
}

#[derive(Deserialize)]
struct Taken {
    version: u64,
}

/// How a device is set, as far as this tool reads it.
#[derive(Deserialize)]
pub(crate) struct DeviceConfiguration {
    desired: u64,
    in_effect: Option<u64>,
    state: Option<String>,
    waits_for_restart: bool,
    detail: String,
}

impl DeviceConfiguration {
    /// In a few words.
    pub(crate) fn summary(&self) -> String {
        let Self { desired, in_effect, state, waits_for_restart, .. } = self;
        let mut text = in_effect.map_or_else(|| "-".to_owned(), |version| version.to_string());
        let state = state.as_deref().unwrap_or("not told");
        if *in_effect != Some(*desired) || state != "applied" {
            text.push_str(&format!(" ({desired} {state})"));
        }
        if *waits_for_restart {
            text.push_str(", waits for a restart");
        }
        text
    }
}

#[derive(Deserialize)]
struct Shown {
    configuration: DeviceConfiguration,
    text: String,
}

/// A wish, as far as this tool reads it.
#[derive(Deserialize)]
struct Wish {
    version: u64,
    site: Option<String>,
    device: Option<String>,
    set_at: Option<String>,
    note: String,
}

/// Sets, withdraws, shows or lists.
///
/// # Errors
/// Where the settings are none that may be sent, or the aggregator does not answer or refuses.
pub(crate) fn config(command: &ConfigCommand) -> Result<Outcome, Failure> {
    match command {
        ConfigCommand::Set(SetArguments { server, whom, file, note }) => {
            let text = read(file)?;
            check_pushed(&text).map_err(|faults| Failure::Usage(faults.to_string()))?;
            let version = wish(server, whom, Some(&text), note)?;
            say(&format!(
                "version {version} is wished for {}; devices that are connected over QUIC are told now",
                whom.name()
            ))
        }
        ConfigCommand::Unset(UnsetArguments { server, whom, note }) => {
            wish(server, whom, None, note)?;
            say(&format!("the wish for {} is withdrawn", whom.name()))
        }
        ConfigCommand::Show(ShowArguments { server, device, format }) => {
            let path = format!("devices/{}%2F{}/configuration", device.site, device.device);
            let answer: serde_json::Value = Client::new(server)?.get(&path)?;
            if *format == ListFormat::Json {
                return say(&answer.to_string());
            }
            let Shown { configuration, text } = serde_json::from_value(answer).map_err(Failure::job)?;
            let mut shown = format!("{device}: version {}", configuration.summary());
            if !configuration.detail.is_empty() {
                shown.push_str(&format!("\n  {}", configuration.detail));
            }
            if !text.is_empty() {
                shown.push_str(&format!("\nversion {} says:\n{}", configuration.desired, text.trim_end()));
            }
            say(&shown)
        }
        ConfigCommand::List(list) => {
            let items = Client::new(&list.server)?.list("configurations", &[])?;
            print(
                list.format,
                items,
                "VERSION FOR                                      SET                      NOTE",
                |wish: Wish| {
                    let whom = match (wish.site, wish.device) {
                        (Some(site), Some(device)) => format!("{site}/{device}"),
                        (Some(site), None) => format!("{site}/*"),
                        _ => "*".to_owned(),
                    };
                    format!(
                        "{:>7} {whom:<40} {:<24} {}",
                        wish.version,
                        wish.set_at.unwrap_or_else(|| "-".into()),
                        wish.note
                    )
                },
            )
        }
    }
}

impl Whom {
    fn name(&self) -> String {
        match (&self.site, &self.device) {
            (_, Some(device)) => device.to_string(),
            (Some(site), None) => format!("the devices of {site}"),
            (None, None) => "every device".to_owned(),
        }
    }
}

fn wish(server: &ServerArguments, whom: &Whom, text: Option<&str>, note: &str) -> Result<u64, Failure> {
    let (site, device) = match (&whom.site, &whom.device) {
        (_, Some(id)) => (Some(&id.site), Some(&id.device)),
        (site, None) => (site.as_ref(), None),
    };
    let body = json!({ "site": site, "device": device, "text": text, "note": note });
    let taken: Taken = Client::new(server)?.post("configurations", &body)?;
    Ok(taken.version)
}

fn read(file: &Path) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::Usage(format!("{}: {error}", file.display()));
    let mut text = String::new();
    // One byte more than allowed shows that there is too much.
    let most = CONFIGURATION_BYTES as u64 + 1;
    if file == Path::new("-") {
        io::stdin().take(most).read_to_string(&mut text).map_err(failed)?;
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_string(&mut text)).map_err(failed)?;
    }
    if text.len() > CONFIGURATION_BYTES {
        return Err(Failure::Usage(format!("{}: longer than {CONFIGURATION_BYTES} bytes", file.display())));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_as_wished_is_shown_by_its_version_alone() {
        let shown = |desired, in_effect, state: Option<&str>| {
            let state = state.map(str::to_owned);
            DeviceConfiguration { desired, in_effect, state, waits_for_restart: false, detail: String::new() }.summary()
        };
        assert_eq!(shown(3, Some(3), Some("applied")), "3");
        assert_eq!(shown(3, Some(3), Some("on-trial")), "3 (3 on-trial)");
        assert_eq!(shown(3, Some(2), Some("refused")), "2 (3 refused)");
        assert_eq!(shown(3, None, None), "- (3 not told)");
    }
}
