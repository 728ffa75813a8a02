//! What is kept of the configuration of agents.

use driftglass_protocol::configuration::{ConfigurationId, ConfigurationReport};
use driftglass_protocol::id::{DeviceId, Name};
use driftglass_protocol::unit::UnixMillis;

use super::StoreError;

/// Whom a configuration is for. The narrowest that holds for a device counts, and counts alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every device.
    Fleet,
    /// The devices of a site.
    Site(Name),
    /// One device.
    Device(DeviceId),
}

impl Scope {
    /// Site and device, empty where it is not bound to one.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        match self {
            Self::Fleet => ("", ""),
            Self::Site(site) => (site.as_str(), ""),
            Self::Device(device) => (device.site.as_str(), device.device.as_str()),
        }
    }
}

/// What a device shall be set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Which.
    pub id: ConfigurationId,
    /// What it says.
    pub text: String,
}

/// The part of a transaction that concerns the configuration of agents.
pub trait Configurations {
    /// Keeps a wish and returns its version; without a text the one that there was for the same scope is withdrawn.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn set_configuration(
        &mut self,
        scope: &Scope,
        text: Option<&str>,
        note: &str,
        now: UnixMillis,
    ) -> Result<u64, StoreError>;

    /// What a device shall be set to; version 0 and an empty text where no wish holds for it.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn desired_configuration(&self, device: &DeviceId) -> Result<Desired, StoreError>;

    /// Keeps what a registered device says of its configuration.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn set_configuration_report(
        &mut self,
        device: &DeviceId,
        report: &ConfigurationReport<'_>,
        now: UnixMillis,
    ) -> Result<(), StoreError>;
}
