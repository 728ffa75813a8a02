//! Season slots: which of its own pasts a window is held against.
//!
//! A camera at dusk is not a camera at noon. Where the site's coordinates are known the slot follows the height of the sun, which
//! takes the yearly drift of dawn out of the comparison; where they are not (indoors) it follows blocks of four local hours.
//! Weekdays and weekends are apart, and so is the infrared regime.
//!
//! What must hold: a slot depends on event time, the place and what is handed in, never on when or where it is computed. A
//! slot's parents ([`SlotKey::lineage`]) never leave its regime: what a camera sees under infrared light says nothing of what it sees
//! otherwise.
//!
//! Deliberately absent: weather, which is not the camera's own and which its peers see too. And the presets of a camera that turns: what
//! it sees from each is another scene with a normal, a memory and faults of its own, so each preset is a camera of its own, which whoever
//! turns it names with the picture (`deploy/config/agent.toml`, push).

use std::fmt;

use driftglass_protocol::unit::{Millis, UnixMillis};
use serde::{Deserialize, Serialize};

use super::sun::{Coordinates, SunBand};
use super::zone::Zone;

/// How far apart instants of other days may be and still count as the same time: by the clock, and by the height of the sun in degrees.
const ALIKE_MINUTES: u16 = 45;
const ALIKE_DEGREES: f64 = 3.0;
/// Height of the sun, in degrees, below which it lights nothing.
const DARK: f64 = -18.0;
/// Length of an indoor block, in hours.
const BLOCK_HOURS: u8 = 4;

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

/// A slot, or one of its parents, which leave open when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey {
    part: Option<DayPart>,
    week: Option<WeekPart>,
    infrared: bool,
}

impl SlotKey {
    /// The slot of these parts; `infrared` is light without colours, which [`super::infrared`] tells.
    #[must_use]
    pub const fn new(part: DayPart, week: WeekPart, infrared: bool) -> Self {
        Self { part: Some(part), week: Some(week), infrared }
    }

    /// The part of the day; `None` for the camera as a whole.
    #[must_use]
    pub const fn day_part(self) -> Option<DayPart> {
        self.part
    }

    /// The part of the week; `None` where both count.
    #[must_use]
    pub const fn week_part(self) -> Option<WeekPart> {
        self.week
    }

    /// Whether the light is infrared.
    #[must_use]
    pub const fn is_infrared(self) -> bool {
        self.infrared
    }

    /// The next wider key: both parts of the week together, then the camera as a whole, then nothing.
    #[must_use]
    pub const fn parent(self) -> Option<Self> {
        match self {
            Self { week: Some(_), .. } => Some(Self { week: None, ..self }),
            Self { part: Some(_), .. } => Some(Self { part: None, ..self }),
            _ => None,
        }
    }

    /// This key and all its parents, narrowest first; at most three.
    pub fn lineage(self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self), |key| key.parent())
    }
}

/// `mid-sun/weekday`, `08-12h/weekend/infrared`, `all`.
impl fmt::Display for SlotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Some(DayPart::Sun(band)) => f.write_str(band.name())?,
            Some(DayPart::Block(block)) => write!(f, "{:02}-{:02}h", block * BLOCK_HOURS, (block + 1) * BLOCK_HOURS)?,
            None => f.write_str("all")?,
        }
        f.write_str(match self.week {
            Some(WeekPart::Weekday) => "/weekday",
            Some(WeekPart::Weekend) => "/weekend",
            None => "",
        })?;
        f.write_str(if self.infrared { "/infrared" } else { "" })
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
    pub fn slot(&self, at: UnixMillis, infrared: bool) -> SlotKey {
        let local = self.zone.local(at);
        let part = match self.coordinates {
            Some(coordinates) => DayPart::Sun(coordinates.sun_band(at)),
            None => DayPart::Block(local.hour / BLOCK_HOURS),
        };
        let week = if self.weekend.has(local.weekday) { WeekPart::Weekend } else { WeekPart::Weekday };
        SlotKey::new(part, week, infrared)
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
        assert_eq!(place.slot(winter, false), place.slot(summer, false));
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
                *blocks.entry(place.slot(UnixMillis(midnight + hour * HOUR), false)).or_default() += 1;
            }
            let lengths: Vec<i64> = blocks.values().copied().collect();
            assert_eq!(lengths, [first_block, 4, 4, 4, 4, 4], "all of one Sunday");
            assert_eq!(place.slot(UnixMillis(midnight - 1), false).week_part(), Some(WeekPart::Weekend));
            assert_eq!(place.slot(UnixMillis(midnight + hours * HOUR), false).week_part(), Some(WeekPart::Weekday));
        }
        // Half past nine, local time, on the Friday before and the Monday after the change in spring.
        let (before, after) = (UnixMillis(1_774_600_200_000), UnixMillis(1_774_855_800_000));
        assert_eq!(place.slot(before, false), place.slot(after, false));
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
            assert_eq!(place.slot(friday, false).week_part(), Some(expected));
        }
    }

    #[test]
    fn infrared_is_a_slot_of_its_own_up_to_the_root() {
        let [day, night] =
            [false, true].map(|infrared| SlotKey::new(DayPart::Sun(SunBand::Night), WeekPart::Weekend, infrared));
        assert!(day.lineage().all(|key| night.lineage().all(|other| key != other)), "{day} and {night} are pooled");
        let chain: Vec<String> = night.lineage().map(|key| key.to_string()).collect();
        assert_eq!(chain, ["night/weekend/infrared", "night/infrared", "all/infrared"]);
    }

    #[test]
    fn there_are_twelve_slots_outdoors_and_twelve_indoors_under_one_light() {
        let mut all: Vec<SlotKey> = Vec::new();
        for week in [WeekPart::Weekday, WeekPart::Weekend] {
            all.extend(SunBand::ALL.map(|band| SlotKey::new(DayPart::Sun(band), week, false)));
            all.extend((0..6).map(|block| SlotKey::new(DayPart::Block(block), week, false)));
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 24);
        assert!(all.iter().all(|key| key.lineage().count() == 3));
    }

    proptest! {
        #[test]
        fn every_instant_anywhere_has_a_slot(
            at in any::<i64>(), latitude in -90.0..=90.0_f64, longitude in -180.0..=180.0_f64, infrared in any::<bool>(),
        ) {
            let place = Place::outdoors(Coordinates::new(latitude, longitude).unwrap(), None, Weekend::default());
            let key = place.slot(UnixMillis(at), infrared);
            prop_assert!(key.is_infrared() == infrared && key.week_part().is_some());
            prop_assert!(matches!(key.day_part(), Some(DayPart::Sun(_))));
        }
    }
}
