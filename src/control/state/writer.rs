//! Saves records on a thread of its own, so that a slow disk never holds up the control plane.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{info, warn};

use super::{Encoded, StateError, Store};
use crate::model::ServiceName;

/// What failed is tried again after this long, if no change comes first.
const RETRY: Duration = Duration::from_secs(5);

/// Records written between two syncs of the folder; as many files are open at once.
const BATCH: usize = 64;

/// A writer that is dropped gets this long for what still waits: neither a long line nor a disk that hangs may hold up the
/// end of the process.
const LEAVE: Duration = Duration::from_secs(2);

/// What to do for one service.
#[derive(Debug)]
enum Job {
    Save(Encoded),
    Remove,
}

/// Everything that waits. Bounded by the number of services: a newer record of a service replaces the one that waits.
#[derive(Debug, Default)]
struct Queue {
    /// The newest job of each service that waits.
    waiting: HashMap<ServiceName, Job>,
    /// Who waits, first come first served; names that were taken out of line are skipped.
    order: VecDeque<ServiceName>,
    /// Those of them that somebody waits for. Their names stay in `order`, too, and are passed over there.
    urgent: HashSet<ServiceName>,
    /// In the thread's hands now.
    running: Vec<ServiceName>,
    /// Failed, with the error; tried again with the next change.
    failed: HashMap<ServiceName, (Job, String)>,
    /// Why the last try failed, until one succeeds: also while the next one is under way.
    errors: HashMap<ServiceName, String>,
    /// The writer is being dropped: write what waits until then, and end.
    closing: Option<Instant>,
}

impl Queue {
    fn push(&mut self, service: ServiceName, job: Job) {
        self.failed.remove(&service);
        if self.waiting.insert(service.clone(), job).is_none() {
            self.order.push_back(service);
        }
    }

    /// Puts what failed back in line.
    fn retry(&mut self) {
        for (service, (job, _)) in std::mem::take(&mut self.failed) {
            // A newer job of the same service would have removed it from here.
            self.push(service, job);
        }
    }

    fn take(&mut self) -> Vec<(ServiceName, Job)> {
        let urgent: Vec<_> = self.urgent.iter().take(BATCH).cloned().collect();
        let mut batch = Vec::new();
        for service in urgent {
            self.urgent.remove(&service);
            batch.extend(self.waiting.remove_entry(&service));
        }
        while batch.len() < BATCH
            && let Some(service) = self.order.pop_front()
        {
            batch.extend(self.waiting.remove_entry(&service));
        }
        if self.waiting.is_empty() {
            self.order.clear();
        }
        self.running = batch.iter().map(|(service, _)| service.clone()).collect();
        batch
    }

    /// Somebody waits for this one: it goes before the others.
    fn hurry(&mut self, service: &ServiceName) {
        if self.waiting.contains_key(service) {
            self.urgent.insert(service.clone());
        }
    }

    fn is_busy_with(&self, service: &ServiceName) -> bool {
        self.waiting.contains_key(service) || self.running.contains(service)
    }

    fn first_error(&self) -> Option<&String> {
        self.errors.values().next()
    }
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Wakes the thread.
    work: Condvar,
    /// Wakes those in `flush`; the number of batches that were written.
    done: watch::Sender<u64>,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Owns the [`Store`] and writes to it on its own thread. Taking a record never waits for the disk. Dropping this writes
/// what still waits, once, as far as that is possible within two seconds.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    /// Closed by the thread when it has ended and the journal's lock is free.
    ended: mpsc::Receiver<()>,
}

impl Writer {
    /// Starts the thread. Load the records first: the store is gone into it.
    pub fn start(store: Store) -> Result<Self, StateError> {
        let (done, _) = watch::channel(0);
        let shared = Arc::new(Shared { queue: Mutex::default(), work: Condvar::new(), done });
        let path = store.services.clone();
        let theirs = Arc::clone(&shared);
        let (end, ended) = mpsc::channel();
        std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || {
                run(&store, &theirs);
                drop(store);
                drop(end);
            })
            .map_err(|source| StateError::Folder { path, what: "starting a thread to write to it", source })?;
        Ok(Self { shared, ended })
    }

    /// Takes a record to save. An older one of the same service that still waits is dropped.
    pub fn save(&self, record: Encoded) {
        self.push(record.service.clone(), Job::Save(record));
    }

    /// Takes a service to forget.
    pub fn remove(&self, service: &ServiceName) {
        self.push(service.clone(), Job::Remove);
    }

    fn push(&self, service: ServiceName, job: Job) {
        let mut queue = self.shared.queue();
        queue.retry();
        queue.push(service, job);
        drop(queue);
        self.shared.work.notify_one();
    }

    /// Waits until the newest record taken for `service` is durable; at once if it is. It goes before all that wait in line.
    /// An error if it could not be written (it is tried again by itself), or not `within` this time.
    pub async fn flush(&self, service: &ServiceName, within: Duration) -> Result<(), StateError> {
        self.shared.queue().hurry(service);
        let mut done = self.shared.done.subscribe();
        let durable = async {
            loop {
                done.borrow_and_update();
                {
                    let queue = self.shared.queue();
                    if let Some((_, error)) = queue.failed.get(service) {
                        return Err(StateError::Failing(error.clone()));
                    }
                    if !queue.is_busy_with(service) {
                        return Ok(());
                    }
                }
                if done.changed().await.is_err() {
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(within, durable)
            .await
            .unwrap_or_else(|_| Err(StateError::Slow { service: service.clone(), within }))
    }

    /// Waits until nothing waits any more, whether it could be written or not; `false` if that takes longer than `within`.
    pub async fn flush_all(&self, within: Duration) -> bool {
        let mut done = self.shared.done.subscribe();
        let idle = async {
            loop {
                done.borrow_and_update();
                {
                    let queue = self.shared.queue();
                    if queue.waiting.is_empty() && queue.running.is_empty() {
                        return;
                    }
                }
                if done.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(within, idle).await.is_ok()
    }

    /// Why some record is not durable now; None when all are, or are on their first way.
    pub fn last_error(&self) -> Option<String> {
        self.shared.queue().first_error().cloned()
    }

    /// Why the newest record of `service` is not durable.
    pub fn error_of(&self, service: &ServiceName) -> Option<StateError> {
        self.shared.queue().errors.get(service).cloned().map(StateError::Failing)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.retry();
        queue.closing = Some(Instant::now() + LEAVE);
        drop(queue);
        self.shared.work.notify_one();
        // A thread in a sync that hangs is left behind.
        if self.ended.recv_timeout(LEAVE) == Err(RecvTimeoutError::Timeout) {
            warn!("not all state could be saved before the end; what was saved before counts at the next start");
        }
    }
}

fn run(store: &Store, shared: &Shared) {
    let mut failing = false;
    loop {
        let batch = {
            let mut queue = shared.queue();
            loop {
                match queue.closing {
                    Some(end) if queue.waiting.is_empty() || Instant::now() >= end => return,
                    _ if !queue.waiting.is_empty() => break queue.take(),
                    _ => {}
                }
                let woken;
                (queue, woken) = shared.work.wait_timeout(queue, RETRY).unwrap_or_else(PoisonError::into_inner);
                if woken.timed_out() {
                    queue.retry();
                }
            }
        };
        let failures = carry_out(store, batch);
        let mut queue = shared.queue();
        for service in std::mem::take(&mut queue.running) {
            queue.errors.remove(&service);
        }
        for (service, job, error) in failures {
            queue.errors.insert(service.clone(), error.to_string());
            // A newer job that came meanwhile makes this one void.
            if !queue.waiting.contains_key(&service) {
                queue.failed.insert(service, (job, error.to_string()));
            }
        }
        // Once when it begins and once when it ends, not at every try.
        let error = queue.first_error().cloned();
        let all_tried = queue.waiting.is_empty();
        drop(queue);
        match error {
            Some(error) if !failing => {
                failing = true;
                warn!("{error}");
            }
            None if failing && all_tried => {
                failing = false;
                info!("state is saved again");
            }
            _ => {}
        }
        shared.done.send_modify(|batches| *batches += 1);
    }
}

/// Does a batch; what failed comes back with its error.
fn carry_out(store: &Store, batch: Vec<(ServiceName, Job)>) -> Vec<(ServiceName, Job, StateError)> {
    let mut failures = Vec::new();
    let mut records = Vec::new();
    for (service, job) in batch {
        match job {
            Job::Save(record) => records.push(record),
            Job::Remove => {
                if let Err(error) = store.remove(&service) {
                    failures.push((service, Job::Remove, error));
                }
            }
        }
    }
    if records.is_empty() {
        return failures;
    }
    let results = store.write_all(&records);
    for (record, result) in records.into_iter().zip(results) {
        if let Err(error) = result {
            failures.push((record.service.clone(), Job::Save(record), error));
        }
    }
    failures
}
