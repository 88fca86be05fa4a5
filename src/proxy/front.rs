//! One client connection: what the worker sees of it, and its limits between requests. `h1` or `h2` runs it.

mod h1;
mod h2;
mod preface;

use std::cell::{Cell, OnceCell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use http::HeaderValue;
use tokio::net::TcpStream;

pub use self::h1::LineBody;
use self::h2::meter::Meter;
pub use self::h2::{Runners, StreamBody};
use super::accept;
use super::forwarded::Told;
use super::worker::{Connected, Worker};
use crate::config::{Limits, Protocol};
use crate::net::tls::ClientFacts;
use crate::net::{Pulse, Stream};
use crate::pool::{Entrance, meters};

/// What the rest of the worker sees of a client connection.
#[derive(Debug)]
pub struct Front {
    /// The client, or who stands for it. Set by a PROXY header before the first request.
    remote: Cell<SocketAddr>,
    /// Where it is connected to.
    local: Option<SocketAddr>,
    /// The listener that it came to, as it was then.
    entrance: Arc<Entrance>,
    /// Whether the client speaks TLS; set when its handshake is done.
    secure: Cell<bool>,
    /// Who the client is by its certificate, if nodes shall be told; set when its handshake is done.
    facts: OnceCell<Box<ClientFacts>>,
    /// Since when it is on the way to its first request; cleared when it is there.
    opening: Cell<Option<Instant>>,
    /// What moved over the connection.
    pub pulse: Rc<Pulse>,
    /// How many calls are under way; counted by the calls.
    busy: Cell<usize>,
    /// How many requests there were; counted by the handler.
    served: Cell<usize>,
    /// Set by the watchdog, the control plane or a call; taken by the connection's task.
    order: Cell<Option<Order>>,
    /// The connection's task.
    waker: RefCell<Option<Waker>>,
    /// What nodes are told of the client: set with the first request, and anew when another host is asked.
    pub told: RefCell<Option<Rc<Told>>>,
    /// HTTP/1: some of the next head is here. Set by the connection while it waits for the rest.
    arriving: Cell<bool>,
    /// HTTP/2: what the client costs; set by the connection.
    meter: OnceCell<Rc<Meter>>,
    /// The watchdog's own: how long nothing is under way.
    rest: Cell<Option<Rest>>,
    /// Set behind a PROXY header, held for its drop: its place among the connections of the client that it names.
    counted: OnceCell<meters::Connected>,
    /// Set when it was to end at once.
    killed: Cell<bool>,
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
    /// HTTP/2: the client had time to see that, whether or not it said so.
    TakeNoMore,
    /// A head has been arriving for too long.
    HeadTimeout,
    /// HTTP/2: ask the client for a sign of life.
    Ping,
    /// Drop it.
    Kill,
}

impl Front {
    /// The client: the peer, or whom a trusted peer's PROXY header names.
    pub fn remote(&self) -> SocketAddr {
        self.remote.get()
    }

    /// The address that the peer is connected to.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// The listener that it came to, as it was then.
    pub fn entrance(&self) -> &Entrance {
        &self.entrance
    }

    /// Whether the client speaks TLS.
    pub fn is_secure(&self) -> bool {
        self.secure.get()
    }

    /// Who the client is by its certificate, if nodes shall be told.
    pub fn facts(&self) -> Option<&ClientFacts> {
        self.facts.get().map(|facts| &**facts)
    }

    /// Whether the connection asked for this host before.
    pub fn knows_host(&self, host: &HeaderValue) -> bool {
        self.told.borrow().as_ref().is_some_and(|told| told.is_of(host))
    }

    /// Told by a PROXY header.
    pub fn introduce(&self, client: SocketAddr) {
        self.remote.set(client);
    }

    /// Told what counts it among the connections of that client.
    pub fn keep_counted(&self, counted: meters::Connected) {
        // There is one header.
        let _ = self.counted.set(counted);
    }

    /// Told when the TLS handshake is done.
    pub fn secured(&self, facts: Option<ClientFacts>) {
        self.secure.set(true);
        if let Some(facts) = facts {
            // It is the first time.
            let _ = self.facts.set(Box::new(facts));
        }
    }

    /// Told by a call that begins.
    pub fn begin(&self) {
        self.busy.set(self.busy.get() + 1);
        self.count_anew();
    }

    /// Counts a request, and tells how many there were with it.
    pub fn count_request(&self) -> usize {
        self.served.set(self.served.get() + 1);
        self.served.get()
    }

    /// Told by a call that ends.
    pub fn end(&self) {
        self.busy.set(self.busy.get() - 1);
        self.count_anew();
    }

    fn count_anew(&self) {
        self.arriving.set(false);
        self.rest.set(None);
    }

    /// How many calls are under way, or streams whose answer the client has not taken yet.
    fn streams(&self) -> usize {
        self.busy.get()
    }

    fn is_busy(&self) -> bool {
        self.busy.get() > 0
    }

    /// Ends the connection after what is under way; a connection at rest at once.
    pub fn close(&self) {
        if self.order.get().is_none() {
            self.give(Order::Close);
        }
    }

    /// Ends the connection now.
    pub fn kill(&self) {
        self.killed.set(true);
        self.give(Order::Kill);
    }

    /// Whether it was ended while the client took nothing. What the system holds for such a client, it would go on offering for
    /// minutes, up to megabytes of it, and outside of every limit.
    pub fn is_given_up(&self) -> bool {
        self.killed.get() && self.pulse.is_blocked()
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

    /// The watchdog's look at this connection. `linger_until` is set while Sluice ends.
    pub fn check(&self, now: Instant, limits: &Limits, linger_until: Option<Instant>) {
        if let Some(meter) = self.meter.get() {
            return h2::check(self, meter, now, limits, linger_until.is_some());
        }
        if self.is_busy() {
            return;
        }
        if let Some(since) = self.opening.get() {
            if now - since >= limits.handshake || linger_until.is_some_and(|until| now >= until) {
                self.kill();
            }
            return;
        }
        let written = self.pulse.written();
        let fresh = Rest { since: now, written, head: None, closing: None };
        let mut rest = self.rest.get().filter(|rest| rest.written == written).unwrap_or(fresh);
        if let Some(closing) = rest.closing {
            // A client that does not take the rest of its answer is waited for, and one whose next request was on its way.
            if now - closing >= limits.head {
                self.kill();
            }
        } else if self.arriving.get() {
            if now - *rest.head.get_or_insert(now) >= limits.head {
                self.give(Order::HeadTimeout);
            }
        } else if now - rest.since >= limits.idle || linger_until.is_some_and(|until| now >= until) {
            rest.closing = Some(now);
            self.close();
        }
        self.rest.set(Some(rest));
    }

    /// For what runs in the connection's task when no requests are served any more: resolves when the connection has to end.
    pub fn poll_killed(&self, waker: &Waker) -> Poll<()> {
        self.keep_waker(waker);
        if self.order.get() == Some(Order::Kill) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn keep_waker(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }
}

/// Enters a client connection, at once, and serves it to its end.
pub fn serve(
    worker: Rc<Worker>,
    tcp: TcpStream,
    remote: SocketAddr,
    entrance: Arc<Entrance>,
) -> impl Future<Output = ()> {
    let opening = (!entrance.is_plain()).then(Instant::now);
    let front = Rc::new(Front {
        remote: Cell::new(remote),
        local: tcp.local_addr().ok(),
        entrance,
        secure: Cell::new(false),
        facts: OnceCell::new(),
        opening: Cell::new(opening),
        pulse: Rc::default(),
        busy: Cell::new(0),
        served: Cell::new(0),
        order: Cell::new(None),
        waker: RefCell::new(None),
        told: RefCell::new(None),
        arriving: Cell::new(false),
        meter: OnceCell::new(),
        rest: Cell::new(None),
        counted: OnceCell::new(),
        killed: Cell::new(false),
    });
    // Not in the future: a burst is accepted before any task of it runs, and has to count.
    let connected = worker.register(&front);
    run(worker, front, tcp, connected)
}

async fn run(worker: Rc<Worker>, front: Rc<Front>, tcp: TcpStream, _connected: Connected) {
    let stream = if front.opening.get().is_none() {
        Stream::counted_by(tcp, Rc::clone(&front.pulse))
    } else {
        // In a box: what a handshake needs is not kept for the life of the connection.
        let Some(stream) = Box::pin(accept::open(&worker, &front, tcp)).await else { return };
        front.opening.set(None);
        front.count_anew();
        stream
    };
    let http2 = if stream.is_tls() {
        Some(stream.protocol() == Some(Protocol::Http2))
    } else if front.entrance.protocols.contains(&Protocol::Http2) {
        preface::speaks_http2(&front, &stream, worker.view().edge().limits.head).await
    } else {
        Some(false)
    };
    match http2 {
        Some(false) => h1::run(worker, front, stream).await,
        Some(true) => h2::run(worker, front, stream).await,
        None => {}
    }
}
