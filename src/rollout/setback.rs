//! Nodes that fail while their probes pass: left out for a while, and not trusted for as long again.
//!
//! A setback has three moments: the node is ejected, it comes back, and it is forgotten. While it is on record, a node that
//! is new in a change does not count as ready: no old node leaves for it, and a version whose nodes are set back again and
//! again is refused at its deadline. A setback that follows before the last one is forgotten takes twice as long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::NodeRef;
use super::machine::Machine;
use super::nodes::NodeEntry;
use crate::model::{NodeState, Share, Timestamp};

/// How long failing nodes are left out, and how many of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ejection {
    /// The first time.
    pub time: Duration,
    /// At most.
    pub longest: Duration,
    /// The part of the nodes on duty that may be out, for whatever reason.
    pub most: Share,
}

/// A node was left out because of how it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setback {
    /// How often by now, one soon after the other.
    pub times: u32,
    /// When it was ejected.
    pub at: Timestamp,
    /// For how long.
    pub time: Duration,
}

impl Setback {
    /// The next one of a node.
    fn after(before: Option<Self>, ejection: &Ejection, now: Timestamp) -> Self {
        let times = before.map_or(0, |before| before.times).saturating_add(1);
        let doubled = ejection.time.saturating_mul(1 << (times - 1).min(20));
        Self { times, at: now, time: doubled.min(ejection.longest.max(ejection.time)) }
    }

    /// When the node may come back.
    pub fn ends(&self) -> Timestamp {
        self.at.plus(self.time)
    }

    /// When it is trusted again.
    pub fn is_forgotten_at(&self) -> Timestamp {
        self.ends().plus(self.time)
    }
}

/// Whether one more of `on_duty` nodes may be ejected when `out` of them are out.
fn may_eject(on_duty: usize, out: usize, most: Share) -> bool {
    let allowed = on_duty as u64 * u64::from(most.0) / u64::from(Share::ALL.0);
    // The last one always serves: a node that fails sometimes is better than none.
    out + 1 < on_duty && (out as u64) < allowed
}

impl Machine {
    /// Users' requests fail at this node, whatever its probes say.
    pub(super) fn set_back(&mut self, node: &NodeRef, detail: &str, now: Timestamp) {
        let Some(ejection) = self.wanted.as_ref().map(|wanted| wanted.ejection) else {
            return;
        };
        let on_duty = self.nodes.iter().filter(|entry| entry.is_on_duty()).count();
        let serving = self.nodes.iter().filter(|entry| entry.serves()).count();
        if !may_eject(on_duty, on_duty - serving, ejection.most) {
            return;
        }
        if let Some(entry) = self.nodes.iter_mut().find(|entry| entry.node == *node && entry.serves()) {
            let setback = Setback::after(entry.setback, &ejection, now);
            entry.setback = Some(setback);
            entry.enter(NodeState::Ejected, detail, now);
        }
    }

    /// Nodes whose time is over come back, and what was long ago is forgotten.
    pub(super) fn readmit(&mut self, now: Timestamp) {
        let warms = self.warms();
        for entry in &mut self.nodes {
            let Some(setback) = entry.setback else {
                continue;
            };
            if entry.is_set_back() && entry.healthy && setback.ends() <= now {
                entry.welcome("its time out is over", warms, now);
            }
            if setback.is_forgotten_at() <= now || !entry.is_alive() {
                entry.setback = None;
            }
        }
    }

    /// A node that fails sometimes is better than none.
    pub(super) fn readmit_if_none_serves(&mut self, now: Timestamp) {
        if self.nodes.iter().any(NodeEntry::serves) {
            return;
        }
        for entry in self.nodes.iter_mut().filter(|entry| entry.is_set_back() && entry.healthy) {
            entry.welcome("no other node is healthy", false, now);
        }
    }

    /// Nodes that are warm serve in full.
    pub(super) fn warm_up(&mut self, now: Timestamp) {
        let slow_start = self.slow_start();
        for entry in &mut self.nodes {
            if entry.state == NodeState::Warming && entry.since.plus(slow_start) <= now {
                entry.enter(NodeState::Serving, "is warm", now);
            }
        }
    }

    /// How long a node warms up.
    pub(super) fn slow_start(&self) -> Duration {
        self.wanted.as_ref().map_or(Duration::ZERO, |wanted| wanted.slow_start)
    }

    /// Whether nodes that come in warm up first. Not on the way back from a refused version: that is in a hurry.
    pub(super) fn warms(&self) -> bool {
        !self.back && !self.slow_start().is_zero()
    }

    /// When something of the above is due.
    pub(super) fn next_return(&self) -> Option<Timestamp> {
        let slow_start = self.slow_start();
        let due = |entry: &NodeEntry| {
            let warm = (entry.state == NodeState::Warming).then(|| entry.since.plus(slow_start));
            let setback = entry.setback.filter(|_| entry.is_alive());
            let back = setback.map(|setback| {
                if entry.is_set_back() && entry.healthy { setback.ends() } else { setback.is_forgotten_at() }
            });
            warm.into_iter().chain(back).min()
        };
        self.nodes.iter().filter_map(due).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EJECTION: Ejection =
        Ejection { time: Duration::from_secs(10), longest: Duration::from_mins(1), most: Share(5_000) };

    proptest! {
        #[test]
        fn never_above_the_ceiling_and_never_the_last(on_duty in 0usize..50, most in 0u32..=10_000) {
            let mut out = 0;
            while may_eject(on_duty, out, Share(most)) {
                out += 1;
            }
            prop_assert!(out * 10_000 <= on_duty * most as usize);
            prop_assert!(out == 0 || out < on_duty);
            // And what is allowed is not refused.
            let allowed = on_duty * most as usize / 10_000;
            prop_assert_eq!(out, allowed.min(on_duty.saturating_sub(1)));
        }
    }

    #[test]
    fn each_setback_takes_twice_as_long_up_to_the_longest() {
        let mut setback = None;
        let mut times = Vec::new();
        for _ in 0..5 {
            let next = Setback::after(setback, &EJECTION, Timestamp(0));
            times.push(next.time.as_secs());
            setback = Some(next);
        }
        assert_eq!(times, [10, 20, 40, 60, 60]);
    }

    #[test]
    fn doubling_for_ever_does_not_overflow() {
        let before = Setback { times: u32::MAX, at: Timestamp(0), time: Duration::ZERO };
        let endless = Ejection { time: Duration::from_secs(1), longest: Duration::MAX, most: Share::ALL };
        let next = Setback::after(Some(before), &endless, Timestamp(u64::MAX));
        assert_eq!(next.is_forgotten_at(), Timestamp(u64::MAX));
    }
}
