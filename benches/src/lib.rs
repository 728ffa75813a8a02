//! Two things timed in turn, so that their ratio holds on a machine whose speed drifts.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a bench reads the clock and prints")]

use std::time::{Duration, Instant};

/// Runs `ours` and `limit` in turn, `rounds` times each, prints both medians and the median of the ratios pair by pair.
pub fn beside(title: &str, rounds: usize, mut ours: impl FnMut(), limit_name: &str, mut limit: impl FnMut()) {
    let mut times: Vec<(Duration, Duration)> = Vec::with_capacity(rounds);
    for _ in 0..rounds.max(1) {
        times.push((timed(&mut ours), timed(&mut limit)));
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let mine = median(times.iter().map(|(ours, _)| ours.as_secs_f64()).collect());
    let theirs = median(times.iter().map(|(_, limit)| limit.as_secs_f64()).collect());
    let ratio = median(times.iter().map(|(ours, limit)| ours.as_secs_f64() / limit.as_secs_f64()).collect());
    println!("{title}: {:.1} us; {limit_name}: {:.1} us; ratio {ratio:.2}", mine * 1e6, theirs * 1e6);
}

/// How long one call takes.
pub fn timed(work: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
