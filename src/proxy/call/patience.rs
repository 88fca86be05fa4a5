//! How long a version may take to begin an answer while one is on trial: `rollout.guard.patience`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::super::claim::Permit;
use super::super::view::LocalNode;
use super::super::worker::TICK;
use super::{Call, Stage, Verdict};
use crate::model::FailureKind;

/// When the answer to a try should have begun, and what happens then.
#[derive(Debug)]
pub(super) struct Patience {
    until: Instant,
    time: Duration,
    /// The try is given up then: the old version will be asked.
    gives_up: bool,
    /// Which worker: whose counters of the node.
    worker: usize,
    /// Raised when the guard was told.
    overdue: Rc<Cell<bool>>,
}

impl Call {
    /// Told by the handler at the beginning of a try.
    pub fn begin_patience(&self, now: Instant, time: Duration, gives_up: bool, permit: &Permit) {
        let (worker, overdue) = (permit.worker(), permit.overdue());
        // A time beyond all clocks never passes.
        let patience = now.checked_add(time).map(|until| Patience { until, time, gives_up, worker, overdue });
        let patience = patience.map(Box::new);
        *self.patience.borrow_mut() = patience;
    }

    /// Told by the handler at the end of a try.
    pub fn end_patience(&self) {
        *self.patience.borrow_mut() = None;
    }

    /// The time is over, whatever it was: a copy is given up.
    pub fn expire_patience(&self) {
        let until = self.patience.borrow().as_ref().map(|patience| patience.until);
        if let Some(until) = until {
            self.check_patience(until);
        }
    }

    /// Told by the handler when the old version is asked in place of the one on trial.
    pub fn note_shielded(&self, failed: &Rc<LocalNode>) {
        self.shielded.set(true);
        self.note(|entry| entry.note_shielded(failed));
    }

    /// Whether the version on trial failed it, and the old one was asked.
    pub fn was_shielded(&self) -> bool {
        self.shielded.get()
    }

    /// The watchdog's look.
    pub(super) fn check_patience(&self, now: Instant) {
        let stage = self.stage.get();
        let mut kept = self.patience.borrow_mut();
        let Some(patience) = kept.as_mut() else { return };
        if self.awaits_client.get() {
            // It is the client who takes so long: the node's time begins when it has everything, which may be just before the next look.
            if let Some(until) = now.checked_add(patience.time.saturating_add(TICK)) {
                patience.until = until;
            }
            return;
        }
        let Some(patience) = kept.take_if(|patience| now >= patience.until) else { return };
        if !matches!(stage, Stage::Connect | Stage::Response) {
            return;
        }
        if let Some(local) = &*self.node.borrow() {
            let stats = local.node.stats(patience.worker);
            stats.answered.add_one();
            stats.failed[FailureKind::Timeout as usize].add_one();
            patience.overdue.set(true);
        }
        let gives_up = patience.gives_up;
        if gives_up && self.verdict.get().is_none() {
            self.verdict.set(Some(Verdict::TimedOut(stage)));
            self.wake();
        }
    }
}
