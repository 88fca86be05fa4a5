//! An HTTP/2 connection: the frames are `h2`'s, each stream is a task of its own (`stream`), and `meter` ends a client
//! that costs more than it is worth.
//!
//! hyper's server is not used here: it cannot reset a stream whose window the client keeps shut, says no `100 Continue`, and
//! gives a tunnel only through a channel.

pub mod meter;
mod request;
mod runners;
mod stream;
mod tunnel;
mod wire;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use h2::server::Connection;
use h2::{Ping, Reason};

use self::meter::{Meter, Metered};
use self::request::KnownHost;
pub use self::runners::Runners;
use self::stream::Work;
use self::wire::Wire;
use super::super::worker::Worker;
use super::{Front, Order, Rest};
use crate::config::Limits;
use crate::net::Stream;

/// How much a client may send on one stream ahead of its node.
const STREAM_WINDOW: u32 = 256 * 1024;
/// And on all of a connection's streams together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How much of one response is handed to the connection ahead of the client.
const SEND_BUFFER: usize = 128 * 1024;
/// Streams that may be refused in a connection's life; `meter` ends it sooner, but not for those that a client began before
/// it knew how many it may have.
const LOCAL_RESETS: usize = 1024;

/// Serves an HTTP/2 connection to its end.
pub async fn run(worker: Rc<Worker>, front: Rc<Front>, stream: Stream) {
    let limits = worker.view().edge().limits.clone();
    let meter = front.meter.get_or_init(Rc::default).clone();
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(limits.streams as u32)
        .max_local_error_reset_streams(Some(LOCAL_RESETS))
        // RFC 9113 §6.5.2 counts 32 bytes for each field beyond its text.
        .max_header_list_size(2 * limits.head_size as u32)
        .enable_connect_protocol();
    let mut close = false;
    let wire = Wire::new(stream);
    let mut handshake = pin!(builder.handshake(Metered::new(wire.clone(), Rc::clone(&meter))));
    let connection = poll_fn(|cx| {
        front.keep_waker(cx.waker());
        match front.order.take() {
            Some(Order::Kill | Order::HeadTimeout) => return Poll::Ready(None),
            Some(Order::Close) => close = true,
            Some(Order::Ping) | None => {}
        }
        let done = handshake.as_mut().poll(cx);
        if let Poll::Ready(Err(_)) = wire.poll_send(cx) {
            return Poll::Ready(None);
        }
        done.map(Result::ok)
    })
    .await;
    let Some(mut connection) = connection else { return };
    if close {
        connection.graceful_shutdown();
    }
    if let Err(error) = drive(&worker, &front, &meter, &wire, &mut connection).await {
        tracing::debug!(client = %front.remote(), %error, "client connection broke");
    }
}

async fn drive(
    worker: &Rc<Worker>,
    front: &Rc<Front>,
    meter: &Rc<Meter>,
    wire: &Wire,
    connection: &mut Connection<Metered, Bytes>,
) -> io::Result<()> {
    let mut pings = connection.ping_pong();
    let mut host = KnownHost::default();
    let mut ended = false;
    poll_fn(|cx| {
        front.keep_waker(cx.waker());
        match front.order.take() {
            Some(Order::Kill) => return Poll::Ready(Ok(())),
            Some(Order::HeadTimeout) => {
                ended = true;
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            }
            Some(Order::Close) => connection.graceful_shutdown(),
            Some(Order::Ping) => {
                // One that is still unanswered is as good.
                let _ = pings.as_mut().map(|pings| pings.send_ping(Ping::opaque()));
            }
            None => {}
        }
        loop {
            match connection.poll_accept(cx).map_err(io::Error::other)? {
                Poll::Ready(Some((request, respond))) => {
                    meter.accepted();
                    let request = request::prepare(request, &mut host);
                    let (worker, front, meter) = (Rc::clone(worker), Rc::clone(front), Rc::clone(meter));
                    runners::start(Work { worker, front, meter, request, respond });
                }
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    meter.settle();
                    if ended || !meter.is_exhausted() {
                        break;
                    }
                    ended = true;
                    worker.stats().abusive.add_one();
                    tracing::debug!(client = %front.remote(), "HTTP/2 connection ended: more trouble than requests");
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                }
            }
        }
        if let Some(pings) = &mut pings {
            // Any byte from the client counts as life, so what the answer says does not matter.
            let _ = pings.poll_pong(cx);
        }
        match wire.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Pending,
        }
    })
    .await
}

/// The watchdog's look at an HTTP/2 connection.
pub fn check(front: &Front, meter: &Meter, now: Instant, limits: &Limits, closing: bool) {
    meter.refill();
    let fresh = Rest { since: now, written: 0, head: None, closing: None };
    let mut rest = meter.rest.get().unwrap_or(fresh);
    if front.is_busy() {
        rest.since = now;
    }
    // A head, or the preface, must come to its end.
    rest.head = if meter.is_in_head() { rest.head.or(Some(now)) } else { None };
    if rest.head.is_some_and(|since| now - since >= limits.head) {
        front.give(Order::HeadTimeout);
        rest.head = None;
        rest.closing = rest.closing.or(Some(now));
    } else if let Some(since) = rest.closing {
        // The streams have their limits; without one, all that is left is to say goodbye.
        if !front.is_busy() && now - since.max(rest.since) >= limits.head {
            front.kill();
        }
    } else if closing || now - rest.since >= limits.idle {
        rest.closing = Some(now);
        front.close();
    }
    let silence = meter.silence(front.pulse.read(), now);
    if front.is_busy() && silence >= 2 * limits.ping {
        front.kill();
    } else if front.is_busy() && silence >= limits.ping && meter.ping_once() && front.order.get().is_none() {
        front.give(Order::Ping);
    }
    meter.rest.set(Some(rest));
}
