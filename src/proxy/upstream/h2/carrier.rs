//! One HTTP/2 connection to a node: a task that reads and writes it, and what the rest of the worker knows of it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ::h2::client::{Builder, SendRequest};
use ::h2::{Ping, PingPong};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::super::Loss;
use crate::config::{self, NodeProtocol, Protocol};
use crate::net::Pulse;
use crate::proxy::view::{LocalNode, Slot};

/// Bytes of a response head. A node is ours, but a broken one must not fill the memory.
const HEAD_SIZE: u32 = 128 * 1024;

/// Bytes that a node may send on one stream before its client has taken them: at 10 ms between us and the node, 25 MB/s.
const WINDOW: u32 = 256 * 1024;

/// Bytes of one stream that wait to be written.
const SEND_BUFFER: usize = 128 * 1024;

/// How long a PING may be without its answer.
const PONG: Duration = Duration::from_secs(10);

/// Connections in a row that may end before anything was sent on them: a node that renews its connections, or is about to stop,
/// may close one that it has just accepted.
const GOODBYES: usize = 3;

/// How long the last frames of a connection that nobody needs may take.
const CLOSING: Duration = Duration::from_secs(5);

/// A connection that carries many exchanges.
pub struct Carrier {
    send: SendRequest<Bytes>,
    secure: bool,
    pulse: Rc<Pulse>,
    ping: RefCell<PingPong>,
    /// Exchanges on it; written by [`super::carriers::Place`].
    pub(super) streams: Cell<usize>,
    /// Nothing new may be sent on it.
    retired: Cell<bool>,
    /// Set by the task when the connection has ended.
    ended: Rc<Cell<bool>>,
    /// Since when nothing is on it.
    pub(super) rest_since: Cell<Instant>,
    /// Somebody asks whether it still lives.
    pub(super) checking: Cell<bool>,
    /// Told when that is known.
    pub(super) checked: Notify,
    /// The settings as of the last exchange that began on it.
    pub(super) idle_limit: Cell<Duration>,
    pub(super) ping_after: Cell<Duration>,
    /// The watchdog's own: what was read when it looked, since when that is so, and when it sent a PING.
    silent: Cell<(u64, Instant)>,
    pinged: Cell<Option<Instant>>,
    /// Tells the task that nobody needs the connection any more.
    dropped: Rc<Notify>,
    task: AbortHandle,
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier").field("streams", &self.streams).finish_non_exhaustive()
    }
}

/// What ends with the task, however it ends.
struct Ending {
    ended: Rc<Cell<bool>>,
    _slot: Slot,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.ended.set(true);
    }
}

impl Carrier {
    /// Connects, and waits until the node has said in HTTP/2 how many streams it takes: so no request is lost to a server
    /// that speaks something else, or nothing.
    pub(super) async fn connect(local: &Rc<LocalNode>, settings: &config::Connections) -> Result<Rc<Self>, Loss> {
        for _ in 0..GOODBYES {
            if let Some(carrier) = Self::open(local, settings).await? {
                return Ok(carrier);
            }
        }
        let error =
            std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "it says goodbye on each new connection");
        Err(Loss::Connect(error.into()))
    }

    /// `None`: the node speaks HTTP/2, and said goodbye before anything could be sent.
    async fn open(local: &Rc<LocalNode>, settings: &config::Connections) -> Result<Option<Rc<Self>>, Loss> {
        let slot = Slot::new(local);
        let either = settings.protocol == NodeProtocol::Auto;
        let offer: &[Protocol] = if either { &[Protocol::Http2, Protocol::Http1] } else { &[Protocol::Http2] };
        let stream = super::super::connect(local, offer, None).await.map_err(Loss::Connect)?;
        let secure = stream.is_tls();
        match stream.protocol() {
            None if !secure => {}
            Some(Protocol::Http2) => {}
            _ if either => return Err(Loss::SpeaksHttp1),
            _ => return Err(Loss::Protocol("it did not choose `h2` in the TLS handshake (ALPN)".into())),
        }
        let pulse = stream.pulse();
        let (send, mut connection) = Builder::new()
            .enable_push(false)
            .max_header_list_size(HEAD_SIZE)
            .initial_window_size(WINDOW)
            // Clients that are slow to take their answers must not use up the window of all the others.
            .initial_connection_window_size(window_of_all(settings.streams))
            .max_send_buffer_size(SEND_BUFFER)
            // None, until the node's SETTINGS say otherwise.
            .initial_max_send_streams(0)
            .handshake::<_, Bytes>(stream)
            .await
            .map_err(protocol)?;
        let lives = poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            let speaks = send.current_max_send_streams() > 0;
            match polled {
                Poll::Ready(_) if speaks => Poll::Ready(Ok(false)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(protocol(error))),
                Poll::Ready(Ok(())) => Poll::Ready(Err(Loss::Protocol("it closed the connection".into()))),
                Poll::Pending if speaks => Poll::Ready(Ok(true)),
                Poll::Pending => Poll::Pending,
            }
        });
        if !lives.await? {
            return Ok(None);
        }
        let Some(ping) = connection.ping_pong() else {
            return Err(Loss::Protocol("there is no way to ping it".into()));
        };
        let (ended, dropped) = (Rc::<Cell<bool>>::default(), Rc::<Notify>::default());
        let ending = Ending { ended: Rc::clone(&ended), _slot: slot };
        let (unneeded, node) = (Rc::clone(&dropped), Rc::<str>::from(local.node.id.address.as_str()));
        let task = tokio::task::spawn_local(async move {
            let _ending = ending;
            let result = tokio::select! {
                result = &mut connection => result,
                () = unneeded.notified() => {
                    // It says goodbye as soon as the last stream has ended; a node that does not read waits for nobody.
                    let rest = tokio::time::timeout(CLOSING, &mut connection);
                    rest.await.unwrap_or(Ok(()))
                }
            };
            if let Err(error) = result {
                tracing::debug!(%node, %error, "an HTTP/2 connection broke");
            }
        });
        let now = Instant::now();
        let read = pulse.read();
        Ok(Some(Rc::new(Self {
            send,
            secure,
            pulse,
            ping: RefCell::new(ping),
            streams: Cell::new(0),
            retired: Cell::new(false),
            ended,
            rest_since: Cell::new(now),
            checking: Cell::new(false),
            checked: Notify::new(),
            idle_limit: Cell::new(settings.idle_timeout),
            ping_after: Cell::new(settings.ping),
            silent: Cell::new((read, now)),
            pinged: Cell::new(None),
            dropped,
            task: task.abort_handle(),
        })))
    }

    /// Whether it runs over TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }

    /// What begins a stream on it.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.send.clone()
    }

    /// Bytes that came from the node so far.
    pub(super) fn heard(&self) -> u64 {
        self.pulse.read()
    }

    /// Lets nothing new on it. It closes when the last stream has ended.
    pub(super) fn retire(&self) {
        self.retired.set(true);
    }

    /// Whether it takes new streams at all.
    pub(super) fn is_usable(&self) -> bool {
        !self.retired.get() && !self.ended.get()
    }

    /// Whether it takes one more stream now, of at most so many.
    pub(super) fn has_room(&self, most: usize) -> bool {
        self.streams.get() < most.min(self.send.current_max_send_streams())
    }

    /// Ends it, and everything on it.
    pub(super) fn kill(&self) {
        self.retire();
        self.task.abort();
    }

    /// Sends a PING, unless one is on its way.
    pub(super) fn ask(&self) {
        let mut ping = self.ping.borrow_mut();
        // The answer to an earlier one says nothing about now.
        let _ = ping.poll_pong(&mut Context::from_waker(Waker::noop()));
        let _ = ping.send_ping(Ping::opaque());
    }

    /// Waits for the answer to a PING. `false`: the connection has ended.
    pub(super) fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<bool> {
        self.ping.borrow_mut().poll_pong(cx).map(|answer| answer.is_ok())
    }

    /// The watchdog's look at it. `false`: it is of no use any more.
    pub(super) fn check(&self, now: Instant) -> bool {
        if !self.is_usable() {
            return false;
        }
        let read = self.pulse.read();
        if read != self.silent.get().0 {
            self.silent.set((read, now));
            self.pinged.set(None);
        }
        if self.streams.get() == 0 {
            return now.saturating_duration_since(self.rest_since.get()) < self.idle_limit.get();
        }
        let silence = now.saturating_duration_since(self.silent.get().1.max(self.rest_since.get()));
        match self.pinged.get() {
            // Whoever else asks has a deadline of his own.
            _ if self.checking.get() => {}
            None if silence >= self.ping_after.get() => {
                self.ask();
                self.pinged.set(Some(now));
            }
            Some(asked) if now - asked >= PONG => {
                tracing::warn!(
                    streams = self.streams.get(),
                    "a node does not answer HTTP/2 pings; its connection is given up"
                );
                self.kill();
                return false;
            }
            _ => {}
        }
        true
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.dropped.notify_one();
    }
}

/// The window that lets each of so many streams have its own in full.
fn window_of_all(streams: usize) -> u32 {
    const LARGEST: u32 = (1 << 31) - 1;
    let streams = u32::try_from(streams).unwrap_or(LARGEST);
    streams.saturating_mul(WINDOW).min(LARGEST)
}

fn protocol(error: ::h2::Error) -> Loss {
    Loss::Protocol(error.to_string())
}
