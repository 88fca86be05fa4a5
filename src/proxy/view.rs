//! A worker's own copy of what is serving: the snapshot behind a plain `Rc`, and for each node and service the state that
//! only this worker needs. Nothing here is shared with another thread, so nothing here is atomic.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::door;
use super::trial;
use super::upstream::Upstream;
use super::upstream::h2::Carriers;
use crate::model::ServiceName;
use crate::pool::stats::{NodeStats, ServiceShard};
use crate::pool::{Edge, Node, Router, ServiceStats, ServiceView, Snapshot};

/// A snapshot as this worker holds it. A request keeps the one it began with only as long as it chooses.
#[derive(Debug)]
pub struct View {
    /// What was published.
    pub snapshot: Arc<Snapshot>,
    /// By the index of the service, which is by name. Shared with the next view as long as no service comes or goes.
    locals: Rc<[Rc<ServiceLocal>]>,
}

/// What this worker remembers of a service from one snapshot to the next.
#[derive(Debug)]
pub struct ServiceLocal {
    name: ServiceName,
    /// What came of the requests to the service; this worker's part is written here.
    stats: Arc<ServiceStats>,
    /// This worker's requests to the service: the turn in the division between versions.
    turn: Cell<u32>,
    /// Replays that are still allowed.
    tokens: Cell<f64>,
    /// What its policies are carried out with, if it has any.
    pub door: door::Slot,
    /// What it copies to a version on trial.
    pub shadows: trial::Shadows,
    /// Round robin: this worker's requests to each slice. Empty under any other policy.
    rotations: RefCell<Vec<u32>>,
}

/// Replays that may happen whatever the traffic, for a burst such as the death of a node under load.
const RESERVE: f64 = 100.0;

impl View {
    /// The view of a new snapshot; what is known of services that stay is taken over.
    pub fn new(snapshot: Arc<Snapshot>, before: Option<&Self>, random: &mut fastrand::Rng) -> Self {
        // Another publication with the same routes is by far the most frequent. To look at ten thousand names then would
        // be felt by the requests that wait behind it.
        if let Some(before) = before
            && Arc::ptr_eq(&before.snapshot.router, &snapshot.router)
            && before.locals.len() == snapshot.services.len()
        {
            return Self { snapshot, locals: Rc::clone(&before.locals) };
        }
        let local = |(index, service): (usize, &Arc<ServiceView>)| {
            let name = &service.settings.name;
            let known = before.and_then(|before| before.local_at(index, name));
            // One that went and came back under its old name is another service.
            let known = known.filter(|known| Arc::ptr_eq(&known.stats, &service.stats));
            known.map_or_else(
                || {
                    let stats = Arc::clone(&service.stats);
                    let (turn, tokens) = (Cell::new(random.u32(..)), Cell::new(RESERVE));
                    let (name, rotations, door) = (name.clone(), RefCell::default(), door::Slot::default());
                    let shadows = trial::Shadows::new(random.u32(..));
                    Rc::new(ServiceLocal { name, stats, turn, tokens, door, shadows, rotations })
                },
                Rc::clone,
            )
        };
        let locals = snapshot.services.iter().enumerate().map(local).collect();
        Self { snapshot, locals }
    }

    /// Of the service with this name, which is probably still at this place.
    fn local_at(&self, index: usize, name: &ServiceName) -> Option<&Rc<ServiceLocal>> {
        self.locals.get(self.place_of(index, name)?)
    }

    fn place_of(&self, index: usize, name: &ServiceName) -> Option<usize> {
        if self.locals.get(index).is_some_and(|local| local.name == *name) {
            return Some(index);
        }
        self.locals.binary_search_by(|local| local.name.cmp(name)).ok()
    }

    /// The routing table.
    pub fn router(&self) -> &Router {
        &self.snapshot.router
    }

    /// What holds for every request.
    pub fn edge(&self) -> &Edge {
        &self.snapshot.edge
    }

    /// Where the service that was at `index` in another view is in this one.
    pub fn index_of(&self, index: usize, other: &Self) -> Option<usize> {
        self.place_of(index, &other.locals.get(index)?.name)
    }

    /// Calls all whom an operator keeps waiting.
    pub fn wake_held(&self) {
        for service in self.snapshot.services.iter().filter(|service| service.halt.is_some()) {
            service.hold.wake_all();
        }
    }

    /// A service, by the index that the router gave.
    pub fn service(&self, index: usize) -> Option<(&ServiceView, &Rc<ServiceLocal>)> {
        Some((self.snapshot.services.get(index)?, self.locals.get(index)?))
    }
}

impl ServiceLocal {
    /// The service's name.
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// A worker's counters of the service.
    pub fn stats(&self, worker: usize) -> Option<&ServiceShard> {
        self.stats.shard(worker)
    }

    /// The next turn.
    pub fn turn(&self) -> u32 {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        turn
    }

    /// The next turn in a slice. Workers begin at different places, or the first node would get the first request of each.
    pub fn rotation(&self, slice: usize) -> u32 {
        let mut rotations = self.rotations.borrow_mut();
        if rotations.len() <= slice {
            rotations.resize(slice + 1, self.turn.get());
        }
        let turn = rotations[slice];
        rotations[slice] = turn.wrapping_add(1);
        turn
    }

    /// A request came: a part of a replay is earned.
    pub fn earn(&self, budget: f64) {
        self.tokens.set((self.tokens.get() + budget).min(RESERVE));
    }

    /// Takes one replay out of the budget, if there is one.
    pub fn spend(&self) -> bool {
        let left = self.tokens.get() - 1.0;
        if left >= 0.0 {
            self.tokens.set(left);
        }
        left >= 0.0
    }
}

/// A node as this worker knows it: its connections, and whether it is worth trying.
#[derive(Debug)]
pub struct LocalNode {
    /// The node.
    pub node: Arc<Node>,
    /// Which worker this is.
    worker: usize,
    /// Idle connections, the most recently used last.
    #[expect(clippy::vec_box, reason = "a connection is boxed for its whole life; unboxing it would only move it")]
    idle: RefCell<Vec<Box<Upstream>>>,
    /// HTTP/2 connections.
    pub carriers: Carriers,
    /// Connections that are open or being opened; written by [`Slot`].
    open: Cell<usize>,
    /// Told when a connection comes free or is closed.
    pub freed: Notify,
    /// Failures to connect in a row, and until when it is tried last.
    trouble: Cell<Option<(u32, Instant)>>,
    /// When this worker first had something for it.
    since: Instant,
    /// When it was last seen to have closed a connection that had been idle for less than [`SHORT`].
    hung_up: Cell<Option<Instant>>,
}

/// A node that closes connections which were idle for less than this may do so at any moment: on a busy machine, a thread
/// waits as long for its turn.
const SHORT: Duration = Duration::from_secs(1);

/// How long a node is remembered for that. It may have been a restart.
const REMEMBERED: Duration = Duration::from_mins(1);

impl LocalNode {
    /// A node without connections.
    pub fn new(node: Arc<Node>, worker: usize) -> Rc<Self> {
        Rc::new(Self {
            node,
            worker,
            idle: RefCell::default(),
            carriers: Carriers::default(),
            open: Cell::new(0),
            freed: Notify::new(),
            trouble: Cell::new(None),
            since: Instant::now(),
            hung_up: Cell::new(None),
        })
    }

    /// This worker's counters of the node.
    pub fn stats(&self) -> &NodeStats {
        self.node.stats(self.worker)
    }

    /// Connections that are open or being opened.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// Takes the idle connection that was used last, if `usable` says so; the dead ones on the way are dropped.
    pub fn take_idle(&self, usable: impl Fn(&mut Upstream) -> Fitness) -> Option<Box<Upstream>> {
        // Nothing is kept here, and nothing allocated, unless connections belong to clients.
        let mut passed = Vec::new();
        let taken = loop {
            let Some(mut upstream) = self.idle.borrow_mut().pop() else { break None };
            match usable(&mut upstream) {
                Fitness::Fit => break Some(upstream),
                Fitness::TooOld => {
                    // Those below it are older still. It serves a request that may be sent twice.
                    self.idle.borrow_mut().push(upstream);
                    break None;
                }
                Fitness::OfAnother => passed.push(upstream),
                Fitness::Dead => {}
            }
        };
        self.idle.borrow_mut().extend(passed.into_iter().rev());
        taken
    }

    /// Keeps a connection for the next request; the oldest makes room if there are more than `most`.
    pub fn keep_idle(&self, upstream: Box<Upstream>, most: usize) {
        let surplus = {
            let mut idle = self.idle.borrow_mut();
            idle.push(upstream);
            (idle.len() > most).then(|| idle.remove(0))
        };
        // Dropped outside the borrow: a connection's end comes back to this node.
        drop(surplus);
        self.freed.notify_one();
    }

    /// Drops the idle connections that `expired` names.
    pub fn sweep(&self, expired: impl Fn(&mut Upstream) -> bool) {
        let dead: Vec<_> = {
            let mut idle = self.idle.borrow_mut();
            idle.extract_if(.., |upstream| expired(upstream)).collect()
        };
        drop(dead);
    }

    /// A connection could not be made: the node is tried last for a while, and the prober is told.
    pub fn failed(&self, now: Instant) {
        self.carriers.forget();
        let fails = self.trouble.get().map_or(0, |(fails, _)| fails) + 1;
        let pause = Duration::from_millis(100 << fails.min(6)).min(Duration::from_secs(5));
        self.trouble.set(Some((fails, now + pause)));
        self.node.raise_alarm();
    }

    /// It failed too often in a row: it is tried last for a while, and the prober is told.
    pub fn avoid(&self, until: Instant) {
        let fails = self.trouble.get().map_or(0, |(fails, _)| fails);
        self.trouble.set(Some((fails, until)));
        self.node.raise_alarm();
    }

    /// A connection was made, or an answer came after failures.
    pub fn recovered(&self) {
        self.trouble.set(None);
    }

    /// It has closed a connection that had been idle for this long.
    pub fn hung_up(&self, idle: Duration, now: Instant) {
        if idle < SHORT {
            self.hung_up.set(Some(now));
        }
    }

    /// Whether it can be trusted not to close a connection that was in use a moment ago. A node that is new here has yet to
    /// show how it does it.
    pub fn is_steady(&self, now: Instant) -> bool {
        let long_ago = |at: Instant, time| now.saturating_duration_since(at) >= time;
        long_ago(self.since, SHORT) && self.hung_up.get().is_none_or(|at| long_ago(at, REMEMBERED))
    }

    /// Whether a connection to it could not be made when it was last tried.
    pub fn has_trouble(&self) -> bool {
        self.trouble.get().is_some()
    }

    /// Whether it should be tried last.
    pub fn is_troubled(&self, now: Instant) -> bool {
        self.trouble.get().is_some_and(|(_, until)| now < until)
    }
}

/// What an idle connection is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// For this request.
    Fit,
    /// Not for a request that must not be sent twice.
    TooOld,
    /// For another client only.
    OfAnother,
    /// For nothing.
    Dead,
}

/// One of a node's connections, counted as long as this lives.
#[derive(Debug)]
pub struct Slot(Rc<LocalNode>);

impl Slot {
    /// Counts one more.
    pub fn new(local: &Rc<LocalNode>) -> Self {
        local.open.set(local.open.get() + 1);
        local.stats().opened.add_one();
        Self(Rc::clone(local))
    }

    /// The node.
    pub fn local(&self) -> &Rc<LocalNode> {
        &self.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.stats().closed.add_one();
        self.0.freed.notify_one();
    }
}
