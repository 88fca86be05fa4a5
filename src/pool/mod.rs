//! What is serving: the one structure in which the two planes meet.
//!
//! The control plane publishes a [`Snapshot`], closes nodes and sends [`Command`]s; each worker subscribes, claims nodes and
//! counts. Nothing else is shared.

pub mod access_log;
pub mod balance;
pub mod cohort;
pub mod entrance;
pub mod gate;
pub mod halt;
pub mod hold;
pub mod meters;
pub mod node;
pub mod passwords;
pub mod rate;
pub mod ring;
pub mod router;
pub mod snapshot;
mod spans;
pub mod stats;

mod command;
mod sync {
    //! The atomics that `gate` uses; the loom test puts loom's in their place.
    pub(super) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
}

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Cache};
use tokio::sync::mpsc;

pub use access_log::AccessLog;
pub use cohort::CohortKey;
pub use command::{Command, CutReason, CutSpec, ShutdownSpec, SocketId};
pub use entrance::Entrance;
pub use halt::{Halt, Maintenance};
pub use hold::Hold;
pub use meters::Meters;
pub use node::Node;
pub use router::Router;
pub use snapshot::{Aim, Edge, ServiceView, Slice, Snapshot, Turn};
pub use spans::Spans;
pub use stats::{ServiceStats, WorkerStats};

/// The meeting place.
#[derive(Debug)]
pub struct Pool {
    /// Swapped by the controller only.
    current: Arc<ArcSwap<Snapshot>>,
    /// The one before it; swapped by the controller only. Workers let go of it within milliseconds. Whoever lets go last
    /// frees ten thousand services, and that must not be a worker.
    last: Mutex<Option<Arc<Snapshot>>>,
    /// Written by the controller only.
    generation: AtomicU64,
    /// One a worker.
    workers: Vec<mpsc::UnboundedSender<Command>>,
    /// One a worker; each written by its own worker only.
    stats: Arc<[Arc<crossbeam_utils::CachePadded<WorkerStats>>]>,
    /// Taken by the controller.
    suspects: Mutex<Option<mpsc::Receiver<Arc<Node>>>>,
}

/// Suspects that the controller has not looked at yet; more are not told, for they fail again.
const SUSPECTS: usize = 256;

/// A worker's end of the pool.
#[derive(Debug)]
pub struct Subscription {
    /// Which worker: the index of its slots in every node.
    pub worker: usize,
    /// How many there are: for limits that are divided between them.
    pub workers: usize,
    /// The snapshot; asking it costs one relaxed load.
    pub snapshot: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    /// What the controller asks. Unbounded, because the controller must never wait for a worker; it sends a few a change.
    pub commands: mpsc::UnboundedReceiver<Command>,
    /// This worker's counters.
    pub stats: Arc<crossbeam_utils::CachePadded<WorkerStats>>,
    /// Those of all workers.
    pub everyone: Arc<[Arc<crossbeam_utils::CachePadded<WorkerStats>>]>,
    /// What workers count together, if the configuration asks for it.
    pub meters: Arc<Meters>,
    /// Where a node is told that failed `eject.failures` times in a row. Never waited for.
    pub suspects: mpsc::Sender<Arc<Node>>,
}

impl Pool {
    /// An empty pool for this many workers, and their ends.
    pub fn new(workers: usize) -> (Arc<Self>, Vec<Subscription>) {
        let current = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
        let (suspects, receiver) = mpsc::channel(SUSPECTS);
        let mut pool = Self {
            current: Arc::clone(&current),
            last: Mutex::new(None),
            generation: AtomicU64::new(0),
            workers: Vec::new(),
            stats: (0..workers).map(|_| Arc::default()).collect(),
            suspects: Mutex::new(Some(receiver)),
        };
        let meters = Arc::new(Meters::default());
        let subscriptions = (0..workers)
            .map(|worker| {
                let (sender, commands) = mpsc::unbounded_channel();
                pool.workers.push(sender);
                let (stats, everyone) = (Arc::clone(&pool.stats[worker]), Arc::clone(&pool.stats));
                let snapshot = Cache::new(Arc::clone(&current));
                let (meters, suspects) = (Arc::clone(&meters), suspects.clone());
                Subscription { worker, workers, snapshot, commands, stats, everyone, meters, suspects }
            })
            .collect();
        (Arc::new(pool), subscriptions)
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Makes `snapshot` what every worker sees from its next request on, and wakes the idle ones, so that they let go of
    /// idle connections to closed nodes. The generation is set here.
    pub fn publish(&self, mut snapshot: Snapshot) -> u64 {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        snapshot.generation = generation;
        let before = self.current.swap(Arc::new(snapshot));
        // Who waits has looked at this one or an older one, and an older one's were called when this one came.
        for service in &before.services {
            service.hold.wake_all();
        }
        self.tell(|| Command::Refresh);
        let retired = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(before);
        drop(retired);
        generation
    }

    /// What is serving now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Number of the last publication.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Sends a command to every worker. A worker that has ended is passed over.
    pub fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            let _ = worker.send(command());
        }
    }

    /// Sends a command to one worker; `false` if it has ended.
    pub fn tell_one(&self, worker: usize, command: Command) -> bool {
        self.workers.get(worker).is_some_and(|sender| sender.send(command).is_ok())
    }

    /// Where workers tell of nodes that fail; once.
    pub fn take_suspects(&self) -> Option<mpsc::Receiver<Arc<Node>>> {
        self.suspects.lock().ok()?.take()
    }

    /// Every worker's counters.
    pub fn stats(&self) -> &[Arc<crossbeam_utils::CachePadded<WorkerStats>>] {
        &self.stats
    }
}
