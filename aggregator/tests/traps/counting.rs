//! Counting what arrives: traps 19 and 22 to 24.

use driftglass_aggregator::stats::binned::{Comparison, baseline_margin};
use driftglass_protocol::limit::HISTOGRAM_BYTES;
use driftglass_protocol::session::chain::{Verdict, judge};
use driftglass_protocol::sketch::{EncodedHistogram, Histogram};
use driftglass_protocol::wire::{Mark, RecordId};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::random::{BINS, Random};

/// A day of 300 independent values around `mean`, as expected counts in millionths.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "shares")]
fn day(mean: f64) -> [u64; BINS] {
    let normal = Normal::new(mean, 1.0).unwrap();
    let below = |edge: usize| normal.cdf(edge as f64 / 256.0 * 12.0 - 6.0);
    std::array::from_fn(|bin| ((below(bin + 1) - below(bin)) * 1e6).round() as u64)
}

#[test]
fn trap_19_a_baseline_that_learns_from_the_days_under_test_never_sees_a_slow_fault() {
    let drift = |day: i32| 0.01 * f64::from(day.max(0));
    // First day with p at most 5 % against the sum of 14 earlier days.
    let detected = |newest_reference: &dyn Fn(i32) -> i32| {
        (1..=120).find(|&today| {
            let mut baseline = [0_u64; BINS];
            for back in 0..14 {
                let earlier = day(drift(newest_reference(today) - back));
                baseline.iter_mut().zip(earlier).for_each(|(sum, count)| *sum += count);
            }
            let comparison = Comparison {
                window_design_effect: 1e6 / 300.0,
                baseline_design_effect: 1e6 / 300.0,
                margin: baseline_margin(14.0 * 300.0, 0.05).unwrap().max(0.05),
                tolerance: 0,
                circular: false,
            };
            comparison.test(&day(drift(today)), &baseline).unwrap().p <= 0.05
        })
    };
    let frozen = detected(&|_| 0);
    let lagged = detected(&|today| today - 30);
    let rolling = detected(&|today| today - 1);
    assert!(frozen.is_some_and(|day| day <= 60), "{frozen:?}");
    assert!(lagged.is_some_and(|day| day <= 60), "{lagged:?}");
    assert_eq!(rolling, None, "the mutant");
}

#[test]
fn trap_22_merging_in_any_order_gives_identical_bytes() {
    let mut random = Random(71);
    let windows: Vec<Vec<f64>> =
        (0..40).map(|_| (0..60).map(|_| random.uniform() * 10.0_f64.powf(6.0 * random.uniform())).collect()).collect();
    let mut orders: Vec<Vec<usize>> = (0..3).map(|_| (0..windows.len()).collect()).collect();
    for order in &mut orders {
        for i in (1..order.len()).rev() {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "below 40"
            )]
            order.swap(i, (random.uniform() * (i as f64 + 1.0)) as usize);
        }
    }
    let ours = |order: &[usize]| {
        let mut sum = Histogram::new();
        for &window in order {
            let mut part = Histogram::new();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the bins")]
            windows[window].iter().for_each(|value| part.add((value.log2() * 12.0).clamp(0.0, 255.0) as u8));
            let mut bytes = [0; HISTOGRAM_BYTES];
            let length = part.encode(&mut bytes);
            sum.merge(EncodedHistogram::parse(&bytes[..length]).unwrap());
        }
        let mut bytes = [0; HISTOGRAM_BYTES];
        let length = sum.encode(&mut bytes);
        bytes[..length].to_vec()
    };
    // The mutant keeps sums and sums of squares as floating point numbers.
    let mutant = |order: &[usize]| {
        let (mut sum, mut squares) = (0.0_f64, 0.0_f64);
        for value in order.iter().flat_map(|&window| &windows[window]) {
            sum += value;
            squares += value * value;
        }
        [sum.to_bits(), squares.to_bits()]
    };
    assert!(orders.windows(2).all(|pair| ours(&pair[0]) == ours(&pair[1])));
    assert!(orders.windows(2).any(|pair| mutant(&pair[0]) != mutant(&pair[1])));
}

#[test]
fn trap_23_a_record_delivered_twice_counts_once() {
    let nothing = Mark { epoch: 0, sequence: 0 };
    let record = |sequence| RecordId { epoch: 1, first: sequence, last: sequence };
    // 1, 2, 2, 1, 3, 3: as a link that loses acknowledgements delivers.
    let (mut mark, mut ours, mut theirs) = (nothing, Histogram::new(), Histogram::new());
    for sequence in [1, 2, 2, 1, 3, 3] {
        let id = record(sequence);
        theirs.add(7);
        if judge(mark, id, nothing) == Verdict::Accept {
            mark = id.mark();
            ours.add(7);
        }
    }
    assert_eq!((ours.total(), theirs.total()), (3, 6));
}

#[test]
fn trap_24_seventy_thousand_equal_frames_are_seventy_thousand() {
    let (mut ours, mut mutant) = (Histogram::new(), [0_u16; BINS]);
    for _ in 0..70_000 {
        ours.add(9);
        mutant[9] = mutant[9].wrapping_add(1);
    }
    assert_eq!(ours.counts()[9], 70_000);
    assert_eq!(mutant[9], 4_464);
}
