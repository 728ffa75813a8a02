//! Whether a scan holds every block it should: Huffman codes are read and their values skipped (ITU-T T.81, annexes C and F).
//!
//! Why: a camera or proxy that loses the rest of a frame may still close it properly. Picture libraries then fill in what is
//! missing, and a picture half invented has features like any other. Pictures that are measured strip by strip are checked there;
//! this is for those that a library decodes.
//!
//! Must hold: linear in the length of the scan; a table or code that cannot be is an error and never a loop.
//!
//! Deliberately absent: values, progressive and arithmetic scans.

use crate::decode::bits::BitReader;
use crate::decode::huffman::Codes;
use crate::decode::jpeg_error::{JpegError, NO_CODE, TOO_MANY};

/// The most bits of a code and the value behind it.
const LONGEST_VALUE: u32 = 31;

/// One component's part of every unit of a scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScanComponent<'a> {
    pub(super) dc: &'a Codes,
    pub(super) ac: &'a Codes,
    /// Blocks in each unit.
    pub(super) blocks: u32,
}

/// Reads `units` minimum coded units, restarted after every `restart_interval` of them (0: never).
///
/// # Errors
/// [`JpegError::Truncated`] where the data end first, [`JpegError::Corrupt`] where they are no codes of these tables.
pub(super) fn check_scan(
    data: &[u8],
    components: &[ScanComponent<'_>],
    units: u64,
    restart_interval: u16,
) -> Result<(), JpegError> {
    let interval = if restart_interval == 0 { units } else { u64::from(restart_interval) };
    let mut bits = BitReader::new(data, 0);
    let mut left = units;
    while left > 0 {
        for _ in 0..interval.min(left) {
            for component in components {
                for _ in 0..component.blocks {
                    skip_block(&mut bits, component)?;
                }
            }
        }
        left -= interval.min(left);
        if left > 0 {
            bits.restart()?;
        }
    }
    Ok(())
}

/// Reads a code and skips the value whose length its low four bits tell; returns the symbol.
fn skip(bits: &mut BitReader<'_>, codes: &Codes) -> Result<u8, JpegError> {
    bits.refill::<LONGEST_VALUE>();
    let top = bits.peek() >> 48;
    let Some((length, symbol)) = u32::try_from(top).ok().and_then(|top| codes.find(top, 1)) else {
        return Err(no_code(*bits));
    };
    bits.take(length + u32::from(symbol & 15));
    if bits.is_beyond_end() {
        return Err(JpegError::Truncated);
    }
    Ok(symbol)
}

/// What it means that the next bits are no code.
const fn no_code(bits: BitReader<'_>) -> JpegError {
    if bits.is_near_end() { JpegError::Truncated } else { NO_CODE }
}

fn skip_block(bits: &mut BitReader<'_>, component: &ScanComponent<'_>) -> Result<(), JpegError> {
    skip(bits, component.dc)?;
    let mut position = 1_u32;
    while position < 64 {
        let symbol = skip(bits, component.ac)?;
        match (symbol >> 4, symbol & 15) {
            (15, 0) => position += 16,
            (_, 0) => return Ok(()),
            (run, _) => position += u32::from(run) + 1,
        }
    }
    if position > 64 {
        return Err(TOO_MANY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes 0 → `first`, 10 → `second`.
    fn codes(first: u8, second: u8) -> Codes {
        let mut bytes = vec![1, 1];
        bytes.extend([0; 14]);
        bytes.extend([first, second]);
        Codes::read(&bytes).expect("valid").0
    }

    fn check(data: &[u8], units: u64, restart_interval: u16) -> Result<(), JpegError> {
        // DC of no bits (0) or two (10); end of block (0) or a coefficient of one bit (10).
        let (dc, ac) = (codes(0, 2), codes(0, 1));
        check_scan(data, &[ScanComponent { dc: &dc, ac: &ac, blocks: 1 }], units, restart_interval)
    }

    #[test]
    fn a_scan_ends_with_its_last_block_and_not_before() {
        // Four empty blocks of two bits each.
        assert!(check(&[0b0000_0000], 4, 0).is_ok());
        assert_eq!(check(&[0b0000_0000], 5, 0), Err(JpegError::Truncated));
        // DC of two bits, one coefficient, end of block: 10 11 10 1 0.
        assert!(check(&[0b1011_1010], 1, 0).is_ok());
        assert_eq!(check(&[], 1, 0), Err(JpegError::Truncated));
    }

    #[test]
    fn bits_that_are_no_code_are_corrupt() {
        assert!(matches!(check(&[0xff, 0, 0xff, 0, 0xff, 0], 1, 0), Err(JpegError::Corrupt { .. })));
    }

    #[test]
    fn restarts_begin_on_a_new_byte_and_each_interval_must_be_whole() {
        assert!(check(&[0b0011_1111, 0xff, 0xd0, 0b0011_1111], 2, 1).is_ok());
        assert_eq!(check(&[0b0011_1111], 2, 1), Err(JpegError::Truncated));
        assert_eq!(check(&[0xff, 0xd0, 0], 2, 1), Err(JpegError::Truncated));
    }

    #[test]
    fn a_block_of_63_coefficients_is_whole_and_a_cut_one_is_not() {
        // 0, then 63 times 10 and a bit, 190 bits in all; bits chosen to give 0xff.
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
        assert_eq!(check(&two[..23], 1, 0), Err(JpegError::Truncated));
    }
}
