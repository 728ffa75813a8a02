//! What the same part of other days looked like: asked before anything is raised.
//!
//! The evidence knows what a camera did in its learning time and how it wandered in the last hours; it does not know that the lamps go on
//! every evening at seven. So what is discovered is looked for in the same season slot of other days ([`crate::baseline::slot`]: the
//! height of the sun or four local hours, weekday or weekend, under visible or infrared light), about the same time. Where the camera has
//! moved as far, the same way and in the same features, on most of those days, nothing is raised and its evidence begins anew
//! ([`crate::evidence::camera::CameraEvidence::forgive`]); the promise only gains by it.
//!
//! It is the move that must be known, not merely where it ends: a small change that the spread of other days would cover is still told,
//! because on other days it did not happen. And a cover is told however often it comes: who covers a camera every night has a reason.
//!
//! **Which days.** A reference that follows its camera grows used to every slow fault: with the last 14 days as the reference, a drift
//! of 0.01 standard deviations a day was never found in 120 days; with days at least 30 back, or frozen, after 35. The days asked here are
//! the first 14 of the last 28 that the camera was watched: in its first two weeks all days since it began to learn, later
//! days that lie two weeks back. Beside it stands the baseline itself, which is frozen: both must have been left.
//!
//! **Shrinkage.** A slot seen on few days borrows from the same part of the day in the whole week, which counts as three days;
//! never from another part of the day or another light.
//!
//! Nothing of this is kept in memory: the windows are in the store, and are read when something has been discovered, which is rare.
//! Deliberately absent: the same slot of a year ago.

use std::collections::BTreeMap;
use std::ops::Range;

use driftglass_protocol::feature::Feature;
use driftglass_protocol::id::{CameraId, Name};
use driftglass_protocol::unit::{Millis, UnixMillis};

use super::{CountedWindow, History};
use crate::alert::Cause;
use crate::baseline::infrared::InfraredDetector;
use crate::baseline::slot::{Place, SlotKey};
use crate::baseline::{Baseline, FeatureComparison, compare};
use crate::diagnose::diagnose;

const DAY: i64 = 86_400_000;
/// Days that are asked, and how far back they begin. The store keeps 30 days unless told otherwise.
const SPAN: i64 = 14 * DAY;
const OLDEST: i64 = 28 * DAY;
/// What lies closer than this is part of what is to be judged.
const TOO_CLOSE: i64 = DAY / 4;
/// Days a slot must have been seen on: windows of one day are not independent.
const FEWEST_DAYS: usize = 3;
/// How finely the days are looked through, and how many windows are read of each step.
const STEP: u32 = 600_000;
const OF_A_STEP: usize = 5;
/// Days that the whole week counts as, beside those of a slot.
const PRIOR_DAYS: f64 = 3.0;
/// Distance beyond the margin from which a feature has moved.
const MOVED: f64 = 0.1;
/// Share of a move that another day must have shown for it to be the same.
const AS_FAR: f64 = 0.8;
/// Move, in standard deviations of the baseline, from which its direction counts.
const DIRECTED: f64 = 0.25;

/// Where the cameras of a site hang.
#[derive(Clone, Debug, PartialEq)]
pub struct Places {
    /// Sites by name, or by how their names begin, and where they are.
    named: Vec<(SitePattern, Place)>,
    elsewhere: Place,
}

/// A site's name, or the beginning of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitePattern {
    beginning: String,
    whole: bool,
}

impl SitePattern {
    /// `store-12`, `store-*`, `*`; `None` where no site can be called so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (beginning, whole) = text.strip_suffix('*').map_or((text, true), |beginning| (beginning, false));
        let allowed = Name::parse(beginning).is_ok() || (beginning.is_empty() && !whole);
        allowed.then(|| Self { beginning: beginning.to_owned(), whole })
    }

    fn has(&self, site: &str) -> bool {
        if self.whole { site == self.beginning } else { site.starts_with(&self.beginning) }
    }
}

impl Places {
    /// Sites in places. A site that several patterns fit is where its own name says, else the longest beginning.
    #[must_use]
    pub fn new(mut named: Vec<(SitePattern, Place)>) -> Self {
        named
            .sort_by_key(|(pattern, _)| (std::cmp::Reverse(pattern.whole), std::cmp::Reverse(pattern.beginning.len())));
        Self { named, ..Self::default() }
    }

    /// Where a site is.
    #[must_use]
    pub fn of(&self, site: &Name) -> &Place {
        let found = self.named.iter().find(|(pattern, _)| pattern.has(site.as_str()));
        found.map_or(&self.elsewhere, |(_, place)| place)
    }
}

impl Default for Places {
    /// Nobody said where: blocks of four hours of universal time.
    fn default() -> Self {
        Self { named: Vec::new(), elsewhere: Place::nowhere() }
    }
}

/// Whether a window was taken under infrared light; `None` where it changed within it. Without what came before, so that a window of another
/// day reads the same whatever surrounds it: one between the borders counts as in colour.
fn infrared(window: &CountedWindow) -> Option<bool> {
    let Some(chroma) = window.histogram(Feature::ChromaRms) else { return Some(false) };
    let reading = InfraredDetector::default().observe(chroma);
    (!reading.mixed).then_some(reading.infrared)
}

/// The days asked for what began at `onset`, of a camera that began to learn at `since`.
fn days(since: UnixMillis, onset: UnixMillis) -> Range<i64> {
    let begin = since.0.max(onset.0.saturating_sub(OLDEST));
    begin..begin.saturating_add(SPAN).min(onset.0.saturating_sub(TOO_CLOSE))
}

/// The beginnings of the steps of these days that belong to a slot, or to its part of the day in the whole week, at about the time of `at`.
fn steps(place: &Place, key: SlotKey, at: UnixMillis, days: Range<i64>) -> impl Iterator<Item = UnixMillis> {
    let belongs = move |other: &UnixMillis| {
        place.slot(*other, key.is_infrared()).lineage().any(|wider| wider == key) && place.is_alike(at, *other)
    };
    days.step_by(STEP as usize).map(UnixMillis).filter(belongs)
}

/// The season slot that a window lies in by its middle; `None` where the light changed within it.
#[must_use]
pub fn slot_of(place: &Place, window: &CountedWindow) -> Option<SlotKey> {
    Some(place.slot(middle(window), infrared(window)?))
}

fn middle(window: &CountedWindow) -> UnixMillis {
    UnixMillis(i64::midpoint(window.window.start.0, window.window.end().0))
}

/// A camera that something was discovered of.
pub(super) struct Asked<'a> {
    pub(super) id: &'a CameraId,
    pub(super) place: &'a Place,
    /// When it began to learn.
    pub(super) since: UnixMillis,
    pub(super) baseline: &'a Baseline,
}

impl Asked<'_> {
    /// Whether `windows`, oldest first, end as the camera usually looks at this time and in this light. Not where too little is known of
    /// that.
    pub(super) fn looks_as_usual<H: History>(
        &self,
        mut windows: Vec<CountedWindow>,
        history: &H,
    ) -> Result<bool, H::Error> {
        let slot_of = |window: &CountedWindow| slot_of(self.place, window);
        let Some(key) = windows.iter().rev().find_map(slot_of) else { return Ok(false) };
        windows.retain(|window| slot_of(window) == Some(key));
        let Some(pooled) = CountedWindow::sum(windows) else { return Ok(false) };
        let mut moved = compare(&pooled, self.baseline);
        if diagnose(&moved).cause == Cause::Covered {
            return Ok(false);
        }
        moved.retain(|comparison| comparison.distance - comparison.margin >= MOVED);
        let days = days(self.since, pooled.window.start);
        if moved.is_empty() || days.is_empty() {
            return Ok(false);
        }
        let own = self.other_days((key, middle(&pooled)), days.clone(), &moved, history)?;
        let week = match key.parent() {
            Some(week) => self.other_days((week, middle(&pooled)), days, &moved, history)?,
            None => own,
        };
        Ok(week.seen >= FEWEST_DAYS && own.shrunk_towards(week) > 0.5)
    }

    /// On how many of these days the camera was seen in a slot about this time, and on how many of them it had moved like this.
    fn other_days<H: History>(
        &self,
        (key, at): (SlotKey, UnixMillis),
        days: Range<i64>,
        moved: &[FeatureComparison],
        history: &H,
    ) -> Result<Days, H::Error> {
        let mut seen: BTreeMap<i64, bool> = BTreeMap::new();
        for step in steps(self.place, key, at, days) {
            let day = step.0.div_euclid(DAY);
            if seen.get(&day) == Some(&true) {
                continue;
            }
            let mut windows = history.windows(self.id, step..step.plus(Millis(STEP)), OF_A_STEP)?;
            windows.retain(|window| infrared(window) == Some(key.is_infrared()));
            if let Some(pooled) = CountedWindow::sum(windows) {
                *seen.entry(day).or_default() |= has_moved_like(&compare(&pooled, self.baseline), moved);
            }
        }
        Ok(Days { seen: seen.len(), alike: seen.values().filter(|alike| **alike).count() })
    }
}

/// Days that a camera was seen on.
#[derive(Clone, Copy, Debug)]
struct Days {
    seen: usize,
    alike: usize,
}

impl Days {
    /// Share of the days on which it was as now, drawn towards that of more days.
    #[expect(clippy::cast_precision_loss, reason = "a few days")]
    fn shrunk_towards(self, wider: Self) -> f64 {
        let prior = PRIOR_DAYS * wider.alike as f64 / wider.seen.max(1) as f64;
        (self.alike as f64 + prior) / (self.seen as f64 + PRIOR_DAYS)
    }
}

/// Whether every feature that moved now had moved as far then, and the same way.
fn has_moved_like(then: &[FeatureComparison], moved: &[FeatureComparison]) -> bool {
    moved.iter().all(|now| {
        then.iter().find(|then| then.feature == now.feature).is_some_and(|then| {
            let directed = now.scaled_shift.abs() >= DIRECTED;
            let same_way = then.scaled_shift * now.scaled_shift.signum() >= AS_FAR * now.scaled_shift.abs();
            then.distance >= AS_FAR * now.distance && (same_way || !directed)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use driftglass_protocol::sketch::Histogram;
    use driftglass_protocol::summary::{Quality, Window};
    use driftglass_protocol::unit::Fixed;

    use super::*;
    use crate::baseline::Tolerances;
    use crate::baseline::slot::Weekend;
    use crate::baseline::sun::Coordinates;

    const HOUR: i64 = 3_600_000;
    /// 2026-06-15T00:00Z, a Monday.
    const MONDAY: i64 = 1_781_481_600_000;

    #[test]
    fn a_reference_lies_two_weeks_back_once_there_is_that_much_and_never_touches_what_is_judged() {
        let since = MONDAY;
        for (after, from, until) in [
            (2, since, since + 2 * DAY - TOO_CLOSE),
            (10, since, since + 10 * DAY - TOO_CLOSE),
            (20, since, since + SPAN),
            (28, since, since + SPAN),
            (60, since + 32 * DAY, since + 46 * DAY),
        ] {
            assert_eq!(days(UnixMillis(since), UnixMillis(since + after * DAY)), from..until, "day {after}");
        }
        assert!(days(UnixMillis(since), UnixMillis(since)).is_empty());
    }

    /// Hours since the first day, to the tenth, of the steps like the one at `hour`.
    fn alike(place: &Place, hour: i64, days: i64, weekend_too: bool) -> Vec<i64> {
        let at = UnixMillis(MONDAY + hour * HOUR);
        let key = place.slot(at, false);
        let key = if weekend_too { key.parent().expect("has one") } else { key };
        steps(place, key, at, MONDAY..MONDAY + days * DAY).map(|step| (step.0 - MONDAY) / (HOUR / 10)).collect()
    }

    #[test]
    fn indoors_the_clock_says_what_is_alike_and_the_whole_week_has_more_of_it_than_its_working_days() {
        let place = Place::nowhere();
        let of_weekdays = alike(&place, 9, 7, false);
        assert!(
            of_weekdays.iter().all(|tenth| (82..=98).contains(&(tenth % 240)) && tenth / 240 < 5),
            "{of_weekdays:?}"
        );
        assert_eq!(of_weekdays.len(), 5 * 9);
        assert_eq!(alike(&place, 9, 7, true).len(), 7 * 9);
        let by_the_border = alike(&place, 8, 1, false);
        assert!(by_the_border.iter().all(|tenth| (80..=88).contains(tenth)), "never another block: {by_the_border:?}");
    }

    #[test]
    fn outdoors_the_sun_says_it_morning_and_evening_apart() {
        let coordinates = Coordinates::new(52.52, 13.405).expect("on earth");
        let place = Place::outdoors(coordinates, None, Weekend::default());
        // In June the sun rises about 2:45 and sets about 19:30, universal time.
        for (hour, hours) in [(3, 2..5), (11, 9..13), (19, 18..21)] {
            let alike = alike(&place, hour, 3, false);
            assert!(alike.iter().all(|tenth| hours.contains(&(tenth % 240 / 10))), "{hour}: {alike:?}");
            assert!((3 * 3..=3 * 24).contains(&alike.len()), "{hour}: {alike:?}");
        }
    }

    #[test]
    fn a_site_s_own_name_wins_over_a_beginning_and_a_long_beginning_over_a_short_one() {
        let indoors =
            |name: &str| Place::indoors(crate::baseline::zone::Zone::parse(name).expect("a zone"), Weekend::default());
        let pattern = |text: &str| SitePattern::parse(text).expect("a pattern");
        let places = Places::new(vec![
            (pattern("*"), indoors("+01:00")),
            (pattern("store-*"), indoors("+02:00")),
            (pattern("store-1*"), indoors("+03:00")),
            (pattern("store-12"), indoors("+04:00")),
        ]);
        for (site, zone) in [("depot", "+01:00"), ("store-2", "+02:00"), ("store-13", "+03:00"), ("store-12", "+04:00")]
        {
            assert_eq!(places.of(&Name::parse(site).expect("a name")), &indoors(zone), "{site}");
        }
        for wrong in ["", "Store", "a b", "sto*re", "-*-"] {
            assert_eq!(SitePattern::parse(wrong), None, "{wrong}");
        }
    }

    /// A minute's window in which as many of 60 frames have colour.
    fn coloured(start: i64, frames: u32) -> CountedWindow {
        let axis = Feature::ChromaRms.spec().axis;
        let mut histogram = Histogram::new();
        for frame in 0..60 {
            histogram.add(axis.bin(Fixed::from_int(if frame < frames { 12 } else { 1 })));
        }
        CountedWindow {
            window: Window { start: UnixMillis(start), length: Millis(60_000), merged: 1 },
            quality: Quality { frames: 60, ..Quality::default() },
            model: None,
            histograms: vec![(Feature::ChromaRms, histogram)],
        }
    }

    /// A camera that has been under infrared light ever since.
    struct Infrared;

    impl History for Infrared {
        type Error = Infallible;
        fn windows(&self, _: &CameraId, span: Range<UnixMillis>, _: usize) -> Result<Vec<CountedWindow>, Infallible> {
            Ok(vec![coloured(span.start.0, 0)])
        }
    }

    #[test]
    fn what_was_seen_under_another_light_says_nothing() {
        let lights = [0, 30, 60].map(|frames| infrared(&coloured(MONDAY, frames)));
        assert_eq!(lights, [Some(true), None, Some(false)], "grey, both within the window, in colour");

        let learned: Vec<CountedWindow> = (0..60).map(|minute| coloured(MONDAY + minute * 60_000, 60)).collect();
        let baseline = Baseline::learn(&learned, 30, &Tolerances::CATALOGUE).expect("enough windows");
        let (id, place) = ("site/device/camera".parse().expect("a camera id"), Place::nowhere());
        let asked = Asked { id: &id, place: &place, since: UnixMillis(MONDAY), baseline: &baseline };
        let at = UnixMillis(MONDAY + 9 * HOUR);
        let seen = |infrared: bool| {
            let key = place.slot(at, infrared);
            let Ok(days) = asked.other_days((key, at), MONDAY..MONDAY + 4 * DAY, &[], &Infrared);
            days.seen
        };
        assert_eq!((seen(true), seen(false)), (4, 0));
    }
}
