//! Repeatable random numbers: equal (seed, stream, index) give equal numbers on every machine and in every version.
//!
//! SplitMix64 (Steele, Lea, Flood 2014). Own, because a library may change its generator between versions and with it every
//! picture that a test has measured.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
    spare: Option<f32>,
}

const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// Numbers that are the same in every frame of a run: where the dirt sits, which way the camera turned.
    pub(super) const fn of_run(seed: u64) -> Self {
        Self { state: mix(seed.wrapping_add(STEP)), spare: None }
    }

    /// Numbers of one frame: its noise.
    pub(super) const fn of_frame(seed: u64, index: u64) -> Self {
        let run = mix(seed.wrapping_add(STEP.wrapping_mul(2)));
        Self { state: mix(run ^ mix(index.wrapping_add(STEP))), spare: None }
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// Uniform on 0..1.
    pub(super) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 24) as f32
    }

    /// Uniform on 0..count; the bias of at most count/2⁶⁴ does not matter here.
    #[expect(clippy::cast_possible_truncation, reason = "the result is below count")]
    pub(super) const fn below(&mut self, count: usize) -> usize {
        ((self.next() as u128 * count as u128) >> 64) as usize
    }

    /// +1 or -1.
    pub(super) const fn sign(&mut self) -> f32 {
        if self.next() >> 63 == 0 { 1.0 } else { -1.0 }
    }

    /// Normal with mean 0 and standard deviation 1 (Box and Muller 1958).
    pub(super) fn normal(&mut self) -> f32 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let (sin, cos) = (self.unit() * std::f32::consts::TAU).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_numbers_have_mean_0_deviation_1_and_normal_tails() {
        let mut random = Random::of_frame(7, 3);
        let values: Vec<f64> = (0..200_000).map(|_| f64::from(random.normal())).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        let beyond_two = values.iter().filter(|value| value.abs() > 2.0).count() as f64 / count;
        assert!(mean.abs() < 0.01, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.02, "variance {variance}");
        assert!((beyond_two - 0.0455).abs() < 0.003, "share beyond two deviations {beyond_two}");
    }

    #[test]
    fn frames_runs_and_seeds_have_streams_of_their_own() {
        let firsts = [
            Random::of_run(1).next(),
            Random::of_run(2).next(),
            Random::of_frame(1, 0).next(),
            Random::of_frame(1, 1).next(),
            Random::of_frame(2, 0).next(),
        ];
        for (place, first) in firsts.iter().enumerate() {
            assert!(!firsts[..place].contains(first));
        }
        assert_eq!(Random::of_frame(1, 1).next(), firsts[3]);
    }
}
