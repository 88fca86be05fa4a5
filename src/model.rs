//! The plain words of Sluice, as types: what every layer may speak about.
//!
//! Nothing here knows a socket, a file or a clock. A [`Timestamp`] is given, never taken.

mod tally;

use std::borrow::Borrow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use tally::{BUCKETS, FailureKind, Latencies, Tally, bucket_of, upper_edge};

macro_rules! word {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as it is; validation is the configuration's work.
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(Arc::from(text.as_ref()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    };
}

word! {
    /// One application, chosen by host and path.
    ServiceName
}
word! {
    /// A release of a service. The short form `nodes = […]` has one, [`Version::unnamed`].
    Version
}
word! {
    /// Where a node listens, as written: `host:port`, or `https://host:port` if it speaks TLS. A host name is looked up when
    /// a connection is made.
    NodeAddress
}

impl Version {
    /// The only version of a service that is configured by the short form `nodes = […]`.
    /// The name cannot be written in a configuration, so it never meets a named one.
    pub fn unnamed() -> Self {
        Self::new("-")
    }

    /// Whether this is the version of the short form.
    pub fn is_unnamed(&self) -> bool {
        self.as_str() == "-"
    }
}

impl NodeAddress {
    /// Whether the node speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.as_str().starts_with(HTTPS)
    }

    /// `host:port`, whatever the node speaks.
    pub fn authority(&self) -> &str {
        self.as_str().strip_prefix(HTTPS).unwrap_or(self.as_str())
    }

    /// The host alone; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        let host = self.authority().rsplit_once(':').map_or(self.authority(), |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The socket address, if the host is an IP literal and no look-up is needed.
    pub fn literal(&self) -> Option<SocketAddr> {
        self.authority().parse().ok()
    }
}

/// What the address of a node that speaks TLS begins with.
const HTTPS: &str = "https://";

/// Identity of a node: the same address in a new version is a new node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId {
    /// The service that the node belongs to.
    pub service: ServiceName,
    /// The release that the node runs.
    pub version: Version,
    /// Where it listens.
    pub address: NodeAddress,
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.version.is_unnamed() {
            write!(f, "{}/{}", self.service, self.address)
        } else {
            write!(f, "{}/{}/{}", self.service, self.version, self.address)
        }
    }
}

/// A part of traffic, in hundredths of a percent: `Share(10_000)` is all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(pub u32);

impl Share {
    /// All traffic.
    pub const ALL: Self = Self(10_000);
    /// No traffic.
    pub const NONE: Self = Self(0);

    /// `part` of `whole`, rounded down; nothing of nothing.
    pub fn of(part: usize, whole: usize) -> Self {
        (part * 10_000).checked_div(whole).map_or(Self::NONE, |share| Self(share as u32))
    }

    /// In percent, for people.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}%", self.percent()))
    }
}

/// Where a node is on its way. `ejected` stands aside of the way: known, but unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Probed, no traffic yet.
    Joining,
    /// Gets a growing part of its share (slow start).
    Warming,
    /// Gets its share.
    Serving,
    /// Healthy and kept ready, but gets no traffic: the old version of a blue-green switch.
    Standby,
    /// Gets nothing new; what it has is finishing.
    Draining,
    /// Holds no work: the process behind it may be stopped.
    Drained,
    /// Was serving and failed its probes.
    Ejected,
}

impl NodeState {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Joining, Self::Warming, Self::Serving, Self::Standby, Self::Draining, Self::Drained, Self::Ejected];

    /// The word that operators see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Warming => "warming",
            Self::Serving => "serving",
            Self::Standby => "standby",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Ejected => "ejected",
        }
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The kind of a piece of work; each kind has its own drain deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkKind {
    /// A request with an ordinary response, however large.
    Request,
    /// A response without a natural end: server-sent events, gRPC.
    Stream,
    /// An upgraded connection that speaks WebSocket.
    WebSocket,
    /// An upgraded connection that speaks anything else.
    Tunnel,
}

impl WorkKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Request, Self::Stream, Self::WebSocket, Self::Tunnel];

    /// As in JSON, in metrics and in the access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Stream => "stream",
            Self::WebSocket => "websocket",
            Self::Tunnel => "tunnel",
        }
    }
}

impl fmt::Display for WorkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One piece of work that holds a draining node open, or that was cut when the deadline came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// What kind of work.
    pub kind: WorkKind,
    /// The request's method.
    pub method: String,
    /// The request's path, without its query (queries carry secrets).
    pub path: String,
    /// Who asked.
    pub client: String,
    /// How long it had been going on, in milliseconds.
    pub age_ms: u64,
}

/// Wall-clock time in milliseconds since the Unix epoch. Given by the caller everywhere; survives a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This much later; saturates.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_millis().min(u128::from(u64::MAX)) as u64))
    }

    /// How long after `earlier`; zero if the clock went backwards.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
