//! Huffman tables of ITU-T T.81, annex C.
//!
//! Must hold: a table that cannot be is refused when it is read, and no sequence of bits leads outside a table.
//!
//! Deliberately absent: quick look-up, which depends on what is looked up.

use super::jpeg_error::JpegError;

const MALFORMED: JpegError = JpegError::Corrupt { what: "a malformed Huffman table" };

/// Longest code, in bits.
pub(super) const LONGEST: u32 = 16;

/// The codes of one table.
#[derive(Clone, Debug)]
pub(super) struct Codes {
    /// For each length: one past the largest code, and what to add to a code to get its place among the symbols.
    ends: [u32; LONGEST as usize + 1],
    offsets: [i32; LONGEST as usize + 1],
    symbols: [u8; 256],
}

impl Codes {
    /// A table without any code.
    pub(super) const fn new() -> Self {
        Self { ends: [0; LONGEST as usize + 1], offsets: [0; LONGEST as usize + 1], symbols: [0; 256] }
    }

    /// Reads a table (counts of 16 lengths, then symbols) and returns it with the rest of the bytes.
    ///
    /// # Errors
    /// [`JpegError::Corrupt`] where it is cut short or has more codes than its lengths allow.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, &[u8]), JpegError> {
        let (counts, rest) = bytes.split_first_chunk::<16>().ok_or(MALFORMED)?;
        let total = counts.iter().map(|&count| usize::from(count)).sum::<usize>();
        let (listed, rest) = rest.split_at_checked(total).ok_or(MALFORMED)?;
        let mut codes = Self::new();
        codes.symbols.get_mut(..total).ok_or(MALFORMED)?.copy_from_slice(listed);
        let (mut code, mut place) = (0_u32, 0_u32);
        for (length, &count) in (1_u32..).zip(counts) {
            let end = code + u32::from(count);
            if end > 1 << length {
                return Err(MALFORMED);
            }
            codes.offsets[length as usize] = place.cast_signed() - code.cast_signed();
            codes.ends[length as usize] = end;
            place += u32::from(count);
            code = end << 1;
        }
        Ok((codes, rest))
    }

    /// Every code of one length, with its symbol.
    pub(super) fn of_length(&self, length: u32) -> impl Iterator<Item = (u32, u8)> {
        let at = length.min(LONGEST) as usize;
        let first = if at == 0 { 0 } else { self.ends[at - 1] << 1 };
        let place = usize::try_from(first.cast_signed() + self.offsets[at]).unwrap_or(usize::MAX);
        (first..self.ends[at]).zip(self.symbols.iter().skip(place).copied())
    }

    /// Length and symbol of the code that these 16 bits begin with, if it has at least `shortest` bits.
    ///
    /// The bits must not begin with a shorter code.
    pub(super) fn find(&self, bits: u32, shortest: u32) -> Option<(u32, u8)> {
        for length in shortest..=LONGEST {
            let code = bits >> (LONGEST - length);
            if code < self.ends[length as usize] {
                let place = usize::try_from(code.cast_signed() + self.offsets[length as usize]).ok()?;
                return Some((length, *self.symbols.get(place)?));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn tables_with_more_codes_than_their_lengths_allow_are_refused() {
        let mut bytes = [0; 19];
        bytes[0] = 3;
        assert!(Codes::read(&bytes).is_err());
        assert!(Codes::read(&bytes[..15]).is_err());
        bytes[0] = 2;
        assert!(Codes::read(&bytes).is_ok());
        assert!(Codes::read(&bytes[..17]).is_err(), "a symbol is missing");
    }

    #[test]
    fn codes_are_found_in_their_order_and_listed_by_length() {
        // 0; 10 and 110; nothing begins with 111.
        let mut bytes = vec![1, 1, 1];
        bytes.extend([0; 13]);
        bytes.extend([7, 8, 9, 55]);
        let (codes, rest) = Codes::read(&bytes).expect("valid");
        assert_eq!(rest, [55]);
        for (bits, found) in [(0, Some((1, 7))), (0x8000, Some((2, 8))), (0xdfff, Some((3, 9))), (0xe000, None)] {
            assert_eq!(codes.find(bits, 1), found);
        }
        assert_eq!(codes.find(0xd000, 3), Some((3, 9)));
        let listed = |length| codes.of_length(length).collect::<Vec<_>>();
        assert_eq!([1, 2, 3, 16].map(listed), [vec![(0, 7)], vec![(2, 8)], vec![(6, 9)], vec![]]);
    }
}
