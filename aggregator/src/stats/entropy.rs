//! Shannon's entropy: how evenly a distribution is spread. `H = −Σ p·ln p` with `0·ln 0 = 0`.

use super::divergence::normalised;
use super::error::StatisticsError;

/// Entropy of one distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entropy {
    /// In nats, at least 0.
    pub nats: f64,
    /// In bits, at least 0.
    pub bits: f64,
    /// As a share of the largest possible, `H/ln K` for K classes: 0..=1, and 0 for a single class.
    pub normalised: f64,
}

/// The entropy of weights, which are normalised first.
///
/// # Errors
/// `Empty` without weights or if they sum to 0, `NotANumber`, `Infinite` and `Negative` for bad ones.
#[expect(clippy::cast_precision_loss, reason = "a number of classes")]
pub fn shannon(weights: &[f64]) -> Result<Entropy, StatisticsError> {
    let p = normalised("weights", weights)?;
    let nats = p.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum::<f64>().max(0.0);
    let most = (p.len() as f64).ln();
    let normalised = if most > 0.0 { (nats / most).min(1.0) } else { 0.0 };
    Ok(Entropy { nats, bits: nats / std::f64::consts::LN_2, normalised })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_odds_are_one_bit_and_certainty_is_none() {
        let even = shannon(&[2.0, 2.0]).unwrap();
        assert!((even.bits - 1.0).abs() < 1e-15 && (even.normalised - 1.0).abs() < 1e-15);
        let certain = shannon(&[0.0, 7.0, 0.0]).unwrap();
        assert!(certain.nats <= 0.0 && certain.normalised <= 0.0);
        assert!(shannon(&[3.0]).unwrap().normalised <= 0.0);
        assert!(shannon(&[1.1, -0.1]).is_err() && shannon(&[]).is_err() && shannon(&[0.0]).is_err());
    }
}
