//! JPEG in, alerts out: agent's decoder, features and windows, aggregator's core.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;

use driftglass_agent::decode::Decoder;
use driftglass_agent::feature::CameraState;
use driftglass_agent::window::{CameraWindow, Place, Scratch};
use driftglass_aggregator::alert::Alert;
use driftglass_aggregator::baseline::Tolerances;
use driftglass_aggregator::decision::{Change, Core, CountedWindow, Dependence, History, Settings};
use driftglass_aggregator::ledger::Decide;
use driftglass_protocol::id::CameraId;
use driftglass_protocol::unit::{Millis, UnixMillis};

/// Windows that half a clip is cut into.
pub(crate) const LEARNING: usize = 40;

struct Kept(Vec<CountedWindow>);

impl History for Kept {
    type Error = Infallible;
    fn windows(&self, _: &CameraId, span: Range<UnixMillis>, limit: usize) -> Result<Vec<CountedWindow>, Infallible> {
        let later = self.0.iter().filter(|window| span.contains(&window.window.start)).count();
        Ok(self.0[self.0.len() - later.min(limit)..].to_vec())
    }
}

/// Watches one camera and returns what was alerted.
pub(crate) fn decide(
    frames: impl Iterator<Item = (UnixMillis, Vec<u8>)>,
    length: Millis,
    learning: Millis,
    epoch: Millis,
) -> Vec<Alert> {
    let id: CameraId = "site/gateway/camera".parse().expect("a camera id");
    let mut core = Core::new(Settings {
        q: 0.1,
        dependence: Dependence::Positive,
        budget: None,
        epoch,
        learning,
        tolerances: Tolerances::CATALOGUE,
    });
    let (mut kept, mut alerts) = (Kept(Vec::new()), BTreeMap::new());
    let (mut decoder, mut state, mut scratch) = (Decoder::new(), CameraState::new(), Scratch::default());
    let mut window = Box::new(CameraWindow::new(length, None, None));
    let mut observe = |window: &mut CameraWindow, kept: &mut Kept| {
        let Some(summary) = window.close(&id.camera, None, &mut scratch) else { return };
        let counted = CountedWindow::from(&summary);
        let Ok(changes) = core.observe(&id, &counted, kept);
        kept.0.push(counted);
        for change in changes {
            if let Change::Alert(alert) = change {
                alerts.entry(alert.id).or_insert(*alert);
            }
        }
    };
    for (time, jpeg) in frames {
        let values = state.observe(&decoder.measure(&jpeg).expect("decodes"));
        if window.place(time) == Place::AfterOpen {
            observe(&mut window, &mut kept);
        }
        assert_eq!(window.add(&values, time), Place::Here);
    }
    observe(&mut window, &mut kept);
    alerts.into_values().collect()
}
