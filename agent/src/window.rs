//! One camera's window: frames in, one summary out, in fixed memory.
//!
//! Windows are tumbling and in event time: `UnixMillis::window_start` is the only place that knows an edge. A camera has at most one
//! window open. It closes when a frame at or after its end arrives, or when its owner says so (the wall clock of a live source, the end
//! of a replay); what it spoke of is over then, and a frame from before is counted late in the window open at that moment.
//!
//! Must hold: every frame handed in is counted in exactly one field of one window's [`Quality`]; every sketch plus its absences equals
//! the frames measured; nothing allocates and nothing here reads a clock.
//!
//! Deliberately absent: windows without any frame. They are not reported; that a camera is silent shows at the centre by their absence.

use driftglass_protocol::feature::{COUNT, FeatureValues};
use driftglass_protocol::id::Name;
use driftglass_protocol::limit::HISTOGRAM_BYTES;
use driftglass_protocol::sketch::Histogram;
use driftglass_protocol::summary::{FeatureSketch, Model, Quality, Summary, Window};
use driftglass_protocol::unit::{Millis, UnixMillis};

/// A frame rate in thousandths of a hertz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrameRate(u32);

impl FrameRate {
    /// The rate of `millihertz`; `None` for zero.
    #[must_use]
    pub const fn from_millihertz(millihertz: u32) -> Option<Self> {
        if millihertz == 0 { None } else { Some(Self(millihertz)) }
    }

    /// Thousandths of a hertz.
    #[must_use]
    pub const fn millihertz(self) -> u32 {
        self.0
    }

    /// Time from one frame to the next, in microseconds.
    #[must_use]
    pub const fn period_micros(self) -> i64 {
        1_000_000_000 / self.0 as i64
    }

    /// Whole frames in `millis` milliseconds.
    #[must_use]
    pub fn frames_in(self, millis: u64) -> u32 {
        u32::try_from(u128::from(millis) * u128::from(self.0) / 1_000_000).unwrap_or(u32::MAX)
    }
}

/// Where a frame of a given time belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Beyond the open window, which has to be closed first.
    AfterOpen,
    /// Before everything that is still open.
    Late,
    /// In the open window, or in one that opens with it.
    Here,
}

/// Room for the encoded sketches of one summary; one is enough for any number of cameras.
#[derive(Debug)]
pub struct Scratch([u8; HISTOGRAM_BYTES * COUNT]);

impl Default for Scratch {
    fn default() -> Self {
        Self([0; HISTOGRAM_BYTES * COUNT])
    }
}

#[derive(Clone, Copy, Debug)]
struct Open {
    start: UnixMillis,
    /// From when on frames were to be expected: the start, unless watching began within the window.
    watched_from: UnixMillis,
    first: Option<UnixMillis>,
    last: Option<UnixMillis>,
    quality: Quality,
}

/// The window of one camera. About 32 KiB.
#[derive(Debug)]
pub struct CameraWindow {
    length: Millis,
    rate: Option<FrameRate>,
    closed_until: Option<UnixMillis>,
    open: Option<Open>,
    histograms: [Histogram; COUNT],
    absent: [u32; COUNT],
}

impl CameraWindow {
    /// A camera of which nothing was counted yet. `closed_until` is the end of the last window closed by an earlier start of the
    /// agent; `rate` is the rate at which frames are expected, where one is configured.
    #[must_use]
    pub fn new(length: Millis, rate: Option<FrameRate>, closed_until: Option<UnixMillis>) -> Self {
        Self {
            length,
            rate,
            closed_until,
            open: None,
            histograms: core::array::from_fn(|_| Histogram::new()),
            absent: [0; COUNT],
        }
    }

    /// Everything before this instant is closed; `None` before the first close.
    #[must_use]
    pub const fn closed_until(&self) -> Option<UnixMillis> {
        self.closed_until
    }

    /// The first instant after the open window.
    #[must_use]
    pub fn open_until(&self) -> Option<UnixMillis> {
        self.open.map(|open| open.start.plus(self.length))
    }

    /// Frames are expected at another rate from the next window on; to be called while none is open.
    pub const fn set_rate(&mut self, rate: Option<FrameRate>) {
        self.rate = rate;
    }

    /// Opens everything after `time` again, after the clock was set back: without this all frames would be late until it catches up.
    pub fn reopen_from(&mut self, time: UnixMillis) {
        let edge = time.window_start(self.length);
        self.closed_until = self.closed_until.map(|until| until.min(edge));
    }

    /// Where a frame of this time belongs.
    #[must_use]
    pub fn place(&self, time: UnixMillis) -> Place {
        match self.open {
            Some(open) if time >= open.start.plus(self.length) => Place::AfterOpen,
            Some(open) if time < open.start => Place::Late,
            None if self.closed_until.is_some_and(|until| time < until) => Place::Late,
            _ => Place::Here,
        }
    }

    /// Counts a measured frame. A frame from before the open window is counted late instead, one beyond it stretches nothing: call
    /// [`Self::place`] first and close what has to be closed.
    pub fn add(&mut self, values: &FeatureValues, time: UnixMillis) -> Place {
        let place = self.place(time);
        let open = self.opened(time);
        if place == Place::Late {
            open.quality.late = open.quality.late.saturating_add(1);
            return place;
        }
        open.quality.frames = open.quality.frames.saturating_add(1);
        open.first = Some(open.first.map_or(time, |first| first.min(time)));
        open.last = Some(open.last.map_or(time, |last| last.max(time)));
        for (index, (spec, value)) in values.iter().enumerate() {
            match value {
                Some(value) => self.histograms[index].add(spec.axis.bin(value)),
                None => self.absent[index] = self.absent[index].saturating_add(1),
            }
        }
        place
    }

    /// Counts a frame from before everything that is open.
    pub fn add_late(&mut self, time: UnixMillis) {
        let quality = &mut self.opened(time).quality;
        quality.late = quality.late.saturating_add(1);
    }

    /// Counts a file or payload that was not a readable picture.
    pub fn add_undecodable(&mut self, time: UnixMillis) {
        let quality = &mut self.opened(time).quality;
        quality.undecodable = quality.undecodable.saturating_add(1);
    }

    /// Counts frames left out by the sampling rate, or because they came faster than they could be measured.
    pub fn add_skipped(&mut self, time: UnixMillis, count: u32) {
        let quality = &mut self.opened(time).quality;
        quality.skipped = quality.skipped.saturating_add(count);
    }

    /// The window that is open, or the one that opens for `time`: never one before `closed_until`.
    fn opened(&mut self, time: UnixMillis) -> &mut Open {
        let (length, closed_until) = (self.length, self.closed_until);
        self.open.get_or_insert_with(|| {
            let time = closed_until.map_or(time, |until| time.max(until));
            let start = time.window_start(length);
            let watched_from = if closed_until == Some(start) { start } else { time };
            Open { start, watched_from, first: None, last: None, quality: Quality::default() }
        })
    }

    /// Closes the open window at its end. `None` where none is open.
    ///
    /// Frames missing: whole frames of the configured rate between the moment watching began and the end, minus those that came
    /// (measured or undecodable). Without a configured rate none is ever missing.
    pub fn close<'s>(&mut self, camera: &Name, model: Option<&Model>, scratch: &'s mut Scratch) -> Option<Summary<'s>> {
        let end = self.open_until()?;
        self.close_at(end, camera, model, scratch)
    }

    /// Closes the open window because no more frames will come at all: frames are expected up to the last one only.
    pub fn finish<'s>(
        &mut self,
        camera: &Name,
        model: Option<&Model>,
        scratch: &'s mut Scratch,
    ) -> Option<Summary<'s>> {
        let open = self.open?;
        self.close_at(open.last.unwrap_or(open.watched_from), camera, model, scratch)
    }

    fn close_at<'s>(
        &mut self,
        expected_until: UnixMillis,
        camera: &Name,
        model: Option<&Model>,
        scratch: &'s mut Scratch,
    ) -> Option<Summary<'s>> {
        let mut open = self.open.take()?;
        let expected = self.rate.map_or(0, |rate| rate.frames_in(expected_until.since(open.watched_from)));
        open.quality.missing = expected.saturating_sub(open.quality.frames.saturating_add(open.quality.undecodable));
        let window = Window { start: open.start, length: self.length, merged: 1 };
        self.closed_until = Some(window.end());

        let mut summary = Summary {
            camera: camera.clone(),
            model: model.cloned(),
            window,
            first_frame: open.first,
            last_frame: open.last,
            quality: open.quality,
            sketches: heapless::Vec::new(),
            predictions: None,
        };
        let (rooms, _) = scratch.0.as_chunks_mut::<HISTOGRAM_BYTES>();
        for (number, ((histogram, absent), room)) in (0_u8..).zip(self.histograms.iter().zip(self.absent).zip(rooms)) {
            // A feature that no frame had is left out: it reads the same and costs nothing.
            if absent < open.quality.frames {
                let length = histogram.encode(room);
                let sketch = FeatureSketch { feature: number, absent, histogram: &room[..length] };
                if summary.sketches.push(sketch).is_err() {
                    break;
                }
            }
        }
        for histogram in &mut self.histograms {
            histogram.clear();
        }
        self.absent = [0; COUNT];
        Some(summary)
    }
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::feature::Feature;
    use driftglass_protocol::unit::Fixed;
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Millis = Millis(60_000);

    fn camera() -> Name {
        Name::parse("entrance").expect("name")
    }

    fn luma(value: i32) -> FeatureValues {
        let mut values = FeatureValues::default();
        values.set(Feature::LumaMean, Fixed::from_int(value));
        values
    }

    fn window(millihertz: u32) -> CameraWindow {
        CameraWindow::new(MINUTE, FrameRate::from_millihertz(millihertz), None)
    }

    #[test]
    fn a_summary_counts_every_frame_once_and_passes_the_protocols_check() {
        let mut window = window(0);
        window.add(&luma(100), UnixMillis(60_010));
        window.add(&luma(101), UnixMillis(60_020));
        window.add(&FeatureValues::default(), UnixMillis(119_999));
        window.add_undecodable(UnixMillis(60_500));
        window.add_skipped(UnixMillis(60_600), 1);
        assert_eq!(window.add(&luma(7), UnixMillis(59_999)), Place::Late);
        assert_eq!(window.place(UnixMillis(120_000)), Place::AfterOpen);
        let mut scratch = Scratch::default();
        let summary = window.close(&camera(), None, &mut scratch).expect("open");
        assert_eq!(summary.check(), Ok(()));
        assert_eq!(summary.quality, Quality { frames: 3, missing: 0, undecodable: 1, skipped: 1, late: 1 });
        assert_eq!(summary.window, Window { start: UnixMillis(60_000), length: MINUTE, merged: 1 });
        assert_eq!((summary.first_frame, summary.last_frame), (Some(UnixMillis(60_010)), Some(UnixMillis(119_999))));
        assert_eq!(summary.sketches.len(), 1, "features that no frame had are left out");
        assert_eq!(summary.sketches[0].absent, 1);
        assert_eq!(window.close(&camera(), None, &mut Scratch::default()), None);
    }

    #[test]
    fn a_closed_window_never_opens_again() {
        let mut window = window(0);
        window.add(&luma(1), UnixMillis(60_000));
        assert!(window.close(&camera(), None, &mut Scratch::default()).is_some());
        assert_eq!(window.add(&luma(1), UnixMillis(60_001)), Place::Late);
        let mut scratch = Scratch::default();
        let summary = window.close(&camera(), None, &mut scratch).expect("the late frame opened the next");
        assert_eq!(summary.window.start, UnixMillis(120_000));
        assert_eq!((summary.quality.frames, summary.quality.late), (0, 1));
        assert_eq!(summary.check(), Ok(()));

        let resumed = CameraWindow::new(MINUTE, None, Some(UnixMillis(180_000)));
        assert_eq!(resumed.place(UnixMillis(179_999)), Place::Late);
        assert_eq!(resumed.place(UnixMillis(180_000)), Place::Here);
    }

    #[test]
    fn after_the_clock_was_set_back_frames_count_again() {
        let mut window = CameraWindow::new(MINUTE, None, Some(UnixMillis(900_000_000)));
        assert_eq!(window.place(UnixMillis(130_000)), Place::Late);
        window.reopen_from(UnixMillis(130_000));
        assert_eq!(window.place(UnixMillis(130_000)), Place::Here);
    }

    #[test]
    fn missing_frames_are_expected_from_when_watching_began() {
        let mut scratch = Scratch::default();
        let mut window = window(1_000);
        window.add(&luma(1), UnixMillis(90_000));
        assert_eq!(window.close(&camera(), None, &mut scratch).map(|s| s.quality.missing), Some(29));
        window.add(&luma(1), UnixMillis(130_000));
        window.add_undecodable(UnixMillis(131_000));
        assert_eq!(window.close(&camera(), None, &mut scratch).map(|s| s.quality.missing), Some(58));
        window.add(&luma(1), UnixMillis(180_000));
        window.add(&luma(1), UnixMillis(184_000));
        assert_eq!(window.finish(&camera(), None, &mut scratch).map(|s| s.quality.missing), Some(2));
    }

    proptest! {
        #[test]
        fn in_any_order_of_times_every_frame_is_counted_in_exactly_one_place(
            times in prop::collection::vec((-200_000_i64..200_000, 0_u8..3), 1..200),
        ) {
            let mut window = window(500);
            let mut scratch = Scratch::default();
            let (mut counted, mut last_start) = (0_u64, None);
            let mut sum = |summary: Summary<'_>| {
                assert_eq!(summary.check(), Ok(()));
                assert!(last_start.is_none_or(|start| summary.window.start > start), "windows only move forward");
                last_start = Some(summary.window.start);
                let q = summary.quality;
                counted += u64::from(q.frames) + u64::from(q.undecodable) + u64::from(q.skipped) + u64::from(q.late);
            };
            for &(time, what) in &times {
                let time = UnixMillis(time);
                if window.place(time) == Place::AfterOpen && let Some(summary) = window.close(&camera(), None, &mut scratch) {
                    sum(summary);
                }
                match what {
                    0 => { window.add(&luma(50), time); }
                    1 => window.add_undecodable(time),
                    _ => window.add_skipped(time, 1),
                }
            }
            if let Some(summary) = window.finish(&camera(), None, &mut scratch) {
                sum(summary);
            }
            prop_assert_eq!(counted, times.len() as u64);
        }
    }
}
