//! One worker: a thread, a runtime, its sockets, its connections. Workers share nothing but the pool.

mod admission;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use slab::Slab;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;

pub use self::admission::ADDRESS_LIMIT;
pub use self::admission::Connected;
use super::accept::Handshakes;
use super::access_log::Desk;
use super::call::Call;
use super::cuts::Cuts;
use super::door::Kit;
use super::front::{Front, Runners};
use super::view::{LocalNode, View};
use crate::pool::{Command, Meters, Node, ShutdownSpec, Snapshot, SocketId, Subscription, WorkerStats};

/// How often limits are looked at. A limit may be overrun by this much.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// Client connections and idle connections to nodes are looked at every so many ticks.
const SLOW: u32 = 5;

/// What everything on one worker shares.
#[derive(Debug)]
pub struct Worker {
    index: usize,
    workers: usize,
    stats: Arc<crossbeam_utils::CachePadded<WorkerStats>>,
    everyone: Arc<[Arc<crossbeam_utils::CachePadded<WorkerStats>>]>,
    /// Tells, for one relaxed load, whether `view` is the newest.
    cache: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    view: RefCell<Rc<View>>,
    /// By [`Node::key`].
    nodes: RefCell<HashMap<u64, Rc<LocalNode>, BuildHasherDefault<KeyHasher>>>,
    /// Whether any node had trouble lately; saves looking each one up for every request.
    troubled: Cell<bool>,
    random: RefCell<fastrand::Rng>,
    /// To the controller; see [`Subscription::suspects`].
    suspects: mpsc::Sender<Arc<Node>>,
    /// Every call under way.
    pub calls: RefCell<Slab<Rc<Call>>>,
    fronts: RefCell<Slab<Rc<Front>>>,
    /// The listening sockets, and how each is told to stop.
    sockets: RefCell<HashMap<SocketId, Rc<Notify>>>,
    cuts: Cuts,
    handshakes: Handshakes,
    closing: Cell<Option<Closing>>,
    /// What all workers count together.
    pub meters: Arc<Meters>,
    /// What the policies of services keep.
    pub door: Kit,
    /// Where the access log is written.
    pub desk: Desk,
    /// Spans on their way.
    pub spans: Desk,
    /// Tasks for streams of HTTP/2.
    pub runners: Runners,
}

#[derive(Clone, Copy, Debug)]
struct Closing {
    linger_until: Instant,
    deadline: Instant,
}

/// Keys are numbers that were counted up: they are their own hash.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = (self.0 ^ key).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// Starts a thread for each subscription. A thread ends after [`Command::Shutdown`], or when the pool is dropped.
pub fn start(subscriptions: Vec<Subscription>) -> io::Result<Vec<JoinHandle<()>>> {
    subscriptions
        .into_iter()
        .map(|subscription| {
            let mut runtime = Builder::new_current_thread();
            runtime.enable_all();
            std::thread::Builder::new().name(format!("worker-{}", subscription.worker)).spawn(move || {
                match runtime.build_local(LocalOptions::default()) {
                    Ok(runtime) => runtime.block_on(run(subscription)),
                    Err(error) => tracing::error!(%error, "a worker could not start"),
                }
            })
        })
        .collect()
}

async fn run(subscription: Subscription) {
    let Subscription { worker: index, workers, mut snapshot, mut commands, stats, everyone, meters, suspects } =
        subscription;
    let mut random = fastrand::Rng::new();
    let view = Rc::new(View::new(Arc::clone(snapshot.load()), None, &mut random));
    let worker = Rc::new(Worker {
        index,
        workers,
        stats,
        everyone,
        cache: RefCell::new(snapshot),
        view: RefCell::new(view),
        nodes: RefCell::default(),
        troubled: Cell::new(false),
        random: RefCell::new(random),
        suspects,
        calls: RefCell::default(),
        fronts: RefCell::default(),
        sockets: RefCell::default(),
        cuts: Cuts::default(),
        handshakes: Handshakes::default(),
        closing: Cell::new(None),
        meters,
        door: Kit::default(),
        desk: Desk::default(),
        spans: Desk::default(),
        runners: Runners::default(),
    });
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut count, mut shutdown) = (0u32, None::<ShutdownSpec>);
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Shutdown(spec)) => {
                    worker.close(&spec);
                    shutdown = Some(spec);
                }
                Some(command) => worker.obey(command),
                None => return,
            },
            _ = ticks.tick() => {
                count = count.wrapping_add(1);
                worker.watch(count.is_multiple_of(SLOW) || shutdown.is_some());
            }
        }
        if shutdown.is_some() && worker.is_empty() {
            worker.desk.flush();
            worker.spans.flush();
            if let Some(spec) = shutdown.take() {
                // Nobody waits any more if the control plane is gone.
                let _ = spec.reply.send(worker.cuts.take_shutdown());
            }
            return;
        }
    }
}

impl Worker {
    /// Which worker: the index of its slot in every node.
    pub fn index(&self) -> usize {
        self.index
    }

    /// This worker's counters.
    pub fn stats(&self) -> &WorkerStats {
        &self.stats
    }

    /// This worker's part of a limit for the whole process, rounded up.
    pub fn part_of(&self, limit: usize) -> usize {
        limit.div_ceil(self.workers)
    }

    /// A random number.
    pub fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    /// What is serving, by the newest snapshot.
    pub fn view(&self) -> Rc<View> {
        let mut cache = self.cache.borrow_mut();
        let newest = cache.load();
        let mut view = self.view.borrow_mut();
        if !Arc::ptr_eq(newest, &view.snapshot) {
            *view = Rc::new(View::new(Arc::clone(newest), Some(&view), &mut self.random.borrow_mut()));
        }
        Rc::clone(&view)
    }

    /// This worker's side of a node.
    pub fn local(&self, node: &Arc<Node>) -> Rc<LocalNode> {
        let mut nodes = self.nodes.borrow_mut();
        Rc::clone(nodes.entry(node.key).or_insert_with(|| LocalNode::new(Arc::clone(node), self.index)))
    }

    /// Whether a node should be tried last.
    pub fn avoids(&self, node: &Node, now: Instant) -> bool {
        self.troubled.get() && self.nodes.borrow().get(&node.key).is_some_and(|local| local.is_troubled(now))
    }

    /// A connection to this node could not be made.
    pub fn trouble_at(&self, local: &LocalNode) {
        self.troubled.set(true);
        local.failed(Instant::now());
    }

    /// TLS handshakes under way.
    pub fn handshakes(&self) -> &Handshakes {
        &self.handshakes
    }

    /// A node failed so often in a row that the controller should look at it; here it is tried last meanwhile.
    pub fn suspect(&self, local: &LocalNode, time: Duration) {
        self.troubled.set(true);
        local.avoid(Instant::now() + time);
        // Full: it will fail again.
        let _ = self.suspects.try_send(Arc::clone(&local.node));
    }

    /// Whether Sluice is ending: every response then closes its connection.
    pub fn is_closing(&self) -> bool {
        self.closing.get().is_some()
    }

    /// When what is under way is cut, if Sluice is ending.
    pub fn closes_at(&self) -> Option<Instant> {
        self.closing.get().map(|closing| closing.deadline)
    }

    fn is_empty(&self) -> bool {
        self.fronts.borrow().is_empty() && self.sockets.borrow().is_empty()
    }

    fn obey(self: &Rc<Self>, command: Command) {
        match command {
            Command::Refresh => self.refresh(),
            Command::Listen { id, socket, entrance } => self.listen(id, socket, entrance),
            Command::Unlisten { id } => {
                if let Some(stop) = self.sockets.borrow().get(&id) {
                    stop.notify_one();
                }
            }
            Command::Holders { node, limit, reply } => {
                let mut calls: Vec<_> = self
                    .calls
                    .borrow()
                    .iter()
                    .map(|(_, call)| Rc::clone(call))
                    .filter(|call| call.is_at(node))
                    .collect();
                calls.sort_by_key(|call| call.started);
                let _ = reply.send(calls.iter().take(limit).map(|call| call.describe()).collect());
            }
            Command::Cut(spec) => {
                let calls = self.calls.borrow();
                let hit =
                    calls.iter().map(|(_, call)| call).filter(|call| call.is_at(spec.node) && call.kind() == spec.kind);
                self.cuts.begin(hit.cloned().collect(), spec, &mut self.random.borrow_mut());
            }
            Command::Shutdown(_) => {}
        }
    }

    /// Lets go of what belongs to closed nodes.
    fn refresh(&self) {
        let _ = self.view();
        let closed: Vec<_> = self.nodes.borrow().values().filter(|local| local.node.is_closed()).cloned().collect();
        for local in closed {
            local.sweep(|_| true);
            local.carriers.retire();
            self.nodes.borrow_mut().remove(&local.node.key);
        }
    }

    /// Looks at every limit.
    fn watch(&self, slow: bool) {
        let now = Instant::now();
        if let Some(closing) = self.closing.get() {
            // Requests that came after the command have the same deadline.
            let calls = self.calls.borrow();
            let late: Vec<_> =
                calls.iter().map(|(_, call)| call).filter(|call| !call.ends_with_process()).cloned().collect();
            let left = closing.deadline.saturating_duration_since(now);
            self.cuts.begin_shutdown(late, now, left, &mut self.random.borrow_mut());
        }
        for (_, call) in self.calls.borrow().iter() {
            call.check(now);
        }
        self.cuts.settle();
        self.desk.flush();
        self.spans.flush();
        if !slow {
            return;
        }
        let view = self.view();
        let closing = self.closing.get();
        // A little later than the calls are cut, so that those without an answer still get one.
        let past_deadline = closing.is_some_and(|closing| now >= closing.deadline + 2 * TICK);
        for (_, front) in self.fronts.borrow().iter() {
            front.check(now, &view.edge().limits, closing.map(|closing| closing.linger_until));
            if past_deadline {
                front.kill();
            }
        }
        let locals: Vec<_> = self.nodes.borrow().values().cloned().collect();
        let mut troubled = false;
        for local in locals {
            troubled |= local.has_trouble();
            local.sweep(|upstream| upstream.is_stale(now));
            local.carriers.watch(now);
        }
        self.troubled.set(troubled);
        self.door.sweep(now);
    }

    fn close(self: &Rc<Self>, spec: &ShutdownSpec) {
        let now = Instant::now();
        let closing = Closing { linger_until: now + spec.linger, deadline: now + spec.deadline };
        self.closing.set(Some(closing));
        for stop in self.sockets.borrow().values() {
            stop.notify_one();
        }
        let calls: Vec<_> = self.calls.borrow().iter().map(|(_, call)| Rc::clone(call)).collect();
        self.cuts.begin_shutdown(calls, now, spec.deadline, &mut self.random.borrow_mut());
        // Nobody is left who could release them.
        self.view().wake_held();
    }

    /// Whether there are more requests under way than there may be, this one included. An equal part is this worker's own, and
    /// beyond it it may have what the others leave.
    pub fn is_full(&self, most: usize) -> bool {
        self.calls.borrow().len() > self.part_of(most)
            && self.everyone.iter().map(|stats| stats.under_way()).sum::<u64>() > most as u64
    }
}
