//! The one-sided distribution of Smirnov, without the cancellation and overflow of its textbook form.
//!
//! `P(D_n⁺ ≥ d) = Σ_{j=0}^{⌊n(1−d)⌋} d·C(n,j)·(d+j/n)^{j−1}·(1−d−j/n)^{n−j}` (Birnbaum and Tingey 1951). Each term is
//! `d/(d+j/n)` times the binomial probability of `j` at `p = d + j/n`, which is evaluated by its saddle-point form (Loader
//! 2000): all terms are positive and accurate to a few units in the last place.

use std::f64::consts::PI;

use super::error::{StatisticsError, within};

/// The largest sample whose exact distribution is summed.
pub const LARGEST_SAMPLE: u64 = 10_000_000;

/// `P(D_n⁺ ≥ d)` for a sample of `n`, 1 for `d ≤ 0` and 0 for `d ≥ 1`.
///
/// # Errors
/// `Parameter` if `n` is 0 or above [`LARGEST_SAMPLE`], or `d` is not finite.
#[expect(clippy::cast_precision_loss, reason = "n is bounded by LARGEST_SAMPLE")]
pub fn one_sided(n: u64, d: f64) -> Result<f64, StatisticsError> {
    let size = within("sample size", n as f64, 1.0, LARGEST_SAMPLE as f64)?;
    within("distance", d, f64::MIN, f64::MAX)?;
    if d <= 0.0 {
        return Ok(1.0);
    }
    if d >= 1.0 {
        return Ok(0.0);
    }
    let mut sum = (size * (-d).ln_1p()).exp();
    let reach = size * d;
    for j in 1..n {
        let (hits, misses) = (j as f64, (n - j) as f64);
        let expected_misses = misses - reach;
        if expected_misses <= 0.0 {
            break;
        }
        let log = stirling_error(n)
            - stirling_error(j)
            - stirling_error(n - j)
            - deviance(hits, hits + reach)
            - deviance(misses, expected_misses);
        let binomial = log.exp() * (size / (2.0 * PI * hits * misses)).sqrt();
        sum += reach / (reach + hits) * binomial;
    }
    Ok(sum.min(1.0))
}

/// `ln(n!/nⁿ)`.
#[expect(clippy::cast_precision_loss, reason = "only called within LARGEST_SAMPLE")]
pub(crate) fn ln_factorial_over_power(n: u64) -> f64 {
    let size = n as f64;
    0.5 * (2.0 * PI * size).ln() - size + stirling_error(n)
}

/// `ln n! − ln(√(2πn)·(n/e)ⁿ)`, what Stirling's formula leaves out.
#[expect(clippy::cast_precision_loss, reason = "only called within LARGEST_SAMPLE")]
fn stirling_error(n: u64) -> f64 {
    let x = n as f64;
    if n < 16 {
        let factorial: f64 = (1..=n).map(|k| k as f64).product();
        return factorial.ln() - (0.5 * (2.0 * PI * x).ln() + x * x.ln() - x);
    }
    let inverse_square = 1.0 / (x * x);
    let series = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360_360.0];
    series.iter().rev().fold(0.0, |sum, coefficient| sum * inverse_square + coefficient) / x
}

/// `x·ln(x/m) + m − x`, by its power series where the difference would cancel.
fn deviance(x: f64, m: f64) -> f64 {
    let v = (x - m) / (x + m);
    if v.abs() >= 0.1 {
        return x * (x / m).ln() + m - x;
    }
    let mut sum = (x - m) * v;
    let mut power = 2.0 * x * v;
    for odd in (3..200).step_by(2) {
        power *= v * v;
        let next = sum + power / f64::from(odd);
        if next.to_bits() == sum.to_bits() {
            break;
        }
        sum = next;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_samples_follow_the_textbook_sum() {
        for n in 1..12_u32 {
            for step in 1..20 {
                let (d, size) = (f64::from(step) / 20.0, f64::from(n));
                let (mut sum, mut choose) = (0.0, 1.0);
                for j in 0..=n {
                    let share = f64::from(j) / size;
                    if 1.0 - d - share > 1e-12 {
                        sum += d
                            * choose
                            * (d + share).powf(f64::from(j) - 1.0)
                            * (1.0 - d - share).powf(size - f64::from(j));
                    }
                    choose *= f64::from(n - j) / f64::from(j + 1);
                }
                let got = one_sided(u64::from(n), d).unwrap();
                assert!((got / sum - 1.0).abs() < 1e-13, "n={n} d={d}: {got} {sum}");
            }
        }
    }

    #[test]
    fn factorials_agree_on_both_sides_of_the_table() {
        let mut log = 0.0;
        for n in 1..40_u32 {
            log += f64::from(n).ln();
            let got = ln_factorial_over_power(u64::from(n)) + f64::from(n) * f64::from(n).ln();
            assert!((got - log).abs() < 1e-12, "n={n}");
        }
    }

    #[test]
    fn the_ends_and_nonsense_are_defined() {
        assert!(one_sided(5, 0.0).unwrap() >= 1.0 && one_sided(5, 1.0).unwrap() <= 0.0);
        assert!(one_sided(0, 0.5).is_err() && one_sided(5, f64::NAN).is_err() && one_sided(u64::MAX, 0.1).is_err());
    }
}
