//! The configuration of agents: what is wished, what each device is told, and what it says of it.
//!
//! Must hold: a device is told nothing but the narrowest wish that holds for it, of the device that its certificate names; a wish is
//! durable before anybody is told of it.
//!
//! Deliberately absent: streams and HTTP (they call this), and what a text means: only the agent knows what it can be set to, and it
//! checks all of it.

use std::sync::{Mutex, PoisonError};

use driftglass_protocol::configuration::ConfigurationReport;
use driftglass_protocol::id::DeviceId;
use driftglass_protocol::limit::CONFIGURATION_BYTES;
use thiserror::Error;
use tokio::sync::watch;

use crate::store::{Desired, Scope};
use crate::writer::{Writer, WriterError};

/// Why a wish is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfiguratorError {
    /// Longer than any agent takes.
    #[error("a configuration of {length} bytes: allowed are {CONFIGURATION_BYTES}")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// Not TOML.
    #[error("not TOML: {0}")]
    Toml(String),
    /// The store does not answer.
    #[error("the store cannot be written now")]
    Unavailable,
}

impl From<WriterError> for ConfiguratorError {
    fn from(_: WriterError) -> Self {
        Self::Unavailable
    }
}

/// The service.
#[derive(Debug)]
pub struct Configurator {
    /// Taken away when the service stops: HTTP connections that linger must not keep the writer alive.
    writer: Mutex<Option<Writer>>,
    changed: watch::Sender<()>,
}

impl Configurator {
    /// Works on the store behind `writer`.
    #[must_use]
    pub fn new(writer: Writer) -> Self {
        Self { writer: Mutex::new(Some(writer)), changed: watch::Sender::new(()) }
    }

    /// From now on everything is [`ConfiguratorError::Unavailable`].
    pub fn close(&self) {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn writer(&self) -> Result<Writer, WriterError> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(WriterError::Gone)
    }

    /// Expresses a wish, or withdraws the one there was, and has connected devices told. Returns its version.
    ///
    /// # Errors
    /// One variant of [`ConfiguratorError`] per cause.
    pub async fn set(&self, scope: Scope, text: Option<String>, note: String) -> Result<u64, ConfiguratorError> {
        if let Some(text) = &text {
            if text.len() > CONFIGURATION_BYTES {
                return Err(ConfiguratorError::TooLong { length: text.len() });
            }
            if let Err(error) = text.parse::<toml::Table>() {
                return Err(ConfiguratorError::Toml(error.message().to_owned()));
            }
        }
        let (version, scope) = self
            .writer()?
            .identities(move |registry, now| {
                let version = registry.set_configuration(&scope, text.as_deref(), &note, now)?;
                Ok((version, scope))
            })
            .await?;
        let (site, device) = scope.parts();
        tracing::info!(site, device, version, "the configuration of agents was set");
        self.changed.send_replace(());
        Ok(version)
    }

    /// Notes what a device says, and returns what it shall be set to; without the text where it has just said that it knows that.
    ///
    /// # Errors
    /// [`ConfiguratorError::Unavailable`].
    pub async fn report(
        &self,
        device: &DeviceId,
        report: &ConfigurationReport<'_>,
    ) -> Result<(Desired, bool), ConfiguratorError> {
        let ConfigurationReport { in_effect, offered, outcome, restart, detail } = *report;
        tracing::info!(%device, in_effect = in_effect.version, offered = offered.version, outcome = outcome.name(), restart, detail,
            "the device says how it is set");
        let (named, detail) = (device.clone(), detail.to_owned());
        let desired = self
            .writer()?
            .identities(move |registry, now| {
                let report = ConfigurationReport { in_effect, offered, outcome, restart, detail: &detail };
                registry.set_configuration_report(&named, &report, now)?;
                registry.desired_configuration(&named)
            })
            .await?;
        let known = desired.id == offered;
        Ok((desired, known))
    }

    /// What a device shall be set to.
    ///
    /// # Errors
    /// [`ConfiguratorError::Unavailable`].
    pub async fn desired(&self, device: &DeviceId) -> Result<Desired, ConfiguratorError> {
        let named = device.clone();
        Ok(self.writer()?.identities(move |registry, _| registry.desired_configuration(&named)).await?)
    }

    /// Changes whenever a wish does, of whomever.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::configuration::{ConfigurationId, ConfigurationOutcome};
    use driftglass_protocol::id::Name;

    use super::*;
    use crate::store::embedded::EmbeddedStore;
    use crate::store::embedded::fixture::{Counting, NOW, device};
    use crate::writer;

    #[tokio::test]
    async fn a_wish_is_told_until_it_is_known_and_nonsense_is_no_wish() {
        let folder = tempfile::tempdir().expect("folder");
        let store = EmbeddedStore::open(folder.path()).expect("opens");
        let started = Writer::start(store, Counting::default, || NOW, writer::Settings::default());
        let configurator = Configurator::new(started.expect("starts").0);
        let changes = configurator.changes();
        let set = |text: &str| configurator.set(Scope::Fleet, Some(text.to_owned()), String::new());
        assert!(matches!(set("[window").await, Err(ConfiguratorError::Toml(_))));
        assert!(matches!(set(&" ".repeat(CONFIGURATION_BYTES + 1)).await, Err(ConfiguratorError::TooLong { .. })));
        assert!(!changes.has_changed().expect("alive"));
        assert_eq!(set("a = 1").await, Ok(1));
        assert!(changes.has_changed().expect("alive"));

        let none = ConfigurationId { version: 0, digest: [0; 32] };
        let mut report = ConfigurationReport {
            in_effect: none,
            offered: none,
            outcome: ConfigurationOutcome::Applied,
            restart: false,
            detail: "",
        };
        let (desired, known) = configurator.report(&device("gw"), &report).await.expect("noted");
        assert!(!known && desired.text == "a = 1" && desired.id.version == 1);
        report.offered = desired.id;
        assert_eq!(configurator.report(&device("gw"), &report).await, Ok((desired.clone(), true)));
        assert_eq!(configurator.desired(&device("gw")).await, Ok(desired));
        let site = Scope::Site(Name::parse("site").expect("name"));
        assert_eq!(configurator.set(site, Some("b = 1".into()), String::new()).await, Ok(2));
        let (desired, known) = configurator.report(&device("gw"), &report).await.expect("noted");
        assert!(!known && desired.id.version == 2);
        configurator.close();
        assert_eq!(set("a = 2").await, Err(ConfiguratorError::Unavailable));
    }
}
