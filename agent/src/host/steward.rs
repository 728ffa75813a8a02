//! Keeps the configuration from the centre: on disk, in effect, and proven.
//!
//! The state machine is [`crate::pushed`]; here are its file, its clock and what counts as proof: an acknowledgement of something that
//! was written to the spool after the configuration was taken up.
//!
//! Must hold: the file is durable before what it says is in effect; a file that cannot be read, and a text that this device's own file
//! rules out, leave the device with its own file; an owner who takes nothing from the centre gets nothing of it, and what was taken
//! before is not in effect either.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use driftglass_protocol::configuration::{ConfigurationId, ConfigurationOutcome};
use driftglass_protocol::wire::Mark;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::config::Config;
use crate::pushed::{Follows, Offer, State};
use crate::spool::Shared;
use crate::uplink::{Guidance, Report};

/// Name of the file in the state folder.
const FILE: &str = "pushed-configuration.toml";
/// Longest file read: two texts and what is said of them.
const FILE_BYTES: u64 = 256 * 1024;
/// How often a configuration on trial is looked after.
const LOOK: Duration = Duration::from_millis(500);
const DECLINED: &str = "the owner of the device takes no configuration from the centre";

/// What the steward is waited for.
#[derive(Debug)]
pub(super) enum Event {
    /// The centre wishes something.
    Offer(Offer),
    /// It is time to look after what is on trial.
    Look,
}

/// A configuration that has to prove itself.
#[derive(Clone, Copy, Debug)]
struct Trial {
    since: Instant,
    /// The last record written before it was taken up.
    before: Mark,
    /// Something written after it was taken up has been acknowledged.
    delivered: bool,
}

/// The keeper.
#[derive(Debug)]
pub(super) struct Steward {
    file: PathBuf,
    /// The device's own settings.
    local: Config,
    state: State,
    /// Offered last while the owner takes nothing.
    declined: Option<ConfigurationId>,
    trial: Option<Trial>,
    /// What is in effect could not be handed on, and has to be once more.
    due: bool,
    /// Part of it waits for the next start.
    restart: bool,
    spool: Arc<Shared>,
    offers: mpsc::Receiver<Offer>,
    report: watch::Sender<Report>,
}

impl Steward {
    /// Takes up what was in effect, and counts this start. Returns also what the uplink needs, and the settings to start with.
    pub(super) fn open(local: &Config, spool: Arc<Shared>) -> (Self, Guidance, Config) {
        let file = local.state_dir().join(FILE);
        let state = if local.takes_pushed() { read(&file) } else { State::default() };
        let (offer, offers) = mpsc::channel(1);
        let report = watch::Sender::new(Report::of(&state, false));
        let guidance = Guidance { offers: offer, report: report.subscribe() };
        let mut steward = Self {
            file,
            local: local.clone(),
            state,
            declined: None,
            trial: None,
            due: false,
            restart: false,
            spool,
            offers,
            report,
        };
        steward.state.forget_refusal();
        let mut started = steward.state.clone();
        let rolled_back = started.start();
        if started != steward.state && !steward.keep(started) {
            // A start that cannot be counted must not be risked.
            steward.state.roll_back("this start could not be noted".into());
        }
        if rolled_back {
            tracing::error!(
                reason = steward.state.outcome().2,
                "the configuration from the centre is given up; the one before is in effect"
            );
        }
        let effective = steward.effective();
        steward.taken_up(true, false);
        (steward, guidance, effective)
    }

    /// Waits for something to do.
    pub(super) async fn event(&mut self) -> Event {
        let looks = self.trial.is_some() || self.due;
        tokio::select! {
            Some(offer) = self.offers.recv() => Event::Offer(offer),
            () = sleep(LOOK), if looks => Event::Look,
            else => std::future::pending().await,
        }
    }

    /// Does what an event asks for. Returns the settings to be put into effect, where they change; the caller says with
    /// [`Self::taken_up`] what became of them.
    pub(super) fn handle(&mut self, event: Event) -> Option<Config> {
        let config = match event {
            Event::Offer(offer) => self.consider(offer),
            Event::Look => self.look(),
        };
        self.publish();
        config
    }

    /// The device's own file says something else now. Returns the settings to be put into effect.
    pub(super) fn rebase(&mut self, local: Config) -> Config {
        self.local = local;
        if self.local.takes_pushed() {
            self.declined = None;
            self.state.forget_refusal();
        } else {
            // Kept on disk, for an owner who changes their mind.
            self.state = State::default();
            self.trial = None;
        }
        let config = self.effective();
        self.publish();
        config
    }

    /// What was returned last is in effect, or was not handed on. `restart`: part of it waits for the next start.
    pub(super) fn taken_up(&mut self, handed_on: bool, restart: bool) {
        self.due = !handed_on;
        self.restart = restart;
        let on_trial = handed_on && self.state.starts_on_trial().is_some();
        self.trial =
            on_trial.then(|| Trial { since: Instant::now(), before: self.spool.appended_up_to(), delivered: false });
        self.publish();
    }

    fn consider(&mut self, offer: Offer) -> Option<Config> {
        if !self.local.takes_pushed() {
            self.declined = Some(offer.id);
            return None;
        }
        let version = offer.id.version;
        let (mut state, mut config) = (self.state.clone(), None);
        let follows = state.consider(offer, |text| match self.local.with_pushed(text) {
            Ok(checked) => {
                config = Some(checked);
                Ok(())
            }
            Err(faults) => Err(faults.to_string()),
        });
        if state != self.state && !self.keep(state) {
            return None;
        }
        let (_, outcome, reason) = self.state.outcome();
        tracing::info!(version, outcome = outcome.name(), reason, "the centre offers a configuration");
        config.filter(|_| follows == Follows::Apply)
    }

    fn look(&mut self) -> Option<Config> {
        if self.due {
            return Some(self.effective());
        }
        let trial = self.trial.as_mut()?;
        trial.delivered |= self.spool.acknowledged() > trial.before;
        let Trial { since, delivered, .. } = *trial;
        let mut state = self.state.clone();
        if delivered {
            // What takes effect with the next start is proven by what is delivered after it.
            if self.restart && state.starts_on_trial() == Some(0) {
                return None;
            }
            state.prove();
            if self.keep(state) {
                tracing::info!(
                    version = self.state.in_effect().id.version,
                    "the configuration from the centre has proven itself"
                );
                self.trial = None;
            }
            return None;
        }
        let two_windows = Duration::from_millis(u64::from(self.effective().window().0) * 2);
        let limit = self.local.confirm_within().saturating_add(two_windows);
        if since.elapsed() < limit {
            return None;
        }
        state.roll_back(format!("nothing was delivered under it within {} s", limit.as_secs()));
        if !self.keep(state.clone()) {
            self.state = state;
        }
        tracing::error!(reason = self.state.outcome().2, "the configuration from the centre is rolled back");
        Some(self.effective())
    }

    /// The device's own settings with those from the centre.
    fn effective(&mut self) -> Config {
        match self.local.with_pushed(&self.state.in_effect().text) {
            Ok(config) => config,
            Err(faults) => {
                tracing::error!(%faults, "the configuration from the centre does not fit this device's own file any more, which alone is in effect");
                let mut state = self.state.clone();
                state.refuse_in_effect(faults.to_string());
                if !self.keep(state.clone()) {
                    self.state = state;
                }
                self.local.clone()
            }
        }
    }

    /// Makes a state durable and takes it up; false where it cannot be made durable.
    fn keep(&mut self, state: State) -> bool {
        match write(&self.file, &state.to_text()) {
            Ok(()) => {
                self.state = state;
                true
            }
            Err(error) => {
                tracing::error!(file = %self.file.display(), %error, "the configuration from the centre cannot be kept, and is not followed");
                false
            }
        }
    }

    fn publish(&self) {
        let mut report = Report::of(&self.state, self.restart);
        if let Some(id) = self.declined {
            (report.offered, report.outcome) = (id, ConfigurationOutcome::Declined);
            report.detail = DECLINED.into();
        }
        self.report.send_if_modified(|known| {
            let changed = *known != report;
            *known = report;
            changed
        });
    }
}

fn read(path: &Path) -> State {
    let text = match fs::metadata(path) {
        Ok(metadata) if metadata.len() > FILE_BYTES => Err(io::Error::other("it is too long")),
        Ok(_) => fs::read_to_string(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return State::default(),
        Err(error) => Err(error),
    };
    let state = text.and_then(|text| State::from_text(&text).ok_or_else(|| io::Error::other("it is damaged")));
    state.unwrap_or_else(|error| {
        tracing::error!(file = %path.display(), %error, "the configuration from the centre cannot be read; the device's own file is in effect");
        State::default()
    })
}

/// Appears whole or not at all, and durably.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder).and_then(|folder| folder.sync_all()))
}
