//! The predictions of one camera's window: labels, errors, and what the detectors advise.
//!
//! Counts belong to a window and begin anew with the next; the detectors run on, also over a restart of the agent (`kept`).

use driftglass_protocol::advisory::{Advisory, Stream};
use driftglass_protocol::limit::{ADVISORIES, LABELS_BYTES};
use driftglass_protocol::prediction::Predictions;
use driftglass_protocol::sketch::LabelCounts;
use driftglass_protocol::unit::UnixMillis;

use super::Prediction;
use super::watch::{Detectors, Saved, StreamWatch};

/// About 23 KiB; a camera without a model needs none.
#[derive(Clone, Debug)]
pub struct PredictionWindow {
    frames: u32,
    judged: u32,
    wrong: u32,
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

    /// Ends the window: what is to be said of it, `None` where nothing was predicted. The labels are encoded into `room`.
    pub fn close<'s>(&mut self, room: &'s mut [u8; LABELS_BYTES]) -> Option<Predictions<'s>> {
        let predictions = (self.frames > 0).then(|| {
            let length = self.labels.encode(room);
            Predictions {
                frames: self.frames,
                judged: self.judged,
                wrong: self.wrong,
                labels: &room[..length],
                advisories: self.advisories.clone(),
                further_advisories: self.further,
            }
        });
        (self.frames, self.judged, self.wrong, self.further) = (0, 0, 0, 0);
        self.labels.clear();
        self.advisories.clear();
        predictions
    }
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::sketch::EncodedLabels;
    use driftglass_protocol::summary::Window;
    use driftglass_protocol::unit::Millis;

    use super::*;
    use crate::prediction::fixed_share;

    const WINDOW: Window = Window { start: UnixMillis(0), length: Millis(60_000), merged: 1 };

    #[test]
    fn a_window_counts_labels_and_errors_and_the_next_begins_anew() {
        let mut window = PredictionWindow::new(Detectors::default(), 1);
        let mut room = [0; LABELS_BYTES];
        assert_eq!(window.close(&mut room), None);
        let of = |wrong| Prediction { confidence: fixed_share(0.9), wrong, ..Prediction::default() };
        window.add(&of(Some(true)), ["person", "car"], UnixMillis(0));
        window.add(&of(Some(false)), ["person"], UnixMillis(1));
        window.add(&of(None), [], UnixMillis(2));
        let said = window.close(&mut room).expect("predicted");
        assert_eq!(said.check(WINDOW, 3), Ok(()));
        assert_eq!((said.frames, said.judged, said.wrong), (3, 2, 1));
        let labels = EncodedLabels::parse(said.labels).expect("labels");
        assert!(labels.names().eq([("car", 1), ("person", 2)]));
        window.add(&of(None), ["dog"], UnixMillis(60_000));
        let said = window.close(&mut room).expect("predicted");
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
        let said = window.close(&mut room).expect("predicted");
        assert_eq!(said.check(WINDOW, 40_000), Ok(()));
        assert!(said.advisories.is_full() && said.further_advisories > 0, "{said:?}");
    }
}
