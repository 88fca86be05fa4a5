//! One client connection: its hyper server, its limits between requests, and what becomes of it after an upgrade.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::handler;
use super::upgrade::Tunnel;
use super::worker::{Connected, Worker};
use crate::config::Limits;
use crate::net::{Pulse, Stream};

/// How long a client may go on sending a request that has been answered.
const LINGER_TIME: Duration = Duration::from_secs(5);

/// What the rest of the worker sees of a client connection.
#[derive(Debug)]
pub struct Front {
    /// The client, or who stands for it. Set by a PROXY header before the first request.
    remote: Cell<SocketAddr>,
    /// What moved over the connection.
    pub pulse: Rc<Pulse>,
    /// Whether a call is under way; set by the call.
    busy: Cell<bool>,
    /// Set by the watchdog, the control plane or a call; taken by the connection's task.
    order: Cell<Option<Order>>,
    /// The connection's task.
    waker: RefCell<Option<Waker>>,
    /// Set by the handler before it answers 101, taken when the answer is out.
    tunnel: RefCell<Option<Tunnel>>,
    /// Made once a connection: the client's address as header values, and `Forwarded` for the host that was asked last.
    pub forwarded: ForwardedCache,
    /// Bytes read when the last call ended: what comes after belongs to the next head. Set by the call.
    read: Cell<u64>,
    /// Set by a request's body that was given up before its end: the client may still be sending.
    unread: Cell<bool>,
    /// The watchdog's own: how long nothing is under way.
    rest: Cell<Option<Rest>>,
}

/// Header values that are the same for many requests of a connection.
#[derive(Debug, Default)]
pub struct ForwardedCache {
    /// `X-Forwarded-For` of a client that is not trusted.
    pub address: RefCell<Option<HeaderValue>>,
    /// The host, and `Forwarded` for it.
    pub element: RefCell<Option<(HeaderValue, HeaderValue)>>,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    /// Since when nothing was written either: the end of the last response may still be on its way.
    since: Instant,
    written: u64,
    /// Since when a head has been arriving.
    head: Option<Instant>,
    /// Since when it should be closed.
    closing: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Finish what is under way, take nothing more.
    Close,
    /// A head has been arriving for too long.
    HeadTimeout,
    /// Drop it.
    Kill,
}

enum End {
    /// hyper is done with it; after a 101 the tunnel's turn has come.
    Done,
    HeadTimeout,
    /// Broken, or dropped on order.
    Dropped,
}

impl Front {
    /// The client: the peer, or whom a trusted peer's PROXY header names.
    pub fn remote(&self) -> SocketAddr {
        self.remote.get()
    }

    /// Told by a call when it begins and ends.
    pub fn busy(&self, busy: bool) {
        self.busy.set(busy);
        self.read.set(self.pulse.read());
        self.rest.set(None);
    }

    /// Ends the connection after what is under way; a connection at rest at once.
    pub fn close(&self) {
        if self.order.get().is_none() {
            self.give(Order::Close);
        }
    }

    /// Ends the connection now.
    pub fn kill(&self) {
        self.give(Order::Kill);
    }

    fn give(&self, order: Order) {
        self.order.set(Some(order));
        self.wake();
    }

    /// Has the connection's task look at its call again.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Told by a request's body that is dropped before its end.
    pub fn leave_unread(&self) {
        self.unread.set(true);
    }

    /// What runs on this connection once the 101 is out.
    pub fn set_tunnel(&self, tunnel: Tunnel) {
        *self.tunnel.borrow_mut() = Some(tunnel);
    }

    /// The watchdog's look at this connection. `linger_until` is set while Sluice ends.
    pub fn check(&self, now: Instant, limits: &Limits, linger_until: Option<Instant>) {
        if self.busy.get() {
            return;
        }
        let written = self.pulse.written();
        let fresh = Rest { since: now, written, head: None, closing: None };
        let mut rest = self.rest.get().filter(|rest| rest.written == written).unwrap_or(fresh);
        if let Some(closing) = rest.closing {
            // hyper waits for a client that does not take the rest of its answer.
            if now - closing >= limits.head {
                self.kill();
            }
        } else if let Some(head) = rest.head {
            if now - head >= limits.head {
                self.give(Order::HeadTimeout);
            }
        } else if self.pulse.read() != self.read.get() {
            rest.head = Some(now);
        } else if now - rest.since >= limits.idle || linger_until.is_some_and(|until| now >= until) {
            rest.closing = Some(now);
            self.close();
        }
        self.rest.set(Some(rest));
    }

    fn keep_waker(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }
}

/// Enters a client connection, at once, and serves it to its end.
pub fn serve(worker: Rc<Worker>, tcp: TcpStream, remote: SocketAddr) -> impl Future<Output = ()> {
    let stream = Stream::new(tcp);
    let front = Rc::new(Front {
        remote: Cell::new(remote),
        pulse: stream.pulse(),
        busy: Cell::new(false),
        order: Cell::new(None),
        waker: RefCell::new(None),
        tunnel: RefCell::new(None),
        forwarded: ForwardedCache::default(),
        read: Cell::new(0),
        unread: Cell::new(false),
        rest: Cell::new(None),
    });
    // Not in the future: a burst is accepted before any task of it runs, and has to count.
    let connected = worker.register(&front);
    run(worker, front, stream, connected)
}

async fn run(worker: Rc<Worker>, front: Rc<Front>, stream: Stream, _connected: Connected) {
    let limits = worker.view().edge().limits.clone();
    let service = service_fn({
        let (worker, front) = (Rc::clone(&worker), Rc::clone(&front));
        move |request| handler::handle(Rc::clone(&worker), Rc::clone(&front), request)
    });
    let mut connection = http1::Builder::new()
        // The watchdog keeps these limits: hyper's one timer cannot tell a slow head from an idle connection.
        .header_read_timeout(None)
        .max_header_size(limits.head_size)
        .max_buf_size(limits.head_size.max(64 * 1024))
        .serve_connection(TokioIo::new(stream), service);
    let end = poll_fn(|cx| {
        front.keep_waker(cx.waker());
        match front.order.take() {
            Some(Order::Kill) => return Poll::Ready(End::Dropped),
            Some(Order::HeadTimeout) if !front.busy.get() => return Poll::Ready(End::HeadTimeout),
            Some(Order::Close) => Pin::new(&mut connection).graceful_shutdown(),
            Some(Order::HeadTimeout) | None => {}
        }
        Pin::new(&mut connection).poll(cx).map(|result| match result {
            Ok(()) => End::Done,
            Err(error) => {
                tracing::debug!(client = %front.remote(), %error, "client connection broke");
                End::Dropped
            }
        })
    })
    .await;
    // Taken in any case: a tunnel that waits for a client that has gone would hold its node for ever.
    let tunnel = front.tunnel.borrow_mut().take();
    match end {
        End::Dropped => {}
        End::HeadTimeout => {
            let mut stream = connection.into_parts().io.into_inner();
            if front.pulse.is_blocked() {
                // A part of the last response is still in hyper's hands: whatever came now would be taken for the rest.
                return;
            }
            let answer = b"HTTP/1.1 408 Request Timeout\r\nx-sluice-error: head-timeout\r\n\
                content-length: 0\r\nconnection: close\r\n\r\n";
            let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(answer)).await;
        }
        End::Done => {
            if let Some(tunnel) = tunnel {
                let parts = connection.into_parts();
                let front = Rc::clone(&front);
                tunnel.run(front, parts.io.into_inner(), parts.read_buf).await;
            } else if front.unread.get() {
                linger(&front, connection.into_parts().io.into_inner()).await;
            }
        }
    }
}

/// Reads and drops what a client still sends that has its answer and our end of the connection (RFC 9112 §9.6). To close
/// on unread bytes is to reset the connection, which can destroy the answer before the client reads it.
async fn linger(front: &Front, mut stream: Stream) {
    let mut space = vec![0; 16 * 1024];
    let mut rest = pin!(async { while stream.read(&mut space).await.is_ok_and(|read| read > 0) {} });
    let ended = poll_fn(|cx| {
        let killed = front.poll_killed(cx.waker());
        if killed.is_ready() { killed } else { rest.as_mut().poll(cx) }
    });
    let _ = tokio::time::timeout(LINGER_TIME, ended).await;
}

impl Front {
    /// For a tunnel, which runs in the connection's task without hyper: resolves when the connection has to end.
    pub fn poll_killed(&self, waker: &Waker) -> Poll<()> {
        self.keep_waker(waker);
        if self.order.get() == Some(Order::Kill) { Poll::Ready(()) } else { Poll::Pending }
    }
}
