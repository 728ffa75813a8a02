//! A picture as linear light, and how light spreads.
//!
//! Pixels are stored with a gamma of 2.2; light adds up only without it. Blurring the stored values would darken highlights,
//! which a lens does not.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "light and geometry are bounded before each cast"
)]

use std::sync::LazyLock;

use image::RgbImage;

use super::random::Random;

const GAMMA: f32 = 2.2;

static TO_LIGHT: LazyLock<[f32; 256]> =
    LazyLock::new(|| std::array::from_fn(|level| (level as f32 / 255.0).powf(GAMMA)));

/// Levels over √light: there the curve is nearly straight, so that a table resolves 0.06 of a level everywhere.
static TO_LEVEL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..=TABLE).map(|place| ((place as f32 / TABLE as f32).powf(2.0 / GAMMA) * 255.0 + 0.5) as u8).collect()
});

const TABLE: usize = 4096;

/// Light of one stored level, 0..=1.
pub(super) fn of_level(level: u8) -> f32 {
    TO_LIGHT[usize::from(level)]
}

/// The stored level of some light; what lies outside 0..=1 is clipped.
pub(super) fn to_level(light: f32) -> u8 {
    TO_LEVEL[(light.clamp(0.0, 1.0).sqrt() * TABLE as f32 + 0.5) as usize]
}

/// One number per pixel, row by row.
#[derive(Clone, Debug)]
pub(super) struct Plane {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) values: Vec<f32>,
}

/// Red, green and blue light, 1 being the brightest the sensor can store.
#[derive(Clone, Debug)]
pub(super) struct Light(pub(super) [Plane; 3]);

impl Light {
    pub(super) fn of(picture: &RgbImage) -> Self {
        let table = &*TO_LIGHT;
        let plane = |channel: usize| Plane {
            width: picture.width() as usize,
            height: picture.height() as usize,
            values: picture.as_raw().chunks_exact(3).map(|pixel| table[usize::from(pixel[channel])]).collect(),
        };
        Self([plane(0), plane(1), plane(2)])
    }

    pub(super) fn to_picture(&self) -> RgbImage {
        let [red, green, blue] = &self.0;
        let mut picture = RgbImage::new(red.width as u32, red.height as u32);
        for (place, pixel) in picture.chunks_exact_mut(3).enumerate() {
            pixel.copy_from_slice(&[red.values[place], green.values[place], blue.values[place]].map(to_level));
        }
        picture
    }

    /// Out of focus: every point becomes a disk of this radius in pixels (fractions count).
    pub(super) fn disk(&self, radius: f32) -> Self {
        Self([0, 1, 2].map(|channel| self.0[channel].disk(radius)))
    }
}

impl Plane {
    pub(super) fn filled(width: usize, height: usize, value: f32) -> Self {
        Self { width, height, values: vec![value; width * height] }
    }

    /// A smooth random field on 0..=1, the coarsest of its three octaves with `cells` by `cells` knots.
    pub(super) fn cloud(random: &mut Random, width: usize, height: usize, cells: usize) -> Self {
        let mut field = Self::filled(width, height, 0.0);
        for octave in 0..3 {
            let knots = (cells << octave).max(2);
            let amplitude = 0.5_f32.powi(octave);
            let grid: Vec<f32> = (0..knots * knots).map(|_| random.unit() * amplitude).collect();
            let across: Vec<_> = (0..width).map(|x| knot(x, width, knots)).collect();
            for (y, row) in field.values.chunks_exact_mut(width.max(1)).enumerate() {
                let (top, down) = knot(y, height, knots);
                let (upper, lower) = (&grid[top * knots..], &grid[(top + 1) * knots..]);
                for (value, &(left, right)) in row.iter_mut().zip(&across) {
                    let above = upper[left] + (upper[left + 1] - upper[left]) * right;
                    let below = lower[left] + (lower[left + 1] - lower[left]) * right;
                    *value += above + (below - above) * down;
                }
            }
        }
        let low = field.values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = field.values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let scale = 1.0 / (high - low).max(1e-6);
        field.values.iter_mut().for_each(|value| *value = (*value - low) * scale);
        field
    }

    /// Mean over a disk, as pixels see it: each averages over its own area too, so that a disk smaller than a pixel still
    /// reaches its neighbours. Each row of the disk is a box as long as the row's share of the disk's area, and a box is the
    /// difference of two running sums: the cost grows with the radius, not with its square.
    pub(super) fn disk(&self, radius: f32) -> Self {
        if radius < 0.2 || self.values.is_empty() {
            return self.clone();
        }
        let reach = (f64::from(radius) + 0.5 + APERTURE) as usize;
        let chords = chords(radius, reach);
        let area: f64 = chords[0] + 2.0 * chords[1..].iter().sum::<f64>();
        let pad = reach + 2;
        let mut out = Self::filled(self.width, self.height, 0.0);
        let mut sums = vec![0.0_f64; self.width + 2 * pad + 1];
        let columns: Vec<usize> = (0..self.width + 2 * pad).map(|x| reflect(x, pad, self.width)).collect();
        for padded in 0..self.height + 2 * reach {
            let row = &self.values[reflect(padded, reach, self.height) * self.width..][..self.width];
            let mut sum = 0.0;
            for (place, &column) in columns.iter().enumerate() {
                sum += f64::from(row[column]);
                sums[place + 1] = sum;
            }
            for y in padded.saturating_sub(2 * reach)..=padded.min(self.height - 1) {
                let half = chords[(y + reach).abs_diff(padded)] / 2.0;
                let target = &mut out.values[y * self.width..][..self.width];
                // The centre of the target's first pixel, counted from the left of the padded row.
                let centre = pad as f64 + 0.5;
                for shift in [-APERTURE, APERTURE] {
                    add_box(target, &sums, centre + shift - half, centre + shift + half, 0.5 / area);
                }
            }
        }
        out
    }

    /// Normal blur with this standard deviation in pixels, cut at three deviations.
    pub(super) fn gaussian(&self, deviation: f32) -> Self {
        if deviation <= 0.0 || self.values.is_empty() {
            return self.clone();
        }
        let reach = (3.0 * deviation).ceil() as usize;
        let mut weights: Vec<f32> =
            (0..=2 * reach).map(|place| (-0.5 * ((place as f32 - reach as f32) / deviation).powi(2)).exp()).collect();
        let total: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);

        let mut across = Self::filled(self.width, self.height, 0.0);
        let columns: Vec<usize> = (0..self.width + 2 * reach).map(|x| reflect(x, reach, self.width)).collect();
        let mut padded = vec![0.0; columns.len()];
        for (row, target) in self.values.chunks_exact(self.width).zip(across.values.chunks_exact_mut(self.width)) {
            for (value, &column) in padded.iter_mut().zip(&columns) {
                *value = row[column];
            }
            for (place, weight) in weights.iter().enumerate() {
                add_scaled(target, &padded[place..], *weight);
            }
        }
        let mut out = Self::filled(self.width, self.height, 0.0);
        for (y, target) in out.values.chunks_exact_mut(self.width).enumerate() {
            for (place, weight) in weights.iter().enumerate() {
                let row = reflect(y + place, reach, self.height) * self.width;
                add_scaled(target, &across.values[row..], *weight);
            }
        }
        out
    }

    pub(super) fn mean(&self) -> f32 {
        let sum: f64 = self.values.iter().copied().map(f64::from).sum();
        (sum / self.values.len().max(1) as f64) as f32
    }
}

/// The mean over a pixel is taken at two places of it, this far from its centre: two-point Gauss-Legendre quadrature.
const APERTURE: f64 = 0.288_675_134_594_812_9;

/// Adds `weight` times the sum from `left` to `right`, both moving on with the target, from running sums.
fn add_box(target: &mut [f32], sums: &[f64], left: f64, right: f64, weight: f64) {
    let (from, to) = (left as usize, right as usize);
    let (from_share, to_share) = (left.fract(), right.fract());
    let ends = sums[to..].iter().zip(&sums[to + 1..]);
    let starts = sums[from..].iter().zip(&sums[from + 1..]);
    for (value, ((end, after_end), (start, after_start))) in target.iter_mut().zip(ends.zip(starts)) {
        let covered = end + (after_end - end) * to_share - start - (after_start - start) * from_share;
        *value += (covered * weight) as f32;
    }
}

fn add_scaled(target: &mut [f32], values: &[f32], weight: f32) {
    for (value, other) in target.iter_mut().zip(values) {
        *value += other * weight;
    }
}

/// The knot left of pixel `place` and how far right of it the pixel lies, eased so that the field has no creases.
fn knot(place: usize, length: usize, knots: usize) -> (usize, f32) {
    let position = (place as f32 + 0.5) / length as f32 * (knots - 1) as f32;
    let left = (position as usize).min(knots - 2);
    let share = position - left as f32;
    (left, share * share * (3.0 - 2.0 * share))
}

/// Length of the disk's row at each distance 0..=reach from its centre row: the area between y-1/2 and y+1/2, averaged over
/// the pixel that looks on.
fn chords(radius: f32, reach: usize) -> Vec<f64> {
    let radius = f64::from(radius);
    // Area of the disk between the centre line and a line at this height.
    let below = |height: f64| {
        let height = height.clamp(-radius, radius);
        height * (radius * radius - height * height).sqrt() + radius * radius * (height / radius).asin()
    };
    let row = |centre: f64| below(centre + 0.5) - below(centre - 0.5);
    (0..=reach).map(|distance| (row(distance as f64 - APERTURE) + row(distance as f64 + APERTURE)) / 2.0).collect()
}

/// The pixel that stands in for place `padded - pad`: mirrored at the borders, as often as it takes.
fn reflect(padded: usize, pad: usize, length: usize) -> usize {
    if length <= 1 {
        return 0;
    }
    let turn = 2 * (length - 1);
    let place = (padded + turn * (pad / turn + 1) - pad) % turn;
    if place < length { place } else { turn - place }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_survives_the_way_to_light_and_back() {
        for level in 0..=u8::MAX {
            assert_eq!(to_level(of_level(level)), level);
        }
        assert_eq!((to_level(-1.0), to_level(7.0)), (0, 255));
    }

    #[test]
    fn places_beyond_a_border_are_mirrored_without_repeating_the_border() {
        let seen: Vec<usize> = (0..10).map(|padded| reflect(padded, 3, 4)).collect();
        assert_eq!(seen, [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]);
        assert_eq!(reflect(0, 50, 2), 0);
        assert_eq!(reflect(9, 5, 1), 0);
    }

    #[test]
    fn a_point_out_of_focus_becomes_an_even_disk_of_its_radius() {
        let mut plane = Plane::filled(41, 41, 0.0);
        plane.values[20 * 41 + 20] = 1.0;
        let radius = 6.3_f32;
        let blurred = plane.disk(radius);
        let inside = 1.0 / (std::f32::consts::PI * radius * radius);
        assert!((blurred.values.iter().sum::<f32>() - 1.0).abs() < 1e-4, "light is neither made nor lost");
        for y in 0..41_usize {
            for x in 0..41_usize {
                let distance = (x as f32 - 20.0).hypot(y as f32 - 20.0);
                let value = blurred.values[y * 41 + x];
                if distance < radius - 1.2 {
                    assert!((value - inside).abs() < 1e-5, "{x},{y}: {value}");
                } else if distance > radius + 1.2 {
                    assert!(value.abs() < 1e-6, "{x},{y}: {value}");
                }
            }
        }
    }

    #[test]
    fn a_disk_smaller_than_a_pixel_still_reaches_its_neighbours() {
        let mut plane = Plane::filled(9, 9, 0.0);
        plane.values[4 * 9 + 4] = 1.0;
        let blurred = plane.disk(0.5);
        let (centre, beside, below) = (blurred.values[40], blurred.values[41], blurred.values[49]);
        // A point uniform on a disk of radius 1/2 lies 4r/3π from a line through its centre on average; half of that on one side.
        // Rows and columns are treated differently, so it comes out only roughly round.
        assert!((0.05..0.13).contains(&beside) && (0.05..0.13).contains(&below), "{beside} {below}");
        assert!(centre > 0.4 && centre < 0.8, "{centre}");
    }

    #[test]
    fn blurs_leave_an_even_plane_as_it_is_also_when_they_reach_beyond_it() {
        for (width, height) in [(1, 1), (1, 9), (7, 3), (40, 30)] {
            let plane = Plane::filled(width, height, 0.4);
            for blurred in [plane.disk(8.3), plane.disk(0.31), plane.gaussian(4.0)] {
                assert!(blurred.values.iter().all(|value| (value - 0.4).abs() < 1e-4), "{width}x{height}");
            }
        }
        assert!(Plane::filled(0, 0, 0.0).disk(3.0).values.is_empty());
    }

    #[test]
    fn a_cloud_is_smooth_and_spans_0_to_1() {
        let cloud = Plane::cloud(&mut Random::of_run(5), 160, 120, 3);
        let step = cloud.values.chunks_exact(160).flat_map(|row| row.windows(2)).map(|pair| (pair[0] - pair[1]).abs());
        assert!(step.fold(0.0, f32::max) < 0.1);
        assert!(cloud.values.contains(&0.0) && cloud.values.iter().any(|value| *value > 0.999));
    }
}
