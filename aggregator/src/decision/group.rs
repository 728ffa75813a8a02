//! What befalls many cameras at once: a site, the cameras under one version of a model, the fleet.
//!
//! Weather, a power dip or a new model version moves many cameras, and peers keep it from being laid at any camera's door. It is
//! an alert of its own where **more than half** of the group are each no longer as their own past, by the partial conjunction of
//! Benjamini and Heller (2008): valid however the cameras depend on each other, and a single broken camera, or two, can never
//! make it. A site is judged by what its cameras see, the cameras of a model by what the model says, the fleet by its sites.
//!
//! Each kind is a family with its own share of q ([`Shares`]); the shares of false alerts add up to at most q over all of them.
//!
//! Must hold: one alert per group at a time. While the fleet has one, what its sites have is the same: it raises none, and takes over
//! those that were raised before.

use std::collections::{BTreeMap, BTreeSet};

use driftglass_protocol::feature::Subject;
use driftglass_protocol::id::{CameraId, Name};
use driftglass_protocol::summary::{Model, Window};
use driftglass_protocol::unit::UnixMillis;

use super::alerts::{STREAK, entry};
use super::camera::{Camera, OpenAlert};
use super::core::Core;
use super::site::Site;
use super::{Change, CountedWindow, History};
use crate::alert::severity::{Persistence, leaves_nothing, severity};
use crate::alert::{Alert, AlertState, Group, Scope};
use crate::baseline::FeatureComparison;
use crate::diagnose;
use crate::evidence::combination::majority;
use crate::evidence::fdr;
use crate::evidence::peers::ENOUGH_PEERS;

/// Most cameras of a group that are looked at to name what happened: those with the most evidence.
const LOOKED_AT: usize = 8;

/// How q is shared out among the families of hypotheses; the shares add up to 1.
pub(crate) struct Shares {
    pub(crate) cameras: f64,
    sites: f64,
    models: f64,
    fleet: f64,
}

/// Cameras get the most: they are the most hypotheses, and the rest is seen by many cameras at once.
pub(crate) const SHARES: Shares = Shares { cameras: 0.5, sites: 0.25, models: 0.15, fleet: 0.1 };

/// Cameras that can change together.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Together {
    Site(Name),
    Model(Model),
    Fleet,
}

impl Together {
    const fn scope(&self) -> Scope {
        match self {
            Self::Site(_) => Scope::Site,
            Self::Model(_) => Scope::Model,
            Self::Fleet => Scope::Fleet,
        }
    }

    /// What of its cameras is judged.
    const fn subject(&self) -> Subject {
        match self {
            Self::Site(_) | Self::Fleet => Subject::Picture,
            Self::Model(_) => Subject::Model,
        }
    }

    fn has(&self, id: &CameraId, camera: &Camera) -> bool {
        match self {
            Self::Site(site) => id.device.site == *site,
            Self::Model(model) => camera.state.model.as_ref() == Some(model),
            Self::Fleet => true,
        }
    }

    /// The group that an alert speaks of.
    fn of(alert: &Alert) -> Option<Self> {
        match alert.scope {
            Scope::Camera => None,
            Scope::Site => Some(Self::Site(alert.camera.device.site.clone())),
            Scope::Model => alert.group.as_ref()?.model.clone().map(Self::Model),
            Scope::Fleet => Some(Self::Fleet),
        }
    }
}

/// The p-value that a camera's evidence against its own past comes to in an epoch.
fn p_value(camera: &Camera, epoch: i64, subject: Subject) -> Option<f64> {
    let evidence = camera.state.evidence.as_ref().filter(|evidence| evidence.epoch == epoch)?;
    Some(1.0 / evidence.against_past(subject))
}

/// The p-value of "at most half of these cameras have changed"; those without a baseline do not count, those that are silent do.
fn changed_together<'a>(cameras: impl Iterator<Item = &'a Camera>, epoch: i64, subject: Subject) -> (f64, usize) {
    let (mut p, mut watched) = (Vec::new(), 0);
    for camera in cameras.filter(|camera| camera.baseline.is_some()) {
        watched += 1;
        p.extend(p_value(camera, epoch, subject));
    }
    (majority(&mut p, watched), watched)
}

/// The groups that have changed in an epoch, at level `q` over all three families.
fn discovered(sites: &BTreeMap<Name, Site>, epoch: i64, q: f64) -> Vec<Together> {
    let of_sites: Vec<(&Name, f64, usize)> = sites
        .iter()
        .map(|(name, site)| {
            let (p, watched) = changed_together(site.cameras().values(), epoch, Subject::Picture);
            (name, p, watched)
        })
        .filter(|(.., watched)| *watched > 0)
        .collect();
    let mut found = Vec::new();
    let mut p: Vec<f64> = of_sites.iter().map(|(_, p, _)| *p).collect();
    if p.len() >= ENOUGH_PEERS && majority(&mut p, of_sites.len()) <= SHARES.fleet * q {
        found.push(Together::Fleet);
    }
    let large = of_sites.into_iter().filter(|(.., watched)| *watched >= ENOUGH_PEERS);
    found.extend(family(large.map(|(name, p, _)| (Together::Site(name.clone()), p)).collect(), SHARES.sites * q));

    let mut cohorts: BTreeMap<(&Name, &Name), Vec<&Camera>> = BTreeMap::new();
    for camera in sites.values().flat_map(|site| site.cameras().values()) {
        if let Some(Model { name, version }) = &camera.state.model {
            cohorts.entry((name, version)).or_default().push(camera);
        }
    }
    let of_models = cohorts.into_iter().filter_map(|((name, version), cameras)| {
        let (p, watched) = changed_together(cameras.into_iter(), epoch, Subject::Model);
        let model = Model { name: name.clone(), version: version.clone() };
        (watched >= ENOUGH_PEERS).then_some((Together::Model(model), p))
    });
    found.extend(family(of_models.collect(), SHARES.models * q));
    found
}

/// Those of a family that Benjamini-Hochberg discovers.
fn family(hypotheses: Vec<(Together, f64)>, q: f64) -> Vec<Together> {
    let p: Vec<f64> = hypotheses.iter().map(|(_, p)| *p).collect();
    let Ok(discovered) = fdr::benjamini_hochberg_of(p.len(), &p, q) else { return Vec::new() };
    hypotheses
        .into_iter()
        .zip(discovered.rejected)
        .filter(|(_, rejected)| *rejected)
        .map(|((group, _), _)| group)
        .collect()
}

/// Of every feature what the middle one of several cameras shows.
fn median(comparisons: &[Vec<FeatureComparison>], subject: Subject) -> Vec<FeatureComparison> {
    let mut by_feature: BTreeMap<u8, Vec<FeatureComparison>> = BTreeMap::new();
    for comparison in comparisons.iter().flatten().filter(|comparison| comparison.feature.subject() == subject) {
        by_feature.entry(comparison.feature.number()).or_default().push(*comparison);
    }
    let middle = |mut of_cameras: Vec<FeatureComparison>| {
        of_cameras.sort_unstable_by(|a, b| a.scaled_shift.total_cmp(&b.scaled_shift));
        of_cameras.get(of_cameras.len() / 2).copied()
    };
    by_feature.into_values().filter_map(middle).collect()
}

impl Core {
    /// Raises what groups are discovered to have changed and have no alert yet. Cameras whose state changed by it go into `touched`.
    pub(super) fn raise_groups<H: History>(
        &mut self,
        epoch: i64,
        newest: (&CameraId, &CountedWindow),
        history: &H,
        touched: &mut BTreeSet<CameraId>,
    ) -> Result<Vec<Change>, H::Error> {
        let mut changes = Vec::new();
        for group in discovered(&self.sites, epoch, self.q_in(epoch)) {
            let told = |alert: &Alert| {
                let open = Together::of(alert);
                open.as_ref() == Some(&group) || (open == Some(Together::Fleet) && matches!(group, Together::Site(_)))
            };
            let known: BTreeSet<u64> = self
                .all_cameras()
                .filter(|(id, camera)| group.has(id, camera))
                .flat_map(|(_, camera)| camera.state.shared.iter().map(|open| open.id))
                .collect();
            if known.iter().filter_map(|id| self.alert(*id)).any(told) {
                continue;
            }
            changes.extend(self.raise_group(&group, epoch, newest, history, touched)?);
        }
        Ok(changes)
    }

    fn raise_group<H: History>(
        &mut self,
        group: &Together,
        epoch: i64,
        newest: (&CameraId, &CountedWindow),
        history: &H,
        touched: &mut BTreeSet<CameraId>,
    ) -> Result<Vec<Change>, H::Error> {
        let (subject, q) = (group.subject(), self.q_in(epoch));
        let watched: Vec<(&CameraId, f64)> = self
            .all_cameras()
            .filter(|(id, camera)| camera.baseline.is_some() && group.has(id, camera))
            .map(|(id, camera)| (id, p_value(camera, epoch, subject).unwrap_or(1.0)))
            .collect();
        let cameras = watched.len();
        let mut changed: Vec<(CameraId, f64)> =
            watched.into_iter().filter(|(_, p)| *p <= q).map(|(id, p)| (id.clone(), p)).collect();
        changed.sort_by(|(_, a), (_, b)| a.total_cmp(b));

        let (mut looks, mut first_window, mut usual) = (Vec::new(), newest.1.window.start, 0);
        for (id, _) in changed.iter().take(LOOKED_AT) {
            let evidence = self.camera(id).and_then(|camera| camera.state.evidence.as_ref());
            let onset = evidence.and_then(|evidence| evidence.onset_against_past(subject));
            if let Some(look) = self.look(id, onset, newest, history)? {
                first_window = first_window.min(look.pooled.window.start);
                looks.push(look.comparisons);
                usual += usize::from(self.is_usual(id, self.lately(id, onset, newest, history)?, history)?);
            }
        }
        if 2 * usual > looks.len() {
            for (id, _) in changed {
                let evidence = self.camera_mut(&id).and_then(|camera| camera.state.evidence.as_mut());
                evidence.into_iter().for_each(|evidence| evidence.forgive_past(subject));
                touched.insert(id);
            }
            return Ok(Vec::new());
        }
        let diagnosis = diagnose::diagnose(&median(&looks, subject));
        let Some((first, _)) = changed.first() else { return Ok(Vec::new()) };
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let at = newest.1.window.end();
        let note = format!("{} of {cameras} cameras have changed together: {}", changed.len(), diagnosis.explanation);
        let alert = Alert {
            id: self.number(),
            camera: first.clone(),
            scope: group.scope(),
            unattributed: false,
            group: Some(Group {
                changed: count(changed.len()),
                cameras: count(cameras),
                model: if let Together::Model(model) = group { Some(model.clone()) } else { None },
            }),
            cause: diagnosis.cause,
            severity: diagnosis.severity,
            state: AlertState::Alerting,
            first_window,
            raised_at: at,
            features: diagnosis.features,
            verdict: None,
            history: vec![entry(at, AlertState::Alerting, note)],
        };
        for (id, _) in changed {
            if let Some(camera) = self.camera_mut(&id) {
                camera.state.shared.push(OpenAlert::new(&alert, diagnosis.effect));
                touched.insert(id);
            }
        }
        let number = alert.id;
        let mut changes = vec![self.open(alert)];
        if *group == Together::Fleet {
            changes.extend(self.take_over(number, at, touched));
        }
        Ok(changes)
    }

    /// Closes what sites were told before it was seen that the whole fleet has changed.
    fn take_over(&mut self, fleet: u64, at: UnixMillis, touched: &mut BTreeSet<CameraId>) -> Vec<Change> {
        let told: BTreeSet<u64> =
            self.all_cameras().flat_map(|(_, camera)| camera.state.shared.iter().map(|open| open.id)).collect();
        let mut changes = Vec::new();
        for number in told {
            let Some(alert) = self.alert(number).filter(|alert| alert.scope == Scope::Site) else { continue };
            if alert.state != AlertState::Resolved {
                let (severity, note) = (alert.severity, format!("part of what alert {fleet} says of the whole fleet"));
                changes.extend(self.change(number, severity, entry(at, AlertState::Resolved, note)));
            }
            for (id, camera) in self.all_cameras_mut() {
                let before = camera.state.shared.len();
                camera.state.shared.retain(|open| open.id != number);
                if camera.state.shared.len() < before {
                    touched.insert(id.clone());
                }
            }
        }
        changes
    }

    /// Counts a camera's window as quiet or loud for the groups it changed with. An alert is over when more than half of its cameras are
    /// as before, and is open again when more than half have changed again.
    pub(super) fn follow_groups(
        &mut self,
        id: &CameraId,
        window: Window,
        comparisons: &[FeatureComparison],
        touched: &mut BTreeSet<CameraId>,
    ) -> Vec<Change> {
        let Some(camera) = self.camera_mut(id) else { return Vec::new() };
        let mut seen = Vec::with_capacity(camera.state.shared.len());
        for open in &mut camera.state.shared {
            let streak = open.observe(comparisons, window.length);
            seen.push((open.id, streak, open.effect, open.lasted));
        }
        let mut changes = Vec::new();
        for (number, streak, effect, lasted) in seen {
            let Some(alert) = self.alert(number) else { continue };
            let grave =
                severity(effect, Persistence::from_millis(lasted), leaves_nothing(alert.cause)).max(alert.severity);
            let over = alert.state == AlertState::Resolved;
            let turned = (if over { -STREAK } else { STREAK }) == streak && self.most(number, over);
            let (state, note) = match (turned, over) {
                (true, false) => (AlertState::Resolved, String::from("more than half of its cameras are as before")),
                (true, true) => (AlertState::Alerting, String::from("more than half of its cameras changed again")),
                (false, _) if grave > alert.severity => {
                    (alert.state, format!("graver, for it has lasted {} minutes", lasted / 60_000))
                }
                (false, _) => continue,
            };
            if turned {
                touched.extend(self.resolve(number, state == AlertState::Resolved));
            }
            changes.extend(self.change(number, grave, entry(window.end(), state, note)));
        }
        changes
    }

    /// Whether more than half of the cameras of an alert are quiet, or loud.
    fn most(&self, alert: u64, loud: bool) -> bool {
        let streaks =
            || self.all_cameras().flat_map(|(_, camera)| &camera.state.shared).filter(|open| open.id == alert);
        let turned = streaks().filter(|open| if loud { open.streak <= -STREAK } else { open.streak >= STREAK });
        2 * turned.count() > streaks().count()
    }

    /// Notes at all cameras of an alert whether it is over; returns them.
    pub(super) fn resolve(&mut self, alert: u64, over: bool) -> Vec<CameraId> {
        let mut noted = Vec::new();
        for (id, camera) in self.all_cameras_mut() {
            if let Some(open) = camera.state.shared.iter_mut().find(|open| open.id == alert) {
                open.resolved = over;
                noted.push(id.clone());
            }
        }
        noted
    }
}
