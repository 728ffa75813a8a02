//! Which part of a picture a camera shows.
//!
//! A camera that is pushed aside sees what lay beside its view. Only a picture larger than the view holds that, so a camera
//! that may move shows a window of it from the start, and the window moves.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "levels and places are clamped before each cast"
)]

use image::RgbImage;

use super::kind::Severity;
use super::light;
use super::random::Random;

/// A part of a picture, in shares of its width and height, counted from the upper left corner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    left: f32,
    top: f32,
    width: f32,
    height: f32,
}

impl Window {
    /// The middle 70 % of the width and of the height.
    pub const CENTRE: Self = Self { left: 0.15, top: 0.15, width: 0.7, height: 0.7 };
    /// All of the picture; there is no room to move in.
    pub const WHOLE: Self = Self { left: 0.0, top: 0.0, width: 1.0, height: 1.0 };

    /// A window; `None` if it is empty or reaches beyond the picture.
    #[must_use]
    pub fn new(left: f32, top: f32, width: f32, height: f32) -> Option<Self> {
        let fits = |from: f32, length: f32| from >= 0.0 && length > 0.0 && from + length <= 1.0 + 1e-6;
        (fits(left, width) && fits(top, height)).then_some(Self { left, top, width, height })
    }

    /// The window after the camera was pushed aside: by up to 21 % of its own width and 12 % of its height, left or right
    /// and up or down as the seed has it. Where the picture has no room on that side it goes to the other, and never
    /// beyond the picture.
    #[must_use]
    pub fn moved(self, severity: Severity, seed: u64) -> Self {
        let random = &mut Random::of_run(seed);
        let share = severity.pick([0.0, 0.01, 0.03, 0.06, 0.10, 0.145]) / Self::CENTRE.width;
        let left = push(self.left, self.width, share * self.width, random.sign());
        let top = push(self.top, self.height, 0.6 * share * self.height, random.sign());
        Self { left, top, ..self }
    }
}

/// Where a stretch begins after a push by `distance`, kept within 0..=1.
fn push(from: f32, length: f32, distance: f32, sign: f32) -> f32 {
    let room_after = (1.0 - from - length).max(0.0);
    let (wanted, other) = if sign > 0.0 { (room_after, from) } else { (from, room_after) };
    // Float error must not send a push that just fits to the other side.
    let sign = if wanted + 1e-4 >= distance || wanted >= other { sign } else { -sign };
    (from + sign * distance).clamp(0.0, (1.0 - length).max(0.0))
}

/// What one camera shows of a scene.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The part of the scene.
    pub window: Window,
    /// Whether left and right change places.
    pub mirrored: bool,
    /// Factor on the light, 1 changing nothing.
    pub exposure: f32,
}

impl View {
    /// A part of the scene as it is.
    #[must_use]
    pub const fn plain(window: Window) -> Self {
        Self { window, mirrored: false, exposure: 1.0 }
    }

    /// The picture of this view, `width` by `height` pixels: averaged where the scene has more pixels, drawn along straight
    /// lines where it has fewer. An empty scene gives a black picture.
    #[must_use]
    pub fn show(&self, scene: &RgbImage, width: u32, height: u32) -> RgbImage {
        let unchanged = *self == Self::plain(Window::WHOLE) && scene.dimensions() == (width, height);
        if unchanged {
            return scene.clone();
        }
        let mut picture = RgbImage::new(width, height);
        if scene.width() == 0 || scene.height() == 0 || width == 0 || height == 0 {
            return picture;
        }
        let columns = taps(self.window.left, self.window.width, scene.width() as usize, width as usize);
        let rows = taps(self.window.top, self.window.height, scene.height() as usize, height as usize);
        let levels: [u8; 256] =
            std::array::from_fn(|level| light::to_level(light::of_level(level as u8) * self.exposure));
        let levels =
            if (self.exposure - 1.0).abs() < f32::EPSILON { std::array::from_fn(|level| level as u8) } else { levels };
        let stride = scene.width() as usize * 3;
        let mut blended = vec![0.0_f32; stride];
        for (row, target) in rows.iter().zip(picture.chunks_exact_mut(width as usize * 3)) {
            blended.fill(0.0);
            for (place, weight) in row.weights.iter().enumerate() {
                let source = &scene.as_raw()[(row.first + place) * stride..][..stride];
                for (value, level) in blended.iter_mut().zip(source) {
                    *value += f32::from(*level) * weight;
                }
            }
            for (x, column) in columns.iter().enumerate() {
                let mut sums = [0.0_f32; 3];
                for (weight, pixel) in column.weights.iter().zip(blended[column.first * 3..].chunks_exact(3)) {
                    for (sum, value) in sums.iter_mut().zip(pixel) {
                        *sum += value * weight;
                    }
                }
                let x = if self.mirrored { width as usize - 1 - x } else { x };
                let pixel = sums.map(|sum| levels[usize::from((sum + 0.5).clamp(0.0, 255.0) as u8)]);
                target[x * 3..x * 3 + 3].copy_from_slice(&pixel);
            }
        }
        picture
    }
}

/// The middle 70 % of the picture ([`Window::CENTRE`]) at the size of the picture, seen by a camera that turned by `degrees`
/// (the picture then turns counter-clockwise for positive ones) and magnifies `zoom` times. Neither invents pixels up to 10 degrees.
pub(super) fn turned(picture: &RgbImage, degrees: f32, zoom: f32) -> RgbImage {
    let (width, height) = picture.dimensions();
    let (sin, cos) = degrees.to_radians().sin_cos();
    let scale = Window::CENTRE.width / zoom;
    let middle = |length: u32| (length as f32 - 1.0) / 2.0;
    RgbImage::from_fn(width, height, |x, y| {
        let (across, down) = ((x as f32 - middle(width)) * scale, (y as f32 - middle(height)) * scale);
        let place = |at: f32, length: u32| (at + middle(length)).clamp(0.0, length as f32 - 1.0);
        let (x, y) = (place(across * cos - down * sin, width), place(across * sin + down * cos, height));
        let (left, top) = (x as u32, y as u32);
        let (right, below) = ((left + 1).min(width - 1), (top + 1).min(height - 1));
        let (beside, under) = (x - left as f32, y - top as f32);
        image::Rgb(std::array::from_fn(|channel| {
            let level = |x: u32, y: u32| f32::from(picture.get_pixel(x, y).0[channel]);
            let upper = level(left, top) * (1.0 - beside) + level(right, top) * beside;
            let lower = level(left, below) * (1.0 - beside) + level(right, below) * beside;
            (upper * (1.0 - under) + lower * under + 0.5) as u8
        }))
    })
}

/// The pixels of the scene that make up one pixel of the view along one axis.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

fn taps(from: f32, length: f32, scene: usize, view: usize) -> Vec<Taps> {
    let step = length * scene as f32 / view as f32;
    let reach = step.max(1.0);
    let last = scene - 1;
    (0..view)
        .map(|place| {
            let centre = from * scene as f32 + (place as f32 + 0.5) * step - 0.5;
            let first = (centre - reach).ceil().clamp(0.0, last as f32) as usize;
            let end = (centre + reach).floor().clamp(first as f32, last as f32) as usize;
            let mut weights: Vec<f32> =
                (first..=end).map(|pixel| (1.0 - (pixel as f32 - centre).abs() / reach).max(0.0)).collect();
            let total: f32 = weights.iter().sum();
            if total > 1e-6 {
                weights.iter_mut().for_each(|weight| *weight /= total);
            } else {
                weights.fill(1.0 / (end - first + 1) as f32);
            }
            Taps { first, weights }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn ramp(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 2) as u8, (y * 2) as u8, 90]))
    }

    #[test]
    fn a_window_of_whole_pixels_is_copied() {
        let scene = ramp(100, 80);
        let shown = View::plain(Window::new(0.2, 0.25, 0.5, 0.5).unwrap()).show(&scene, 50, 40);
        for (x, y, pixel) in shown.enumerate_pixels() {
            assert_eq!(pixel, scene.get_pixel(x + 20, y + 20), "{x},{y}");
        }
    }

    #[test]
    fn a_smaller_view_keeps_mean_and_direction_and_a_mirrored_one_turns_it() {
        let scene = ramp(100, 80);
        let view = View::plain(Window::WHOLE);
        let shown = view.show(&scene, 25, 20);
        assert!(shown.get_pixel(3, 10)[0] < shown.get_pixel(20, 10)[0]);
        assert!(shown.get_pixel(12, 10)[0].abs_diff(99) <= 2);
        let mirrored = View { mirrored: true, ..view }.show(&scene, 25, 20);
        for (x, y, pixel) in shown.enumerate_pixels() {
            assert_eq!(pixel, mirrored.get_pixel(24 - x, y));
        }
    }

    #[test]
    fn exposure_brightens_by_light_not_by_level() {
        let grey = RgbImage::from_pixel(4, 4, Rgb([100; 3]));
        let shown = View { exposure: 2.0, ..View::plain(Window::WHOLE) }.show(&grey, 4, 4);
        // 100·2^(1/2.2)
        assert_eq!(shown.get_pixel(1, 1), &Rgb([137; 3]));
    }

    #[test]
    fn windows_beyond_the_picture_are_refused() {
        assert!(Window::new(0.4, 0.0, 0.6, 1.0).is_some());
        for (left, top, width, height) in
            [(0.5, 0.0, 0.6, 1.0), (-0.1, 0.0, 0.5, 0.5), (0.0, 0.0, 0.0, 1.0), (f32::NAN, 0.0, 0.5, 0.5)]
        {
            assert_eq!(Window::new(left, top, width, height), None);
        }
    }

    #[test]
    fn a_moved_window_stays_inside_and_moves_by_its_full_distance_where_there_is_room() {
        for seed in 0..64 {
            for corner in [(0.0, 0.0), (0.35, 0.0), (0.0, 0.35), (0.35, 0.35), (0.17, 0.2)] {
                let window = Window::new(corner.0, corner.1, 0.65, 0.65).unwrap();
                let moved = window.moved(Severity::FULL, seed);
                assert!(Window::new(moved.left, moved.top, moved.width, moved.height).is_some(), "{moved:?}");
                assert!(((moved.left - window.left).abs() - 0.145 * 0.65 / 0.7).abs() < 1e-3, "{moved:?}");
                assert!(((moved.top - window.top).abs() - 0.6 * 0.145 * 0.65 / 0.7).abs() < 1e-3, "{moved:?}");
            }
        }
        assert_eq!(Window::CENTRE.moved(Severity::NONE, 3), Window::CENTRE);
        assert_eq!(Window::WHOLE.moved(Severity::FULL, 3), Window::WHOLE);
    }

    #[test]
    fn scenes_of_any_size_are_shown() {
        for (width, height) in [(0, 0), (1, 1), (2, 500), (500, 1)] {
            let shown = View::plain(Window::CENTRE).show(&RgbImage::new(width, height), 64, 48);
            assert_eq!(shown.dimensions(), (64, 48));
        }
    }
}
