//! Times taken in turn, block by block, and the ratio of those that belong together.

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Runs something as often as it is told and says how long that took.
pub type Timed<'a> = &'a mut dyn FnMut(u64) -> Duration;

/// Times `count` runs of `work`.
#[expect(clippy::disallowed_methods, reason = "a stopwatch is what this is")]
pub fn time<T>(count: u64, mut work: impl FnMut() -> T) -> Duration {
    let began = Instant::now();
    for _ in 0..count {
        black_box(work());
    }
    began.elapsed()
}

/// Seconds per run of several contestants; the first is ours.
#[derive(Clone, Debug)]
pub struct Turns {
    names: Vec<&'static str>,
    /// One row per block, with as many entries as there are names.
    rows: Vec<Vec<f64>>,
    block: u64,
}

impl Turns {
    /// Contestants that run `block` times before it is the next one's turn: long enough for the clock, short enough for both to
    /// meet the same weather.
    #[must_use]
    pub fn new(block: u64, names: &[&'static str]) -> Self {
        Self { names: names.to_vec(), rows: Vec::new(), block: block.max(1) }
    }

    /// Runs every contestant `iterations` times, in turn, and returns how long the first one took in all.
    ///
    /// A last block that is cut short counts for that sum, but is no row unless it is the first.
    pub fn run(&mut self, iterations: u64, contestants: &mut [Timed<'_>]) -> Duration {
        let mut ours = Duration::ZERO;
        let mut left = iterations;
        while left > 0 {
            let runs = left.min(self.block);
            left -= runs;
            let times: Vec<Duration> = contestants.iter_mut().map(|contestant| contestant(runs)).collect();
            ours += times.first().copied().unwrap_or_default();
            if runs == self.block || self.rows.is_empty() {
                #[expect(clippy::cast_precision_loss, reason = "a count of runs")]
                let runs = runs as f64;
                self.rows.push(times.iter().map(|time| time.as_secs_f64() / runs).collect());
            }
        }
        ours
    }

    /// Median seconds per run of a contestant; `None` where nothing ran.
    #[must_use]
    pub fn seconds(&self, contestant: usize) -> Option<f64> {
        median(self.rows.iter().filter_map(|row| row.get(contestant).copied()).collect())
    }

    /// Median over the blocks of our time over that of another contestant: 2 is twice as long.
    #[must_use]
    pub fn ratio(&self, contestant: usize) -> Option<f64> {
        median(self.rows.iter().filter_map(|row| Some(row.first()? / row.get(contestant)?)).collect())
    }

    /// Number of blocks that the medians are taken over.
    #[must_use]
    pub const fn blocks(&self) -> usize {
        self.rows.len()
    }
}

impl fmt::Display for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (contestant, name) in self.names.iter().enumerate() {
            let (Some(seconds), Some(ratio)) = (self.seconds(contestant), self.ratio(contestant)) else {
                return f.write_str("nothing ran");
            };
            if contestant == 0 {
                write!(f, "{name} {}", Readable(seconds))?;
            } else {
                let digits = if ratio < 100.0 { 2 } else { 0 };
                write!(f, "; {name} {}, ratio {ratio:.digits$}", Readable(seconds))?;
            }
        }
        write!(f, " (medians of {} turns)", self.blocks())
    }
}

/// Seconds for people.
struct Readable(f64);

impl fmt::Display for Readable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds if seconds >= 1e-3 => write!(f, "{:.2} ms", seconds * 1e3),
            seconds if seconds >= 1e-6 => write!(f, "{:.2} µs", seconds * 1e6),
            seconds => write!(f, "{:.1} ns", seconds * 1e9),
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_between_neighbours_and_a_short_block_is_no_row() {
        let mut turns = Turns::new(10, &["ours", "theirs"]);
        assert_eq!((turns.ratio(1), turns.to_string().as_str()), (None, "nothing ran"));
        // The machine becomes slower by a factor of 100 between one block and the next; the ratio stays.
        let mut weather = [1, 100, 1].into_iter();
        let mut factor = 0;
        let ours = turns.run(
            25,
            &mut [
                &mut |runs| {
                    factor = weather.next().expect("three blocks");
                    Duration::from_micros(3 * runs * factor)
                },
                &mut |runs| Duration::from_micros(runs),
            ],
        );
        assert_eq!(ours, Duration::from_micros(30 + 3000 + 15));
        assert_eq!(turns.blocks(), 2, "the third had five runs only");
        let seconds = turns.seconds(0).expect("ran");
        assert!((seconds - 151.5e-6).abs() < 1e-9, "{seconds}");

        let mut turns = Turns::new(10, &["ours", "theirs"]);
        for slow in [1, 100, 7] {
            let (mut ours, mut theirs) =
                (|runs| Duration::from_micros(3 * runs * slow), |runs| Duration::from_micros(2 * runs * slow));
            turns.run(10, &mut [&mut ours, &mut theirs]);
        }
        assert!((turns.ratio(1).expect("ran") - 1.5).abs() < 1e-9);
        assert_eq!(turns.to_string(), "ours 21.00 µs; theirs 14.00 µs, ratio 1.50 (medians of 3 turns)");
    }

    #[test]
    fn the_stopwatch_counts_every_run() {
        let mut runs = 0;
        let took = time(7, || runs += 1);
        assert_eq!(runs, 7);
        assert!(took < Duration::from_secs(60));
    }
}
