//! What leaves over HTTP. Times are RFC 3339 in UTC; one that has no such form (a device may claim any) is null.

use std::time::{Duration, UNIX_EPOCH};

use driftglass_protocol::id::CameraId;
use driftglass_protocol::unit::UnixMillis;
use serde::Serialize;

use super::statistics::Readout;
use crate::alert::{Alert, AlertState, Cause, Scope, Severity, Verdict};
use crate::baseline::FeatureComparison;
use crate::decision::How;
use crate::store::embedded as store;

/// Last instant that RFC 3339 can express, 9999-12-31T23:59:59.999Z.
const LAST: i64 = 253_402_300_799_999;

/// An instant in RFC 3339.
pub(crate) fn rfc3339(time: UnixMillis) -> Option<String> {
    let millis = u64::try_from(time.0).ok().filter(|_| time.0 <= LAST)?;
    Some(humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis)).to_string())
}

/// One page of a list.
#[derive(Debug, Serialize)]
pub struct List<T> {
    /// The rows.
    pub items: Vec<T>,
    /// The `offset` of the next page; null on the last.
    pub next_offset: Option<u64>,
}

/// A site.
#[derive(Debug, Serialize)]
pub struct Site {
    /// Its name.
    pub site: String,
    /// Devices known.
    pub devices: u64,
    /// Cameras known.
    pub cameras: u64,
    /// Frames measured in all windows.
    pub frames_total: u64,
    /// Alerts that are neither pending nor resolved.
    pub open_alerts: u64,
    /// When a device of it was heard last.
    pub last_seen: Option<String>,
}

impl From<store::Site> for Site {
    fn from(site: store::Site) -> Self {
        Self {
            site: site.site.to_string(),
            devices: site.devices,
            cameras: site.cameras,
            frames_total: site.frames_total,
            open_alerts: site.open_alerts,
            last_seen: rfc3339(site.last_seen),
        }
    }
}

/// Whether a device is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// It has a connection now.
    Connected,
    /// It has none.
    Offline,
}

/// A device.
#[derive(Debug, Serialize)]
pub struct Device {
    /// `site/device`.
    pub id: String,
    /// Its site.
    pub site: String,
    /// Its name there.
    pub device: String,
    /// Whether it is connected.
    pub state: DeviceState,
    /// The agent's version.
    pub version: String,
    /// When it was heard first.
    pub first_seen: Option<String>,
    /// When it was heard last.
    pub last_seen: Option<String>,
    /// Seconds by which its clock was ahead of ours when it greeted last.
    pub clock_ahead_seconds: Option<f64>,
    /// Everything up to here has been counted, as `epoch:sequence`.
    pub mark: String,
    /// Records counted.
    pub accepted: u64,
    /// Records that came again.
    pub duplicates: u64,
    /// Records refused because others before them were missing.
    pub gaps: u64,
    /// Records refused because part of them had been counted.
    pub overlaps: u64,
    /// Windows that the device says were lost.
    pub lost_windows: u64,
    /// Greetings of another instance in the same epoch; more than 0 means that a copy of the device is about.
    pub clones: u64,
    /// When the key it has was registered; null where its certificates come from elsewhere.
    pub enrolled_at: Option<String>,
    /// When the newest certificate issued to it expires.
    pub certificate_expires_at: Option<String>,
    /// When it was revoked; null where it may speak.
    pub revoked_at: Option<String>,
    /// How it is set.
    pub configuration: DeviceConfiguration,
}

/// How a device is set, by versions of the configuration that the aggregator gives; 0 is the device's own file alone.
#[derive(Debug, Serialize)]
pub struct DeviceConfiguration {
    /// The version it shall have.
    pub desired: u64,
    /// The version in effect; null where its agent has said nothing of it.
    pub in_effect: Option<u64>,
    /// The version that the state speaks of: the one offered last.
    pub offered: Option<u64>,
    /// What became of that: `applied`, `on-trial`, `refused`, `rolled-back` or `declined`.
    pub state: Option<String>,
    /// Part of what is in effect waits for the agent's next start.
    pub waits_for_restart: bool,
    /// Why it was not taken; empty where it was.
    pub detail: String,
    /// When the device said so.
    pub reported_at: Option<String>,
}

impl From<store::DeviceConfiguration> for DeviceConfiguration {
    fn from(configuration: store::DeviceConfiguration) -> Self {
        let store::DeviceConfiguration { desired, reported } = configuration;
        let reported = reported.as_ref();
        Self {
            desired,
            in_effect: reported.map(|reported| reported.in_effect),
            offered: reported.map(|reported| reported.offered),
            state: reported.map(|reported| reported.outcome.clone()),
            waits_for_restart: reported.is_some_and(|reported| reported.restart),
            detail: reported.map(|reported| reported.detail.clone()).unwrap_or_default(),
            reported_at: reported.and_then(|reported| rfc3339(reported.at)),
        }
    }
}

impl Device {
    pub(super) fn new(device: store::Device, connected: bool) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a difference of clocks, for display")]
        let clock_ahead_seconds = device.clock_ahead_ms.map(|ms| ms as f64 / 1000.0);
        Self {
            id: device.id.to_string(),
            site: device.id.site.to_string(),
            device: device.id.device.to_string(),
            state: if connected { DeviceState::Connected } else { DeviceState::Offline },
            version: device.version,
            first_seen: rfc3339(device.first_seen),
            last_seen: rfc3339(device.last_seen),
            clock_ahead_seconds,
            mark: device.mark.to_string(),
            accepted: device.accepted,
            duplicates: device.duplicates,
            gaps: device.gaps,
            overlaps: device.overlaps,
            lost_windows: device.lost,
            clones: device.clones,
            enrolled_at: device.enrolled_at.and_then(rfc3339),
            certificate_expires_at: device.certificate_expires_at.and_then(rfc3339),
            revoked_at: device.revoked_at.and_then(rfc3339),
            configuration: device.configuration.into(),
        }
    }
}

/// Where a camera stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CameraState {
    /// It has no baseline yet.
    Learning,
    /// It is held against its baseline, and nothing is known to be wrong.
    Watched,
    /// It has an open alert.
    Alerting,
}

/// A stretch of event time.
#[derive(Debug, Serialize)]
pub struct Window {
    /// Its first instant.
    pub start: Option<String>,
    /// The first instant after it.
    pub end: Option<String>,
    /// Windows merged into it.
    pub merged: u32,
}

impl From<driftglass_protocol::summary::Window> for Window {
    fn from(window: driftglass_protocol::summary::Window) -> Self {
        Self { start: rfc3339(window.start), end: rfc3339(window.end()), merged: window.merged }
    }
}

/// The model watched.
#[derive(Debug, Serialize)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl From<&driftglass_protocol::summary::Model> for Model {
    fn from(model: &driftglass_protocol::summary::Model) -> Self {
        Self { name: model.name.to_string(), version: model.version.to_string() }
    }
}

/// A camera and its totals.
#[derive(Debug, Serialize)]
pub struct Camera {
    /// `site/device/camera`.
    pub id: String,
    /// Its site.
    pub site: String,
    /// Its device.
    pub device: String,
    /// Its name there.
    pub camera: String,
    /// Where it stands.
    pub state: CameraState,
    /// Whether its device is connected.
    pub connected: bool,
    /// Frames measured.
    pub frames_total: u64,
    /// Windows counted; merged ones count as many as they merge.
    pub windows_total: u64,
    /// Frames that never came.
    pub missing_total: u64,
    /// Pictures that could not be decoded.
    pub undecodable_total: u64,
    /// Frames left out by sampling.
    pub skipped_total: u64,
    /// Frames too late for their window.
    pub late_total: u64,
    /// The newest window.
    pub last_window: Option<Window>,
    /// The model watched in it.
    pub model: Option<Model>,
    /// The version of the baseline in force; null while learning.
    pub baseline_version: Option<u32>,
    /// Alerts that are neither pending nor resolved.
    pub open_alerts: u64,
}

impl Camera {
    pub(super) fn new(camera: store::Camera, connected: bool) -> Self {
        let state = match (camera.open_alerts, camera.baseline_version) {
            (0, None) => CameraState::Learning,
            (0, Some(_)) => CameraState::Watched,
            _ => CameraState::Alerting,
        };
        Self {
            id: camera.id.to_string(),
            site: camera.id.device.site.to_string(),
            device: camera.id.device.device.to_string(),
            camera: camera.id.camera.to_string(),
            state,
            connected,
            frames_total: camera.frames_total,
            windows_total: camera.windows_total,
            missing_total: camera.missing_total,
            undecodable_total: camera.undecodable_total,
            skipped_total: camera.skipped_total,
            late_total: camera.late_total,
            last_window: camera.last_window.map(Window::from),
            model: camera.model.as_ref().map(Model::from),
            baseline_version: camera.baseline_version,
            open_alerts: camera.open_alerts,
        }
    }
}

/// A version of a baseline.
#[derive(Debug, Serialize)]
pub struct BaselineVersion {
    /// From 1.
    pub version: u32,
    /// Event time at which it was taken.
    pub learned_at: Option<String>,
    /// Whether the camera is held against it.
    pub in_force: bool,
    /// How it came to be: `learned`, `promoted` or `frozen`.
    pub origin: How,
    /// `driftglass`, or the operator's name.
    pub author: String,
    /// What he said; may be empty.
    pub note: String,
}

impl From<store::BaselineVersion> for BaselineVersion {
    fn from(baseline: store::BaselineVersion) -> Self {
        let store::BaselineVersion { version, learned_at, in_force, how, author, note } = baseline;
        Self { version, learned_at: rfc3339(learned_at), in_force, origin: how, author, note }
    }
}

/// A camera in full.
#[derive(Debug, Serialize)]
pub struct CameraDetail {
    /// What the list says of it.
    #[serde(flatten)]
    pub camera: Camera,
    /// The season slot of its newest window, for instance `mid-sun/weekday`, `08-12h/weekend/infrared`; null before the first, and where
    /// the light changed within it.
    pub slot: Option<String>,
    /// Versions of its baseline that are kept, oldest first.
    pub baselines: Vec<BaselineVersion>,
    /// Its newest alerts that are not resolved.
    pub alerts: Vec<AlertDetail>,
    /// Names of all features that can be asked for.
    pub features: Vec<&'static str>,
}

/// One feature of a camera, now and in its baseline.
#[derive(Debug, Serialize)]
pub struct FeatureStats {
    /// `site/device/camera`.
    pub camera: String,
    /// Name of the feature.
    pub feature: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Whether its axis is a circle.
    pub circular: bool,
    /// The newest windows merged; null where there is none.
    pub current: Option<Current>,
    /// The baseline; null while learning, or where it does not have the feature.
    pub baseline: Option<BaselineStats>,
    /// The two compared; null where one of them is missing.
    pub tests: Option<Tests>,
}

/// The newest windows of a feature.
#[derive(Debug, Serialize)]
pub struct Current {
    /// How many windows were merged.
    pub windows: usize,
    /// What they cover.
    pub window: Window,
    /// Their statistics.
    #[serde(flatten)]
    pub statistics: Readout,
}

/// The baseline of a feature.
#[derive(Debug, Serialize)]
pub struct BaselineStats {
    /// Its version.
    pub version: u32,
    /// Windows it was taken from.
    pub windows: u32,
    /// Their statistics.
    #[serde(flatten)]
    pub statistics: Readout,
}

/// Current against baseline. Exactly one of `ks` and `kuiper` is there.
#[derive(Debug, Serialize)]
pub struct Tests {
    /// Kolmogorov-Smirnov.
    pub ks: Option<Test>,
    /// Kuiper, for a feature on a circle.
    pub kuiper: Option<Test>,
    /// Change of the mean, in the feature's unit.
    pub shift: f64,
    /// Change of the mean in standard deviations of the baseline.
    pub scaled_shift: f64,
}

/// One test.
#[derive(Debug, Serialize)]
pub struct Test {
    /// Distance beyond the tolerance, 0..1.
    pub statistic: f64,
    /// Probability of such a distance where nothing changed.
    pub p_value: f64,
    /// Independent values the comparison is worth.
    pub effective_size: f64,
}

impl From<FeatureComparison> for Tests {
    fn from(comparison: FeatureComparison) -> Self {
        let test =
            Test { statistic: comparison.distance, p_value: comparison.p, effective_size: comparison.effective_size };
        let circular = comparison.feature.spec().axis.is_circular();
        let (ks, kuiper) = if circular { (None, Some(test)) } else { (Some(test), None) };
        Self { ks, kuiper, shift: comparison.shift, scaled_shift: comparison.scaled_shift }
    }
}

/// An alert.
#[derive(Debug, Serialize)]
pub struct AlertDetail {
    /// Its number.
    pub id: u64,
    /// What it speaks of, for people.
    pub subject: String,
    /// Its site; null for a model or the fleet.
    pub site: Option<String>,
    /// Its device; null unless it speaks of a single camera.
    pub device: Option<String>,
    /// Its camera's name; null unless it speaks of a single camera.
    pub camera: Option<String>,
    /// `site/device/camera`; null unless it speaks of a single camera.
    pub camera_id: Option<String>,
    /// Whether a single camera's may as well be its whole site's: there are too few cameras to tell.
    pub unattributed: bool,
    /// What changed together; null for a single camera.
    pub group: Option<Group>,
    /// The fault it looks like.
    pub cause: Cause,
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands.
    pub state: AlertState,
    /// What it speaks of.
    pub scope: Scope,
    /// Start of the first window in which the change is visible.
    pub first_window: Option<String>,
    /// End of the window that completed the evidence.
    pub raised_at: Option<String>,
    /// What moved, strongest first.
    pub features: Vec<MovedFeature>,
    /// What an operator found: `right` or `false`; null where nobody has said.
    pub verdict: Option<Verdict>,
    /// What to do first.
    pub recommended_action: &'static str,
    /// Every change of state, oldest first.
    pub history: Vec<HistoryEntry>,
}

/// Cameras that changed together.
#[derive(Debug, Serialize)]
pub struct Group {
    /// Cameras that had changed when the alert was raised.
    pub changed: u32,
    /// Cameras of the group.
    pub cameras: u32,
    /// The model that watches them, for an alert of scope `model`.
    pub model: Option<Model>,
}

/// A feature that moved.
#[derive(Debug, Serialize)]
pub struct MovedFeature {
    /// Its name; null where this release does not know it.
    pub name: Option<&'static str>,
    /// Its unit.
    pub unit: Option<&'static str>,
    /// Share of the distribution outside the baseline's tolerance, 0..1.
    pub distance: f64,
    /// Change of the mean, in the feature's unit.
    pub shift: f64,
    /// Population stability index beyond what chance alone would show; this and the next two are sizes and no tests.
    pub psi: Option<f64>,
    /// Jensen-Shannon divergence beyond chance, in nats, at most ln 2.
    pub js: Option<f64>,
    /// Wasserstein's first distance beyond chance, in the feature's unit.
    pub wasserstein: Option<f64>,
}

/// One line of an alert's history.
#[derive(Debug, Serialize)]
pub struct HistoryEntry {
    /// When.
    pub at: Option<String>,
    /// The state from then on.
    pub state: AlertState,
    /// Who.
    pub author: String,
    /// Why.
    pub note: String,
}

impl From<Alert> for AlertDetail {
    fn from(alert: Alert) -> Self {
        let CameraId { device, camera } = &alert.camera;
        let single = alert.scope == Scope::Camera;
        Self {
            id: alert.id,
            subject: alert.subject(),
            site: matches!(alert.scope, Scope::Camera | Scope::Site).then(|| device.site.to_string()),
            device: single.then(|| device.device.to_string()),
            camera: single.then(|| camera.to_string()),
            camera_id: single.then(|| alert.camera.to_string()),
            group: alert.group.as_ref().map(|group| Group {
                changed: group.changed,
                cameras: group.cameras,
                model: group.model.as_ref().map(Model::from),
            }),
            cause: alert.cause,
            severity: alert.severity,
            state: alert.state,
            scope: alert.scope,
            unattributed: alert.unattributed,
            first_window: rfc3339(alert.first_window),
            raised_at: rfc3339(alert.raised_at),
            features: alert
                .features
                .iter()
                .map(|moved| MovedFeature {
                    name: moved.feature().map(|feature| feature.name()),
                    unit: moved.feature().map(|feature| feature.spec().unit),
                    distance: moved.distance,
                    shift: moved.shift,
                    psi: moved.effect.map(|effect| effect.psi),
                    js: moved.effect.map(|effect| effect.jensen_shannon),
                    wasserstein: moved.effect.map(|effect| effect.wasserstein),
                })
                .collect(),
            verdict: alert.verdict,
            recommended_action: alert.recommended_action(),
            history: alert
                .history
                .into_iter()
                .map(|entry| HistoryEntry {
                    at: rfc3339(entry.at),
                    state: entry.state,
                    author: entry.author,
                    note: entry.note,
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_a_device_made_up_is_null_and_not_a_panic() {
        assert_eq!(rfc3339(UnixMillis(0)).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(rfc3339(UnixMillis(LAST)).as_deref(), Some("9999-12-31T23:59:59.999Z"));
        for time in [LAST + 1, i64::MAX, -1, i64::MIN] {
            assert_eq!(rfc3339(UnixMillis(time)), None, "{time}");
        }
    }
}
