//! What is serving, at one moment: immutable, published whole.

use std::sync::Arc;

use super::balance;
use super::node::Node;
use super::router::Router;
use crate::config;
use crate::model::{Share, Version};

/// Everything a worker needs to answer a request. One pointer, swapped at once.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows with every publication.
    pub generation: u64,
    /// From host and path to an index into `services`. Shared between snapshots while no route changes.
    pub router: Arc<Router>,
    /// The services, in the order of their names; an edit to one leaves the others' `Arc`s as they are.
    pub services: Vec<Arc<ServiceView>>,
    /// What holds for every request.
    pub edge: Arc<Edge>,
}

/// What the configuration says about clients, whatever the service.
#[derive(Debug, Default)]
pub struct Edge {
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Bounds on what clients may use.
    pub limits: config::Limits,
    /// What clients see when something goes wrong and no service says otherwise.
    pub errors: Option<Arc<config::Errors>>,
}

/// One service as it serves.
#[derive(Debug)]
pub struct ServiceView {
    /// Its settings: timeouts, retries, connections.
    pub settings: Arc<config::Service>,
    /// How traffic is divided; empty if no node may get any.
    pub slices: Vec<Slice>,
    /// True if every node is unhealthy and all are in here regardless.
    pub all_down: bool,
}

/// One version's part of the traffic.
#[derive(Debug)]
pub struct Slice {
    /// The version.
    pub version: Version,
    /// Its part; all shares of a service sum to [`Share::ALL`].
    pub share: Share,
    /// Its nodes; never empty.
    pub nodes: Vec<Arc<Node>>,
}

impl ServiceView {
    /// Chooses a node: a version by `turn`, then the less loaded of two random ones that are not `avoided`.
    /// If all are avoided, avoiding is given up for those not `excluded` (tried already, or closed).
    ///
    /// `turn` counts this worker's requests to the service, `random` is fresh, `load` is this worker's count for a node.
    pub fn choose(
        &self,
        turn: u32,
        random: u64,
        load: impl Fn(&Node) -> usize,
        avoided: impl Fn(&Node) -> bool,
        excluded: impl Fn(&Node) -> bool,
    ) -> Option<&Arc<Node>> {
        let first = balance::slice_of(turn, self.slices.iter().map(|slice| slice.share));
        let usable = |node: &Node| !avoided(node) && !excluded(node);
        let chosen = self.slices.get(first)?;
        if let Some(node) = balance::least_of_two(&chosen.nodes, random, &load, usable) {
            return Some(node);
        }
        // Another version is better than no answer.
        let others = || self.slices.iter().cycle().skip(first).take(self.slices.len());
        others()
            .find_map(|slice| balance::least_of_two(&slice.nodes, random, &load, usable))
            .or_else(|| others().find_map(|slice| balance::least_of_two(&slice.nodes, random, &load, |n| !excluded(n))))
    }
}
