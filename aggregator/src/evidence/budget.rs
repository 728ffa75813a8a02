//! The false-alarm budget: what an operator understands, and the `q` that keeps it.
//!
//! An operator says "at most one false alert per site and month". The procedure has a `q` and an epoch. From one to the other:
//!
//! - While nothing is wrong anywhere, every alert is false, and a false discovery rate of at most `q` means that an epoch has any
//!   alert at all with probability at most `q`, for the whole fleet and however many cameras it has.
//! - If it has any, it may have several. Under Benjamini-Hochberg with independent cameras their number has the mean `q/(1−q)²`
//!   (Finner and Roters 2002, for many cameras; checked by simulation below), which for a small `q` is `q`.
//! - A month has `month/epoch` epochs and the fleet `S` sites, so a budget of `b` per site and month is `b·S·epoch/month` false
//!   alerts an epoch, and `q` is where `q/(1−q)²` reaches that. It is never more than `b·S·epoch/month` itself.
//! - While something *is* wrong, true alerts are raised and the promise is one about a share: of the alerts of an epoch at most
//!   `q` are false on average. A month with forty true alerts may then bring about `40·q/(1−q)` false ones beside the budget.
//!   Therefore `q` is never above [`LARGEST_Q`], whatever the budget: one alert in five, and nobody trusts any.
//!
//! The budget is an upper bound: the tests are conservative, and the realised rate ([`Feedback`]) is usually far below.
//!
//! Deliberately absent: changing `q` by itself when operators complain. A promise that follows its own record is none.

use std::time::Duration;

use statrs::function::beta::checked_beta_reg;
use statrs::function::gamma::checked_gamma_lr;

use crate::stats::error::{StatisticsError, within};

/// The largest `q` a budget leads to.
pub const LARGEST_Q: f64 = 0.2;
/// The smallest `q` at which an epoch is not made longer.
pub const COMFORTABLE_Q: f64 = 0.01;
/// A twelfth of a year of 365.25 days.
pub const MONTH: Duration = Duration::from_secs(2_629_800);
/// Epochs to choose from, shortest first.
pub const EPOCHS: [Duration; 2] = [Duration::from_secs(86_400), Duration::from_secs(7 * 86_400)];

/// False alerts allowed per site and month.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlarmBudget(f64);

/// The settings that keep a budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Promise {
    /// Target of the false discovery rate.
    pub q: f64,
    /// The stretch of time it is promised over.
    pub epoch: Duration,
    /// The budget would have allowed more than [`LARGEST_Q`].
    pub capped: bool,
}

impl AlarmBudget {
    /// So many false alerts per site and month; 1 is one a month, 1/12 one a year.
    ///
    /// # Errors
    /// `Parameter` unless positive and finite.
    pub fn per_site_month(budget: f64) -> Result<Self, StatisticsError> {
        within("false alerts per site and month", budget, f64::MIN_POSITIVE, f64::MAX).map(Self)
    }

    /// False alerts per site and month.
    #[must_use]
    pub const fn allowed(self) -> f64 {
        self.0
    }

    /// The `q` that keeps the budget in a fleet of `sites` with this epoch.
    ///
    /// # Errors
    /// `Parameter` without sites, or if the epoch has no length.
    pub fn with_epoch(self, sites: u32, epoch: Duration) -> Result<Promise, StatisticsError> {
        let allowed = self.0 * epochs_and_sites(sites, epoch)?;
        // q/(1−q)² = x at q = ((2x+1) − √(4x+1))/(2x), written without the difference that would cancel.
        let root = (4.0 * allowed + 1.0).sqrt();
        let q = 2.0 * allowed / (2.0 * allowed + 1.0 + root);
        let capped = q.is_nan() || q > LARGEST_Q;
        Ok(Promise { q: if capped { LARGEST_Q } else { q }, epoch, capped })
    }

    /// The same with the shortest of [`EPOCHS`] at which `q` is at least [`COMFORTABLE_Q`], or else the longest: below that the
    /// evidence asked of a camera costs more than a longer epoch does.
    ///
    /// # Errors
    /// `Parameter` without sites.
    pub fn promise(self, sites: u32) -> Result<Promise, StatisticsError> {
        let [day, week] = EPOCHS;
        let daily = self.with_epoch(sites, day)?;
        if daily.q >= COMFORTABLE_Q { Ok(daily) } else { self.with_epoch(sites, week) }
    }
}

/// The other way round, for display: false alerts per site and month to be expected at most while nothing is wrong.
///
/// # Errors
/// `Parameter` unless `0 ≤ q < 1`, without sites, or if the epoch has no length.
pub fn false_alerts_per_site_month(q: f64, sites: u32, epoch: Duration) -> Result<f64, StatisticsError> {
    let q = within("q", q, 0.0, 1.0 - f64::EPSILON)?;
    Ok(q / (1.0 - q).powi(2) / epochs_and_sites(sites, epoch)?)
}

/// `S·epoch/month`.
fn epochs_and_sites(sites: u32, epoch: Duration) -> Result<f64, StatisticsError> {
    let sites = within("sites", f64::from(sites), 1.0, f64::MAX)?;
    let epoch = within("epoch", epoch.as_secs_f64(), f64::MIN_POSITIVE, f64::MAX)?;
    Ok(sites * epoch / MONTH.as_secs_f64())
}

/// An estimate and the interval that covers the truth with the confidence asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower limit.
    pub low: f64,
    /// The estimate.
    pub estimate: f64,
    /// Upper limit.
    pub high: f64,
}

/// What operators said of the alerts of some stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feedback {
    /// Confirmed, or given a root cause.
    pub confirmed: u32,
    /// Called false.
    pub dismissed: u32,
    /// Nobody said anything.
    pub unlabelled: u32,
}

impl Feedback {
    /// The share of false alerts among those that an operator judged, with Clopper and Pearson's (1934) limits, which cover at
    /// least as often as they say. None where nothing was judged.
    ///
    /// What nobody judged is left out, not counted as true. If operators judge the annoying ones first, the estimate is too high.
    ///
    /// # Errors
    /// `Parameter` unless `0 < confidence < 1`.
    pub fn false_share(self, confidence: f64) -> Result<Option<Interval>, StatisticsError> {
        let tail = tail(confidence)?;
        let (k, n) = (f64::from(self.dismissed), f64::from(self.dismissed) + f64::from(self.confirmed));
        if n < 1.0 {
            return Ok(None);
        }
        let beta = |a: f64, b: f64, x: f64| checked_beta_reg(a, b, x).unwrap_or(f64::NAN);
        let low = if k > 0.0 { root(1.0, |x| beta(k, n - k + 1.0, x) >= tail) } else { 0.0 };
        let high = if k < n { root(1.0, |x| beta(k + 1.0, n - k, x) >= 1.0 - tail) } else { 1.0 };
        Ok(Some(Interval { low, estimate: k / n, high }))
    }

    /// False alerts per site and month, with Garwood's (1936) exact limits for a Poisson count. The upper limit takes what nobody
    /// judged for false, so that silence cannot make the record look better.
    ///
    /// # Errors
    /// `Parameter` unless `0 < confidence < 1`, without sites, or if the time has no length.
    pub fn per_site_month(self, sites: u32, time: Duration, confidence: f64) -> Result<Interval, StatisticsError> {
        let tail = tail(confidence)?;
        let exposure = epochs_and_sites(sites, time)?;
        let dismissed = f64::from(self.dismissed);
        let worst = dismissed + f64::from(self.unlabelled);
        let gamma = |count: f64, mean: f64| checked_gamma_lr(count, mean).unwrap_or(f64::NAN);
        // Far above any limit of a count.
        let most = |count: f64| count + 40.0 * (count + 1.0).sqrt() + 40.0;
        let low = if dismissed > 0.0 { root(most(dismissed), |mean| gamma(dismissed, mean) >= tail) } else { 0.0 };
        let high = root(most(worst), |mean| gamma(worst + 1.0, mean) >= 1.0 - tail);
        Ok(Interval { low: low / exposure, estimate: dismissed / exposure, high: high / exposure })
    }
}

fn tail(confidence: f64) -> Result<f64, StatisticsError> {
    Ok((1.0 - within("confidence", confidence, f64::EPSILON, 1.0 - f64::EPSILON)?) / 2.0)
}

/// Where in 0..=`most` a rising condition becomes true, by bisection.
fn root(most: f64, reached: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, most);
    for _ in 0..70 {
        let middle = f64::midpoint(low, high);
        if reached(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evidence::fdr::benjamini_hochberg_of;

    const DAY: Duration = EPOCHS[0];

    #[test]
    fn one_false_alert_per_site_and_month() {
        let budget = AlarmBudget::per_site_month(1.0).unwrap();
        let one = budget.promise(1).unwrap();
        assert_eq!((one.epoch, one.capped), (DAY, false));
        assert!((0.030..0.0329).contains(&one.q), "a day is 0.0329 months, less what clumps cost: {one:?}");
        let many = budget.promise(500).unwrap();
        assert_eq!(many, Promise { q: LARGEST_Q, epoch: DAY, capped: true });
        let strict = AlarmBudget::per_site_month(1.0 / 12.0).unwrap().promise(1).unwrap();
        assert_eq!(strict.epoch, EPOCHS[1], "one a year at a single site");
        assert!(strict.q > COMFORTABLE_Q, "{strict:?}");
    }

    #[test]
    fn with_nothing_wrong_the_mean_number_of_alerts_is_what_the_translation_says() {
        let (mut state, cameras, epochs) = (11_u64, 200_usize, 6000_u32);
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0
        };
        for q in [0.05, 0.2] {
            let (mut alerts, mut any) = (0.0, 0.0);
            for _ in 0..epochs {
                let p: Vec<f64> = (0..cameras).map(|_| uniform()).collect();
                let count = benjamini_hochberg_of(cameras, &p, q).unwrap().count;
                alerts += f64::from(u32::try_from(count).unwrap()) / f64::from(epochs);
                any += f64::from(u8::from(count > 0)) / f64::from(epochs);
            }
            let said = q / (1.0 - q).powi(2);
            assert!((any - q).abs() < 0.02, "q={q}: any alert in {any} of the epochs");
            assert!((alerts / said - 1.0).abs() < 0.2, "q={q}: {alerts} alerts an epoch, {said} said");
        }
    }

    #[test]
    fn operators_feedback_has_the_limits_of_the_tables() {
        // Clopper-Pearson 95 %: 0 of 10, 3 of 20, 10 of 10 (R: binom.test).
        for (dismissed, confirmed, low, high) in
            [(0, 10, 0.0, 0.308_497), (3, 17, 0.032_071, 0.378_927), (10, 0, 0.691_503, 1.0)]
        {
            let share = Feedback { dismissed, confirmed, unlabelled: 9 }.false_share(0.95).unwrap().expect("judged");
            assert!((share.low - low).abs() < 1e-5 && (share.high - high).abs() < 1e-5, "{share:?}");
        }
        assert_eq!(Feedback { unlabelled: 4, ..Feedback::default() }.false_share(0.95), Ok(None));
        // Garwood 95 %: 0 and 5 events (R: poisson.test).
        for (dismissed, low, high) in [(0, 0.0, 3.688_879), (5, 1.623_486, 11.668_332)] {
            let rate = Feedback { dismissed, ..Feedback::default() }.per_site_month(1, MONTH, 0.95).unwrap();
            assert!((rate.low - low).abs() < 1e-5 && (rate.high - high).abs() < 1e-5, "{rate:?}");
        }
    }

    #[test]
    fn silence_of_the_operators_does_not_improve_the_record() {
        let judged = Feedback { dismissed: 1, confirmed: 5, unlabelled: 0 };
        let silent = Feedback { unlabelled: 20, ..judged };
        let rate = |feedback: Feedback| feedback.per_site_month(10, MONTH, 0.9).unwrap();
        assert!(rate(silent).high > 2.0 * rate(judged).high);
        assert!((rate(silent).low - rate(judged).low).abs() < 1e-12);
    }

    #[test]
    fn settings_that_are_none_are_refused() {
        for budget in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(AlarmBudget::per_site_month(budget).is_err());
        }
        let budget = AlarmBudget::per_site_month(1.0).unwrap();
        assert!(budget.promise(0).is_err() && budget.with_epoch(1, Duration::ZERO).is_err());
        assert!(false_alerts_per_site_month(1.0, 1, DAY).is_err());
        assert!(
            Feedback::default().false_share(1.0).is_err() && Feedback::default().per_site_month(1, DAY, 0.0).is_err()
        );
        assert!(AlarmBudget::per_site_month(f64::MAX).unwrap().promise(u32::MAX).unwrap().capped);
    }

    proptest! {
        #[test]
        fn there_and_back_again(budget in 1e-4..3.0_f64, sites in 1_u32..50, hours in 1_u64..200) {
            let epoch = Duration::from_secs(hours * 3600);
            let promise = AlarmBudget::per_site_month(budget).unwrap().with_epoch(sites, epoch).unwrap();
            let back = false_alerts_per_site_month(promise.q, sites, epoch).unwrap();
            prop_assert!(promise.q > 0.0 && promise.q <= LARGEST_Q);
            if promise.capped {
                prop_assert!(back <= budget);
            } else {
                prop_assert!((back / budget - 1.0).abs() < 1e-9);
                let simple = budget * f64::from(sites) * epoch.as_secs_f64() / MONTH.as_secs_f64();
                prop_assert!(promise.q <= simple);
            }
        }

        #[test]
        fn more_sites_and_a_larger_budget_never_lower_q(budget in 1e-3..2.0_f64, sites in 1_u32..1000) {
            let q = |budget: f64, sites| AlarmBudget::per_site_month(budget).unwrap().with_epoch(sites, DAY).unwrap().q;
            prop_assert!(q(budget, sites + 1) >= q(budget, sites) && q(budget * 1.1, sites) >= q(budget, sites));
        }
    }
}
