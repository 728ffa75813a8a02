//! What has changed for longer than it takes to pass by: dirt on the lens, a parked lorry, a new wall.
//!
//! Dirt changes a frame less than a passer-by does, but it stays. So the codes of the grid's cells (see `registration`) are
//! averaged over about the last [`MEMORY`] frames; a cell whose average says something else than the reference has changed
//! lastingly. Nothing is averaged of brightness, which clouds change for as long as dirt does.
//!
//! Deliberately absent: keeping the averages over a restart. They are gathered anew in [`LEAST_FRAMES`] frames.

use driftglass_protocol::unit::Fixed;

use super::cells::FINE;
use super::luma::ratio;
use super::registration::Codes;

/// Frames after which 63 % of what a frame said is forgotten.
const MEMORY: i16 = 16;
/// With fewer frames than this nothing is said: they could all show the same passer-by.
const LEAST_FRAMES: i16 = 8;
/// A cell that always was brighter than its neighbourhood; always darker is the negative.
const ALWAYS: i16 = 1 << 12;

/// The average code of every cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lasting {
    /// Frames in the averages, up to [`MEMORY`].
    frames: i16,
    averages: [[i16; FINE.0]; FINE.1],
}

impl Lasting {
    pub(super) const fn new() -> Self {
        Self { frames: 0, averages: [[0; FINE.0]; FINE.1] }
    }

    /// Takes in a frame, and says which share of the cells lastingly shows something else than the reference.
    pub(super) fn observe(&mut self, frame: &Codes, reference: &Codes) -> Option<Fixed> {
        self.frames = (self.frames + 1).min(MEMORY);
        let mut changed = 0;
        for ((averages, frame), reference) in self.averages.iter_mut().zip(frame).zip(reference) {
            let (mut brighter, mut darker) = (0_u64, 0_u64);
            for (x, average) in averages.iter_mut().enumerate() {
                let now = ALWAYS * (i16::from(frame.brighter >> x & 1 == 1) - i16::from(frame.darker >> x & 1 == 1));
                // A plain mean at first, then one that forgets.
                *average += (now - *average) / self.frames;
                brighter |= u64::from(*average > ALWAYS / 2) << x;
                darker |= u64::from(*average < -ALWAYS / 2) << x;
            }
            changed += ((brighter ^ reference.brighter) | (darker ^ reference.darker)).count_ones();
        }
        (self.frames >= LEAST_FRAMES).then(|| ratio(u64::from(changed), (FINE.0 * FINE.1) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::super::registration::CodeRow;
    use super::*;

    const NOTHING: Codes = [CodeRow { brighter: 0, darker: 0 }; FINE.1];
    const STRIPES: Codes = [CodeRow { brighter: 0x00ff_00ff_00ff_00ff, darker: 0xff00_ff00_ff00_ff00 }; FINE.1];

    #[test]
    fn what_is_as_it_was_has_not_changed_however_long_it_lasts_and_the_first_frames_say_nothing() {
        let mut lasting = Lasting::new();
        for frame in 1..1000 {
            let expected = (frame >= LEAST_FRAMES).then_some(Fixed::ZERO);
            assert_eq!(lasting.observe(&STRIPES, &STRIPES), expected, "{frame}");
        }
    }

    #[test]
    fn what_passes_by_does_not_count_and_what_stays_counts_after_11_frames() {
        let mut lasting = Lasting::new();
        for frame in 0..1000 {
            let passing = if frame % 4 == 3 { STRIPES } else { NOTHING };
            assert!(lasting.observe(&passing, &NOTHING).is_none_or(|changed| changed == Fixed::ZERO));
        }
        for _ in 0..1000 {
            lasting.observe(&NOTHING, &NOTHING);
        }
        let frames = (1..1000).find(|_| lasting.observe(&STRIPES, &NOTHING) == Some(Fixed::ONE));
        // (15/16)^n falls below a half.
        assert_eq!(frames, Some(11));
    }
}
