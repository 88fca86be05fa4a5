//! HTTP/1: one connection to a node, and one exchange on it.
//!
//! hyper's connection future is not a task of its own here: whoever holds the connection drives it. A request with a
//! small answer therefore costs one wake-up of one task, the client connection's, and nothing is handed from task to task.
//! An idle connection is driven by nobody; it is looked at before it is used again.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use super::{Demand, Feed, IdlePolicy, Loss, Sent};
use crate::config::{self, Protocol};
use crate::net::stream::Probe;
use crate::net::{ConnectError, Introduction, Pulse, Stream};
use crate::proxy::body::ReqBody;
use crate::proxy::call::{Call, Stage, Verdict};
use crate::proxy::view::{Fitness, LocalNode, Slot};
use crate::proxy::worker::Worker;

/// Bytes of a response head. A node is ours, but a broken one must not fill the memory.
const HEAD_SIZE: usize = 128 * 1024;

/// A connection to a node.
pub struct Upstream {
    send: SendRequest<ReqBody>,
    /// Taken when it failed with a request queued, so that the request comes back.
    connection: Option<Connection<TokioIo<Stream>, ReqBody>>,
    /// The connection future has finished, and must not be polled again. After a 101 it still holds the stream.
    ended: bool,
    probe: Probe,
    pulse: Rc<Pulse>,
    slot: Slot,
    /// The client that the node was told of; it serves no other.
    introduced: Option<Introduction>,
    /// When the last response on it ended.
    idle_since: Instant,
    /// How long the node keeps it, if it said so.
    keep_alive: Option<Duration>,
    /// How long it may lie idle; told when it is given back.
    idle_limit: Duration,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("node", &self.slot.local().node.id).finish_non_exhaustive()
    }
}

impl Upstream {
    async fn connect(local: &Rc<LocalNode>, introduced: Option<Introduction>) -> Result<Box<Self>, ConnectError> {
        let slot = Slot::new(local);
        let stream = super::connect(local, &[Protocol::Http1], introduced).await?;
        let (probe, pulse) = (stream.probe(), stream.pulse());
        let (send, connection) = Builder::new()
            .max_header_size(HEAD_SIZE)
            .max_buf_size(2 * HEAD_SIZE)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        let idle_since = Instant::now();
        Ok(Box::new(Self {
            send,
            connection: Some(connection),
            ended: false,
            probe,
            pulse,
            slot,
            introduced,
            idle_since,
            keep_alive: None,
            idle_limit: Duration::ZERO,
        }))
    }

    /// The counts of the connection.
    pub fn pulse(&self) -> Rc<Pulse> {
        Rc::clone(&self.pulse)
    }

    /// Lets the connection make progress. `true` once it has ended.
    pub fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(connection) = &mut self.connection
            && !self.ended
        {
            // An error, if it was one, reaches the response or its body.
            self.ended = Pin::new(connection).poll(cx).is_ready();
        }
        self.ended
    }

    /// Drives the connection until it ends.
    async fn run_to_end(&mut self) {
        poll_fn(|cx| if self.drive(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Told from the response's head: `Keep-Alive: timeout=`.
    pub fn set_keep_alive(&mut self, timeout: Option<Duration>) {
        self.keep_alive = timeout;
    }

    /// What it is good for, having been idle.
    fn fitness(
        &self,
        now: Instant,
        replayable: bool,
        settings: &config::Connections,
        introduction: Option<Introduction>,
    ) -> Fitness {
        if self.introduced != introduction {
            return Fitness::OfAnother;
        }
        let idle = now.saturating_duration_since(self.idle_since);
        if idle >= self.idle_limit {
            return Fitness::Dead;
        }
        let local = self.slot.local();
        let steady = local.is_steady(now);
        if !replayable && (!steady || idle >= settings.fresh) {
            return Fitness::TooOld;
        }
        // A replayable request may do without the system call: an end that the event loop has seen hands the request back
        // unsent, and one that it has not seen yet costs a replay. At a node that hangs up soon that would be too many.
        let trusted = replayable && steady;
        if !trusted && !self.probe.is_quiet() {
            local.hung_up(idle, now);
            return Fitness::Dead;
        }
        Fitness::Fit
    }

    /// Whether an idle connection should be closed.
    pub fn is_stale(&self, now: Instant) -> bool {
        let idle = now.saturating_duration_since(self.idle_since);
        let quiet = self.probe.is_quiet();
        if !quiet {
            self.slot.local().hung_up(idle, now);
        }
        !quiet || idle >= self.idle_limit
    }

    /// Gives the connection back after a whole response, if it can be used again.
    pub fn give_back(mut self: Box<Self>, policy: IdlePolicy) {
        // Driven to idleness with a waker that wakes nobody: an idle connection must not wake the client that used it last.
        let ended = self.drive(&mut Context::from_waker(Waker::noop()));
        let local = Rc::clone(self.slot.local());
        // Not ready means that the request's body is unfinished, and hyper would keep the connection for ever.
        if !ended && self.send.is_ready() && !local.node.is_closed() {
            self.idle_since = Instant::now();
            // A node that names its own limit gets a fifth of it as a margin.
            let named = self.keep_alive.map(|timeout| timeout * 4 / 5);
            self.idle_limit = named.map_or(policy.limit, |named| named.min(policy.limit));
            local.keep_idle(self, policy.most);
        }
    }

    /// After a 101: the bare stream, and what was read beyond the head.
    pub async fn into_tunnel(mut self: Box<Self>) -> Option<(Stream, bytes::Bytes, Slot)> {
        self.run_to_end().await;
        let parts = self.connection.take()?.into_parts();
        // In a tunnel no answer can be waiting behind a failed write.
        Some((parts.io.into_inner().forgiving(false), parts.read_buf, self.slot))
    }

    /// Has a task of its own drive the connection until it ends: for the rare exchange whose request body is still on its
    /// way while the response flows, so that a client that does not read yet can go on sending. Such a connection is not
    /// used again.
    pub fn detach(mut self: Box<Self>) -> Detached {
        Detached(tokio::task::spawn_local(async move { self.run_to_end().await }))
    }
}

/// A connection that drives itself; dropped with this.
#[derive(Debug)]
pub struct Detached(tokio::task::JoinHandle<()>);

impl Drop for Detached {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends a request to a node, on an idle connection or a new one.
pub(super) async fn send(
    worker: &Worker,
    call: &Call,
    local: &Rc<LocalNode>,
    settings: &config::Service,
    mut request: Request<ReqBody>,
    demand: Demand,
) -> Sent {
    let Demand { replayable, again, mut now, .. } = demand;
    loop {
        let introduction = introduction(call, &settings.connections);
        let fit = |upstream: &Upstream| upstream.fitness(now, replayable, &settings.connections, introduction);
        let idle = if again { None } else { local.take_idle(fit) };
        let reused = idle.is_some();
        let mut upstream = match idle {
            Some(upstream) => upstream,
            // In a box, as every rare path of a request: its state would be moved with that of each request.
            None => match Box::pin(open(worker, call, local, settings)).await {
                Ok(upstream) => upstream,
                Err(loss) => return Sent::Unsent(request, loss),
            },
        };
        let pulse = upstream.pulse();
        let read = pulse.read();
        call.set_upstream(pulse);
        call.enter(Stage::Response, settings.timeouts.response);
        match exchange(call, &mut upstream, request).await {
            Ok(Ok(response)) => return Sent::Response(response.map(|incoming| Feed::Http1(incoming, upstream))),
            Ok(Err(mut error)) => {
                let unsent = error.take_message();
                let silent = reused && upstream.pulse.read() == read;
                if silent {
                    local.hung_up(now.saturating_duration_since(upstream.idle_since), now);
                }
                match unsent {
                    // A reused connection had just closed. Another one of the same node is no further try.
                    Some(unsent) if reused => request = unsent,
                    Some(unsent) => return Sent::Unsent(unsent, Loss::Broken(error.into_error())),
                    None if silent => return Sent::Lost(Loss::Stale(error.into_error())),
                    None => return Sent::Lost(Loss::Broken(error.into_error())),
                }
            }
            Err(verdict) => return Sent::Lost(Loss::Judged(verdict)),
        }
        now = Instant::now();
    }
}

/// What the node is told of the client ahead of everything else, if it wants to know.
fn introduction(call: &Call, settings: &config::Connections) -> Option<Introduction> {
    let version = settings.proxy_protocol?;
    let client = call.front.remote();
    Some(Introduction { version, client: Some((client, call.front.local().unwrap_or(client))) })
}

async fn exchange(
    call: &Call,
    upstream: &mut Upstream,
    request: Request<ReqBody>,
) -> Result<Result<Response<Incoming>, TrySendError<Request<ReqBody>>>, Verdict> {
    let mut response = pin!(upstream.send.try_send_request(request));
    // Only the connection, which is driven here, can bring the response: no waker is needed for that.
    let mut silent = Context::from_waker(Waker::noop());
    call.unless_judged(poll_fn(move |cx| {
        let ended = upstream.drive(cx);
        let polled = response.as_mut().poll(&mut silent);
        if polled.is_ready() || !ended {
            return polled;
        }
        // What was queued and never written is handed back when the connection is dropped.
        upstream.connection = None;
        response.as_mut().poll(&mut silent)
    }))
    .await
}

/// A new connection, or one that comes free while the node is at its limit.
async fn open(
    worker: &Worker,
    call: &Call,
    local: &Rc<LocalNode>,
    settings: &config::Service,
) -> Result<Box<Upstream>, Loss> {
    call.enter(Stage::Connect, settings.timeouts.connect);
    let introduction = introduction(call, &settings.connections);
    while local.open() >= worker.part_of(settings.connections.max) {
        call.unless_judged(local.freed.notified()).await.map_err(|verdict| match verdict {
            Verdict::TimedOut(_) => Loss::Busy,
            Verdict::Cut(_) => Loss::Judged(verdict),
        })?;
        let now = Instant::now();
        let fit = |upstream: &Upstream| upstream.fitness(now, false, &settings.connections, introduction);
        if let Some(upstream) = local.take_idle(fit) {
            return Ok(upstream);
        }
        // At the limit a connection that is too old for this request has to make room for a new one.
        local.sweep(|_| local.open() >= worker.part_of(settings.connections.max));
    }
    match call.unless_judged(Upstream::connect(local, introduction)).await {
        Ok(Ok(upstream)) => {
            local.recovered();
            Ok(upstream)
        }
        Ok(Err(error)) => {
            worker.trouble_at(local);
            Err(Loss::Connect(error))
        }
        Err(verdict) => {
            if matches!(verdict, Verdict::TimedOut(_)) {
                worker.trouble_at(local);
            }
            Err(Loss::Judged(verdict))
        }
    }
}
