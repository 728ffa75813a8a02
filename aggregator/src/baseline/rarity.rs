//! How unlikely it is that something rare comes so often.
//!
//! The binomial distribution, continued to counts that are no whole numbers (its upper tail is the regularised incomplete beta function):
//! what counts for less than one independent trial, such as a single picture a minute of a camera whose pictures come in runs, still says
//! something, and adds up.

use statrs::function::beta::beta_reg;

use crate::evidence::normal::deviate;

/// The standard normal deviate of `hits` in `trials`, or more (mid-p), where each trial hits with probability `share`, 0 < share < 1.
#[must_use]
pub(super) fn many(hits: f64, trials: f64, share: f64) -> f32 {
    let p = 0.5 * (at_least(hits, trials, share) + at_least(hits + 1.0, trials, share));
    #[expect(clippy::cast_possible_truncation, reason = "a deviate needs no more than single precision")]
    let deviate = deviate(p) as f32;
    deviate
}

/// Probability of `hits` or more.
fn at_least(hits: f64, trials: f64, share: f64) -> f64 {
    if hits <= 0.0 {
        return 1.0;
    }
    let misses = trials - hits + 1.0;
    if misses <= 0.0 { 0.0 } else { beta_reg(hits, misses, share) }
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{Binomial, Discrete, DiscreteCDF};

    use super::*;

    #[test]
    fn whole_counts_have_the_binomial_distribution() {
        for (trials, share) in [(1, 0.3), (7, 0.05), (60, 0.4)] {
            let binomial = Binomial::new(share, trials).expect("a share");
            for hits in 0..=trials {
                let expected = binomial.sf(hits) + 0.5 * binomial.pmf(hits);
                let found = many(hits as f64, trials as f64, share);
                assert!((f64::from(found) - deviate(expected)).abs() < 1e-4, "{hits} of {trials}: {found}");
            }
        }
    }

    #[test]
    fn parts_of_a_trial_say_something_and_never_more_than_the_trial_would() {
        for share in [0.01, 0.1, 0.5] {
            let whole = many(1.0, 1.0, share);
            let half = many(0.5, 0.5, share);
            assert!(half > 0.0 && half < whole, "{share}: {half} and {whole}");
            // Two halves are as good as the whole at most.
            assert!(2.0 * half * half <= whole * whole + 0.2, "{share}: {half} and {whole}");
            assert!(many(0.0, 0.5, share) <= 0.0, "nothing happened");
        }
        assert!(many(2.0, 1.0, 0.1).is_finite(), "more hits than trials are not believed");
    }
}
