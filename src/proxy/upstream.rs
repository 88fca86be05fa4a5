//! One exchange with a node, whichever HTTP it speaks.
//!
//! An HTTP/1 connection belongs to one exchange at a time and is driven by it ([`h1`]); an HTTP/2 connection is a task of its
//! own that carries many ([`h2`]).

mod h1;
pub mod h2;

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::body::{ReqBody, RespBody};
use super::call::{Call, Verdict};
use super::forwarded::Told;
use super::view::LocalNode;
use super::worker::Worker;
use crate::config::{self, NodeProtocol, Protocol};
use crate::net::{self, ConnectError, Dial, Introduction, Stream, http1};
use http::Response;
use http::request::Parts;

pub use h1::{Detached, Upstream};

/// How an exchange came out.
pub enum Sent {
    /// The head of a response is where it was to be; this brings the rest.
    Response(Feed),
    /// Nothing was written: the request may go anywhere.
    Unsent(Loss),
    /// The node said that it did nothing with it (RFC 9113 §8.7): it may go again as long as its body is whole, whatever its
    /// method.
    Refused(Loss),
    /// The node may have seen it. It may go again only if that does no harm.
    Lost(Loss),
}

/// What brings the rest of a response.
pub enum Feed {
    /// A connection that is this exchange's own.
    Http1(Box<Upstream>),
    /// A stream of a connection that carries others too.
    Http2(Box<h2::Answer>),
}

/// How many idle connections of a node are kept, and how long.
#[derive(Clone, Copy, Debug)]
pub struct IdlePolicy {
    /// This worker's number.
    pub most: usize,
    /// The configured time; the node may have named a shorter one.
    pub limit: Duration,
}

/// What decides which connection a request may have.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// It may be sent twice.
    pub replayable: bool,
    /// It was lost once: now it gets a new connection, because an idle one may be as dead as the last.
    pub again: bool,
    /// The time.
    pub now: Instant,
    /// It asks for another protocol (RFC 9110 §7.8), which is done over HTTP/1.1.
    pub upgrade: bool,
}

/// What a node is asked.
#[derive(Debug)]
pub struct Ask<'a, B> {
    /// The head.
    pub head: &'a Parts,
    /// What the node is told of the client, if that does not stand in the head.
    pub told: Option<&'a Told>,
    /// Makes the body, for each connection that is tried.
    pub body: B,
}

/// Why an exchange failed.
#[derive(Debug)]
pub enum Loss {
    /// No connection.
    Connect(ConnectError),
    /// There is a connection, and the node does not speak HTTP/2 on it.
    Protocol(String),
    /// It may speak either, and chose HTTP/1.1.
    SpeaksHttp1,
    /// The node's connection limit.
    Busy,
    /// A connection that had been idle ended without a byte of an answer: most likely the node had just given it up.
    Stale(http1::Error),
    /// The connection broke.
    Broken(http1::Error),
    /// The stream or its connection broke.
    Stream(::h2::Error),
    /// The client's body failed, and the stream was reset for that.
    Upload,
    /// The head cannot be said in HTTP/2.
    Head(String),
    /// From outside.
    Judged(Verdict),
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::Protocol(error) => write!(f, "the node does not speak HTTP/2: {error}"),
            Self::SpeaksHttp1 => write!(f, "the node chose HTTP/1.1"),
            Self::Busy => write!(f, "the node is at its connection limit"),
            Self::Stale(error) => write!(f, "the idle connection was closed: {error}"),
            Self::Broken(error) => write!(f, "the exchange failed: {error}"),
            Self::Stream(error) => write!(f, "the stream failed: {error}"),
            Self::Upload => write!(f, "the client's body failed"),
            Self::Head(error) => write!(f, "the head cannot be said in HTTP/2: {error}"),
            Self::Judged(verdict) => write!(f, "ended from outside: {verdict:?}"),
        }
    }
}

/// Sends a request to a node. The head of its response is read into `response`, whose body is somebody else's to set.
pub async fn send(
    worker: &Worker,
    call: &Call,
    local: &Rc<LocalNode>,
    settings: &config::Service,
    ask: Ask<'_, impl Fn() -> ReqBody>,
    demand: Demand,
    response: &mut Response<RespBody>,
) -> Sent {
    let may_choose = || {
        let speaks_http1 = local.carriers.chosen() == Some(Protocol::Http1);
        local.node.id.address.is_tls() && !demand.upgrade && !speaks_http1
    };
    let http2 = match settings.connections.protocol {
        NodeProtocol::Http1 => false,
        NodeProtocol::H2 | NodeProtocol::H2c => true,
        // Only TLS has a way to choose.
        NodeProtocol::Auto => settings.connections.proxy_protocol.is_none() && may_choose(),
    };
    if !http2 {
        return h1::send(worker, call, local, settings, ask, demand, response).await;
    }
    match Box::pin(h2::send(worker, call, local, settings, &ask, demand, response)).await {
        Sent::Unsent(Loss::SpeaksHttp1) => h1::send(worker, call, local, settings, ask, demand, response).await,
        sent => sent,
    }
}

/// A new connection to a node, offering these over TLS.
async fn connect(
    local: &LocalNode,
    offer: &[Protocol],
    introduce: Option<Introduction>,
) -> Result<Stream, ConnectError> {
    let tls = local.node.tls();
    let dial = Dial { address: &local.node.id.address, tls: tls.as_deref(), offer, introduce };
    // What is written to a node that has closed is no error: its answer may lie in our buffer.
    Ok(net::connect(dial).await?.forgiving(true))
}
