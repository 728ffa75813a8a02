//! Whether a scan holds every block it should: Huffman codes are read and their values skipped (ITU-T T.81, annexes C and F).
//!
//! Why: a camera or proxy that loses the rest of a frame may still close it properly. Picture libraries then fill in what is
//! missing, and a picture half invented has features like any other.
//!
//! Must hold: linear in the length of the scan; a table or code that cannot be is an error and never a loop.
//!
//! Deliberately absent: values, progressive and arithmetic scans.

use super::DecodeError;

/// Codes up to this length are found in one step.
const FAST_BITS: u32 = 9;
const MALFORMED: DecodeError = DecodeError::Corrupt { what: "a malformed Huffman table" };

/// One Huffman table.
#[derive(Clone, Debug)]
pub(super) struct HuffmanTable {
    /// Length (high byte) and symbol (low byte) for every beginning of `FAST_BITS` bits; 0 where the code is longer.
    fast: [u16; 1 << FAST_BITS],
    /// For each length: one past the largest code, and what to add to a code to get its place among the symbols.
    ends: [u32; 17],
    offsets: [i32; 17],
    symbols: [u8; 256],
}

impl HuffmanTable {
    /// Reads a table (counts of 16 lengths, then symbols) and returns it with the rest of the bytes.
    ///
    /// # Errors
    /// [`DecodeError::Corrupt`] where it is cut short or has more codes than its lengths allow.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let (counts, rest) = bytes.split_first_chunk::<16>().ok_or(MALFORMED)?;
        let total = counts.iter().map(|&count| usize::from(count)).sum::<usize>();
        let (listed, rest) = rest.split_at_checked(total).ok_or(MALFORMED)?;
        let mut table = Self { fast: [0; 1 << FAST_BITS], ends: [0; 17], offsets: [0; 17], symbols: [0; 256] };
        table.symbols.get_mut(..total).ok_or(MALFORMED)?.copy_from_slice(listed);
        let (mut code, mut place) = (0_u32, 0_u32);
        for (length, &count) in (1_u32..).zip(counts) {
            let end = code + u32::from(count);
            if end > 1 << length {
                return Err(MALFORMED);
            }
            table.offsets[length as usize] = place.cast_signed() - code.cast_signed();
            table.ends[length as usize] = end;
            if length <= FAST_BITS {
                for (code, &symbol) in (code..end).zip(listed.iter().skip(place as usize)) {
                    let start = (code << (FAST_BITS - length)) as usize;
                    let entry = u16::from_be_bytes([length.to_le_bytes()[0], symbol]);
                    table.fast[start..start + (1 << (FAST_BITS - length))].fill(entry);
                }
            }
            place += u32::from(count);
            code = end << 1;
        }
        Ok((table, rest))
    }

    /// Length and symbol of the code that the 16 bits begin with.
    fn find(&self, bits: u32) -> Option<(u32, u8)> {
        let [length, symbol] = self.fast[(bits >> (16 - FAST_BITS)) as usize].to_be_bytes();
        if length > 0 {
            return Some((u32::from(length), symbol));
        }
        for length in FAST_BITS + 1..=16 {
            let code = bits >> (16 - length);
            if code < self.ends[length as usize] {
                let place = usize::try_from(code.cast_signed() + self.offsets[length as usize]).ok()?;
                return Some((length, *self.symbols.get(place)?));
            }
        }
        None
    }
}

/// One component's part of every unit of a scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScanComponent<'a> {
    pub(super) dc: &'a HuffmanTable,
    pub(super) ac: &'a HuffmanTable,
    /// Blocks in each unit.
    pub(super) blocks: u32,
}

/// Reads `units` minimum coded units, restarted after every `restart_interval` of them (0: never).
///
/// # Errors
/// [`DecodeError::Truncated`] where the data end first, [`DecodeError::Corrupt`] where they are no codes of these tables.
pub(super) fn check_scan(
    data: &[u8],
    components: &[ScanComponent<'_>],
    units: u64,
    restart_interval: u16,
) -> Result<(), DecodeError> {
    let interval = if restart_interval == 0 { units } else { u64::from(restart_interval) };
    let mut segments = Segments { rest: Some(data) };
    let mut left = units;
    while left > 0 {
        let mut bits = Bits { rest: segments.next().ok_or(DecodeError::Truncated)?, bits: 0, count: 0 };
        for _ in 0..interval.min(left) {
            for component in components {
                for _ in 0..component.blocks {
                    bits.skip_block(component)?;
                }
            }
        }
        left -= interval.min(left);
    }
    Ok(())
}

/// The data between restart markers.
struct Segments<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let data = self.rest.take()?;
        let is_marker = |pair: &[u8]| matches!(pair, [0xff, 0xd0..=0xd7]);
        match data.windows(2).position(is_marker) {
            Some(at) => {
                self.rest = data.get(at + 2..);
                data.get(..at)
            }
            None => Some(data),
        }
    }
}

/// Bits of one segment, the next one topmost.
struct Bits<'a> {
    rest: &'a [u8],
    bits: u64,
    count: u32,
}

impl Bits<'_> {
    /// Holds at least 57 bits afterwards, unless fewer are left.
    fn refill(&mut self) {
        if let Some(chunk) = self.rest.first_chunk::<8>() {
            let next = u64::from_be_bytes(*chunk);
            // No byte of all ones, hence nothing stuffed (Mycroft's zero-byte test on the complement).
            if (!next).wrapping_sub(0x0101_0101_0101_0101) & next & 0x8080_8080_8080_8080 == 0 {
                let bytes = (63 - self.count) / 8;
                self.bits |= next >> self.count;
                self.count += 8 * bytes;
                self.rest = self.rest.get(bytes as usize..).unwrap_or_default();
                // What was taken beyond whole bytes comes again with the next refill, the same.
                self.bits &= !(u64::MAX >> self.count);
                return;
            }
        }
        while self.count <= 56 {
            let Some((&byte, rest)) = self.rest.split_first() else { return };
            self.bits |= u64::from(byte) << (56 - self.count);
            self.count += 8;
            self.rest = rest;
            if byte == 0xff
                && let Some((0, rest)) = rest.split_first()
            {
                self.rest = rest;
            }
        }
    }

    /// Reads a code and skips the value whose length its low four bits tell; returns the symbol.
    fn skip(&mut self, table: &HuffmanTable) -> Result<u8, DecodeError> {
        if self.count < 32 {
            self.refill();
        }
        let top = (self.bits >> 48).to_le_bytes();
        let bits = u32::from(u16::from_le_bytes([top[0], top[1]]));
        let found = table.find(bits);
        let (length, symbol) = match found {
            Some(found) => found,
            None if self.count < 16 => return Err(DecodeError::Truncated),
            None => return Err(DecodeError::Corrupt { what: "bits that are no Huffman code" }),
        };
        let used = length + u32::from(symbol & 15);
        if used > self.count {
            return Err(DecodeError::Truncated);
        }
        self.bits <<= used;
        self.count -= used;
        Ok(symbol)
    }

    fn skip_block(&mut self, component: &ScanComponent<'_>) -> Result<(), DecodeError> {
        self.skip(component.dc)?;
        let mut position = 1_u32;
        while position < 64 {
            let symbol = self.skip(component.ac)?;
            match (symbol >> 4, symbol & 15) {
                (15, 0) => position += 16,
                (_, 0) => return Ok(()),
                (run, _) => position += u32::from(run) + 1,
            }
        }
        if position > 64 {
            return Err(DecodeError::Corrupt { what: "a block of more than 64 coefficients" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes 0 → `first`, 10 → `second`.
    fn table(first: u8, second: u8) -> HuffmanTable {
        let mut bytes = vec![1, 1];
        bytes.extend([0; 14]);
        bytes.extend([first, second]);
        HuffmanTable::read(&bytes).expect("valid").0
    }

    fn check(data: &[u8], units: u64, restart_interval: u16) -> Result<(), DecodeError> {
        // DC of no bits (0) or two (10); end of block (0) or a coefficient of one bit (10).
        let (dc, ac) = (table(0, 2), table(0, 1));
        check_scan(data, &[ScanComponent { dc: &dc, ac: &ac, blocks: 1 }], units, restart_interval)
    }

    #[test]
    fn a_scan_ends_with_its_last_block_and_not_before() {
        // Four empty blocks of two bits each.
        assert!(check(&[0b0000_0000], 4, 0).is_ok());
        assert!(matches!(check(&[0b0000_0000], 5, 0), Err(DecodeError::Truncated)));
        // DC of two bits, one coefficient, end of block: 10 11 10 1 0.
        assert!(check(&[0b1011_1010], 1, 0).is_ok());
        assert!(matches!(check(&[], 1, 0), Err(DecodeError::Truncated)));
    }

    #[test]
    fn bits_that_are_no_code_are_corrupt() {
        assert!(matches!(check(&[0xff, 0, 0xff, 0, 0xff, 0], 1, 0), Err(DecodeError::Corrupt { .. })));
    }

    #[test]
    fn restarts_begin_on_a_new_byte_and_each_interval_must_be_whole() {
        assert!(check(&[0b0011_1111, 0xff, 0xd0, 0b0011_1111], 2, 1).is_ok());
        assert!(matches!(check(&[0b0011_1111], 2, 1), Err(DecodeError::Truncated)));
        assert!(matches!(check(&[0xff, 0xd0, 0], 2, 1), Err(DecodeError::Truncated)));
    }

    #[test]
    fn stuffed_bytes_are_one_byte_in_the_quick_and_in_the_slow_refill() {
        // A block of 63 coefficients of one bit each: 0, then 63 times 10 and a bit, 190 bits in all; bits chosen to give 0xff.
        let mut bits = String::from("0");
        for _ in 0..63 {
            bits.push_str("101");
        }
        bits.push_str("1011101111111111");
        let mut data = Vec::new();
        for byte in bits.as_bytes().chunks_exact(8) {
            let byte = byte.iter().fold(0_u8, |byte, &bit| byte << 1 | (bit - b'0'));
            data.push(byte);
            if byte == 0xff {
                data.push(0);
            }
        }
        assert!(check(&data, 1, 0).is_ok());
        let two: Vec<u8> = [data.clone(), data].concat();
        assert!(check(&two[..24], 1, 0).is_ok(), "190 bits are 24 bytes");
        assert!(matches!(check(&two[..23], 1, 0), Err(DecodeError::Truncated)));
    }

    #[test]
    fn tables_with_more_codes_than_their_lengths_allow_are_refused() {
        let mut bytes = [0; 19];
        bytes[0] = 3;
        assert!(HuffmanTable::read(&bytes).is_err());
        assert!(HuffmanTable::read(&bytes[..15]).is_err());
        bytes[0] = 2;
        assert!(HuffmanTable::read(&bytes).is_ok());
        assert!(HuffmanTable::read(&bytes[..17]).is_err(), "a symbol is missing");
    }
}
