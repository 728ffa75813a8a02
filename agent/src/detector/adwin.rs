//! ADWIN (Bifet and Gavaldà 2007): a window that grows while its mean stays and drops its old end where two halves differ.
//!
//! The window is kept as buckets of 2ⁱ values in rows, at most `max_buckets` a row, so its memory grows with the logarithm of its
//! length. Memory here is fixed: [`MAX_ROWS`] rows of at most [`MAX_BUCKETS`] + 1 buckets, 2.4 KiB. Where the last row is full, the
//! oldest bucket is forgotten, as if it had been cut off: with the default of 5 buckets a row the window then spans at least
//! 5·2¹⁵ = 163,840 values of the newest past. Until then the answers are those of an unbounded window.

use serde::{Deserialize, Serialize};

use super::{NotFinite, SettingError, State, finite, require};

/// Rows of buckets, of 1 to 2¹⁵ values.
pub const MAX_ROWS: usize = 16;
/// Most buckets of one size.
pub const MAX_BUCKETS: usize = 8;

/// How sensitive it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdwinSettings {
    /// Probability of a false drift at one look.
    pub delta: f64,
    /// Values between two looks.
    pub clock: u32,
    /// Most buckets of one size, 1 to [`MAX_BUCKETS`].
    pub max_buckets: usize,
    /// Fewest values of either part at a cut.
    pub min_window_length: u32,
    /// Values before the first look.
    pub grace_period: u32,
}

impl Default for AdwinSettings {
    fn default() -> Self {
        Self { delta: 0.002, clock: 32, max_buckets: 5, min_window_length: 5, grace_period: 10 }
    }
}

/// Sum and sum of squared deviations of 2ⁱ neighbouring values.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Bucket {
    total: f64,
    squares: f64,
}

/// Buckets of one size, oldest first.
type Row = heapless::Vec<Bucket, { MAX_BUCKETS + 1 }>;

/// Watches a stream of numbers. It knows no warning.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Adwin {
    settings: AdwinSettings,
    rows: heapless::Vec<Row, MAX_ROWS>,
    total: f64,
    squares: f64,
    width: f64,
    looks: u32,
    state: State,
}

impl Adwin {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`SettingError`] where delta is not between 0 and 1, or a count is 0 or too large.
    pub fn new(settings: AdwinSettings) -> Result<Self, SettingError> {
        require(settings.delta > 0.0 && settings.delta < 1.0, "delta", "between 0 and 1")?;
        require(settings.clock > 0, "clock", "at least 1")?;
        require((1..=MAX_BUCKETS).contains(&settings.max_buckets), "max_buckets", "1 to 8")?;
        require(settings.min_window_length > 0, "min_window_length", "at least 1")?;
        Ok(Self::fresh(settings))
    }

    const fn fresh(settings: AdwinSettings) -> Self {
        let rows = heapless::Vec::new();
        Self { settings, rows, total: 0.0, squares: 0.0, width: 0.0, looks: 0, state: State::Stable }
    }

    /// Values in the window.
    #[must_use]
    pub const fn width(&self) -> f64 {
        self.width
    }

    /// Mean of the window; 0 where it is empty.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.width > 0.0 { self.total / self.width } else { 0.0 }
    }

    /// Whether this is a state that these settings can have come to; of one read back from bytes nobody knows.
    #[expect(clippy::cast_precision_loss, clippy::float_cmp, reason = "whole numbers far below 2⁵³")]
    #[must_use]
    pub fn is_sound(&self, settings: AdwinSettings) -> bool {
        self.settings == settings
            && self.looks < settings.clock
            && [self.total, self.squares].into_iter().all(f64::is_finite)
            && self.rows.last().is_none_or(|row| !row.is_empty())
            && self.rows.iter().all(|row| row.len() <= settings.max_buckets)
            && self.rows.iter().flatten().all(|bucket| bucket.total.is_finite() && bucket.squares.is_finite())
            && self.rows.iter().enumerate().map(|(index, row)| row_size(index) * row.len() as f64).sum::<f64>()
                == self.width
    }

    /// Takes in the next value.
    ///
    /// # Errors
    /// [`NotFinite`]; nothing changes then.
    pub fn update(&mut self, value: f64) -> Result<State, NotFinite> {
        let value = finite(value)?;
        if self.state == State::Drift {
            *self = Self::fresh(self.settings);
        }
        self.insert(value);
        self.looks += 1;
        if self.looks >= self.settings.clock {
            self.looks = 0;
            if self.width > f64::from(self.settings.grace_period) && self.shrink() {
                self.state = State::Drift;
            }
        }
        Ok(self.state)
    }

    fn insert(&mut self, value: f64) {
        self.width += 1.0;
        if self.width > 1.0 {
            let others = self.width - 1.0;
            let deviation = value - self.total / others;
            self.squares += others * deviation * deviation / self.width;
        }
        self.total += value;
        self.carry(Bucket { total: value, squares: 0.0 });
    }

    /// Puts a bucket of one value into the first row and pairs of buckets from overfull rows into the next.
    fn carry(&mut self, bucket: Bucket) {
        let (mut bucket, mut size) = (bucket, 1.0);
        for index in 0..MAX_ROWS {
            if index == self.rows.len() && self.rows.push(Row::new()).is_err() {
                return;
            }
            let Some(row) = self.rows.get_mut(index) else { return };
            // There is room for one more than stay.
            if row.push(bucket).is_err() || row.len() <= self.settings.max_buckets {
                return;
            }
            if index + 1 == MAX_ROWS {
                self.forget_oldest();
                return;
            }
            let (first, second) = (row.remove(0), row.remove(0));
            let gap = first.total / size - second.total / size;
            bucket = Bucket {
                total: first.total + second.total,
                squares: first.squares + second.squares + size * 0.5 * gap * gap,
            };
            size *= 2.0;
        }
    }

    /// Drops the oldest bucket.
    fn forget_oldest(&mut self) {
        let Some(size) = self.rows.len().checked_sub(1).map(row_size) else { return };
        let Some(row) = self.rows.last_mut().filter(|row| !row.is_empty()) else { return };
        let bucket = row.remove(0);
        // With one bucket a row those in between may be empty as well.
        while self.rows.last().is_some_and(|row| row.is_empty()) {
            self.rows.pop();
        }
        self.width -= size;
        self.total -= bucket.total;
        let gap = bucket.total / size - self.total / self.width;
        self.squares -= bucket.squares + size * self.width * gap * gap / (size + self.width);
    }

    /// Drops old buckets while the window has a cut whose two sides differ; whether it dropped any.
    fn shrink(&mut self) -> bool {
        let mut dropped = false;
        // Every turn drops a bucket, of which there are few.
        while self.has_cut() {
            self.forget_oldest();
            dropped = true;
        }
        dropped
    }

    /// Whether the means of the older and the newer part differ by more than chance allows at some border between buckets.
    fn has_cut(&self) -> bool {
        let least = f64::from(self.settings.min_window_length);
        let (mut older, mut newer) = ((0.0, 0.0), (self.width, self.total));
        for (index, row) in self.rows.iter().enumerate().rev() {
            let size = row_size(index);
            for (place, bucket) in row.iter().enumerate() {
                older = (older.0 + size, older.1 + bucket.total);
                newer = (newer.0 - size, newer.1 - bucket.total);
                if index == 0 && place + 1 == row.len() {
                    return false;
                }
                if newer.0 >= least && older.0 >= least {
                    let difference = older.1 / older.0 - newer.1 / newer.0;
                    if difference.abs() > self.chance(older.0, newer.0) {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// ε of the paper's section 4.1, with the variance of the window.
    fn chance(&self, older: f64, newer: f64) -> f64 {
        let least = f64::from(self.settings.min_window_length);
        let log = libm::log(2.0 * libm::log(self.width) / self.settings.delta);
        let reciprocal = 1.0 / (older - least + 1.0) + 1.0 / (newer - least + 1.0);
        libm::sqrt(2.0 * reciprocal * (self.squares / self.width) * log) + 2.0 / 3.0 * log * reciprocal
    }
}

/// Values in each bucket of a row.
fn row_size(index: usize) -> f64 {
    (0..index).fold(1.0, |size, _| size * 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_bounded_and_its_sums_stay_those_of_its_buckets() {
        let settings = AdwinSettings { max_buckets: 1, clock: 1_000_000, ..AdwinSettings::default() };
        let mut detector = Adwin::new(settings).expect("valid");
        for value in (0..10).cycle().take(300_000) {
            detector.update(f64::from(value)).expect("finite");
        }
        assert_eq!(detector.rows.len(), MAX_ROWS);
        assert!(detector.width() >= 32_768.0 && detector.width() <= 2.0 * 65_536.0, "{}", detector.width());
        let sizes = detector.rows.iter().enumerate().map(|(index, row)| {
            (row.len() as f64 * row_size(index), row.iter().map(|bucket| bucket.total).sum::<f64>())
        });
        let (width, total) = sizes.fold((0.0, 0.0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
        assert_eq!((detector.width, detector.total), (width, total));
        assert!((detector.mean() - 4.5).abs() < 0.01);
        assert!((detector.squares / detector.width - 8.25).abs() < 0.01);
    }

    #[test]
    fn a_step_is_found_and_a_constant_is_not() {
        let mut detector = Adwin::new(AdwinSettings::default()).expect("valid");
        assert!((0..5000).all(|_| detector.update(1.0) == Ok(State::Stable)));
        assert!((0..200).any(|_| detector.update(2.0) == Ok(State::Drift)));
    }

    #[test]
    fn with_one_bucket_a_row_a_step_drops_the_old_end() {
        let mut detector = Adwin::new(AdwinSettings { max_buckets: 1, ..AdwinSettings::default() }).expect("valid");
        for _ in 0..1024 {
            detector.update(0.0).expect("finite");
        }
        assert!((0..2000).any(|_| detector.update(5.0) == Ok(State::Drift)));
        assert!(detector.width() < 1024.0, "{}", detector.width());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Adwin::new(AdwinSettings { max_buckets: 9, ..AdwinSettings::default() }).is_err());
        assert!(Adwin::new(AdwinSettings { clock: 0, ..AdwinSettings::default() }).is_err());
        let mut detector = Adwin::new(AdwinSettings::default()).expect("valid");
        assert!(detector.update(f64::NEG_INFINITY).is_err());
        assert_eq!(detector.width(), 0.0);
        for _ in 0..100 {
            detector.update(f64::MAX).expect("finite, if barely");
            detector.update(f64::MIN).expect("finite, if barely");
        }
    }
}
