//! Prints how often the Kolmogorov-Smirnov test on the service's histograms rejects, beside the exact test on the same values.
//!
//! Each row is many pairs of samples of `n` normal values: without a difference (at most α of them may be rejected) and with one of
//! 2.4·√(2/n) standard deviations, about the size at which the exact test finds half. `benches/ks.py` prints the same rows for other
//! sketches.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use driftglass_aggregator::stats::binned::{effective_size, grid_tail, kolmogorov_smirnov};
use driftglass_aggregator::stats::ks::TwoSample;
use driftglass_protocol::limit::BINS;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

const ALPHA: f64 = 0.05;
/// Standard deviation in bins: eight and a half of them on the axis.
const SPREAD: f64 = 30.0;
/// Values of a sample and pairs of them.
const ROWS: [(u32, u32); 6] =
    [(100, 4000), (1000, 4000), (10_000, 1000), (100_000, 300), (1_000_000, 60), (10_000_000, 12)];
/// The exact distribution is computed up to here; beyond, its limit differs by less than the table can show.
const EXACT_TO: u32 = 1000;

struct Pair {
    exact: bool,
    binned: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{:<28} {:>10} {:>6} {:>12} {:>8}", "test", "n", "pairs", "false alarms", "power");
    for (n, pairs) in ROWS {
        let mut random = ChaCha8Rng::seed_from_u64(u64::from(n));
        let (mut alarms, mut found) = ([0_u32; 2], [0_u32; 2]);
        let shift = 2.4 * (2.0 / f64::from(n)).sqrt();
        for _ in 0..pairs {
            for (counts, shift) in [(&mut alarms, 0.0), (&mut found, shift)] {
                let Pair { exact, binned } = pair(&mut random, n, shift)?;
                counts[0] += u32::from(exact);
                counts[1] += u32::from(binned);
            }
        }
        for (index, test) in ["exact KS", "driftglass, 256 bins"].into_iter().enumerate() {
            let share = |count: u32| f64::from(count) / f64::from(pairs);
            println!("{test:<28} {n:>10} {pairs:>6} {:>12.3} {:>8.3}", share(alarms[index]), share(found[index]));
        }
    }
    Ok(())
}

fn pair(random: &mut ChaCha8Rng, n: u32, shift: f64) -> Result<Pair, Box<dyn std::error::Error>> {
    let mut sample =
        |shift: f64| -> Vec<f64> { (0..n).map(|_| shift + random.sample::<f64, _>(StandardNormal)).collect() };
    let (a, b) = (sample(0.0), sample(shift));
    let size = effective_size(f64::from(n), 1.0, f64::from(n), 1.0)?;
    let (a_counts, b_counts) = (counted(&a), counted(&b));
    let distance = kolmogorov_smirnov(&a_counts, &b_counts, 0)?;
    let shares = b_counts.map(|count| f64::from(count) / f64::from(n));
    let binned = grid_tail(distance, 0.0, size, shares) <= ALPHA;
    let test = TwoSample::new(&a, &b)?;
    let p = if n <= EXACT_TO { test.exact_p()? } else { test.plain_p() };
    Ok(Pair { exact: p <= ALPHA, binned })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the bins")]
fn counted(values: &[f64]) -> [u32; BINS] {
    let mut counts = [0; BINS];
    for value in values {
        counts[(128.0 + SPREAD * value).clamp(0.0, 255.0) as usize] += 1;
    }
    counts
}
