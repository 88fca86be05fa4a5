//! An HTTP/1 connection: one request after another, and what becomes of it after an upgrade.
//!
//! Everything happens in the connection's own task: the handler, the response's body, the connection to the node.

mod line;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode, Uri, Version};
use hyper::body::Body;

use self::line::Line;
pub use self::line::LineBody;
use super::super::body::{ClientBody, RespBody};
use super::super::call::Registered;
use super::super::error::Fault;
use super::super::upgrade::Tunnel;
use super::super::worker::Worker;
use super::super::{date, handler, refuse};
use super::{Front, Order};
use crate::net::Stream;
use crate::net::http1::request::{Bounds, Head, blank};
use crate::net::http1::response::{Length, Manner, write_head, write_interim};
use crate::net::http1::{Coding, Error, Outbox, recycle};

/// How long a client may go on sending a request that has been answered.
const LINGER_TIME: Duration = Duration::from_secs(5);

/// Bytes of an answer that wait for a client who takes nothing, so that the node is free for others.
const BACKLOG: usize = 64 * 1024;

/// How long it may take to tell a client that its time is over.
const FAREWELL_TIME: Duration = Duration::from_secs(1);

/// A connection's task.
struct Server {
    worker: Rc<Worker>,
    front: Rc<Front>,
    line: Rc<Line>,
    outbox: Outbox,
    /// No further request is waited for.
    closes: bool,
    /// Only the end of the connection will tell the client that it has all of the body, so any other end must not look like it.
    told_by_end: bool,
}

/// How a connection ends.
enum End {
    /// Broken, or dropped on order.
    Dropped,
    /// In order, all that is to be said has been. Whether the client may still be sending.
    Closed { unread: bool },
    /// A head has been arriving for too long.
    HeadTimeout,
    /// It goes on as a tunnel.
    Tunnel(Box<Tunnel>),
}

/// Serves an HTTP/1 connection to its end.
pub async fn run(worker: Rc<Worker>, front: Rc<Front>, stream: Stream) {
    let bounds = {
        let view = worker.view();
        let limits = &view.edge().limits;
        Bounds { size: limits.head_size, fields: limits.headers }
    };
    let (line, outbox) = (Line::new(stream), Outbox::with_backlog(BACKLOG));
    let mut server = Server { worker, front, line, outbox, closes: false, told_by_end: false };
    match server.serve(bounds).await {
        End::Dropped if server.told_by_end || server.front.is_given_up() => server.line.reset(),
        End::Dropped => {}
        // In a box, as every rare path: its state would lie in each connection.
        End::Closed { unread } => Box::pin(server.close(unread)).await,
        End::HeadTimeout => Box::pin(server.time_out()).await,
        End::Tunnel(tunnel) => {
            if let Some((stream, ahead)) = server.line.into_stream() {
                // A task of its own: each message would come through all that a connection may be.
                let _ = tokio::task::spawn_local(tunnel.run(stream, ahead)).await;
            }
        }
    }
}

/// Why no request comes next on a connection.
enum Stop {
    /// What came is none.
    Refused(Fault),
    End(End),
}

/// What is known of a request when its answer is written.
#[derive(Clone, Copy)]
struct Asked {
    version: Version,
    is_head: bool,
    te_trailers: bool,
    keep_alive: bool,
}

impl Server {
    async fn serve(&mut self, bounds: Bounds) -> End {
        let (mut parts, mut response) = (blank(), Response::new(RespBody::Empty));
        loop {
            let asked = match poll_fn(|cx| self.poll_next(cx, bounds, &mut parts)).await {
                Ok(head) => {
                    let asked = Asked {
                        version: parts.version,
                        is_head: parts.method == Method::HEAD,
                        te_trailers: head.te_trailers,
                        keep_alive: head.keep_alive,
                    };
                    if !self.answer(&mut parts, &mut response).await {
                        return End::Dropped;
                    }
                    // They would keep what the connection has read.
                    recycle(std::mem::take(&mut parts.headers));
                    parts.uri = Uri::default();
                    asked
                }
                Err(Stop::Refused(fault)) => {
                    let version = Version::HTTP_11;
                    let asked = Asked { version, is_head: false, te_trailers: false, keep_alive: false };
                    response = refuse::refuse(&self.worker, &fault);
                    return match self.say(asked, &mut response).await {
                        Some(End::Dropped) => End::Dropped,
                        _ => End::Closed { unread: true },
                    };
                }
                Err(Stop::End(end)) => return end,
            };
            if let Some(end) = self.say(asked, &mut response).await {
                return end;
            }
        }
    }

    /// The next request's head.
    fn poll_next(&mut self, cx: &mut Context<'_>, bounds: Bounds, parts: &mut Parts) -> Poll<Result<Head, Stop>> {
        self.front.keep_waker(cx.waker());
        match self.front.order.take() {
            Some(Order::Kill) => return Poll::Ready(Err(Stop::End(End::Dropped))),
            Some(Order::HeadTimeout) => return Poll::Ready(Err(Stop::End(End::HeadTimeout))),
            Some(Order::Close) => self.closes = true,
            Some(Order::TakeNoMore | Order::Ping) | None => {}
        }
        // A request that is on its way already is answered, and told that it is the last one.
        if self.closes && self.line.is_quiet() {
            return Poll::Ready(Err(Stop::End(End::Closed { unread: false })));
        }
        let head = self.line.poll_head(cx, bounds, parts);
        // Not what was read of the request before it; but what came of this one meanwhile.
        self.front.arriving.set(head.is_pending() && self.line.holds_more());
        let stop = match ready!(head) {
            Ok(Some(head)) => return Poll::Ready(Ok(head)),
            Ok(None) => Stop::End(End::Closed { unread: false }),
            Err(Error::Malformed(why)) => Stop::Refused(Fault::BadRequest(why)),
            Err(Error::HeadTooLarge) => Stop::Refused(Fault::HeadTooLarge),
            Err(Error::TargetTooLong) => Stop::Refused(Fault::TargetTooLong),
            Err(Error::TooManyFields) => Stop::Refused(Fault::TooManyFields),
            Err(error @ (Error::Io(_) | Error::Ended | Error::Body)) => Stop::End(self.broke(&error)),
        };
        Poll::Ready(Err(stop))
    }

    fn broke(&self, error: &dyn std::error::Error) -> End {
        tracing::debug!(client = %self.front.remote(), %error, "client connection broke");
        End::Dropped
    }

    /// Has the handler answer, for as long as the client is there to be answered. `false`: it is not.
    async fn answer(&mut self, parts: &mut Parts, response: &mut Response<RespBody>) -> bool {
        let call = Registered::new(&self.worker, &self.front, None, parts.method.clone(), parts.uri.clone());
        let state = Rc::clone(call.shared());
        if parts.version >= Version::HTTP_11 {
            state.want_hints();
        }
        let body = ClientBody::Http1(LineBody::of(&self.line));
        let worker = Rc::clone(&self.worker);
        let mut handler = pin!(handler::handle(&worker, call, (parts, body), response));
        poll_fn(|cx| {
            self.front.keep_waker(cx.waker());
            if !self.takes_order() {
                return Poll::Ready(false);
            }
            let answered = handler.as_mut().poll(cx);
            for hint in state.take_hints() {
                write_interim(self.outbox.back(), hint.status(), hint.headers());
            }
            if answered.is_ready() {
                return Poll::Ready(true);
            }
            if self.line.take_wanted() {
                write_interim(self.outbox.back(), StatusCode::CONTINUE, &HeaderMap::new());
            }
            let broken =
                !self.outbox.is_empty() && matches!(self.line.poll_write(cx, &mut self.outbox), Poll::Ready(Err(_)));
            if broken || self.line.is_gone(cx) { Poll::Ready(false) } else { Poll::Pending }
        })
        .await
    }

    /// While an exchange is under way. Whether it may go on.
    fn takes_order(&mut self) -> bool {
        match self.front.order.take() {
            Some(Order::Kill) => return false,
            Some(Order::Close) => self.closes = true,
            Some(Order::TakeNoMore | Order::HeadTimeout | Order::Ping) | None => {}
        }
        true
    }

    /// Says an answer, and takes its fields and its body. `Some`: nothing follows it.
    async fn say(&mut self, asked: Asked, response: &mut Response<RespBody>) -> Option<End> {
        let mut body = std::mem::replace(response.body_mut(), RespBody::Empty);
        if let RespBody::Tunnel(tunnel) = body {
            let manner = Manner { version: asked.version, length: Length::None, keep_alive: true };
            write_head(self.outbox.back(), response, manner, date::now);
            let whole = poll_fn(|cx| self.poll_body(cx, &mut RespBody::Empty, &mut None)).await;
            return Some(if whole { End::Tunnel(tunnel) } else { End::Dropped });
        }
        let (length, mut coding) = frame(asked, response.status(), &body);
        if let (true, Length::AsSaid, Some(length @ 1..)) = (asked.is_head, length, body.size_hint().exact())
            && !response.headers().contains_key(CONTENT_LENGTH)
        {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        // An answer that did not wait for all of its request: is the rest here, at least? While a node sends the answer, it may
        // still be taking the request.
        let at_hand = matches!(body, RespBody::Empty | RespBody::Full(_));
        let left = self.line.has_body() && (at_hand || self.line.is_alone());
        let unread = left && !poll_fn(|cx| Poll::Ready(self.line.skip_body(cx))).await;
        let keep_alive = asked.keep_alive && !unread && !self.closes;
        let manner = Manner { version: asked.version, length, keep_alive };
        let goes_on = write_head(self.outbox.back(), response, manner, date::now);
        recycle(std::mem::take(response.headers_mut()));
        self.told_by_end = length == Length::Close;
        // What a body holds is let go before the client has read all of it.
        match body {
            RespBody::Full(whole) if coding.is_some() => {
                self.outbox.push_whole(whole);
                (body, coding) = (RespBody::Empty, None);
            }
            _ if coding.is_none() => body = RespBody::Empty,
            _ => {}
        }
        if !poll_fn(|cx| self.poll_body(cx, &mut body, &mut coding)).await {
            return Some(End::Dropped);
        }
        drop(body);
        self.told_by_end = false;
        self.outbox.rest();
        self.line.rest();
        if self.line.has_body() && !poll_fn(|cx| Poll::Ready(self.line.skip_body(cx))).await {
            return Some(End::Closed { unread: true });
        }
        (!goes_on).then(|| End::Closed { unread: !self.line.is_quiet() })
    }

    /// Writes what is to be written of an answer. `false`: the client cannot have all of it.
    fn poll_body(&mut self, cx: &mut Context<'_>, body: &mut RespBody, coding: &mut Option<Coding>) -> Poll<bool> {
        self.front.keep_waker(cx.waker());
        if !self.takes_order() {
            return Poll::Ready(false);
        }
        loop {
            if !self.fill(cx, body, coding) {
                return Poll::Ready(false);
            }
            let waited = !self.outbox.is_empty();
            match self.line.poll_write(cx, &mut self.outbox) {
                // The node may be done before the client is.
                Poll::Pending if self.fill(cx, body, coding) => return Poll::Pending,
                Poll::Pending => return Poll::Ready(false),
                Poll::Ready(Err(error)) => {
                    self.broke(&error);
                    return Poll::Ready(false);
                }
                Poll::Ready(Ok(())) if coding.is_none() => return Poll::Ready(true),
                // There may be more, now that there is room.
                Poll::Ready(Ok(())) if waited => {}
                Poll::Ready(Ok(())) => break,
            }
        }
        if self.line.is_gone(cx) { Poll::Ready(false) } else { Poll::Pending }
    }

    /// Takes over what there is of a body. `false`: it broke off.
    fn fill(&mut self, cx: &mut Context<'_>, body: &mut RespBody, coding: &mut Option<Coding>) -> bool {
        let Some(frame) = coding else { return true };
        match self.outbox.poll_fill(cx, body, frame) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => {
                *coding = None;
                if !body.is_end_stream() {
                    // Where the length told the end, the body may still want to see it.
                    let _ = Pin::new(&mut *body).poll_frame(cx);
                }
                // What it holds is let go before the client has it all.
                *body = RespBody::Empty;
                true
            }
            Poll::Ready(Err(error)) => {
                self.broke(&error);
                false
            }
        }
    }

    /// Tells a client whose head does not come to an end.
    async fn time_out(&mut self) {
        self.outbox.back().extend_from_slice(
            b"HTTP/1.1 408 Request Timeout\r\nx-sluice-error: head-timeout\r\n\
            content-length: 0\r\nconnection: close\r\n\r\n",
        );
        let said = poll_fn(|cx| {
            let _ = ready!(self.line.poll_write(cx, &mut self.outbox));
            // Over TLS, an end without a word would look like an attack.
            let _ = ready!(self.line.poll_shutdown(cx));
            // It may still be sending, and would not read this behind a reset.
            self.line.poll_discard(cx)
        });
        let _ = tokio::time::timeout(FAREWELL_TIME, said).await;
    }

    /// Ends the connection. What a client still sends that has its answer is read and dropped until it has seen our end
    /// (RFC 9112 §9.6): to close on unread bytes is to reset the connection, which can destroy the answer before the client reads
    /// it.
    async fn close(&mut self, unread: bool) {
        let ended = poll_fn(|cx| {
            if self.front.poll_killed(cx.waker()).is_ready() {
                return Poll::Ready(());
            }
            let shut = ready!(self.line.poll_shutdown(cx)).is_ok();
            if shut && unread { self.line.poll_discard(cx) } else { Poll::Ready(()) }
        });
        let _ = tokio::time::timeout(LINGER_TIME, ended).await;
    }
}

/// How the end of an answer is told: in its head, and in the frame of its body, if it has one.
fn frame(asked: Asked, status: StatusCode, body: &RespBody) -> (Length, Option<Coding>) {
    if status == StatusCode::NO_CONTENT {
        return (Length::None, None);
    }
    if asked.is_head || status == StatusCode::NOT_MODIFIED {
        return (Length::AsSaid, None);
    }
    match body.size_hint().exact() {
        Some(length) => (Length::Exact(length), (length > 0).then_some(Coding::Length(length))),
        None if asked.version < Version::HTTP_11 => (Length::Close, Some(Coding::Close)),
        None => (Length::Chunked, Some(Coding::Chunked { trailers: asked.te_trailers })),
    }
}
