//! Many cameras, all day: traps 13 to 18 and 21.

use driftglass_aggregator::evidence::calibrator::{half_power, square_root_adjuster};
use driftglass_aggregator::evidence::difference_in_differences::difference_in_differences;
use driftglass_aggregator::evidence::fdr::{benjamini_hochberg, benjamini_hochberg_of};
use driftglass_aggregator::evidence::process::{EvidenceProcess, Supremum, device_evidence};
use driftglass_aggregator::stats::binned::{Comparison, kolmogorov_smirnov_tail};

use crate::random::{BINS, Random, histogram, number};

#[test]
fn trap_13_adjusted_p_values_are_ordered_and_at_most_one() {
    let mutant = |p: &[f64]| -> Vec<f64> {
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|&left, &right| p[left].total_cmp(&p[right]));
        let mut adjusted = vec![0.0; p.len()];
        for (rank, &index) in order.iter().enumerate() {
            adjusted[index] = p[index] * number(p.len()) / number(rank + 1);
        }
        adjusted
    };
    let good = |p: &[f64], adjusted: &[f64]| {
        let bounded = p.iter().zip(adjusted).all(|(&p, &value)| value <= 1.0 && value >= p * (1.0 - 1e-12));
        bounded && (0..p.len()).all(|i| (0..p.len()).all(|j| p[i] > p[j] || adjusted[i] <= adjusted[j]))
    };
    for p in [vec![0.04, 0.03, 0.02, 0.01], vec![0.9, 0.8, 0.011, 0.01], vec![0.7, 0.6, 0.5]] {
        assert!(good(&p, &benjamini_hochberg(&p).unwrap()), "{p:?}");
    }
    let p = [0.9, 0.8, 0.011, 0.01];
    assert!(!good(&p, &mutant(&p)), "{:?}", mutant(&p));
}

#[test]
fn trap_14_silence_of_nine_devices_in_ten_must_not_lower_the_bar() {
    let heard = [0.008; 10];
    assert_eq!(benjamini_hochberg_of(100, &heard, 0.05).unwrap().count, 0);
    let mutant = benjamini_hochberg_of(heard.len(), &heard, 0.05).unwrap().count;
    assert_eq!(mutant, 10, "counting only those heard from this minute");
}

#[test]
fn trap_15_a_false_discovery_rate_per_minute_is_none_per_day() {
    let (days, devices, windows, q) = (120, 20, 96_u32, 0.1);
    let mut random = Random(31);
    let (mut ours, mut theirs) = (0, 0);
    for _ in 0..days {
        let mut processes: Vec<EvidenceProcess> =
            (0..devices).map(|_| EvidenceProcess::new(windows).unwrap()).collect();
        let mut any_minute = false;
        for at in 0..u64::from(windows) {
            let p: Vec<f64> = (0..devices).map(|_| random.uniform()).collect();
            any_minute |= benjamini_hochberg_of(devices, &p, q).unwrap().count > 0;
            for (process, &p) in processes.iter_mut().zip(&p) {
                process.observe(p, at);
            }
        }
        let anytime: Vec<f64> = processes.iter().map(|process| process.supremum().anytime_p()).collect();
        ours += usize::from(benjamini_hochberg_of(devices, &anytime, q).unwrap().count > 0);
        theirs += usize::from(any_minute);
    }
    let (ours, theirs) = (number(ours) / number(days), number(theirs) / number(days));
    // 120 days at 10 % have a standard error of 2.7 %.
    assert!(ours <= q + 0.055, "{ours}");
    assert!(theirs > 0.95, "{theirs}");
}

/// Final and highest evidence of one epoch of p-values.
fn epoch(p: impl ExactSizeIterator<Item = f64>) -> (f64, Supremum) {
    let mut process = EvidenceProcess::new(u32::try_from(p.len()).unwrap()).unwrap();
    let mut last = 1.0;
    for (at, p) in p.enumerate() {
        last = process.observe(p, at as u64);
    }
    (last, process.supremum())
}

#[test]
fn trap_16_the_running_maximum_is_no_e_value_until_it_is_adjusted() {
    let (mut random, epochs) = (Random(41), 3000_u32);
    let (mut maximum, mut adjusted, mut small) = (0.0, 0.0, 0);
    for _ in 0..epochs {
        let (_, supremum) = epoch((0..100).map(|_| random.uniform()));
        maximum += supremum.value() / f64::from(epochs);
        adjusted += square_root_adjuster(supremum.value()) / f64::from(epochs);
        small += usize::from(supremum.anytime_p() <= 0.1);
    }
    assert!(adjusted <= 1.0, "{adjusted}");
    assert!(number(small) / f64::from(epochs) <= 0.1 + 0.012, "1/sup M is a p-value: {small}");
    assert!(maximum > 1.2, "the mutant expects more than 1 where nothing changed: {maximum}");
}

#[test]
fn trap_17_certainty_must_not_stay_for_ever_or_become_nan() {
    let p = || std::iter::repeat_n(0.0, 30).chain(std::iter::repeat_n(1.0, 2000)).collect::<Vec<f64>>();
    let (last, supremum) = epoch(p().into_iter());
    assert!(last.is_finite() && last < 1.0 && supremum.value().is_finite() && supremum.anytime_p() > 0.0);
    // The mutant has no caps: infinite once, infinite for ever, and the mean with a silent feature's 0·∞ is none.
    let mut mutant = 0.0;
    for p in p() {
        mutant = (mutant + 1.0 / 2030.0) * half_power(p);
    }
    assert!(!f64::is_finite(mutant), "{mutant}");
    assert!((0.0 * mutant).is_nan());
    assert!(device_evidence([last, 0.0]).is_finite());
}

#[test]
fn trap_18_starting_afresh_within_an_epoch_spends_the_capital_twice() {
    let (mut random, epochs, windows, parts) = (Random(51), 1000, 240, 24);
    let (mut ours, mut theirs) = (0, 0);
    for _ in 0..epochs {
        let p: Vec<f64> = (0..windows).map(|_| random.uniform()).collect();
        ours += usize::from(epoch(p.iter().copied()).1.value() >= 20.0);
        // The mutant takes a fresh process with capital 1 whenever a baseline is updated: every ten windows.
        let fresh = p.chunks(windows / parts).map(|chunk| epoch(chunk.iter().copied()).1.value());
        theirs += usize::from(fresh.fold(1.0, f64::max) >= 20.0);
    }
    let (ours, theirs) = (number(ours) / number(epochs), number(theirs) / number(epochs));
    // Ville: at most 1/20; 1000 epochs have a standard error of 0.7 %.
    assert!(ours <= 0.05 + 0.014, "{ours}");
    assert!(theirs > 0.1, "{theirs}");
}

#[test]
fn trap_21_weather_over_a_whole_site_is_no_fault_of_any_camera() {
    let (cameras, frames) = (12, 400);
    let mut random = Random(61);
    let mut windows = |shift: f64, faulty: Option<usize>| -> Vec<[u32; BINS]> {
        (0..cameras)
            .map(|camera| {
                let own = if faulty == Some(camera) { 1.5 } else { 0.0 };
                let values: Vec<f64> = (0..frames).map(|_| shift + own + random.normal()).collect();
                histogram(&values)
            })
            .collect()
    };
    let baselines: Vec<[u32; BINS]> =
        windows(0.0, None).into_iter().map(|counts| counts.map(|count| count * 10)).collect();
    let alerts = |windows: &[[u32; BINS]], peers: bool| -> Vec<usize> {
        let residual = difference_in_differences(windows, &baselines).unwrap();
        let p: Vec<f64> = windows
            .iter()
            .zip(&baselines)
            .zip(residual)
            .map(|((window, baseline), residual)| {
                let rule = Comparison {
                    window_design_effect: 1.0,
                    baseline_design_effect: 10.0,
                    margin: 0.1,
                    tolerance: 0,
                    circular: false,
                };
                let own = rule.test(window, baseline).unwrap();
                let against = kolmogorov_smirnov_tail(residual, 0.2, own.effective_size / 2.0);
                if peers { own.p.max(against) } else { own.p }
            })
            .collect();
        let found = benjamini_hochberg_of(cameras, &p, 0.05).unwrap().rejected;
        found.into_iter().enumerate().filter(|&(_, rejected)| rejected).map(|(camera, _)| camera).collect()
    };
    let fog = windows(1.0, None);
    assert_eq!(alerts(&fog, true), Vec::<usize>::new());
    assert_eq!(alerts(&fog, false).len(), cameras, "the mutant, without peers, alerts every camera");
    let fog_and_fault = windows(1.0, Some(5));
    assert_eq!(alerts(&fog_and_fault, true), [5], "and a fault in the fog is still found");
}
