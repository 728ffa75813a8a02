//! The bits of entropy-coded data (ITU-T T.81, F.2.2.5), the next one topmost, without the bytes stuffed between them.
//!
//! Must hold: reading beyond a marker or the end yields zeros and is remembered, so that a decoder need not ask before each bit,
//! only before it believes what it read. Nothing is read past a marker until [`BitReader::restart`].

use super::jpeg_error::JpegError;

/// Reads bits from the top of a 64-bit word.
#[derive(Clone, Copy, Debug)]
pub(super) struct BitReader<'a> {
    /// What has not been read yet, and how long all of it was.
    rest: &'a [u8],
    total: usize,
    /// `count` bits from the top are valid; those below are either zero or what the next bytes hold.
    bits: u64,
    count: u32,
    /// So many of the last valid bits are zeros that stand for bits beyond the end.
    invented: u32,
}

impl<'a> BitReader<'a> {
    /// A reader of the bytes from here on.
    pub(super) fn new(data: &'a [u8], at: usize) -> Self {
        Self { rest: data.get(at..).unwrap_or_default(), total: data.len(), bits: 0, count: 0, invented: 0 }
    }

    /// Holds at least so many valid bits afterwards, at most 57.
    #[inline(always)]
    pub(super) fn refill<const VALID: u32>(&mut self) {
        if self.count >= VALID {
            return;
        }
        if let Some(&chunk) = self.rest.first_chunk::<8>() {
            let next = u64::from_be_bytes(chunk);
            // No byte of all ones, hence neither stuffing nor marker (Mycroft's zero-byte test on the complement).
            if (!next).wrapping_sub(0x0101_0101_0101_0101) & next & 0x8080_8080_8080_8080 == 0 {
                // What exceeds whole bytes comes again with the next refill, the same.
                let bytes = (63 - (self.count & 63)) / 8;
                self.bits |= next.wrapping_shr(self.count);
                self.count += 8 * bytes;
                self.rest = &self.rest[bytes as usize..];
                return;
            }
        }
        // By value, so that a caller's reader can stay in registers.
        *self = self.refilled_by_bytes();
    }

    /// The next 64 bits, as far as they are valid.
    #[inline(always)]
    pub(super) const fn peek(&self) -> u64 {
        self.bits
    }

    /// Takes valid bits: as many as the lowest six bits of the number say.
    #[inline(always)]
    pub(super) const fn take(&mut self, used: u32) {
        self.bits = self.bits.wrapping_shl(used);
        self.count = self.count.wrapping_sub(used & 63);
    }

    /// Gives back the last so many of the bits that were taken at once, when these were the next.
    pub(super) const fn give_back(&mut self, next: u64, taken: u32, back: u32) {
        self.bits = next.wrapping_shl(taken.wrapping_sub(back));
        self.count += back;
    }

    /// Whether more bits were taken than there are.
    #[inline(always)]
    pub(super) const fn is_beyond_end(&self) -> bool {
        self.invented > self.count
    }

    /// Whether fewer than 16 bits are left: then bits that are no code may be nothing but the end.
    pub(super) const fn is_near_end(self) -> bool {
        self.invented + 16 > self.count
    }

    #[cold]
    #[inline(never)]
    fn refilled_by_bytes(mut self) -> Self {
        while self.count <= 56 {
            let byte = match self.rest {
                [0xff, 0, rest @ ..] => {
                    self.rest = rest;
                    0xff
                }
                // Any number of these may stand before a marker.
                [0xff, 0xff, ..] => {
                    self.rest = &self.rest[1..];
                    continue;
                }
                [0xff, ..] | [] => {
                    self.invented += 8;
                    0
                }
                [byte, rest @ ..] => {
                    self.rest = rest;
                    *byte
                }
            };
            self.bits |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        self
    }

    /// Goes on behind the next marker, which must be a restart; what is left before it is padding.
    ///
    /// # Errors
    /// [`JpegError::Truncated`] where another marker comes first, or none.
    pub(super) fn restart(&mut self) -> Result<(), JpegError> {
        let at = next_marker(self.rest, 0).ok_or(JpegError::Truncated)?;
        match self.rest.get(at..) {
            Some([_, 0xd0..=0xd7, rest @ ..]) => {
                *self = Self { rest, total: self.total, bits: 0, count: 0, invented: 0 }
            }
            _ => return Err(JpegError::Truncated),
        }
        Ok(())
    }

    /// Where the next byte would be read.
    pub(super) const fn position(&self) -> usize {
        self.total - self.rest.len()
    }
}

/// Where the next marker begins, at or behind `from`, without the fill bytes before it.
pub(super) fn next_marker(data: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += data.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        match data.get(at + 1)? {
            0 => at += 2,
            0xff => at += 1,
            _ => return Some(at),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    /// All bits up to the end, one by one or in larger portions.
    fn all(data: &[u8], portion: u32) -> Vec<u8> {
        let mut reader = BitReader::new(data, 0);
        let mut bits = Vec::new();
        loop {
            reader.refill::<32>();
            let word = reader.peek();
            reader.take(portion);
            if reader.is_beyond_end() {
                return bits;
            }
            bits.extend((0..portion).map(|bit| u8::from(word >> (63 - bit) & 1 == 1)));
        }
    }

    fn bits_of(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> (7 - bit) & 1)).collect()
    }

    #[test]
    fn stuffed_and_fill_bytes_vanish_and_markers_end_the_bits_wherever_they_stand() {
        for plain in 0..24 {
            let start: Vec<u8> = (0..plain).map(|i| 9 * i + 5).collect();
            for (coded, bytes) in [
                (vec![0xff, 0, 0x12], vec![0xff, 0x12]),
                (vec![0xff, 0xff, 0, 0x12], vec![0xff, 0x12]),
                (vec![0xff, 0, 0xff, 0, 0xff, 0xd9, 1, 2, 3, 4, 5, 6, 7, 8, 9], vec![0xff, 0xff]),
                (vec![0x34, 0xff, 0xff, 0xd0, 1, 2, 3, 4, 5, 6, 7, 8, 9], vec![0x34]),
                (vec![0x34, 0xff], vec![0x34]),
                (vec![1, 2, 3, 4, 5, 6, 7, 8, 0xff, 0], vec![1, 2, 3, 4, 5, 6, 7, 8, 0xff]),
            ] {
                let want = bits_of(&[start.clone(), bytes].concat());
                for portion in [1, 3, 7, 16, 31, 32] {
                    let got = all(&[start.clone(), coded.clone()].concat(), portion);
                    let whole = want.len() - want.len() % portion as usize;
                    assert_eq!(got, want[..whole], "{plain} bytes, then {coded:?}, {portion} at a time");
                }
            }
        }
    }

    #[test]
    fn a_restart_skips_padding_and_accepts_no_other_marker() {
        let mut reader = BitReader::new(&[1, 2, 3, 0xff, 0, 4, 0xff, 0xff, 0xd3, 5, 0xff, 0xd9], 0);
        reader.refill::<32>();
        reader.restart().expect("there is one");
        reader.refill::<32>();
        assert_eq!(reader.peek() >> 56, 5);
        assert_eq!(reader.restart(), Err(JpegError::Truncated));
        assert_eq!(BitReader::new(&[1, 2, 3], 0).restart(), Err(JpegError::Truncated));
        assert_eq!(BitReader::new(&[1, 0xff], 0).restart(), Err(JpegError::Truncated));
    }
}
