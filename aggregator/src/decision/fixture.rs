//! A history in memory, for tests of whatever asks the core.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;

use driftglass_protocol::id::CameraId;
use driftglass_protocol::unit::UnixMillis;

use super::{CountedWindow, History};

/// Windows kept in memory, as a store would hand them out.
pub(crate) struct Stored<'a>(pub(crate) &'a RefCell<BTreeMap<CameraId, Vec<CountedWindow>>>);

impl History for Stored<'_> {
    type Error = Infallible;
    fn windows(
        &self,
        camera: &CameraId,
        span: Range<UnixMillis>,
        limit: usize,
    ) -> Result<Vec<CountedWindow>, Infallible> {
        let all = self.0.borrow();
        let mut found: Vec<CountedWindow> = all
            .get(camera)
            .into_iter()
            .flatten()
            .filter(|window| span.contains(&window.window.start))
            .cloned()
            .collect();
        found.drain(..found.len().saturating_sub(limit));
        Ok(found)
    }
}
