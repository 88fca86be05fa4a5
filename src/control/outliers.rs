//! Nodes that fail users' requests, and nodes that warm up: what the controller looks at while nothing else happens.
//!
//! A worker reports a node that failed so many times in a row, at once; here the counters of all workers are compared, window by
//! window. Both become an [`Event::Failing`], and the machine decides. A service with one node has nobody to compare it with,
//! and a service in which nothing warms up is not looked at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::info;

use super::controller::Controller;
use crate::model::{NodeState, ServiceName};
use crate::pool::Node;
use crate::pool::balance::{ONE, warmed};
use crate::rollout::outliers::{Tally, judge};
use crate::rollout::{Event, NodeRef};

/// How often is looked whether a window has ended.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// Weights of nodes that warm up are renewed so many times on their way, but not more often than each of `STEP`.
const STEPS: u32 = 20;
const STEP: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Suspects as they come; never, if somebody else took them.
pub(super) async fn next(suspects: &mut Option<mpsc::Receiver<Arc<Node>>>) -> Arc<Node> {
    if let Some(receiver) = suspects
        && let Some(node) = receiver.recv().await
    {
        return node;
    }
    std::future::pending().await
}

fn tally(node: &Node) -> Tally {
    let (successes, failures, strikes) = node.outcomes();
    Tally { successes, failures, strikes }
}

impl Controller {
    /// A worker saw a node fail several times in a row.
    pub(super) fn note_suspect(&mut self, node: &Node) {
        let name = &node.id.service;
        let Some(entry) = self.entries.get(name) else {
            return;
        };
        let failures = entry.settings.eject.failures;
        let found = entry.members.iter().find(|(_, member)| member.node.key == node.key);
        if let (Some((known, _)), true) = (found, failures > 0) {
            let detail = format!("{failures} requests in a row failed");
            self.fail(&name.clone(), known.clone(), detail);
        }
    }

    /// Compares the nodes of every service whose window has ended.
    pub(super) fn look_at_outliers(&mut self) {
        let now = self.clock.now();
        let mut failing = Vec::new();
        for (name, entry) in &mut self.entries {
            let eject = &entry.settings.eject;
            if entry.members.len() < 2 || !eject.is_on() || entry.window_ends > now {
                continue;
            }
            // After a pause (one node only, or all this was off) the counters tell of another time.
            let paused = now.since(entry.window_ends) > eject.window.max(2 * LOOK);
            entry.window_ends = now.plus(eject.window);
            let mut nodes = Vec::new();
            for known in entry.machine.nodes() {
                let Some(member) = entry.members.get_mut(&known.node) else {
                    continue;
                };
                let sum = tally(&member.node);
                let new = sum.since(std::mem::replace(&mut member.tally, sum));
                if known.serves() && !paused {
                    nodes.push((known.node.clone(), new));
                }
            }
            let tallies: Vec<_> = nodes.iter().map(|(_, tally)| *tally).collect();
            let found = nodes.into_iter().zip(judge(eject, &tallies));
            failing.extend(found.filter_map(|((node, _), found)| Some((name.clone(), node, found?))));
        }
        for (name, node, detail) in failing {
            self.fail(&name, node, detail);
        }
    }

    fn fail(&mut self, name: &ServiceName, node: NodeRef, detail: String) {
        info!(service = %name, version = %node.version, node = %node.address, detail, "a node fails");
        self.tell(name, Event::Failing { node, detail });
    }

    /// Has the weights of what warms up renewed. When that is due again.
    pub(super) fn warm_up(&mut self) -> Option<Instant> {
        let slow_start = |name: &ServiceName| Some(self.entries.get(name)?.settings.balance.slow_start);
        let shortest = self.warming.iter().filter_map(slow_start).min()?;
        self.turn.views.extend(self.warming.iter().cloned());
        Some(Instant::now() + (shortest / STEPS).clamp(STEP.0, STEP.1))
    }

    /// The weight of each node of a service that warms up now, in units of [`ONE`].
    pub(super) fn warming_weights(&mut self, name: &ServiceName) -> BTreeMap<NodeRef, u32> {
        let Some(entry) = self.entries.get(name) else {
            return BTreeMap::new();
        };
        let (now, slow_start) = (self.clock.now(), entry.settings.balance.slow_start);
        let warming = entry.machine.nodes().filter(|known| known.state == NodeState::Warming);
        let weights: BTreeMap<_, _> = warming
            .filter_map(|known| {
                let weight = entry.members.get(&known.node)?.weight * ONE;
                Some((known.node.clone(), warmed(weight, now.since(known.since), slow_start)))
            })
            .collect();
        if weights.is_empty() {
            self.warming.remove(name);
        } else {
            self.warming.insert(name.clone());
        }
        weights
    }
}
