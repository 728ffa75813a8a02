//! A JPEG encoder for tests: every sampling, restart interval and size that the decoder of strips takes, and some it does not.
//!
//! Deliberately absent: speed, and tables anybody would send. Its AC codes have the lengths of ITU-T T.81, table K.5, so that short
//! and long ones occur.

extern crate std;
use std::vec;
use std::vec::Vec;

use super::zigzag::ZIGZAG;

/// How a picture is to be encoded.
#[derive(Clone, Debug)]
pub(super) struct Encoding {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Across and down, for each component.
    pub(super) sampling: Vec<(usize, usize)>,
    /// The step of DC and of the finest coefficient; those between lie between.
    pub(super) steps: (u16, u16),
    pub(super) restart_interval: u16,
    /// 0xc0 for baseline, 0xc1 for extended sequential.
    pub(super) start_of_frame: u8,
    /// One scan for each component instead of one for all.
    pub(super) is_apart: bool,
}

impl Encoding {
    pub(super) fn new(width: usize, height: usize, sampling: &[(usize, usize)]) -> Self {
        Self {
            width,
            height,
            sampling: sampling.to_vec(),
            steps: (3, 12),
            restart_interval: 0,
            start_of_frame: 0xc0,
            is_apart: false,
        }
    }

    /// Encodes samples given by component, column and row.
    pub(super) fn write(&self, sample: impl Fn(usize, usize, usize) -> u8) -> Vec<u8> {
        let mut out = vec![0xff, 0xd8];
        let table: Vec<u16> = (0..64).map(|k| self.steps.0 + (self.steps.1 - self.steps.0) * k / 63).collect();
        let mut quantisation = vec![0x10];
        quantisation.extend(table.iter().flat_map(|step| step.to_be_bytes()));
        segment(&mut out, 0xdb, &quantisation);
        let codes = [Coder::new(DC_COUNTS, (0..=11).collect()), Coder::new(AC_COUNTS, ac_symbols())];
        for (kind, coder) in [0x00, 0x11].into_iter().zip(&codes) {
            segment(&mut out, 0xc4, &[&[kind], &coder.counts[..], &coder.symbols[..]].concat());
        }
        segment(&mut out, 0xdd, &self.restart_interval.to_be_bytes());
        let byte = |number: usize| u8::try_from(number).expect("small");
        let size = |side: usize| u16::try_from(side).expect("small").to_be_bytes();
        let mut frame = vec![8];
        frame.extend(size(self.height).into_iter().chain(size(self.width)));
        frame.push(byte(self.sampling.len()));
        for (name, &(across, down)) in self.sampling.iter().enumerate() {
            frame.extend([byte(name + 1), byte(across << 4 | down), 0]);
        }
        segment(&mut out, self.start_of_frame, &frame);
        let all: Vec<usize> = (0..self.sampling.len()).collect();
        let scans = if self.is_apart { all.chunks(1).collect() } else { vec![&all[..]] };
        for scan in scans {
            let mut header = vec![byte(scan.len())];
            header.extend(scan.iter().flat_map(|&component| [byte(component + 1), 0x01]));
            header.extend([0, 63, 0]);
            segment(&mut out, 0xda, &header);
            self.write_scan(&mut out, scan, &table, &codes, &sample);
        }
        out.extend([0xff, 0xff, 0xd9]);
        out
    }

    fn write_scan(
        &self,
        out: &mut Vec<u8>,
        scan: &[usize],
        table: &[u16],
        [dc, ac]: &[Coder; 2],
        sample: &impl Fn(usize, usize, usize) -> u8,
    ) {
        let most = |of: fn(&(usize, usize)) -> usize| self.sampling.iter().map(of).max().expect("components");
        let (across, down) = (most(|sampling| sampling.0), most(|sampling| sampling.1));
        let is_alone = scan.len() == 1;
        let units = |side: usize, most: usize, own: usize| {
            if is_alone { (side * own).div_ceil(most).div_ceil(8) } else { side.div_ceil(8 * most) }
        };
        let first = self.sampling[scan[0]];
        let (wide, high) = (units(self.width, across, first.0), units(self.height, down, first.1));
        let mut bits = Bits::default();
        let mut predictors = vec![0; self.sampling.len()];
        for unit in 0..wide * high {
            if self.restart_interval > 0 && unit > 0 && unit % usize::from(self.restart_interval) == 0 {
                out.extend(std::mem::take(&mut bits).finish());
                let number = unit / usize::from(self.restart_interval) - 1;
                out.extend([0xff, 0xd0 + u8::try_from(number % 8).expect("small")]);
                predictors.fill(0);
            }
            for &component in scan {
                let own = self.sampling[component];
                let (blocks_across, blocks_down) = if is_alone { (1, 1) } else { own };
                for block in 0..blocks_across * blocks_down {
                    let column = unit % wide * blocks_across + block % blocks_across;
                    let row = unit / wide * blocks_down + block / blocks_across;
                    let (scale_x, scale_y) = (across / own.0, down / own.1);
                    let mean = |x: usize, y: usize| {
                        let mut sum = 0.0;
                        for (dy, dx) in (0..scale_y).flat_map(|dy| (0..scale_x).map(move |dx| (dy, dx))) {
                            let x = ((8 * column + x) * scale_x + dx).min(self.width - 1);
                            let y = ((8 * row + y) * scale_y + dy).min(self.height - 1);
                            sum += f64::from(sample(component, x, y));
                        }
                        sum / f64::from(u8::try_from(scale_x * scale_y).expect("small"))
                    };
                    let pixels: [[f64; 8]; 8] = std::array::from_fn(|y| std::array::from_fn(|x| mean(x, y)));
                    let levels = quantised(&pixels, table);
                    bits.block(&levels, &mut predictors[component], dc, ac);
                }
            }
        }
        out.extend(bits.finish());
    }
}

fn segment(out: &mut Vec<u8>, marker: u8, content: &[u8]) {
    out.extend([0xff, marker]);
    out.extend(u16::try_from(content.len() + 2).expect("short").to_be_bytes());
    out.extend(content);
}

/// Quantised coefficients in zigzag order.
#[expect(clippy::cast_possible_truncation, reason = "coefficients of pixels are small")]
fn quantised(pixels: &[[f64; 8]; 8], table: &[u16]) -> [i32; 64] {
    let mut levels = [0; 64];
    for (v, row) in transformed(pixels).iter().enumerate() {
        for (u, coefficient) in row.iter().enumerate() {
            let position = usize::from(ZIGZAG[v][u]);
            levels[position] = (coefficient / f64::from(table[position])).round() as i32;
        }
    }
    levels
}

/// The basis of the DCT of ITU-T T.81: frequency, then place.
pub(super) fn basis() -> [[f64; 8]; 8] {
    std::array::from_fn(|u| {
        let scale = if u == 0 { 0.125_f64.sqrt() } else { 0.5 };
        #[expect(clippy::cast_precision_loss, reason = "at most 15·7")]
        let cos = |x: usize| ((2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0).cos();
        std::array::from_fn(|x| scale * cos(x))
    })
}

fn transformed(pixels: &[[f64; 8]; 8]) -> [[f64; 8]; 8] {
    let basis = basis();
    let rows: [[f64; 8]; 8] =
        pixels.map(|row| std::array::from_fn(|u| (0..8).map(|x| (row[x] - 128.0) * basis[u][x]).sum()));
    std::array::from_fn(|v| std::array::from_fn(|u| (0..8).map(|y| rows[y][u] * basis[v][y]).sum()))
}

const DC_COUNTS: [u8; 16] = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
const AC_COUNTS: [u8; 16] = [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125];

/// Runs and sizes, the likelier ones first.
fn ac_symbols() -> Vec<u8> {
    let mut symbols: Vec<u8> = (0..=15).flat_map(|run| (1..=10).map(move |size| run << 4 | size)).collect();
    symbols.push(0xf0);
    symbols.sort_by_key(|symbol| u32::from(symbol >> 4) + 2 * u32::from(symbol & 15));
    symbols.insert(1, 0);
    symbols
}

struct Coder {
    counts: [u8; 16],
    symbols: Vec<u8>,
    /// Code and length by symbol.
    codes: [(u32, u32); 256],
}

impl Coder {
    fn new(counts: [u8; 16], symbols: Vec<u8>) -> Self {
        let mut codes = [(0, 0); 256];
        let (mut code, mut place) = (0, 0);
        for (length, count) in (1..).zip(counts) {
            for _ in 0..count {
                codes[usize::from(symbols[place])] = (code, length);
                (code, place) = (code + 1, place + 1);
            }
            code <<= 1;
        }
        assert_eq!(place, symbols.len(), "every symbol has its code");
        Self { counts, symbols, codes }
    }
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    pending: u32,
    count: u32,
}

impl Bits {
    fn put(&mut self, (bits, length): (u32, u32)) {
        for bit in (0..length).rev() {
            self.pending = self.pending << 1 | bits >> bit & 1;
            self.count += 1;
            if self.count == 8 {
                let byte = self.pending.to_le_bytes()[0];
                self.bytes.push(byte);
                if byte == 0xff {
                    self.bytes.push(0);
                }
                (self.pending, self.count) = (0, 0);
            }
        }
    }

    fn value(&mut self, coder: &Coder, run: u8, value: i32) {
        let size = 32 - value.unsigned_abs().leading_zeros();
        self.put(coder.codes[usize::from(run << 4 | u8::try_from(size).expect("small"))]);
        let bits = if value < 0 { value - 1 } else { value };
        self.put((bits.cast_unsigned(), size));
    }

    fn block(&mut self, levels: &[i32; 64], predictor: &mut i32, dc: &Coder, ac: &Coder) {
        self.value(dc, 0, levels[0] - *predictor);
        *predictor = levels[0];
        let mut run = 0;
        for &level in &levels[1..] {
            if level == 0 {
                run += 1;
                continue;
            }
            for _ in 0..run / 16 {
                self.put(ac.codes[0xf0]);
            }
            self.value(ac, run % 16, level);
            run = 0;
        }
        if run > 0 {
            self.put(ac.codes[0]);
        }
    }

    /// Padded with ones.
    fn finish(mut self) -> Vec<u8> {
        while self.count > 0 {
            self.put((1, 1));
        }
        self.bytes
    }
}
