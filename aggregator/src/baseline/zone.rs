//! Local time: which hour and which weekday it is where the camera hangs.
//!
//! A zone is a fixed offset or an entry of the IANA database. The database is the copy that the program carries, never that of
//! the machine: a replay on another machine must put every window into the same slot. Days are as long as the clock makes them,
//! 23 and 25 hours where it is changed.

use std::fmt;

use driftglass_protocol::unit::UnixMillis;
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use thiserror::Error;

const DAY_SECONDS: i64 = 86_400;
/// Furthest offset from UTC that is in use anywhere is 14 hours; the clock of ISO 8601 allows a little more.
const LARGEST_OFFSET_SECONDS: i32 = 18 * 3600;

/// Why a zone is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ZoneError {
    /// Neither an IANA name nor an offset.
    #[error(
        "`{name}` is neither a time zone of the IANA database such as `Europe/Berlin` nor an offset such as `+05:30`"
    )]
    Unknown {
        /// What was handed in.
        name: String,
    },
    /// An offset further from UTC than 18 hours.
    #[error("the offset `{name}` is more than 18 hours from UTC")]
    TooFar {
        /// What was handed in.
        name: String,
    },
}

/// A time zone.
#[derive(Clone, PartialEq)]
pub struct Zone {
    zone: TimeZone,
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Zone").field(&self.zone.iana_name()).finish()
    }
}

/// Clock and calendar at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Whole hours since midnight, 0..=23.
    pub hour: u8,
    /// Whole minutes since the hour, 0..=59.
    pub minute: u8,
    /// Day of the week, 0 is Monday and 6 Sunday.
    pub weekday: u8,
}

impl Zone {
    /// Universal time.
    #[must_use]
    pub const fn utc() -> Self {
        Self { zone: TimeZone::UTC }
    }

    /// `Europe/Berlin`, `UTC`, `+05:30`, `-03:00`.
    ///
    /// # Errors
    /// One variant of [`ZoneError`] per cause.
    pub fn parse(name: &str) -> Result<Self, ZoneError> {
        let unknown = || ZoneError::Unknown { name: name.to_owned() };
        if name.eq_ignore_ascii_case("utc") || name == "Z" {
            return Ok(Self::utc());
        }
        if let Some((sign, digits)) =
            name.strip_prefix('+').map(|rest| (1, rest)).or_else(|| name.strip_prefix('-').map(|rest| (-1, rest)))
        {
            let seconds = offset_seconds(digits).ok_or_else(unknown)?;
            if seconds > LARGEST_OFFSET_SECONDS {
                return Err(ZoneError::TooFar { name: name.to_owned() });
            }
            return Self::fixed(sign * seconds).ok_or_else(unknown);
        }
        TimeZoneDatabase::bundled().get(name).map(|zone| Self { zone }).map_err(|_| unknown())
    }

    /// The zone of ships: whole hours of 15 degrees of longitude each. Good enough to tell the day of the week where nobody
    /// said in which zone a site lies.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "at most 12 hours")]
    pub fn of_longitude(longitude: f64) -> Self {
        let hours = (longitude / 15.0).round().clamp(-12.0, 12.0) as i32;
        Self::fixed(hours * 3600).unwrap_or_else(Self::utc)
    }

    fn fixed(seconds: i32) -> Option<Self> {
        Offset::from_seconds(seconds).ok().map(|offset| Self { zone: TimeZone::fixed(offset) })
    }

    /// Clock and calendar at an instant. Beyond the years the database knows, its last offset goes on.
    #[must_use]
    pub fn local(&self, at: UnixMillis) -> LocalTime {
        let known = at.0.clamp(Timestamp::MIN.as_millisecond(), Timestamp::MAX.as_millisecond());
        let offset = Timestamp::from_millisecond(known).map_or(0, |at| self.zone.to_offset(at).seconds());
        let seconds = at.0.div_euclid(1000).saturating_add(i64::from(offset));
        // 1970-01-01 was a Thursday.
        let weekday = (seconds.div_euclid(DAY_SECONDS) + 3).rem_euclid(7);
        let (hour, minute) = (seconds.rem_euclid(DAY_SECONDS) / 3600, seconds.rem_euclid(3600) / 60);
        LocalTime {
            hour: u8::try_from(hour).unwrap_or(0),
            minute: u8::try_from(minute).unwrap_or(0),
            weekday: u8::try_from(weekday).unwrap_or(0),
        }
    }
}

/// `HH:MM`, `HHMM` or `HH` in seconds.
fn offset_seconds(text: &str) -> Option<i32> {
    let digits: String = text.chars().filter(|&c| c != ':').collect();
    let shaped = matches!((text.len(), text.find(':')), (2 | 4, None) | (5, Some(2)));
    if !shaped || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let hours: i32 = digits.get(..2)?.parse().ok()?;
    let minutes: i32 = digits.get(2..).filter(|rest| !rest.is_empty()).map_or(Some(0), |rest| rest.parse().ok())?;
    (minutes < 60).then_some(hours * 3600 + minutes * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(zone: &str, seconds: i64) -> (u8, u8) {
        let time = Zone::parse(zone).unwrap().local(UnixMillis(seconds * 1000));
        (time.weekday, time.hour)
    }

    #[test]
    fn names_and_offsets_give_the_local_clock() {
        // 2026-11-21T22:30:00Z, a Saturday.
        let at = 1_795_300_200;
        assert_eq!(local("UTC", at), (5, 22));
        assert_eq!(local("Europe/Berlin", at), (5, 23));
        assert_eq!(local("Asia/Kolkata", at), (6, 4));
        assert_eq!(local("+05:30", at), (6, 4));
        assert_eq!(local("-0300", at), (5, 19));
        assert_eq!(local("America/New_York", at), (5, 17));
        assert_eq!(local("UTC", -1), (2, 23), "the last second of a Wednesday in 1969");
    }

    #[test]
    fn what_is_no_zone_says_so() {
        for name in ["", "Berlin", "+5", "+05:3", "+05:60", "+aa:bb", "+1:234", "Mars/Olympus"] {
            assert_eq!(Zone::parse(name), Err(ZoneError::Unknown { name: name.to_owned() }), "{name}");
        }
        assert!(matches!(Zone::parse("+19:00"), Err(ZoneError::TooFar { .. })));
    }

    #[test]
    fn the_ends_of_time_have_an_hour_too() {
        for at in [i64::MIN, i64::MAX] {
            assert!(Zone::parse("Europe/Berlin").unwrap().local(UnixMillis(at)).hour < 24);
        }
        assert_eq!(Zone::of_longitude(13.4), Zone::parse("+01:00").unwrap());
        assert_eq!(Zone::of_longitude(f64::NAN), Zone::of_longitude(0.0));
    }
}
