//! Counters with one writer each: a worker adds to its own without a locked instruction, anyone reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that only one thread may raise.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one. A load and a store, not a read-modify-write: that is what the single writer buys.
    pub fn add_one(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
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
}

/// What one worker did in all, for status and for tests.
#[derive(Debug, Default)]
pub struct WorkerStats {
    /// Client connections accepted.
    pub accepted: Count,
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
    /// Requests that Sluice answered itself because no node could.
    pub failed: Count,
    /// Requests sent again to another node.
    pub retried: Count,
    /// HTTP/2 connections that Sluice ended because they brought more trouble than requests.
    pub abusive: Count,
}
