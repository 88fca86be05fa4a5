//! One request, top to bottom.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Instant;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Body;

use super::body::{self, ClientBody, Relay, ReqBody, RespBody, Start};
use super::border::Nature;
use super::call::{Registered, Stage, Verdict};
use super::claim::{self, Failure, Permit, Refusal, Wait, claim};
use super::door::{self, Context, Pass};
use super::error::{self, Fault};
use super::forwarded;
use super::headers::{self, BodyLength, Seen};
use super::refuse::{admit, ended_by, limit_client, linger, turn_away};
use super::replay::Source;
use super::upgrade::Tunnel;
use super::upstream::{self, Demand, Feed, IdlePolicy, Loss, Sent};
use super::view::{ServiceLocal, View};
use super::worker::Worker;
use crate::config::{self, NodeProtocol};
use crate::model::WorkKind;
use crate::net::ConnectError;
use crate::pool::router::{Route, normalised};
use crate::pool::{CutReason, ServiceView};

/// Tries beyond `retry.attempts` for requests that no node has seen.
const SPARE_TRIES: usize = 8;

/// Answers one request. Never an error: what goes wrong becomes a response, or ends its body.
pub async fn handle(worker: Rc<Worker>, call: Registered, request: Request<ClientBody>) -> Response<RespBody> {
    worker.stats().requests.add_one();
    let mut context = Context::default();
    let outcome = answer(&worker, call, request, &mut context).await;
    if outcome.is_err() {
        worker.stats().failed.add_one();
    }
    let mut response = context.finish(&worker, outcome);
    if worker.is_closing() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A request that was examined and made ready for a node.
struct Outgoing {
    parts: Parts,
    seen: Seen,
    source: Option<Rc<Source>>,
    /// It may have to be sent twice.
    repeatable: bool,
    /// Neither the client nor a policy said which host is asked.
    hostless: bool,
    /// What the service tells requests by, if it does.
    key: Option<u64>,
}

async fn answer(
    worker: &Rc<Worker>,
    call: Registered,
    mut request: Request<ClientBody>,
    context: &mut Context,
) -> Result<Response<RespBody>, Fault> {
    let has_body = !request.body().is_end_stream();
    let view = worker.view();
    let limits = &view.edge().limits;
    context.pages.clone_from(&view.edge().errors);
    let admitted = admit(worker, limits, &call, &request, has_body, context);
    let admitted = admitted.and_then(|seen| Ok((route(&view, &request, &seen)?, seen)));
    let ((route, service, local), seen) = match admitted {
        Ok((_, seen)) if seen.max_forwards == Some(0) => return Ok(error::options()),
        Ok(admitted) => admitted,
        Err(fault) => {
            turn_away(&call, request, has_body, fault.closes()).await;
            return Err(fault);
        }
    };
    if let Some(door) = &service.settings.door {
        let state = local.door.state(&service.settings, door, &worker.meters);
        let pass = Pass::new(worker, &call, &view, state, &request, &seen);
        let pass = context.pass.insert(Box::new(pass));
        let entered = Box::pin(pass.enter(worker, &view, &call, &seen, &mut request)).await;
        if let Some(early) = entered.transpose() {
            turn_away(&call, request, has_body, false).await;
            return early;
        }
    }
    let pass = context.pass.as_deref();
    let most = pass.map_or(limits.body, |pass| pass.body_limit(limits.body));
    if has_body && most.is_some_and(|most| request.body().size_hint().lower() > most) {
        turn_away(&call, request, has_body, false).await;
        return Err(Fault::BodyTooLarge);
    }
    local.earn(service.settings.retry.budget);
    let (mut parts, incoming) = request.into_parts();
    let version = parts.version;
    // An asterisk asks about the server as a whole: there is no path to strip.
    if service.settings.strip_prefix && parts.uri.path() != "*" {
        let path = normalised(parts.uri.path()).into_owned();
        parts.uri = headers::target(&parts.uri, Some(&path[route.prefix..]))?;
    } else {
        parts.uri = headers::target(&parts.uri, None)?;
    }
    if let Some(uri) = pass.map(|pass| pass.rewrite(&parts.uri)).transpose()?.flatten() {
        parts.uri = uri;
    }
    let known = !has_body || parts.headers.contains_key(CONTENT_LENGTH);
    let length = if known { BodyLength::Known } else { BodyLength::Unknown };
    seen.rewrite(&mut parts.headers, version, length);
    forwarded::set(&mut parts.headers, &call.front, &seen, &view.edge().trusted_proxies);
    forwarded::set_client(&mut parts.headers, &call.front, view.edge());
    if let Some(pass) = pass {
        pass.change_request(&mut parts.headers);
    }
    limit_client(&call, &parts.headers, has_body, limits.body_rate, service.settings.timeouts.body);
    if seen.expects_continue {
        call.hold_body();
    }
    // Over HTTP/2 a node can say that it did nothing with a request, and then any may go again.
    let protocol = service.settings.connections.protocol;
    if seen.upgrade.is_some() && matches!(protocol, NodeProtocol::H2 | NodeProtocol::H2c) {
        return Err(Fault::NoUpgrade);
    }
    let multiplexed = protocol.may_multiplex();
    let repeatable = seen.idempotent || multiplexed;
    let held = if repeatable { service.settings.retry.buffer } else { 0 };
    let source = has_body.then(|| Source::new(call.shared(), incoming, held));
    if let (Some(source), Some(most)) = (&source, most) {
        source.limit_size(most);
    }
    let key = claim::key(&service.settings, &parts.headers, || {
        let peer = call.front.remote().ip().to_canonical();
        // A policy may have removed what told it.
        let told = || door::client_address(peer, &parts.headers, &view.edge().trusted_proxies);
        pass.map_or_else(told, Pass::client)
    });
    let hostless = seen.host.is_none() && !parts.headers.contains_key(HOST);
    let outgoing = Outgoing { parts, seen, source: source.clone(), repeatable, hostless, key };
    let lingers = !call.is_stream();
    let result = try_nodes(worker, call, outgoing, view, route.service).await;
    if matches!(&result, Err(fault) if fault.closes()) {
        // The connection lingers when it closes; the answer need not wait for that.
        return result;
    }
    // A stream is closed without harm to others; only HTTP/1 has to read on to keep its connection.
    if let (Err(_), Some(source), true) = (&result, &source, lingers) {
        Box::pin(linger(source)).await;
    }
    result
}

fn route<'a, B>(
    view: &'a View,
    request: &Request<B>,
    seen: &Seen,
) -> Result<(Route, &'a ServiceView, &'a Rc<ServiceLocal>), Fault> {
    let host = seen.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
    let route = view.router().find(host, &normalised(request.uri().path())).ok_or(Fault::NoService)?;
    let (service, local) = view.service(route.service).ok_or(Fault::NoService)?;
    Ok((route, service, local))
}

/// Sends the request to one node after another, as far as that is safe, until one answers.
async fn try_nodes(
    worker: &Rc<Worker>,
    call: Registered,
    mut outgoing: Outgoing,
    mut view: Rc<View>,
    index: usize,
) -> Result<Response<RespBody>, Fault> {
    let mut index = index;
    let mut tried: Vec<u64> = Vec::new();
    // Among them, the node that had only given up an idle connection.
    let mut stale: Option<u64> = None;
    let mut unsent: Option<Request<ReqBody>> = None;
    let mut fault = Fault::NoNode;
    let mut sends = 0;
    let mut refusals = 0;
    let mut wait: Option<Wait> = None;
    loop {
        let (service, local) = view.service(index).ok_or(Fault::NoService)?;
        if tried.len() >= service.settings.retry.attempts as usize + SPARE_TRIES {
            return Err(fault);
        }
        let permit = match claim(worker, &call, service, local, outgoing.key, &tried) {
            Ok(permit) => permit,
            Err(refusal) => {
                // The newest view may know better.
                let newest = worker.view();
                if !Rc::ptr_eq(&newest, &view) {
                    index = newest.index_of(index, &view).ok_or(Fault::NoService)?;
                    view = newest;
                    continue;
                }
                if refusal == Refusal::Again {
                    continue;
                }
                if let Some(again) = stale.take() {
                    // If it is the last one, it is as good as any.
                    tried.retain(|key| *key != again);
                    continue;
                }
                if refusal == Refusal::Full && sends == 0 {
                    fault = Fault::NodesFull;
                }
                // No node has seen it: it may wait for one that is ready, or can be reached again.
                let waits = sends == 0
                    && match fault {
                        Fault::NoNode | Fault::NodesFull => true,
                        Fault::Connect | Fault::ConnectTimeout => service.settings.hold.unreachable,
                        _ => false,
                    };
                if wait.is_none() && waits {
                    wait = Wait::begin(service);
                }
                let Some(wait) = wait.as_ref().filter(|_| waits) else {
                    return Err(fault);
                };
                let found = Box::pin(wait.for_node(worker, &call, (&view, index), outgoing.key, &tried)).await;
                let found = found.map_err(ended_by)?.ok_or(fault.clone())?;
                if found.afresh {
                    tried.clear();
                }
                (view, index) = (found.view, found.index);
                found.permit
            }
        };
        let (service, local) = view.service(index).ok_or(Fault::NoService)?;
        let settings = &*service.settings;
        let mut request = unsent.take().unwrap_or_else(|| outgoing.request(&call));
        if outgoing.hostless {
            // HTTP/1.0 without a host: the node is asked by its own name.
            if let Some(host) = call.node_address() {
                request.headers_mut().insert(HOST, host);
            }
        }
        permit.count_request();
        let replayable = outgoing.seen.idempotent;
        // The call's own time is the time only for its first try.
        let now = if tried.is_empty() && sends == 0 { call.started } else { Instant::now() };
        let upgrade = outgoing.seen.upgrade.is_some();
        let demand = Demand { replayable, again: sends > 0, now, upgrade };
        match upstream::send(worker, &call, permit.local(), settings, request, demand).await {
            Sent::Response(response) => {
                let failed = settings.rollout.guard.fails(response.status().as_u16());
                permit.count_answer(now.elapsed(), failed);
                return accept(worker, call, permit, response, &outgoing, settings).await;
            }
            Sent::Unsent(request, loss) => {
                tracing::debug!(node = %permit.local().node.id, %loss, "not sent");
                fault = outgoing.fault(&loss);
                permit.count_failure(blame(&loss));
                unsent = Some(request);
                // Reaching nobody is not a try: no node has seen the request. A drain only ends the wait for its own node.
                if matches!(loss, Loss::Judged(Verdict::Cut(CutReason::Shutdown | CutReason::Deadline))) {
                    return Err(fault);
                }
            }
            Sent::Refused(loss) => {
                tracing::debug!(node = %permit.local().node.id, %loss, "refused");
                fault = outgoing.fault(&loss);
                refusals += 1;
                let whole = outgoing.repeatable && outgoing.source.as_ref().is_none_or(|source| source.is_whole());
                // Nothing was done, so it costs nothing of the budget; and if there is no other node, this one may take it on
                // another connection.
                if !whole || refusals >= settings.retry.attempts as usize + SPARE_TRIES {
                    permit.count_failure(blame(&loss));
                    return Err(fault);
                }
                stale = Some(permit.local().node.key);
            }
            Sent::Lost(loss) => {
                tracing::debug!(node = %permit.local().node.id, %loss, "lost");
                fault = outgoing.fault(&loss);
                let ended = matches!(
                    fault,
                    Fault::ClientBody | Fault::BodyTooLarge | Fault::ClientTimeout | Fault::Shutdown | Fault::Deadline
                );
                if !ended {
                    permit.count_failure(blame(&loss));
                }
                let whole = outgoing.source.as_ref().is_none_or(|source| source.is_whole());
                sends += 1;
                // A connection that the node had given up says nothing about trouble, and the next try has a new one: so
                // that is free. The budget comes last: a request that is given up anyway must not use it up.
                let free = matches!(loss, Loss::Stale(_));
                stale = free.then_some(permit.local().node.key).or(stale);
                if ended || !replayable || !whole || sends >= settings.retry.attempts || !(free || local.spend()) {
                    return Err(fault);
                }
            }
        }
        tried.push(permit.local().node.key);
        call.set_node(None);
        drop(permit);
        worker.stats().retried.add_one();
        let newest = worker.view();
        if !Rc::ptr_eq(&newest, &view) {
            index = newest.index_of(index, &view).ok_or(Fault::NoService)?;
            view = newest;
        }
    }
}

impl Outgoing {
    /// The request for one more try.
    fn request(&mut self, call: &Registered) -> Request<ReqBody> {
        let body = self.source.as_ref().map_or_else(ReqBody::empty, Source::body);
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = self.parts.uri.clone();
        // A request that cannot go twice needs no copy of its head.
        *request.headers_mut() =
            if self.repeatable { self.parts.headers.clone() } else { std::mem::take(&mut self.parts.headers) };
        if self.seen.expects_continue {
            // The callback has to be `Sync`, so it raises a flag that the body looks at; the connection's task runs both.
            let asked = Arc::new(AtomicBool::new(false));
            call.await_continue(&asked);
            hyper::ext::on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE {
                    asked.store(true, Ordering::Relaxed);
                }
            });
        }
        request
    }

    fn fault(&self, loss: &Loss) -> Fault {
        if self.source.as_ref().is_some_and(|source| source.is_broken()) {
            let large = self.source.as_ref().is_some_and(|source| source.is_too_large());
            return if large { Fault::BodyTooLarge } else { Fault::ClientBody };
        }
        match loss {
            Loss::Connect(ConnectError::Unreachable(_)) => Fault::Connect,
            Loss::Connect(ConnectError::Tls(_)) => Fault::NodeTls,
            Loss::Protocol(_) | Loss::SpeaksHttp1 => Fault::Protocol,
            Loss::Head(_) => Fault::BadRequest("the request cannot be said in HTTP/2"),
            Loss::Busy => Fault::NodeBusy,
            Loss::Judged(Verdict::TimedOut(Stage::Connect)) => Fault::ConnectTimeout,
            Loss::Judged(Verdict::TimedOut(_)) => {
                let waiting = self.source.as_ref().is_some_and(|source| source.awaits_client());
                if waiting { Fault::ClientTimeout } else { Fault::ResponseTimeout }
            }
            Loss::Judged(verdict @ Verdict::Cut(_)) => ended_by(*verdict),
            Loss::Upload => Fault::ClientBody,
            Loss::Broken(error) if error.is_parse() => Fault::BadResponse,
            Loss::Stream(error) if error.is_library() => Fault::BadResponse,
            Loss::Stale(_) | Loss::Broken(_) | Loss::Stream(_) => Fault::Reset,
        }
    }
}

/// What a loss says about the node.
fn blame(loss: &Loss) -> Failure {
    match loss {
        Loss::Connect(_) | Loss::Protocol(_) | Loss::Judged(Verdict::TimedOut(Stage::Connect)) => Failure::Connect,
        Loss::Judged(Verdict::TimedOut(_)) => Failure::Timeout,
        Loss::Broken(_) | Loss::Stream(_) => Failure::Reset,
        // Ours to limit, a habit of idle connections, the client's doing, or a decision from outside.
        Loss::Busy
        | Loss::Stale(_)
        | Loss::SpeaksHttp1
        | Loss::Upload
        | Loss::Head(_)
        | Loss::Judged(Verdict::Cut(_)) => Failure::Other,
    }
}

/// Turns the node's answer into the client's.
async fn accept(
    worker: &Rc<Worker>,
    call: Registered,
    permit: Permit,
    response: Response<Feed>,
    outgoing: &Outgoing,
    settings: &config::Service,
) -> Result<Response<RespBody>, Fault> {
    let (mut head, mut feed) = response.into_parts();
    let keep_alive = headers::rewrite_response(&mut head.headers, head.status, head.version).inspect_err(|_| {
        permit.count_failure(Failure::Reset);
    })?;
    if head.status.is_server_error() {
        permit.count_failure(Failure::Status);
    } else {
        permit.count_success();
    }
    if let Feed::Http1(_, upstream) = &mut feed {
        upstream.set_keep_alive(keep_alive);
    }
    head.version = Version::HTTP_11;
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(protocol), Feed::Http1(_, upstream)) = (&outgoing.seen.upgrade, feed) else {
            permit.count_failure(Failure::Reset);
            return Err(Fault::BadResponse);
        };
        let websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
        let (stream, ahead, slot) = Box::pin(upstream.into_tunnel()).await.ok_or(Fault::Reset)?;
        call.set_kind(if websocket { WorkKind::WebSocket } else { WorkKind::Tunnel });
        call.enter(Stage::Flow, settings.timeouts.tunnel);
        let tunnel = Tunnel::new(stream, ahead, call, permit, slot);
        return Ok(Response::from_parts(head, RespBody::Tunnel(Box::new(tunnel))));
    }
    let nature = Nature::of(&head.headers);
    let connections = &settings.connections;
    let idle = IdlePolicy { most: worker.part_of(connections.idle), limit: connections.idle_timeout };
    let uploading = outgoing.source.as_ref().filter(|source| !source.is_complete());
    let mut feed = Some(feed);
    let start = poll_fn(|cx| Poll::Ready(feed.take().map(|feed| body::begin(cx, feed)))).await;
    let body = match start {
        None => RespBody::Empty,
        Some(Start::Failed(error)) => {
            // Nothing is on its way to the client yet: an honest error instead of a connection that ends.
            tracing::debug!(node = %permit.local().node.id, %error, "broke off right behind the head");
            permit.count_failure(Failure::Reset);
            return Err(Fault::BadResponse);
        }
        Some(Start::Whole(bytes, feed)) => {
            if let Feed::Http1(_, upstream) = feed {
                upstream.give_back(idle);
            }
            drop(permit);
            if let Some(source) = uploading
                && !call.is_stream()
            {
                Box::pin(linger(source)).await;
            }
            RespBody::Full(bytes)
        }
        Some(Start::Part(ahead, feed)) => {
            let (kind, limit, border) = match nature {
                Nature::Answer => (WorkKind::Request, settings.timeouts.body, None),
                Nature::Stream(border) => (WorkKind::Stream, settings.timeouts.tunnel, border),
            };
            call.set_kind(kind);
            call.enter(Stage::Flow, limit);
            let detached = uploading.is_some();
            RespBody::Relay(Box::new(Relay::new(ahead, feed, detached, border, idle, permit, call)))
        }
    };
    Ok(Response::from_parts(head, body))
}
