//! Distances and their tails: traps 5 to 12, 28 and 29.

use driftglass_aggregator::evidence::effect_size;
use driftglass_aggregator::stats::binned::{kolmogorov_smirnov, kuiper};
use driftglass_aggregator::stats::kolmogorov::{cumulative, survival};
use driftglass_aggregator::stats::ks::TwoSample;
use driftglass_aggregator::stats::{StatisticsError, divergence, wasserstein};
use driftglass_protocol::sketch::Axis;

use crate::random::{BINS, Random, number};

#[test]
fn trap_5_inside_a_block_of_equal_values_there_is_no_distance() {
    // The mutant walks both samples value by value and looks after every step.
    let mutant = |a: &[f64], b: &[f64]| {
        let (mut i, mut j, mut distance) = (0, 0, 0.0_f64);
        while i < a.len() && j < b.len() {
            if a[i] <= b[j] {
                i += 1;
            } else {
                j += 1;
            }
            distance = distance.max((number(i) / number(a.len()) - number(j) / number(b.len())).abs());
        }
        distance
    };
    let ours = |a: &[f64], b: &[f64]| TwoSample::new(a, b).unwrap().distance();
    assert!((ours(&[1.0, 2.0], &[1.0, 2.0, 2.0, 2.0]) - 0.25).abs() < 1e-15);
    assert!((mutant(&[1.0, 2.0], &[1.0, 2.0, 2.0, 2.0]) - 0.25).abs() > 0.2);
    let constant = TwoSample::new(&[3.0; 9], &[3.0; 4]).unwrap();
    assert!(constant.distance() <= 0.0 && constant.exact_p().unwrap() >= 1.0);
    assert!(mutant(&[3.0; 9], &[3.0; 4]) >= 1.0);
}

/// Two samples of `n` without ties at a distance of `h/n`.
fn apart(n: u32, h: u32) -> TwoSample {
    let a: Vec<f64> = (0..n).map(f64::from).collect();
    let b: Vec<f64> = (0..n).map(|i| f64::from(i + h) - 0.5).collect();
    TwoSample::new(&a, &b).unwrap()
}

#[test]
fn trap_6_corrections_made_for_one_sample_make_the_test_of_two_too_eager() {
    // Exact size of a rule at n = 50 and α = 0.001: the probability of the smallest distance it rejects.
    let size = |rule: &dyn Fn(&TwoSample) -> f64| {
        let first = (1..=50).map(|h| apart(50, h)).find(|pair| rule(pair) <= 0.001).unwrap();
        first.exact_p().unwrap()
    };
    let bound = |pair: &TwoSample| 2.0 * (-2.0 * pair.effective_size() * pair.distance().powi(2)).exp();
    for (name, ours) in [("limit", size(&TwoSample::plain_p)), ("bound", size(&bound))] {
        assert!(ours <= 0.001, "{name}: {ours}");
    }
    for (name, theirs) in
        [("Stephens", size(&TwoSample::stephens_p)), ("rounded n_e", size(&|pair| pair.one_sample_p().unwrap()))]
    {
        assert!(theirs > 0.001, "{name}: {theirs}");
    }
}

#[test]
fn trap_7_the_alternating_series_fails_near_zero() {
    let mutant = |x: f64| {
        let mut sum = 0.0;
        for k in 1..=4 {
            let k = f64::from(k);
            sum = 2.0 * (-2.0 * k * k * x * x).exp() - sum;
        }
        -sum
    };
    let good = |tail: &dyn Fn(f64) -> f64| {
        let ends = [0.0, 0.05].iter().all(|&x| (tail(x) - 1.0).abs() < 1e-12);
        let grid: Vec<f64> = (0..400).map(|step| tail(f64::from(step) * 0.01)).collect();
        ends && grid.windows(2).all(|pair| pair[1] <= pair[0]) && grid.iter().all(|p| (0.0..=1.0).contains(p))
    };
    assert!(good(&survival));
    assert!(!good(&mutant));
}

#[test]
fn trap_8_one_minus_the_distribution_has_no_tail() {
    assert!((survival(5.0) / 3.857_499_695_927_836e-22 - 1.0).abs() < 1e-12);
    assert!(1.0 - cumulative(5.0) <= 0.0, "the mutant");
}

#[test]
fn trap_9_a_nan_must_not_be_sorted_into_the_sample() {
    let (clean, other) = ([1.0, 2.0, 3.0, 4.0], [1.5, 2.5, 3.5, 4.5]);
    let dirty = [1.0, f64::NAN, 2.0, 3.0, 4.0];
    let named = TwoSample::new(&dirty, &other);
    assert_eq!(named.unwrap_err(), StatisticsError::NotANumber { what: "a", index: 1 });
    // The mutant sorts with NaN as the largest value and goes on.
    let mutant = |a: &[f64], b: &[f64]| {
        let share = |sample: &[f64], x: f64| {
            number(sample.iter().filter(|v| v.total_cmp(&x).is_le()).count()) / number(sample.len())
        };
        b.iter().chain(a).map(|&x| (share(a, x) - share(b, x)).abs()).fold(0.0, f64::max)
    };
    let (with, without) = (mutant(&dirty, &other), mutant(&clean, &other));
    assert!((with - without).abs() > 0.01, "silently another distance: {with} and {without}");
}

#[test]
fn trap_10_psi_keeps_empty_bins_floors_proportions_and_has_every_edge_once() {
    let (reference, current) = ([20_u64, 0], [10_u64, 10]);
    let expected = 0.5 * 2_f64.ln() + (0.5 - 1e-4) * (0.5_f64 / 1e-4).ln();
    assert!((divergence::psi(&reference, &current, 1e-4).unwrap() - expected).abs() < 1e-12);

    let term = |r: f64, c: f64| (c - r) * (c / r).ln();
    let pairs = || {
        reference
            .iter()
            .zip(&current)
            .map(|(&r, &c)| (number(usize::try_from(r).unwrap()), number(usize::try_from(c).unwrap())))
    };
    let dropped: f64 = pairs().filter(|&(r, c)| r > 0.0 && c > 0.0).map(|(r, c)| term(r / 20.0, c / 20.0)).sum();
    let floored_counts: f64 = pairs().map(|(r, c)| term(r.max(1e-4) / 20.0, c.max(1e-4) / 20.0)).sum();
    assert!((dropped - expected).abs() > 1.0, "{dropped}");
    assert!((floored_counts - expected).abs() > 1.0, "{floored_counts}");

    let edges = divergence::quantile_edges(&[5.0; 20], 10).unwrap();
    assert_eq!(edges.len(), 1, "a constant reference has one edge and two bins");
    let repeated = vec![5.0; 9];
    let counts = divergence::count_by_edges(&[5.0; 20], &repeated).unwrap();
    assert_eq!(counts.iter().filter(|&&count| count == 0).count(), 9, "the mutant has nine bins nothing can fall into");
}

#[test]
fn trap_11_psi_is_no_test() {
    let (mut random, mut ours, mut theirs) = (Random(21), 0, 0);
    for _ in 0..300 {
        let mut draw = || {
            let mut counts = [0_u64; BINS];
            (0..100).for_each(|_| counts[crate::random::bin(random.normal())] += 1);
            counts
        };
        let psi = effect_size::measure(Axis::linear(-6, 6), &draw(), 100.0, &draw(), 100.0).unwrap().psi;
        theirs += usize::from(psi.raw > 0.1);
        ours += usize::from(psi.beyond_chance() > 0.25);
    }
    assert!(theirs > 225, "{theirs} of 300 pairs of equal samples above 0.1");
    assert!(ours <= 15, "{ours} of 300");
}

#[test]
fn trap_12_where_the_circle_is_cut_moves_d_and_not_v() {
    let mut random = Random(8);
    let mut draw = |centre: f64| {
        let mut counts = [0_u32; BINS];
        (0..300).for_each(|_| counts[crate::random::bin(centre + 0.5 * random.normal())] += 1);
        counts
    };
    let (mut window, mut baseline) = (draw(0.2), draw(-0.2));
    let before = (kuiper(&window, &baseline, 2).unwrap(), kolmogorov_smirnov(&window, &baseline, 2).unwrap());
    window.rotate_left(128);
    baseline.rotate_left(128);
    let after = (kuiper(&window, &baseline, 2).unwrap(), kolmogorov_smirnov(&window, &baseline, 2).unwrap());
    assert!((before.0 - after.0).abs() < 1e-12);
    assert!((before.1 - after.1).abs() > 0.02, "{before:?} {after:?}");
}

#[test]
fn trap_28_binomials_of_large_samples_overflow() {
    // The mutant computes C(2n, n−h)/C(2n, n) from binomials in floating point.
    let mutant = |n: u32, h: u32| {
        let choose = |k: u32| (1..=k).fold(1.0, |product, i| product * f64::from(2 * n + 1 - i) / f64::from(i));
        2.0 * choose(n - h) / choose(n)
    };
    assert!((mutant(100, 20) / apart(100, 20).exact_p().unwrap() - 1.0).abs() < 1e-3, "right while it fits");
    for (n, h) in [(1000, 60), (5000, 150)] {
        let exact = apart(n, h).exact_p().unwrap();
        assert!((exact / apart(n, h).plain_p() - 1.0).abs() < 0.05, "n={n}: {exact}");
        assert!(!mutant(n, h).is_finite(), "n={n}: {}", mutant(n, h));
    }
}

#[test]
fn trap_29_samples_of_unequal_size_cannot_be_zipped() {
    let (a, b) = ([1.5], [3.4, 1.8, 1.9, 1.9, 0.3]);
    assert!((wasserstein::samples(&a, &b).unwrap().wasserstein - 0.84).abs() < 1e-12);
    let mut sorted = b;
    sorted.sort_by(f64::total_cmp);
    let zipped: f64 = a.iter().zip(sorted).map(|(left, right)| (left - right).abs()).sum();
    assert!((zipped - 0.84).abs() > 0.1, "{zipped}");
}
