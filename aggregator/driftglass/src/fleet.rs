//! Commands that change who belongs to the fleet: tokens, revocations, and the list of devices.

use std::io::{self, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use driftglass_protocol::id::{DeviceId, Name};
use serde::Deserialize;
use serde_json::json;

use crate::client::{Client, ListArguments, ServerArguments, print};
use crate::configuration::DeviceConfiguration;
use crate::exit::{Failure, Outcome};

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a one-time token for a device and print it, alone.
    ///
    /// Carry it to the device and run there: driftglass-agent enroll --aggregator HOST:PORT --token TOKEN
    Create(CreateArguments),
    /// List tokens, without what makes them valid.
    List(ListArguments),
}

/// For whom, and for how long.
#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// The site the device stands at.
    #[arg(long)]
    site: Name,
    /// Its name there.
    #[arg(long)]
    device: Name,
    /// How long the token may be used, from 1s to 30d.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
}

/// Whom to change.
#[derive(Debug, Args)]
pub(crate) struct DeviceArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// The device: SITE/DEVICE.
    #[arg(value_parser = device_id)]
    device: DeviceId,
    /// Why, for whoever reads about it later.
    #[arg(long, default_value = "")]
    note: String,
}

pub(crate) fn device_id(text: &str) -> Result<DeviceId, String> {
    let (site, device) = text.split_once('/').ok_or("a device has the form SITE/DEVICE")?;
    let name = |text: &str| Name::parse(text).map_err(|error| error.to_string());
    Ok(DeviceId { site: name(site)?, device: name(device)? })
}

#[derive(Deserialize)]
struct Created {
    token: String,
}

#[derive(Deserialize)]
struct Revoked {
    was_connected: bool,
}

/// A token, as far as this tool reads it.
#[derive(Deserialize)]
struct Token {
    site: String,
    device: String,
    created_at: Option<String>,
    expires_at: Option<String>,
    used_at: Option<String>,
}

/// A device, as far as this tool reads it.
#[derive(Deserialize)]
struct Device {
    id: String,
    state: String,
    version: String,
    last_seen: Option<String>,
    certificate_expires_at: Option<String>,
    revoked_at: Option<String>,
    /// Absent where the aggregator is of an older release.
    configuration: Option<DeviceConfiguration>,
}

/// Asks for a token.
///
/// # Errors
/// Where the aggregator makes none.
pub(crate) fn create_token(server: &ServerArguments, device: &DeviceId, ttl: Duration) -> Result<String, Failure> {
    let wish = json!({ "site": device.site, "device": device.device, "ttl_seconds": ttl.as_secs() });
    let created: Created = Client::new(server)?.post("tokens", &wish)?;
    Ok(created.token)
}

/// Makes or lists tokens.
///
/// # Errors
/// Where the aggregator does not answer, or refuses.
pub(crate) fn token(command: &TokenCommand) -> Result<Outcome, Failure> {
    match command {
        TokenCommand::Create(CreateArguments { server, site, device, ttl }) => {
            let id = DeviceId { site: site.clone(), device: device.clone() };
            say(&create_token(server, &id, *ttl)?)
        }
        TokenCommand::List(list) => {
            let items = Client::new(&list.server)?.list("tokens", &[])?;
            let heading =
                "DEVICE                                   CREATED                  EXPIRES                  USED";
            print(list.format, items, heading, |token: Token| {
                let device = format!("{}/{}", token.site, token.device);
                let shown = |time: Option<String>| time.unwrap_or_else(|| "-".into());
                let (created, expires) = (shown(token.created_at), shown(token.expires_at));
                format!("{device:<40} {created:<24} {expires:<24} {}", shown(token.used_at))
            })
        }
    }
}

/// Lists devices.
///
/// # Errors
/// Where the aggregator does not answer.
pub(crate) fn devices(list: &ListArguments) -> Result<Outcome, Failure> {
    let items = Client::new(&list.server)?.list("devices", &[])?;
    let heading = "DEVICE                                   STATE     VERSION  LAST SEEN                CERTIFICATE UNTIL        CONFIGURATION";
    print(list.format, items, heading, |device: Device| {
        let state = if device.revoked_at.is_some() { "revoked" } else { &device.state };
        let shown = |time: Option<String>| time.unwrap_or_else(|| "-".into());
        let (seen, until) = (shown(device.last_seen), shown(device.certificate_expires_at));
        let configuration = device.configuration.map_or_else(|| "-".into(), |configuration| configuration.summary());
        format!("{:<40} {state:<9} {:<8} {seen:<24} {until:<24} {configuration}", device.id, device.version)
    })
}

/// Revokes a device.
///
/// # Errors
/// Where the aggregator does not answer, or does not know it.
pub(crate) fn revoke(arguments: &DeviceArguments) -> Result<Outcome, Failure> {
    let DeviceArguments { server, device, note } = arguments;
    let path = format!("devices/{}%2F{}/revoke", device.site, device.device);
    let revoked: Revoked = Client::new(server)?.post(&path, &json!({ "note": note }))?;
    let connection = if revoked.was_connected { "its connection was ended" } else { "it was not connected" };
    say(&format!("{device} is revoked; {connection}"))
}

/// Lets a device speak again whose certificates come from elsewhere.
///
/// # Errors
/// Where the aggregator does not answer, or refuses.
pub(crate) fn reinstate(arguments: &DeviceArguments) -> Result<Outcome, Failure> {
    let DeviceArguments { server, device, note } = arguments;
    let path = format!("devices/{}%2F{}/reinstate", device.site, device.device);
    let _: serde_json::Value = Client::new(server)?.post(&path, &json!({ "note": note }))?;
    say(&format!("{device} may speak again"))
}

/// Prints a line.
///
/// # Errors
/// Where nobody reads.
pub(crate) fn say(text: &str) -> Result<Outcome, Failure> {
    writeln!(io::stdout(), "{text}").map_err(Failure::job)?;
    Ok(Outcome::Success)
}
