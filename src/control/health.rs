//! Whether a node can do its work: asked before its first request, and ever after.
//!
//! [`probe`] asks once and tells what happened. [`Verdict`] counts: one answer proves nothing. [`watch_node`] goes on asking
//! and tells both. What a verdict does to traffic is not decided here (`rollout` does), and neither is whether traffic
//! may still go to a node that is leaving (its gate does): health and admission are two things.

mod http2;
mod pace;
mod probe;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::model::{NodeAddress, Version};
use crate::pool::Node;

pub use pace::watch_node;
pub use probe::probe;

/// Which node is asked.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its version; stands for `{version}` in what is expected of the answer.
    pub version: Version,
    /// Where it listens. A host name is looked up for every probe.
    pub address: NodeAddress,
    /// The node in the pool: it knows how TLS is spoken to it. Not needed for one that speaks none.
    pub pooled: Option<Arc<Node>>,
}

/// Rise and fall: so many passes in a row make a node healthy, so many failures in a row make it unhealthy.
#[derive(Clone, Debug)]
pub struct Verdict {
    rise: u32,
    fall: u32,
    /// None until the first verdict.
    current: Option<bool>,
    /// What the last probes said, all of them alike, and how many they were.
    streak: (bool, u32),
}

impl Verdict {
    /// `initially` is what is known before the first probe: nothing for a node that joins. A `rise` or `fall` of 0 is 1.
    pub fn new(rise: u32, fall: u32, initially: Option<bool>) -> Self {
        Self { rise, fall, current: initially, streak: (false, 0) }
    }

    /// Other settings from the next probe on. The verdict stays, and so does what was counted.
    pub fn tune(&mut self, rise: u32, fall: u32) {
        (self.rise, self.fall) = (rise, fall);
    }

    /// Counts one probe. The new verdict, if it changed.
    pub fn observe(&mut self, passed: bool) -> Option<bool> {
        let count = if self.streak.0 == passed { self.streak.1.saturating_add(1) } else { 1 };
        self.streak = (passed, count);
        let needed = if passed { self.rise } else { self.fall }.max(1);
        if self.current == Some(passed) || count < needed {
            return None;
        }
        self.current = Some(passed);
        self.current
    }

    /// The verdict; none while too few probes agreed since the node joined.
    pub fn current(&self) -> Option<bool> {
        self.current
    }
}
