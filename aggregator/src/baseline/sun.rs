//! Where the sun stands, as far as a camera can tell.
//!
//! The position is the low-precision one of Meeus (Astronomical Algorithms, 2nd edition, chapters 12, 22, 25 and 28) in the form
//! of NOAA's solar calculator: mean longitude and anomaly, equation of centre, apparent longitude, obliquity, declination and
//! the equation of time. It is good to a few hundredths of a degree between 1900 and 2100; a band is at least six degrees wide.
//!
//! Deliberately absent: refraction (half a degree, at the horizon only), the horizon itself (hills, houses), clouds and the moon.

use driftglass_protocol::unit::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::stats::error::{StatisticsError, within};

/// Julian date of 1970-01-01T00:00Z.
const JULIAN_EPOCH: f64 = 2_440_587.5;
/// Julian date of the epoch J2000.0.
const J2000: f64 = 2_451_545.0;
const DAY_MILLIS: f64 = 86_400_000.0;

/// A point on the Earth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Degrees")]
pub struct Coordinates {
    latitude: f64,
    longitude: f64,
}

/// The same, unchecked.
#[derive(Deserialize)]
struct Degrees {
    latitude: f64,
    longitude: f64,
}

impl TryFrom<Degrees> for Coordinates {
    type Error = StatisticsError;

    fn try_from(degrees: Degrees) -> Result<Self, StatisticsError> {
        Self::new(degrees.latitude, degrees.longitude)
    }
}

impl Coordinates {
    /// Latitude, north positive, and longitude, east positive, in degrees.
    ///
    /// # Errors
    /// `Parameter` unless the latitude is in −90..=90 and the longitude in −180..=180.
    pub fn new(latitude: f64, longitude: f64) -> Result<Self, StatisticsError> {
        Ok(Self {
            latitude: within("latitude", latitude, -90.0, 90.0)?,
            longitude: within("longitude", longitude, -180.0, 180.0)?,
        })
    }

    /// Degrees east of Greenwich.
    #[must_use]
    pub const fn longitude(self) -> f64 {
        self.longitude
    }

    /// Height of the sun's centre above the horizon in degrees, −90..=90, without refraction.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact to a millisecond for 285,000 years around 1970")]
    pub fn sun_elevation(self, at: UnixMillis) -> f64 {
        let days = at.0 as f64 / DAY_MILLIS;
        let centuries = (JULIAN_EPOCH + days - J2000) / 36_525.0;
        let sun = Sun::at(centuries);
        // Minutes of true solar time; noon is at 720.
        let minutes = days.rem_euclid(1.0) * 1440.0 + sun.equation_of_time + 4.0 * self.longitude;
        let hour_angle = (minutes / 4.0 - 180.0).to_radians();
        let (latitude, declination) = (self.latitude.to_radians(), sun.declination);
        let sine = latitude.sin() * declination.sin() + latitude.cos() * declination.cos() * hour_angle.cos();
        sine.clamp(-1.0, 1.0).asin().to_degrees()
    }

    /// The band of [`Self::sun_elevation`].
    #[must_use]
    pub fn sun_band(self, at: UnixMillis) -> SunBand {
        SunBand::of(self.sun_elevation(at))
    }
}

struct Sun {
    /// Radians.
    declination: f64,
    /// Minutes that a sundial is ahead of a clock.
    equation_of_time: f64,
}

impl Sun {
    fn at(t: f64) -> Self {
        let mean_longitude = (280.466_46 + t * (36_000.769_83 + t * 0.000_303_2)).rem_euclid(360.0);
        let anomaly = (357.529_11 + t * (35_999.050_29 - t * 0.000_153_7)).to_radians();
        let eccentricity = 0.016_708_634 - t * (0.000_042_037 + t * 0.000_000_126_7);
        let centre = anomaly.sin() * (1.914_602 - t * (0.004_817 + t * 0.000_014))
            + (2.0 * anomaly).sin() * (0.019_993 - t * 0.000_101)
            + (3.0 * anomaly).sin() * 0.000_289;
        let node = (125.04 - 1934.136 * t).to_radians();
        let apparent = (mean_longitude + centre - 0.005_69 - 0.004_78 * node.sin()).to_radians();
        let mean_obliquity = 23.439_291 - t * (0.013_004_2 + t * (0.000_000_16 - t * 0.000_000_504));
        let obliquity = (mean_obliquity + 0.002_56 * node.cos()).to_radians();
        let y = (obliquity / 2.0).tan().powi(2);
        let longitude = mean_longitude.to_radians();
        let equation = y * (2.0 * longitude).sin() - 2.0 * eccentricity * anomaly.sin()
            + 4.0 * eccentricity * y * anomaly.sin() * (2.0 * longitude).cos()
            - 0.5 * y * y * (4.0 * longitude).sin()
            - 1.25 * eccentricity * eccentricity * (2.0 * anomaly).sin();
        Self { declination: (obliquity.sin() * apparent.sin()).asin(), equation_of_time: 4.0 * equation.to_degrees() }
    }
}

/// How high the sun stands, in the steps that change what a camera sees. Morning and evening are the same band.
///
/// The light of the sky falls a millionfold from the horizon to −12° and hardly further, so that is where night begins for a
/// camera (the astronomer's −18° would make most summer nights of the north a season of their own). Above the horizon the
/// borders 10° and 30° divide the logarithm of clear-sky illuminance into roughly equal parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SunBand {
    /// Below −12°.
    Night,
    /// −12° to −6°: a little light is left in the sky.
    DeepTwilight,
    /// −6° to 0°: civil twilight.
    CivilTwilight,
    /// 0° to 10°: long shadows, glare.
    Low,
    /// 10° to 30°.
    Mid,
    /// From 30° up.
    High,
}

impl SunBand {
    /// Every band, lowest first.
    pub const ALL: [Self; 6] = [Self::Night, Self::DeepTwilight, Self::CivilTwilight, Self::Low, Self::Mid, Self::High];

    /// The band of an elevation in degrees. A NaN is night.
    #[must_use]
    pub fn of(elevation: f64) -> Self {
        match elevation {
            e if e >= 30.0 => Self::High,
            e if e >= 10.0 => Self::Mid,
            e if e >= 0.0 => Self::Low,
            e if e >= -6.0 => Self::CivilTwilight,
            e if e >= -12.0 => Self::DeepTwilight,
            _ => Self::Night,
        }
    }

    /// Its name in every interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Night => "night",
            Self::DeepTwilight => "deep-twilight",
            Self::CivilTwilight => "civil-twilight",
            Self::Low => "low-sun",
            Self::Mid => "mid-sun",
            Self::High => "high-sun",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elevation(latitude: f64, longitude: f64, seconds: i64) -> f64 {
        Coordinates::new(latitude, longitude).unwrap().sun_elevation(UnixMillis(seconds * 1000))
    }

    #[test]
    fn the_sun_stands_where_an_ephemeris_has_it() {
        // Topocentric altitudes without refraction from PyEphem 4 (VSOP87), twelve places from pole to equator, 1999 to 2099.
        let cases = [
            (52.52, 13.405, 1_768_389_000, 16.211),
            (52.52, 13.405, 1_781_668_800, 8.818),
            (-33.87, 151.21, 1_797_818_400, 79.453),
            (0.0, 0.0, 1_774_008_420, 89.883),
            (78.22, 15.65, 1_782_082_800, 11.654),
            (85.0, 0.0, 1_797_854_400, -18.439),
            (40.71, -74.01, 1_795_296_600, -0.213),
            (1.35, 103.82, 1_914_469_200, 82.988),
            (35.68, 139.69, 4_086_878_400, 4.384),
            (64.15, -21.94, 918_637_200, -4.789),
            (-90.0, 0.0, 1_797_854_400, 23.435),
            (21.3, -157.86, 1_784_154_600, 88.251),
        ];
        for (latitude, longitude, seconds, expected) in cases {
            let got = elevation(latitude, longitude, seconds);
            assert!((got - expected).abs() < 0.05, "{latitude} {longitude} {seconds}: {got}, expected {expected}");
        }
    }

    #[test]
    fn polar_day_has_no_night_and_polar_night_no_day() {
        let hours = |start: i64| (0..24).map(move |hour| start + hour * 3600);
        let svalbard = Coordinates::new(78.22, 15.65).unwrap();
        for at in hours(1_782_000_000) {
            assert!(svalbard.sun_band(UnixMillis(at * 1000)) >= SunBand::Mid, "in June the sun stays above 11°");
        }
        let far_north = Coordinates::new(85.0, 0.0).unwrap();
        for at in hours(1_797_811_200) {
            assert_eq!(far_north.sun_band(UnixMillis(at * 1000)), SunBand::Night, "in December it stays below −18°");
        }
        let pole = Coordinates::new(90.0, 0.0).unwrap();
        let heights: Vec<f64> = hours(1_782_000_000).map(|at| pole.sun_elevation(UnixMillis(at * 1000))).collect();
        assert!(heights.iter().all(|height| (height - heights[0]).abs() < 0.05), "at the pole it only goes round");
    }

    #[test]
    fn any_time_gives_a_height_and_nonsense_coordinates_are_refused() {
        let here = Coordinates::new(48.0, 11.0).unwrap();
        for at in [i64::MIN, -1, 0, i64::MAX] {
            assert!((-90.0..=90.0).contains(&here.sun_elevation(UnixMillis(at))), "{at}");
        }
        for (latitude, longitude) in [(90.1, 0.0), (0.0, 180.1), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
            assert!(Coordinates::new(latitude, longitude).is_err());
        }
        assert!(serde_json::from_str::<Coordinates>(r#"{"latitude":91,"longitude":0}"#).is_err());
        assert_eq!(SunBand::of(f64::NAN), SunBand::Night);
    }
}
