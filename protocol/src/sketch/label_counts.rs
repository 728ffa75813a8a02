//! How often a model named which label: exactly for up to 64 labels, by count-min and the names of the most frequent beyond.
//!
//! Encoding: one byte that says how they are counted (0 exactly, 1 by count-min), the number of labels that could not be named as a
//! varint, the number of names, and for each name in ascending order of its bytes its length, the bytes and, where exact, the count.
//! By count-min there follow the rows, each the length of its encoding and the canonical encoding of its histogram.
//!
//! Must hold: counts merge by addition, in any order; which names stay listed beyond 64 may depend on the order, their counts do not.

use heapless::{String, Vec};
use thiserror::Error;

use super::count_min::CountMin;
use super::histogram::{Cursor, EncodedHistogram, HistogramError, write_varint};
use crate::limit::{COUNT_MIN_ROWS, HISTOGRAM_BYTES, LABEL_BYTES, LABELS, LABELS_BYTES};

const EXACT: u8 = 0;
const SKETCHED: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    label: String<LABEL_BYTES>,
    /// Exact while everything is.
    count: u32,
}

/// Counts of labels. About 9 KiB, no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelCounts {
    /// Ascending by label.
    named: Vec<Named, LABELS>,
    cells: CountMin,
    unnamed: u32,
    sketched: bool,
}

/// One label and how often it was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelCount<'a> {
    /// The label.
    pub label: &'a str,
    /// How often; not less where it is an estimate.
    pub count: u32,
}

/// Why bytes are not the canonical encoding of label counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LabelsError {
    /// A number is malformed, the bytes end early, or bytes remain.
    #[error("{0}")]
    Malformed(#[from] HistogramError),
    /// Counted neither exactly nor by count-min.
    #[error("labels are counted in the unknown way {way}")]
    Way {
        /// The byte found.
        way: u8,
    },
    /// More names than allowed.
    #[error("{names} labels are named, at most {LABELS} can be")]
    TooMany {
        /// How many.
        names: u32,
    },
    /// A label is empty, too long, not UTF-8 or has control characters.
    #[error("the label at byte {at} is no label")]
    Label {
        /// Where its text would begin.
        at: usize,
    },
    /// Labels out of order or twice.
    #[error("the label at byte {at} is out of order or listed twice")]
    Order {
        /// Where its text begins.
        at: usize,
    },
    /// A label was named zero times.
    #[error("the label at byte {at} has a count of zero")]
    ZeroCount {
        /// Where its text begins.
        at: usize,
    },
    /// The rows of the count-min sketch have not counted the same.
    #[error("row {row} of the labels counts {counted}, row 0 counts {total}")]
    Rows {
        /// The row.
        row: usize,
        /// Its sum.
        counted: u64,
        /// The sum of row 0.
        total: u64,
    },
}

/// Whether a text can be a label: 1 to 63 bytes without control characters.
fn is_label(text: &str) -> bool {
    (1..=LABEL_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

impl LabelCounts {
    /// Counts of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { named: Vec::new(), cells: CountMin::new(), unnamed: 0, sketched: false }
    }

    /// Counts a label. What cannot be one (empty, longer than 63 bytes, with control characters) is counted without its name.
    pub fn add(&mut self, label: &str) {
        if is_label(label) {
            self.add_many(label, 1);
        } else {
            self.unnamed = self.unnamed.saturating_add(1);
        }
    }

    fn add_many(&mut self, label: &str, times: u32) {
        self.cells.add(label, times);
        let place = self.named.binary_search_by(|named| named.label.as_str().cmp(label));
        match place {
            Ok(place) => {
                if let Some(named) = self.named.get_mut(place) {
                    named.count = named.count.saturating_add(times);
                }
            }
            Err(_) if self.named.is_full() => {
                self.sketched = true;
                self.propose(label);
            }
            Err(place) => self.insert(place, label, times),
        }
    }

    fn insert(&mut self, place: usize, label: &str, count: u32) {
        if let Ok(label) = String::try_from(label) {
            // Both refuse only what was checked before: the length of a label and the room.
            let _kept = self.named.insert(place, Named { label, count }).is_ok();
        }
    }

    /// Names a label that is counted already, where it is more frequent than the least frequent one named.
    fn propose(&mut self, label: &str) {
        let Err(place) = self.named.binary_search_by(|named| named.label.as_str().cmp(label)) else { return };
        if !self.named.is_full() {
            return self.insert(place, label, 0);
        }
        let counts = self.named.iter().map(|named| self.cells.estimate(&named.label)).enumerate();
        let Some((least, count)) = counts.min_by_key(|&(_, count)| count) else { return };
        if self.cells.estimate(label) > count {
            self.named.remove(least);
            self.insert(if least < place { place - 1 } else { place }, label, 0);
        }
    }

    /// Adds all counts of an encoding.
    pub fn merge(&mut self, other: EncodedLabels<'_>) {
        self.unnamed = self.unnamed.saturating_add(other.unnamed());
        if other.is_exact() {
            for (label, count) in other.names() {
                self.add_many(label, count);
            }
            return;
        }
        self.sketched = true;
        for (row, histogram) in self.cells.rows_mut().iter_mut().zip(other.rows()) {
            row.merge(histogram);
        }
        for (label, _) in other.names() {
            self.propose(label);
        }
    }

    /// Whether every count is exact.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        !self.sketched
    }

    /// Every label with a name, ascending, with its count: exact, or an estimate that is never too low.
    pub fn iter(&self) -> impl Iterator<Item = LabelCount<'_>> {
        self.named.iter().map(|named| LabelCount {
            label: &named.label,
            count: if self.sketched { self.cells.estimate(&named.label) } else { named.count },
        })
    }

    /// How many labels were counted under their names, listed or not.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.cells.total()
    }

    /// How many could not be labels and were counted without a name.
    #[must_use]
    pub const fn unnamed(&self) -> u32 {
        self.unnamed
    }

    /// How often a label was counted, or more where counts are not exact.
    #[must_use]
    pub fn count(&self, label: &str) -> u32 {
        if self.sketched {
            return self.cells.estimate(label);
        }
        self.named.iter().find(|named| named.label == label).map_or(0, |named| named.count)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.named.clear();
        self.cells.clear();
        (self.unnamed, self.sketched) = (0, false);
    }

    /// Writes the canonical encoding and returns its length; `out` always has room.
    pub fn encode(&self, out: &mut [u8; LABELS_BYTES]) -> usize {
        out[0] = if self.sketched { SKETCHED } else { EXACT };
        let mut at = write_varint(out, 1, self.unnamed);
        at = write_varint(out, at, u32::try_from(self.named.len()).unwrap_or(u32::MAX));
        for named in &self.named {
            let text = named.label.as_bytes();
            at = write_varint(out, at, u32::try_from(text.len()).unwrap_or(u32::MAX));
            out[at..at + text.len()].copy_from_slice(text);
            at += text.len();
            if !self.sketched {
                at = write_varint(out, at, named.count);
            }
        }
        if self.sketched {
            for row in self.cells.rows() {
                let mut room = [0; HISTOGRAM_BYTES];
                let length = row.encode(&mut room);
                at = write_varint(out, at, u32::try_from(length).unwrap_or(u32::MAX));
                out[at..at + length].copy_from_slice(&room[..length]);
                at += length;
            }
        }
        at
    }
}

/// Label counts still in their encoding, checked once; borrows the bytes they were received in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedLabels<'a> {
    bytes: &'a [u8],
}

impl<'a> EncodedLabels<'a> {
    /// Checks that `bytes` are the canonical encoding of label counts.
    ///
    /// # Errors
    /// One variant of [`LabelsError`] per cause.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LabelsError> {
        let mut cursor = Cursor { bytes, at: 0 };
        let way = cursor.take(1)?.first().copied().unwrap_or_default();
        if way > SKETCHED {
            return Err(LabelsError::Way { way });
        }
        cursor.varint()?;
        let names = cursor.varint()?;
        if names as usize > LABELS {
            return Err(LabelsError::TooMany { names });
        }
        let mut previous = None;
        for _ in 0..names {
            let length = cursor.varint()? as usize;
            let at = cursor.at;
            if length > LABEL_BYTES {
                return Err(LabelsError::Label { at });
            }
            let text = core::str::from_utf8(cursor.take(length)?).map_err(|_| LabelsError::Label { at })?;
            if !is_label(text) {
                return Err(LabelsError::Label { at });
            }
            if previous.is_some_and(|previous| previous >= text) {
                return Err(LabelsError::Order { at });
            }
            previous = Some(text);
            if way == EXACT && cursor.varint()? == 0 {
                return Err(LabelsError::ZeroCount { at });
            }
        }
        if way == SKETCHED {
            let mut total = 0;
            for row in 0..COUNT_MIN_ROWS {
                let length = cursor.varint()? as usize;
                let histogram = EncodedHistogram::parse(cursor.take(length)?)?;
                let counted = histogram.iter().map(|(_, count)| u64::from(count)).sum();
                if row == 0 {
                    total = counted;
                } else if counted != total {
                    return Err(LabelsError::Rows { row, counted, total });
                }
            }
        }
        let extra = bytes.len() - cursor.at;
        if extra > 0 {
            return Err(LabelsError::Malformed(HistogramError::Trailing { extra }));
        }
        Ok(Self { bytes })
    }

    /// Whether every count is exact.
    #[must_use]
    pub fn is_exact(self) -> bool {
        self.bytes.first() == Some(&EXACT)
    }

    /// How many could not be labels and were counted without a name.
    #[must_use]
    pub fn unnamed(self) -> u32 {
        self.head().0
    }

    /// The names and, where exact, their counts; otherwise 0.
    pub fn names(self) -> impl Iterator<Item = (&'a str, u32)> + use<'a> {
        let (_, names, mut cursor) = self.head();
        let exact = self.is_exact();
        (0..names).map_while(move |_| {
            let length = cursor.varint().ok()? as usize;
            let text = core::str::from_utf8(cursor.take(length).ok()?).ok()?;
            Some((text, if exact { cursor.varint().ok()? } else { 0 }))
        })
    }

    /// The encoding itself.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The rows of the count-min sketch; none where counts are exact.
    fn rows(self) -> impl Iterator<Item = EncodedHistogram<'a>> + use<'a> {
        let (_, names, mut cursor) = self.head();
        for _ in 0..names {
            let Ok(length) = cursor.varint() else { break };
            if cursor.take(length as usize).is_err() {
                break;
            }
        }
        let rows = if self.is_exact() { 0 } else { COUNT_MIN_ROWS };
        (0..rows).map_while(move |_| {
            let length = cursor.varint().ok()? as usize;
            EncodedHistogram::parse(cursor.take(length).ok()?).ok()
        })
    }

    /// Those without a name, how many names, and where they begin.
    fn head(self) -> (u32, u32, Cursor<'a>) {
        let mut cursor = Cursor { bytes: self.bytes, at: 1 };
        (cursor.varint().unwrap_or(0), cursor.varint().unwrap_or(0), cursor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    extern crate std;
    use std::format;
    use std::vec::Vec as List;

    fn encoded(counts: &LabelCounts) -> List<u8> {
        let mut out = [0; LABELS_BYTES];
        let length = counts.encode(&mut out);
        out[..length].to_vec()
    }

    fn of<T: AsRef<str>>(labels: impl IntoIterator<Item = T>) -> LabelCounts {
        let mut counts = LabelCounts::new();
        labels.into_iter().for_each(|label| counts.add(label.as_ref()));
        counts
    }

    fn read(bytes: &[u8]) -> LabelCounts {
        let mut counts = LabelCounts::new();
        counts.merge(EncodedLabels::parse(bytes).expect("own encoding"));
        counts
    }

    #[test]
    fn few_labels_are_counted_exactly_and_nonsense_without_a_name() {
        let counts = of(["person", "car", "person", "", "a\nb", &"x".repeat(64), "Fußgänger"]);
        let listed: List<_> = counts.iter().map(|named| (named.label, named.count)).collect();
        assert_eq!(listed, [("Fußgänger", 1), ("car", 1), ("person", 2)]);
        assert_eq!((counts.unnamed(), counts.total(), counts.is_exact()), (3, 4, true));
        assert_eq!(read(&encoded(&counts)), counts);
    }

    #[test]
    fn beyond_sixty_four_labels_the_frequent_ones_keep_their_names() {
        let rare = (0..500).map(|at| format!("rare {at}"));
        let frequent = (0..40).flat_map(|at| std::iter::repeat_n(format!("frequent {at:02}"), 100 + at));
        let counts = of(rare.chain(frequent));
        assert!(!counts.is_exact());
        for at in 0..40 {
            let label = format!("frequent {at:02}");
            let named = counts.iter().find(|named| named.label == label).expect("named");
            assert!((100 + at..140 + at + 20).contains(&named.count), "{named:?}");
        }
        assert_eq!(counts.iter().count(), LABELS);
        assert_eq!(counts.total(), 500 + (100..140_u64).sum::<u64>());
        let again = read(&encoded(&counts));
        assert_eq!(encoded(&again), encoded(&counts));
        assert_eq!(again.count("rare 7"), counts.count("rare 7"));
    }

    #[test]
    fn the_fullest_counts_fit_their_room() {
        let mut counts = LabelCounts::new();
        for at in 0..2000 {
            let label = format!("{at:0>63}");
            assert_eq!(label.len(), LABEL_BYTES);
            counts.add_many(&label, u32::MAX);
        }
        counts.unnamed = u32::MAX;
        let bytes = encoded(&counts);
        assert!(bytes.len() > 9000 && bytes.len() <= LABELS_BYTES, "{}", bytes.len());
        assert_eq!(encoded(&read(&bytes)), bytes);
    }

    #[test]
    fn every_way_to_be_malformed_has_its_own_error() {
        use HistogramError as H;
        use LabelsError as E;
        let cases: [(&[u8], LabelsError); 11] = [
            (&[], E::Malformed(H::Truncated { at: 0 })),
            (&[2], E::Way { way: 2 }),
            (&[0, 0, 65], E::TooMany { names: 65 }),
            (&[0, 0, 1, 64], E::Label { at: 4 }),
            (&[0, 0, 1, 0, 1], E::Label { at: 4 }),
            (&[0, 0, 1, 1, 0xff, 1], E::Label { at: 4 }),
            (&[0, 0, 1, 1, b'\n', 1], E::Label { at: 4 }),
            (&[0, 0, 1, 1, b'a', 0], E::ZeroCount { at: 4 }),
            (&[0, 0, 2, 1, b'b', 1, 1, b'a', 1], E::Order { at: 7 }),
            (&[0, 0, 0, 9], E::Malformed(H::Trailing { extra: 1 })),
            (&[1, 0, 0, 1, 0, 3, 1, 5, 1], E::Rows { row: 1, counted: 1, total: 0 }),
        ];
        for (bytes, error) in cases {
            assert_eq!(EncodedLabels::parse(bytes), Err(error), "{bytes:?}");
        }
        assert!(EncodedLabels::parse(&[1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0]).is_ok());
    }

    proptest! {
        #[test]
        fn merging_in_any_order_gives_the_same_counts(
            windows in prop::collection::vec(prop::collection::vec(0_u16..150, 0..120), 1..6),
        ) {
            let label = |at: &u16| format!("label {at}");
            let parts: List<_> = windows.iter().map(|window| encoded(&of(window.iter().map(label)))).collect();
            let fold = |parts: &mut dyn Iterator<Item = &List<u8>>| {
                let mut sum = LabelCounts::new();
                parts.for_each(|part| sum.merge(EncodedLabels::parse(part).expect("own encoding")));
                sum
            };
            let (forward, backward) = (fold(&mut parts.iter()), fold(&mut parts.iter().rev()));
            let direct = of(windows.iter().flatten().map(label));
            prop_assert_eq!(forward.is_exact(), backward.is_exact());
            for sum in [&forward, &backward, &direct] {
                prop_assert_eq!(&sum.cells, &direct.cells);
            }
            if forward.is_exact() {
                prop_assert_eq!(encoded(&forward), encoded(&backward));
                prop_assert_eq!(encoded(&forward), encoded(&direct));
            }
        }

        #[test]
        fn whatever_parses_encodes_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(parsed) = EncodedLabels::parse(&bytes)
                && parsed.is_exact()
            {
                let mut counts = LabelCounts::new();
                counts.merge(parsed);
                prop_assert_eq!(encoded(&counts), bytes);
            }
        }
    }
}
