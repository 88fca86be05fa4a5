//! The claim/drain protocol: **count, then check the gate**.
//!
//! A worker may read an old snapshot, lose the processor, and use a node after it was declared drained; swapping a
//! pointer alone cannot prevent that. So a claim first counts itself and then looks whether the gate is still open, while
//! the controller first closes the gate and then reads the counts:
//!
//! ```text
//! worker (no await in between)              controller
//!   inflight[worker] += 1     SeqCst          publish a snapshot without the node
//!   closed? → undo, pick again  SeqCst        closed = true            SeqCst
//!   else the claim holds                      wait until all inflight are 0  SeqCst
//! ```
//!
//! In the total order of these four operations either the claim's count precedes the controller's read, which then
//! waits for it, or the closing precedes the claim's check, which then fails. Check-then-count has neither property.
//! `tests/gate_loom.rs` runs this very file under loom.
//!
//! A gate never reopens: a node that comes back is a new node with a new gate.

use crossbeam_utils::CachePadded;

// In the crate the real atomics; in the loom test its model of them.
use super::sync::{AtomicBool, AtomicUsize, Ordering};

/// Counts the work on one node, worker by worker, and refuses new work once closed.
#[derive(Debug)]
pub struct Gate {
    /// Written once, by the controller.
    closed: AtomicBool,
    /// Each slot is written by its own worker only, so that counting shares no cache line between cores.
    inflight: Box<[CachePadded<AtomicUsize>]>,
}

impl Gate {
    /// An open gate for this many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            closed: AtomicBool::new(false),
            inflight: (0..workers).map(|_| CachePadded::new(AtomicUsize::new(0))).collect(),
        }
    }

    /// Claims the node for one piece of work. `false`: the gate is closed and nothing is counted.
    ///
    /// Each `true` must be followed by one [`Gate::release`] with the same worker.
    pub fn claim(&self, worker: usize) -> bool {
        let slot = &self.inflight[worker];
        slot.fetch_add(1, Ordering::SeqCst);
        if self.closed.load(Ordering::SeqCst) {
            slot.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// Ends a claim. `true` if the gate is closed, and so somebody may be waiting for this.
    pub fn release(&self, worker: usize) -> bool {
        self.inflight[worker].fetch_sub(1, Ordering::SeqCst);
        self.closed.load(Ordering::SeqCst)
    }

    /// Refuses every claim from now on. Call it after a snapshot without the node was published.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Whether the gate is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Work in progress over all workers. Zero on a closed gate is final, but for claims that are about to undo themselves.
    pub fn inflight(&self) -> usize {
        self.inflight.iter().map(|slot| slot.load(Ordering::SeqCst)).sum()
    }

    /// Work in progress on one worker; cheap, for balancing.
    pub fn inflight_on(&self, worker: usize) -> usize {
        self.inflight[worker].load(Ordering::Relaxed)
    }
}
