//! A service with a version on trial beside the one before it.

use std::net::SocketAddr;
use std::sync::Arc;

use sluicegate::model::{FailureKind, NodeId, Share, Tally, Version};
use sluicegate::pool::balance::ONE;
use sluicegate::pool::{Node, ServiceView, Slice, Snapshot};

use super::Proxy;

/// A canary from `v1` at the first nodes to `v2` at the others; `more` is TOML for the table `[service.app]`.
pub fn canary(old: &[SocketAddr], new: &[SocketAddr], more: &str) -> String {
    let list = |nodes: &[SocketAddr]| nodes.iter().map(|node| format!("\"{node}\"")).collect::<Vec<_>>().join(", ");
    format!(
        "[service.app]\nmatch = \"*\"\nrelease = \"v2\"\nversions.v1 = [{}]\nversions.v2 = [{}]\n\
         rollout.strategy = \"canary\"\n{more}\n",
        list(old),
        list(new)
    )
}

/// One worker before such a service, of which `v2` has this share and is on trial.
pub fn on_trial(old: &[SocketAddr], new: &[SocketAddr], share: u32, more: &str) -> Proxy {
    let mut proxy = Proxy::with_workers(&canary(old, new, more), 1);
    proxy.give(share);
    proxy
}

impl Proxy {
    /// Gives `v2` this share, of 10,000, and puts it on trial.
    pub fn give(&mut self, share: u32) {
        self.publish_shares(&[("v1", 10_000 - share), ("v2", share)], true);
    }

    /// Gives these versions of the only service these shares; with `trial`, the last is on trial.
    pub fn publish_shares(&mut self, shares: &[(&str, u32)], trial: bool) {
        let workers = self.pool.workers();
        let service = Arc::clone(self.config.services.values().next().expect("a service"));
        let slices: Vec<Slice> = shares
            .iter()
            .map(|(version, share)| {
                let version = Version::new(*version);
                let nodes = service.versions[&version].iter().map(|address| {
                    let id =
                        NodeId { service: service.name.clone(), version: version.clone(), address: address.clone() };
                    let node = self.nodes.entry(address.clone()).or_insert_with(|| Node::new(id, workers));
                    (Arc::clone(node), ONE)
                });
                Slice::new(version.clone(), Share(*share), nodes.collect(), &service.balance.policy)
            })
            .collect();
        let before = self.pool.snapshot();
        let view = ServiceView {
            trial: trial.then_some(slices.len() - 1),
            halt: None,
            settings: service,
            slices,
            all_down: false,
            hold: Arc::clone(&before.services[0].hold),
            stats: Arc::clone(&before.services[0].stats),
        };
        self.pool.publish(Snapshot {
            generation: 0,
            router: Arc::clone(&before.router),
            services: vec![Arc::new(view)],
            edge: Arc::clone(&before.edge),
        });
    }

    /// What the guard is told of a node: requests, and failures of each kind that there was.
    pub fn judged(&self, node: SocketAddr) -> (u64, Vec<(FailureKind, u64)>) {
        let tally: Tally = self.node(node).tally();
        let failed = FailureKind::ALL.into_iter().map(|kind| (kind, tally.failed(kind)));
        (tally.requests, failed.filter(|(_, count)| *count > 0).collect())
    }

    /// Requests of a node that were shielded.
    pub fn shielded(&self, node: SocketAddr) -> u64 {
        self.node(node).trial_counts().0
    }
}
