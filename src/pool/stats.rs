//! Counters with one writer each: a worker adds to its own without a locked instruction, anyone reads.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::api::{NodeTotals, class_of};
use crate::model::{BUCKETS, FailureKind, Tally, bucket_of};

/// A count that only one thread may raise.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one. A load and a store, not a read-modify-write: that is what the single writer buys.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Adds so many.
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// The count now, or a moment ago.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many times in a row something failed; only one thread may write it.
#[derive(Debug, Default)]
pub struct Streak(AtomicU64);

impl Streak {
    /// One more; how many it makes.
    pub fn add_one(&self) -> u64 {
        let now = self.0.load(Ordering::Relaxed) + 1;
        self.0.store(now, Ordering::Relaxed);
        now
    }

    /// Ends the row. Whether there was one.
    pub fn end(&self) -> bool {
        let was = self.0.load(Ordering::Relaxed) > 0;
        if was {
            self.0.store(0, Ordering::Relaxed);
        }
        was
    }
}

/// Latencies by bucket; only one thread may write them. Half as wide as other counts, because there are many: a bucket is full after
/// four billion requests of one worker to one node in one stay, and then stays as it is.
#[derive(Debug, Default)]
pub struct Histogram(OnceLock<Box<[AtomicU32; BUCKETS]>>);

impl Histogram {
    /// Notes one latency. A node that never gets a request has no buckets.
    pub fn note(&self, latency: Duration) {
        let buckets = self.0.get_or_init(|| Box::new([const { AtomicU32::new(0) }; BUCKETS]));
        let bucket = &buckets[bucket_of(latency)];
        bucket.store(bucket.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
    }
}

/// What one worker did with one node.
#[derive(Debug, Default)]
pub struct NodeStats {
    /// Requests sent to it, retries included.
    pub requests: Count,
    /// Those that it answered, and not with a 5xx.
    pub successes: Count,
    /// Those that ended in a 5xx, a reset, a timeout or a truncated body.
    pub failures: Count,
    /// Among them, those that the node alone is to blame for: not those in which a client may have had a part.
    pub blamed: Count,
    /// Among these, those of the kinds that `eject.on` names.
    pub strikes: Count,
    /// The same, in a row.
    pub streak: Streak,
    /// Requests whose outcome is known, but for those that a client had a part in.
    pub answered: Count,
    /// Of them, those that failed in the eyes of the guard, by [`FailureKind`].
    pub failed: [Count; FailureKind::ALL.len()],
    /// Requests that were sent and have no outcome that counts: a client gave them up, or had a part in how they ended.
    pub given_up: Count,
    /// How long answers took to begin.
    pub latencies: Histogram,
    /// The sum of that, in microseconds.
    pub latency_sum: Count,
    /// Answers by the class of their status; see [`class_of`].
    pub classes: [Count; 5],
    /// Connections to it that were opened, or were being opened.
    pub opened: Count,
    /// Of them, those that were closed.
    pub closed: Count,
    /// Requests that it failed while its version was on trial, and that the old version answered.
    pub shielded: Count,
    /// Requests that were copies of those to the old version.
    pub shadowed: Count,
    /// Of them, those that got another status than the original.
    pub shadow_differed: Count,
}

impl NodeStats {
    /// Grows with whatever goes into the tally.
    pub fn pulse(&self) -> u64 {
        self.answered.get() + self.failed.iter().map(Count::get).sum::<u64>()
    }

    /// The node began to answer after this long with this status.
    pub fn note_answer(&self, status: u16, latency: Duration) {
        self.latencies.note(latency);
        self.latency_sum.add(latency.as_micros().min(u128::from(u64::MAX)) as u64);
        self.classes[class_of(status)].add_one();
    }

    /// The same for a request that is not judged.
    pub fn note_aside(&self, status: u16) {
        self.classes[class_of(status)].add_one();
    }

    /// Connections that are open or being opened.
    pub fn connections(&self) -> u64 {
        // In this order: one that is closed was opened before.
        let closed = self.closed.get();
        self.opened.get().saturating_sub(closed)
    }

    /// Adds what was counted to totals.
    pub fn add_to_totals(&self, totals: &mut NodeTotals) {
        totals.requests += self.requests.get();
        totals.latency_sum += self.latency_sum.get();
        totals.opened += self.opened.get();
        totals.shielded += self.shielded.get();
        totals.shadowed += self.shadowed.get();
        totals.shadow_differed += self.shadow_differed.get();
        for (sum, count) in totals.classes.iter_mut().zip(&self.classes) {
            *sum += count.get();
        }
        for (sum, count) in totals.failures.iter_mut().zip(&self.failed) {
            *sum += count.get();
        }
        for (bucket, count) in self.latencies.0.get().into_iter().flat_map(|buckets| buckets.iter().enumerate()) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                totals.note_latencies(bucket, u64::from(count));
            }
        }
    }

    /// Adds what was counted to a tally.
    pub fn add_to(&self, tally: &mut Tally) {
        let (answered, given_up) = (self.answered.get(), self.given_up.get());
        tally.requests += answered;
        tally.waiting += self.requests.get().saturating_sub(answered + given_up);
        for (sum, count) in tally.failures.iter_mut().zip(&self.failed) {
            *sum += count.get();
        }
        for (bucket, count) in self.latencies.0.get().into_iter().flat_map(|buckets| buckets.iter().enumerate()) {
            tally.latencies.note(bucket, u64::from(count.load(Ordering::Relaxed)));
        }
    }
}

/// What came of the requests to one service: a part for each worker, which alone writes it. The same one for as long as the
/// service lives.
#[derive(Debug)]
pub struct ServiceStats(Box<[CachePadded<ServiceShard>]>);

/// One worker's part.
#[derive(Debug, Default)]
pub struct ServiceShard {
    /// Requests by the class of what their clients got.
    pub classes: [Count; 5],
    /// Of them, those that Sluice answered itself because something was wrong.
    pub failed: Count,
    /// Requests sent again to another node.
    pub retried: Count,
}

impl ServiceStats {
    /// Nothing yet, for so many workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| CachePadded::default()).collect())
    }

    /// A worker's part; none for a worker that there is not.
    pub fn shard(&self, worker: usize) -> Option<&ServiceShard> {
        self.0.get(worker).map(|shard| &**shard)
    }

    /// Every worker's part.
    pub fn shards(&self) -> impl Iterator<Item = &ServiceShard> {
        self.0.iter().map(|shard| &**shard)
    }
}

/// What one worker did in all, for status and for tests.
#[derive(Debug, Default)]
pub struct WorkerStats {
    /// Client connections accepted.
    pub accepted: Count,
    /// Of them, those that have ended.
    pub ended: Count,
    /// Client connections refused because the limit was reached.
    pub refused: Count,
    /// TLS handshakes with clients that came to their end.
    pub handshakes: Count,
    /// Those of them that went on with an earlier session.
    pub handshakes_resumed: Count,
    /// Connections that ended before their first request: in a TLS handshake, or for want of a PROXY header.
    pub handshakes_failed: Count,
    /// Requests answered, by a node or by Sluice itself.
    pub requests: Count,
    /// Requests that have come.
    pub begun: Count,
    /// Of them, those that are over, with their answers' bodies.
    pub over: Count,
    /// Requests that Sluice answered itself because no node could.
    pub failed: Count,
    /// Requests sent again to another node.
    pub retried: Count,
    /// Requests that were for no service, by the class of their answers.
    pub unrouted: [Count; 5],
    /// HTTP/2 connections that Sluice ended because they brought more trouble than requests.
    pub abusive: Count,
}

impl WorkerStats {
    /// Requests under way.
    pub fn under_way(&self) -> u64 {
        // What is over is read first, so that there are never fewer than none.
        let over = self.over.get();
        self.begun.get().saturating_sub(over)
    }
}
