//! The configuration: valid by construction.
//!
//! Three steps, each a file: `file` reads TOML as it is written and keeps where each value stands (`syntax` parses,
//! `reader` does the types, `units` and `words` the values), `validate` turns that into a [`Config`] and collects every error on the way,
//! `error` shows them. `claims` sets services against each other; `load` adds the file system: the main file, what it includes (`include`), and which of them are
//! held back; `again` reads only the files that changed, and `patch` only what changed in a large one (`blocks`).
//! Nothing past this module asks whether a value makes sense.

mod admin;
mod again;
mod attached;
mod balance;
mod blocks;
mod cache;
mod claims;
mod defaults;
mod door;
mod error;
mod file;
mod include;
mod judges;
mod lists;
mod load;
mod log;
mod metrics;
mod named;
mod nodes;
mod patch;
mod protocol;
mod reader;
mod rollout;
mod stamp;
mod syntax;
mod template;
mod tls;
mod tokens;
mod tracing;
mod trial;
mod units;
mod validate;
mod words;

#[cfg(test)]
mod tests;

pub use admin::{Admin, AdminTls};
pub use balance::{Balance, Eject, HashBy, Hold, Kinds, Policy};
pub use cache::Cache;
pub use door::*;
pub use error::{render, render_coloured};
pub use judges::{Endpoint, Events, Judge, Question, Unavailable};
pub use load::{Loaded, load, load_again, load_str};
pub use log::{AccessLog, LogField, LogFormat, LogPiece, LogTarget};
pub use metrics::Metrics;
pub use named::NamedFile;
pub use protocol::NodeProtocol;
pub use rollout::{Control, Guard, Quantiles, Rollout, Shield, Step, Strategy, TooFew};
pub use stamp::Stamp;
pub use tls::{Accepting, CertificateSource, ClientAuth, ClientTls, Protocol, ProxyVersion, ServerTls, TlsVersion};
pub use tokens::{Role, Token};
pub use tracing::{Export, Tracing};
pub use trial::*;
pub use units::parse_duration;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{NodeAddress, ServiceName, Version};
use ipnet::IpNet;

/// Everything that the files say.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where Sluice accepts; names are unique.
    pub listeners: Vec<Listener>,
    /// What it serves.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    /// How verbs reach it.
    pub admin: Admin,
    /// `state_dir`; where the default is, `app` decides.
    pub state_dir: Option<PathBuf>,
    /// Number of data-plane threads; one a core if not given. Fixed for the life of the process.
    pub workers: Option<usize>,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Bounds on what clients may use.
    pub limits: Limits,
    /// What clients see when something goes wrong and their service does not say, or they have none.
    pub errors: Option<Arc<Errors>>,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// How much `/metrics` tells.
    pub metrics: Metrics,
    /// A line for each request, if it is wanted.
    pub access_log: Option<Arc<AccessLog>>,
    /// How requests are followed from hop to hop.
    pub tracing: Tracing,
}

/// An address that Sluice accepts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// The address; port 0 takes any free port, which `status` tells.
    pub bind: SocketAddr,
    /// What becomes of its connections.
    pub accepting: Accepting,
}

/// Bounds on what clients may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections open at once, over all listeners.
    pub connections: usize,
    /// The same from one address; in IPv6 from one /64. Trusted proxies are free of it.
    pub connections_per_address: Option<usize>,
    /// Requests under way at once.
    pub requests: usize,
    /// A connection is closed, or in HTTP/2 given up, after this many.
    pub requests_per_connection: Option<usize>,
    /// Bytes of a request head.
    pub head_size: usize,
    /// Fields in a request head.
    pub headers: usize,
    /// A request head must be complete this long after its first byte.
    pub head: Duration,
    /// A kept-alive connection without a request is closed after this long.
    pub idle: Duration,
    /// Requests at once on one HTTP/2 connection.
    pub streams: usize,
    /// An HTTP/2 client with open streams that sends nothing for this long is asked for a sign of life, and closed after
    /// as long again without one.
    pub ping: Duration,
    /// A TLS handshake, and a PROXY header, must be complete this long after the connection was accepted.
    pub handshake: Duration,
    /// TLS handshakes under way at once, over all listeners.
    pub handshakes: usize,
    /// Bytes of a request body.
    pub body: Option<u64>,
    /// Bytes a second that a client must send of a body, or take of one, as long as it is the client who is waited for;
    /// counted over each `timeouts.body` of such waiting. 0: any rate will do.
    pub body_rate: usize,
}

/// How the process ends on SIGTERM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Time between `/readyz` turning false and the first change for clients.
    pub delay: Duration,
    /// How long an idle client connection is still served before it is closed.
    pub linger: Duration,
    /// When what is still running is cut, counted from the end of `delay`.
    pub deadline: Duration,
}

/// One service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// The file that defines it.
    pub source: PathBuf,
    /// Which requests are its own.
    pub matches: Vec<Match>,
    /// Whether the matched path prefix is removed before a node sees it.
    pub strip_prefix: bool,
    /// The version that shall serve; [`Version::unnamed`] in the short form.
    pub release: Version,
    /// The nodes of each version. `release` is among them.
    pub versions: BTreeMap<Version, Vec<NodeAddress>>,
    /// The nodes of each version that have another weight than 1; a version without such nodes is not in here.
    pub weights: BTreeMap<Version, BTreeMap<NodeAddress, u32>>,
    /// How nodes are probed.
    pub health: Health,
    /// How a new version takes over.
    pub rollout: Rollout,
    /// How long work on a leaving node may take.
    pub drain: Drain,
    /// How long a node may take.
    pub timeouts: Timeouts,
    /// When a request may be sent again.
    pub retry: Retry,
    /// How connections to nodes are kept.
    pub connections: Connections,
    /// How a node is chosen.
    pub balance: Balance,
    /// When a node is left out because of how it answers.
    pub eject: Eject,
    /// What happens to a request for which no node is ready.
    pub hold: Hold,
    /// How nodes at `https://` are spoken to.
    pub tls: ClientTls,
    /// What happens to its requests besides being passed on. Behind an `Arc` because most services have none.
    pub door: Option<Arc<Door>>,
    /// What it does with its users while two versions serve. Behind an `Arc` because most services have nothing of it.
    pub trial: Option<Arc<Trial>>,
}

impl Service {
    /// The weight of a node: its part of the traffic beside the others'. None if it is not among these nodes.
    pub fn weight(&self, version: &Version, address: &NodeAddress) -> Option<u32> {
        let weight = self.weights.get(version).and_then(|weights| weights.get(address).copied());
        weight.or_else(|| self.versions.get(version)?.contains(address).then_some(1))
    }
}

/// A host, or a host and a path prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Match {
    /// Which hosts.
    pub host: HostPattern,
    /// A path prefix on a segment border: starts with `/` and does not end with it; empty for all paths.
    pub prefix: String,
}

/// Which hosts; all in lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This one.
    Exact(String),
    /// `*.example.com`: any name below `example.com`, held here without the `*.`.
    Wildcard(String),
    /// `*`.
    Any,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostPattern::Exact(name) => write!(f, "{name}{}", self.prefix),
            HostPattern::Wildcard(name) => write!(f, "*.{name}{}", self.prefix),
            HostPattern::Any => write!(f, "*{}", self.prefix),
        }
    }
}

/// How nodes are probed.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// What a probe does.
    pub probe: Probe,
    /// From one probe's end to the next one's start.
    pub interval: Duration,
    /// A probe must be answered within this.
    pub timeout: Duration,
    /// Consecutive passes that make a node healthy.
    pub rise: u32,
    /// Consecutive failures that make a node unhealthy.
    pub fall: u32,
    /// What happens when every node is unhealthy.
    pub all_down: AllDown,
    /// Which HTTP a probe speaks: that of requests, `connections.protocol`.
    pub protocol: NodeProtocol,
    /// A probe begins with a PROXY header of its own, because the nodes want one: `connections.proxy_protocol`.
    pub proxy_protocol: Option<ProxyVersion>,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// Connects.
    Tcp,
    /// Asks `grpc.health.v1.Health/Check`, over HTTP/2.
    Grpc {
        /// The service that is asked for; empty for the server as a whole.
        service: String,
        /// The `:authority`; the node's address if not given.
        host: Option<String>,
    },
    /// Asks with GET.
    Http {
        /// Path and query.
        path: String,
        /// The `Host` header; the node's address if not given.
        host: Option<String>,
        /// Statuses that pass.
        status: Vec<RangeInclusive<u16>>,
        /// Text that the body (its first 64 KiB) must hold; `{version}` stands for the node's version.
        body: Option<String>,
        /// A header that must be there with this value; its name is in lower case, `{version}` as above.
        header: Option<(String, String)>,
    },
}

/// What happens when every node of a service is unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllDown {
    /// Traffic goes to all of them: the checker is more likely wrong than every node.
    Serve,
    /// Requests are answered 503.
    Refuse,
}

/// Drain deadlines by kind of work, counted from the moment that the node leaves the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// For requests with an ordinary response.
    pub requests: Duration,
    /// For server-sent events and the like.
    pub streams: Duration,
    /// For WebSockets and other tunnels.
    pub websockets: Duration,
    /// Streams and WebSockets are ended spread over this last part of their time, so that clients do not all come back at once.
    pub spread: Duration,
}

/// How long a node may take; each has its own error label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To accept a connection.
    pub connect: Duration,
    /// From the end of the request's head to the response's head.
    pub response: Duration,
    /// Without a byte of a body in either direction.
    pub body: Duration,
    /// Without a byte through a tunnel in either direction.
    pub tunnel: Duration,
}

/// When a request may be sent again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Tries in all, the first one included.
    pub attempts: u32,
    /// Replays of requests that a node may have seen, as a part of all requests (0.2 is a fifth), above a small reserve.
    pub budget: f64,
    /// Bytes of a request body that are held for a replay.
    pub buffer: usize,
}

/// How connections to nodes are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Connections to one node at once, over all workers.
    pub max: usize,
    /// Idle ones kept for one node, over all workers.
    pub idle: usize,
    /// An idle one is closed after this long; a node's `Keep-Alive: timeout=` shortens it.
    pub idle_timeout: Duration,
    /// A request that must not be sent twice takes an idle connection only if it was used less than this long ago; and none of
    /// a node that was seen to close connections within a second. An idle HTTP/2 connection is asked with a PING instead.
    pub fresh: Duration,
    /// Which HTTP the nodes speak.
    pub protocol: NodeProtocol,
    /// Each connection begins with a PROXY header that names its client, and is used for no other.
    pub proxy_protocol: Option<ProxyVersion>,
    /// HTTP/2: streams on one connection at once; a node may allow fewer.
    pub streams: usize,
    /// HTTP/2: a connection with open streams that is silent for this long is asked with a PING.
    pub ping: Duration,
}
