//! The histogram and its canonical encoding.
//!
//! Encoding: the number of occupied bins as one varint, then for each occupied bin in ascending order the gap to the previous
//! one (for the first: the bin itself) and the count, as LEB128 varints without padding. Equal counts give equal bytes, and only
//! one encoding of any histogram is accepted.

use thiserror::Error;

use crate::limit::{BINS, HISTOGRAM_BYTES};

/// From here on a number takes more than a byte.
const LONG: u8 = 0x80;

/// Counts of one feature over the 256 bins of its axis. 1 KiB, no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: [u32; BINS],
}

/// Why bytes are not the canonical encoding of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HistogramError {
    /// The bytes end inside a number.
    #[error("histogram ends early, at byte {at}")]
    Truncated {
        /// Offset of the missing byte.
        at: usize,
    },
    /// Bytes remain after the last bin.
    #[error("histogram has {extra} bytes after its last bin")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A varint is longer than its value needs, or larger than 32 bits.
    #[error("malformed number at byte {at} of a histogram")]
    Varint {
        /// Offset of its first byte.
        at: usize,
    },
    /// A bin beyond the axis, or two bins out of order.
    #[error("histogram names bin {bin}, beyond the last one")]
    Bin {
        /// The bin named.
        bin: u64,
    },
    /// An occupied bin with a count of zero.
    #[error("histogram lists bin {bin} with a count of zero")]
    ZeroCount {
        /// The bin named.
        bin: u8,
    },
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// An empty histogram.
    #[must_use]
    pub const fn new() -> Self {
        Self { counts: [0; BINS] }
    }

    /// Counts one value.
    pub const fn add(&mut self, bin: u8) {
        self.add_many(bin, 1);
    }

    /// Counts one value so many times.
    pub const fn add_many(&mut self, bin: u8, times: u32) {
        let slot = &mut self.counts[bin as usize];
        *slot = slot.saturating_add(times);
    }

    /// Adds all counts of an encoded histogram. Saturates at 2³²−1 a bin, which stays associative and commutative.
    pub fn merge(&mut self, other: EncodedHistogram<'_>) {
        if let Some(pairs) = other.pairs() {
            let mut bin = 0_u8;
            for [gap, count] in pairs {
                bin = bin.wrapping_add(*gap);
                let slot = &mut self.counts[usize::from(bin)];
                *slot = slot.saturating_add(u32::from(*count));
            }
            return;
        }
        for (bin, count) in other.iter() {
            let slot = &mut self.counts[usize::from(bin)];
            *slot = slot.saturating_add(count);
        }
    }

    /// Adds all counts of another histogram.
    pub fn merge_dense(&mut self, other: &Self) {
        for (slot, count) in self.counts.iter_mut().zip(other.counts) {
            *slot = slot.saturating_add(count);
        }
    }

    /// Takes over the count of every bin.
    pub const fn set(&mut self, counts: &[u32; BINS]) {
        self.counts = *counts;
    }

    /// The count of every bin.
    #[must_use]
    pub const fn counts(&self) -> &[u32; BINS] {
        &self.counts
    }

    /// Number of values counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|&count| u64::from(count)).sum()
    }

    /// Forgets everything.
    pub const fn clear(&mut self) {
        self.counts = [0; BINS];
    }

    /// Writes the canonical encoding and returns its length; `out` always has room.
    pub fn encode(&self, out: &mut [u8; HISTOGRAM_BYTES]) -> usize {
        let occupied = self.counts.iter().filter(|&&count| count > 0).count();
        let mut at = write_varint(out, 0, u32::try_from(occupied).unwrap_or(u32::MAX));
        let mut previous = 0_usize;
        for (bin, &count) in self.counts.iter().enumerate() {
            if count > 0 {
                at = write_varint(out, at, u32::try_from(bin - previous).unwrap_or(u32::MAX));
                at = write_varint(out, at, count);
                previous = bin;
            }
        }
        at
    }
}

/// A histogram still in its encoding, checked once and cheap to walk; borrows the bytes it was received in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedHistogram<'a> {
    bytes: &'a [u8],
    total: u64,
    /// Whether every number is a single byte, as nearly always; they are then read without looking for where each ends.
    plain: bool,
}

impl<'a> EncodedHistogram<'a> {
    /// Checks that `bytes` are the canonical encoding of a histogram.
    ///
    /// # Errors
    /// One variant of [`HistogramError`] per cause.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HistogramError> {
        match Self::plain(bytes) {
            Some(plain) => Ok(plain),
            None => Self::parse_numbers(bytes),
        }
    }

    /// The encoding of a histogram whose numbers are all of one byte; `None` where they are not, or where it is malformed. A pass without
    /// a branch.
    fn plain(bytes: &'a [u8]) -> Option<Self> {
        let (&occupied, rest) = bytes.split_first()?;
        let (pairs, []) = rest.as_chunks::<2>() else { return None };
        if usize::from(occupied) != pairs.len() || occupied >= LONG {
            return None;
        }
        let (mut bits, mut zeros, mut last, mut total) = (0_u8, 0_u32, 0_usize, 0_u32);
        for [gap, count] in pairs {
            bits |= gap | count;
            zeros += u32::from(*gap == 0) + u32::from(*count == 0);
            last += usize::from(*gap);
            total += u32::from(*count);
        }
        // Only the first gap may be 0.
        let first = u32::from(pairs.first().is_some_and(|[gap, _]| *gap == 0));
        (bits < LONG && zeros == first && last < BINS).then_some(Self { bytes, total: total.into(), plain: true })
    }

    fn parse_numbers(bytes: &'a [u8]) -> Result<Self, HistogramError> {
        let mut cursor = Cursor { bytes, at: 0 };
        let occupied = cursor.varint()?;
        if occupied as usize > BINS {
            return Err(HistogramError::Bin { bin: u64::from(occupied) });
        }
        let (mut position, mut total) = (0_u64, 0_u64);
        for index in 0..occupied {
            let at = cursor.at;
            let gap = cursor.varint()?;
            if index > 0 && gap == 0 {
                return Err(HistogramError::Varint { at });
            }
            position += u64::from(gap);
            let Ok(bin) = u8::try_from(position) else {
                return Err(HistogramError::Bin { bin: position });
            };
            let count = cursor.varint()?;
            if count == 0 {
                return Err(HistogramError::ZeroCount { bin });
            }
            total += u64::from(count);
        }
        let extra = bytes.len() - cursor.at;
        if extra > 0 {
            return Err(HistogramError::Trailing { extra });
        }
        Ok(Self { bytes, total, plain: false })
    }

    /// Number of values counted.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.total
    }

    /// Gaps and counts, where each is a single byte.
    fn pairs(self) -> Option<&'a [[u8; 2]]> {
        self.plain.then(|| self.bytes.get(1..).unwrap_or_default().as_chunks().0)
    }

    /// Occupied bins and their counts, ascending.
    pub fn iter(self) -> impl Iterator<Item = (u8, u32)> + use<'a> {
        let mut cursor = Cursor { bytes: self.bytes, at: 0 };
        let occupied = cursor.varint().unwrap_or(0);
        let mut bin = 0_u8;
        (0..occupied).map_while(move |_| {
            bin = bin.saturating_add(u8::try_from(cursor.varint().ok()?).ok()?);
            Some((bin, cursor.varint().ok()?))
        })
    }

    /// The encoding itself.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }
}

/// Writes a LEB128 varint at `at` and returns where it ends; the caller made sure of the room.
pub(super) fn write_varint(out: &mut [u8], mut at: usize, mut value: u32) -> usize {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        out[at] = if value == 0 { low } else { low | 0x80 };
        at += 1;
        if value == 0 {
            return at;
        }
    }
}

/// A place in bytes that are read from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    /// The next so many bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], HistogramError> {
        let end = self.at.saturating_add(length);
        let bytes = self.bytes.get(self.at..end).ok_or(HistogramError::Truncated { at: self.bytes.len() })?;
        self.at = end;
        Ok(bytes)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u32, HistogramError> {
        // Nearly all are of one byte.
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u32::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    #[cold]
    fn long_varint(&mut self) -> Result<u32, HistogramError> {
        let start = self.at;
        let mut value = 0_u64;
        for shift in 0..5 {
            let byte = *self.bytes.get(self.at).ok_or(HistogramError::Truncated { at: self.at })?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << (7 * shift);
            if byte & 0x80 == 0 {
                let padded = byte == 0 && shift > 0;
                return u32::try_from(value).ok().filter(|_| !padded).ok_or(HistogramError::Varint { at: start });
            }
        }
        Err(HistogramError::Varint { at: start })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    extern crate std;
    use std::vec::Vec;

    fn encoded(histogram: &Histogram) -> Vec<u8> {
        let mut out = [0; HISTOGRAM_BYTES];
        let length = histogram.encode(&mut out);
        out[..length].to_vec()
    }

    fn of(values: &[u8]) -> Histogram {
        let mut histogram = Histogram::new();
        for &value in values {
            histogram.add(value);
        }
        histogram
    }

    #[test]
    fn the_fullest_histogram_fits_its_buffer_and_counts_saturate() {
        let full = Histogram { counts: [u32::MAX; BINS] };
        let bytes = encoded(&full);
        assert!(bytes.len() <= HISTOGRAM_BYTES);
        let mut sum = full.clone();
        sum.merge(EncodedHistogram::parse(&bytes).expect("own encoding"));
        assert_eq!(sum, full);
    }

    #[test]
    fn every_way_to_be_malformed_has_its_own_error() {
        use HistogramError as E;
        let cases: [(&[u8], HistogramError); 7] = [
            (&[], E::Truncated { at: 0 }),
            (&[1, 5], E::Truncated { at: 2 }),
            (&[1, 5, 1, 0], E::Trailing { extra: 1 }),
            (&[1, 0x80, 0], E::Varint { at: 1 }),
            (&[2, 5, 1, 0, 1], E::Varint { at: 3 }),
            (&[1, 0x80, 0x02, 1], E::Bin { bin: 256 }),
            (&[1, 7, 0], E::ZeroCount { bin: 7 }),
        ];
        for (bytes, error) in cases {
            assert_eq!(EncodedHistogram::parse(bytes), Err(error), "{bytes:?}");
        }
        assert_eq!(EncodedHistogram::parse(&[1, 5, 0xff, 0xff, 0xff, 0xff, 0x7f]), Err(E::Varint { at: 2 }));
    }

    proptest! {
        #[test]
        fn a_histogram_of_single_bytes_is_read_like_any_other(
            pairs in prop::collection::vec((0_u8..6, 0_u8..0x84), 0..60), occupied in 0_u8..60, agree in any::<bool>(),
        ) {
            let occupied = if agree { u8::try_from(pairs.len()).unwrap_or(u8::MAX) } else { occupied };
            let mut bytes = Vec::from([occupied]);
            bytes.extend(pairs.iter().flat_map(|(gap, count)| [*gap, *count]));
            match EncodedHistogram::parse_numbers(&bytes) {
                Ok(slowly) => {
                    let parsed = EncodedHistogram::parse(&bytes).expect("just did");
                    prop_assert_eq!(parsed.plain, bytes.iter().all(|byte| *byte < LONG));
                    prop_assert_eq!(parsed.total(), slowly.total());
                    let (mut one, mut other) = (Histogram::new(), Histogram::new());
                    one.merge(parsed);
                    other.merge(slowly);
                    prop_assert_eq!(&one, &other);
                    prop_assert_eq!(one.total(), parsed.total());
                }
                Err(error) => prop_assert_eq!(EncodedHistogram::parse(&bytes), Err(error)),
            }
        }

        #[test]
        fn merging_in_any_order_gives_identical_bytes(
            windows in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..12),
            seed in any::<u64>(),
        ) {
            let parts: Vec<Vec<u8>> = windows.iter().map(|values| encoded(&of(values))).collect();
            let mut order: Vec<usize> = (0..parts.len()).collect();
            let mut state = seed;
            for i in (1..order.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                order.swap(i, usize::try_from(state >> 33).expect("31 bits") % (i + 1));
            }
            let fold = |order: &[usize]| {
                let mut sum = Histogram::new();
                for &i in order {
                    sum.merge(EncodedHistogram::parse(&parts[i]).expect("own encoding"));
                }
                encoded(&sum)
            };
            let forward: Vec<usize> = (0..parts.len()).collect();
            prop_assert_eq!(fold(&forward), fold(&order));
            let all: Vec<u8> = windows.concat();
            prop_assert_eq!(fold(&order), encoded(&of(&all)));
        }

        #[test]
        fn whatever_parses_encodes_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(parsed) = EncodedHistogram::parse(&bytes) {
                let mut histogram = Histogram::new();
                histogram.merge(parsed);
                prop_assert_eq!(encoded(&histogram), bytes);
            }
        }
    }
}
