//! Configurations from the centre, one after the other: tried, proven, refused, or rolled back. A state machine without I/O.
//!
//! ```text
//! offered --(checked as a whole)--> on trial --(something delivered under it)--> good
//!    |                                  |
//!    v cannot be                        v nothing delivered in time, or too many starts without
//! refused                           rolled back: the last good one is in effect again
//! ```
//!
//! Must hold: the state is made durable before what it says is put into effect, so that a configuration that kills the agent is
//! counted against itself; what was refused or rolled back is not tried again until the centre says so with a new version; whatever is
//! wrong with the state, the device runs with its own file.
//!
//! Deliberately absent: time, files and the meaning of a text, which are the caller's.

use driftglass_protocol::configuration::{ConfigurationId, ConfigurationOutcome};
use driftglass_protocol::limit::{CONFIGURATION_BYTES, TEXT_BYTES};
use ring::digest::{SHA256, digest};
use toml::{Table, Value};

/// Starts of the agent without a delivery under a configuration that is on trial, before it is given up.
pub const STARTS_MAX: i64 = 3;

/// A configuration from the centre.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Which.
    pub id: ConfigurationId,
    /// What it says.
    pub text: String,
}

impl Offer {
    /// A configuration that says this.
    #[must_use]
    pub fn new(version: u64, text: &str) -> Self {
        Self { id: ConfigurationId { version, digest: sha256(text) }, text: text.into() }
    }

    /// Nothing beyond the device's own file.
    #[must_use]
    pub fn none() -> Self {
        Self::new(0, "")
    }
}

/// SHA-256 of a text.
#[must_use]
pub fn sha256(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (byte, computed) in bytes.iter_mut().zip(digest(&SHA256, text.as_bytes()).as_ref()) {
        *byte = *computed;
    }
    bytes
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Trial {
    offer: Offer,
    /// Starts of the agent with it in effect.
    starts: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rejected {
    id: ConfigurationId,
    outcome: ConfigurationOutcome,
    reason: String,
}

/// What is in effect, and what became of what was offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    good: Offer,
    trial: Option<Trial>,
    rejected: Option<Rejected>,
}

impl Default for State {
    fn default() -> Self {
        Self { good: Offer::none(), trial: None, rejected: None }
    }
}

/// What follows from an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Nothing is put into effect; the state may have changed.
    Nothing,
    /// What is [`State::in_effect`] is to be put into effect, once the state is durable.
    Apply,
}

impl State {
    /// Counts a start of the agent. Where that was one too many, the configuration on trial is rolled back, and true is returned.
    pub fn start(&mut self) -> bool {
        let Some(trial) = &mut self.trial else { return false };
        trial.starts = trial.starts.saturating_add(1);
        let starts = trial.starts;
        starts > STARTS_MAX
            && self.roll_back(format!("the agent was started {STARTS_MAX} times with it and delivered nothing"))
    }

    /// Takes an offer; `check` says what is wrong with its text for this device.
    pub fn consider(&mut self, offer: Offer, check: impl FnOnce(&str) -> Result<(), String>) -> Follows {
        if self.rejected.as_ref().is_some_and(|rejected| rejected.id == offer.id) {
            return Follows::Nothing;
        }
        let reject =
            |reason| Some(Rejected { id: offer.id, outcome: ConfigurationOutcome::Refused, reason: short(reason) });
        if offer.text.len() > CONFIGURATION_BYTES || sha256(&offer.text) != offer.id.digest {
            self.rejected = reject("it is longer than allowed, or its digest is another".into());
            return Follows::Nothing;
        }
        if offer.id.digest == self.in_effect().id.digest {
            // The same under another number.
            self.rejected = None;
            self.in_effect_mut().id = offer.id;
            return Follows::Nothing;
        }
        if let Err(reason) = check(&offer.text) {
            self.rejected = reject(reason);
            return Follows::Nothing;
        }
        self.rejected = None;
        if offer.id.digest == self.good.id.digest {
            (self.good, self.trial) = (offer, None);
        } else {
            self.trial = Some(Trial { offer, starts: 0 });
        }
        Follows::Apply
    }

    /// What is in effect cannot be, because the device's own file has changed; the file alone is.
    pub fn refuse_in_effect(&mut self, reason: String) {
        let id = self.in_effect().id;
        *self = Self::default();
        self.rejected = Some(Rejected { id, outcome: ConfigurationOutcome::Refused, reason: short(reason) });
    }

    /// The device's own file may say something else now: what it ruled out may be offered again.
    pub fn forget_refusal(&mut self) {
        self.rejected.take_if(|rejected| rejected.outcome == ConfigurationOutcome::Refused);
    }

    /// Something was delivered under the configuration on trial: it is good. True where there was one.
    pub fn prove(&mut self) -> bool {
        let trial = self.trial.take();
        trial.map(|trial| self.good = trial.offer).is_some()
    }

    /// Goes back from the configuration on trial to the last good one. True where there was one on trial.
    pub fn roll_back(&mut self, reason: String) -> bool {
        let Some(trial) = self.trial.take() else { return false };
        let outcome = ConfigurationOutcome::RolledBack;
        self.rejected = Some(Rejected { id: trial.offer.id, outcome, reason: short(reason) });
        true
    }

    /// What is in effect.
    #[must_use]
    pub fn in_effect(&self) -> &Offer {
        self.trial.as_ref().map_or(&self.good, |trial| &trial.offer)
    }

    fn in_effect_mut(&mut self) -> &mut Offer {
        self.trial.as_mut().map_or(&mut self.good, |trial| &mut trial.offer)
    }

    /// How often the agent was started with the configuration on trial, where there is one.
    #[must_use]
    pub fn starts_on_trial(&self) -> Option<i64> {
        self.trial.as_ref().map(|trial| trial.starts)
    }

    /// Which was offered last, what became of it, and why.
    #[must_use]
    pub fn outcome(&self) -> (ConfigurationId, ConfigurationOutcome, &str) {
        match (&self.rejected, &self.trial) {
            (Some(rejected), _) => (rejected.id, rejected.outcome, rejected.reason.as_str()),
            (None, Some(trial)) => (trial.offer.id, ConfigurationOutcome::OnTrial, ""),
            (None, None) => (self.good.id, ConfigurationOutcome::Applied, ""),
        }
    }

    /// For the disk.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut root = Table::new();
        root.insert("good".into(), offer_to_table(&self.good).into());
        if let Some(Trial { offer, starts }) = &self.trial {
            let mut trial = offer_to_table(offer);
            trial.insert("starts".into(), (*starts).into());
            root.insert("trial".into(), trial.into());
        }
        if let Some(Rejected { id, outcome, reason }) = &self.rejected {
            let mut rejected = id_to_table(*id);
            rejected.insert("outcome".into(), outcome.name().into());
            rejected.insert("reason".into(), reason.as_str().into());
            root.insert("rejected".into(), rejected.into());
        }
        root.to_string()
    }

    /// From the disk; `None` where that is not what [`Self::to_text`] wrote.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let root = text.parse::<Table>().ok()?;
        let table = |key: &str| root.get(key).and_then(Value::as_table);
        let trial = match root.get("trial") {
            None => None,
            Some(trial) => {
                let starts = trial.get("starts")?.as_integer().filter(|starts| *starts >= 0)?;
                Some(Trial { offer: offer_from_table(trial.as_table()?)?, starts })
            }
        };
        let rejected = match root.get("rejected") {
            None => None,
            Some(rejected) => {
                let name = rejected.get("outcome")?.as_str()?;
                let outcome = ConfigurationOutcome::ALL.into_iter().find(|outcome| outcome.name() == name)?;
                let reason = rejected.get("reason")?.as_str()?.to_owned();
                Some(Rejected { id: id_from_table(rejected.as_table()?)?, outcome, reason: short(reason) })
            }
        };
        Some(Self { good: offer_from_table(table("good")?)?, trial, rejected })
    }
}

/// Cut to what a report holds, at a boundary of characters.
fn short(mut reason: String) -> String {
    let mut end = reason.len().min(TEXT_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    reason
}

fn id_to_table(id: ConfigurationId) -> Table {
    let mut table = Table::new();
    // As text, for TOML's numbers are signed.
    table.insert("version".into(), id.version.to_string().into());
    table.insert("digest".into(), id.digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into());
    table
}

fn id_from_table(table: &Table) -> Option<ConfigurationId> {
    let version = table.get("version")?.as_str()?.parse().ok()?;
    let hex = table.get("digest")?.as_str().filter(|hex| hex.len() == 64 && hex.is_ascii())?;
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(ConfigurationId { version, digest })
}

fn offer_to_table(offer: &Offer) -> Table {
    let mut table = id_to_table(offer.id);
    table.insert("text".into(), offer.text.as_str().into());
    table
}

fn offer_from_table(table: &Table) -> Option<Offer> {
    let offer = Offer { id: id_from_table(table)?, text: table.get("text")?.as_str()?.to_owned() };
    // A bit that rotted must not become a setting.
    (sha256(&offer.text) == offer.id.digest).then_some(offer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fine(_: &str) -> Result<(), String> {
        Ok(())
    }

    fn outcome(state: &State) -> (u64, u64, ConfigurationOutcome) {
        let (id, outcome, _) = state.outcome();
        (state.in_effect().id.version, id.version, outcome)
    }

    use ConfigurationOutcome::{Applied, OnTrial, Refused, RolledBack};

    #[test]
    fn an_offer_is_tried_and_proves_itself() {
        let mut state = State::default();
        assert_eq!(outcome(&state), (0, 0, Applied));
        assert_eq!(state.consider(Offer::new(1, "a"), fine), Follows::Apply);
        assert_eq!(outcome(&state), (1, 1, OnTrial));
        assert!(!state.start() && state.starts_on_trial() == Some(1), "a start is no failure by itself");
        assert!(state.prove());
        assert_eq!(outcome(&state), (1, 1, Applied));
        assert_eq!(state.consider(Offer::new(1, "a"), fine), Follows::Nothing);
        assert_eq!(state.consider(Offer::new(2, "a"), fine), Follows::Nothing, "the same under another number");
        assert_eq!(outcome(&state), (2, 2, Applied));
        assert_eq!(state.consider(Offer::new(3, ""), fine), Follows::Apply, "back to the file");
        assert_eq!(outcome(&state), (3, 3, OnTrial));
    }

    #[test]
    fn one_that_delivers_nothing_or_kills_the_agent_is_rolled_back_and_not_tried_again_under_its_number() {
        let mut state = State::default();
        state.consider(Offer::new(1, "good"), fine);
        state.prove();
        state.consider(Offer::new(2, "silent"), fine);
        assert!(state.roll_back("nothing came".into()) && !state.roll_back("twice".into()));
        assert_eq!(outcome(&state), (1, 2, RolledBack));
        assert_eq!(state.outcome().2, "nothing came");
        assert_eq!(state.consider(Offer::new(2, "silent"), fine), Follows::Nothing);
        assert_eq!(outcome(&state), (1, 2, RolledBack));
        assert_eq!(state.consider(Offer::new(3, "silent"), fine), Follows::Apply, "asked for anew");

        let starts = (1..).take_while(|_| !state.start()).count();
        assert_eq!(i64::try_from(starts), Ok(STARTS_MAX));
        assert_eq!(outcome(&state), (1, 3, RolledBack));
        assert!(!state.start(), "what is good is not counted");
        assert_eq!(state.consider(Offer::new(4, "good"), fine), Follows::Nothing);
        assert_eq!(outcome(&state), (4, 4, Applied), "the wish is what there is");
    }

    #[test]
    fn one_that_cannot_be_is_refused_and_changes_nothing_else() {
        let mut state = State::default();
        state.consider(Offer::new(1, "good"), fine);
        assert_eq!(state.consider(Offer::new(2, "bad"), |_| Err("no such camera".into())), Follows::Nothing);
        assert_eq!(outcome(&state), (1, 2, Refused));
        assert!(state.prove(), "the one on trial goes on");
        let forged = Offer { text: "other".into(), ..Offer::new(3, "text") };
        assert_eq!(state.consider(forged, fine), Follows::Nothing);
        assert_eq!(outcome(&state), (1, 3, Refused));
        let long = Offer::new(4, &"x".repeat(CONFIGURATION_BYTES + 1));
        assert_eq!(state.consider(long, fine), Follows::Nothing);
        assert_eq!(outcome(&state), (1, 4, Refused));
        assert_eq!(state.consider(Offer::new(2, "bad"), |_| Err("still".into())), Follows::Nothing);
        state.forget_refusal();
        assert_eq!(outcome(&state), (1, 1, Applied));
        assert_eq!(state.consider(Offer::new(2, "bad"), fine), Follows::Apply, "the device's own file allows it now");
        state.roll_back("silence".into());
        state.forget_refusal();
        assert_eq!(outcome(&state), (1, 2, RolledBack), "which was no matter of the file");
        state.refuse_in_effect("ü".repeat(200));
        assert_eq!(outcome(&state), (0, 1, Refused));
        assert_eq!(state.outcome().2.len(), TEXT_BYTES);
    }

    #[test]
    fn a_wish_that_is_taken_back_before_it_was_proven_needs_no_trial() {
        let mut state = State::default();
        state.consider(Offer::new(1, "good"), fine);
        state.prove();
        state.consider(Offer::new(2, "other"), fine);
        assert_eq!(state.consider(Offer::new(3, "good"), fine), Follows::Apply);
        assert_eq!(outcome(&state), (3, 3, Applied));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Offer { version: u64, text: String, bad: bool },
        Start,
        Prove,
        RollBack,
        Crash,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1..6_u64, "[ab]{0,2}", prop::bool::weighted(0.2))
                .prop_map(|(version, text, bad)| Step::Offer { version, text, bad }),
            2 => Just(Step::Start),
            2 => Just(Step::Prove),
            1 => Just(Step::RollBack),
            2 => Just(Step::Crash),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_what_is_in_effect_was_checked_and_a_failed_one_gives_way_to_a_proven_one(
            steps in prop::collection::vec(step(), 0..40),
        ) {
            let mut state = State::default();
            let (mut checked, mut proven) = (vec![String::new()], vec![String::new()]);
            let mut starts = 0;
            for step in steps {
                match step {
                    Step::Offer { version, text, bad } => {
                        let mut asked = false;
                        let before = state.in_effect().clone();
                        let follows = state.consider(Offer::new(version, &text), |_| {
                            asked = true;
                            if bad { Err("bad".into()) } else { Ok(()) }
                        });
                        if asked && !bad {
                            checked.push(text.clone());
                        }
                        if follows == Follows::Apply {
                            prop_assert_eq!(&state.in_effect().text, &text);
                            starts = 0;
                        } else {
                            prop_assert_eq!(&state.in_effect().text, &before.text);
                        }
                    }
                    Step::Start => {
                        starts += 1;
                        if state.start() {
                            prop_assert!(starts > STARTS_MAX);
                            prop_assert!(proven.contains(&state.in_effect().text));
                        }
                        prop_assert!(state.starts_on_trial().is_none_or(|starts| starts <= STARTS_MAX));
                    }
                    Step::Prove => {
                        state.prove();
                        proven.push(state.in_effect().text.clone());
                    }
                    Step::RollBack => {
                        if state.roll_back("late".into()) {
                            prop_assert!(proven.contains(&state.in_effect().text));
                            prop_assert_eq!(state.outcome().1, RolledBack);
                        }
                    }
                    Step::Crash => {
                        let text = state.to_text();
                        let read = State::from_text(&text);
                        prop_assert_eq!(read.as_ref(), Some(&state), "{}", text);
                        // Torn or rotten, it is not read as something else that passes.
                        if let Some(other) = State::from_text(text.get(..text.len() / 2).unwrap_or_default()) {
                            prop_assert!(checked.contains(&other.in_effect().text));
                        }
                    }
                }
                prop_assert!(checked.contains(&state.in_effect().text));
            }
        }

        #[test]
        fn arbitrary_texts_never_panic(text in "\\PC{0,200}") {
            if let Some(state) = State::from_text(&text) {
                prop_assert_eq!(State::from_text(&state.to_text()), Some(state));
            }
        }
    }
}
