//! What a JPEG's headers say of the one scan that is decoded in strips, and whether it can be.
//!
//! Must hold: whatever is malformed or unusual here is left to the library and to the checks that go with it; a plan is only made
//! of what is understood in full.

use crate::decode::huffman::Codes;
use crate::decode::jpeg_header::{
    ADOBE, END_OF_IMAGE, Frame, HUFFMAN_TABLES, QUANTISATION_TABLES, RESTART_INTERVAL, START_OF_SCAN, Table, Walk,
    read_frame, read_tables,
};
use crate::frame::PictureSize;

/// Largest quantisation step taken: no coefficient of an 8-bit picture exceeds 1,024 by more than half a step.
const LARGEST_STEP: u16 = 1023;
/// Spectral selection and successive approximation of a sequential scan.
const WHOLE_BLOCKS: [u8; 3] = [0, 63, 0];
/// Components of the pictures taken: luma alone, or with two of chroma.
pub(super) const COMPONENTS: usize = 3;

/// How one component is sampled and quantised.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Blocks in a unit, across and down: 1 or 2.
    pub(super) across: usize,
    pub(super) down: usize,
    pub(super) steps: Table,
}

/// Everything needed to decode the scan.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) size: PictureSize,
    pub(super) luma: Part,
    /// Blue and red difference; `None` for a grey picture.
    pub(super) chroma: Option<[Part; 2]>,
    /// Codes of DC and AC for luma, and for both of chroma.
    pub(super) luma_codes: [Codes; 2],
    pub(super) chroma_codes: [Codes; 2],
    /// Minimum coded units in a row, and rows of them.
    pub(super) units_wide: usize,
    pub(super) units_high: usize,
    /// Units between restarts.
    pub(super) restart_interval: Option<usize>,
}

/// Definitions that segments set for the scan.
#[derive(Default)]
struct Definitions {
    quantisation: [Option<Table>; 4],
    dc: [Option<Codes>; 4],
    ac: [Option<Codes>; 4],
    restart_interval: u16,
    frame: Option<Frame>,
    adobe_transform: Option<u8>,
}

impl Plan {
    /// Reads headers up to where the first scan's data begin. `None` where it is not one to be decoded in strips.
    pub(super) fn read(walk: &mut Walk<'_>) -> Option<Self> {
        let mut definitions = Definitions::default();
        loop {
            match walk.marker().ok()? {
                END_OF_IMAGE => return None,
                0x01 | 0xd0..=0xd7 => {}
                START_OF_SCAN => return definitions.plan(walk.segment().ok()?),
                QUANTISATION_TABLES => read_tables(walk.segment().ok()?, &mut definitions.quantisation).ok()?,
                HUFFMAN_TABLES => definitions.huffman_tables(walk.segment().ok()?)?,
                RESTART_INTERVAL => {
                    definitions.restart_interval = u16::from_be_bytes(*walk.segment().ok()?.first_chunk()?);
                }
                marker @ (0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf) => {
                    let frame = read_frame(walk.segment().ok()?, marker).ok()?;
                    if definitions.frame.replace(frame).is_some() {
                        return None;
                    }
                }
                ADOBE => {
                    let segment = walk.segment().ok()?;
                    if segment.starts_with(b"Adobe") {
                        definitions.adobe_transform = segment.get(11).copied();
                    }
                }
                _ => {
                    walk.segment().ok()?;
                }
            }
        }
    }
}

impl Definitions {
    fn huffman_tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&kind, rest)) = segment.split_first() {
            let tables = if kind >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            let slot = tables.get_mut(usize::from(kind & 15))?;
            let (codes, rest) = Codes::read(rest).ok()?;
            *slot = Some(codes);
            segment = rest;
        }
        Some(())
    }

    fn plan(&self, header: &[u8]) -> Option<Plan> {
        let frame = self.frame.as_ref().filter(|frame| frame.is_sequential_huffman && frame.precision == 8)?;
        if !frame.is_luma_first(self.adobe_transform) {
            return None;
        }
        let components = frame.components();
        let (&count, list) = header.split_first()?;
        let (list, rest) = list.split_at_checked(2 * components.len())?;
        if usize::from(count) != components.len() || rest != WHOLE_BLOCKS.as_slice() {
            return None;
        }
        let list = list.as_chunks::<2>().0;
        let mut parts = [None; COMPONENTS];
        for ((part, component), &[name, _]) in parts.iter_mut().zip(components).zip(list) {
            let steps = self.quantisation.get(component.table).copied().flatten()?;
            // The scan of a single component has one block a unit, whatever it says of its sampling.
            let (across, down) = if components.len() == 1 { (1, 1) } else { (component.across, component.down) };
            let is_usual = (1..=2).contains(&across) && (1..=2).contains(&down);
            if name != component.name || !is_usual || steps.iter().any(|&step| step > LARGEST_STEP) {
                return None;
            }
            let factor = |factor: u32| usize::try_from(factor).ok();
            *part = Some(Part { across: factor(across)?, down: factor(down)?, steps });
        }
        let tables = |index: usize| list.get(index).map(|&[_, tables]| tables);
        let (luma, chroma) = match parts {
            [Some(luma), None, None] => (luma, None),
            [Some(luma), Some(cb), Some(cr)] => (luma, Some([cb, cr])),
            _ => return None,
        };
        for part in chroma.iter().flatten() {
            if part.across > luma.across || part.down > luma.down {
                return None;
            }
        }
        if tables(1) != tables(2) {
            return None;
        }
        let luma_codes = self.codes(tables(0)?)?;
        let chroma_codes = tables(1).map_or(Some([Codes::new(), Codes::new()]), |tables| self.codes(tables))?;
        let units = |side: u32, blocks: usize| Some(usize::try_from(side).ok()?.div_ceil(8 * blocks));
        Some(Plan {
            size: frame.size,
            luma,
            chroma,
            luma_codes,
            chroma_codes,
            units_wide: units(frame.size.width(), luma.across)?,
            units_high: units(frame.size.height(), luma.down)?,
            restart_interval: Some(usize::from(self.restart_interval)).filter(|&interval| interval > 0),
        })
    }

    fn codes(&self, tables: u8) -> Option<[Codes; 2]> {
        let dc = self.dc.get(usize::from(tables >> 4))?.clone()?;
        let ac = self.ac.get(usize::from(tables & 15))?.clone()?;
        Some([dc, ac])
    }
}
