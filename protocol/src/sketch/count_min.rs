//! Count-min (Cormode and Muthukrishnan 2005): counts of any number of labels in fixed memory, never too low.
//!
//! Each of the rows is a histogram over 256 columns, and a label is counted in one column of each row. An estimate is the smallest of
//! its columns: too high by what other labels put there, by more than 1.1 % of all counted with a probability below 2 %.
//!
//! Must hold: where a label is counted is part of the wire format; merging is addition, exact and in any order.

use super::histogram::Histogram;
use crate::limit::COUNT_MIN_ROWS;

/// 4 KiB of counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountMin {
    rows: [Histogram; COUNT_MIN_ROWS],
}

impl CountMin {
    /// Counts of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { rows: [const { Histogram::new() }; COUNT_MIN_ROWS] }
    }

    /// Counts a label so many times.
    pub fn add(&mut self, label: &str, times: u32) {
        for (row, column) in self.rows.iter_mut().zip(columns(label)) {
            row.add_many(column, times);
        }
    }

    /// How often a label was counted, or more.
    #[must_use]
    pub fn estimate(&self, label: &str) -> u32 {
        let columns = self.rows.iter().zip(columns(label));
        columns.map(|(row, column)| row.counts()[usize::from(column)]).min().unwrap_or(0)
    }

    /// Everything counted; each row has it all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.rows.first().map_or(0, Histogram::total)
    }

    /// The rows.
    #[must_use]
    pub const fn rows(&self) -> &[Histogram; COUNT_MIN_ROWS] {
        &self.rows
    }

    /// The rows, to merge into.
    pub(super) const fn rows_mut(&mut self) -> &mut [Histogram; COUNT_MIN_ROWS] {
        &mut self.rows
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.rows.iter_mut().for_each(Histogram::clear);
    }
}

/// The column of a label in each row: a byte of its hash each.
fn columns(label: &str) -> impl Iterator<Item = u8> {
    hash(label).to_le_bytes().into_iter()
}

const _: () = assert!(COUNT_MIN_ROWS <= 8, "the hash has a byte for every row");

/// FNV-1a over the bytes, then the finaliser of `SplitMix64`, without which neighbouring labels would share columns.
const fn hash(label: &str) -> u64 {
    let bytes = label.as_bytes();
    let (mut hash, mut at) = (0xcbf2_9ce4_8422_2325_u64, 0);
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn where_a_label_is_counted_never_changes() {
        let of = |label| columns(label).take(COUNT_MIN_ROWS).collect::<Vec<_>>();
        assert_eq!(hash(""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(of("person"), [50, 83, 163, 9]);
    }

    #[test]
    fn an_estimate_is_never_too_low_and_seldom_much_too_high() {
        let mut counts = CountMin::new();
        let labels: Vec<_> = (0..1000_u32).map(|at| (format!("label {at}"), at % 50 + 1)).collect();
        for (label, times) in &labels {
            counts.add(label, *times);
        }
        let total = counts.total();
        assert_eq!(total, 25_500);
        let mut far = 0;
        for (label, times) in &labels {
            let estimate = counts.estimate(label);
            assert!(estimate >= *times, "{label}");
            far += u32::from(f64::from(estimate - times) > 0.0107 * 25_500.0);
        }
        assert!(far <= 18, "{far} of 1000");
        counts.clear();
        assert_eq!(counts.estimate("label 7"), 0);
    }
}
