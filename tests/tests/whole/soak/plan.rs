//! What goes wrong, when and for how long: all of it from one seed.

use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How a link breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cut {
    /// The agent's own interface goes down: what it sends fails.
    AgentEnd,
    /// The aggregator's interface goes down: what that one sends fails, and the agent hears nothing.
    FarEnd,
    /// What the agent sends vanishes, what comes to it arrives.
    Outbound,
    /// What the agent sends arrives, the answers vanish.
    Inbound,
}

/// Who is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    Aggregator,
    /// By its number.
    Agent(usize),
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL.
    Kill(Victim),
    /// SIGTERM.
    End(Victim),
    /// SIGSTOP, later SIGCONT.
    Halt(Victim),
    /// The link of an agent.
    Cut(usize, Cut),
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Time since the one before.
    pub(super) gap: Duration,
    pub(super) fault: Fault,
    /// How long it lasts.
    pub(super) lasts: Duration,
}

/// An endless sequence of steps.
#[derive(Debug)]
pub(super) struct Plan {
    random: ChaCha8Rng,
    agents: usize,
}

impl Plan {
    pub(super) fn new(seed: u64, agents: usize) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), agents }
    }

    pub(super) fn next_step(&mut self) -> Step {
        let gap = self.millis(50, 900);
        let agent = self.random.random_range(0..self.agents);
        let victim = if self.random.random_ratio(2, 5) { Victim::Aggregator } else { Victim::Agent(agent) };
        let (fault, lasts) = match self.random.random_range(0..100) {
            // Half of the killed are started again at once, so that some die while they recover.
            0..60 if self.random.random() => (Fault::Kill(victim), Duration::ZERO),
            0..60 => (Fault::Kill(victim), self.millis(10, 1_500)),
            60..70 => (Fault::End(victim), self.millis(0, 500)),
            70..82 => (Fault::Halt(victim), self.millis(50, 4_000)),
            _ => {
                let cut = [Cut::AgentEnd, Cut::FarEnd, Cut::Outbound, Cut::Inbound];
                let cut = *cut.choose(&mut self.random).expect("there are some");
                (Fault::Cut(agent, cut), self.millis(100, 5_000))
            }
        };
        Step { gap, fault, lasts }
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.random.random_range(least..=most))
    }
}

#[test]
fn a_seed_is_a_plan_and_a_plan_has_everything_in_it() {
    let steps = |seed| {
        let mut plan = Plan::new(seed, 2);
        std::iter::repeat_with(move || plan.next_step()).take(300).collect::<Vec<_>>()
    };
    assert_eq!(steps(7), steps(7));
    assert_ne!(steps(7), steps(8));
    let found = |wanted: fn(&Fault) -> bool| steps(7).iter().filter(|step| wanted(&step.fault)).count();
    assert!(found(|fault| matches!(fault, Fault::Kill(Victim::Aggregator))) > 30);
    assert!(found(|fault| matches!(fault, Fault::Kill(Victim::Agent(1)))) > 30);
    assert!(found(|fault| matches!(fault, Fault::End(_))) > 10);
    assert!(found(|fault| matches!(fault, Fault::Halt(_))) > 10);
    for cut in [Cut::AgentEnd, Cut::FarEnd, Cut::Outbound, Cut::Inbound] {
        assert!(steps(7).iter().any(|step| matches!(step.fault, Fault::Cut(_, found) if found == cut)), "{cut:?}");
    }
}
