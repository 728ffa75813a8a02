//! Which q holds in an epoch: the one given, or the one that keeps a budget of false alerts per site and month.
//!
//! Sites count towards the budget's q from the moment that one of their cameras is judged in the epoch, so one that has gone allows
//! nothing to the others. Their number only grows within an epoch, and q with it: what was discovered at a smaller q stays discovered
//! at a larger one, so the alerts raised in an epoch are still those that Benjamini-Hochberg finds at its end, at the q of its end. How
//! many sites are judged says nothing about whether their cameras have changed.
//!
//! Deliberately absent: changing q because of what operators say of alerts ([`crate::evidence::budget`]).

use std::collections::BTreeMap;

use driftglass_protocol::id::Name;
use driftglass_protocol::unit::Millis;

use super::Settings;

/// What is promised in an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Of the alerts of the epoch, the share that may be false on average.
    pub q: f64,
    /// Length of the epoch.
    pub epoch: Millis,
    /// Sites that were judged in it.
    pub sites: u32,
    /// Whether the budget would have allowed a larger q than there may be.
    pub capped: bool,
}

#[cfg(test)]
impl Target {
    /// A q that was given, for days.
    pub(crate) const fn fixed(q: f64) -> Self {
        Self { q, epoch: Millis(86_400_000), sites: 0, capped: false }
    }
}

impl Settings {
    /// What is promised where so many sites are judged.
    #[must_use]
    pub fn target(&self, sites: u32) -> Target {
        let epoch = std::time::Duration::from_millis(u64::from(self.epoch.0.max(1)));
        let promise = self.budget.and_then(|budget| budget.with_epoch(sites.max(1), epoch).ok());
        let q = promise.map_or(self.q, |promise| promise.q.min(self.q));
        Target { q, epoch: self.epoch, sites, capped: promise.is_some_and(|promise| promise.capped) }
    }
}

/// The newest epoch in which each site was judged.
#[derive(Debug, Default)]
pub(super) struct Judged(BTreeMap<Name, i64>);

impl Judged {
    pub(super) const NONE: Self = Self(BTreeMap::new());

    /// Notes that a site was judged in an epoch; true where that is its newest and the first time.
    pub(super) fn note(&mut self, site: &Name, epoch: i64) -> bool {
        match self.0.get_mut(site) {
            Some(newest) if *newest >= epoch => false,
            Some(newest) => {
                *newest = epoch;
                true
            }
            None => {
                self.0.insert(site.clone(), epoch);
                true
            }
        }
    }

    /// Sites that were judged in this epoch, or in a later one already.
    pub(super) fn sites(&self, epoch: i64) -> u32 {
        u32::try_from(self.0.values().filter(|newest| **newest >= epoch).count()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Tolerances;
    use crate::decision::Dependence;
    use crate::evidence::budget::{AlarmBudget, LARGEST_Q};

    fn settings(budget: Option<AlarmBudget>) -> Settings {
        Settings {
            q: LARGEST_Q,
            budget,
            epoch: Millis(86_400_000),
            learning: Millis(1),
            tolerances: Tolerances::NONE,
            dependence: Dependence::Positive,
        }
    }

    #[test]
    fn without_a_budget_q_is_the_one_given_however_many_sites_there_are() {
        for sites in [0, 1, 1000] {
            assert_eq!(settings(None).target(sites).q.to_bits(), LARGEST_Q.to_bits());
        }
    }

    #[test]
    fn a_budget_gives_more_sites_a_larger_q_up_to_the_largest() {
        let settings = settings(AlarmBudget::per_site_month(1.0).ok());
        let [one, four, many] = [1, 4, 400].map(|sites| settings.target(sites));
        assert!((0.030..0.033).contains(&one.q) && !one.capped, "{one:?}");
        assert!(four.q > 2.5 * one.q && four.q < 4.0 * one.q, "{four:?}");
        assert!(many.capped && many.q.to_bits() == LARGEST_Q.to_bits(), "{many:?}");
        assert_eq!(settings.target(0).q.to_bits(), one.q.to_bits(), "nobody judged yet: as for one");
    }

    #[test]
    fn a_site_counts_once_an_epoch_and_one_that_was_not_judged_does_not() {
        let (mut judged, [a, b]) = (Judged::NONE, ["a", "b"].map(|name| Name::parse(name).expect("a name")));
        assert!(judged.note(&a, 7) && !judged.note(&a, 7) && !judged.note(&a, 6));
        assert!(judged.note(&b, 6));
        assert_eq!((judged.sites(6), judged.sites(7), judged.sites(8)), (2, 1, 0));
    }
}
