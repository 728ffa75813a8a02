//! The most recent values of a stream, in fixed memory.
//!
//! Must hold: it never holds more than its limit; when full, the oldest value makes room for the newest.

use heapless::Deque;
use serde::{Deserialize, Serialize};

/// Up to `N` values, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ring<const N: usize> {
    values: Deque<f64, N>,
    limit: usize,
}

impl<const N: usize> Ring<N> {
    /// An empty ring of at most `limit` values, and never more than `N`.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { values: Deque::new(), limit: limit.min(N) }
    }

    /// Takes in the newest value.
    pub fn push(&mut self, value: f64) {
        if self.is_full() {
            self.values.pop_front();
        }
        // Refused only by a ring of no values at all.
        let _kept = self.values.push_back(value).is_ok();
    }

    /// The most values it holds.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// The value at `position`, 0 being the oldest.
    #[must_use]
    pub fn get(&self, position: usize) -> Option<f64> {
        self.values.get(position).copied()
    }

    /// Oldest to newest.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = f64> {
        self.values.iter().copied()
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether the next value costs the oldest.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.values.len() >= self.limit
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.values.clear();
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn the_newest_values_stay_in_order() {
        let mut ring = Ring::<4>::new(3);
        assert!(ring.is_empty());
        for value in [1.0, 2.0, 3.0, 4.0, 5.0] {
            ring.push(value);
        }
        assert!(ring.is_full());
        assert_eq!(ring.iter().collect::<Vec<_>>(), [3.0, 4.0, 5.0]);
        assert_eq!((ring.get(0), ring.get(2), ring.get(3)), (Some(3.0), Some(5.0), None));
        ring.clear();
        assert_eq!(ring.len(), 0);
    }

    #[test]
    fn a_ring_without_room_holds_nothing() {
        let mut ring = Ring::<2>::new(0);
        ring.push(1.0);
        assert!(ring.len() <= 1 && ring.get(1).is_none());
    }
}
