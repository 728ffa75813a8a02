//! Settings from the centre, laid over those of the file.
//!
//! The centre may say how cameras are sampled, how long windows are, which detectors and features there are, and what is logged. It can
//! never say who the device is, where it delivers to, what is executed, opened or listened on, nor any credential: there are no keys for
//! that here, and unknown keys are errors.

use std::path::Path;

use driftglass_protocol::advisory::Detector;
use driftglass_protocol::id::Name;
use toml::Table;

use super::fault::Faults;
use super::section::Section;
use super::{Config, DETECTORS, LEVELS, NAME, WINDOW, frame_rate, log_level, window_length};
use crate::prediction::Detectors;

/// Stands for every camera of the device.
const EVERY_CAMERA: &str = "*";

enum Cameras {
    Every,
    One(Name),
}

impl Config {
    /// These settings with those of a text from the centre laid over them.
    ///
    /// # Errors
    /// Every fault there is; a camera that this device does not have is one.
    pub fn with_pushed(&self, text: &str) -> Result<Self, Faults> {
        let mut faults = Faults::new(Path::new("configuration from the centre"));
        let table = match text.parse::<Table>() {
            Ok(table) => table,
            Err(error) => {
                faults.add(String::new(), "", format!("TOML: {}", error.message()));
                return Err(faults);
            }
        };
        let mut config = self.clone();
        let mut root = Section::new(table, String::new());

        let mut section = root.section("window", &mut faults);
        config.window = section.optional("length", WINDOW, &mut faults, window_length).unwrap_or(config.window);
        section.finish(&mut faults);

        let mut section = root.section("prediction", &mut faults);
        if let Some(detectors) = section.texts("detectors", DETECTORS, &mut faults, Detector::from_name) {
            config.detectors = detectors.into_iter().fold(Detectors::none(), Detectors::with);
        }
        section.finish(&mut faults);

        let mut section = root.section("device_health", &mut faults);
        config.device_health = section.flag("enabled", &mut faults).unwrap_or(config.device_health);
        section.finish(&mut faults);

        let mut section = root.section("log", &mut faults);
        config.log_level = section.optional("level", LEVELS, &mut faults, log_level).unwrap_or(config.log_level);
        section.finish(&mut faults);

        for mut section in root.tables("camera", &mut faults) {
            let key = section.key("name");
            let cameras = section.required("name", NAME, &mut faults, |text| match text {
                EVERY_CAMERA => Ok(Cameras::Every),
                name => Name::parse(name).map(Cameras::One).map_err(|error| error.to_string()),
            });
            let rate = section.number("fps", "a number from 0.001 to 1000", &mut faults, frame_rate);
            section.finish(&mut faults);
            let Some(cameras) = cameras else { continue };
            let mut found = matches!(cameras, Cameras::Every);
            for camera in &mut config.cameras {
                if let Cameras::One(name) = &cameras
                    && camera.name != *name
                {
                    continue;
                }
                found = true;
                camera.source.rate = rate.or(camera.source.rate);
            }
            if let Cameras::One(name) = &cameras
                && !found
            {
                faults.add(
                    key,
                    name.to_string(),
                    "this device has no such camera; allowed: one it has, or \"*\"".into(),
                );
            }
        }
        root.finish(&mut faults);
        if faults.is_empty() { Ok(config) } else { Err(faults) }
    }
}

/// Checks what can be checked of a text for the centre to send without knowing the device: that every key is one that may be sent, and
/// every value one that is allowed.
///
/// # Errors
/// Every fault there is.
pub fn check_pushed(text: &str) -> Result<(), Faults> {
    // A device that has every camera that the text names.
    let mut any = "site = \"any\"\ndevice = \"any\"\nstate_dir = \"/\"\n[aggregator]\naddress = \"any:1\"\n".to_owned();
    let named = text.parse::<Table>().ok().and_then(|table| table.get("camera").cloned());
    let named = named.as_ref().and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let names =
        named.iter().filter_map(|camera| camera.get("name")?.as_str()).filter_map(|name| Name::parse(name).ok());
    for name in names.collect::<std::collections::BTreeSet<_>>().into_iter().take(super::MAX_CAMERAS) {
        any.push_str(&format!(
            "[[camera]]\nname = \"{name}\"\nsource = {{ kind = \"directory\", path = \"/{name}\" }}\n"
        ));
    }
    Config::resolve(Path::new("any device"), &any, &super::Overrides::default())?.with_pushed(text).map(drop)
}

#[cfg(test)]
mod tests {
    use driftglass_protocol::unit::Millis;

    use super::super::Overrides;
    use super::*;
    use crate::window::FrameRate;

    const FILE: &str = "site = \"s\"\ndevice = \"d\"\nstate_dir = \"/s\"\n[aggregator]\naddress = \"h:1\"\n\
        [[camera]]\nname = \"door\"\nsource = { kind = \"directory\", path = \"/f\", fps = 1 }\n\
        [[camera]]\nname = \"yard\"\nsource = { kind = \"snapshot\", url = \"http://u:secret@h/x\" }\n";

    fn local() -> Config {
        Config::resolve(Path::new("agent.toml"), FILE, &Overrides::default()).expect("valid")
    }

    #[test]
    fn what_the_centre_may_say_is_laid_over_the_file_and_the_rest_stays() {
        let text = "[window]\nlength = \"2m\"\n[prediction]\ndetectors = [\"ddm\"]\n[device_health]\nenabled = true\n\
                    [log]\nlevel = \"debug\"\n[[camera]]\nname = \"*\"\nfps = 2\n[[camera]]\nname = \"yard\"\nfps = 0.5\n";
        let config = local().with_pushed(text).expect("allowed");
        assert_eq!(config.window(), Millis(120_000));
        assert_eq!(config.detectors(), Detectors::none().with(Detector::Ddm));
        assert!(config.device_health());
        assert_eq!(config.log_level(), "debug");
        let rates: Vec<_> = config.cameras().iter().map(|camera| camera.source.rate).collect();
        assert_eq!(rates, [FrameRate::from_millihertz(2000), FrameRate::from_millihertz(500)]);
        assert_eq!(config.cameras()[1].source.kind, local().cameras()[1].source.kind);
        assert_eq!((config.device(), config.aggregator_host()), (local().device(), "h"));
        check_pushed(text).expect("allowed anywhere");
        assert_eq!(local().with_pushed("").expect("says nothing").window(), local().window());
    }

    #[test]
    fn what_it_may_not_say_or_cannot_mean_is_refused_as_a_whole() {
        for (text, part) in [
            ("site = \"other\"", "site"),
            ("state_dir = \"/tmp\"", "state_dir"),
            ("[aggregator]\naddress = \"evil:1\"", "aggregator"),
            ("[telemetry]\nlisten = \"127.0.0.1:1\"", "telemetry"),
            ("[spool]\nmax_bytes = \"1GiB\"", "spool"),
            ("[identity]\ntrust_domain = \"x\"", "identity"),
            ("[[camera]]\nname = \"door\"\nsource = { kind = \"exec\", command = [\"sh\"] }", "source"),
            ("[[camera]]\nname = \"gate\"\nfps = 1", "no such camera"),
            ("[[camera]]\nfps = 1", "is missing"),
            ("[[camera]]\nname = \"door\"\nfps = 0", "0.001 to 1000"),
            ("[window]\nlength = \"1ms\"", "from 1s to 24h"),
            ("[window]\nlength = \"2m\"\nlenght = \"3m\"", "unknown key"),
            ("[prediction]\ndetectors = [\"magic\"]", "detectors"),
            ("[log]\nlevel = \"everything\"", "error, warn"),
            ("[window", "TOML"),
        ] {
            let faults = local().with_pushed(text).expect_err(text).to_string();
            assert!(faults.contains(part), "{text}: {faults}");
            assert!(!faults.contains("secret"), "{faults}");
            assert_eq!(check_pushed(text).is_err(), part != "no such camera", "{text}");
        }
    }
}
