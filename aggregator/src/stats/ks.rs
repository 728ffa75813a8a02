//! The two-sample Kolmogorov-Smirnov test on raw samples.
//!
//! `D = max_x |F_a(x) − F_b(x)|`, taken at the end of each block of equal values and kept as the whole number `D·n·m`, so that
//! comparisons on the lattice are exact.
//!
//! - [`TwoSample::exact_p`]: ignores ties (conservative with them). Equal sizes: Gnedenko and Korolyuk (1951),
//!   `2·Σ (−1)^{k−1}·C(2n, n−kh)/C(2n, n)`, from ratios that cannot overflow. Otherwise the lattice below without ties.
//! - [`TwoSample::conditional_exact_p`]: exact given the ties (Schröer and Trenkler 1995). The probability that a random path
//!   to (i, j) has touched the boundary obeys `u(i,j) = 1` on it and `u(i,j) = i/(i+j)·u(i−1,j) + j/(i+j)·u(i,j−1)` elsewhere; the
//!   boundary counts only where a block of equal values ends. Sums of positive numbers: the smallest p keeps its digits.
//! - [`TwoSample::plain_p`]: Kolmogorov's limit at `√n_e·D`, `n_e = nm/(n+m)`. Never liberal in practice.
//! - [`TwoSample::stephens_p`] and [`TwoSample::one_sample_p`]: corrections made for one sample, in wide use for two, where they
//!   reject up to 1.4 times too often. For comparison with other software; alerts use the bounds of `binned`.

use super::error::StatisticsError;
use super::kolmogorov;
use super::sample::Sample;

/// The largest lattice an exact probability is computed on, in cells.
pub const LARGEST_LATTICE: u64 = 100_000_000;

/// Two samples, reduced to what the test needs.
#[derive(Clone, Debug, PartialEq)]
pub struct TwoSample {
    n: u64,
    m: u64,
    /// `D·n·m`.
    scaled: u64,
    /// For each number of pooled values whether a block of equal values ends there; index 0 is before the first value.
    block_ends: Vec<bool>,
}

impl TwoSample {
    /// Compares two samples. Infinities are ordered like other values.
    ///
    /// # Errors
    /// `Empty` and `NotANumber` for bad samples.
    pub fn new(a: &[f64], b: &[f64]) -> Result<Self, StatisticsError> {
        let (first, second) = (Sample::ordered("a", a)?, Sample::ordered("b", b)?);
        let (a, b) = (first.sorted(), second.sorted());
        let (n, m) = (a.len() as u64, b.len() as u64);
        let mut block_ends = vec![false; a.len() + b.len() + 1];
        block_ends[0] = true;
        let (mut i, mut j, mut scaled) = (0, 0, 0_u64);
        while i < a.len() || j < b.len() {
            let value = match (a.get(i), b.get(j)) {
                (Some(&left), Some(&right)) => left.min(right),
                (Some(&only), None) | (None, Some(&only)) => only,
                (None, None) => break,
            };
            i += a[i..].iter().take_while(|&&other| other <= value).count();
            j += b[j..].iter().take_while(|&&other| other <= value).count();
            block_ends[i + j] = true;
            scaled = scaled.max((i as u64 * m).abs_diff(j as u64 * n));
        }
        Ok(Self { n, m, scaled, block_ends })
    }

    /// D, 0..=1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "products of sample sizes, rounded once")]
    pub const fn distance(&self) -> f64 {
        self.scaled as f64 / (self.n * self.m) as f64
    }

    /// `n_e = nm/(n+m)`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "sample sizes")]
    pub const fn effective_size(&self) -> f64 {
        let (n, m) = (self.n as f64, self.m as f64);
        n * m / (n + m)
    }

    /// `P(D* ≥ D)` over all orders of the values, as if there were no ties.
    ///
    /// # Errors
    /// `TooLarge` for unequal sizes beyond [`LARGEST_LATTICE`].
    pub fn exact_p(&self) -> Result<f64, StatisticsError> {
        if self.n == self.m { Ok(self.gnedenko_korolyuk()) } else { self.lattice(|_| true) }
    }

    /// `P(D* ≥ D)` over all ways to deal the pooled values, ties included, to two samples of these sizes.
    ///
    /// # Errors
    /// `TooLarge` beyond [`LARGEST_LATTICE`].
    pub fn conditional_exact_p(&self) -> Result<f64, StatisticsError> {
        self.lattice(|pooled| self.block_ends.get(pooled).copied().unwrap_or(true))
    }

    /// `Q(√n_e·D)`.
    #[must_use]
    pub fn plain_p(&self) -> f64 {
        kolmogorov::survival(self.effective_size().sqrt() * self.distance())
    }

    /// `Q((√n_e + 0.12 + 0.11/√n_e)·D)` (Stephens 1974).
    #[must_use]
    pub fn stephens_p(&self) -> f64 {
        let root = self.effective_size().sqrt();
        kolmogorov::survival((root + 0.12 + 0.11 / root) * self.distance())
    }

    /// The one-sample distribution at `n_e` rounded to the nearest whole number (halves to even), None if that is 0.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive whole number")]
    pub fn one_sample_p(&self) -> Option<f64> {
        let size = self.effective_size().round_ties_even() as u64;
        kolmogorov::finite_survival(size, self.distance()).ok()
    }

    #[expect(clippy::cast_precision_loss, reason = "sample sizes")]
    fn gnedenko_korolyuk(&self) -> f64 {
        let n = self.n;
        // D·n, whole because the sizes are equal.
        let h = self.scaled / n;
        if h <= 1 {
            return 1.0;
        }
        let mut sum = 0.0;
        let mut sign = 1.0;
        let mut step = h;
        while step <= n {
            // C(2n, n−step)/C(2n, n) = Π (n−step+i)/(n+i)
            let term: f64 = (1..=step).map(|i| (n - step + i) as f64 / (n + i) as f64).product();
            sum += sign * term;
            if term <= sum * 1e-18 {
                break;
            }
            sign = -sign;
            step += h;
        }
        (2.0 * sum).clamp(0.0, 1.0)
    }

    #[expect(clippy::cast_precision_loss, reason = "sample sizes")]
    fn lattice(&self, counts: impl Fn(usize) -> bool) -> Result<f64, StatisticsError> {
        let (n, m) = (self.n, self.m);
        let cells = (n + 1).saturating_mul(m + 1);
        if cells > LARGEST_LATTICE {
            return Err(StatisticsError::TooLarge { cells, limit: LARGEST_LATTICE });
        }
        if self.scaled == 0 {
            return Ok(1.0);
        }
        let mut row = vec![0.0_f64; self.block_ends.len().min(usize::try_from(m).unwrap_or(usize::MAX) + 1)];
        let mut pooled = 0;
        for i in 0..=n {
            let mut left = 0.0;
            for (cell, j) in row.iter_mut().zip(0..=m) {
                let outside = (i * m).abs_diff(j * n) >= self.scaled && counts(pooled);
                *cell = if outside {
                    1.0
                } else if i + j == 0 {
                    0.0
                } else {
                    let steps = (i + j) as f64;
                    // In row 0 the cell still holds its initial 0 and its weight is 0.
                    i as f64 / steps * *cell + j as f64 / steps * left
                };
                left = *cell;
                pooled += 1;
            }
            pooled -= row.len() - 1;
        }
        Ok(row.last().copied().unwrap_or(1.0).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_are_compared_at_the_end_of_their_block() {
        let pair = TwoSample::new(&[1.0, 2.0], &[1.0, 2.0, 2.0, 2.0]).unwrap();
        assert!((pair.distance() - 0.25).abs() < 1e-15);
        let constant = TwoSample::new(&[1.0; 5], &[1.0; 4]).unwrap();
        assert!(constant.distance() <= 0.0);
        for p in [constant.exact_p().unwrap(), constant.conditional_exact_p().unwrap(), constant.plain_p()] {
            assert!((p - 1.0).abs() < 1e-15);
        }
    }

    /// Counts all ways to deal the pooled values, as a check on the recursion.
    fn by_enumeration(a: &[f64], b: &[f64]) -> f64 {
        let pooled: Vec<f64> = a.iter().chain(b).copied().collect();
        let observed = TwoSample::new(a, b).unwrap().distance();
        let (mut all, mut extreme) = (0.0, 0.0);
        for chosen in 0_u32..1 << pooled.len() {
            if chosen.count_ones() as usize == a.len() {
                let deal = |side: u32| -> Vec<f64> {
                    pooled.iter().enumerate().filter(|(k, _)| chosen >> k & 1 == side).map(|(_, &v)| v).collect()
                };
                all += 1.0;
                if TwoSample::new(&deal(1), &deal(0)).unwrap().distance() >= observed - 1e-12 {
                    extreme += 1.0;
                }
            }
        }
        extreme / all
    }

    #[test]
    fn the_exact_probabilities_are_those_of_counting_every_deal() {
        let (a, b) = ([1.0, 2.0, 2.0, 3.0, 7.0], [2.0, 3.0, 3.0, 4.0, 5.0, 5.0]);
        let pair = TwoSample::new(&a, &b).unwrap();
        assert!((pair.conditional_exact_p().unwrap() - by_enumeration(&a, &b)).abs() < 1e-12);
        for (a, b) in [
            (vec![1.0, 2.5, 4.0, 6.0], vec![3.0, 5.0, 7.0, 8.0]),
            (vec![1.0, 2.5, 4.0, 6.0], vec![3.0, 5.0, 7.0, 8.0, 9.0, 0.5]),
        ] {
            let pair = TwoSample::new(&a, &b).unwrap();
            assert!((pair.exact_p().unwrap() - by_enumeration(&a, &b)).abs() < 1e-12);
            assert!((pair.conditional_exact_p().unwrap() - by_enumeration(&a, &b)).abs() < 1e-12);
        }
    }

    fn shifted(n: u64, h: u64) -> TwoSample {
        TwoSample { n, m: n, scaled: h * n, block_ends: Vec::new() }
    }

    #[test]
    fn stephens_correction_is_liberal_for_two_samples_and_the_plain_limit_is_not() {
        // Exact size at n = 50, α = 0.001: the probability of the smallest D the rule rejects.
        let size = |rule: &dyn Fn(&TwoSample) -> f64| {
            let pair = (1..=50).map(|h| shifted(50, h)).find(|pair| rule(pair) <= 0.001).unwrap();
            pair.exact_p().unwrap()
        };
        assert!((size(&TwoSample::stephens_p) - 0.00131).abs() < 5e-6);
        assert!((size(&TwoSample::plain_p) - 0.00058).abs() < 5e-6);
    }

    #[test]
    fn five_thousand_values_neither_overflow_nor_take_long() {
        let p = shifted(5000, 100).exact_p().unwrap();
        assert!((p / shifted(5000, 100).plain_p() - 1.0).abs() < 0.01);
        assert!(shifted(5000, 5000).exact_p().unwrap() >= 0.0);
        let unequal = TwoSample { n: 1_000_000, m: 1_000_001, scaled: 5, block_ends: Vec::new() };
        assert!(matches!(unequal.exact_p(), Err(StatisticsError::TooLarge { .. })));
    }

    #[test]
    fn nan_and_nothing_are_errors() {
        assert!(TwoSample::new(&[f64::NAN, 1.0], &[1.0]).is_err());
        assert!(TwoSample::new(&[], &[1.0]).is_err());
        assert_eq!(TwoSample::new(&[1.0], &[2.0]).unwrap().one_sample_p(), None);
    }
}
