//! Kolmogorov's distribution: the limit of `√n·D_n`, and the distribution of `D_n` itself for one sample of size n.
//!
//! Limit: `Q(x) = 2·Σ_{k≥1} (−1)^{k−1}·exp(−2k²x²)`, equal to `1 − (√(2π)/x)·Σ_{k≥1} exp(−(2k−1)²π²/(8x²))` by Jacobi's theta
//! identity. The first series alternates and fails near 0, the second fails in the far tail; each is used where its first term
//! carries the result, so that neither tail is ever the difference of two numbers near 1.
//!
//! Finite n, after Simard and L'Ecuyer (2011), "Computing the Two-Sided Kolmogorov-Smirnov Distribution": the ends in closed
//! form (Ruben and Gambino), the upper tail as twice the one-sided probability, the middle by Durbin's matrix (Marsaglia, Tsang
//! and Wang 2003), or for large n by the expansion of Pelz and Good (1976).

use std::f64::consts::PI;

use super::error::{StatisticsError, within};
use super::smirnov::{LARGEST_SAMPLE, ln_factorial_over_power, one_sided};

/// Where the two series of the limit change places. Both need at most four terms there.
const SEAM: f64 = 0.85;

/// `Q(x) = P(K > x)`, 1 for `x ≤ 0`. NaN for NaN.
#[must_use]
pub fn survival(x: f64) -> f64 {
    if x < SEAM { 1.0 - lower_series(x) } else { upper_series(x) }
}

/// `P(K ≤ x)`, 0 for `x ≤ 0`. NaN for NaN.
#[must_use]
pub fn cumulative(x: f64) -> f64 {
    if x < SEAM { lower_series(x) } else { 1.0 - upper_series(x) }
}

/// The `x` with `Q(x) = p`: 0 at p = 1, infinite at p = 0.
///
/// # Errors
/// `Parameter` if `p` is not in 0..=1.
pub fn inverse_survival(p: f64) -> Result<f64, StatisticsError> {
    within("p", p, 0.0, 1.0)?;
    if p <= 0.0 {
        return Ok(f64::INFINITY);
    }
    // Q(20) is below the smallest positive number. Each step halves the interval; after 70 it has no inside left.
    let (mut low, mut high) = (0.0, 20.0);
    for _ in 0..70 {
        let middle = f64::midpoint(low, high);
        let is_left = if p < 0.5 { survival(middle) > p } else { cumulative(middle) < 1.0 - p };
        if is_left {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(f64::midpoint(low, high))
}

fn lower_series(x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    let exponent = -PI * PI / (8.0 * x * x);
    let sum: f64 = (0..6)
        .map(|k| {
            let odd = f64::from(2 * k + 1);
            (odd * odd * exponent).exp()
        })
        .sum();
    (2.0 * PI).sqrt() / x * sum
}

fn upper_series(x: f64) -> f64 {
    let mut sum = 0.0;
    for k in (1..=6).rev() {
        let k = f64::from(k);
        sum = (-2.0 * k * k * x * x).exp() - sum;
    }
    2.0 * sum
}

/// `P(D_n > d)` for the distance between one sample of `n` values and the distribution it comes from.
///
/// # Errors
/// `Parameter` if `n` is 0 or above [`LARGEST_SAMPLE`], or `d` is NaN.
#[expect(clippy::cast_precision_loss, reason = "n is bounded by LARGEST_SAMPLE")]
pub fn finite_survival(n: u64, d: f64) -> Result<f64, StatisticsError> {
    let size = within("sample size", n as f64, 1.0, LARGEST_SAMPLE as f64)?;
    if d.is_nan() {
        return Err(StatisticsError::Parameter { name: "distance", value: d });
    }
    let reach = size * d;
    let square = reach * d;
    let p = if d >= 1.0 {
        0.0
    } else if reach <= 0.5 {
        1.0
    } else if reach <= 1.0 {
        // n!·(2d − 1/n)^n
        1.0 - (ln_factorial_over_power(n) + size * (2.0 * reach - 1.0).ln()).exp()
    } else if reach >= size - 1.0 {
        2.0 * (size * (-d).ln_1p()).exp()
    } else if d >= 0.5 || square >= if n <= 140 { 4.0 } else { 2.2 } {
        // Both sides at once are impossible from ½ on, and negligible in the tail.
        2.0 * one_sided(n, d)?
    } else if n <= 140 || (n <= 100_000 && reach * d.sqrt() <= 1.4) {
        1.0 - durbin_matrix(n, d)
    } else {
        1.0 - pelz_good(size, d)
    };
    Ok(p.clamp(0.0, 1.0))
}

/// `P(D_n < d)` as an entry of the n-th power of Durbin's matrix. With `d = (k−h)/n` the matrix has `m = 2k−1` rows.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "k is at most n·d, which the caller keeps below 100"
)]
fn durbin_matrix(n: u64, d: f64) -> f64 {
    let reach = n as f64 * d;
    let k = reach.ceil() as usize;
    let h = k as f64 - reach;
    let m = 2 * k - 1;
    // 1/j! for j = 0..=m, and the first column (1 − h^j)/j!.
    let mut reciprocals = vec![1.0; m + 1];
    for j in 1..=m {
        reciprocals[j] = reciprocals[j - 1] / j as f64;
    }
    let mut power = 1.0;
    let mut border: Vec<f64> = (1..=m)
        .map(|j| {
            power *= h;
            (1.0 - power) * reciprocals[j]
        })
        .collect();
    let corner = (2.0 * h - 1.0).max(0.0).powf(m as f64);
    border[m - 1] = (1.0 - 2.0 * power + corner) * reciprocals[m];
    let mut base = Scaled { rows: m, cells: vec![0.0; m * m], exponent: 0 };
    for row in 0..m {
        base.cells[row * m] = border[row];
        for column in 1..m.min(row + 2) {
            base.cells[row * m + column] = reciprocals[row + 1 - column];
        }
    }
    for column in 0..m {
        base.cells[(m - 1) * m + column] = border[m - 1 - column];
    }
    let mut product = Scaled { rows: m, cells: vec![0.0; m * m], exponent: 0 };
    for row in 0..m {
        product.cells[row * m + row] = 1.0;
    }
    let mut left = n;
    while left > 0 {
        if left % 2 == 1 {
            product = product.times(&base);
        }
        left /= 2;
        if left > 0 {
            base = base.times(&base);
        }
    }
    let entry = product.cells[(k - 1) * m + k - 1];
    if entry <= 0.0 {
        return 0.0;
    }
    // Times n!/nⁿ, factor by factor so as not to lose digits to a large logarithm.
    let (mut value, mut exponent) = (entry, product.exponent);
    for i in 1..=n {
        value *= i as f64 / n as f64;
        if value < 1e-140 {
            value *= Scaled::UNIT;
            exponent -= 1;
        }
    }
    value * Scaled::UNIT.powi(exponent)
}

/// A square matrix times 2^(256·exponent), so that powers neither overflow nor underflow.
struct Scaled {
    rows: usize,
    cells: Vec<f64>,
    exponent: i32,
}

impl Scaled {
    /// 2²⁵⁶: scaling by it is exact.
    const UNIT: f64 = 1.157_920_892_373_162e77;

    fn times(&self, other: &Self) -> Self {
        let m = self.rows;
        let mut cells = vec![0.0; m * m];
        for (row, target) in cells.chunks_exact_mut(m).enumerate() {
            for (inner, source) in other.cells.chunks_exact(m).enumerate() {
                let factor = self.cells[row * m + inner];
                for (cell, value) in target.iter_mut().zip(source) {
                    *cell += factor * value;
                }
            }
        }
        let mut exponent = self.exponent + other.exponent;
        if cells[(m / 2) * m + m / 2] > Self::UNIT {
            cells.iter_mut().for_each(|cell| *cell /= Self::UNIT);
            exponent += 1;
        }
        Self { rows: m, cells, exponent }
    }
}

/// `P(D_n ≤ d) ≈ K₀(z) + K₁(z)/√n + K₂(z)/n + K₃(z)/n^{3/2}` with `z = √n·d`, for n > 140.
fn pelz_good(n: f64, d: f64) -> f64 {
    let z = n.sqrt() * d;
    let (z2, pi2) = (z * z, PI * PI);
    let (z4, pi4) = (z2 * z2, pi2 * pi2);
    let (z6, pi6) = (z2 * z4, pi2 * pi4);
    // Sums over k ≥ 0 of polynomials in m² = (k+½)²π² and over k ≥ 1 in k²π², weighted with exp(−m²/(2z²)).
    let mut sums = [0.0; 4];
    let (mut second, mut third) = (0.0, 0.0);
    for k in (0..30).rev() {
        let half = f64::from(2 * k + 1);
        let (odd2, weight) = (half * half, (-half * half * pi2 / (8.0 * z2)).exp());
        let (odd4, odd6) = (odd2 * odd2, odd2 * odd2 * odd2);
        sums[0] += weight;
        sums[1] += weight * (pi2 / 4.0 * odd2 - z2);
        sums[2] += weight
            * (6.0 * z6 + 2.0 * z4 + pi2 / 4.0 * (2.0 * z4 - 5.0 * z2) * odd2 + pi4 / 16.0 * (1.0 - 2.0 * z2) * odd4);
        sums[3] += weight
            * (pi6 / 64.0 * (5.0 - 30.0 * z2) * odd6
                + pi4 / 16.0 * (212.0 * z4 - 60.0 * z2) * odd4
                + pi2 / 4.0 * (135.0 * z4 - 96.0 * z6) * odd2
                - 30.0 * z6
                - 90.0 * z4 * z4);
        let whole = f64::from(k + 1);
        let (square, weight) = (whole * whole, (-whole * whole * pi2 / (2.0 * z2)).exp());
        second += weight * square;
        third += weight * square * (3.0 * z2 - pi2 * square);
    }
    let root = (2.0 * PI).sqrt();
    let k0 = root / z * sums[0];
    let k1 = root / (6.0 * z4) * sums[1];
    let k2 = root / (72.0 * z6 * z) * sums[2] - root * pi2 / (36.0 * z2 * z) * second;
    let k3 = root / (6480.0 * z6 * z4) * sums[3] + root * pi2 / (216.0 * z6) * third;
    k0 + k1 / n.sqrt() + k2 / n + k3 / (n * n.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tails_keep_their_digits() {
        assert!((survival(5.0) / 3.857_499_695_927_836e-22 - 1.0).abs() < 1e-12);
        assert!((cumulative(0.05) / 2.423_167_479_157_9e-213 - 1.0).abs() < 1e-9);
        for x in [0.0, 0.05, -1.0] {
            assert!((survival(x) - 1.0).abs() < 1e-15, "x={x}");
        }
        assert!(survival(f64::INFINITY) <= 0.0 && cumulative(f64::INFINITY) >= 1.0);
    }

    #[test]
    fn the_survival_function_falls_everywhere_and_has_no_seam() {
        let mut last = 1.0;
        for step in 0..8000 {
            let x = f64::from(step) * 0.001;
            let p = survival(x);
            assert!(p <= last, "x={x}");
            assert!((p + cumulative(x) - 1.0).abs() < 1e-15);
            last = p;
        }
        assert!((upper_series(SEAM) + lower_series(SEAM) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn the_inverse_undoes_the_survival_function() {
        for p in [1e-300, 1e-10, 0.05, 0.5, 0.9, 0.999_999] {
            let x = inverse_survival(p).unwrap();
            assert!((survival(x) / p - 1.0).abs() < 1e-11, "p={p}");
        }
        assert!(inverse_survival(0.0).unwrap().is_infinite());
        assert!(inverse_survival(1.0).unwrap() < 0.05);
        assert!(inverse_survival(f64::NAN).is_err() && inverse_survival(1.1).is_err());
    }

    #[test]
    fn the_regions_of_the_finite_distribution_meet() {
        for n in [2_u64, 10, 140, 141, 1000, 20_000] {
            let size = f64::from(u32::try_from(n).unwrap());
            let mut last = 1.0;
            for step in 0..=160 {
                let d = f64::from(step) / 160.0 * (4.0 / size.sqrt()).min(1.0);
                let p = finite_survival(n, d).unwrap();
                assert!(p <= last * (1.0 + 1e-7), "n={n} d={d}: {p} > {last}");
                last = p;
            }
        }
    }

    #[test]
    fn the_finite_distribution_has_its_limit() {
        let exact = finite_survival(5_000_000, 1.0 / 5_000_000_f64.sqrt()).unwrap();
        assert!((exact - survival(1.0)).abs() < 5e-4);
        assert!(finite_survival(0, 0.5).is_err() && finite_survival(5, f64::NAN).is_err());
        assert!(finite_survival(u64::MAX, 0.5).is_err());
    }
}
