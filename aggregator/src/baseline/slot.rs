//! Season slots: which of its own pasts a window is held against.
//!
//! A camera at dusk is not a camera at noon. Where the site's coordinates are known the slot follows the height of the sun, which
//! takes the yearly drift of dawn out of the comparison; where they are not (indoors) it follows blocks of four local hours.
//! Weekdays and weekends are apart, and so are the infrared regime and the presets of a camera that turns.
//!
//! What must hold: a slot depends on event time, the place and what is handed in, never on when or where it is computed. A
//! slot's parents ([`SlotKey::lineage`]) never leave its regime and preset: what a camera sees under infrared light, or when it
//! looks elsewhere, says nothing of what it sees otherwise.
//!
//! Deliberately absent: weather, which is not the camera's own and which its peers see too.

use std::fmt;

use driftglass_protocol::unit::{Millis, UnixMillis};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::sun::{Coordinates, SunBand};
use super::zone::Zone;

/// How far apart instants of other days may be and still count as the same time: by the clock, and by the height of the sun in degrees.
const ALIKE_MINUTES: u16 = 45;
const ALIKE_DEGREES: f64 = 3.0;
/// Height of the sun, in degrees, below which it lights nothing.
const DARK: f64 = -18.0;
/// Length of an indoor block, in hours.
const BLOCK_HOURS: u8 = 4;
/// Blocks of a day.
const BLOCKS: u8 = 24 / BLOCK_HOURS;
/// The largest preset a slot can tell from others.
pub const LARGEST_PRESET: u8 = 254;

/// What of the day a slot covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DayPart {
    /// Outdoors: the height of the sun.
    Sun(SunBand),
    /// Indoors: the `n`-th block of four hours of local time, 0..=5.
    Block(u8),
}

/// What week a slot covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WeekPart {
    /// A working day.
    Weekday,
    /// A day of rest.
    Weekend,
}

/// The days of rest at a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weekend {
    /// Saturday and Sunday.
    #[default]
    SaturdaySunday,
    /// Friday and Saturday.
    FridaySaturday,
    /// Every day is a working day.
    None,
}

impl Weekend {
    const fn has(self, weekday: u8) -> bool {
        match self {
            Self::SaturdaySunday => matches!(weekday, 5 | 6),
            Self::FridaySaturday => matches!(weekday, 4 | 5),
            Self::None => false,
        }
    }
}

/// What a camera shows apart from the time of day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct View {
    /// Under infrared light, without colours; [`super::infrared`] tells.
    pub infrared: bool,
    /// Where a camera that turns looks; presets above [`LARGEST_PRESET`] count as that one.
    pub preset: Option<u8>,
}

/// A slot, or one of its parents, in 15 bits: day part, week part, regime and preset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct SlotKey(u16);

/// Bits that are not a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{bits:#06x} is no season slot")]
pub struct SlotError {
    /// What was handed in.
    pub bits: u16,
}

const PRESET_MASK: u16 = 0xff;
const INFRARED: u16 = 1 << 8;
const WEEK_SHIFT: u16 = 9;
const WEEK_MASK: u16 = 0b11;
const PART_SHIFT: u16 = 11;
const PART_MASK: u16 = 0b1111;
const ANY_WEEK: u16 = 2;
const ANY_PART: u16 = 12;

impl SlotKey {
    /// The slot of these parts. A block beyond the day counts as its last one.
    #[must_use]
    pub fn new(part: DayPart, week: WeekPart, view: View) -> Self {
        let part = match part {
            DayPart::Sun(band) => band as u16,
            DayPart::Block(block) => 6 + u16::from(block.min(BLOCKS - 1)),
        };
        Self::pack(part, week as u16, view)
    }

    fn pack(part: u16, week: u16, view: View) -> Self {
        let preset = view.preset.map_or(0, |preset| u16::from(preset.min(LARGEST_PRESET)) + 1);
        let regime = if view.infrared { INFRARED } else { 0 };
        Self(part << PART_SHIFT | week << WEEK_SHIFT | regime | preset)
    }

    /// The camera as a whole in this regime at this preset: the root that all its slots shrink towards.
    #[must_use]
    pub fn camera(view: View) -> Self {
        Self::pack(ANY_PART, ANY_WEEK, view)
    }

    /// The part of the day; None for the camera as a whole.
    #[must_use]
    pub fn day_part(self) -> Option<DayPart> {
        let part = self.0 >> PART_SHIFT & PART_MASK;
        match SunBand::ALL.get(usize::from(part)) {
            Some(&band) => Some(DayPart::Sun(band)),
            None => u8::try_from(part).ok()?.checked_sub(6).filter(|&block| block < BLOCKS).map(DayPart::Block),
        }
    }

    /// The part of the week; None where both count.
    #[must_use]
    pub const fn week_part(self) -> Option<WeekPart> {
        match self.0 >> WEEK_SHIFT & WEEK_MASK {
            0 => Some(WeekPart::Weekday),
            1 => Some(WeekPart::Weekend),
            _ => None,
        }
    }

    /// Regime and preset.
    #[must_use]
    pub fn view(self) -> View {
        let preset = (self.0 & PRESET_MASK).checked_sub(1).and_then(|preset| u8::try_from(preset).ok());
        View { infrared: self.0 & INFRARED != 0, preset }
    }

    /// The same parts of day and week in another regime or at another preset.
    #[must_use]
    pub fn with_view(self, view: View) -> Self {
        Self::pack(self.0 >> PART_SHIFT & PART_MASK, self.0 >> WEEK_SHIFT & WEEK_MASK, view)
    }

    /// The next wider key: both parts of the week together, then the camera as a whole, then nothing.
    #[must_use]
    pub fn parent(self) -> Option<Self> {
        let part = self.0 >> PART_SHIFT & PART_MASK;
        if self.week_part().is_some() {
            Some(Self::pack(part, ANY_WEEK, self.view()))
        } else if part == ANY_PART {
            None
        } else {
            Some(Self::camera(self.view()))
        }
    }

    /// This key and all its parents, narrowest first; at most three.
    pub fn lineage(self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self), |key| key.parent())
    }
}

impl From<SlotKey> for u16 {
    fn from(key: SlotKey) -> Self {
        key.0
    }
}

impl TryFrom<u16> for SlotKey {
    type Error = SlotError;

    fn try_from(bits: u16) -> Result<Self, SlotError> {
        let key = Self(bits);
        let (part, week) = (bits >> PART_SHIFT & PART_MASK, bits >> WEEK_SHIFT & WEEK_MASK);
        let known = bits >> 15 == 0 && part <= ANY_PART && week <= ANY_WEEK && (part < ANY_PART || week == ANY_WEEK);
        if known { Ok(key) } else { Err(SlotError { bits }) }
    }
}

/// `mid-sun/weekday`, `08-12h/weekend/infrared`, `all/preset-3`.
impl fmt::Display for SlotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.day_part() {
            Some(DayPart::Sun(band)) => f.write_str(band.name())?,
            Some(DayPart::Block(block)) => write!(f, "{:02}-{:02}h", block * BLOCK_HOURS, (block + 1) * BLOCK_HOURS)?,
            None => f.write_str("all")?,
        }
        match self.week_part() {
            Some(WeekPart::Weekday) => f.write_str("/weekday")?,
            Some(WeekPart::Weekend) => f.write_str("/weekend")?,
            None => {}
        }
        let view = self.view();
        if view.infrared {
            f.write_str("/infrared")?;
        }
        view.preset.map_or(Ok(()), |preset| write!(f, "/preset-{preset}"))
    }
}

/// Where a camera hangs, as far as its seasons are concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    coordinates: Option<Coordinates>,
    zone: Zone,
    weekend: Weekend,
}

impl Place {
    /// Under the open sky. Without a zone the day of the week follows the longitude.
    #[must_use]
    pub fn outdoors(coordinates: Coordinates, zone: Option<Zone>, weekend: Weekend) -> Self {
        let zone = zone.unwrap_or_else(|| Zone::of_longitude(coordinates.longitude()));
        Self { coordinates: Some(coordinates), zone, weekend }
    }

    /// Under a roof, or nobody knows where.
    #[must_use]
    pub const fn indoors(zone: Zone, weekend: Weekend) -> Self {
        Self { coordinates: None, zone, weekend }
    }

    /// Nobody said where: universal time.
    #[must_use]
    pub fn nowhere() -> Self {
        Self::indoors(Zone::utc(), Weekend::default())
    }

    /// Whether it is about the same time of day: the sun about as high and on the same side of noon, or, where it gives no light, about
    /// the same time by the local clock.
    #[must_use]
    pub fn is_alike(&self, one: UnixMillis, other: UnixMillis) -> bool {
        let of_the_sun = self.coordinates.map(|coordinates| {
            let rises =
                |at: UnixMillis| coordinates.sun_elevation(at.plus(Millis(60_000))) > coordinates.sun_elevation(at);
            let [a, b] = [one, other].map(|at| (coordinates.sun_elevation(at), rises(at)));
            (a.0.max(b.0) > DARK).then(|| a.1 == b.1 && (a.0 - b.0).abs() <= ALIKE_DEGREES)
        });
        of_the_sun.flatten().unwrap_or_else(|| {
            let [a, b] = [one, other]
                .map(|at| self.zone.local(at))
                .map(|local| u16::from(local.hour) * 60 + u16::from(local.minute));
            let apart = a.abs_diff(b);
            apart.min(24 * 60 - apart) <= ALIKE_MINUTES
        })
    }

    /// The slot of an instant of event time; of a window, take its middle.
    #[must_use]
    pub fn slot(&self, at: UnixMillis, view: View) -> SlotKey {
        let local = self.zone.local(at);
        let part = match self.coordinates {
            Some(coordinates) => DayPart::Sun(coordinates.sun_band(at)),
            None => DayPart::Block(local.hour / BLOCK_HOURS),
        };
        let week = if self.weekend.has(local.weekday) { WeekPart::Weekend } else { WeekPart::Weekday };
        SlotKey::new(part, week, view)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;
    /// 2026-01-14T00:00Z and 2026-06-17T00:00Z, both Wednesdays.
    const JANUARY: i64 = 1_768_348_800_000;
    const JUNE: i64 = 1_781_654_400_000;

    fn berlin() -> (Coordinates, Zone) {
        (Coordinates::new(52.52, 13.405).unwrap(), Zone::parse("Europe/Berlin").unwrap())
    }

    /// The broken rule: blocks of the UTC clock.
    fn by_utc_clock(at: UnixMillis) -> i64 {
        at.0.rem_euclid(DAY) / (4 * HOUR)
    }

    #[test]
    fn trap_26_the_same_height_of_the_sun_is_the_same_slot_in_january_and_in_june() {
        let (coordinates, zone) = berlin();
        let place = Place::outdoors(coordinates, Some(zone), Weekend::default());
        // The morning minute at which the sun first stands at 12°.
        let reaches = |day: i64| {
            let minutes = (0..1440).map(|minute| UnixMillis(day + minute * 60_000));
            minutes.into_iter().find(|&at| coordinates.sun_elevation(at) >= 12.0).expect("every day, in Berlin")
        };
        let (winter, summer) = (reaches(JANUARY), reaches(JUNE));
        let apart = (winter.0.rem_euclid(DAY) - summer.0.rem_euclid(DAY)).abs();
        assert!(apart > 4 * HOUR, "the clock says {} minutes apart", apart / 60_000);
        assert_eq!(place.slot(winter, View::default()), place.slot(summer, View::default()));
        assert_ne!(by_utc_clock(winter), by_utc_clock(summer), "the broken rule has them in different slots");
    }

    #[test]
    fn trap_26_a_day_on_which_the_clock_is_changed_has_23_or_25_hours_and_work_begins_in_the_same_block() {
        let place = Place::indoors(berlin().1, Weekend::default());
        // 2026-03-29, 2026-06-14 and 2026-10-25 (all Sundays), from local midnight to local midnight.
        for (midnight, hours, first_block) in
            [(1_774_738_800_000, 23, 3), (1_781_388_000_000, 24, 4), (1_792_879_200_000, 25, 5)]
        {
            let mut blocks: BTreeMap<SlotKey, i64> = BTreeMap::new();
            for hour in 0..hours {
                *blocks.entry(place.slot(UnixMillis(midnight + hour * HOUR), View::default())).or_default() += 1;
            }
            let lengths: Vec<i64> = blocks.values().copied().collect();
            assert_eq!(lengths, [first_block, 4, 4, 4, 4, 4], "all of one Sunday");
            assert_eq!(place.slot(UnixMillis(midnight - 1), View::default()).week_part(), Some(WeekPart::Weekend));
            assert_eq!(
                place.slot(UnixMillis(midnight + hours * HOUR), View::default()).week_part(),
                Some(WeekPart::Weekday)
            );
        }
        // Half past nine, local time, on the Friday before and the Monday after the change in spring.
        let (before, after) = (UnixMillis(1_774_600_200_000), UnixMillis(1_774_855_800_000));
        assert_eq!(place.slot(before, View::default()), place.slot(after, View::default()));
        assert_ne!(by_utc_clock(before), by_utc_clock(after), "the broken rule moves the working day to another slot");
    }

    #[test]
    fn weekends_are_where_the_place_has_them() {
        let friday = UnixMillis(1_768_564_800_000);
        for (weekend, expected) in [
            (Weekend::SaturdaySunday, WeekPart::Weekday),
            (Weekend::FridaySaturday, WeekPart::Weekend),
            (Weekend::None, WeekPart::Weekday),
        ] {
            let place = Place::indoors(Zone::utc(), weekend);
            assert_eq!(place.slot(friday, View::default()).week_part(), Some(expected));
        }
    }

    #[test]
    fn infrared_and_presets_are_slots_of_their_own_up_to_the_root() {
        let part = DayPart::Sun(SunBand::Night);
        let day = SlotKey::new(part, WeekPart::Weekend, View { infrared: false, preset: Some(3) });
        let night = SlotKey::new(part, WeekPart::Weekend, View { infrared: true, preset: Some(3) });
        let elsewhere = SlotKey::new(part, WeekPart::Weekend, View { infrared: false, preset: None });
        for (a, b) in [(day, night), (day, elsewhere), (night, elsewhere)] {
            assert!(a.lineage().all(|key| b.lineage().all(|other| key != other)), "{a} and {b} are pooled");
        }
        let chain: Vec<String> = night.lineage().map(|key| key.to_string()).collect();
        assert_eq!(chain, ["night/weekend/infrared/preset-3", "night/infrared/preset-3", "all/infrared/preset-3"]);
    }

    #[test]
    fn there_are_twelve_slots_outdoors_and_twelve_indoors_under_one_view() {
        let mut all: Vec<SlotKey> = Vec::new();
        for week in [WeekPart::Weekday, WeekPart::Weekend] {
            all.extend(SunBand::ALL.map(|band| SlotKey::new(DayPart::Sun(band), week, View::default())));
            all.extend((0..6).map(|block| SlotKey::new(DayPart::Block(block), week, View::default())));
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 24);
        assert!(all.iter().all(|key| key.lineage().count() == 3));
    }

    proptest! {
        #[test]
        fn stored_bits_are_a_slot_or_an_error_and_every_slot_comes_back(bits in any::<u16>()) {
            if let Ok(key) = SlotKey::try_from(bits) {
                prop_assert_eq!(u16::from(key), bits);
                let text = serde_json::to_string(&key).unwrap();
                prop_assert_eq!(serde_json::from_str::<SlotKey>(&text).unwrap(), key);
                prop_assert!(key.lineage().count() <= 3);
                if let (Some(part), Some(week)) = (key.day_part(), key.week_part()) {
                    prop_assert_eq!(SlotKey::new(part, week, key.view()), key);
                }
            }
        }

        #[test]
        fn every_instant_anywhere_has_a_slot(
            at in any::<i64>(), latitude in -90.0..=90.0_f64, longitude in -180.0..=180.0_f64, infrared in any::<bool>(),
        ) {
            let place = Place::outdoors(Coordinates::new(latitude, longitude).unwrap(), None, Weekend::default());
            let view = View { infrared, preset: Some(255) };
            let key = place.slot(UnixMillis(at), view);
            prop_assert_eq!(SlotKey::try_from(u16::from(key)), Ok(key));
            prop_assert_eq!(key.view(), View { infrared, preset: Some(LARGEST_PRESET) });
        }
    }
}
