//! The standard normal deviate of a p-value, and of a chi-square sum.
//!
//! Bets are placed on a normal scale: `e = exp(λz − λ²/2)` has mean 1 for a standard normal `z`, and at most 1 for every `z` that
//! is stochastically smaller, such as that of a p-value which is super-uniform. Both functions are approximations used millions
//! of times per window; the tests hold them against statrs.

/// The deviate of a probability of 1, and the least there is.
pub(super) const NOTHING: f64 = -8.0;

/// `z` with `P(Z > z) = p` for a standard normal `Z` (Acklam's rational approximation, relative error below 1.2e-9).
///
/// −8 for `p ≥ 1` and for what is not a probability, at most 37.
#[must_use]
pub fn deviate(p: f64) -> f64 {
    const A: [f64; 6] = [
        -39.696_830_286_653_76,
        220.946_098_424_520_5,
        -275.928_510_446_968_7,
        138.357_751_867_269,
        -30.664_798_066_147_16,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -54.476_098_798_224_06,
        161.585_836_858_040_9,
        -155.698_979_859_886_6,
        66.801_311_887_719_72,
        -13.280_681_552_885_72,
    ];
    const C: [f64; 6] = [
        -0.007_784_894_002_430_293,
        -0.322_396_458_041_136_5,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] =
        [0.007_784_695_709_041_462, 0.322_467_129_070_039_8, 2.445_134_137_142_996, 3.754_408_661_907_416];
    const TAIL: f64 = 0.024_25;

    if p.is_nan() || p >= 1.0 {
        return NOTHING;
    }
    let p = p.max(1e-299);
    let polynomial = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = |p: f64| {
        let r = (-2.0 * p.ln()).sqrt();
        -polynomial(&C, r) / (polynomial(&D, r) * r + 1.0)
    };
    let z = if p < TAIL {
        tail(p)
    } else if p > 1.0 - TAIL {
        -tail(1.0 - p)
    } else {
        let r = 0.5 - p;
        polynomial(&A, r * r) * r / (polynomial(&B, r * r) * r * r + 1.0)
    };
    z.clamp(NOTHING, 37.0)
}

/// The standard normal deviate of a chi-square sum with `freedom` degrees of freedom (Wilson and Hilferty 1931).
#[must_use]
pub fn chi_square_deviate(sum: f64, freedom: f64) -> f64 {
    let spread = 2.0 / (9.0 * freedom);
    (((sum / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()).clamp(NOTHING, 37.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::{ChiSquared, ContinuousCDF, Normal};

    #[test]
    fn the_deviate_of_a_probability_is_that_of_the_library() {
        let normal = Normal::standard();
        for exponent in 0..300 {
            let p = 0.999_f64 * 0.95_f64.powi(exponent);
            assert!((normal.sf(deviate(p)) / p - 1.0).abs() < 1e-6, "{p}: {}", deviate(p));
        }
        for (p, z) in [(1.0, -8.0), (2.0, -8.0), (f64::NAN, -8.0)] {
            assert!((deviate(p) - z).abs() < 1e-12, "{p}");
        }
        assert!((deviate(0.5)).abs() < 1e-9 && deviate(0.0) > 36.0 && deviate(0.0) <= 37.0);
    }

    #[test]
    fn the_deviate_of_a_sum_of_squares_is_close_in_the_tail_that_matters() {
        for freedom in [2.0, 5.0, 12.0, 21.0] {
            let chi = ChiSquared::new(freedom).expect("freedom");
            for p in [0.2, 0.01, 1e-3, 1e-5] {
                let z = chi_square_deviate(chi.inverse_cdf(1.0 - p), freedom);
                assert!((z - deviate(p)).abs() < 0.2, "{freedom} {p}: {z} for {}", deviate(p));
            }
        }
    }
}
