//! The gate under loom: `src/pool/gate.rs` itself, in every interleaving that the memory model allows.
//!
//! loom takes a `SeqCst` access for an `AcqRel` one, which is weaker than what the processor gives, and would report a race
//! that cannot happen. Every access of the gate that matters is `SeqCst`, so the model puts a `SeqCst` fence, which loom does
//! know, on both sides of each.

#[allow(dead_code, reason = "the model uses a part of the gate")]
#[path = "../src/pool/gate.rs"]
mod gate;

mod sync {
    pub(super) use loom::sync::atomic::Ordering;
    use loom::sync::atomic::fence;

    fn fenced<T>(order: Ordering, access: impl FnOnce() -> T) -> T {
        if order != Ordering::SeqCst {
            return access();
        }
        fence(order);
        let result = access();
        fence(order);
        result
    }

    #[derive(Debug)]
    pub(super) struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub(super) fn new(value: bool) -> Self {
            Self(loom::sync::atomic::AtomicBool::new(value))
        }

        pub(super) fn load(&self, order: Ordering) -> bool {
            fenced(order, || self.0.load(order))
        }

        pub(super) fn store(&self, value: bool, order: Ordering) {
            fenced(order, || self.0.store(value, order));
        }
    }

    #[derive(Debug)]
    pub(super) struct AtomicUsize(loom::sync::atomic::AtomicUsize);

    impl AtomicUsize {
        pub(super) fn new(value: usize) -> Self {
            Self(loom::sync::atomic::AtomicUsize::new(value))
        }

        pub(super) fn load(&self, order: Ordering) -> usize {
            fenced(order, || self.0.load(order))
        }

        pub(super) fn fetch_add(&self, value: usize, order: Ordering) -> usize {
            fenced(order, || self.0.fetch_add(value, order))
        }

        pub(super) fn fetch_sub(&self, value: usize, order: Ordering) -> usize {
            fenced(order, || self.0.fetch_sub(value, order))
        }
    }
}

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use loom::thread;

/// What the model asks of a gate.
trait Admission: Send + Sync + 'static {
    fn new(workers: usize) -> Self;
    fn claim(&self, worker: usize) -> bool;
    fn release(&self, worker: usize);
    fn close(&self);
    fn inflight(&self) -> usize;
}

impl Admission for gate::Gate {
    fn new(workers: usize) -> Self {
        Self::new(workers)
    }

    fn claim(&self, worker: usize) -> bool {
        self.claim(worker)
    }

    fn release(&self, worker: usize) {
        self.release(worker);
    }

    fn close(&self) {
        self.close();
    }

    fn inflight(&self) -> usize {
        self.inflight()
    }
}

/// The wrong order: looks whether the gate is open, then counts.
struct CheckThenCount {
    closed: sync::AtomicBool,
    inflight: Vec<sync::AtomicUsize>,
}

impl Admission for CheckThenCount {
    fn new(workers: usize) -> Self {
        let inflight = (0..workers).map(|_| sync::AtomicUsize::new(0)).collect();
        Self { closed: sync::AtomicBool::new(false), inflight }
    }

    fn claim(&self, worker: usize) -> bool {
        if self.closed.load(SeqCst) {
            return false;
        }
        self.inflight[worker].fetch_add(1, SeqCst);
        true
    }

    fn release(&self, worker: usize) {
        self.inflight[worker].fetch_sub(1, SeqCst);
    }

    fn close(&self) {
        self.closed.store(true, SeqCst);
    }

    fn inflight(&self) -> usize {
        self.inflight.iter().map(|slot| slot.load(SeqCst)).sum()
    }
}

/// Workers that claim, use and release a node, and a controller that closes it and stops it once it counts nothing.
fn model<G: Admission>(workers: usize, claims: usize) {
    let mut builder = loom::model::Builder::new();
    // More than this many involuntary switches in one run find nothing new here, and cost minutes.
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let gate = Arc::new(G::new(workers));
        let stopped = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                let (gate, stopped, served) = (Arc::clone(&gate), Arc::clone(&stopped), Arc::clone(&served));
                thread::spawn(move || {
                    for _ in 0..claims {
                        if gate.claim(worker) {
                            assert!(!stopped.load(SeqCst), "a claim holds on a node that was stopped");
                            served.fetch_add(1, SeqCst);
                            gate.release(worker);
                        }
                    }
                })
            })
            .collect();
        gate.close();
        if gate.inflight() == 0 {
            stopped.store(true, SeqCst);
            let before = served.load(SeqCst);
            for thread in threads {
                thread.join().expect("a worker without a panic");
            }
            assert_eq!(served.load(SeqCst), before, "work was done on a node that was stopped");
        } else {
            for thread in threads {
                thread.join().expect("a worker without a panic");
            }
        }
        assert_eq!(gate.inflight(), 0, "every claim was given back");
        assert!(!gate.claim(0), "a closed gate stays closed");
    });
}

#[test]
fn no_claim_holds_on_a_node_that_was_seen_vacant() {
    model::<gate::Gate>(2, 1);
}

#[test]
fn nor_when_a_worker_comes_back_for_more() {
    model::<gate::Gate>(1, 3);
}

#[test]
fn the_model_catches_a_gate_that_checks_before_it_counts() {
    let caught = catch_unwind(AssertUnwindSafe(|| model::<CheckThenCount>(2, 1)));
    assert!(caught.is_err(), "the model lets the wrong order pass, so it proves nothing about the right one");
}
