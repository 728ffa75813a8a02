//! One stream of a model and the detectors that watch it.
//!
//! Must hold: detectors see values that were thinned to near independence; a run of warnings is told once, at its beginning.

use driftglass_protocol::advisory::{Advisory, Detector, Level, Stream};
use driftglass_protocol::unit::UnixMillis;
use serde::{Deserialize, Serialize};

use super::thinning::Thinning;
use crate::detector::{
    Adwin, AdwinSettings, Ddm, DdmSettings, Draw, Eddm, EddmSettings, Hddm, HddmSettings, Kswin, KswinSettings,
    PageHinkley, PageHinkleySettings, State,
};

/// Room of the KSWIN window.
const KSWIN_ROOM: usize = 128;
/// Sum of deviations that is a drift to Page-Hinkley: its usual 50 standard deviations at the 0.2 by which shares of 0..=1 scatter.
const PAGE_HINKLEY_THRESHOLD: f64 = 10.0;

/// Which detectors are on. The default is ADWIN and `HDDM_A`, which have the fewest false alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detectors(u8);

impl Default for Detectors {
    fn default() -> Self {
        Self::none().with(Detector::Adwin).with(Detector::HddmA)
    }
}

impl Detectors {
    /// No detector.
    #[must_use]
    pub const fn none() -> Self {
        Self(0)
    }

    /// These and one more.
    #[must_use]
    pub const fn with(self, detector: Detector) -> Self {
        Self(self.0 | 1 << detector.number())
    }

    /// Whether a detector is on.
    #[must_use]
    pub const fn has(self, detector: Detector) -> bool {
        self.0 & 1 << detector.number() != 0
    }
}

/// Positions from a generator of its own, which a restart takes back to its seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Seeded {
    seed: u64,
    state: u64,
}

impl Draw for Seeded {
    fn restart(&mut self) {
        self.state = self.seed;
    }

    /// Selection sampling (Knuth, TAOCP 2, §3.4.2, algorithm S) on `SplitMix64`.
    fn draw(&mut self, population: usize, positions: &mut [usize]) {
        let mut candidates = (0..population).rev().zip((1..=population).rev());
        let mut wanted = positions.len();
        while wanted > 0 {
            let Some((position, left)) = candidates.next() else { return };
            if self.below(left) < wanted {
                wanted -= 1;
                positions[wanted] = position;
            }
        }
    }
}

impl Seeded {
    #[expect(clippy::cast_possible_truncation, reason = "the result is below count")]
    const fn below(&mut self, count: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        ((bits as u128 * count as u128) >> 64) as usize
    }
}

/// The detectors of one stream, thinned. About 4.5 KiB.
#[derive(Clone, Debug)]
pub struct StreamWatch {
    stream: Stream,
    thinning: Thinning,
    ddm: Option<Ddm>,
    eddm: Option<Eddm>,
    hddm: Option<Hddm>,
    adwin: Option<Adwin>,
    page_hinkley: Option<PageHinkley>,
    kswin: Option<(Kswin<KSWIN_ROOM>, Seeded)>,
    said: [State; Detector::ALL.len()],
}

/// What outlives the process of a [`StreamWatch`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    thinning: Thinning,
    ddm: Option<Ddm>,
    eddm: Option<Eddm>,
    hddm: Option<Hddm>,
    adwin: Option<Adwin>,
    page_hinkley: Option<PageHinkley>,
    kswin: Option<(Kswin<KSWIN_ROOM>, Seeded)>,
    said: [State; Detector::ALL.len()],
}

impl StreamWatch {
    /// A stream of which nothing was seen. DDM, EDDM and `HDDM_A` watch errors only, Page-Hinkley and KSWIN confidences and entropies
    /// only, ADWIN all; those that are on and do not fit the stream stay off. `seed` is for what KSWIN draws.
    #[must_use]
    pub fn new(stream: Stream, detectors: Detectors, seed: u64) -> Self {
        let binary = stream == Stream::Error;
        let on = |detector, fits: bool| (fits && detectors.has(detector)).then_some(());
        Self {
            stream,
            thinning: Thinning::default(),
            ddm: on(Detector::Ddm, binary).and_then(|()| Ddm::new(DdmSettings::default()).ok()),
            eddm: on(Detector::Eddm, binary).and_then(|()| Eddm::new(EddmSettings::default()).ok()),
            hddm: on(Detector::HddmA, binary).and_then(|()| Hddm::new(HddmSettings::default()).ok()),
            adwin: on(Detector::Adwin, true).and_then(|()| Adwin::new(AdwinSettings::default()).ok()),
            page_hinkley: on(Detector::PageHinkley, !binary)
                .and_then(|()| PageHinkley::new(page_hinkley_settings()).ok()),
            kswin: on(Detector::Kswin, !binary)
                .and_then(|()| Kswin::new(KswinSettings::default()).ok())
                .map(|kswin| (kswin, Seeded { seed, state: seed })),
            said: [State::Stable; Detector::ALL.len()],
        }
    }

    /// What is to outlive the process.
    #[must_use]
    pub fn save(&self) -> Saved {
        Saved {
            thinning: self.thinning.clone(),
            ddm: self.ddm.clone(),
            eddm: self.eddm.clone(),
            hddm: self.hddm.clone(),
            adwin: self.adwin.clone(),
            page_hinkley: self.page_hinkley.clone(),
            kswin: self.kswin.clone(),
            said: self.said,
        }
    }

    /// Goes on where what was saved left off, as far as the same detectors are on; false, and nothing changes, where it is none that
    /// detectors can have come to.
    pub fn resume(&mut self, saved: Saved) -> bool {
        let seeds = |(_, draw): &(_, Seeded)| draw.seed;
        let sound = saved.thinning.is_sound()
            && saved.ddm.as_ref().is_none_or(|ddm| ddm.is_sound(DdmSettings::default()))
            && saved.eddm.as_ref().is_none_or(|eddm| eddm.is_sound(EddmSettings::default()))
            && saved.hddm.as_ref().is_none_or(|hddm| hddm.is_sound(HddmSettings::default()))
            && saved.adwin.as_ref().is_none_or(|adwin| adwin.is_sound(AdwinSettings::default()))
            && saved.page_hinkley.as_ref().is_none_or(|other| other.is_sound(page_hinkley_settings()))
            && saved.kswin.as_ref().is_none_or(|(kswin, _)| kswin.is_sound(KswinSettings::default()))
            && (saved.kswin.is_none()
                || self.kswin.is_none()
                || saved.kswin.as_ref().map(seeds) == self.kswin.as_ref().map(seeds));
        if sound {
            self.thinning = saved.thinning;
            self.said = saved.said;
            take_up(&mut self.ddm, saved.ddm);
            take_up(&mut self.eddm, saved.eddm);
            take_up(&mut self.hddm, saved.hddm);
            take_up(&mut self.adwin, saved.adwin);
            take_up(&mut self.page_hinkley, saved.page_hinkley);
            take_up(&mut self.kswin, saved.kswin);
        }
        sound
    }

    /// How many values are thinned to one.
    #[must_use]
    pub const fn stride(&self) -> u32 {
        self.thinning.stride()
    }

    /// Takes in the next value of the stream (an error counts as above 0.5) and hands on what the detectors newly say.
    pub fn observe(&mut self, value: f64, at: UnixMillis, mut tell: impl FnMut(Advisory)) {
        if !value.is_finite() || !self.thinning.take(value) {
            return;
        }
        let error = value > 0.5;
        let states = [
            (Detector::Ddm, self.ddm.as_mut().map(|ddm| ddm.update(error))),
            (Detector::Eddm, self.eddm.as_mut().map(|eddm| eddm.update(error))),
            (Detector::HddmA, self.hddm.as_mut().map(|hddm| hddm.update(error))),
            (Detector::Adwin, self.adwin.as_mut().and_then(|adwin| adwin.update(value).ok())),
            (Detector::PageHinkley, self.page_hinkley.as_mut().and_then(|other| other.update(value).ok())),
            (Detector::Kswin, self.kswin.as_mut().and_then(|(kswin, draw)| kswin.update(value, draw).ok())),
        ];
        let mut drifted = false;
        for ((detector, state), said) in states.into_iter().zip(&mut self.said) {
            let Some(state) = state else { continue };
            let level = match (*said, state) {
                (_, State::Drift) => Some(Level::Drift),
                (State::Stable | State::Drift, State::Warning) => Some(Level::Warning),
                _ => None,
            };
            *said = state;
            drifted |= state == State::Drift;
            if let Some(level) = level {
                tell(Advisory::new(detector, self.stream, level, at));
            }
        }
        if drifted {
            self.thinning.restart();
        }
    }
}

fn page_hinkley_settings() -> PageHinkleySettings {
    PageHinkleySettings { threshold: PAGE_HINKLEY_THRESHOLD, ..PageHinkleySettings::default() }
}

/// One that is on now goes on where it was, if it was on then.
fn take_up<D>(fresh: &mut Option<D>, saved: Option<D>) {
    if fresh.is_some() && saved.is_some() {
        *fresh = saved;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    fn all() -> Detectors {
        Detector::ALL.into_iter().fold(Detectors::none(), Detectors::with)
    }

    fn advice(stream: Stream, detectors: Detectors, values: impl Iterator<Item = f64>) -> Vec<Advisory> {
        let mut watch = StreamWatch::new(stream, detectors, 1);
        let mut told = Vec::new();
        for (at, value) in (0..).zip(values) {
            watch.observe(value, UnixMillis(at), |advisory| told.push(advisory));
        }
        told
    }

    /// 0..1, repeatable and as good as independent.
    fn uniform(at: u64) -> f64 {
        let mut seeded = Seeded { seed: at, state: at };
        f64::from(u32::try_from(seeded.below(1 << 20)).expect("20 bits")) / f64::from(1_u32 << 20)
    }

    #[test]
    fn the_defaults_are_quiet_until_errors_become_frequent() {
        let errors = |from, to, share| (from..to).map(move |at| f64::from(u8::from(uniform(at) < share)));
        let told = advice(Stream::Error, Detectors::default(), errors(0, 3000, 0.05).chain(errors(3000, 3600, 0.5)));
        let drifts: Vec<_> = told.iter().filter(|said| said.level == Level::Drift.number()).collect();
        assert!(drifts.iter().all(|said| said.at >= UnixMillis(3000)), "{drifts:?}");
        for detector in [Detector::Adwin, Detector::HddmA] {
            let found = drifts.iter().find(|said| said.detector == detector.number());
            assert!(found.is_some_and(|said| said.at < UnixMillis(3300)), "{detector:?}: {drifts:?}");
        }
    }

    #[test]
    fn every_detector_that_fits_a_stream_watches_it_and_no_other() {
        let confidences =
            (0..2000).map(|at| 0.8 + 0.1 * uniform(at)).chain((2000..4000).map(|at| 0.3 + 0.1 * uniform(at)));
        let mut seen: Vec<u8> =
            advice(Stream::Confidence, all(), confidences).iter().map(|said| said.detector).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [Detector::Adwin, Detector::PageHinkley, Detector::Kswin].map(Detector::number));
        let errors = (0..6000).map(|at| f64::from(u8::from(uniform(at) < if at < 3000 { 0.05 } else { 0.6 })));
        let mut seen: Vec<u8> = advice(Stream::Error, all(), errors).iter().map(|said| said.detector).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [Detector::Ddm, Detector::Eddm, Detector::HddmA, Detector::Adwin].map(Detector::number));
    }

    #[test]
    fn thinning_keeps_detectors_quiet_on_a_stationary_stream_with_memory() {
        // Memory 0.9 a step around 0.5; ADWIN alone takes its slow swings for drifts.
        let (mut plain, mut alone, mut watched) = (Adwin::new(AdwinSettings::default()).expect("valid"), 0, 0);
        let mut watch = StreamWatch::new(Stream::Confidence, all(), 1);
        let (mut value, values) = (0.0, 50_000_u64);
        for at in 0..values {
            value = 0.9 * value + 0.3 * (uniform(at) - 0.5);
            alone += u32::from(plain.update(0.5 + value) == Ok(State::Drift));
            watch.observe(0.5 + value, UnixMillis(0), |said| {
                watched += u32::from(said.detector == Detector::Adwin.number());
            });
        }
        assert!(alone > 60, "{alone}");
        assert!(watched <= 2, "{watched} of {alone} with one value in {}", watch.stride());
    }

    #[test]
    fn a_run_of_warnings_is_told_once() {
        let ddm = Detectors::none().with(Detector::Ddm);
        let errors = (0..1200).map(|at| f64::from(u8::from(uniform(at) < if at < 1000 { 0.05 } else { 0.15 })));
        let told = advice(Stream::Error, ddm, errors);
        let warnings = told.iter().filter(|said| said.level == Level::Warning.number()).count();
        assert!((1..20).contains(&warnings), "{told:?}");
        let none = advice(Stream::Error, Detectors::none(), (0..100).map(|_| f64::NAN));
        assert!(none.is_empty());
    }

    #[test]
    fn draws_are_different_positions_and_the_same_again_after_a_restart() {
        let mut seeded = Seeded { seed: 5, state: 5 };
        let mut draw = || {
            let mut positions = [0; 30];
            seeded.draw(70, &mut positions);
            assert!(positions.is_sorted_by(|a, b| a < b) && positions[29] < 70, "{positions:?}");
            positions
        };
        let (first, second) = (draw(), draw());
        assert_ne!(first, second);
        seeded.restart();
        let mut again = [0; 30];
        seeded.draw(70, &mut again);
        assert_eq!(first, again);
    }
}
