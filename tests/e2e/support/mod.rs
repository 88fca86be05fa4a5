//! What the end-to-end tests are made of: a data plane that serves a given configuration, scripted nodes, and a client
//! that speaks raw bytes.

#![allow(dead_code, reason = "each test uses a part")]

pub mod any;
pub mod client;
pub mod control;
pub mod h2node;
pub mod http2;
pub mod node;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sluicegate::config::{self, Config};
use sluicegate::model::{NodeAddress, NodeId, ServiceName, Share, Version};
use sluicegate::net::listener;
use sluicegate::pool::balance::ONE;
use sluicegate::pool::{Command, Edge, Hold, Node, Pool, Router, ServiceView, ShutdownSpec, Slice, Snapshot};
use sluicegate::proxy;

/// Long enough for a loaded machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The data plane alone: workers and one listener, every configured node of every release in the pool at once.
pub struct Proxy {
    pub address: SocketAddr,
    pub pool: Arc<Pool>,
    pub nodes: BTreeMap<NodeAddress, Arc<Node>>,
    pub holds: BTreeMap<ServiceName, Arc<Hold>>,
    config: Config,
}

impl Proxy {
    /// Serves the services of a configuration (TOML without its listener) with two workers.
    pub fn with(services: &str) -> Self {
        Self::with_workers(services, 2)
    }

    /// The same with this many workers.
    pub fn with_workers(services: &str, workers: usize) -> Self {
        let text = format!("{services}\n[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:0\"\n");
        let loaded = config::load_str(&text, Path::new("test.toml"));
        assert!(loaded.problems.is_empty(), "{:#?}", loaded.problems);
        let config = loaded.config.expect("a valid configuration");
        let (pool, subscriptions) = Pool::new(workers);
        proxy::start(subscriptions).expect("workers start");
        let mut proxy =
            Self { address: ([127, 0, 0, 1], 0).into(), pool, nodes: BTreeMap::new(), holds: BTreeMap::new(), config };
        proxy.publish(|_| true);
        let bind = proxy.config.listeners[0].bind;
        let sockets = listener::bind(bind, workers).expect("a free port");
        proxy.address = sockets[0].local_addr().expect("a bound socket");
        for (worker, socket) in sockets.into_iter().enumerate() {
            assert!(proxy.pool.tell_one(worker, Command::Listen { id: 1, socket }));
        }
        proxy
    }

    /// Publishes a snapshot of the nodes that `serves` picks; known nodes stay the same.
    pub fn publish(&mut self, serves: impl Fn(&NodeAddress) -> bool) {
        let workers = self.pool.workers();
        let mut matches = Vec::new();
        let mut services = Vec::new();
        for (index, service) in self.config.services.values().enumerate() {
            matches.extend(service.matches.iter().map(|pattern| (pattern, index)));
            let weight = |address| service.weight(&service.release, address).unwrap_or(1) * ONE;
            let nodes: Vec<(Arc<Node>, u32)> = service.versions[&service.release]
                .iter()
                .filter(|address| serves(address))
                .map(|address| {
                    let id = NodeId {
                        service: service.name.clone(),
                        version: service.release.clone(),
                        address: address.clone(),
                    };
                    let node = self.nodes.entry(address.clone()).or_insert_with(|| Node::new(id, workers));
                    (Arc::clone(node), weight(address))
                })
                .collect();
            let slice = Slice::new(Version::unnamed(), Share::ALL, nodes, &service.balance.policy);
            let slices = if slice.nodes.is_empty() { Vec::new() } else { vec![slice] };
            let hold = Arc::clone(self.holds.entry(service.name.clone()).or_default());
            services.push(Arc::new(ServiceView { settings: Arc::clone(service), slices, all_down: false, hold }));
        }
        let edge = Edge {
            trusted_proxies: self.config.trusted_proxies.clone(),
            limits: self.config.limits.clone(),
            errors: self.config.errors.clone(),
        };
        self.pool.publish(Snapshot {
            generation: 0,
            router: Arc::new(Router::new(matches)),
            services,
            edge: Arc::new(edge),
        });
    }

    /// The node at this address.
    pub fn node(&self, address: SocketAddr) -> &Arc<Node> {
        &self.nodes[&NodeAddress::new(address.to_string())]
    }

    /// Requests answered, failed and retried over all workers.
    pub fn counts(&self) -> (u64, u64, u64) {
        self.pool.stats().iter().fold((0, 0, 0), |(requests, failed, retried), stats| {
            (requests + stats.requests.get(), failed + stats.failed.get(), retried + stats.retried.get())
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The workers must not outlive the test by more than a moment.
        self.pool.tell(|| {
            Command::Shutdown(ShutdownSpec {
                linger: Duration::ZERO,
                deadline: Duration::ZERO,
                reply: tokio::sync::oneshot::channel().0,
            })
        });
    }
}

/// A service over these nodes that takes every request; `more` is TOML for the table `[service.app]`.
pub fn app(nodes: &[SocketAddr], more: &str) -> String {
    let nodes: Vec<String> = nodes.iter().map(|node| format!("\"{node}\"")).collect();
    format!("[service.app]\nmatch = \"*\"\nnodes = [{}]\n{more}\n", nodes.join(", "))
}

/// Waits until something is so.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !so() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
