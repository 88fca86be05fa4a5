//! For requests that go no further: what there is no room for, and how a client gets to see that.

use std::future::poll_fn;
use std::time::Duration;

use http::Response;
use http::header::{CONTENT_TYPE, EXPECT, HeaderMap};
use http::request::Parts;
use hyper::body::Body;

use super::body::{ClientBody, RespBody};
use super::call::{Call, Registered, Verdict};
use super::door::{self, Context};
use super::error::Fault;
use super::headers::{self, Seen};
use super::replay::Source;
use super::to_https;
use super::worker::Worker;
use crate::api::class_of;
use crate::config;
use crate::pool::CutReason;

/// Bytes of a request body that are read and dropped after an early answer, so that the client sees the answer and not a
/// reset connection.
const LINGER_BYTES: usize = 256 * 1024;
/// Time for the same.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// Answers a request that was found to be none before the handler saw it.
pub fn refuse(worker: &Worker, fault: &Fault) -> Response<RespBody> {
    worker.stats().requests.add_one();
    worker.stats().failed.add_one();
    worker.stats().unrouted[class_of(fault.status().as_u16())].add_one();
    door::tell(worker, fault)
}

/// Why nobody answered a call that was ended from outside.
pub fn ended_by(verdict: Verdict) -> Fault {
    match verdict {
        Verdict::Cut(CutReason::Drain) => Fault::DrainDeadline,
        Verdict::Cut(CutReason::Deadline) => Fault::Deadline,
        Verdict::Cut(CutReason::Shutdown) | Verdict::TimedOut(_) => Fault::Shutdown,
    }
}

/// Examines a request's head, if the process has room for another request.
pub fn admit(
    worker: &Worker,
    limits: &config::Limits,
    call: &Call,
    head: &Parts,
    has_body: bool,
    context: &mut Context,
    seen: &mut Seen,
) -> Result<(), Fault> {
    let count = call.front.count_request();
    if limits.requests_per_connection.is_some_and(|most| count >= most) {
        context.is_last = true;
        if call.is_stream() {
            call.front.close();
        }
    }
    if worker.is_full(limits.requests) {
        return Err(Fault::Full);
    }
    if head.headers.len() > limits.headers {
        return Err(Fault::TooManyFields);
    }
    headers::examine(head, has_body, |host| call.front.knows_host(host), seen)?;
    to_https::check(&call.front, &head.uri, seen.host.as_ref())?;
    context.accept = seen.accept.take();
    Ok(())
}

/// For a request that goes no further: takes what the client is still sending, so that it sees its answer.
pub async fn turn_away(call: &Registered, head: &Parts, body: ClientBody, closes: bool) {
    if !body.is_end_stream() && !head.headers.contains_key(EXPECT) {
        let source = Source::new(call.shared(), body, 0);
        if !closes && !call.is_stream() {
            Box::pin(linger(&source)).await;
        }
    }
}

/// How long the client may be silent, and how slow it may be.
pub fn limit_client(call: &Call, headers: &HeaderMap, has_body: bool, rate: usize, limit: Duration) {
    // A stream of messages has the pace of those who talk.
    let grpc = || headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if has_body {
        call.limit_client(limit);
    }
    if !(has_body && grpc()) {
        call.pace.ask(rate as u64, limit);
    }
}

/// Reads and drops what the client is still sending, within bounds.
pub async fn linger(source: &Source) {
    // To look for the body would tell the client to send it.
    if source.is_held() {
        return;
    }
    let mut left = LINGER_BYTES;
    let _ = tokio::time::timeout(LINGER_TIME, poll_fn(|cx| source.poll_discard(cx, &mut left))).await;
}
