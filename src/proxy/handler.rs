//! One request, top to bottom.

use std::pin::pin;
use std::rc::Rc;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::body::Body;

use super::access_log;
use super::attempts::{Outgoing, try_nodes};
use super::body::{ClientBody, RespBody};
use super::call::{Call, Registered};
use super::claim::Course;
use super::door::{self, Context, Pass};
use super::error::{self, Fault};
use super::forwarded::{self, Told};
use super::headers::{self, BodyLength, Seen};
use super::key;
use super::refuse::{admit, limit_client, linger, turn_away};
use super::replay::Source;
use super::trace;
use super::trial::{self, Guest};
use super::view::{ServiceLocal, View};
use super::worker::Worker;
use crate::api::class_of;
use crate::config::{NodeProtocol, Policy};
use crate::pool::router::{Route, normalised};
use crate::pool::{Aim, Edge, ServiceView, Turn};

/// Answers one request. Never an error: what goes wrong becomes a response, or ends its body. Both heads stay where they are read
/// and are changed there: a move of one costs more than reading a field.
pub async fn handle(
    worker: &Rc<Worker>,
    call: Registered,
    (head, body): (&mut Parts, ClientBody),
    response: &mut Response<RespBody>,
) {
    worker.stats().requests.add_one();
    let mut context = Context::default();
    // Pinned first, it is made in its place; awaited at once, it would be made elsewhere and moved.
    let outcome = pin!(answer(worker, call, (head, body), &mut context, response)).await;
    let failed = outcome.is_err();
    let local = context.local.take();
    let entry = context.entry.take();
    let told = outcome.as_ref().err().filter(|_| entry.is_some()).map(access_log::told);
    if let (Some(guest), Ok(())) = (&mut context.guest, &outcome) {
        guest.mark(response);
    }
    context.finish(worker, outcome, response);
    count(worker, local.as_deref(), response.status(), failed);
    if let Some(entry) = entry {
        // If nobody else has a part in it any more, this is all that comes.
        let whole = (Rc::strong_count(&entry) == 1).then(|| response.body().size_hint().lower());
        entry.finish(response.status().as_u16(), told, whole);
    }
    if worker.is_closing() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Counts what the client of a request gets, for the service that it was for.
fn count(worker: &Worker, local: Option<&ServiceLocal>, status: StatusCode, failed: bool) {
    let shard = local.and_then(|local| local.stats(worker.index()));
    let classes = shard.map_or(&worker.stats().unrouted, |shard| &shard.classes);
    classes[class_of(status.as_u16())].add_one();
    if failed {
        worker.stats().failed.add_one();
        if let Some(shard) = shard {
            shard.failed.add_one();
        }
    }
}

/// Gives the request a name, and begins to note what becomes of it; both only if they are wanted.
fn name(worker: &Worker, edge: &Edge, call: &Call, head: &Parts, context: &mut Context) {
    if let Some(name) = edge.tracing.as_ref().and_then(|tracing| tracing.request_id.as_ref()) {
        let trusted = door::is_trusted(call.front.remote().ip().to_canonical(), &edge.trusted_proxies);
        let id = trace::request_id(&head.headers, name, trusted, || worker.random());
        context.request_id = Some(Box::new((name.clone(), id)));
    }
    if edge.access_log.is_some() || edge.spans.is_some() {
        context.entry = access_log::begin(worker, edge, call, head);
    }
}

/// Has the node see which trace and which request this is.
fn follow(worker: &Worker, edge: &Edge, seen: &Seen, headers: &mut HeaderMap, context: &Context) {
    let tracing = edge.tracing.as_deref();
    let own = context.entry.as_ref().and_then(|entry| entry.span()?.header());
    let trace = if let Some(own) = own {
        trace::join(headers, &own);
        Some(own)
    } else if tracing.is_some() || seen.has_trace() {
        trace::follow(headers, seen.has_trace(), tracing, || worker.random())
    } else {
        None
    };
    if let Some(named) = &context.request_id {
        headers.insert(named.0.clone(), named.1.clone());
    }
    if let Some(entry) = &context.entry {
        let claimed = if context.request_id.is_none() { trace::claimed_id(headers) } else { None };
        entry.name(context.request_id.as_ref().map(|named| &named.1).or(claimed.as_ref()), trace.as_ref());
    }
}

async fn answer(
    worker: &Rc<Worker>,
    call: Registered,
    (head, body): (&mut Parts, ClientBody),
    context: &mut Context,
    response: &mut Response<RespBody>,
) -> Result<(), Fault> {
    let has_body = !body.is_end_stream();
    let view = worker.view();
    let limits = &view.edge().limits;
    context.pages.clone_from(&view.edge().errors);
    name(worker, view.edge(), &call, head, context);
    let mut seen = Seen::default();
    let admitted = admit(worker, limits, &call, head, has_body, context, &mut seen);
    let admitted = admitted.and_then(|()| {
        let told = Told::of(&call.front, seen.host.as_ref(), head.version);
        Ok((route(&view, head.uri.path(), &told)?, told))
    });
    let ((route, service, local), told) = match admitted {
        Ok(_) if seen.max_forwards == Some(0) => {
            *response = error::options();
            return Ok(());
        }
        Ok(admitted) => admitted,
        Err(fault) => {
            turn_away(&call, head, body, fault.closes()).await;
            return Err(fault);
        }
    };
    context.local = Some(Rc::clone(local));
    if let Some(entry) = &context.entry {
        entry.set_service(local);
    }
    // Before anybody else is shown the request.
    let preview = service.settings.trial.as_ref().is_some_and(|trial| trial::conceal(trial, &mut head.headers));
    if let Some(door) = &service.settings.door {
        let state = local.door.state(&service.settings, door, &worker.meters);
        let pass = Pass::new(worker, &call, &view, state, head, &seen);
        let pass = context.pass.insert(Box::new(pass));
        if let Some(named) = &context.request_id {
            pass.set_request_id(&named.1);
        }
        let entered = Box::pin(pass.enter(worker, &view, &call, &seen, head)).await;
        if let Some(early) = entered.transpose() {
            turn_away(&call, head, body, false).await;
            *response = early?;
            return Ok(());
        }
    }
    let pass = context.pass.as_deref();
    let most = pass.map_or(limits.body, |pass| pass.body_limit(limits.body));
    if has_body && most.is_some_and(|most| body.size_hint().lower() > most) {
        turn_away(&call, head, body, false).await;
        return Err(Fault::BodyTooLarge);
    }
    local.earn(service.settings.retry.budget);
    if service.settings.trial.is_some() {
        let asked = (&head.method, head.uri.path(), &head.headers);
        context.guest = Guest::of(&call, &view, (service, local), preview, asked);
        if let (Some(entry), Some(guest)) = (&context.entry, &context.guest)
            && let Some(cohort) = guest.cohort()
        {
            entry.set_cohort(cohort);
        }
    }
    // An asterisk asks about the server as a whole: there is no path to strip.
    if service.settings.strip_prefix && head.uri.path() != "*" {
        let path = normalised(head.uri.path()).into_owned();
        head.uri = headers::target(&head.uri, Some(&path[route.prefix..]))?;
    } else if head.uri.authority().is_some() {
        head.uri = headers::target(&head.uri, None)?;
    }
    if let Some(uri) = pass.map(|pass| pass.rewrite(&head.uri)).transpose()?.flatten() {
        head.uri = uri;
    }
    let known = !has_body || head.headers.contains_key(CONTENT_LENGTH);
    let length = if known { BodyLength::Known } else { BodyLength::Unknown };
    seen.rewrite(&mut head.headers, length);
    let protocol = service.settings.connections.protocol;
    // Whoever looks at fields, or may change them, has to find all of them.
    let looks = pass.is_some()
        || service.settings.trial.is_some()
        || protocol.may_multiplex()
        || matches!(service.settings.balance.policy, Policy::Hash { .. });
    let ready_made = if looks { None } else { told.ready_made(&seen) };
    if ready_made.is_none() {
        forwarded::set(&mut head.headers, &call.front, &seen, &told, &view.edge().trusted_proxies);
    }
    forwarded::set_client(&mut head.headers, &call.front, view.edge());
    follow(worker, view.edge(), &seen, &mut head.headers, context);
    if let Some(pass) = pass {
        pass.change_request(&mut head.headers);
    }
    limit_client(&call, &head.headers, has_body, limits.body_rate, service.settings.timeouts.body);
    if seen.expects_continue {
        call.hold_body();
    }
    // Over HTTP/2 a node can say that it did nothing with a request, and then any may go again.
    if seen.upgrade.is_some() && matches!(protocol, NodeProtocol::H2 | NodeProtocol::H2c) {
        return Err(Fault::NoUpgrade);
    }
    let multiplexed = protocol.may_multiplex();
    let repeatable = seen.idempotent || multiplexed;
    let held = if repeatable { service.settings.retry.buffer } else { 0 };
    let source = has_body.then(|| Source::new(call.shared(), body, held));
    if let (Some(source), Some(most)) = (&source, most) {
        source.limit_size(most);
    }
    let key = key::of(&service.settings, &head.headers, || {
        let peer = call.front.remote().ip().to_canonical();
        // A policy may have removed what told it.
        let told = || door::client_address(peer, &head.headers, &view.edge().trusted_proxies);
        pass.map_or_else(told, Pass::client)
    });
    let hostless = seen.host.is_none() && !head.headers.contains_key(HOST);
    let guest = context.guest.as_deref();
    let preview = guest.is_some_and(|guest| guest.preview);
    let point = guest.and_then(|guest| guest.point).unwrap_or_else(|| Turn::point(local.turn(), key));
    let course = Course { point, key, aim: if preview { Aim::Preview } else { Aim::Shares } };
    let asset = guest.is_some_and(|guest| guest.asset);
    let mut outgoing = Outgoing {
        head,
        told: ready_made,
        seen: &seen,
        source: source.clone(),
        repeatable,
        hostless,
        course,
        preview,
        asset,
    };
    let lingers = !call.is_stream();
    let result = pin!(try_nodes(worker, call, &mut outgoing, (view, route.service), response)).await;
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

fn route<'a>(view: &'a View, path: &str, told: &Told) -> Result<(Route, &'a ServiceView, &'a Rc<ServiceLocal>), Fault> {
    let path = normalised(path);
    let route = view.router().find_bare(told.bare_host(), &path).ok_or(Fault::NoService)?;
    let (service, local) = view.service(route.service).ok_or(Fault::NoService)?;
    Ok((route, service, local))
}
