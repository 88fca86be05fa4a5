//! One client connection: its hyper server, its limits between requests, and what becomes of it after an upgrade.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::handler;
use super::upgrade::Tunnel;
use super::worker::Worker;
use crate::config::Limits;
use crate::net::{Pulse, Stream};

/// What the rest of the worker sees of a client connection.
#[derive(Debug)]
pub struct Front {
    /// The client.
    pub remote: SocketAddr,
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
    /// Set by the handler: an answer went out while the client was still sending its request.
    unread: Cell<bool>,
    /// The watchdog's own: since when nothing is under way, and how much was read then.
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
    since: Instant,
    read: u64,
    /// Since when a head has been arriving.
    head: Option<Instant>,
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
    /// Told by a call when it begins and ends.
    pub fn busy(&self, busy: bool) {
        self.busy.set(busy);
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

    /// Told by the handler: the answer may go out before the client has sent its whole request.
    pub fn leaves_unread(&self) {
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
        let read = self.pulse.read();
        let Some(mut rest) = self.rest.get() else {
            return self.rest.set(Some(Rest { since: now, read, head: None }));
        };
        if let Some(head) = rest.head {
            if now - head >= limits.head {
                self.give(Order::HeadTimeout);
            }
        } else if read != rest.read {
            rest.head = Some(now);
            self.rest.set(Some(rest));
        } else if now - rest.since >= limits.idle || linger_until.is_some_and(|until| now >= until) {
            self.close();
        }
    }

    fn keep_waker(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }
}

/// Time for a client to stop sending after it was answered early.
const LINGER: Duration = Duration::from_secs(5);

/// Reads and drops what a client still sends on a connection whose writing side is closed. A socket that is closed with
/// unread bytes in it is reset, and a reset takes the answer away from a client that has not read it yet (RFC 9112 §9.6).
async fn linger(front: &Front, mut stream: Stream) {
    let mut space = vec![0; 16 * 1024];
    let drained = poll_fn(|cx| {
        if front.poll_killed(cx.waker()).is_ready() {
            return Poll::Ready(());
        }
        // Other tasks get their turn through the runtime's budget for each poll.
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    });
    let _ = tokio::time::timeout(LINGER, drained).await;
}

/// Serves one client connection to its end.
pub async fn serve(worker: Rc<Worker>, tcp: TcpStream, remote: SocketAddr) {
    let stream = Stream::new(tcp);
    let front = Rc::new(Front {
        remote,
        pulse: stream.pulse(),
        busy: Cell::new(false),
        order: Cell::new(None),
        waker: RefCell::new(None),
        tunnel: RefCell::new(None),
        forwarded: ForwardedCache::default(),
        unread: Cell::new(false),
        rest: Cell::new(None),
    });
    let _registered = worker.register(&front);
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
                tracing::debug!(client = %front.remote, %error, "client connection broke");
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
            let answer = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
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

impl Front {
    /// For a tunnel, which runs in the connection's task without hyper: resolves when the connection has to end.
    pub fn poll_killed(&self, waker: &Waker) -> Poll<()> {
        self.keep_waker(waker);
        if self.order.get() == Some(Order::Kill) { Poll::Ready(()) } else { Poll::Pending }
    }
}
