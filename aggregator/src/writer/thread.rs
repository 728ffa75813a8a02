//! The thread: gather, do, commit, answer.

use std::sync::mpsc::Receiver;

use driftglass_protocol::session::RefuseReason;
use driftglass_protocol::unit::UnixMillis;
use tokio::sync::{broadcast, watch};

use super::group::{Command, Queued, gather};
use super::{Progress, Settings};
use crate::ledger::{Decide, Event, Outcome, enter, judge_alert, obey};
use crate::store::{Batch, Registry, Saved, Store, StoreError};

/// Windows and tombstones forgotten in one step.
const FORGET_STEP: u32 = 512;

pub(super) struct WriterThread<S, D, F, C> {
    pub(super) store: S,
    /// `None` after a failure, until it has been restored.
    pub(super) core: Option<D>,
    pub(super) fresh: F,
    pub(super) clock: C,
    pub(super) settings: Settings,
    pub(super) commands: Receiver<Queued>,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) progress: watch::Sender<Progress>,
}

/// What a group did, known before its commit.
struct Done {
    events: Vec<Event>,
    accepted: u64,
}

impl<S, D: Decide, F: Fn() -> D, C: Fn() -> UnixMillis> WriterThread<S, D, F, C>
where
    S: Store + 'static,
    for<'a> S::Batch<'a>: Registry,
{
    pub(super) fn run(mut self) {
        while let Some(mut group) = gather(&self.commands, &self.settings) {
            match self.commit(&mut group) {
                Ok(done) => self.succeed(group, done),
                Err(error) => self.fail(group, &error),
            }
        }
    }

    fn commit(&mut self, group: &mut [Queued]) -> Result<Done, StoreError> {
        let now = (self.clock)();
        let core = match &mut self.core {
            Some(core) => core,
            none => none.insert(restore(&mut self.store, &self.fresh)?),
        };
        let mut done = Done { events: Vec::new(), accepted: 0 };
        let mut batch = self.store.begin()?;
        for Queued { command, .. } in group {
            match command {
                Command::Submit { device, frame, answer } => {
                    let outcome = enter(&mut batch, core, device, frame, now, &mut done.events)?;
                    done.accepted += u64::from(matches!(outcome, Outcome::Accepted(_)));
                    answer.set(outcome);
                }
                Command::Mark { device, answer } => answer.set(Some(batch.mark(device)?)),
                Command::Hello { hello, answer } => answer.set(Some(batch.greet(hello, now)?)),
                Command::Forget { before, answer } => answer.set(Some(batch.forget_before(*before, FORGET_STEP)?)),
                Command::Judge { alert, judgement, answer } => {
                    let judged = judge_alert(&mut batch, core, *alert, judgement, now, &mut done.events)?;
                    answer.set(Some(judged.map(Box::new)));
                }
                Command::Order { camera, order, answer } => {
                    answer.set(Some(obey(&mut batch, core, camera, order, now, &mut done.events)?));
                }
                Command::Identity { task } => task.run(&mut batch, now)?,
            }
        }
        batch.commit()?;
        Ok(done)
    }

    fn succeed(&self, group: Vec<Queued>, done: Done) {
        let mut recovered = false;
        self.progress.send_modify(|progress| {
            progress.commits += 1;
            progress.accepted += done.accepted;
            // Only a stored record proves that there is room again: a greeting changes a row in place.
            recovered = !progress.healthy && done.accepted > 0;
            progress.healthy |= recovered;
        });
        if recovered {
            tracing::info!("the store accepts records again");
        }
        for event in done.events {
            // Nobody listening is no failure.
            drop(self.events.send(event));
        }
        for queued in group {
            queued.command.answer();
        }
    }

    /// Nothing of the group happened: everybody is told so, and the core forgets it.
    fn fail(&mut self, group: Vec<Queued>, error: &StoreError) {
        self.core = None;
        let mut was_healthy = false;
        self.progress.send_modify(|progress| {
            progress.failures += 1;
            was_healthy = std::mem::replace(&mut progress.healthy, false);
        });
        if was_healthy {
            tracing::error!(%error, "the store does not accept records; devices keep theirs and will send them again");
        }
        // The marks that are durable, where they can still be read.
        let batch = self.store.begin().ok();
        for Queued { command, .. } in group {
            match command {
                Command::Submit { device, answer, .. } => {
                    let expected_after = batch.as_ref().and_then(|batch| batch.mark(&device).ok()).unwrap_or_default();
                    answer.send_instead(Outcome::Refused { reason: RefuseReason::Unavailable, expected_after });
                }
                Command::Mark { answer, .. } => answer.send_instead(None),
                Command::Hello { answer, .. } => answer.send_instead(None),
                Command::Forget { answer, .. } => answer.send_instead(None),
                Command::Judge { answer, .. } => answer.send_instead(None),
                Command::Order { answer, .. } => answer.send_instead(None),
                Command::Identity { task } => task.fail(),
            }
        }
    }
}

/// A core as it was after the last commit.
pub(crate) fn restore<S: Store, D: Decide>(store: &mut S, fresh: &impl Fn() -> D) -> Result<D, StoreError> {
    let mut core = fresh();
    store.restore(&mut |saved| match saved {
        Saved::Camera { camera, state, baseline } => {
            let baseline = baseline.as_ref().map(|(version, bytes)| (*version, bytes.as_slice()));
            if let Err(error) = core.restore(camera.clone(), &state, baseline) {
                // One camera that must learn anew is better than a fleet that is not watched.
                tracing::error!(%camera, %error, "the kept state cannot be taken up; the camera begins afresh");
            }
        }
        Saved::Alert(alert) => core.restore_alert(alert),
        Saved::LastAlert(id) => core.set_next_alert_id(id.saturating_add(1)),
    })?;
    Ok(core)
}
