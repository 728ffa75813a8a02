//! Coefficients from entropy-coded bits (ITU-T T.81, F.2.2), most of them in one look-up each.
//!
//! The next few bits are an index. Where they hold a whole code and the value behind it, which is so for nearly all coefficients
//! of a camera's picture, the entry has the value, the run and the number of bits; where the value is longer, the entry says how
//! long it is; where the code is longer, it is searched for.
//!
//! Must hold: positions never leave a block; a block costs at most 63 look-ups.

use crate::decode::bits::BitReader;
use crate::decode::huffman::Codes;
use crate::decode::jpeg_error::{JpegError, NO_CODE, TOO_MANY};

/// Entries of the tables: enough for the codes that are common in each.
pub(super) const DC_ENTRIES: usize = 1 << SHORTEST_INDEX;
pub(super) const AC_ENTRIES: usize = 1 << 10;
const PAIR_BITS: u32 = 11;
const SHORTEST_INDEX: u32 = 9;
/// Longest value of an 8-bit picture, that of a DC difference (ITU-T T.81, table F.1), and of a value and its code.
const LONGEST_SIZE: u32 = 11;
pub(super) const LONGEST: u32 = LONGEST_SIZE + 16;
/// The number of bits to take is in the lowest six; this is set where the entry has no value yet.
const LENGTH_MASK: u32 = 0x3f;
const UNFINISHED: u32 = 1 << 7;
/// Where the number of positions to go on is kept, in eight bits, and where the value.
const ADVANCE_SHIFT: u32 = 8;
const VALUE_SHIFT: u32 = 16;
/// Leads out of a block from anywhere in it, and further out than any run.
const END_OF_BLOCK: u32 = 127;

/// What a table's symbols mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Lengths of differences of DC coefficients.
    Dc,
    /// Runs of zeros and lengths of the coefficients that end them.
    Ac,
}

/// What is wrong with a block; small, because every block is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The data end inside it.
    End,
    /// Bits that are no code, or one of a value that no 8-bit picture has.
    NoCode,
    /// More than 64 coefficients.
    TooMany,
}

impl From<Fault> for JpegError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::End => Self::Truncated,
            Fault::NoCode => NO_CODE,
            Fault::TooMany => TOO_MANY,
        }
    }
}

/// One table, as entries by the next bits; `SIZE` is a power of two.
///
/// An entry, from the lowest bit: bits to take (6), a gap, whether it is unfinished (1), positions to go on (8), the value (16, with
/// its sign). An unfinished one has the length of its code in the place of bits to take, 0 where the code is longer than an index,
/// and the size of its value in the place of the value.
#[derive(Debug)]
pub(super) struct Lookup<const SIZE: usize> {
    entries: [u32; SIZE],
    codes: Codes,
    kind: Kind,
}

impl<const SIZE: usize> Lookup<SIZE> {
    pub(super) const fn new(kind: Kind) -> Self {
        Self { entries: [0; SIZE], codes: Codes::new(), kind }
    }

    /// Replaces the table.
    pub(super) fn set(&mut self, codes: &Codes) {
        self.codes.clone_from(codes);
        self.entries.fill(UNFINISHED);
        for_each_entry(codes, self.kind, SIZE.ilog2(), |index, entry| {
            if let Some(slot) = self.entries.get_mut(index) {
                *slot = entry;
            }
        });
    }

    /// The entry for the next bits, finished.
    #[inline(always)]
    fn entry(&self, next: u64, bits: BitReader<'_>) -> Result<u32, Fault> {
        #[expect(clippy::cast_possible_truncation, reason = "a few bits are left")]
        let index = (next >> (64 - SIZE.ilog2())) as usize;
        let entry = self.entries[index & (SIZE - 1)];
        if entry & UNFINISHED == 0 {
            return Ok(entry);
        }
        finished(&self.codes, self.kind, entry, next).ok_or_else(|| no_code(bits))
    }
}

/// Calls with every index of so many bits that begins with a code, and its entry.
fn for_each_entry(codes: &Codes, kind: Kind, index_bits: u32, mut set: impl FnMut(usize, u32)) {
    for length in 1..=index_bits {
        let below = index_bits - length;
        for (code, symbol) in codes.of_length(length) {
            let size = u32::from(symbol & 15);
            for bits in 0..1 << below {
                let index = (code << below | bits) as usize;
                if size > below {
                    set(index, advance(kind, symbol) | length | UNFINISHED | size << VALUE_SHIFT);
                } else {
                    let value = extended(bits >> (below - size), size);
                    set(index, advance(kind, symbol) | (length + size) | value.cast_unsigned() << VALUE_SHIFT);
                }
            }
        }
    }
}

/// An unfinished entry with its value; `None` where the bits begin with no code.
#[inline(never)]
fn finished(codes: &Codes, kind: Kind, entry: u32, next: u64) -> Option<u32> {
    let (length, size, plain) = match entry & LENGTH_MASK {
        0 => {
            // No shorter code is found, whatever the length of an index.
            let (length, symbol) = codes.find(u32::try_from(next >> 48).ok()?, SHORTEST_INDEX + 1)?;
            (length, u32::from(symbol & 15), advance(kind, symbol))
        }
        length => (length, entry >> VALUE_SHIFT, entry & (0xff << ADVANCE_SHIFT)),
    };
    if size > LONGEST_SIZE {
        return None;
    }
    // One more shift, because a size of 0 would be one by all 64 bits.
    let bits = u32::try_from(next << length >> 1 >> (63 - size)).ok()?;
    Some(plain | (length + size) | extended(bits, size).cast_unsigned() << VALUE_SHIFT)
}

/// Positions to go on, in its place.
fn advance(kind: Kind, symbol: u8) -> u32 {
    let advance = match (kind, symbol >> 4, symbol & 15) {
        (Kind::Dc, ..) => 0,
        (Kind::Ac, 15, 0) => 16,
        (Kind::Ac, _, 0) => END_OF_BLOCK,
        (Kind::Ac, run, _) => u32::from(run) + 1,
    };
    advance << ADVANCE_SHIFT
}

/// The value that `size` bits stand for (ITU-T T.81, F.2.2.1).
#[inline(always)]
const fn extended(bits: u32, size: u32) -> i32 {
    let bits = bits.cast_signed();
    if size > 0 && bits >> (size - 1) == 0 { bits - (1 << size) + 1 } else { bits }
}

/// Reads the difference of a DC coefficient from the last of its component.
///
/// The reader must have been refilled for one code.
#[inline(always)]
pub(super) fn difference(bits: &mut BitReader<'_>, dc: &Lookup<DC_ENTRIES>) -> Result<i32, Fault> {
    let next = bits.peek();
    let entry = dc.entry(next, *bits)?;
    bits.take(entry);
    Ok(entry.cast_signed() >> VALUE_SHIFT)
}

/// Reads the other 63 coefficients and hands each that is not zero, and perhaps some that are, over with its zigzag position.
#[inline(always)]
pub(super) fn coefficients(
    bits: &mut BitReader<'_>,
    ac: &Lookup<AC_ENTRIES>,
    mut store: impl FnMut(usize, i32),
) -> Result<(), Fault> {
    let mut position = 0_u32;
    while position < 63 {
        bits.refill::<LONGEST>();
        let entry = ac.entry(bits.peek(), *bits)?;
        bits.take(entry);
        position += (entry >> ADVANCE_SHIFT) & 0xff;
        if position > 63 {
            break;
        }
        store(position as usize, entry.cast_signed() >> VALUE_SHIFT);
    }
    ended(*bits, position)
}

/// Whether a block that was left at this position is whole.
#[inline(always)]
const fn ended(bits: BitReader<'_>, position: u32) -> Result<(), Fault> {
    if bits.is_beyond_end() {
        return Err(Fault::End);
    }
    if position > 63 && position < END_OF_BLOCK { Err(Fault::TooMany) } else { Ok(()) }
}

/// A table of AC coefficients that finds two at once where both fit into an index.
///
/// Each look-up waits for the one before, to know where its bits begin, so half as many take half as long. The second may be the end
/// of the block. Where there is no second, the entry repeats the first, and storing it again changes nothing.
#[derive(Debug)]
pub(super) struct Pairs {
    /// Entries as above with the bits to take of both; in the upper half those of the second alone, another advance and value.
    entries: [u64; 1 << PAIR_BITS],
    codes: Codes,
}

impl Pairs {
    pub(super) const fn new() -> Self {
        Self { entries: [0; 1 << PAIR_BITS], codes: Codes::new() }
    }

    /// Replaces the table.
    pub(super) fn set(&mut self, codes: &Codes) {
        self.codes.clone_from(codes);
        self.entries.fill(UNFINISHED.into());
        for_each_entry(codes, Kind::Ac, PAIR_BITS, |index, entry| {
            if let Some(slot) = self.entries.get_mut(index) {
                *slot = entry.into();
            }
        });
        for index in 0..1 << PAIR_BITS {
            let [first, _] = halves(self.entries[index]);
            let length = first & LENGTH_MASK;
            // That entry may be a pair by now; taken apart again it is the first of it.
            let [second, third] = halves(self.entries[(index << length) & ((1 << PAIR_BITS) - 1)]);
            let second = second - (third & LENGTH_MASK);
            let fit = (first | second) & UNFINISHED == 0 && length + (second & LENGTH_MASK) <= PAIR_BITS;
            let is_end = (first >> ADVANCE_SHIFT) & 0xff == END_OF_BLOCK;
            self.entries[index] = if fit && !is_end {
                u64::from(first + (second & LENGTH_MASK)) | u64::from(second) << 32
            } else {
                u64::from(first) | u64::from(first >> VALUE_SHIFT << VALUE_SHIFT) << 32
            };
        }
    }

    /// Reads the other 63 coefficients, as [`coefficients`] does. The same one may be handed over twice.
    #[inline(always)]
    pub(super) fn coefficients(
        &self,
        bits: &mut BitReader<'_>,
        mut store: impl FnMut(usize, i32),
    ) -> Result<(), Fault> {
        let mut position = 0_u32;
        while position < 63 {
            bits.refill::<LONGEST>();
            let next = bits.peek();
            let [first, second] = halves(self.entries[(next >> (64 - PAIR_BITS)) as usize]);
            if first & UNFINISHED != 0 {
                let first = finished(&self.codes, Kind::Ac, first, next).ok_or_else(|| no_code(*bits))?;
                bits.take(first);
                position += (first >> ADVANCE_SHIFT) & 0xff;
                if position > 63 {
                    break;
                }
                store(position as usize, first.cast_signed() >> VALUE_SHIFT);
                continue;
            }
            bits.take(first);
            position += (first >> ADVANCE_SHIFT) & 0xff;
            if position >= 63 {
                if position == 63 {
                    // The second is of the next block.
                    store(63, first.cast_signed() >> VALUE_SHIFT);
                    bits.give_back(next, first & LENGTH_MASK, second & LENGTH_MASK);
                }
                break;
            }
            store(position as usize, first.cast_signed() >> VALUE_SHIFT);
            position += (second >> ADVANCE_SHIFT) & 0xff;
            if position > 63 {
                break;
            }
            store(position as usize, second.cast_signed() >> VALUE_SHIFT);
        }
        ended(*bits, position)
    }
}

/// Lower and upper half.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "halves are what is wanted")]
const fn halves(entry: u64) -> [u32; 2] {
    [entry as u32, (entry >> 32) as u32]
}

/// What it means that the next bits are no code.
const fn no_code(bits: BitReader<'_>) -> Fault {
    if bits.is_near_end() { Fault::End } else { Fault::NoCode }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    use super::*;

    /// Codes of every length from 1 to 16, ones followed by a zero, with these symbols.
    fn codes(symbols: [u8; 16]) -> Codes {
        let bytes = [[1; 16], symbols].concat();
        Codes::read(&bytes).expect("valid").0
    }

    /// A code, or a value, as bits.
    fn code(place: usize) -> String {
        format!("{}0", "1".repeat(place))
    }

    fn bits_of(value: i32, size: u32) -> String {
        let bits = if value < 0 { value - 1 + (1 << size) } else { value };
        format!("{bits:0width$b}", width = size as usize)
    }

    fn bytes(bits: &str) -> Vec<u8> {
        let padded = format!("{bits}{}", "1".repeat(7));
        let mut bytes = Vec::new();
        for byte in padded.as_bytes().chunks_exact(8) {
            bytes.push(byte.iter().fold(0_u8, |byte, &bit| byte << 1 | (bit - b'0')));
            if bytes.last() == Some(&0xff) {
                bytes.push(0);
            }
        }
        bytes
    }

    fn read(data: &[u8], ac: &Lookup<AC_ENTRIES>) -> Result<Vec<(usize, i32)>, Fault> {
        let mut found = Vec::new();
        let result = coefficients(&mut BitReader::new(data, 0), ac, |position, value| found.push((position, value)));
        found.retain(|&(_, value)| value != 0);
        let mut pairs = Pairs::new();
        pairs.set(&ac.codes);
        let mut by_pairs = Vec::new();
        let other =
            pairs.coefficients(&mut BitReader::new(data, 0), |position, value| by_pairs.push((position, value)));
        // Which of two faults is met first may differ.
        assert_eq!(result.is_ok(), other.is_ok());
        by_pairs.retain(|&(_, value)| value != 0);
        by_pairs.dedup();
        assert_eq!(found, by_pairs);
        result.map(|()| found)
    }

    fn first_difference(data: &[u8], dc: &Lookup<DC_ENTRIES>) -> Result<i32, Fault> {
        let mut bits = BitReader::new(data, 0);
        bits.refill::<LONGEST>();
        difference(&mut bits, dc)
    }

    #[test]
    fn values_of_every_size_and_sign_are_read_behind_codes_of_every_length() {
        for place in 0..16 {
            for size in 1..=LONGEST_SIZE {
                let mut symbols = [0_u8; 16];
                symbols[place] = u8::try_from(size).expect("small") | 0x20;
                let mut ac = Lookup::new(Kind::Ac);
                ac.set(&codes(symbols));
                let most = (1 << size) - 1;
                let values = [-most, -(1 << (size - 1)), 1 << (size - 1), most];
                let end = code((place + 1) % 16);
                let bits: String = values.iter().map(|&value| code(place) + &bits_of(value, size)).collect();
                let want: Vec<_> = [3, 6, 9, 12].into_iter().zip(values).collect();
                assert_eq!(read(&bytes(&(bits + &end)), &ac), Ok(want));
            }
        }
    }

    #[test]
    fn runs_of_sixteen_zeros_are_skipped_and_no_run_leads_out_of_the_block() {
        let mut ac = Lookup::new(Kind::Ac);
        let mut symbols = [0; 16];
        symbols[1] = 0xf0;
        symbols[2] = 0xe1;
        symbols[3] = 0x01;
        ac.set(&codes(symbols));
        let (end, sixteen, fourteen, one) = (code(0), code(1), code(2) + "1", code(3) + "0");
        let block = |parts: &[&String]| read(&bytes(&parts.iter().map(|s| s.as_str()).collect::<String>()), &ac);
        assert_eq!(block(&[&one, &sixteen, &one, &end]), Ok(vec![(1, -1), (18, -1)]));
        // 48 zeros and 14 more, and the last coefficient: no end follows.
        assert_eq!(block(&[&sixteen, &sixteen, &sixteen, &fourteen]), Ok(vec![(63, 1)]));
        assert_eq!(block(&[&sixteen, &sixteen, &sixteen, &fourteen, &one]), Ok(vec![(63, 1)]));
        assert_eq!(block(&[&one, &sixteen, &sixteen, &sixteen, &fourteen]), Err(Fault::TooMany));
        assert_eq!(block(&[&sixteen, &sixteen, &sixteen, &sixteen, &end]), Err(Fault::TooMany));
    }

    #[test]
    fn bits_that_are_no_code_and_bits_that_are_not_there_are_told_apart() {
        let mut ac = Lookup::new(Kind::Ac);
        let mut counts = vec![1];
        counts.extend([0; 15]);
        counts.push(0x01);
        ac.set(&Codes::read(&counts).expect("valid").0);
        assert!(read(&[0x7f; 5], &ac) == Err(Fault::NoCode));
        assert_eq!(read(&[0], &ac), Err(Fault::End));
        assert_eq!(read(&[0x7f], &ac), Err(Fault::End));
    }

    #[test]
    fn differences_have_a_size_of_up_to_eleven_bits_and_longer_ones_are_corrupt() {
        let mut dc = Lookup::new(Kind::Dc);
        let mut symbols = [0; 16];
        symbols[3] = 11;
        symbols[15] = 12;
        dc.set(&codes(symbols));
        for (place, value, size) in [(0, 0, 0), (3, -2047, 11), (3, 1024, 11)] {
            let bits = if size == 0 { code(place) } else { code(place) + &bits_of(value, size) };
            assert_eq!(first_difference(&bytes(&bits), &dc), Ok(value));
        }
        let bits = code(15) + &bits_of(4095, 12);
        assert_eq!(first_difference(&bytes(&bits), &dc), Err(Fault::NoCode));
    }
}
