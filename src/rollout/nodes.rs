//! The nodes of one service as the machine sees them, and the sets of nodes that it heads for.

use serde::{Deserialize, Serialize};

use super::{NodeRef, Setback};
use crate::model::{NodeAddress, NodeState, Timestamp, Version};

/// One stay of one node. Written by the machine alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Which node.
    pub node: NodeRef,
    /// Where it is on its way. `Serving` and `Warming` imply healthy, `Ejected` implies unhealthy or set back.
    pub state: NodeState,
    /// The last verdict of its probes.
    pub healthy: bool,
    /// Since when it is in `state`.
    pub since: Timestamp,
    /// Why it is in `state`, in words for people.
    pub reason: String,
    /// Whether an operator took it out.
    pub held_out: bool,
    /// What the last verdict said, in words for people; empty before the first.
    pub detail: String,
    /// Whether its probes passed at least once: only the first pass is progress, flapping is not.
    pub passed: bool,
    /// Its last setback, as long as that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setback: Option<Setback>,
}

impl NodeEntry {
    /// A node that nothing is known of yet.
    pub(super) fn joining(node: NodeRef, now: Timestamp) -> Self {
        Self {
            node,
            state: NodeState::Joining,
            healthy: false,
            since: now,
            reason: "waiting for its probes to pass".into(),
            held_out: false,
            detail: String::new(),
            passed: false,
            setback: None,
        }
    }

    /// Whether its gate is open: it may still get traffic in this stay.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, NodeState::Draining | NodeState::Drained)
    }

    /// Whether it gets traffic, or would if it were healthy.
    pub fn is_on_duty(&self) -> bool {
        matches!(self.state, NodeState::Warming | NodeState::Serving | NodeState::Ejected)
    }

    /// Whether it is on duty, healthy, and not left out.
    pub fn serves(&self) -> bool {
        matches!(self.state, NodeState::Warming | NodeState::Serving) && self.healthy
    }

    /// Whether it is left out because of how it answers.
    pub fn is_set_back(&self) -> bool {
        self.state == NodeState::Ejected && self.setback.is_some()
    }

    /// Lets it serve, slowly at first if it `warms` up.
    pub(super) fn welcome(&mut self, reason: &str, warms: bool, now: Timestamp) {
        self.enter(if warms { NodeState::Warming } else { NodeState::Serving }, reason, now);
    }

    pub(super) fn enter(&mut self, state: NodeState, reason: impl Into<String>, now: Timestamp) {
        self.state = state;
        self.reason = reason.into();
        self.since = now;
    }
}

/// Nodes to head for: one version's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) version: Version,
    pub(super) nodes: Vec<NodeAddress>,
}

impl Target {
    pub(super) fn holds(&self, node: &NodeRef) -> bool {
        self.version == node.version && self.nodes.contains(&node.address)
    }
}

/// Whether two lists without doubles name the same nodes.
pub(super) fn same_set(left: &[NodeAddress], right: &[NodeAddress]) -> bool {
    left.len() == right.len() && left.iter().all(|address| right.contains(address))
}

/// `1 node`, `2 nodes`.
pub(super) fn count(number: usize) -> String {
    if number == 1 { "1 node".into() } else { format!("{number} nodes") }
}

/// How a version is named in a sentence.
pub(super) fn named(version: &Version) -> String {
    if version.is_unnamed() { "the node list".into() } else { version.to_string() }
}
