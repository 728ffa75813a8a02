//! Numbers for people, read off a histogram.
//!
//! A value is known to its bin only: means and deviations take the middle of the bin, quantiles assume that values are spread evenly
//! within it (linear interpolation), extremes are the outer edges of the outermost occupied bins.

use driftglass_protocol::limit::BINS;
use driftglass_protocol::sketch::{Axis, Histogram};
use serde::Serialize;

/// Statistics of one feature. Absent where nothing was counted; around a circle only count, mean and deviation exist.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Readout {
    /// Values counted.
    pub count: u64,
    /// Mean; around a circle the mean direction.
    pub mean: Option<f64>,
    /// Standard deviation; around a circle √(−2 ln R) (Mardia & Jupp 2000, §2.3.1).
    pub std: Option<f64>,
    /// Lower edge of the lowest occupied bin.
    pub min: Option<f64>,
    /// First quartile.
    pub p25: Option<f64>,
    /// Median.
    pub p50: Option<f64>,
    /// Third quartile.
    pub p75: Option<f64>,
    /// Upper edge of the highest occupied bin.
    pub max: Option<f64>,
    /// The counts themselves.
    pub histogram: Bins,
}

/// A histogram: `counts[i]` values lie between `edges[i]` and `edges[i + 1]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bins {
    /// One more than there are counts, ascending.
    pub edges: Vec<f64>,
    /// Values per bin.
    pub counts: Vec<u32>,
}

/// Reads a histogram.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of frames stay far below 2⁵³")]
pub fn readout(axis: Axis, histogram: &Histogram) -> Readout {
    let counts = histogram.counts();
    let count = histogram.total();
    let bins = Bins { edges: (0..=BINS).map(|bin| axis.edge(bin)).collect(), counts: counts.to_vec() };
    let mut read = Readout {
        count,
        mean: None,
        std: None,
        min: None,
        p25: None,
        p50: None,
        p75: None,
        max: None,
        histogram: bins,
    };
    if count == 0 {
        return read;
    }
    let total = count as f64;
    let average = |value: &dyn Fn(f64) -> f64| -> f64 {
        let occupied = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        occupied.map(|(bin, &count)| f64::from(count) * value(axis.midpoint(bin))).sum::<f64>() / total
    };
    if axis.is_circular() {
        let period = axis.edge(BINS);
        let radians = std::f64::consts::TAU / period;
        let (sine, cosine) = (average(&|x| (x * radians).sin()), average(&|x| (x * radians).cos()));
        let length = sine.hypot(cosine).min(1.0);
        // Directions that cancel out have no mean.
        if length > 1e-9 {
            read.mean = Some((sine.atan2(cosine) / radians).rem_euclid(period));
            read.std = Some((-2.0 * length.ln()).max(0.0).sqrt() / radians);
        }
        return read;
    }
    let mean = average(&|x| x);
    read.mean = Some(mean);
    read.std = Some(average(&|x| (x - mean).powi(2)).sqrt());
    read.min = counts.iter().position(|&count| count > 0).map(|bin| axis.edge(bin));
    read.max = counts.iter().rposition(|&count| count > 0).map(|bin| axis.edge(bin + 1));
    read.p25 = quantile(axis, counts, 0.25 * total);
    read.p50 = quantile(axis, counts, 0.5 * total);
    read.p75 = quantile(axis, counts, 0.75 * total);
    read
}

/// The value that `rank` values lie below.
fn quantile(axis: Axis, counts: &[u32; BINS], rank: f64) -> Option<f64> {
    let mut below = 0.0;
    for (bin, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = f64::from(count);
        if below + count >= rank {
            let (low, high) = (axis.edge(bin), axis.edge(bin + 1));
            return Some(low + (high - low) * ((rank - below) / count).clamp(0.0, 1.0));
        }
        below += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::unit::Fixed;
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u8]) -> Histogram {
        let mut histogram = Histogram::new();
        values.iter().for_each(|&bin| histogram.add(bin));
        histogram
    }

    #[test]
    fn a_known_histogram_reads_as_computed_by_hand() {
        let read = readout(Axis::linear(0, 256), &of(&[10, 10, 20, 30]));
        assert_eq!((read.count, read.min, read.max), (4, Some(10.0), Some(31.0)));
        assert_eq!(read.mean, Some(18.0), "(10.5 + 10.5 + 20.5 + 30.5) / 4");
        assert_eq!(read.std, Some(68.75_f64.sqrt()));
        assert_eq!((read.p25, read.p50, read.p75), (Some(10.5), Some(11.0), Some(21.0)));
        assert_eq!((read.histogram.edges.len(), read.histogram.counts.len()), (257, 256));
    }

    #[test]
    fn nothing_counted_has_no_statistics() {
        let read = readout(Axis::SquareRoot, &Histogram::new());
        assert_eq!((read.count, read.mean, read.p50, read.max), (0, None, None, None));
    }

    #[test]
    fn around_a_circle_the_mean_of_the_two_ends_is_between_them_and_there_are_no_quantiles() {
        let axis = Axis::Circular { period: Fixed::from_int(360) };
        let read = readout(axis, &of(&[0, 255]));
        let mean = read.mean.expect("a mean");
        assert!(!(1e-6..=360.0 - 1e-6).contains(&mean), "{mean} is not at the seam");
        assert!(read.std.is_some_and(|std| std < 2.0));
        assert_eq!((read.min, read.p50), (None, None));
        assert_eq!(readout(axis, &of(&[0, 128])).mean, None, "opposite directions have no mean");
    }

    proptest! {
        #[test]
        fn quantiles_are_ordered_within_the_extremes(values in prop::collection::vec(any::<u8>(), 1..200)) {
            let read = readout(Axis::linear(-12, 4), &of(&values));
            let order = [read.min, read.p25, read.p50, read.p75, read.max].map(|value| value.expect("counted"));
            prop_assert!(order.is_sorted(), "{order:?}");
            prop_assert!(read.mean.is_some_and(|mean| order[0] <= mean && mean <= order[4]));
        }
    }
}
