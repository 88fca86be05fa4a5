//! A call's place in the worker's table, from its first moment to its last.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use http::{Method, Uri};

use super::hints::Hints;
use super::{Call, Stage};
use crate::model::WorkKind;
use crate::proxy::front::Front;
use crate::proxy::pace::Pace;
use crate::proxy::worker::Worker;

/// A call's place in the worker's table; leaving it ends the call.
#[derive(Debug)]
pub struct Registered {
    worker: Rc<Worker>,
    place: usize,
    call: Rc<Call>,
}

impl Registered {
    /// Enters a new call. `task`: the one that runs it, if it is not the connection's.
    pub fn new(worker: &Rc<Worker>, front: &Rc<Front>, task: Option<Waker>, method: Method, uri: Uri) -> Self {
        let started = Instant::now();
        // A stream counts itself: it lasts longer than the call.
        if task.is_none() {
            front.begin();
        }
        let call = Rc::new(Call {
            front: Rc::clone(front),
            task,
            started,
            method,
            uri,
            kind: Cell::new(WorkKind::Request),
            stage: Cell::new(Stage::Free),
            limit: Cell::new(Duration::ZERO),
            restarted: Cell::new(true),
            node: RefCell::new(None),
            upstream: RefCell::new(None),
            pieces: Cell::new(0),
            awaits_client: Cell::new(false),
            client_limit: Cell::new(Duration::MAX),
            pace: Pace::default(),
            entry: RefCell::new(None),
            sent: Cell::new(0),
            ticket: RefCell::new(None),
            verdict: Cell::new(None),
            cut: Cell::new(None),
            deadline: Cell::new(None),
            was_cut: Cell::new(false),
            patience: RefCell::new(None),
            shielded: Cell::new(false),
            held_since: Cell::new(None),
            wants_body: Cell::new(false),
            hints: Hints::default(),
            client_stalls: Cell::new(false),
            killed: Cell::new(false),
            beat: Cell::new(0),
            moved: Cell::new(started),
        });
        let place = worker.calls.borrow_mut().insert(Rc::clone(&call));
        worker.stats().begun.add_one();
        Self { worker: Rc::clone(worker), place, call }
    }

    /// The call itself, for those who outlast its place.
    pub fn shared(&self) -> &Rc<Call> {
        &self.call
    }
}

impl std::ops::Deref for Registered {
    type Target = Call;

    fn deref(&self) -> &Call {
        &self.call
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.worker.calls.borrow_mut().try_remove(self.place);
        self.worker.stats().over.add_one();
        // The claim goes with the call: nothing that still holds the `Rc` may keep a node open.
        self.call.set_node(None);
        *self.call.ticket.borrow_mut() = None;
        if let Some(entry) = self.call.entry.take() {
            entry.leave(self.call.kind(), self.call.pace.came(), self.call.sent.get());
        }
        if !self.call.is_stream() {
            self.call.front.end();
        }
    }
}
