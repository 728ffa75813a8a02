//! Calibrators turn a p-value into an e-value: a bet whose expectation is at most 1 if nothing has changed, because the
//! integral of a calibrator over 0..1 is 1. Adjusters turn the running maximum of an e-process back into an e-value.
//!
//! Sources: Vovk and Wang (2021), "E-values: calibration, combination and applications"; Choe and Ramdas (2024) for adjusters.

/// `e = ½·p^(−½)`, the calibrator of the family `κ·p^(κ−1)` with κ = ½. Infinite at p = 0, ½ at p = 1.
#[must_use]
pub fn half_power(p: f64) -> f64 {
    0.5 / p.sqrt()
}

/// `min(cap, ½·p^(−½))`: what the e-process bets. Between ½ and `cap` for p in 0..1.
///
/// A p outside 0..1, or NaN, is no evidence and gives ½.
#[must_use]
pub fn capped_half_power(p: f64, cap: f64) -> f64 {
    if (0.0..=1.0).contains(&p) { half_power(p).min(cap) } else { 0.5 }
}

/// `(1 − p + p·ln p)/(p·ln² p)`, the average of all `κ·p^(κ−1)` over κ in 0..1. Infinite at p = 0, ½ at p = 1.
#[must_use]
pub fn mixture(p: f64) -> f64 {
    // With y = −ln p this is (e^y − 1 − y)/y², which has a harmless power series where the quotient would cancel.
    let y = -p.ln();
    if y.abs() < 0.5 {
        let mut term = 0.5;
        let mut sum = 0.0;
        for k in 3..24 {
            sum += term;
            term *= y / f64::from(k);
        }
        sum
    } else if y.is_infinite() {
        f64::INFINITY
    } else {
        (1.0 / p - 1.0 - y) / (y * y)
    }
}

/// `A(m) = ½·√m`: an e-value made from the running maximum `m ≥ 1` of an e-process.
///
/// The maximum itself is no e-value: its expectation under the null exceeds 1.
#[must_use]
pub fn square_root_adjuster(running_maximum: f64) -> f64 {
    0.5 * running_maximum.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ∫₀¹ of a calibrator, by the midpoint rule in u with p = u⁴, which tames the pole at 0.
    fn integral(calibrator: impl Fn(f64) -> f64) -> f64 {
        let steps = 200_000;
        (0..steps)
            .map(|step| {
                let u = (f64::from(step) + 0.5) / f64::from(steps);
                calibrator(u.powi(4)) * 4.0 * u.powi(3) / f64::from(steps)
            })
            .sum()
    }

    #[test]
    fn no_calibrator_expects_more_than_one_under_the_null() {
        assert!((integral(half_power) - 1.0).abs() < 1e-6);
        // The mixture has a heavy pole, p⁻¹·ln⁻²p: the part below any ε is 1/|ln ε|, so the midpoint rule falls short of 1.
        let mixed = integral(mixture);
        assert!(mixed > 0.9 && mixed < 1.0, "{mixed}");
        assert!(integral(|p| capped_half_power(p, 100.0)) < 1.0);
    }

    #[test]
    fn the_mixture_has_no_seam_where_its_series_takes_over() {
        for centre in [(-0.5_f64).exp(), 1.0] {
            let (below, above) = (mixture(centre - 1e-9), mixture(centre));
            assert!((below - above).abs() < 1e-8, "{below} {above}");
        }
    }

    #[test]
    fn the_ends_are_defined_and_nonsense_is_no_evidence() {
        let ends = [(1.0, 0.5), (0.0, 1e12), (f64::NAN, 0.5), (-1.0, 0.5), (2.0, 0.5)];
        for (p, expected) in ends {
            assert!((capped_half_power(p, 1e12) - expected).abs() < 1e-9, "p={p}");
        }
        assert!(half_power(0.0).is_infinite() && mixture(0.0).is_infinite());
        assert!((mixture(1.0) - 0.5).abs() < 1e-15);
    }
}
