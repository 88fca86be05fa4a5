//! A node's answer on its way to becoming the client's.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http::header::UPGRADE;
use http::{HeaderValue, Response, StatusCode, Version};

use super::body::{self, Relay, RespBody, Start};
use super::border::Nature;
use super::call::{Registered, Stage};
use super::claim::Permit;
use super::error::Fault;
use super::headers::{self, Seen};
use super::refuse::linger;
use super::replay::Source;
use super::upgrade::Tunnel;
use super::upstream::{Feed, IdlePolicy, Upstream};
use super::worker::Worker;
use crate::config;
use crate::model::WorkKind;

/// Of an answer whose head is in order: what of its body came right behind.
pub struct Answer {
    rest: Rest,
    /// When its head came.
    came: Instant,
}

/// What follows the head.
enum Rest {
    /// No HTTP: with a 101, the connection becomes a tunnel.
    Tunnel(Box<Upstream>),
    /// All of the body.
    Whole(Bytes, Feed),
    /// The body, of which only a part came yet.
    Part(Vec<hyper::body::Frame<Bytes>>, Feed),
}

/// Looks at an answer, of which nothing is on its way to the client yet: what is wrong with it is an honest error instead of a
/// connection that ends.
pub async fn examine(response: &mut Response<RespBody>, mut feed: Feed, seen: &Seen) -> Result<Answer, Fault> {
    let came = Instant::now();
    let (status, version) = (response.status(), response.version());
    let keep_alive = headers::rewrite_response(response.headers_mut(), status, version)?;
    if let Feed::Http1(upstream) = &mut feed {
        upstream.set_keep_alive(keep_alive);
    }
    *response.version_mut() = Version::HTTP_11;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(asked), Feed::Http1(upstream)) = (&seen.upgrade, feed) else {
            return Err(Fault::BadResponse);
        };
        // What was not asked for would be taken for what was (RFC 9110 §7.8).
        let mut told = response.headers().get_all(UPGRADE).iter().flat_map(protocols);
        if !told.all(|told| protocols(asked).any(|asked| asked.eq_ignore_ascii_case(told))) {
            return Err(Fault::BadResponse);
        }
        return Ok(Answer { rest: Rest::Tunnel(upstream), came });
    }
    let mut feed = Some(feed);
    let start = poll_fn(|cx| Poll::Ready(feed.take().map(|feed| body::begin(cx, feed)))).await;
    let rest = match start {
        Some(Start::Whole(bytes, feed)) => Rest::Whole(bytes, feed),
        Some(Start::Part(ahead, feed)) => Rest::Part(ahead, feed),
        Some(Start::Failed(error)) => {
            tracing::debug!(%error, "broke off right behind the head");
            return Err(Fault::BadResponse);
        }
        // Not possible: it is polled once.
        None => return Err(Fault::BadResponse),
    };
    Ok(Answer { rest, came })
}

/// The names of an `Upgrade`, without their versions.
fn protocols(value: &HeaderValue) -> impl Iterator<Item = &str> {
    headers::tokens(value).filter_map(|protocol| protocol.split('/').next())
}

impl Answer {
    /// When its head came.
    pub fn came(&self) -> Instant {
        self.came
    }

    /// Drops it. Its connection is kept if nothing more comes on it.
    pub fn discard(self, worker: &Worker, settings: &config::Service) {
        if let Rest::Whole(_, Feed::Http1(upstream)) = self.rest {
            upstream.give_back(idle(worker, settings), self.came);
        }
    }

    /// Makes it the client's, whose request has this body and asks for this protocol: has `response` bring it.
    pub async fn pass_on(
        self,
        response: &mut Response<RespBody>,
        worker: &Rc<Worker>,
        call: Registered,
        permit: Permit,
        (source, upgrade): (Option<&Rc<Source>>, Option<&HeaderValue>),
        settings: &config::Service,
    ) {
        let Self { rest, came } = self;
        let idle = idle(worker, settings);
        let uploading = source.filter(|source| !source.is_complete());
        *response.body_mut() = match rest {
            Rest::Tunnel(upstream) => {
                let websocket = upgrade.is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"));
                let (stream, ahead, slot) = upstream.into_tunnel();
                call.set_kind(if websocket { WorkKind::WebSocket } else { WorkKind::Tunnel });
                call.enter(Stage::Flow, settings.timeouts.tunnel);
                let half_closed = settings.timeouts.body;
                RespBody::Tunnel(Box::new(Tunnel::new((stream, ahead), call, half_closed, permit, slot)))
            }
            Rest::Whole(bytes, feed) => {
                if let Feed::Http1(upstream) = feed {
                    // All of it came with the head.
                    upstream.give_back(idle, came);
                }
                drop(permit);
                if let Some(source) = uploading
                    && !call.is_stream()
                {
                    Box::pin(linger(source)).await;
                }
                RespBody::Full(bytes)
            }
            Rest::Part(ahead, feed) => {
                let (kind, limit, border) = match Nature::of(response.headers()) {
                    Nature::Answer => (WorkKind::Request, settings.timeouts.body, None),
                    Nature::Stream(border) => (WorkKind::Stream, settings.timeouts.tunnel, border),
                };
                call.set_kind(kind);
                call.enter(Stage::Flow, limit);
                let detached = uploading.is_some();
                RespBody::Relay(Box::new(Relay::new(ahead, feed, detached, border, idle, permit, call)))
            }
        };
    }
}

/// How the connection to a node is kept.
fn idle(worker: &Worker, settings: &config::Service) -> IdlePolicy {
    let connections = &settings.connections;
    IdlePolicy { most: worker.part_of(connections.idle), limit: connections.idle_timeout }
}
