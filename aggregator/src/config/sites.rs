//! `[site."NAME"]`: where sites are, so that the part of the day is known there.

use super::Reader;
use super::document::{Entry, Value};
use crate::baseline::slot::{Place, Weekend};
use crate::baseline::sun::Coordinates;
use crate::baseline::zone::Zone;
use crate::decision::season::{Places, SitePattern};

const SECTION: &str = "site";
const KNOWN: [&str; 4] = ["latitude", "longitude", "time_zone", "weekend"];

/// What one section says.
#[derive(Default)]
struct Site {
    latitude: Option<f64>,
    longitude: Option<f64>,
    zone: Option<Zone>,
    weekend: Weekend,
}

/// Takes all such sections; `None` where they have faults, which have been noted.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Places> {
    let (mut places, mut good) = (Vec::new(), true);
    for (name, place, keys) in reader.tables_of(SECTION) {
        let pattern = SitePattern::parse(&name);
        if pattern.is_none() {
            let allowed = "the name of a site, or its beginning and a star: [site.\"store-*\"]";
            reader.fault(place.clone(), &format!("{SECTION}.{name}"), String::new(), allowed.to_owned());
        }
        let mut site = Site::default();
        let mut faults = 0;
        for (key, entry) in keys {
            if let Err(allowed) = site.set(&key, &entry.value) {
                let Entry { place, value } = entry;
                reader.fault(place, &format!("{SECTION}.{name}.{key}"), value.to_string(), allowed);
                faults += 1;
            }
        }
        let there = if faults == 0 { site.place() } else { Err(String::new()) };
        match (pattern, there) {
            (Some(pattern), Ok(there)) => places.push((pattern, there)),
            (_, Err(allowed)) if !allowed.is_empty() => {
                reader.fault(place, &format!("{SECTION}.{name}"), String::new(), allowed);
                good = false;
            }
            _ => good = false,
        }
    }
    good.then(|| Places::new(places))
}

impl Site {
    fn set(&mut self, key: &str, value: &Value) -> Result<(), String> {
        match key {
            "latitude" => self.latitude = Some(degrees(value, 90.0)?),
            "longitude" => self.longitude = Some(degrees(value, 180.0)?),
            "time_zone" => self.zone = Some(zone(value)?),
            "weekend" => self.weekend = weekend(value)?,
            _ => return Err(format!("unknown key; known in this section are {}", KNOWN.join(", "))),
        }
        Ok(())
    }

    fn place(self) -> Result<Place, String> {
        match (self.latitude, self.longitude) {
            (Some(latitude), Some(longitude)) => {
                let coordinates = Coordinates::new(latitude, longitude).map_err(|error| error.to_string())?;
                Ok(Place::outdoors(coordinates, self.zone, self.weekend))
            }
            (None, None) => Ok(Place::indoors(self.zone.unwrap_or_else(Zone::utc), self.weekend)),
            _ => Err(String::from("latitude and longitude go together")),
        }
    }
}

fn degrees(value: &Value, most: f64) -> Result<f64, String> {
    let allowed = || format!("allowed are degrees from -{most} to {most}");
    match value {
        Value::Number(text) => text.parse().ok().filter(|degrees: &f64| degrees.abs() <= most).ok_or_else(allowed),
        Value::Text(_) | Value::Flag(_) | Value::Other(_) => Err(allowed()),
    }
}

fn zone(value: &Value) -> Result<Zone, String> {
    match value {
        Value::Text(text) => Zone::parse(text).map_err(|error| error.to_string()),
        Value::Number(_) | Value::Flag(_) | Value::Other(_) => {
            Err(String::from("allowed is a time zone such as \"Europe/Berlin\" or \"+05:30\""))
        }
    }
}

fn weekend(value: &Value) -> Result<Weekend, String> {
    match value {
        Value::Text(text) if text == "saturday-sunday" => Ok(Weekend::SaturdaySunday),
        Value::Text(text) if text == "friday-saturday" => Ok(Weekend::FridaySaturday),
        Value::Text(text) if text == "none" => Ok(Weekend::None),
        _ => Err(String::from("allowed are \"saturday-sunday\", \"friday-saturday\" and \"none\"")),
    }
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::id::Name;

    use super::super::{Config, Overrides};
    use super::*;

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        Config::parse("a.toml", text, &Overrides::default())
            .map_err(|faults| faults.list().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn sites_are_where_their_sections_say_and_all_others_nowhere() {
        let text = "[site.\"store-*\"]\nlatitude = 52.52\nlongitude = 13.405\n[site.depot]\ntime_zone = \"Asia/Dubai\"\nweekend = \"friday-saturday\"\n";
        let config = parse(text).expect("valid");
        let of = |site: &str| config.places().of(&Name::parse(site).expect("a name")).clone();
        let berlin = Coordinates::new(52.52, 13.405).expect("on earth");
        assert_eq!(of("store-7"), Place::outdoors(berlin, None, Weekend::SaturdaySunday));
        assert_eq!(of("depot"), Place::indoors(Zone::parse("Asia/Dubai").expect("a zone"), Weekend::FridaySaturday));
        assert_eq!(of("elsewhere"), Place::nowhere());
    }

    #[test]
    fn every_fault_of_a_section_is_told_with_its_line() {
        let text = "[site.\"Store*\"]\n[site.a]\nlatitude = 91\ntime_zone = \"Berlin\"\nroof = true\n[site.b]\nlongitude = 3.0\n[site]\nname = \"x\"\n";
        let faults = parse(text).expect_err("faulty").join("\n");
        for expected in [
            "a.toml:1: site.Store*: the name of a site",
            "a.toml:3: site.a.latitude = 91: allowed are degrees from -90 to 90",
            "a.toml:4: site.a.time_zone = \"Berlin\": `Berlin` is neither",
            "a.toml:5: site.a.roof = true: unknown key; known in this section are latitude, longitude, time_zone, weekend",
            "a.toml:6: site.b: latitude and longitude go together",
            "a.toml:9: site.name = \"x\": unknown",
        ] {
            assert!(faults.contains(expected), "{expected}\n{faults}");
        }
    }

    #[test]
    fn what_the_installed_example_shows_is_valid() {
        let example = include_str!("../../../deploy/config/aggregator.toml");
        let shown: Vec<&str> = example
            .lines()
            .skip_while(|line| !line.starts_with("# [site."))
            .take_while(|line| line.starts_with("# "))
            .map(|line| &line[2..])
            .collect();
        assert_eq!(shown.iter().filter(|line| line.contains(" = ")).count(), KNOWN.len(), "{shown:?}");
        parse(&shown.join("\n")).expect("valid");
    }
}
