//! JPEGs measured strip by strip: coefficients as they are read, pixels for one row of units at a time, and no picture anywhere.
//!
//! Why: decoding in full takes megabytes and several times the work, most of it for pixels that are then averaged away. What is
//! measured needs luma at full resolution only for the steps between its pixels, chroma only at a quarter, and the coefficients
//! themselves, which no decoded picture has any more.
//!
//! Taken are 8-bit sequential Huffman pictures in one scan (baseline and extended; ITU-T T.81), grey or with chroma at the same or
//! half the resolution either way, up to [`WIDEST`] pixels wide: what cameras send. Everything else is left to a library.
//!
//! Must hold: fixed memory, no allocation; work linear in the length of the data and in the announced size, which is limited; a
//! scan that lacks a block is an error, never a picture; no input panics. The same numbers as from a full decode, as far as
//! rounding allows.
//!
//! Method: units are decoded eight at a time, and all that follows works on eight blocks at once, one in each lane of a vector.

mod chroma;
mod inverse;
mod lanes;
mod lookup;
mod luma;
mod plan;

use super::bits::BitReader;
use super::jpeg_error::JpegError;
use super::jpeg_header::{END_OF_IMAGE, START_OF_SCAN, Table, Walk, is_jpeg};
use crate::feature::{Measurements, Measurer};
use crate::frame::{BLOCK, BlockRow, FrameFacts};
use chroma::Chroma;
use inverse::Blocks;
use lanes::LANES;
use lookup::{AC_ENTRIES, DC_ENTRIES, Fault, Kind, Lookup, Pairs};
use luma::{Extent, Luma, NATURAL, ROWS as LUMA_ROWS};
use plan::Plan;

/// Widest picture taken, in pixels. Wider ones would need more memory than a decoder is given.
pub const WIDEST: u32 = 4096;
const BLOCKS_WIDE: usize = (WIDEST / BLOCK) as usize;
/// Groups of eight units in a row, times blocks across in a unit.
const UNITS: usize = BLOCKS_WIDE / LANES;

/// From a lane's first coefficient to its last.
const LANE_REACH: usize = 63 * LANES + 1;

const _: () = assert!(size_of::<StripDecoder>() <= 64 * 1024, "the memory a decoder may take");

/// Where a luma coefficient goes among those of eight blocks, and its quantisation step.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    offset: u16,
    step: u16,
}

/// What is known of the coefficients of luma.
#[derive(Debug)]
struct LumaTables {
    dc: Lookup<DC_ENTRIES>,
    ac: Pairs,
    /// By zigzag position.
    places: [Place; 64],
}

/// What is known of the coefficients of chroma, besides its weights.
#[derive(Debug)]
struct ChromaTables {
    dc: Lookup<DC_ENTRIES>,
    ac: Lookup<AC_ENTRIES>,
}

/// Decodes and measures one picture after the other; about 61 KiB.
#[derive(Debug)]
pub struct StripDecoder {
    luma_tables: LumaTables,
    chroma_tables: ChromaTables,
    luma: Luma,
    chroma: [Chroma; 2],
}

impl Default for StripDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl StripDecoder {
    /// A decoder that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            luma_tables: LumaTables {
                dc: Lookup::new(Kind::Dc),
                ac: Pairs::new(),
                places: [Place { offset: 0, step: 0 }; 64],
            },
            chroma_tables: ChromaTables { dc: Lookup::new(Kind::Dc), ac: Lookup::new(Kind::Ac) },
            luma: Luma::new(),
            chroma: [const { Chroma::new() }; 2],
        }
    }

    /// Measures a JPEG; `None` where it is none of those taken, or where its headers are malformed.
    ///
    /// # Errors
    /// [`JpegError::Truncated`] where a part is missing, [`JpegError::Corrupt`] where the scan or what follows is malformed.
    pub fn measure(&mut self, bytes: &[u8]) -> Result<Option<Measurements>, JpegError> {
        if !is_jpeg(bytes) {
            return Ok(None);
        }
        let mut walk = Walk::new(bytes);
        let Some(plan) = Plan::read(&mut walk).filter(|plan| plan.size.width() <= WIDEST) else { return Ok(None) };
        self.prepare(&plan);
        let mut measurer = Measurer::new(plan.size);
        let mut reader = BitReader::new(bytes, walk.at);
        self.scan(&plan, &mut reader, &mut measurer)?;
        walk.skip_scan(reader.position())?;
        if !is_over(&mut walk)? {
            return Ok(None);
        }
        let facts = FrameFacts {
            encoded_bytes: Some(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
            quantisation_sum: Some(plan.luma.steps.iter().map(|&step| u32::from(step)).sum()),
            steps: Some(self.luma.steps),
        };
        Ok(Some(measurer.finish(&facts)?))
    }

    fn prepare(&mut self, plan: &Plan) {
        let [dc, ac] = &plan.luma_codes;
        self.luma_tables.dc.set(dc);
        self.luma_tables.ac.set(ac);
        self.luma_tables.places = places(&plan.luma.steps);
        self.luma.reset();
        let Some(parts) = &plan.chroma else {
            self.chroma.iter_mut().for_each(Chroma::set_grey);
            return;
        };
        let [dc, ac] = &plan.chroma_codes;
        self.chroma_tables.dc.set(dc);
        self.chroma_tables.ac.set(ac);
        for (chroma, part) in self.chroma.iter_mut().zip(parts) {
            chroma.set(part, &plan.luma);
        }
    }

    fn scan(&mut self, plan: &Plan, bits: &mut BitReader<'_>, measurer: &mut Measurer) -> Result<(), JpegError> {
        let (wide, high) = (plan.size.blocks_wide() as usize, plan.size.blocks_high() as usize);
        let mut predictors = [0; plan::COMPONENTS];
        let mut until_restart = plan.restart_interval;
        for row in 0..plan.units_high {
            let extent = Extent {
                across: plan.luma.across,
                down: plan.luma.down,
                wide,
                rows: high.saturating_sub(row * plan.luma.down),
                is_first: row == 0,
            };
            for group in 0..plan.units_wide.div_ceil(LANES) {
                let units = (plan.units_wide - group * LANES).min(LANES);
                for lane in 0..units {
                    if until_restart == Some(0) {
                        bits.restart()?;
                        predictors = [0; plan::COMPONENTS];
                        until_restart = plan.restart_interval;
                    }
                    until_restart = until_restart.map(|units| units - 1);
                    self.unit(plan, bits, &mut predictors, lane)?;
                }
                self.luma.take(group, extent);
                if plan.chroma.is_some() {
                    for chroma in &mut self.chroma {
                        chroma.take(group);
                    }
                }
            }
            extent.count(&mut self.luma.steps);
            for down in 0..extent.rows.min(extent.down) {
                measurer.add(&self.row(down, wide)?)?;
            }
        }
        Ok(())
    }

    /// Decodes one unit into its lane.
    fn unit(
        &mut self,
        plan: &Plan,
        bits: &mut BitReader<'_>,
        predictors: &mut [i32; plan::COMPONENTS],
        lane: usize,
    ) -> Result<(), Fault> {
        let [luma, chroma @ ..] = predictors;
        for coefficients in self.luma.coefficients.iter_mut().take(plan.luma.across * plan.luma.down) {
            luma_block(bits, &self.luma_tables, luma, coefficients, lane)?;
        }
        if plan.chroma.is_some() {
            for (chroma, predictor) in self.chroma.iter_mut().zip(chroma) {
                for block in 0..chroma.blocks() {
                    chroma_block(bits, &self.chroma_tables, predictor, chroma, block, lane)?;
                }
            }
        }
        Ok(())
    }

    /// One block row of the row of units.
    fn row(&self, down: usize, wide: usize) -> Result<BlockRow<'_>, JpegError> {
        let luma = &self.luma.rows[down.min(LUMA_ROWS - 1)];
        let blocks = luma.blocks.get(..wide).unwrap_or_default();
        let cut = |row: &'_ [u8; 2 * BLOCKS_WIDE]| -> usize { row.len().min(2 * wide) };
        let quarter = luma.quarter.each_ref().map(|row| &row[..cut(row)]);
        let [cb, cr] = self.chroma.each_ref().map(|chroma| {
            let first = 2 * down.min(LUMA_ROWS - 1);
            [&chroma.rows[first], &chroma.rows[first + 1]].map(|row| &row[..cut(row)])
        });
        Ok(BlockRow::new(quarter, cb, cr, blocks)?)
    }
}

fn places(steps: &Table) -> [Place; 64] {
    let mut places = [Place::default(); 64];
    for (place, (&natural, &step)) in places.iter_mut().zip(NATURAL.iter().zip(steps)) {
        let offset = u16::try_from(usize::from(natural) * LANES).unwrap_or(0);
        *place = Place { offset, step };
    }
    places
}

/// Adds a difference to the last DC coefficient; of a forged stream the sum may wrap.
#[inline(always)]
fn predicted(bits: &mut BitReader<'_>, dc: &Lookup<DC_ENTRIES>, predictor: &mut i32) -> Result<i32, Fault> {
    bits.refill::<{ lookup::LONGEST }>();
    *predictor = predictor.wrapping_add(lookup::difference(bits, dc)?);
    Ok(*predictor)
}

/// Decodes a block into its lane, dequantised.
#[inline(never)]
fn luma_block(
    reader: &mut BitReader<'_>,
    tables: &LumaTables,
    predictor: &mut i32,
    coefficients: &mut Blocks,
    lane: usize,
) -> Result<(), Fault> {
    // Every eighth number from here on is this lane's.
    let lane = lane & (LANES - 1);
    let Some(lane) = coefficients.as_flattened_mut()[lane..].first_chunk_mut::<LANE_REACH>() else { return Ok(()) };
    let mut bits = *reader;
    // A dark or bright picture in coarse steps may be a little beyond the range, a forged one far.
    let level =
        predicted(&mut bits, &tables.dc, predictor)?.saturating_mul(tables.places[0].step.into()).clamp(-2047, 2047);
    lane[0] = i16::try_from(level).unwrap_or(0);
    tables.ac.coefficients(&mut bits, |position, value| {
        let place = tables.places[position & 63];
        #[expect(clippy::cast_possible_truncation, reason = "what does not fit is no picture's and may wrap")]
        {
            lane[usize::from(place.offset) & (LANE_REACH - 1)] = value.wrapping_mul(place.step.into()) as i16;
        }
    })?;
    *reader = bits;
    Ok(())
}

/// Decodes a block into its lane of the shorter transform.
#[inline(never)]
fn chroma_block(
    reader: &mut BitReader<'_>,
    tables: &ChromaTables,
    predictor: &mut i32,
    chroma: &mut Chroma,
    block: usize,
    lane: usize,
) -> Result<(), Fault> {
    let mut bits = *reader;
    let most = chroma.largest_dc();
    let level = predicted(&mut bits, &tables.dc, predictor)?.clamp(-most, most);
    let mut store = chroma.store(block, lane);
    store(0, level);
    lookup::coefficients(&mut bits, &tables.ac, store)?;
    *reader = bits;
    Ok(())
}

/// Whether nothing but the end follows; false where another scan does.
fn is_over(walk: &mut Walk<'_>) -> Result<bool, JpegError> {
    loop {
        match walk.marker()? {
            END_OF_IMAGE => return Ok(true),
            0x01 | 0xd0..=0xd7 => {}
            START_OF_SCAN | 0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return Ok(false),
            _ => {
                walk.segment()?;
            }
        }
    }
}
