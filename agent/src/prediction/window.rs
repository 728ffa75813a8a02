//! The predictions of one camera's window: labels, errors, and what the detectors advise.
//!
//! Counts belong to a window and begin anew with the next; the detectors run on, also over a restart of the agent (`kept`).
//!
//! The truth may come later than its frame. It counts in the window in which it comes; a window cannot speak of more truths than
//! frames, so what is too much for one is kept for the next, with its share of errors.

use driftglass_protocol::advisory::{Advisory, Stream};
use driftglass_protocol::limit::{ADVISORIES, LABELS_BYTES};
use driftglass_protocol::prediction::Predictions;
use driftglass_protocol::sketch::LabelCounts;
use driftglass_protocol::summary::Window;
use driftglass_protocol::unit::UnixMillis;

use super::Prediction;
use super::watch::{Detectors, Saved, StreamWatch};

/// About 23 KiB; a camera without a model needs none.
#[derive(Clone, Debug)]
pub struct PredictionWindow {
    frames: u32,
    judged: u32,
    wrong: u32,
    /// Truths that came later than their frames and have not been told, and errors of these.
    late: u32,
    late_wrong: u32,
    labels: LabelCounts,
    advisories: heapless::Vec<Advisory, ADVISORIES>,
    further: u32,
    streams: [StreamWatch; Stream::ALL.len()],
}

impl PredictionWindow {
    /// Nothing was predicted yet. `seed` is for what detectors draw.
    #[must_use]
    pub fn new(detectors: Detectors, seed: u64) -> Self {
        Self {
            frames: 0,
            judged: 0,
            wrong: 0,
            late: 0,
            late_wrong: 0,
            labels: LabelCounts::new(),
            advisories: heapless::Vec::new(),
            further: 0,
            streams: Stream::ALL.map(|stream| StreamWatch::new(stream, detectors, seed)),
        }
    }

    /// The detectors, for a later process.
    #[must_use]
    pub fn save(&self) -> [Saved; Stream::ALL.len()] {
        self.streams.each_ref().map(StreamWatch::save)
    }

    /// Detectors go on where they were; false where that is no state that they can have come to, and they begin anew.
    pub fn resume(&mut self, saved: [Saved; Stream::ALL.len()]) -> bool {
        let fresh = self.streams.clone();
        let sound = self.streams.iter_mut().zip(saved).all(|(stream, saved)| stream.resume(saved));
        if !sound {
            self.streams = fresh;
        }
        sound
    }

    /// Counts what a model said of a frame that counts in the open window.
    pub fn add<'l>(&mut self, prediction: &Prediction, labels: impl IntoIterator<Item = &'l str>, at: UnixMillis) {
        self.frames = self.frames.saturating_add(1);
        labels.into_iter().for_each(|label| self.labels.add(label));
        if let Some(wrong) = prediction.wrong {
            self.judged = self.judged.saturating_add(1);
            self.wrong = self.wrong.saturating_add(u32::from(wrong));
        }
        let values = [
            prediction.wrong.map(|wrong| f64::from(u8::from(wrong))),
            Some(prediction.confidence.to_f64()),
            Some(prediction.entropy().to_f64()),
        ];
        self.observe(values, at);
    }

    /// Counts the truth of an earlier frame.
    pub fn judge(&mut self, wrong: bool, at: UnixMillis) {
        self.late = self.late.saturating_add(1);
        self.late_wrong = self.late_wrong.saturating_add(u32::from(wrong));
        self.observe([Some(f64::from(u8::from(wrong))), None, None], at);
    }

    fn observe(&mut self, values: [Option<f64>; Stream::ALL.len()], at: UnixMillis) {
        let (advisories, further) = (&mut self.advisories, &mut self.further);
        for (stream, value) in self.streams.iter_mut().zip(values) {
            let Some(value) = value else { continue };
            stream.observe(value, at, |advisory| {
                if advisories.push(advisory).is_err() {
                    *further = further.saturating_add(1);
                }
            });
        }
    }

    /// Ends the window: what is to be said of it, `None` where nothing was predicted; what came late waits for the next one then. The
    /// labels are encoded into `room`.
    pub fn close<'s>(&mut self, window: Window, room: &'s mut [u8; LABELS_BYTES]) -> Option<Predictions<'s>> {
        if self.frames == 0 {
            return None;
        }
        let (late, late_wrong) = self.take_late();
        let length = self.labels.encode(room);
        let mut advisories = core::mem::take(&mut self.advisories);
        // The truth may have come before the first frame of the window.
        let last = UnixMillis(window.end().0.saturating_sub(1));
        advisories.iter_mut().for_each(|advisory| advisory.at = advisory.at.max(window.start).min(last));
        let predictions = Predictions {
            frames: self.frames,
            judged: self.judged.saturating_add(late),
            wrong: self.wrong.saturating_add(late_wrong),
            labels: &room[..length],
            advisories,
            further_advisories: self.further,
        };
        (self.frames, self.judged, self.wrong, self.further) = (0, 0, 0, 0);
        self.labels.clear();
        Some(predictions)
    }

    /// As many late truths as the window may tell, with the errors among them in proportion.
    fn take_late(&mut self) -> (u32, u32) {
        let taken = self.late.min(self.frames.saturating_sub(self.judged));
        if taken == 0 {
            return (0, 0);
        }
        let (all, part, wrong) = (u64::from(self.late), u64::from(taken), u64::from(self.late_wrong));
        let wrong = u32::try_from((wrong * part + all / 2) / all).unwrap_or(taken).min(taken);
        self.late -= taken;
        self.late_wrong = self.late_wrong.saturating_sub(wrong);
        (taken, wrong)
    }
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::sketch::EncodedLabels;
    use driftglass_protocol::unit::Millis;

    use super::*;
    use crate::prediction::fixed_share;

    const WINDOW: Window = Window { start: UnixMillis(0), length: Millis(60_000), merged: 1 };
    const NEXT: Window = Window { start: UnixMillis(60_000), ..WINDOW };

    #[test]
    fn the_truth_that_comes_late_is_told_as_soon_as_there_are_frames_for_it() {
        use driftglass_protocol::advisory::Detector;
        let mut window = PredictionWindow::new(Detectors::none().with(Detector::HddmA), 1);
        let mut room = [0; LABELS_BYTES];
        let frame = Prediction { confidence: fixed_share(0.9), ..Prediction::default() };
        for number in 0..2000_i64 {
            window.judge(number >= 1000, UnixMillis(number));
        }
        assert_eq!(window.close(WINDOW, &mut room), None, "no frame, no word");
        let (mut judged, mut wrong) = (0, 0);
        for start in (1..=4).map(|number| UnixMillis(60_000 * number)) {
            let at = Window { start, ..WINDOW };
            (0..999).for_each(|_| window.add(&frame, [], start));
            let said = window.close(at, &mut room).expect("predicted");
            assert_eq!(said.check(at, 999), Ok(()));
            assert_eq!(
                said.advisories.is_empty(),
                judged > 0,
                "the jump to errors only is told once, within the window"
            );
            judged += said.judged;
            wrong += said.wrong;
        }
        assert_eq!((judged, wrong), (2000, 1000));
    }

    #[test]
    fn a_window_counts_labels_and_errors_and_the_next_begins_anew() {
        let mut window = PredictionWindow::new(Detectors::default(), 1);
        let mut room = [0; LABELS_BYTES];
        assert_eq!(window.close(WINDOW, &mut room), None);
        let of = |wrong| Prediction { confidence: fixed_share(0.9), wrong, ..Prediction::default() };
        window.add(&of(Some(true)), ["person", "car"], UnixMillis(0));
        window.add(&of(Some(false)), ["person"], UnixMillis(1));
        window.add(&of(None), [], UnixMillis(2));
        let said = window.close(WINDOW, &mut room).expect("predicted");
        assert_eq!(said.check(WINDOW, 3), Ok(()));
        assert_eq!((said.frames, said.judged, said.wrong), (3, 2, 1));
        let labels = EncodedLabels::parse(said.labels).expect("labels");
        assert!(labels.names().eq([("car", 1), ("person", 2)]));
        window.add(&of(None), ["dog"], UnixMillis(60_000));
        let said = window.close(NEXT, &mut room).expect("predicted");
        assert!(EncodedLabels::parse(said.labels).expect("labels").names().eq([("dog", 1)]));
    }

    #[test]
    fn its_memory_is_fixed_and_small() {
        assert!(size_of::<PredictionWindow>() <= 24 * 1024, "{}", size_of::<PredictionWindow>());
        assert!(size_of::<StreamWatch>() <= 5 * 1024, "{}", size_of::<StreamWatch>());
        assert!(size_of::<LabelCounts>() <= 10 * 1024, "{}", size_of::<LabelCounts>());
    }

    #[test]
    fn more_advice_than_fits_is_counted() {
        let detectors = Detectors::none().with(driftglass_protocol::advisory::Detector::Adwin);
        let mut window = PredictionWindow::new(detectors, 1);
        // A level that jumps now and then is one drift after the other.
        for at in 0..40_000_u32 {
            let level = if at / 1500 % 2 == 0 { 0.2 } else { 0.9 };
            let prediction = Prediction { confidence: fixed_share(level), ..Prediction::default() };
            window.add(&prediction, [], UnixMillis(i64::from(at)));
        }
        let mut room = [0; LABELS_BYTES];
        let said = window.close(WINDOW, &mut room).expect("predicted");
        assert_eq!(said.check(WINDOW, 40_000), Ok(()));
        assert!(said.advisories.is_full() && said.further_advisories > 0, "{said:?}");
    }
}
