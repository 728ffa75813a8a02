//! Forward 8x8 DCT of luma, quantised and dequantised as the JPEG it came from, and summed by zigzag group.
//!
//! Why quantise again: a decoded picture is rounded to whole levels, which spreads a little noise over all 64 coefficients. On
//! the grid of the original table the integers that the JPEG carried come back: always for steps above 8, since half a level in
//! each pixel adds up to at most 4 in a coefficient, and nearly always below. So a block means the same whether its coefficients
//! were read from the entropy-coded data or computed from pixels. Where there is no table, steps of 1 serve.
//!
//! Method: the 8-point DCT by butterflies and plain products, 16-bit values between the passes and 32-bit sums inside them. Both
//! passes run over long rows of equal work (columns, then the same coefficient of many blocks), which compilers turn into vector
//! instructions on any machine.

use crate::decode::jpeg_header::Table;
use crate::decode::zigzag::ZIGZAG;
use crate::frame::Block;

/// A coefficient is eight times its value until it is quantised.
const FRACTION_BITS: u32 = 3;
/// Blocks transformed together; 32 keep the working memory at 13 KB.
const BATCH: usize = 32;

/// One number for each block of a batch.
type Lane = [i16; BATCH];
/// One number for each column of a batch.
type Columns = [i16; 8 * BATCH];

/// Step, half step and reciprocal of one coefficient's quantisation, in eighths.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    step: u16,
    half: u16,
    reciprocal: u16,
}

/// Transforms rows of blocks. 13 KB of working memory.
#[derive(Clone, Debug)]
pub(super) struct Transform {
    steps: [[Step; 8]; 8],
    pixels: [Columns; 8],
    vertical: [Columns; 8],
    lanes: [Lane; 8],
    coefficients: [Lane; 8],
}

impl Default for Transform {
    fn default() -> Self {
        Self {
            steps: steps(None),
            pixels: [[0; 8 * BATCH]; 8],
            vertical: [[0; 8 * BATCH]; 8],
            lanes: [[0; BATCH]; 8],
            coefficients: [[0; BATCH]; 8],
        }
    }
}

/// `None` stands for steps of 1.
fn steps(table: Option<&Table>) -> [[Step; 8]; 8] {
    ZIGZAG.map(|row| {
        row.map(|position| {
            // No coefficient of an 8-bit picture exceeds 1024, so that larger steps change nothing.
            let step = table.map_or(1, |table| table[usize::from(position)].clamp(1, 2049));
            let scaled = u32::from(step) << FRACTION_BITS;
            let narrow = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
            Step { step, half: narrow(scaled / 2), reciprocal: narrow(65_536_u32.div_ceil(scaled)) }
        })
    })
}

/// Sums of absolute coefficients for each block of a batch.
///
/// They fit 16 bits: absolute coefficients add up to at most √64 times their root sum of squares, 8·1024 (Cauchy, Parseval), and
/// rounding to a step at most doubles each.
#[derive(Default)]
struct Sums {
    low: [u16; BATCH],
    middle: [u16; BATCH],
    high: [u16; BATCH],
    top: [u16; BATCH],
}

impl Transform {
    /// Sets the quantisation table of the pictures to come; `None` stands for steps of 1.
    pub(super) fn set_table(&mut self, table: Option<&Table>) {
        self.steps = steps(table);
    }

    /// Fills `blocks` from eight rows of luma, eight columns a block.
    pub(super) fn blocks(&mut self, luma: &[Vec<u8>; 8], blocks: &mut [Block]) {
        for (batch, blocks) in blocks.chunks_mut(BATCH).enumerate() {
            for (columns, row) in self.pixels.iter_mut().zip(luma) {
                for (column, &pixel) in columns.iter_mut().zip(row.iter().skip(batch * 8 * BATCH)) {
                    *column = i16::from(pixel) - 128;
                }
            }
            self.batch(blocks);
        }
    }

    fn batch(&mut self, blocks: &mut [Block]) {
        // √8 times the coefficient with 3 more bits: the butterflies of the next pass still fit 16 bits.
        pass::<10, _>(&self.pixels, &mut self.vertical);
        let mut sums = Sums::default();
        for (v, columns) in self.vertical.iter().enumerate() {
            for (index, block) in columns.as_chunks::<8>().0.iter().enumerate() {
                for (lane, &value) in self.lanes.iter_mut().zip(block) {
                    lane[index] = value;
                }
            }
            // Another √8 and the 3 bits make 2⁶, of which 2³ are kept.
            pass::<16, _>(&self.lanes, &mut self.coefficients);
            for (u, lane) in self.coefficients.iter().enumerate() {
                let step = self.steps[v][u];
                match ZIGZAG[v][u] {
                    0 => {
                        for (block, &value) in blocks.iter_mut().zip(lane) {
                            let magnitude = i32::from(quantised(value, step));
                            let dc = 1024 + if value < 0 { -magnitude } else { magnitude };
                            block.dc = u16::try_from(dc).unwrap_or(0);
                        }
                    }
                    1..=5 => add(&mut sums.low, lane, step),
                    6..=20 => add(&mut sums.middle, lane, step),
                    21..=27 => add(&mut sums.high, lane, step),
                    _ => add(&mut sums.top, lane, step),
                }
            }
        }
        for (index, block) in blocks.iter_mut().enumerate() {
            block.low = sums.low[index];
            block.middle = sums.middle[index];
            block.high = sums.high[index] + sums.top[index];
            block.top = sums.top[index];
        }
    }
}

/// The magnitude of a coefficient given in eighths, rounded to a multiple of its step.
const fn quantised(value: i16, step: Step) -> u16 {
    let scaled = value.unsigned_abs().wrapping_add(step.half);
    let level = (scaled as u32 * step.reciprocal as u32) >> 16;
    let level = level as u16;
    level.wrapping_mul(step.step)
}

fn add(sums: &mut [u16; BATCH], lane: &Lane, step: Step) {
    for (sum, &value) in sums.iter_mut().zip(lane) {
        *sum = sum.wrapping_add(quantised(value, step));
    }
}

/// √8 times the one-dimensional DCT across the eight rows, times 2¹³, rounded and shifted right by `SHIFT`.
#[expect(clippy::cast_possible_truncation, reason = "√8 times a coefficient of 8-bit pixels fits with 3 more bits")]
fn pass<const SHIFT: u32, const N: usize>(rows: &[[i16; N]; 8], output: &mut [[i16; N]; 8]) {
    // √2·cos(kπ/16)·2¹³; C4 is 2¹³ itself.
    const C1: i32 = 11_363;
    const C2: i32 = 10_703;
    const C3: i32 = 9633;
    const C4: i32 = 8192;
    const C5: i32 = 6436;
    const C6: i32 = 4433;
    const C7: i32 = 2260;
    let half = 1 << (SHIFT - 1);
    for i in 0..N {
        let sum = |a: usize, b: usize| rows[a][i].wrapping_add(rows[b][i]);
        let difference = |a: usize, b: usize| i32::from(rows[a][i].wrapping_sub(rows[b][i]));
        let (s0, s1, s2, s3) = (sum(0, 7), sum(1, 6), sum(2, 5), sum(3, 4));
        let (d0, d1, d2, d3) = (difference(0, 7), difference(1, 6), difference(2, 5), difference(3, 4));
        let (e0, e1) = (i32::from(s0.wrapping_add(s3)), i32::from(s1.wrapping_add(s2)));
        let (f0, f1) = (i32::from(s0.wrapping_sub(s3)), i32::from(s1.wrapping_sub(s2)));
        output[0][i] = ((e0 * C4 + e1 * C4 + half) >> SHIFT) as i16;
        output[1][i] = ((d0 * C1 + d1 * C3 + d2 * C5 + d3 * C7 + half) >> SHIFT) as i16;
        output[2][i] = ((f0 * C2 + f1 * C6 + half) >> SHIFT) as i16;
        output[3][i] = ((d0 * C3 - d1 * C7 - d2 * C1 - d3 * C5 + half) >> SHIFT) as i16;
        output[4][i] = ((e0 * C4 - e1 * C4 + half) >> SHIFT) as i16;
        output[5][i] = ((d0 * C5 - d1 * C1 + d2 * C7 + d3 * C3 + half) >> SHIFT) as i16;
        output[6][i] = ((f0 * C6 - f1 * C2 + half) >> SHIFT) as i16;
        output[7][i] = ((d0 * C7 - d1 * C5 + d2 * C3 - d3 * C1 + half) >> SHIFT) as i16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition in ITU-T T.81, A.3.3, in double precision.
    fn naive(pixels: &[[u8; 8]; 8]) -> [[f64; 8]; 8] {
        let scale = |k: usize| if k == 0 { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
        #[expect(clippy::cast_precision_loss, reason = "at most 15·7")]
        let cos = |x: usize, u: usize| ((2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0).cos();
        std::array::from_fn(|v| {
            std::array::from_fn(|u| {
                let mut sum = 0.0;
                for (y, row) in pixels.iter().enumerate() {
                    for (x, &pixel) in row.iter().enumerate() {
                        sum += (f64::from(pixel) - 128.0) * cos(x, u) * cos(y, v);
                    }
                }
                sum * scale(u) * scale(v) / 4.0
            })
        })
    }

    fn random(seed: u64) -> impl FnMut() -> u8 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56).to_le_bytes()[0]
        }
    }

    fn coefficients(pixels: &[[u8; 8]; 8]) -> [[i16; 8]; 8] {
        let mut rows = [[0_i16; 8]; 8];
        pass::<10, 8>(&pixels.map(|row| row.map(|pixel| i16::from(pixel) - 128)), &mut rows);
        let transposed =
            |m: &[[i16; 8]; 8]| -> [[i16; 8]; 8] { std::array::from_fn(|x| std::array::from_fn(|y| m[y][x])) };
        let mut columns = [[0; 8]; 8];
        pass::<16, 8>(&transposed(&rows), &mut columns);
        transposed(&columns)
    }

    #[test]
    fn coefficients_agree_with_the_definition_to_a_quarter_level_also_for_the_most_extreme_blocks() {
        let mut next = random(7);
        let mut blocks = vec![[[0; 8]; 8], [[255; 8]; 8]];
        for _ in 0..200 {
            blocks.push(std::array::from_fn(|_| std::array::from_fn(|_| next())));
        }
        // The largest value each coefficient can take, with either sign.
        for (v, u) in (0..8).flat_map(|v| (0..8).map(move |u| (v, u))) {
            let positive: [[u8; 8]; 8] = std::array::from_fn(|y| {
                std::array::from_fn(|x| {
                    let mut impulse = [[128_u8; 8]; 8];
                    impulse[y][x] = 228;
                    if naive(&impulse)[v][u] > 0.0 { 255 } else { 0 }
                })
            });
            blocks.push(positive);
            blocks.push(positive.map(|row| row.map(|pixel| 255 - pixel)));
        }
        for pixels in &blocks {
            for (got, want) in coefficients(pixels).iter().flatten().zip(naive(pixels).iter().flatten()) {
                assert!((f64::from(*got) / 8.0 - want).abs() < 0.25, "{got}, want {want} in {pixels:?}");
            }
        }
    }

    /// One row of blocks through the transform.
    fn transformed(table: Option<&Table>, pixels: &[[[u8; 8]; 8]]) -> Vec<Block> {
        let luma: [Vec<u8>; 8] = std::array::from_fn(|y| pixels.iter().flat_map(|block| block[y]).collect());
        let mut blocks = vec![Block::default(); pixels.len()];
        let mut transform = Transform::default();
        transform.set_table(table);
        transform.blocks(&luma, &mut blocks);
        blocks
    }

    #[test]
    fn grey_blocks_have_their_level_as_dc_and_no_texture() {
        for level in [0, 1, 127, 128, 129, 255] {
            let [block] = transformed(None, &[[[level; 8]; 8]])[..] else { panic!("one block") };
            assert_eq!(block, Block { dc: 8 * u16::from(level), ..Block::default() });
        }
    }

    #[test]
    fn group_sums_agree_with_the_definition_in_every_place_of_a_batch() {
        let mut next = random(3);
        let pixels: Vec<[[u8; 8]; 8]> =
            (0..2 * BATCH + 5).map(|_| std::array::from_fn(|_| std::array::from_fn(|_| next()))).collect();
        for (block, pixels) in transformed(None, &pixels).iter().zip(&pixels) {
            let naive = naive(pixels);
            let sum = |from: u8, to: u8| -> f64 {
                let inside = ZIGZAG.iter().flatten().zip(naive.iter().flatten());
                inside.filter(|(position, _)| (from..=to).contains(position)).map(|(_, c)| c.round().abs()).sum()
            };
            assert!((f64::from(block.dc) - (naive[0][0].round() + 1024.0)).abs() <= 1.0);
            for (got, want) in [
                (block.low, sum(1, 5)),
                (block.middle, sum(6, 20)),
                (block.high, sum(21, 63)),
                (block.top, sum(28, 63)),
            ] {
                assert!((f64::from(got) - want).abs() <= 8.0, "{got}, want {want}");
            }
        }
    }

    #[test]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range of a pixel")]
    fn the_integers_a_jpeg_carried_come_back_through_rounded_pixels() {
        let mut next = random(11);
        let table: Table = std::array::from_fn(|position| 9 + u16::try_from(position).expect("small") / 2);
        for _ in 0..300 {
            // A few coefficients on the grid of the table, small enough not to clip.
            let mut carried = [[0.0_f64; 8]; 8];
            for _ in 0..6 {
                let (v, u) = (usize::from(next() % 8), usize::from(next() % 8));
                let level = f64::from(next() % 5) - 2.0;
                carried[v][u] = level * f64::from(table[usize::from(ZIGZAG[v][u])]);
            }
            let scale = |k: usize| if k == 0 { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
            let pixels: [[u8; 8]; 8] = std::array::from_fn(|y| {
                std::array::from_fn(|x| {
                    let mut sum = 0.0;
                    for (v, row) in carried.iter().enumerate() {
                        for (u, &c) in row.iter().enumerate() {
                            #[expect(clippy::cast_precision_loss, reason = "at most 15·7")]
                            let cos = |x: usize, u: usize| {
                                ((2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0).cos()
                            };
                            sum += scale(u) * scale(v) * c * cos(x, u) * cos(y, v);
                        }
                    }
                    (sum / 4.0 + 128.0).round().clamp(0.0, 255.0) as u8
                })
            });
            let sum = |from: u8, to: u8| -> f64 {
                let inside = ZIGZAG.iter().flatten().zip(carried.iter().flatten());
                inside.filter(|(position, _)| (from..=to).contains(position)).map(|(_, c)| c.abs()).sum()
            };
            let [block] = transformed(Some(&table), &[pixels])[..] else { panic!("one block") };
            let got = [block.dc, block.low, block.middle, block.high, block.top].map(f64::from);
            assert_eq!(got, [carried[0][0] + 1024.0, sum(1, 5), sum(6, 20), sum(21, 63), sum(28, 63)]);
        }
    }

    #[test]
    fn absurd_quantisation_tables_do_not_overflow() {
        let mut next = random(5);
        let noise: [[u8; 8]; 8] = std::array::from_fn(|_| std::array::from_fn(|_| if next() < 128 { 0 } else { 255 }));
        for step in [1, 2, 255, 1023, 1024, 2048, u16::MAX] {
            for block in transformed(Some(&[step; 64]), &[noise, [[0; 8]; 8], [[255; 8]; 8]]) {
                let all = u32::from(block.low) + u32::from(block.middle) + u32::from(block.high);
                assert!(all <= 16_384 && block.top <= block.high && block.dc <= 2048, "step {step}: {block:?}");
            }
        }
    }
}
