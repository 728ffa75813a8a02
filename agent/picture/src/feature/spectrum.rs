//! Sharpness and noise at full resolution, from DCT coefficients alone.
//!
//! Quantisation acts on these too: the same sensor noise reads lower in a coarser JPEG. Read them beside the quantisation mean.

use driftglass_protocol::feature::{Feature, FeatureValues};
use driftglass_protocol::unit::Fixed;

use super::luma::ratio;
use crate::frame::Block;

/// Coefficients in zigzag 1..=5, 21..=63 and 28..=63.
const LOW_COUNT: u64 = 5;
const HIGH_COUNT: u64 = 43;
const TOP_COUNT: u64 = 36;
/// Added to a mean coefficient before its logarithm, as one part in this many: 0.05.
const FLOOR_PARTS: u64 = 20;
/// A block whose low coefficients sum to less than this is flat.
const FLAT_BELOW: u16 = 8;
/// One slot a value below 32, then sixteen an octave up to 2¹⁶.
const SLOTS: usize = 32 + 11 * 16;

/// Sums over all blocks, and how the finest coefficients are spread over blocks.
#[derive(Clone, Debug)]
pub(super) struct Spectrum {
    blocks: u64,
    low: u64,
    high: u64,
    flat: u64,
    top: [u32; SLOTS],
}

impl Spectrum {
    pub(super) const fn new() -> Self {
        Self { blocks: 0, low: 0, high: 0, flat: 0, top: [0; SLOTS] }
    }

    pub(super) fn add(&mut self, blocks: &[Block]) {
        for block in blocks {
            self.blocks += 1;
            self.low += u64::from(block.low);
            self.high += u64::from(block.high);
            self.flat += u64::from(block.low < FLAT_BELOW);
            self.top[slot(block.top)] += 1;
        }
    }

    pub(super) fn finish(&self, values: &mut FeatureValues) {
        if self.blocks == 0 {
            return;
        }
        // (sum/n + 1/20) as the fraction (20·sum + n) / 20·n.
        let high = FLOOR_PARTS * self.high + HIGH_COUNT * self.blocks;
        let low = FLOOR_PARTS * self.low + LOW_COUNT * self.blocks;
        values.set(Feature::HighFrequencyEnergy, Fixed::log2_ratio(high, FLOOR_PARTS * HIGH_COUNT * self.blocks));
        values.set(Feature::SpectralTilt, Fixed::log2_ratio(high * LOW_COUNT, low * HIGH_COUNT));
        values.set(Feature::FlatFraction, ratio(self.flat, self.blocks));
        values.set(Feature::NoiseLevel, self.noise());
    }

    /// The median, interpolated inside its slot: where more than half of the blocks have no fine coefficient left (any JPEG of
    /// common quality), it still tells how many.
    fn noise(&self) -> Fixed {
        let mut below = 0_u64;
        for (index, &count) in self.top.iter().enumerate() {
            let count = u64::from(count);
            if 2 * (below + count) >= self.blocks && count > 0 {
                let (start, width) = bounds(index);
                let median = 2 * start * count + width * self.blocks.saturating_sub(2 * below);
                return Fixed::log2_ratio(median, 2 * count * TOP_COUNT);
            }
            below += count;
        }
        Fixed::ZERO
    }
}

fn slot(value: u16) -> usize {
    let value = usize::from(value);
    if value < 32 {
        return value;
    }
    let octave = value.ilog2() as usize;
    32 + (octave - 5) * 16 + ((value >> (octave - 4)) & 15)
}

/// First value and width of a slot.
const fn bounds(slot: usize) -> (u64, u64) {
    if slot < 32 {
        return (slot as u64, 1);
    }
    let (octave, step) = ((slot - 32) / 16, (slot - 32) % 16);
    ((16 + step as u64) << (octave + 1), 1 << (octave + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(blocks: &[Block]) -> impl Fn(Feature) -> f64 + use<> {
        let mut spectrum = Spectrum::new();
        spectrum.add(blocks);
        let mut values = FeatureValues::default();
        spectrum.finish(&mut values);
        move |feature| values.get(feature).expect("measured").to_f64()
    }

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-3, "{got}, want {want}");
    }

    #[test]
    fn blocks_without_texture_sit_on_the_floor() {
        let value = of(&[Block::default(); 10]);
        near(value(Feature::HighFrequencyEnergy), 0.05_f64.log2());
        near(value(Feature::SpectralTilt), 0.0);
        near(value(Feature::FlatFraction), 1.0);
        near(value(Feature::NoiseLevel), (0.5 / 36.0_f64).log2());
    }

    #[test]
    fn known_sums_give_the_documented_logarithms() {
        let value = of(&[Block { dc: 0, low: 50, middle: 0, high: 86, top: 36 }; 4]);
        near(value(Feature::HighFrequencyEnergy), 2.05_f64.log2());
        near(value(Feature::SpectralTilt), (2.05_f64 / 10.05).log2());
        near(value(Feature::FlatFraction), 0.0);
        near(value(Feature::NoiseLevel), (37.0 / 36.0_f64).log2());
    }

    #[test]
    fn noise_is_that_of_the_middle_block_and_not_of_the_edges() {
        let quiet = Block { top: 3, ..Block::default() };
        let edge = Block { top: 4000, ..Block::default() };
        let value = of(&[quiet, quiet, quiet, edge, edge]);
        assert!(value(Feature::NoiseLevel) < (4.0 / 36.0_f64).log2() + 1e-3);
    }

    #[test]
    fn flat_means_a_low_sum_of_less_than_eight() {
        let blocks = [7, 8].map(|low| Block { low, ..Block::default() });
        near(of(&blocks)(Feature::FlatFraction), 0.5);
    }

    #[test]
    fn every_value_lies_in_its_slot() {
        for value in 0..=u16::MAX {
            let (start, width) = bounds(slot(value));
            assert!((start..start + width).contains(&u64::from(value)), "{value}");
        }
    }
}
