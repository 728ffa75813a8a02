//! The segments of a JPEG (ITU-T T.81, annex B), one by one.
//!
//! Must hold: nothing is read beyond the data, and what does not fit its segment is an error.

use super::bits::next_marker;
use super::jpeg_error::JpegError;
use crate::frame::PictureSize;

/// Entries of a quantisation table, in zigzag order.
pub(super) type Table = [u16; 64];

const START_OF_IMAGE: u8 = 0xd8;
pub(super) const END_OF_IMAGE: u8 = 0xd9;
pub(super) const START_OF_SCAN: u8 = 0xda;
pub(super) const QUANTISATION_TABLES: u8 = 0xdb;
pub(super) const HUFFMAN_TABLES: u8 = 0xc4;
pub(super) const RESTART_INTERVAL: u8 = 0xdd;
pub(super) const ADOBE: u8 = 0xee;
/// Most components of a picture anybody decodes.
pub(super) const COMPONENTS: usize = 4;

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
}

/// The frame header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) size: PictureSize,
    pub(super) is_sequential_huffman: bool,
    /// Bits of a sample.
    pub(super) precision: u8,
    pub(super) components: [Component; COMPONENTS],
    pub(super) count: usize,
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

/// Goes from marker to marker.
pub(super) struct Walk<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
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
        *component = Component { name, across, down, table: usize::from(table) };
    }
    Ok(Frame { size, is_sequential_huffman: marker == 0xc0 || marker == 0xc1, precision, components, count })
}
