//! What a JPEG says about itself before and between its scans (ITU-T T.81, annex B), and whether it is all there.
//!
//! Must hold: a picture whose end is missing is refused, because decoders fill the rest with grey and call it a picture.
//!
//! Deliberately absent: entropy decoding. Data lost from the middle of a scan that still ends properly goes unnoticed here.

use super::DecodeError;

/// Entries of a quantisation table, in zigzag order.
pub(super) type Table = [u16; 64];

/// The facts of one JPEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JpegHeader {
    pub(super) width: u32,
    pub(super) height: u32,
    /// The luma quantisation table; `None` where the first component is not luma (RGB and CMYK pictures).
    pub(super) luma_table: Option<Table>,
}

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
const QUANTISATION_TABLES: u8 = 0xdb;
const ADOBE: u8 = 0xee;

/// Whether bytes begin like a JPEG.
pub(super) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, START_OF_IMAGE, 0xff])
}

/// The frame header: size and which table the first component uses.
struct Frame {
    width: u32,
    height: u32,
    components: u8,
    luma_table: usize,
    is_rgb_by_name: bool,
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Reads every segment up to the end of the image. Linear in the length of the data.
///
/// # Errors
/// [`DecodeError::Truncated`] where the end is missing, [`DecodeError::Corrupt`] where a segment is malformed.
pub(super) fn parse(bytes: &[u8]) -> Result<JpegHeader, DecodeError> {
    let mut walk = Walk { bytes, at: 2 };
    let mut tables: [Option<Table>; 4] = [None; 4];
    let mut frame: Option<Frame> = None;
    let mut adobe_transform = None;
    // The tables in force when the first scan begins are the ones luma is coded with.
    let mut luma_table = None;
    let mut entropy_bytes = 0;
    loop {
        let marker = walk.marker()?;
        match marker {
            END_OF_IMAGE => break,
            // Markers without a segment: TEM and stray restarts.
            0x01 | 0xd0..=0xd7 => {}
            START_OF_SCAN => {
                let header = frame.as_ref().ok_or(DecodeError::Corrupt { what: "a scan before the frame header" })?;
                walk.segment()?;
                if entropy_bytes == 0 {
                    luma_table = tables.get(header.luma_table).copied().flatten();
                }
                let start = walk.at;
                walk.skip_scan()?;
                entropy_bytes += walk.at - start;
            }
            QUANTISATION_TABLES => read_tables(walk.segment()?, &mut tables)?,
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                let header = read_frame(walk.segment()?)?;
                if frame.replace(header).is_some() {
                    return Err(DecodeError::Corrupt { what: "two frame headers" });
                }
            }
            ADOBE => {
                let segment = walk.segment()?;
                if segment.starts_with(b"Adobe") {
                    adobe_transform = segment.get(11).copied();
                }
            }
            _ => {
                walk.segment()?;
            }
        }
    }
    let frame = frame.ok_or(DecodeError::Corrupt { what: "no frame header" })?;
    // Every block takes at least one bit, in whatever mode: less data cannot be the whole picture.
    let blocks = u64::from(frame.width.div_ceil(8)) * u64::from(frame.height.div_ceil(8));
    if (entropy_bytes as u64) * 8 < blocks / 64 {
        return Err(DecodeError::Truncated);
    }
    let is_luma_first = match frame.components {
        1 => true,
        3 => adobe_transform.map_or(!frame.is_rgb_by_name, |transform| transform == 1),
        _ => false,
    };
    Ok(JpegHeader { width: frame.width, height: frame.height, luma_table: luma_table.filter(|_| is_luma_first) })
}

impl<'a> Walk<'a> {
    /// The next marker; fill bytes before it are skipped.
    fn marker(&mut self) -> Result<u8, DecodeError> {
        if self.bytes.get(self.at).ok_or(DecodeError::Truncated)? != &0xff {
            return Err(DecodeError::Corrupt { what: "no marker where one belongs" });
        }
        loop {
            let byte = *self.bytes.get(self.at).ok_or(DecodeError::Truncated)?;
            self.at += 1;
            if byte != 0xff {
                return Ok(byte);
            }
        }
    }

    /// The content of the segment that begins here, without its length.
    fn segment(&mut self) -> Result<&'a [u8], DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = usize::from(u16::from_be_bytes(*rest.first_chunk().ok_or(DecodeError::Truncated)?));
        if length < 2 {
            return Err(DecodeError::Corrupt { what: "a segment shorter than its length" });
        }
        let content = rest.get(2..length).ok_or(DecodeError::Truncated)?;
        self.at += length;
        Ok(content)
    }

    /// Skips entropy-coded data up to the next marker that is no restart.
    fn skip_scan(&mut self) -> Result<(), DecodeError> {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let offset = rest.iter().position(|&byte| byte == 0xff).ok_or(DecodeError::Truncated)?;
            self.at += offset;
            match self.bytes.get(self.at + 1) {
                None => return Err(DecodeError::Truncated),
                Some(0x00 | 0xd0..=0xd7) => self.at += 2,
                Some(0xff) => self.at += 1,
                Some(_) => return Ok(()),
            }
        }
    }
}

fn read_tables(mut segment: &[u8], tables: &mut [Option<Table>; 4]) -> Result<(), DecodeError> {
    const MALFORMED: DecodeError = DecodeError::Corrupt { what: "a malformed quantisation table" };
    while let Some((&kind, rest)) = segment.split_first() {
        let slot = tables.get_mut(usize::from(kind & 15)).ok_or(MALFORMED)?;
        let mut table = [0; 64];
        let length = match kind >> 4 {
            0 => {
                let bytes: &[u8; 64] = rest.first_chunk().ok_or(MALFORMED)?;
                table = bytes.map(u16::from);
                64
            }
            1 => {
                let bytes: &[u8; 128] = rest.first_chunk().ok_or(MALFORMED)?;
                for (entry, pair) in table.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *entry = u16::from_be_bytes(*pair);
                }
                128
            }
            _ => return Err(MALFORMED),
        };
        if table.contains(&0) {
            return Err(MALFORMED);
        }
        *slot = Some(table);
        segment = rest.get(length..).unwrap_or_default();
    }
    Ok(())
}

fn read_frame(segment: &[u8]) -> Result<Frame, DecodeError> {
    const MALFORMED: DecodeError = DecodeError::Corrupt { what: "a malformed frame header" };
    let &[_, h0, h1, w0, w1, components, ref list @ ..] = segment else { return Err(MALFORMED) };
    let &[first, _, table, ..] = list else { return Err(MALFORMED) };
    if list.len() != 3 * usize::from(components) {
        return Err(MALFORMED);
    }
    let names = [first, list.get(3).copied().unwrap_or(0), list.get(6).copied().unwrap_or(0)];
    let (width, height) = (u32::from(u16::from_be_bytes([w0, w1])), u32::from(u16::from_be_bytes([h0, h1])));
    Ok(Frame { width, height, components, luma_table: usize::from(table), is_rgb_by_name: names == *b"RGB" })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Start, one table of `q`, a frame of 16x8 with one component, a scan of some bytes, end.
    fn tiny(q: u8) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8, 0xff, 0xdb, 0, 67, 0];
        bytes.extend([q; 64]);
        bytes.extend([0xff, 0xc0, 0, 11, 8, 0, 8, 0, 16, 1, 1, 0x11, 0]);
        bytes.extend([0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 0x12, 0xff, 0x00, 0xff, 0xd0, 0x34, 0xff, 0xd9]);
        bytes
    }

    #[test]
    fn size_and_table_are_read_across_stuffed_bytes_and_restarts() {
        let header = parse(&tiny(7)).expect("valid");
        assert_eq!(header, JpegHeader { width: 16, height: 8, luma_table: Some([7; 64]) });
    }

    #[test]
    fn every_prefix_is_truncated() {
        let bytes = tiny(7);
        for length in 2..bytes.len() {
            assert!(matches!(parse(&bytes[..length]), Err(DecodeError::Truncated)), "{length}");
        }
    }

    #[test]
    fn a_table_with_a_zero_and_a_second_frame_header_are_corrupt() {
        assert!(matches!(parse(&tiny(0)), Err(DecodeError::Corrupt { .. })));
        let mut bytes = tiny(7);
        let frame = bytes[71..84].to_vec();
        bytes.splice(71..71, frame);
        assert!(matches!(parse(&bytes), Err(DecodeError::Corrupt { what: "two frame headers" })));
    }

    #[test]
    fn sixteen_bit_tables_are_read_and_rgb_pictures_have_no_luma_table() {
        let mut segment = vec![0x11];
        segment.extend([1, 2].repeat(64));
        let mut tables = [None; 4];
        read_tables(&segment, &mut tables).expect("valid");
        assert_eq!(tables[1], Some([258; 64]));
        let frame = read_frame(&[8, 0, 8, 0, 8, 3, b'R', 0x11, 0, b'G', 0x11, 0, b'B', 0x11, 0]).expect("valid");
        assert!(frame.is_rgb_by_name);
    }
}
