//! Encoded pictures to measurements: what cameras send strip by strip, everything else by way of full pixels.
//!
//! Pixels that were never encoded come as the binary forms of Netpbm with eight bits (P5 grey, P6 RGB), without comments.
//!
//! Must hold: nothing that arrives can panic, allocate beyond the limits, or pass for a picture when it is half of one; what a picture
//! needs is known from its header, and refused by it. Buffers are kept from frame to frame, large ones are given back.
//!
//! Deliberately absent: animation, orientation tags (the picture is measured as the sensor delivered it), colour profiles.

mod dct;
mod entropy;
mod jpeg_check;
mod netpbm;
mod weight;

use std::io::Cursor;

use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, Limits};
use thiserror::Error;
pub use weight::decoded_bytes;

use crate::decode::jpeg_error::JpegError;
use crate::decode::jpeg_header::is_jpeg;
use crate::decode::strip::StripDecoder;
use crate::feature::{Measurements, Measurer};
use crate::frame::{Block, BlockRow, FrameError, FrameFacts, MAX_SIDE, PictureSize, Steps};
use dct::Transform;

/// Most memory for the pixels of one picture that anybody can allow, in bytes: the largest picture in 8-bit RGB.
pub const MAX_MEMORY: u64 = MAX_SIDE as u64 * MAX_SIDE as u64 * 3;
/// Most memory that is kept for the next picture, in bytes: 1080p in 8-bit RGB.
const KEPT: usize = 1920 * 1080 * 3;

/// Why bytes did not become measurements.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// No bytes at all.
    #[error("the picture is empty")]
    Empty,
    /// Neither JPEG nor PNG.
    #[error("neither a JPEG nor a PNG: the first bytes are {first:02x?}")]
    NotAnImage {
        /// Up to four bytes from the start, zeros where there are fewer.
        first: [u8; 4],
    },
    /// A picture of a kind that cameras hardly send and nothing here decodes.
    #[error("a picture in {format}; JPEG and PNG are measured, so the camera has to be set to one of them")]
    OtherFormat {
        /// Name of the kind.
        format: &'static str,
    },
    /// The picture announces more pixels than are allowed; nothing was allocated for it.
    #[error("the picture announces {width}x{height} pixels, more than {MAX_SIDE} a side")]
    TooLarge {
        /// Announced width.
        width: u32,
        /// Announced height.
        height: u32,
    },
    /// The picture would take more memory to decode than is allowed; nothing was allocated for it.
    #[error("the picture takes {needed} bytes to decode, more than the {allowed} allowed")]
    TooHeavy {
        /// Bytes for its pixels, and its coefficients where those are needed together.
        needed: u64,
        /// Bytes allowed.
        allowed: u64,
    },
    /// The picture is smaller than one 8x8 block.
    #[error("the picture has {width}x{height} pixels, less than one block of 8x8")]
    TooSmall {
        /// Announced width.
        width: u32,
        /// Announced height.
        height: u32,
    },
    /// The end of the picture is missing.
    #[error("the picture ends early")]
    Truncated,
    /// The container is malformed.
    #[error("the picture is corrupt: {what}")]
    Corrupt {
        /// What was found.
        what: &'static str,
    },
    /// The image library refused the picture, as corrupt or as a kind it does not know.
    #[error("the picture cannot be decoded")]
    Undecodable(#[source] ImageError),
    /// Pixels handed in do not have the length their size asks for.
    #[error("{got} bytes for {width}x{height} pixels")]
    PixelCount {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Bytes handed in.
        got: usize,
    },
    /// A row did not fit its picture.
    #[error("rows do not fit the picture")]
    Rows(#[source] FrameError),
}

impl DecodeError {
    /// Its name in metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } | Self::TooHeavy { .. } => "too_many_pixels",
            Self::OtherFormat { .. } => "other_format",
            _ => "undecodable",
        }
    }
}

impl From<FrameError> for DecodeError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooSmall { width, height } => Self::TooSmall { width, height },
            FrameError::TooLarge { width, height } => Self::TooLarge { width, height },
            FrameError::RowLength { .. } | FrameError::RowCount { .. } => Self::Rows(error),
        }
    }
}

impl From<JpegError> for DecodeError {
    fn from(error: JpegError) -> Self {
        match error {
            JpegError::Truncated => Self::Truncated,
            JpegError::Corrupt { what } => Self::Corrupt { what },
            JpegError::Size(error) => error.into(),
        }
    }
}

/// Decodes and measures one picture after the other.
#[derive(Debug)]
pub struct Decoder {
    strips: Box<StripDecoder>,
    pixels: Vec<u8>,
    strip: Strip,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// The name of a kind of picture that is not decoded, by what its files begin with.
fn other_format(bytes: &[u8]) -> Option<&'static str> {
    let brand = bytes.get(4..12).unwrap_or_default();
    match bytes {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("WebP"),
        _ if matches!(brand, b"ftypavif" | b"ftypavis") => Some("AVIF"),
        _ if matches!(brand, b"ftypheic" | b"ftypheix" | b"ftypmif1" | b"ftypmsf1") => Some("HEIF"),
        [b'G', b'I', b'F', b'8', ..] => Some("GIF"),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Some("TIFF"),
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Some("BMP"),
        _ => None,
    }
}

/// How pixels lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Grey,
    Rgb,
}

impl Layout {
    const fn bytes(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
        }
    }
}

/// Pixels that were never encoded.
#[derive(Debug)]
struct Raw<'a> {
    width: u32,
    height: u32,
    layout: Layout,
    pixels: &'a [u8],
}

impl Decoder {
    /// A decoder without buffers yet.
    #[must_use]
    pub fn new() -> Self {
        Self { strips: Box::new(StripDecoder::new()), pixels: Vec::new(), strip: Strip::default() }
    }

    /// Measures an encoded picture, whatever memory it takes up to [`MAX_MEMORY`].
    ///
    /// # Errors
    /// As [`Self::measure_within`].
    pub fn measure(&mut self, bytes: &[u8]) -> Result<Measurements, DecodeError> {
        self.measure_within(bytes, MAX_MEMORY)
    }

    /// Measures an encoded picture that may take so many bytes to decode, never more than [`MAX_MEMORY`]. A JPEG that is measured strip
    /// by strip takes none, whatever its size.
    ///
    /// # Errors
    /// One variant of [`DecodeError`] per cause. What is beyond a limit is refused before anything is allocated for it.
    pub fn measure_within(&mut self, bytes: &[u8], memory: u64) -> Result<Measurements, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::Empty);
        }
        if let Some(raw) = netpbm::parse(bytes) {
            return self.measure_raw(&raw);
        }
        if !is_jpeg(bytes) {
            return self.measure_png(bytes, memory);
        }
        match self.strips.measure(bytes)? {
            Some(measurements) => Ok(measurements),
            None => self.measure_jpeg_in_full(bytes, memory),
        }
    }

    fn measure_jpeg_in_full(&mut self, bytes: &[u8], memory: u64) -> Result<Measurements, DecodeError> {
        // What is not all there is refused as that, however large it says it is.
        let header = jpeg_check::parse(bytes)?;
        let limits = limits(bytes, memory)?;
        let decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(undecodable)?;
        let layout = self.read(decoder, header.size, limits)?;
        let quantisation_sum = header.luma_table.map(|table| table.iter().map(|&step| u32::from(step)).sum());
        let facts = FrameFacts { encoded_bytes: encoded_bytes(bytes), quantisation_sum, steps: None };
        self.strip.transform.set_table(header.luma_table.as_ref());
        self.measure_and_give_back(header.size, layout, facts)
    }

    fn measure_png(&mut self, bytes: &[u8], memory: u64) -> Result<Measurements, DecodeError> {
        if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            if let Some(format) = other_format(bytes) {
                return Err(DecodeError::OtherFormat { format });
            }
            let mut first = [0; 4];
            for (slot, &byte) in first.iter_mut().zip(bytes) {
                *slot = byte;
            }
            return Err(DecodeError::NotAnImage { first });
        }
        if let Some((width, height)) = weight::png_size(bytes) {
            PictureSize::new(width, height)?;
        }
        let limits = limits(bytes, memory)?;
        let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits.clone()).map_err(undecodable)?;
        let (width, height) = decoder.dimensions();
        let size = PictureSize::new(width, height)?;
        let layout = self.read(decoder, size, limits)?;
        let facts = FrameFacts { encoded_bytes: encoded_bytes(bytes), ..FrameFacts::default() };
        self.strip.transform.set_table(None);
        self.measure_and_give_back(size, layout, facts)
    }

    fn measure_and_give_back(
        &mut self,
        size: PictureSize,
        layout: Layout,
        facts: FrameFacts,
    ) -> Result<Measurements, DecodeError> {
        let measured = measure_pixels(&mut self.strip, size, &self.pixels, layout, facts);
        if self.pixels.capacity() > KEPT {
            self.pixels = Vec::new();
        }
        measured
    }

    /// Measures pixels that were never encoded: rows of red, green, blue from the top left.
    ///
    /// # Errors
    /// [`DecodeError::PixelCount`], [`DecodeError::TooSmall`] or [`DecodeError::TooLarge`].
    pub fn measure_rgb(&mut self, width: u32, height: u32, rgb: &[u8]) -> Result<Measurements, DecodeError> {
        self.measure_raw(&Raw { width, height, layout: Layout::Rgb, pixels: rgb })
    }

    fn measure_raw(&mut self, raw: &Raw<'_>) -> Result<Measurements, DecodeError> {
        let &Raw { width, height, layout, pixels } = raw;
        let size = PictureSize::new(width, height)?;
        if pixels.len() != width as usize * height as usize * layout.bytes() {
            return Err(DecodeError::PixelCount { width, height, got: pixels.len() });
        }
        self.strip.transform.set_table(None);
        measure_pixels(&mut self.strip, size, pixels, layout, FrameFacts::default())
    }

    /// Reads all pixels into the buffer, as 8-bit grey or RGB.
    fn read(
        &mut self,
        mut decoder: impl ImageDecoder,
        size: PictureSize,
        limits: Limits,
    ) -> Result<Layout, DecodeError> {
        decoder.set_limits(limits).map_err(undecodable)?;
        if decoder.dimensions() != (size.width(), size.height()) {
            return Err(DecodeError::Corrupt { what: "two different sizes" });
        }
        let layout = match decoder.color_type() {
            ColorType::L8 => Layout::Grey,
            ColorType::Rgb8 => Layout::Rgb,
            _ => {
                let picture = DynamicImage::from_decoder(decoder).map_err(undecodable)?;
                self.pixels = picture.into_rgb8().into_raw();
                return Ok(Layout::Rgb);
            }
        };
        self.pixels.resize(size.width() as usize * size.height() as usize * layout.bytes(), 0);
        decoder.read_image(&mut self.pixels).map_err(undecodable)?;
        Ok(layout)
    }
}

fn encoded_bytes(bytes: &[u8]) -> Option<u32> {
    Some(u32::try_from(bytes.len()).unwrap_or(u32::MAX))
}

/// What the library may take for this picture, once it is known that the picture can do with it.
fn limits(bytes: &[u8], memory: u64) -> Result<Limits, DecodeError> {
    let allowed = memory.min(MAX_MEMORY);
    let needed = decoded_bytes(bytes);
    if needed > allowed {
        return Err(DecodeError::TooHeavy { needed, allowed });
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(allowed);
    Ok(limits)
}

fn undecodable(error: ImageError) -> DecodeError {
    match &error {
        ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => DecodeError::Truncated,
        _ => DecodeError::Undecodable(error),
    }
}

/// One row of blocks: its luma at full resolution and everything the kernel wants of it.
#[derive(Debug, Default)]
struct Strip {
    luma: [Vec<u8>; 8],
    /// The last luma row of the strip above.
    above: Vec<u8>,
    quarter: [Vec<u8>; 2],
    cb: [Vec<u8>; 2],
    cr: [Vec<u8>; 2],
    blocks: Vec<Block>,
    transform: Transform,
}

impl Strip {
    fn resize(&mut self, size: PictureSize) {
        let blocks = size.blocks_wide() as usize;
        for row in self.luma.iter_mut().chain([&mut self.above]) {
            row.resize(8 * blocks, 0);
        }
        for row in self.quarter.iter_mut().chain(&mut self.cb).chain(&mut self.cr) {
            row.resize(2 * blocks, 0);
        }
        self.blocks.resize(blocks, Block::default());
    }

    fn row(&self) -> Result<BlockRow<'_>, FrameError> {
        fn two(rows: &[Vec<u8>; 2]) -> [&[u8]; 2] {
            [&rows[0], &rows[1]]
        }
        BlockRow::new(two(&self.quarter), two(&self.cb), two(&self.cr), &self.blocks)
    }

    /// Fills luma and quarter-scale chroma from eight rows of RGB.
    fn load_rgb(&mut self, rows: [&[u8]; 8]) {
        for (luma, rgb) in self.luma.iter_mut().zip(rows) {
            for (luma, &[r, g, b]) in luma.iter_mut().zip(rgb.as_chunks::<3>().0) {
                *luma = luma_of(u32::from(r), u32::from(g), u32::from(b));
            }
        }
        for half in 0..2 {
            let [r0, r1, r2, r3] = [0, 1, 2, 3].map(|i| rows[4 * half + i].as_chunks::<12>().0.iter());
            let chroma = self.cb[half].iter_mut().zip(&mut self.cr[half]);
            for ((cb, cr), (((a, b), c), d)) in chroma.zip(r0.zip(r1).zip(r2).zip(r3)) {
                let mut columns = [0_u16; 12];
                for (i, column) in columns.iter_mut().enumerate() {
                    *column = u16::from(a[i]) + u16::from(b[i]) + u16::from(c[i]) + u16::from(d[i]);
                }
                let channel = |c: usize| i32::from(columns[c] + columns[c + 3] + columns[c + 6] + columns[c + 9]);
                [*cb, *cr] = chroma_of(channel(0), channel(1), channel(2));
            }
        }
    }

    fn load_grey(&mut self, rows: [&[u8]; 8]) {
        for (luma, row) in self.luma.iter_mut().zip(rows) {
            for (luma, &grey) in luma.iter_mut().zip(row) {
                *luma = grey;
            }
        }
        for row in self.cb.iter_mut().chain(&mut self.cr) {
            row.fill(128);
        }
    }

    /// Quarter-scale luma, coefficients and steps from the luma at full resolution.
    fn finish(&mut self, steps: &mut Steps, is_first: bool) {
        for (half, quarter) in self.quarter.iter_mut().enumerate() {
            let [r0, r1, r2, r3] = [0, 1, 2, 3].map(|i| self.luma[4 * half + i].as_chunks::<4>().0.iter());
            for (mean, (((a, b), c), d)) in quarter.iter_mut().zip(r0.zip(r1).zip(r2).zip(r3)) {
                let sum: u16 = [a, b, c, d].into_iter().flatten().map(|&pixel| u16::from(pixel)).sum();
                *mean = u8::try_from((sum + 8) / 16).unwrap_or(u8::MAX);
            }
        }
        self.transform.blocks(&self.luma, &mut self.blocks);
        self.count_steps(steps, is_first);
        let [.., last] = &self.luma;
        self.above.copy_from_slice(last);
    }

    fn count_steps(&self, steps: &mut Steps, is_first: bool) {
        let blocks = self.blocks.len() as u64;
        for row in &self.luma {
            let all = distance(row, row.get(1..).unwrap_or_default());
            let border: u64 = row
                .iter()
                .skip(7)
                .step_by(8)
                .zip(row.iter().skip(8).step_by(8))
                .map(|(a, b)| u64::from(a.abs_diff(*b)))
                .sum();
            steps.border += border;
            steps.borders += blocks - 1;
            steps.inner += all - border;
            steps.inners += 7 * blocks;
        }
        for (upper, lower) in self.luma.iter().zip(self.luma.iter().skip(1)) {
            steps.inner += distance(upper, lower);
            steps.inners += 8 * blocks;
        }
        if !is_first {
            steps.border += distance(&self.above, &self.luma[0]);
            steps.borders += 8 * blocks;
        }
    }
}

/// Sum of absolute differences, as far as both reach.
fn distance(a: &[u8], b: &[u8]) -> u64 {
    a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>().into()
}

/// ITU-T T.871, rounded.
#[expect(clippy::cast_possible_truncation, reason = "the weights add up to 2¹⁶, so the result is a byte")]
const fn luma_of(r: u32, g: u32, b: u32) -> u8 {
    ((19_595 * r + 38_470 * g + 7471 * b + 32_768) >> 16) as u8
}

/// Cb and Cr of 16 pixels whose channels were added up.
fn chroma_of(r: i32, g: i32, b: i32) -> [u8; 2] {
    let level = |sum: i32| u8::try_from(((sum + (1 << 19)) >> 20).saturating_add(128)).unwrap_or(u8::MAX);
    [level(-11_059 * r - 21_709 * g + 32_768 * b), level(32_768 * r - 27_439 * g - 5329 * b)]
}

fn measure_pixels(
    strip: &mut Strip,
    size: PictureSize,
    pixels: &[u8],
    layout: Layout,
    mut facts: FrameFacts,
) -> Result<Measurements, DecodeError> {
    strip.resize(size);
    let mut measurer = Measurer::new(size);
    let mut steps = Steps::default();
    let row_bytes = size.width() as usize * layout.bytes();
    for (index, rows) in pixels.chunks_exact(8 * row_bytes).enumerate() {
        let rows: [&[u8]; 8] = core::array::from_fn(|i| &rows[i * row_bytes..(i + 1) * row_bytes]);
        match layout {
            Layout::Rgb => strip.load_rgb(rows),
            Layout::Grey => strip.load_grey(rows),
        }
        strip.finish(&mut steps, index == 0);
        measurer.add(&strip.row()?)?;
    }
    facts.steps = Some(steps);
    Ok(measurer.finish(&facts)?)
}

#[cfg(test)]
mod agreement_tests;
#[cfg(test)]
mod scene_tests;
#[cfg(test)]
mod tests;
