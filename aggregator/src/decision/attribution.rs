//! The camera, or its whole site? Where there are too few cameras for peers to take off what befalls a site.
//!
//! With [`ENOUGH_PEERS`] cameras and more that is decided before anything is raised (`crate::evidence::peers`). With fewer the alert says
//! what is known: a camera that is alone may always stand for its site, and so may one of which half of the others have changed as well.
//!
//! Deliberately absent: peers borrowed from other sites. What moves a site (its light, its weather, its power) does not move another, so
//! cameras elsewhere take nothing of it off; what moves all sites is told of the fleet, and what comes every day is known from other days.

use driftglass_protocol::feature::Subject;
use driftglass_protocol::id::CameraId;

use super::camera::Camera;
use super::site::Site;
use crate::evidence::peers::ENOUGH_PEERS;

/// Evidence against its own past from which on one of the others counts as changed: by chance, one in twenty (Ville).
const CHANGED: f64 = 20.0;

/// The other cameras that are watched at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Company {
    others: usize,
    changed: usize,
}

impl Company {
    /// Of a camera in an epoch.
    pub(super) fn of(camera: &CameraId, site: &Site, epoch: i64) -> Self {
        let others = site.cameras().iter().filter(|(id, other)| *id != camera && other.baseline.is_some());
        others.fold(Self { others: 0, changed: 0 }, |company, (_, other)| Self {
            others: company.others + 1,
            changed: company.changed + usize::from(has_changed(other, epoch)),
        })
    }

    /// Whether what was found of the camera may be its site's.
    pub(super) const fn leaves_it_open(self) -> bool {
        self.others + 1 < ENOUGH_PEERS && 2 * self.changed >= self.others
    }

    /// The same for people; `None` where peers have answered it.
    pub(super) fn note(self) -> Option<String> {
        let Self { others, changed } = self;
        if others + 1 >= ENOUGH_PEERS {
            return None;
        }
        let mut said = match (others, changed) {
            (0, _) => "no other camera is watched here".to_owned(),
            (1, 0) => "the other camera here has not changed".to_owned(),
            (1, _) => "the other camera here has changed too".to_owned(),
            (_, 0) => format!("none of the {others} others here has changed"),
            _ => format!("{changed} of the {others} others here changed too"),
        };
        if self.leaves_it_open() {
            said.push_str(", so it may be the whole site");
        }
        Some(said)
    }
}

fn has_changed(camera: &Camera, epoch: i64) -> bool {
    let evidence = camera.state.evidence.as_ref().filter(|evidence| evidence.epoch == epoch);
    let against = |subject| evidence.is_some_and(|evidence| evidence.against_past(subject) > CHANGED);
    against(Subject::Picture) || against(Subject::Model)
}
