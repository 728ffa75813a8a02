//! Random numbers and streams of frames, the same in every run.

/// Bins of every histogram here.
pub(crate) const BINS: usize = 256;

/// Uniform and normal numbers from a 64-bit linear congruential generator (Knuth's MMIX constants).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0
    }

    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// The bin of a value of about unit variance among 256 from −6 to 6.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the bins")]
pub(crate) fn bin(value: f64) -> usize {
    ((value + 6.0) / 12.0 * 256.0).clamp(0.0, 255.0) as usize
}

/// Counts of values.
pub(crate) fn histogram(values: &[f64]) -> [u32; BINS] {
    let mut counts = [0; BINS];
    values.iter().for_each(|&value| counts[bin(value)] += 1);
    counts
}

/// Sum of histograms.
pub(crate) fn pooled(windows: &[[u32; BINS]]) -> [u32; BINS] {
    let mut sum = [0; BINS];
    for window in windows {
        sum.iter_mut().zip(window).for_each(|(sum, count)| *sum += count);
    }
    sum
}

/// One autoregressive stream of unit variance, with white noise on top.
pub(crate) struct Stream {
    pub(crate) random: Random,
    pub(crate) memory: f64,
    pub(crate) noise: f64,
    pub(crate) level: f64,
}

impl Stream {
    pub(crate) fn frames(&mut self, count: usize) -> Vec<f64> {
        (0..count)
            .map(|_| {
                let step = (1.0 - self.memory * self.memory).sqrt() * self.random.normal();
                self.level = self.memory * self.level + step;
                self.level + self.noise * self.random.normal()
            })
            .collect()
    }
}

/// A count as a number.
pub(crate) fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("small"))
}
