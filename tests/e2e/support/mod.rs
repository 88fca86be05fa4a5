//! What the end-to-end tests are made of: a data plane that serves a given configuration, scripted nodes, and a client
//! that speaks raw bytes.

#![allow(dead_code, reason = "each test uses a part")]

pub mod any;
pub mod client;
pub mod control;
pub mod frames;
pub mod h2node;
pub mod hints;
pub mod hpack;
pub mod http2;
pub mod node;
pub mod strict;
pub mod tls;
pub mod trial;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use sluicegate::config::{self, Config, LogTarget};
use sluicegate::model::{NodeAddress, NodeId, ServiceName, Share, Version};
use sluicegate::net::listener;
use sluicegate::net::tls::{Client, Server};
use sluicegate::pool::balance::ONE;
use sluicegate::pool::{
    AccessLog, CohortKey, Command, Edge, Entrance, Hold, Node, Pool, Router, ServiceStats, ServiceView, ShutdownSpec,
    Slice, Snapshot,
};
use sluicegate::proxy;
use sluicegate::telemetry::lines::{Lines, Target};
use tokio::time::{Instant, sleep};

/// Long enough for a loaded machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The data plane alone: workers and one listener, every configured node of every release in the pool at once.
pub struct Proxy {
    pub address: SocketAddr,
    pub pool: Arc<Pool>,
    pub nodes: BTreeMap<NodeAddress, Arc<Node>>,
    /// What becomes of the listener's connections.
    pub entrance: Arc<ArcSwap<Entrance>>,
    pub holds: BTreeMap<ServiceName, Arc<Hold>>,
    stats: BTreeMap<ServiceName, Arc<ServiceStats>>,
    /// Writes the access log.
    lines: Option<(Arc<AccessLog>, Lines)>,
    config: Config,
}

impl Proxy {
    /// Serves the services of a configuration (TOML without its listener) with two workers.
    pub fn with(services: &str) -> Self {
        Self::with_workers(services, 2)
    }

    /// The same with this many workers.
    pub fn with_workers(services: &str, workers: usize) -> Self {
        Self::listening(services, "", workers)
    }

    /// The same; `listener` is TOML for `[[listener]]`.
    pub fn listening(services: &str, listener: &str, workers: usize) -> Self {
        let text = format!("{services}\n[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:0\"\n{listener}\n");
        let loaded = config::load_str(&text, Path::new("test.toml"));
        assert!(loaded.problems.is_empty(), "{:#?}", loaded.problems);
        let config = loaded.config.expect("a valid configuration");
        let wanted = &config.listeners[0];
        let tls = wanted.accepting.tls.as_ref().map(|settings| {
            let made = Server::load(settings, &wanted.accepting.protocols, None);
            made.server.unwrap_or_else(|| panic!("no TLS: {:#?}", made.problems))
        });
        let entrance = Arc::new(ArcSwap::from_pointee(Entrance::new(wanted, tls)));
        let (pool, subscriptions) = Pool::new(workers);
        proxy::start(subscriptions).expect("workers start");
        let address = ([127, 0, 0, 1], 0).into();
        let lines = config.access_log.clone().map(|settings| {
            let target = match &settings.target {
                LogTarget::Stdout => Target::Stdout,
                LogTarget::File(path) => Target::File(path.clone()),
            };
            let lines = Lines::start("access", target).expect("a thread");
            (Arc::new(AccessLog { settings, sink: lines.sink().clone() }), lines)
        });
        let mut proxy = Self {
            address,
            pool,
            nodes: BTreeMap::new(),
            holds: BTreeMap::new(),
            stats: BTreeMap::new(),
            lines,
            entrance,
            config,
        };
        proxy.publish(|_| true);
        let bind = proxy.config.listeners[0].bind;
        let sockets = listener::bind(bind, workers).expect("a free port");
        proxy.address = sockets[0].local_addr().expect("a bound socket");
        for (worker, socket) in sockets.into_iter().enumerate() {
            let entrance = Arc::clone(&proxy.entrance);
            assert!(proxy.pool.tell_one(worker, Command::Listen { id: 1, socket, entrance }));
        }
        proxy
    }

    /// Publishes a snapshot of the nodes that `serves` picks; known nodes stay the same.
    pub fn publish(&mut self, serves: impl Fn(&NodeAddress) -> bool) {
        let workers = self.pool.workers();
        let mut matches = Vec::new();
        let mut services = Vec::new();
        for (index, service) in self.config.services.values().enumerate() {
            let speaks_tls = service.versions.values().flatten().any(NodeAddress::is_tls);
            let tls = speaks_tls.then(|| Client::load(&service.tls, None).expect("TLS to nodes"));
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
                    let made = || {
                        let node = Node::new(id, workers);
                        node.set_tls(tls.clone());
                        node
                    };
                    let node = self.nodes.entry(address.clone()).or_insert_with(made);
                    (Arc::clone(node), weight(address))
                })
                .collect();
            let slice = Slice::new(Version::unnamed(), Share::ALL, nodes, &service.balance.policy);
            let slices = if slice.nodes.is_empty() { Vec::new() } else { vec![slice] };
            let hold = Arc::clone(self.holds.entry(service.name.clone()).or_default());
            let made = || Arc::new(ServiceStats::new(workers));
            let stats = Arc::clone(self.stats.entry(service.name.clone()).or_insert_with(made));
            services.push(Arc::new(ServiceView {
                settings: Arc::clone(service),
                slices,
                all_down: false,
                trial: None,
                halt: None,
                hold,
                stats,
            }));
        }
        let edge = Edge {
            trusted_proxies: self.config.trusted_proxies.clone(),
            limits: self.config.limits.clone(),
            errors: self.config.errors.clone(),
            cohort_key: Some(Arc::new(CohortKey::new(b"the key of the tests"))),
            forwards_clients: self.config.listeners[0].accepting.forwards_clients(),
            access_log: self.lines.as_ref().map(|(log, _)| Arc::clone(log)),
            spans: None,
            tracing: Some(Box::new(self.config.tracing.clone())),
        };
        self.pool.publish(Snapshot {
            generation: 0,
            router: Arc::new(Router::new(matches)),
            services,
            edge: Arc::new(edge),
        });
    }

    /// Serves another configuration from now on. As with the controller, what is the same stays the same.
    pub fn edit(&mut self, services: &str) {
        let text = format!("{services}\n[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:0\"\n");
        let loaded = config::load_str(&text, Path::new("test.toml"));
        assert!(loaded.problems.is_empty(), "{:#?}", loaded.problems);
        let mut config = loaded.config.expect("a valid configuration");
        for (name, service) in &mut config.services {
            if let Some(running) = self.config.services.get(name).filter(|running| *running == service) {
                *service = Arc::clone(running);
            }
        }
        self.config = config;
        self.publish(|_| true);
    }

    /// The node at this address.
    pub fn node(&self, address: SocketAddr) -> &Arc<Node> {
        &self.nodes[&NodeAddress::new(address.to_string())]
    }

    /// Lines of the access log that were written, and that were lost.
    pub fn lines(&self) -> (u64, u64) {
        self.lines.as_ref().map_or((0, 0), |(_, lines)| lines.sink().fate().counts())
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

/// Waits until the count has stood still for so long, and returns it.
pub async fn settled(count: &AtomicUsize, quiet: Duration) -> usize {
    let deadline = Instant::now() + PATIENCE;
    let mut last = (count.load(Ordering::SeqCst), Instant::now());
    while last.0 == 0 || last.1.elapsed() < quiet {
        assert!(Instant::now() < deadline, "it never stands still");
        sleep(Duration::from_millis(20)).await;
        let now = count.load(Ordering::SeqCst);
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    last.0
}
