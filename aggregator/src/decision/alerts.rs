//! Alerts of single cameras: what is said when one is raised, and when it is over.
//!
//! A discovery says that a camera has changed; here its latest windows are looked at together, beside its baseline, to say what, how far and
//! how bad. Nothing here decides whether there is an alert, but for one thing: what a camera shows at this time on other days too is let be
//! ([`super::season`]).

use driftglass_protocol::id::CameraId;
use driftglass_protocol::summary::Window;
use driftglass_protocol::unit::UnixMillis;

use super::attribution::Company;
use super::camera::{CameraState, OpenAlert};
use super::core::Core;
use super::season::Asked;
use super::{Change, CountedWindow, FOR_EVER, History};
use crate::alert::severity::{Persistence, leaves_nothing, severity};
use crate::alert::{Alert, AlertState, Cause, HistoryEntry, MovedFeature, Scope, Verdict};
use crate::baseline::{Baseline, FeatureComparison, compare};
use crate::diagnose;
use crate::evidence::whitening::LENGTHS;

/// Most windows since the change that are pooled to name the fault.
const DIAGNOSIS_WINDOWS_MAX: usize = 32;
/// Windows in a row as before until an alert is resolved, or changed until a resolved one is open again.
pub(super) const STREAK: i32 = 10;

/// What a camera has shown lately.
pub(super) struct Look {
    /// Its windows as one.
    pub(super) pooled: CountedWindow,
    pub(super) comparisons: Vec<FeatureComparison>,
}

impl Core {
    /// Whether a camera that was discovered shows what it usually shows at this time. The same picture again and again never is usual.
    pub(super) fn looks_as_usual<H: History>(
        &self,
        id: &CameraId,
        newest: (&CameraId, &CountedWindow),
        history: &H,
    ) -> Result<bool, H::Error> {
        let evidence = self.camera(id).and_then(|camera| camera.state.evidence.as_ref());
        let Some(evidence) = evidence.filter(|evidence| !evidence.is_frozen()) else { return Ok(false) };
        self.is_usual(id, self.lately(id, evidence.onset(), newest, history)?, history)
    }

    /// A resolved alert is not opened again for what its camera usually shows at this time.
    pub(super) fn let_be_if_usual<H: History>(
        &mut self,
        id: &CameraId,
        window: &CountedWindow,
        history: &H,
    ) -> Result<(), H::Error> {
        let opens_next = |open: &OpenAlert| open.resolved && open.streak == 1 - STREAK;
        let Some(camera) = self.camera(id) else { return Ok(()) };
        if !camera.state.alert.iter().chain(&camera.state.shared).any(opens_next) {
            return Ok(());
        }
        let mut windows =
            history.windows(id, UnixMillis(i64::MIN)..window.window.start, STREAK.unsigned_abs() as usize)?;
        windows.push(window.clone());
        if self.is_usual(id, windows, history)?
            && let Some(CameraState { alert, shared, .. }) = self.camera_mut(id).map(|camera| &mut camera.state)
        {
            alert.iter_mut().chain(shared).filter(|open| opens_next(open)).for_each(|open| open.streak = 0);
        }
        Ok(())
    }

    /// Whether these windows of a camera, oldest first, show what it usually shows at this time.
    pub(super) fn is_usual<H: History>(
        &self,
        id: &CameraId,
        windows: Vec<CountedWindow>,
        history: &H,
    ) -> Result<bool, H::Error> {
        let Some(camera) = self.camera(id) else { return Ok(false) };
        let Some(baseline) = &camera.baseline else { return Ok(false) };
        let asked = Asked { id, place: self.places.of(&id.device.site), since: camera.state.learning_since, baseline };
        asked.looks_as_usual(windows, history)
    }

    /// Opens the alert of a camera.
    pub(super) fn raise<H: History>(
        &mut self,
        id: &CameraId,
        newest: (&CameraId, &CountedWindow),
        history: &H,
    ) -> Result<Option<Change>, H::Error> {
        let at = newest.1.window.end();
        let onset = self.camera(id).and_then(|camera| camera.state.evidence.as_ref()?.onset());
        let Some(look) = self.look(id, onset, newest, history)? else { return Ok(None) };
        let Some(evidence) = self.camera(id).and_then(|camera| camera.state.evidence.as_ref()) else { return Ok(None) };
        let mut diagnosis = if evidence.is_frozen() {
            diagnose::diagnose_as(Cause::Frozen, &look.comparisons)
        } else {
            diagnose::diagnose(&look.comparisons)
        };
        if let Some(baseline) = self.camera(id).and_then(|camera| camera.baseline.as_ref()) {
            measure(&mut diagnosis.features, &look.pooled, baseline);
        }
        let company = self.sites.get(&id.device.site).map(|site| Company::of(id, site, evidence.epoch));
        let beside = company.and_then(Company::note).map_or_else(String::new, |note| format!("; {note}"));
        let note = format!(
            "evidence {:.0} against {} cameras at q = {}: {}{beside}",
            evidence.supremum,
            self.cameras(),
            (self.q_in(evidence.epoch) * 1e4).round() / 1e4,
            diagnosis.explanation
        );
        let alert = Alert {
            id: self.number(),
            camera: id.clone(),
            scope: Scope::Camera,
            // A picture that stands still is no matter of light or power.
            unattributed: diagnosis.cause != Cause::Frozen && company.is_some_and(Company::leaves_it_open),
            group: None,
            cause: diagnosis.cause,
            severity: diagnosis.severity,
            state: AlertState::Alerting,
            first_window: look.pooled.window.start,
            raised_at: at,
            features: diagnosis.features,
            verdict: None,
            history: vec![entry(at, AlertState::Alerting, note)],
        };
        if let Some(camera) = self.camera_mut(id) {
            camera.state.alert = Some(OpenAlert::new(&alert, diagnosis.effect));
        }
        Ok(Some(self.open(alert)))
    }

    /// What a camera has shown, beside its baseline, since the window of its epoch in which its evidence began to grow.
    pub(super) fn look<H: History>(
        &self,
        id: &CameraId,
        onset: Option<u32>,
        newest: (&CameraId, &CountedWindow),
        history: &H,
    ) -> Result<Option<Look>, H::Error> {
        let Some(baseline) = self.camera(id).and_then(|camera| camera.baseline.as_ref()) else { return Ok(None) };
        let pooled = CountedWindow::sum(self.lately(id, onset, newest, history)?);
        Ok(pooled.map(|pooled| Look { comparisons: compare(&pooled, baseline), pooled }))
    }

    /// The windows of a camera since the one of its epoch in which its evidence began to grow.
    pub(super) fn lately<H: History>(
        &self,
        id: &CameraId,
        onset: Option<u32>,
        newest: (&CameraId, &CountedWindow),
        history: &H,
    ) -> Result<Vec<CountedWindow>, H::Error> {
        let Some(camera) = self.camera(id) else { return Ok(Vec::new()) };
        let Some(evidence) = &camera.state.evidence else { return Ok(Vec::new()) };
        // A small change is seen in long blocks only, without a single window that stands out: then the longest of them.
        let epoch_length = i64::from(self.settings().epoch.0.max(1));
        let span = epoch_length / i64::from(evidence.horizon.max(1));
        let onset = onset.map_or_else(
            || UnixMillis(camera.state.newest.0.saturating_sub(span * i64::from(LENGTHS[LENGTHS.len() - 1]))),
            |window| {
                let begin = evidence.epoch.saturating_mul(epoch_length);
                UnixMillis(begin.saturating_add(i64::from(window).saturating_mul(span)))
            },
        );
        let mut windows = history.windows(id, onset..FOR_EVER, DIAGNOSIS_WINDOWS_MAX)?;
        if newest.0 == id {
            windows.push(newest.1.clone());
        }
        Ok(windows)
    }

    /// Resolves an alert whose camera is as before, opens it again when the change is back within the same epoch, and makes it graver
    /// the longer it lasts.
    pub(super) fn follow(
        &mut self,
        id: &CameraId,
        window: Window,
        comparisons: &[FeatureComparison],
    ) -> Option<Change> {
        let open = self.sites.get_mut(&id.device.site)?.camera_mut(id)?.state.alert.as_mut()?;
        let streak = open.observe(comparisons, window.length);
        // One that an operator calls false is not raised again for the same change.
        let alert = self.alerts.get_mut(&open.id).filter(|alert| alert.verdict != Some(Verdict::False))?;
        let lasted = Persistence::from_millis(open.lasted);
        let grave = severity(open.effect, lasted, leaves_nothing(alert.cause)).max(alert.severity);
        let (state, note) = if !open.resolved && streak == STREAK {
            (AlertState::Resolved, format!("as before for {STREAK} windows"))
        } else if open.resolved && streak == -STREAK {
            (AlertState::Alerting, format!("changed again for {STREAK} windows"))
        } else if grave > alert.severity {
            (alert.state, format!("graver, for it has lasted {} minutes", open.lasted / 60_000))
        } else {
            return None;
        };
        open.resolved = state == AlertState::Resolved;
        alert.severity = grave;
        alert.state = state;
        alert.history.push(entry(window.end(), state, note));
        Some(Change::Alert(Box::new(alert.clone())))
    }
}

/// Says of every feature that moved how large the difference is.
fn measure(moved: &mut [MovedFeature], window: &CountedWindow, baseline: &Baseline) {
    for moved in moved {
        moved.effect = moved.feature().and_then(|feature| {
            let sizes = baseline.feature(feature)?.effect_sizes(window.histogram(feature)?, window.window.merged)?;
            Some(sizes.into())
        });
    }
}

pub(super) fn entry(at: UnixMillis, state: AlertState, note: String) -> HistoryEntry {
    HistoryEntry { at, state, author: String::from("driftglass"), note }
}
