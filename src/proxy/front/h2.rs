//! An HTTP/2 connection (RFC 9113): `link` holds what its task and those of its streams share, `frames` takes what the client
//! says, each stream is a task of its own (`stream`), and `meter` ends a client that costs more than it is worth.
//!
//! The `h2` crate is not used here: it queues each frame of each stream behind a lock, looks every field up in tables of its own
//! and keeps the streams that it refuses to itself; a third of a request's work was that.

mod frames;
mod handle;
mod link;
pub mod meter;
mod request;
mod runners;
mod stream;
mod stream_state;
#[cfg(test)]
mod tests;
mod tunnel;
mod wire;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

pub use self::handle::StreamBody;
use self::link::Link;
use self::meter::Meter;
pub use self::runners::Runners;
use self::stream::Work;
use super::super::worker::Worker;
use super::{Front, Order, Rest};
use crate::config::Limits;
use crate::net::Stream;
use crate::net::http2::frame::Reason;

/// How long a client that was told why its connection ends may take to read that.
const FAREWELL_TIME: Duration = Duration::from_secs(1);
/// How long a client that got all its answers may be silent before it closes the connection.
const LINGER_TIME: Duration = Duration::from_secs(5);
/// Bytes that either may still send meanwhile.
const FAREWELL_BYTES: usize = 1024 * 1024;

/// A connection's task.
struct Server {
    worker: Rc<Worker>,
    front: Rc<Front>,
    meter: Rc<Meter>,
    link: Rc<Link>,
}

/// How a connection ends.
enum End {
    /// Broken, or dropped on order.
    Dropped,
    /// In order: the client knows, and what it has of its answers is the kernel's business.
    Closed,
    /// It was told what it did wrong, and may not expect that.
    Told,
    /// It was told to calm down, and knows what it sends.
    Calmed,
}

/// Serves an HTTP/2 connection to its end.
pub async fn run(worker: Rc<Worker>, front: Rc<Front>, stream: Stream) {
    let meter = front.meter.get_or_init(Rc::default).clone();
    let link = Link::new(stream, &worker.view().edge().limits, Rc::clone(&meter));
    let server = Server { worker, front, meter, link };
    let end = poll_fn(|cx| server.poll(cx)).await;
    // In a box, as every rare path: its state would lie in each connection.
    match end {
        End::Dropped => {}
        End::Closed => Box::pin(server.say_goodbye(Some(LINGER_TIME))).await,
        End::Told => Box::pin(server.say_goodbye(Some(Duration::ZERO))).await,
        End::Calmed => Box::pin(server.say_goodbye(None)).await,
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.front.is_given_up() {
            self.link.reset_at_end();
        }
        // Its streams' tasks may live on for a moment.
        self.link.end();
    }
}

impl Server {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<End> {
        self.front.keep_waker(cx.waker());
        self.link.begin_turn(cx.waker());
        match self.front.order.take() {
            Some(Order::Kill) => return Poll::Ready(End::Dropped),
            Some(Order::HeadTimeout) => return self.abort(Reason::ENHANCE_YOUR_CALM),
            Some(Order::Close) => self.link.close(),
            Some(Order::TakeNoMore) => self.link.borrow().take_no_more(),
            // Any byte from the client counts as life, so what the answer says does not matter.
            Some(Order::Ping) => self.link.ping(),
            None => {}
        }
        loop {
            if let Poll::Ready(end) = self.poll_requests(cx) {
                return Poll::Ready(end);
            }
            let held_back = self.link.is_held_back();
            match self.link.end_turn(cx) {
                Poll::Ready(Err(error)) => return self.broke(&error),
                Poll::Ready(Ok(())) if self.link.is_finished() => return Poll::Ready(End::Closed),
                // It was not read from, and so what comes would wake nobody.
                Poll::Ready(Ok(())) if held_back => self.link.begin_turn(cx.waker()),
                _ => return Poll::Pending,
            }
        }
    }

    /// Begins what the client asks for.
    fn poll_requests(&self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let begun = self.link.borrow().next_request();
            match begun {
                Ok(Some(begun)) => {
                    let (sender, body) = handle::ends(&self.link, begun.key, begun.receives, begun.request.length);
                    let (worker, front, meter) =
                        (Rc::clone(&self.worker), Rc::clone(&self.front), Rc::clone(&self.meter));
                    runners::start(Work { worker, front, meter, request: begun.request, body, sender });
                    continue;
                }
                Ok(None) => {}
                Err(reason) => {
                    tracing::debug!(client = %self.front.remote(), code = reason.0, "HTTP/2 connection ended: broke the rules");
                    return self.abort(reason);
                }
            }
            if self.meter.is_exhausted() {
                self.worker.stats().abusive.add_one();
                tracing::debug!(client = %self.front.remote(), "HTTP/2 connection ended: more trouble than requests");
                return self.abort(Reason::ENHANCE_YOUR_CALM);
            }
            match ready!(self.link.poll_read(cx)) {
                Ok(0) => return Poll::Ready(End::Dropped),
                Ok(_) => {}
                Err(error) => return self.broke(&error),
            }
        }
    }

    fn broke(&self, error: &dyn std::error::Error) -> Poll<End> {
        tracing::debug!(client = %self.front.remote(), %error, "client connection broke");
        Poll::Ready(End::Dropped)
    }

    fn abort(&self, reason: Reason) -> Poll<End> {
        self.link.abort(reason);
        Poll::Ready(if reason == Reason::ENHANCE_YOUR_CALM { End::Calmed } else { End::Told })
    }

    /// Sends what is left to say, and the end, and waits for that of a client that may be sending: to close on unread bytes, or to
    /// get some behind that, resets the connection, which destroys what the kernel still has to send, and on some systems what the
    /// client has not read yet. `patience`: for how long after each thing that it says there may come another one.
    async fn say_goodbye(&self, patience: Option<Duration>) {
        let mut left = FAREWELL_BYTES;
        let mut timer = pin!(tokio::time::sleep(FAREWELL_TIME.max(patience.unwrap_or_default())));
        poll_fn(|cx| {
            if self.front.poll_killed(cx.waker()).is_ready() || timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let Some(patience) = patience else { return self.link.poll_shutdown(cx).map(drop) };
            if ready!(self.link.poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            loop {
                match ready!(self.link.poll_discard(cx)) {
                    Ok(bytes @ 1..) if bytes < left => left -= bytes,
                    _ => return Poll::Ready(()),
                }
                if !patience.is_zero() {
                    timer.as_mut().reset((Instant::now() + patience).into());
                }
            }
        })
        .await;
    }
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
        } else if now - since >= limits.head && front.order.get().is_none() {
            front.give(Order::TakeNoMore);
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
