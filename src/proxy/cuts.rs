//! Ending work that outlived its time: when each piece ends, and what is told about it afterwards.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::call::{Call, Cut};
use crate::model::{Holder, WorkKind};
use crate::pool::{CutReason, CutSpec};

/// How long before the shutdown deadline streams and WebSockets are asked to end, at most.
const SHUTDOWN_SPREAD: Duration = Duration::from_secs(5);

/// The cuts that a worker has been told to make.
#[derive(Debug, Default)]
pub struct Cuts {
    drains: RefCell<Vec<Batch>>,
    shutdown: RefCell<Vec<Marked>>,
}

#[derive(Debug)]
struct Batch {
    node: u64,
    calls: Vec<Marked>,
    done: Vec<Holder>,
    reply: Option<oneshot::Sender<Vec<Holder>>>,
}

/// A call that was told to end, and what it was then.
#[derive(Debug)]
struct Marked {
    call: Rc<Call>,
    what: Holder,
}

impl Marked {
    fn new(call: Rc<Call>) -> Self {
        Self { what: call.describe(), call }
    }
}

impl Cuts {
    /// Tells these calls to end, each at a random moment within the spread.
    pub fn begin(&self, calls: Vec<Rc<Call>>, spec: CutSpec, random: &mut fastrand::Rng) {
        let now = Instant::now();
        for call in &calls {
            let at = now + spec.spread.mul_f64(random.f64());
            call.cut(Cut { at, by: at + spec.grace, reason: CutReason::Drain });
        }
        let calls = calls.into_iter().map(Marked::new).collect();
        let batch = Batch { node: spec.node, calls, done: Vec::new(), reply: Some(spec.reply) };
        self.drains.borrow_mut().push(batch);
        self.settle();
    }

    /// Tells every call when the process ends: requests at the deadline, what can end cleanly a little before it.
    pub fn begin_shutdown(&self, calls: Vec<Rc<Call>>, now: Instant, deadline: Duration, random: &mut fastrand::Rng) {
        let spread = SHUTDOWN_SPREAD.min(deadline / 2);
        for call in &calls {
            let early = if call.kind() == WorkKind::Request { Duration::ZERO } else { spread.mul_f64(random.f64()) };
            let at = now + deadline.saturating_sub(early);
            call.cut(Cut { at, by: now + deadline, reason: CutReason::Shutdown });
        }
        self.shutdown.borrow_mut().extend(calls.into_iter().map(Marked::new));
    }

    /// Answers for the batches whose last call has ended.
    pub fn settle(&self) {
        self.drains.borrow_mut().retain_mut(|batch| {
            let node = batch.node;
            let done = &mut batch.done;
            batch.calls.retain(|marked| {
                let goes_on = marked.call.is_at(node);
                // One that finished by itself in time, or went on at another node, was not cut.
                if !goes_on && marked.call.was_cut() {
                    done.push(marked.what.clone());
                }
                goes_on
            });
            if !batch.calls.is_empty() {
                return true;
            }
            if let Some(reply) = batch.reply.take() {
                let _ = reply.send(std::mem::take(done));
            }
            false
        });
    }

    /// What the shutdown has cut.
    pub fn take_shutdown(&self) -> Vec<Holder> {
        let marked = std::mem::take(&mut *self.shutdown.borrow_mut());
        marked.into_iter().filter(|marked| marked.call.was_cut()).map(|marked| marked.what).collect()
    }
}
