//! Whether a JPEG is all there before a library decodes it in full, and what it says about itself.
//!
//! Must hold: a picture of which a part is missing is refused, because decoders fill the rest with grey and call it a picture.
//! For sequential Huffman pictures, which is what cameras send, every block is accounted for; of others, every component must
//! have a scan, a bit for every block, and an end.

use super::entropy::{ScanComponent, check_scan};
use crate::decode::huffman::Codes;
use crate::decode::jpeg_error::JpegError;
use crate::decode::jpeg_header::{
    ADOBE, COMPONENTS, Component, END_OF_IMAGE, Frame, HUFFMAN_TABLES, QUANTISATION_TABLES, RESTART_INTERVAL,
    START_OF_SCAN, Table, Walk, read_frame, read_tables,
};
use crate::frame::PictureSize;

/// The facts of one JPEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JpegHeader {
    pub(super) size: PictureSize,
    /// The luma quantisation table; `None` where the first component is not luma (RGB and CMYK pictures).
    pub(super) luma_table: Option<Table>,
}

/// Everything that segments set for later scans.
#[derive(Default)]
struct State {
    quantisation: [Option<Table>; 4],
    dc: [Option<Codes>; 4],
    ac: [Option<Codes>; 4],
    restart_interval: u16,
    frame: Option<Frame>,
    adobe_transform: Option<u8>,
    /// The luma table in force when the first scan begins.
    luma_table: Option<Table>,
    entropy_bytes: usize,
    /// Which components of the frame have had a scan.
    scanned: [bool; COMPONENTS],
}

/// Reads every segment and scan up to the end of the image. Linear in the length of the data.
///
/// # Errors
/// [`JpegError::Truncated`] where something is missing, [`JpegError::Corrupt`] where something is malformed, and the errors of
/// [`PictureSize::new`] as soon as the size is known.
pub(super) fn parse(bytes: &[u8]) -> Result<JpegHeader, JpegError> {
    let mut walk = Walk::new(bytes);
    let mut state = State::default();
    loop {
        match walk.marker()? {
            END_OF_IMAGE => return state.finish(),
            // Markers without a segment: TEM and stray restarts.
            0x01 | 0xd0..=0xd7 => {}
            START_OF_SCAN => {
                let header = walk.segment()?;
                let start = walk.at;
                walk.skip_scan(start)?;
                let data = bytes.get(start..walk.at).unwrap_or_default();
                state.scan(header, data)?;
            }
            QUANTISATION_TABLES => read_tables(walk.segment()?, &mut state.quantisation)?,
            HUFFMAN_TABLES => state.huffman_tables(walk.segment()?)?,
            RESTART_INTERVAL => {
                let interval = walk.segment()?.first_chunk();
                let malformed = JpegError::Corrupt { what: "a malformed restart interval" };
                state.restart_interval = u16::from_be_bytes(*interval.ok_or(malformed)?);
            }
            marker @ (0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf) => {
                let frame = read_frame(walk.segment()?, marker)?;
                if state.frame.replace(frame).is_some() {
                    return Err(JpegError::Corrupt { what: "two frame headers" });
                }
            }
            ADOBE => {
                let segment = walk.segment()?;
                if segment.starts_with(b"Adobe") {
                    state.adobe_transform = segment.get(11).copied();
                }
            }
            _ => {
                walk.segment()?;
            }
        }
    }
}

impl State {
    fn huffman_tables(&mut self, mut segment: &[u8]) -> Result<(), JpegError> {
        while let Some((&kind, rest)) = segment.split_first() {
            let tables = if kind >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            let slot = tables.get_mut(usize::from(kind & 15));
            let slot = slot.ok_or(JpegError::Corrupt { what: "a malformed Huffman table" })?;
            let (table, rest) = Codes::read(rest)?;
            *slot = Some(table);
            segment = rest;
        }
        Ok(())
    }

    fn scan(&mut self, header: &[u8], data: &[u8]) -> Result<(), JpegError> {
        const MALFORMED: JpegError = JpegError::Corrupt { what: "a malformed scan header" };
        let frame = self.frame.as_ref().ok_or(JpegError::Corrupt { what: "a scan before the frame header" })?;
        if self.entropy_bytes == 0 {
            let table = frame.components().first().map_or(0, |luma| luma.table);
            self.luma_table = self.quantisation.get(table).copied().flatten();
        }
        self.entropy_bytes += data.len();
        let (&count, list) = header.split_first().ok_or(MALFORMED)?;
        let count = usize::from(count);
        let list =
            list.as_chunks::<2>().0.get(..count).filter(|_| (1..=COMPONENTS).contains(&count)).ok_or(MALFORMED)?;
        let mut scanned: [Option<(Component, u8)>; COMPONENTS] = [None; COMPONENTS];
        for (slot, &[name, tables]) in scanned.iter_mut().zip(list) {
            let known = frame.components().iter().zip(&mut self.scanned).find(|(component, _)| component.name == name);
            let (component, is_scanned) = known.ok_or(MALFORMED)?;
            *is_scanned = true;
            *slot = Some((*component, tables));
        }
        if !frame.is_sequential_huffman {
            return Ok(());
        }
        let (width, height) = (frame.size.width(), frame.size.height());
        let across = frame.components().iter().map(|component| component.across).max().unwrap_or(1);
        let down = frame.components().iter().map(|component| component.down).max().unwrap_or(1);
        let single = scanned.first().copied().flatten().filter(|_| count == 1);
        let (wide, high) = match single {
            // Not interleaved: one block a unit, and only those that the component's own size asks for.
            Some((component, _)) => (
                (width * component.across).div_ceil(across).div_ceil(8),
                (height * component.down).div_ceil(down).div_ceil(8),
            ),
            None => (width.div_ceil(8 * across), height.div_ceil(8 * down)),
        };
        let mut parts = Vec::with_capacity(COMPONENTS);
        for (component, tables) in scanned.into_iter().flatten() {
            let dc = self.dc.get(usize::from(tables >> 4)).and_then(Option::as_ref);
            let ac = self.ac.get(usize::from(tables & 15)).and_then(Option::as_ref);
            let (Some(dc), Some(ac)) = (dc, ac) else {
                return Err(JpegError::Corrupt { what: "a scan without its Huffman tables" });
            };
            let blocks = if single.is_some() { 1 } else { component.across * component.down };
            parts.push(ScanComponent { dc, ac, blocks });
        }
        check_scan(data, &parts, u64::from(wide) * u64::from(high), self.restart_interval)
    }

    fn finish(&self) -> Result<JpegHeader, JpegError> {
        let frame = self.frame.as_ref().ok_or(JpegError::Corrupt { what: "no frame header" })?;
        // The first bit of every block's DC coefficient is there in every mode.
        let has_bits = self.entropy_bytes as u64 * 8 >= frame.size.blocks();
        if !has_bits || !self.scanned.iter().take(frame.count).all(|&is_scanned| is_scanned) {
            return Err(JpegError::Truncated);
        }
        let is_luma_first = frame.is_luma_first(self.adobe_transform);
        Ok(JpegHeader { size: frame.size, luma_table: self.luma_table.filter(|_| is_luma_first) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameError;

    /// A table of `q`, Huffman tables of one code each (0: nothing), a frame of 16x8 with one component, its scan, the end.
    fn tiny(q: u8, scan: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8, 0xff, 0xdb, 0, 67, 0];
        bytes.extend([q; 64]);
        for kind in [0x00, 0x10] {
            bytes.extend([0xff, 0xc4, 0, 20, kind, 1]);
            bytes.extend([0; 16]);
        }
        bytes.extend([0xff, 0xc0, 0, 11, 8, 0, 8, 0, 16, 1, 1, 0x11, 0]);
        bytes.extend([0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0]);
        bytes.extend(scan);
        bytes.extend([0xff, 0xd9]);
        bytes
    }

    /// Two empty blocks of two bits.
    const WHOLE: &[u8] = &[0b0000_1111];

    #[test]
    fn size_and_table_are_read() {
        let header = parse(&tiny(7, WHOLE)).expect("valid");
        assert_eq!(header, JpegHeader { size: PictureSize::new(16, 8).expect("valid"), luma_table: Some([7; 64]) });
    }

    #[test]
    fn every_prefix_is_truncated_and_so_is_a_scan_that_ends_before_its_blocks() {
        let bytes = tiny(7, WHOLE);
        for length in 2..bytes.len() {
            assert!(matches!(parse(&bytes[..length]), Err(JpegError::Truncated)), "{length}");
        }
        assert!(matches!(parse(&tiny(7, &[])), Err(JpegError::Truncated)));
        let mut wider = bytes;
        let frame = wider.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("there");
        wider[frame + 8] = 40;
        assert!(matches!(parse(&wider), Err(JpegError::Truncated)), "five blocks where four fit");
    }

    #[test]
    fn a_table_with_a_zero_and_a_second_frame_header_are_corrupt() {
        assert!(matches!(parse(&tiny(0, WHOLE)), Err(JpegError::Corrupt { .. })));
        let mut bytes = tiny(7, WHOLE);
        let at = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("there");
        let frame = bytes[at..at + 13].to_vec();
        bytes.splice(at..at, frame);
        assert!(matches!(parse(&bytes), Err(JpegError::Corrupt { what: "two frame headers" })));
    }

    #[test]
    fn giant_sizes_are_refused_at_the_frame_header() {
        let mut bytes = tiny(7, WHOLE);
        let at = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("there");
        bytes[at + 5..at + 9].fill(0xff);
        assert!(matches!(parse(&bytes), Err(JpegError::Size(FrameError::TooLarge { width: 65_535, height: 65_535 }))));
    }

    #[test]
    fn sixteen_bit_tables_are_read() {
        let mut segment = vec![0x11];
        segment.extend([1, 2].repeat(64));
        let mut tables = [None; 4];
        read_tables(&segment, &mut tables).expect("valid");
        assert_eq!(tables[1], Some([258; 64]));
    }

    #[test]
    fn rgb_pictures_have_no_luma_table_whether_named_or_marked_so() {
        let segment = [8, 0, 8, 0, 8, 3, b'R', 0x11, 0, b'G', 0x11, 0, b'B', 0x11, 0];
        let frame = read_frame(&segment, 0xc0).expect("valid");
        let mut state = State {
            frame: Some(frame),
            luma_table: Some([1; 64]),
            entropy_bytes: 1,
            scanned: [true; COMPONENTS],
            ..State::default()
        };
        let table = |state: &State| state.finish().expect("complete").luma_table;
        assert_eq!(table(&state), None);
        state.adobe_transform = Some(1);
        assert_eq!(table(&state), Some([1; 64]));
        state.adobe_transform = Some(0);
        assert_eq!(table(&state), None);
    }
}
