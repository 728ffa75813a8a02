//! What differs between two configurations, and what of it a running agent can take up.

use driftglass_protocol::id::Name;

use super::{CameraConfig, Config, SourceKind};

/// What a running agent has to do to follow a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Cameras that were not there before.
    pub added: Vec<CameraConfig>,
    /// Cameras that are not there any more.
    pub removed: Vec<Name>,
    /// Cameras of which something is different.
    pub changed: Vec<ChangedCamera>,
    /// `log.level` is different.
    pub log_level: bool,
    /// `prediction.detectors` is different, for every camera.
    pub detectors: bool,
    /// `device_health.enabled` is different.
    pub device_health: bool,
}

/// A camera of which something is different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedCamera {
    /// What it is from now on.
    pub camera: CameraConfig,
    /// Whether its frames come from elsewhere, or in another way.
    pub source: bool,
}

impl Changes {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Config {
    /// What a running agent has to do to follow `new` where it followed this one.
    #[must_use]
    pub fn changes_to(&self, new: &Self) -> Changes {
        let before = |name: &Name| self.cameras.iter().find(|camera| camera.name == *name);
        let mut changes = Changes {
            log_level: self.log_level != new.log_level,
            detectors: self.detectors != new.detectors,
            device_health: self.device_health != new.device_health,
            ..Changes::default()
        };
        for camera in &new.cameras {
            match before(&camera.name) {
                None => changes.added.push(camera.clone()),
                Some(known) if known == camera && !changes.detectors => {}
                Some(known) => {
                    let source = fetched_differently(known, camera);
                    changes.changed.push(ChangedCamera { camera: camera.clone(), source });
                }
            }
        }
        let kept = |name: &Name| new.cameras.iter().any(|camera| camera.name == *name);
        let gone = self.cameras.iter().map(|camera| &camera.name).filter(|name| !kept(name));
        changes.removed.extend(gone.cloned());
        changes
    }

    /// The settings in which `new` differs from what this process was started with, and that only a new process takes up.
    #[must_use]
    pub fn restart_for(&self, new: &Self) -> Vec<&'static str> {
        let settings = [
            ("site", self.device.site == new.device.site),
            ("device", self.device.device == new.device.device),
            ("state_dir", self.state_dir == new.state_dir),
            (
                "aggregator.address",
                (&self.aggregator_host, self.aggregator_port) == (&new.aggregator_host, new.aggregator_port),
            ),
            ("aggregator.server_name", self.server_name == new.server_name),
            ("window.length", self.window == new.window),
            ("spool.max_bytes", self.spool_bytes == new.spool_bytes),
            ("telemetry.listen", self.telemetry == new.telemetry),
            ("identity.trust_domain", self.trust_domain == new.trust_domain),
            ("log.format", self.log_format == new.log_format),
        ];
        settings.into_iter().filter_map(|(key, same)| (!same).then_some(key)).collect()
    }
}

/// Whether the frames of a camera come from elsewhere, or in another way. The pipeline thins to a rate and gives event times by itself.
fn fetched_differently(before: &CameraConfig, now: &CameraConfig) -> bool {
    let (before, now) = (&before.source, &now.source);
    match (&before.kind, &now.kind) {
        (SourceKind::Directory { path: old, .. }, SourceKind::Directory { path: new, .. }) => {
            (old, before.max_frame) != (new, now.max_frame)
        }
        // It asks at the rate.
        (SourceKind::Snapshot(_), SourceKind::Snapshot(_)) => before != now,
        // It looks at the rate.
        #[cfg(feature = "inference")]
        (SourceKind::Inference(_), SourceKind::Inference(_)) => before != now,
        _ => {
            (&before.kind, before.timeout, before.max_frame, before.max_pixels)
                != (&now.kind, now.timeout, now.max_frame, now.max_pixels)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Overrides;
    use super::*;

    const HEAD: &str = "site = \"s\"\ndevice = \"d\"\nstate_dir = \"/s\"\n[aggregator]\naddress = \"h:1\"\n";

    fn config(rest: &str) -> Config {
        let text = format!("{HEAD}{rest}");
        Config::resolve(Path::new("agent.toml"), &text, &Overrides::default()).expect("good")
    }

    fn cameras(sources: &[(&str, &str)]) -> Config {
        let camera =
            |(name, source): &(&str, &str)| format!("[[camera]]\nname = \"{name}\"\nsource = {{ {source} }}\n");
        config(&sources.iter().map(camera).collect::<String>())
    }

    #[test]
    fn cameras_come_go_and_change() {
        let folder = "kind = \"directory\", path = \"/a\"";
        let asked = "kind = \"snapshot\", url = \"http://h/\"";
        let streamed = "kind = \"mjpeg\", url = \"http://h/\"";
        let faster = |source: &str| format!("{source}, fps = 2");
        let before =
            cameras(&[("a", folder), ("b", folder), ("c", folder), ("d", asked), ("e", streamed), ("f", streamed)]);
        assert!(before.changes_to(&before).is_empty());
        let (folder_faster, asked_faster, streamed_faster) = (faster(folder), faster(asked), faster(streamed));
        let after = cameras(&[
            ("g", folder),
            ("f", asked),
            ("e", &streamed_faster),
            ("d", &asked_faster),
            ("b", &folder_faster),
            ("a", folder),
        ]);
        let changes = before.changes_to(&after);
        let names = |cameras: &[CameraConfig]| cameras.iter().map(|camera| camera.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&changes.added), ["g"]);
        assert_eq!(changes.removed, [Name::parse("c").expect("name")]);
        let changed: Vec<_> =
            changes.changed.iter().map(|changed| (changed.camera.name.as_str(), changed.source)).collect();
        assert_eq!(changed, [("f", true), ("e", false), ("d", true), ("b", false)]);
        assert!(before.restart_for(&after).is_empty());
    }

    #[test]
    fn other_detectors_concern_every_camera() {
        let camera = "[[camera]]\nname = \"a\"\nsource = { kind = \"directory\", path = \"/a\" }\n";
        let changes = config(camera).changes_to(&config(&format!("[prediction]\ndetectors = [\"ddm\"]\n{camera}")));
        assert!(changes.detectors && changes.changed.len() == 1 && !changes.changed[0].source);
    }

    #[test]
    fn what_only_a_new_process_takes_up_is_named() {
        let (before, after) = (
            config(""),
            config(
                "[window]\nlength = \"5s\"\n[log]\nlevel = \"debug\"\nformat = \"json\"\n[device_health]\nenabled = true\n",
            ),
        );
        assert_eq!(before.restart_for(&after), ["window.length", "log.format"]);
        let changes = before.changes_to(&after);
        assert!(changes.log_level && changes.device_health && changes.changed.is_empty());
    }
}
