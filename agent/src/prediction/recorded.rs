//! What a model said of recorded frames, by file name.

use std::collections::BTreeMap;

use super::Prediction;

#[derive(Clone, Debug)]
struct Entry {
    best: Prediction,
    /// Numbers of labels.
    labels: Vec<u32>,
}

/// Predictions of recorded frames; every label is stored once.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    labels: Vec<String>,
    numbers: BTreeMap<String, u32>,
    frames: BTreeMap<Vec<u8>, Entry>,
}

impl Recorded {
    /// Adds one prediction of a frame. Of several (detections) the most confident is the frame's, and every label counts.
    pub fn add(&mut self, frame: &[u8], prediction: Prediction, label: Option<&str>) {
        let number = label.map(|label| self.number(label));
        match self.frames.get_mut(frame) {
            Some(entry) => {
                if prediction.confidence > entry.best.confidence {
                    entry.best = prediction;
                }
                entry.labels.extend(number);
            }
            None => {
                let entry = Entry { best: prediction, labels: number.into_iter().collect() };
                self.frames.insert(frame.to_vec(), entry);
            }
        }
    }

    fn number(&mut self, label: &str) -> u32 {
        if let Some(&number) = self.numbers.get(label) {
            return number;
        }
        // A file that is read has far fewer lines.
        let number = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        self.labels.push(label.into());
        self.numbers.insert(label.into(), number);
        number
    }

    /// What was said of a frame: its most confident prediction and every label.
    #[must_use]
    pub fn get(&self, frame: &[u8]) -> Option<(&Prediction, impl Iterator<Item = &str>)> {
        let entry = self.frames.get(frame)?;
        let labels = entry.labels.iter().filter_map(|&number| self.labels.get(usize::try_from(number).ok()?));
        Some((&entry.best, labels.map(String::as_str)))
    }

    /// Frames with a prediction.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}
