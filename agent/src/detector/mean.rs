//! Running mean and variance (West 1979), in the order of operations that river uses, so that roundings agree.

use serde::{Deserialize, Serialize};

/// Mean of the values so far.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Mean {
    pub(super) count: f64,
    pub(super) value: f64,
}

impl Mean {
    pub(super) fn push(&mut self, value: f64) {
        self.count += 1.0;
        self.value += (1.0 / self.count) * (value - self.value);
    }

    /// Whether these can be the mean of so many values.
    pub(super) const fn is_sound(self) -> bool {
        self.count >= 0.0 && self.count.is_finite() && self.value.is_finite()
    }
}

/// Mean and variance with n − 1 in the denominator.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Variance {
    pub(super) mean: Mean,
    squares: f64,
}

impl Variance {
    pub(super) fn push(&mut self, value: f64) {
        let before = self.mean.value;
        self.mean.push(value);
        self.squares += (value - before) * (value - self.mean.value);
    }

    /// Whether these can be mean and variance of so many values.
    pub(super) const fn is_sound(self) -> bool {
        self.mean.is_sound() && self.squares.is_finite()
    }

    /// The variance; 0 below two values.
    pub(super) fn value(&self) -> f64 {
        if self.mean.count > 1.0 { self.squares / (self.mean.count - 1.0) } else { 0.0 }
    }
}
