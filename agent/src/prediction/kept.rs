//! What detectors have learned as bytes, so that it outlives the process.
//!
//! Layout: version (1 byte), the model they watched and their states (postcard), CRC-32C over all that (4 bytes, little-endian).
//! Detectors of another model, and those that were not on then, begin anew; that is no error.
//!
//! Deliberately absent: what the open window has counted. Its frames are read again, or gone.

use crc::{CRC_32_ISCSI, Crc};
use driftglass_protocol::advisory::Stream;
use driftglass_protocol::summary::Model;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::watch::Saved;
use super::{Detectors, PredictionWindow};

const VERSION: u8 = 1;
const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Most bytes of an encoding.
pub const KEPT_BYTES: usize = 20 * 1024;

/// Why bytes are not what detectors have learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeptError {
    /// Too few bytes, or too many.
    #[error("{got} bytes, where 6 to {KEPT_BYTES} are expected")]
    Length {
        /// What is there.
        got: usize,
    },
    /// Not what was written.
    #[error("the checksum does not fit")]
    Checksum,
    /// Written by a version of this program that this one does not know.
    #[error("version {got}, expected {VERSION}")]
    Version {
        /// The version found.
        got: u8,
    },
    /// Whole, and yet nothing that was ever written.
    #[error("no state of detectors")]
    Content,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    model: Option<Model>,
    streams: [Saved; Stream::ALL.len()],
}

impl PredictionWindow {
    /// What the detectors have learned of a model; `None` where it does not fit, which it does by its sizes.
    #[must_use]
    pub fn to_bytes(&self, model: Option<&Model>) -> Option<Vec<u8>> {
        let kept = Kept { model: model.cloned(), streams: self.save() };
        let mut bytes = postcard::to_extend(&kept, vec![VERSION]).ok()?;
        bytes.extend(CHECKSUM.checksum(&bytes).to_le_bytes());
        (bytes.len() <= KEPT_BYTES).then_some(bytes)
    }

    /// Nothing was predicted yet, and the detectors go on where [`Self::to_bytes`] left them, if it was this model that they watched.
    ///
    /// # Errors
    /// One variant of [`KeptError`] per cause.
    pub fn from_bytes(bytes: &[u8], model: Option<&Model>, detectors: Detectors, seed: u64) -> Result<Self, KeptError> {
        let length = KeptError::Length { got: bytes.len() };
        if bytes.len() > KEPT_BYTES {
            return Err(length);
        }
        let (content, checksum) = bytes.split_last_chunk::<4>().ok_or(length)?;
        let (&version, state) = content.split_first().ok_or(length)?;
        if CHECKSUM.checksum(content) != u32::from_le_bytes(*checksum) {
            return Err(KeptError::Checksum);
        }
        if version != VERSION {
            return Err(KeptError::Version { got: version });
        }
        let kept: Kept = postcard::from_bytes(state).map_err(|_| KeptError::Content)?;
        let mut window = Self::new(detectors, seed);
        if kept.model.as_ref() == model && !window.resume(kept.streams) {
            return Err(KeptError::Content);
        }
        Ok(window)
    }
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::advisory::{Advisory, Detector};
    use driftglass_protocol::id::Name;
    use driftglass_protocol::limit::LABELS_BYTES;
    use driftglass_protocol::summary::Window;
    use driftglass_protocol::unit::{Millis, UnixMillis};
    use proptest::prelude::*;

    use super::*;
    use crate::prediction::{Prediction, fixed_share};

    fn all() -> Detectors {
        Detector::ALL.into_iter().fold(Detectors::none(), Detectors::with)
    }

    fn model(version: &str) -> Model {
        Model { name: Name::parse("m").expect("name"), version: Name::parse(version).expect("name") }
    }

    /// Feeds predictions `from..to` of a stream that changes at 3,000, and returns what is said of them.
    fn feed(window: &mut PredictionWindow, from: u32, to: u32) -> Vec<Advisory> {
        let mut told = Vec::new();
        let mut room = [0; LABELS_BYTES];
        for at in from..to {
            // As good as independent, and the same however the range is cut.
            let luck = f64::from(at.wrapping_mul(2_654_435_761) >> 8) / f64::from(1_u32 << 24);
            let (level, errors) = if at < 3000 { (0.8, 0.05) } else { (0.5, 0.5) };
            let prediction = Prediction {
                confidence: fixed_share(level + 0.2 * luck),
                wrong: Some(luck < errors),
                ..Prediction::default()
            };
            window.add(&prediction, [], UnixMillis(i64::from(at)));
            if at % 64 == 63 {
                let span = Window { start: UnixMillis(i64::from(at - 63)), length: Millis(64), merged: 1 };
                told.extend(window.close(span, &mut room).expect("predicted").advisories);
            }
        }
        told
    }

    #[test]
    fn detectors_that_were_kept_say_what_they_would_have_said() {
        let (mut alone, mut first) = (PredictionWindow::new(all(), 7), PredictionWindow::new(all(), 7));
        let expected = feed(&mut alone, 0, 4096);
        let mut told = feed(&mut first, 0, 2944);
        let bytes = first.to_bytes(Some(&model("1"))).expect("fits");
        assert!(bytes.len() < KEPT_BYTES / 2, "{} bytes", bytes.len());
        let mut second = PredictionWindow::from_bytes(&bytes, Some(&model("1")), all(), 7).expect("read");
        told.extend(feed(&mut second, 2944, 4096));
        assert_eq!(told, expected);
        let drifted = |told: &[Advisory]| told.iter().filter(|advisory| advisory.at >= UnixMillis(3000)).count();
        assert!(drifted(&expected) >= 3, "{expected:?}");
        // Without what they had learned, most have nothing to compare with.
        let fresh = feed(&mut PredictionWindow::new(all(), 7), 2944, 4096);
        assert_ne!(fresh.len(), drifted(&expected));
    }

    #[test]
    fn another_model_and_other_detectors_begin_anew_and_that_is_no_error() {
        let mut window = PredictionWindow::new(all(), 7);
        feed(&mut window, 0, 2944);
        let bytes = window.to_bytes(Some(&model("1"))).expect("fits");
        let other = PredictionWindow::from_bytes(&bytes, Some(&model("2")), all(), 7).expect("read");
        assert_eq!(other.to_bytes(None), PredictionWindow::new(all(), 7).to_bytes(None));
        let one = Detectors::none().with(Detector::Adwin);
        let fewer = PredictionWindow::from_bytes(&bytes, Some(&model("1")), one, 7).expect("read");
        assert!(fewer.to_bytes(None).expect("fits").len() < bytes.len());
    }

    #[test]
    fn what_is_no_state_has_its_cause() {
        let read = |bytes: &[u8]| PredictionWindow::from_bytes(bytes, None, all(), 7).map(|_| ());
        let sealed = |mut bytes: Vec<u8>| {
            bytes.extend(CHECKSUM.checksum(&bytes).to_le_bytes());
            bytes
        };
        let mut bytes = PredictionWindow::new(all(), 7).to_bytes(None).expect("fits");
        assert_eq!(read(&bytes), Ok(()));
        assert_eq!(read(&bytes[..3]), Err(KeptError::Length { got: 3 }));
        assert_eq!(read(&vec![0; KEPT_BYTES + 1]), Err(KeptError::Length { got: KEPT_BYTES + 1 }));
        assert_eq!(read(&sealed(vec![9, 9])), Err(KeptError::Version { got: 9 }));
        assert_eq!(read(&sealed(vec![VERSION, 9])), Err(KeptError::Content));
        bytes[5] ^= 1;
        assert_eq!(read(&bytes), Err(KeptError::Checksum));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
        #[test]
        fn no_bytes_make_detectors_panic_or_spin(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        ) {
            let mut window = PredictionWindow::new(all(), 7);
            feed(&mut window, 0, 200);
            let mut bytes = window.to_bytes(None).expect("fits");
            bytes.truncate(bytes.len() - 4);
            for (index, value) in flips {
                let at = index.index(bytes.len() - 1) + 1;
                bytes[at] = value;
            }
            bytes.extend(CHECKSUM.checksum(&bytes).to_le_bytes());
            if let Ok(mut window) = PredictionWindow::from_bytes(&bytes, None, all(), 7) {
                feed(&mut window, 0, 200);
            }
        }
    }
}
