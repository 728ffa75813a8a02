//! The drift score of every camera, for the metrics: computed when read, and again only where a window or a baseline is new.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use driftglass_protocol::id::CameraId;
use driftglass_protocol::unit::UnixMillis;

use crate::baseline::{Baseline, compare};
use crate::decision::CountedWindow;
use crate::metrics::CameraDrift;
use crate::store::StoreError;
use crate::store::embedded::{Camera, Page, Reader};

/// Windows that are "now", unless a request says otherwise.
pub(super) const CURRENT_WINDOWS: u32 = 5;
/// Cameras read at once.
const PAGE: u32 = 500;

/// Scores with what they were computed from.
#[derive(Debug)]
pub(super) struct DriftScores {
    max_cameras: usize,
    known: Mutex<HashMap<CameraId, Known>>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    windows: u64,
    newest: Option<UnixMillis>,
    baseline: u32,
    score: f64,
}

impl DriftScores {
    pub(super) fn new(max_cameras: usize) -> Self {
        Self { max_cameras, known: Mutex::default() }
    }

    /// The scores of all cameras that have a baseline; none where there are more cameras than allowed.
    pub(super) fn read(&self, reader: &Reader, cameras: u64) -> Result<Vec<CameraDrift>, StoreError> {
        if usize::try_from(cameras).unwrap_or(usize::MAX) > self.max_cameras {
            return Ok(Vec::new());
        }
        let mut scores = Vec::new();
        let mut page = Page { offset: 0, limit: PAGE };
        loop {
            let rows = reader.cameras(None, page)?;
            let count = rows.len();
            for camera in rows {
                if let Some(score) = self.score(reader, &camera)? {
                    scores.push(CameraDrift {
                        site: camera.id.device.site.to_string(),
                        device: camera.id.device.device.to_string(),
                        camera: camera.id.camera.to_string(),
                        model: camera
                            .model
                            .map(|model| format!("{}:{}", model.name, model.version))
                            .unwrap_or_default(),
                        score,
                    });
                }
            }
            if count < PAGE as usize || scores.len() >= self.max_cameras {
                return Ok(scores);
            }
            page.offset += u64::from(PAGE);
        }
    }

    fn score(&self, reader: &Reader, camera: &Camera) -> Result<Option<f64>, StoreError> {
        let Some(version) = camera.baseline_version else { return Ok(None) };
        let (windows, newest) = (camera.windows_total, camera.last_window.map(|window| window.start));
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&camera.id).copied();
        if let Some(known) = known
            && (known.windows, known.newest, known.baseline) == (windows, newest, version)
        {
            return Ok(Some(known.score));
        }
        let Some((_, baseline)) = reader.baseline(&camera.id)? else { return Ok(None) };
        let Some(current) = CountedWindow::sum(reader.newest_windows(&camera.id, CURRENT_WINDOWS)?) else {
            return Ok(None);
        };
        let comparisons = compare(&current, &decode(&baseline)?);
        let score = comparisons.iter().map(|comparison| comparison.distance).fold(0.0, f64::max);
        let known = Known { windows, newest, baseline: version, score };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(camera.id.clone(), known);
        Ok(Some(score))
    }
}

/// Reads a stored baseline.
///
/// # Errors
/// [`StoreError::Damaged`].
pub(super) fn decode(bytes: &[u8]) -> Result<Baseline, StoreError> {
    Baseline::from_bytes(bytes).map_err(|error| StoreError::Damaged { what: "a baseline", detail: error.to_string() })
}
