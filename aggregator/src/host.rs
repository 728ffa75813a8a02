//! The part that touches the outside: sockets, files, signals, the service manager, the clock.
//!
//! Must hold: nothing here decides anything about records or cameras. Start-up has one order (configuration, identity, store,
//! ingest, HTTP) and each step that fails names what was asked for and what would help.

pub mod access;
mod alerts;
mod authority;
mod backup;
mod clock;
mod configuration;
mod credentials;
mod door;
mod enrolment;
mod ledger;
mod quic;
mod random;
mod restore;
mod serve;
mod stopwatch;
mod systemd;
mod tcp;
mod telemetry;
mod web;

pub use authority::{AuthorityError, rotate};
pub use backup::{BackupError, Keys, Overwrite, Progress, back_up};
pub use clock::now;
pub use credentials::{Credentials, CredentialsError};
pub use quic::{socket, transport};
pub use restore::{Restored, restore};
pub use serve::{Addresses, ServeError, run};
pub use telemetry::{LogFormat, start_logging};
