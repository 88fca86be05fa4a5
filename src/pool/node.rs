//! One node as the data plane sees it: identity, gate, counters. It outlives snapshots.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use crossbeam_utils::CachePadded;
use tokio::sync::Notify;

use super::gate::Gate;
use super::stats::NodeStats;
use crate::api::NodeTotals;
use crate::model::{NodeId, Tally};
use crate::net::tls::Client;

/// One port-bound instance, for one stay in the pool. Shared by every snapshot that holds it.
#[derive(Debug)]
pub struct Node {
    /// Never used twice in the life of the process: the key of each worker's own table.
    pub key: u64,
    /// Who it is.
    pub id: NodeId,
    /// The address, if no look-up is needed.
    pub literal: Option<SocketAddr>,
    /// Admission. Health is not here: it decides whether a snapshot holds the node, not whether a claim succeeds.
    gate: Gate,
    /// One a worker; each written by its own worker only.
    stats: Box<[CachePadded<NodeStats>]>,
    /// Work that counts against `balance.max_requests`, over all workers. Untouched where no limit is configured, so that
    /// there nothing is shared between cores.
    slots: CachePadded<AtomicUsize>,
    /// Told when a claim ends on a closed gate, and when the gate closes; the drain waits here.
    vacated: Notify,
    /// Told when a worker could not connect; the prober waits here.
    alarm: Arc<Notify>,
    /// How it is spoken to, if its address is `https://`; written by the controller when its service's files or settings change.
    tls: ArcSwapOption<Client>,
}

static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

impl Node {
    /// A node with an open gate.
    pub fn new(id: NodeId, workers: usize) -> Arc<Self> {
        Arc::new(Self {
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            literal: id.address.literal(),
            id,
            gate: Gate::new(workers),
            stats: (0..workers).map(|_| CachePadded::new(NodeStats::default())).collect(),
            slots: CachePadded::default(),
            vacated: Notify::new(),
            alarm: Arc::default(),
            tls: ArcSwapOption::empty(),
        })
    }

    /// How it is spoken to; none if it speaks no TLS.
    pub fn tls(&self) -> Option<Arc<Client>> {
        if self.id.address.is_tls() { self.tls.load_full() } else { None }
    }

    /// Says how it is spoken to from the next connection on.
    pub fn set_tls(&self, tls: Option<Arc<Client>>) {
        self.tls.store(tls);
    }

    /// Claims the node for one piece of work on this worker; see [`Gate::claim`].
    pub fn claim(&self, worker: usize) -> bool {
        self.gate.claim(worker)
    }

    /// Ends a claim.
    pub fn release(&self, worker: usize) {
        if self.gate.release(worker) {
            self.vacated.notify_one();
        }
    }

    /// Lets nothing new in. The caller has published a snapshot without the node.
    pub fn close(&self) {
        self.gate.close();
        self.vacated.notify_one();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }

    /// Work in progress.
    pub fn inflight(&self) -> usize {
        self.gate.inflight()
    }

    /// Work in progress on one worker.
    pub fn inflight_on(&self, worker: usize) -> usize {
        self.gate.inflight_on(worker)
    }

    /// Takes one of the places at the node, unless `limit` are taken. Each `true` must be followed by one [`Self::leave`].
    pub fn enter(&self, limit: usize) -> bool {
        let more = |taken| (taken < limit).then_some(taken + 1);
        self.slots.fetch_update(Ordering::SeqCst, Ordering::Relaxed, more).is_ok()
    }

    /// Gives the place back.
    pub fn leave(&self) {
        self.slots.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether so many places are taken.
    pub fn is_full(&self, limit: usize) -> bool {
        self.slots.load(Ordering::SeqCst) >= limit
    }

    /// Waits until a closed node holds no work, or until `deadline`. `true`: it is vacant, for good.
    /// One waiter at a time.
    pub async fn vacant(&self, deadline: Instant) -> bool {
        let deadline = tokio::time::Instant::from_std(deadline);
        loop {
            let told = self.vacated.notified();
            if self.gate.inflight() == 0 {
                return true;
            }
            if tokio::time::timeout_at(deadline, told).await.is_err() {
                return self.gate.inflight() == 0;
            }
        }
    }

    /// This worker's counters.
    pub fn stats(&self, worker: usize) -> &NodeStats {
        &self.stats[worker]
    }

    /// Requests given and failed, over all workers.
    pub fn totals(&self) -> (u64, u64) {
        self.stats.iter().fold((0, 0), |(requests, failures), shard| {
            (requests + shard.requests.get(), failures + shard.failures.get())
        })
    }

    /// Answers, failures that it is to blame for, and those that count in a row, over all workers.
    pub fn outcomes(&self) -> (u64, u64, u64) {
        self.stats.iter().fold((0, 0, 0), |(successes, failures, strikes), shard| {
            (successes + shard.successes.get(), failures + shard.blamed.get(), strikes + shard.strikes.get())
        })
    }

    /// Over all workers: requests that its version failed on trial and the old one answered; copies that it got; of these, those that
    /// it answered with another status than the original had.
    pub fn trial_counts(&self) -> (u64, u64, u64) {
        self.stats.iter().fold((0, 0, 0), |(shielded, shadowed, differed), shard| {
            (shielded + shard.shielded.get(), shadowed + shard.shadowed.get(), differed + shard.shadow_differed.get())
        })
    }

    /// What the guard goes by, over all workers.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.stats.iter().for_each(|shard| shard.add_to(&mut tally));
        tally
    }

    /// Grows with everything that the guard goes by: cheaper to ask than the tally.
    pub fn pulse(&self) -> u64 {
        self.stats.iter().map(|shard| shard.pulse()).sum()
    }

    /// What was counted, over all workers.
    pub fn node_totals(&self) -> NodeTotals {
        let mut totals = NodeTotals::default();
        self.stats.iter().for_each(|shard| shard.add_to_totals(&mut totals));
        totals
    }

    /// Connections to it that are open, over all workers.
    pub fn connections(&self) -> u64 {
        self.stats.iter().map(|shard| shard.connections()).sum()
    }

    /// A worker could not connect: the node should be probed now, not at the next interval.
    pub fn raise_alarm(&self) {
        self.alarm.notify_one();
    }

    /// Where alarms arrive.
    pub fn alarm(&self) -> &Arc<Notify> {
        &self.alarm
    }
}
