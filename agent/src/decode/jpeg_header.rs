//! What a JPEG says about itself before and between its scans (ITU-T T.81, annex B), and whether it is all there.
//!
//! Must hold: a picture of which a part is missing is refused, because decoders fill the rest with grey and call it a picture.
//! For sequential Huffman pictures, which is what cameras send, every block is accounted for; of others, every component must
//! have a scan, a bit for every block, and an end.

use super::bits::next_marker;
use super::entropy::{ScanComponent, check_scan};
use super::huffman::Codes;
use super::jpeg_error::JpegError;
use crate::frame::PictureSize;

/// Entries of a quantisation table, in zigzag order.
pub(super) type Table = [u16; 64];

/// The facts of one JPEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JpegHeader {
    pub(super) size: PictureSize,
    /// The luma quantisation table; `None` where the first component is not luma (RGB and CMYK pictures).
    pub(super) luma_table: Option<Table>,
}

const START_OF_IMAGE: u8 = 0xd8;
pub(super) const END_OF_IMAGE: u8 = 0xd9;
pub(super) const START_OF_SCAN: u8 = 0xda;
pub(super) const QUANTISATION_TABLES: u8 = 0xdb;
pub(super) const HUFFMAN_TABLES: u8 = 0xc4;
pub(super) const RESTART_INTERVAL: u8 = 0xdd;
pub(super) const ADOBE: u8 = 0xee;
/// Most components of a picture anybody decodes.
const COMPONENTS: usize = 4;

/// Whether bytes begin like a JPEG.
pub(super) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, START_OF_IMAGE, 0xff])
}

/// A component of the frame header: its name, sampling factors and quantisation table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Component {
    pub(super) name: u8,
    pub(super) across: u32,
    pub(super) down: u32,
    pub(super) table: usize,
    is_scanned: bool,
}

/// The frame header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) size: PictureSize,
    pub(super) is_sequential_huffman: bool,
    /// Bits of a sample.
    pub(super) precision: u8,
    components: [Component; COMPONENTS],
    count: usize,
}

impl Frame {
    pub(super) fn components(&self) -> &[Component] {
        self.components.get(..self.count).unwrap_or_default()
    }

    /// Whether the first component is luma, given what an Adobe segment says of the transform to RGB.
    pub(super) fn is_luma_first(&self, adobe_transform: Option<u8>) -> bool {
        match self.components() {
            [_] => true,
            [r, g, b] => {
                let is_rgb_by_name = [r.name, g.name, b.name] == *b"RGB";
                adobe_transform.map_or(!is_rgb_by_name, |transform| transform == 1)
            }
            _ => false,
        }
    }
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
}

/// Goes from marker to marker.
pub(super) struct Walk<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
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
                let data = walk.scan()?;
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
        let frame = self.frame.as_mut().ok_or(JpegError::Corrupt { what: "a scan before the frame header" })?;
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
            let known = frame.components.iter_mut().take(frame.count).find(|component| component.name == name);
            let component = known.ok_or(MALFORMED)?;
            component.is_scanned = true;
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
        if !has_bits || !frame.components().iter().all(|component| component.is_scanned) {
            return Err(JpegError::Truncated);
        }
        let is_luma_first = frame.is_luma_first(self.adobe_transform);
        Ok(JpegHeader { size: frame.size, luma_table: self.luma_table.filter(|_| is_luma_first) })
    }
}

impl<'a> Walk<'a> {
    /// A walk that begins behind the start of the image.
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 2 }
    }

    /// The next marker; fill bytes before it are skipped.
    pub(super) fn marker(&mut self) -> Result<u8, JpegError> {
        if self.bytes.get(self.at).ok_or(JpegError::Truncated)? != &0xff {
            return Err(JpegError::Corrupt { what: "no marker where one belongs" });
        }
        loop {
            let byte = *self.bytes.get(self.at).ok_or(JpegError::Truncated)?;
            self.at += 1;
            if byte != 0xff {
                return Ok(byte);
            }
        }
    }

    /// The content of the segment that begins here, without its length.
    pub(super) fn segment(&mut self) -> Result<&'a [u8], JpegError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = usize::from(u16::from_be_bytes(*rest.first_chunk().ok_or(JpegError::Truncated)?));
        if length < 2 {
            return Err(JpegError::Corrupt { what: "a segment shorter than its length" });
        }
        let content = rest.get(2..length).ok_or(JpegError::Truncated)?;
        self.at += length;
        Ok(content)
    }

    /// The entropy-coded data up to the next marker that is no restart.
    fn scan(&mut self) -> Result<&'a [u8], JpegError> {
        let start = self.at;
        self.skip_scan(start)?;
        Ok(self.bytes.get(start..self.at).unwrap_or_default())
    }

    /// Goes on at the first marker at or behind `from` that is no restart.
    pub(super) fn skip_scan(&mut self, from: usize) -> Result<(), JpegError> {
        self.at = from;
        loop {
            self.at = next_marker(self.bytes, self.at).ok_or(JpegError::Truncated)?;
            match self.bytes.get(self.at + 1) {
                Some(0xd0..=0xd7) => self.at += 2,
                _ => return Ok(()),
            }
        }
    }
}

pub(super) fn read_tables(mut segment: &[u8], tables: &mut [Option<Table>; 4]) -> Result<(), JpegError> {
    const MALFORMED: JpegError = JpegError::Corrupt { what: "a malformed quantisation table" };
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

pub(super) fn read_frame(segment: &[u8], marker: u8) -> Result<Frame, JpegError> {
    const MALFORMED: JpegError = JpegError::Corrupt { what: "a malformed frame header" };
    let &[precision, h0, h1, w0, w1, count, ref list @ ..] = segment else { return Err(MALFORMED) };
    let size = PictureSize::new(u16::from_be_bytes([w0, w1]).into(), u16::from_be_bytes([h0, h1]).into())?;
    let count = usize::from(count);
    let (list, rest) = list.as_chunks::<3>();
    if !(1..=COMPONENTS).contains(&count) || list.len() != count || !rest.is_empty() {
        return Err(MALFORMED);
    }
    let mut components = [Component::default(); COMPONENTS];
    for (component, &[name, sampling, table]) in components.iter_mut().zip(list) {
        let (across, down) = (u32::from(sampling >> 4), u32::from(sampling & 15));
        if !(1..=4).contains(&across) || !(1..=4).contains(&down) {
            return Err(MALFORMED);
        }
        *component = Component { name, across, down, table: usize::from(table), is_scanned: false };
    }
    Ok(Frame { size, is_sequential_huffman: marker == 0xc0 || marker == 0xc1, precision, components, count })
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
        let mut frame = read_frame(&segment, 0xc0).expect("valid");
        for component in &mut frame.components {
            component.is_scanned = true;
        }
        let mut state = State { frame: Some(frame), luma_table: Some([1; 64]), entropy_bytes: 1, ..State::default() };
        let table = |state: &State| state.finish().expect("complete").luma_table;
        assert_eq!(table(&state), None);
        state.adobe_transform = Some(1);
        assert_eq!(table(&state), Some([1; 64]));
        state.adobe_transform = Some(0);
        assert_eq!(table(&state), None);
    }
}
