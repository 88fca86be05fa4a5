//! HTTP/1: one connection to a node, and one exchange on it.
//!
//! A connection is no task of its own: whoever holds it drives it ([`wire`]). A request with a small answer therefore costs one
//! wake-up of one task, the client connection's, and nothing is handed from task to task. An idle connection is driven by
//! nobody; it is looked at before it is used again.

mod detached;
mod wire;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use hyper::body::Frame;

use super::{Ask, Demand, Feed, IdlePolicy, Loss, Sent};
use crate::config::{self, Protocol};
use crate::net::http1::Error;
use crate::net::http1::response::Head;
use crate::net::{ConnectError, Introduction, Pulse, Stream};
use crate::proxy::body::{ReqBody, RespBody};
use crate::proxy::call::{Call, Stage, Verdict};
use crate::proxy::view::{Fitness, LocalNode, Slot};
use crate::proxy::worker::Worker;

pub use detached::Detached;
use wire::Wire;

/// A connection to a node.
pub struct Upstream {
    wire: Wire,
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
        let idle_since = Instant::now();
        let wire = Wire::new(stream);
        Ok(Box::new(Self { wire, slot, introduced, idle_since, keep_alive: None, idle_limit: Duration::ZERO }))
    }

    /// The counts of the connection.
    pub fn pulse(&self) -> Rc<Pulse> {
        self.wire.stream.pulse()
    }

    /// Told from the response's head: `Keep-Alive: timeout=`.
    pub fn set_keep_alive(&mut self, timeout: Option<Duration>) {
        self.keep_alive = timeout;
    }

    /// Whether all of the response came.
    pub fn is_end_stream(&self) -> bool {
        self.wire.has_ended()
    }

    /// The bytes of the response's body that are still to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        self.wire.left()
    }

    /// The next piece of the response's body, or its trailers.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.wire.poll_frame(cx)
    }

    /// What it is good for, having been idle.
    fn fitness(
        &mut self,
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
        // A replayable request may do without the system call: an end that the event loop has seen is found before anything
        // is written, and one that it has not seen yet costs a replay. At a node that hangs up soon that would be too many.
        let trusted = replayable && steady;
        if !trusted && !self.wire.stream.is_quiet() {
            local.hung_up(idle, now);
            return Fitness::Dead;
        }
        Fitness::Fit
    }

    /// Whether an idle connection should be closed.
    pub fn is_stale(&mut self, now: Instant) -> bool {
        let idle = now.saturating_duration_since(self.idle_since);
        let quiet = self.wire.stream.is_quiet();
        if !quiet {
            self.slot.local().hung_up(idle, now);
        }
        !quiet || idle >= self.idle_limit
    }

    /// Gives the connection back after a whole response, which ended at `now`, if it can be used again.
    pub fn give_back(mut self: Box<Self>, policy: IdlePolicy, now: Instant) {
        // With a waker that wakes nobody: an idle connection must not wake the client that used it last.
        let usable = self.wire.is_idle() && self.wire.is_silent(&mut Context::from_waker(Waker::noop()));
        let local = Rc::clone(self.slot.local());
        if usable && !local.node.is_closed() {
            self.wire.rest();
            self.idle_since = now;
            // A node that names its own limit gets a fifth of it as a margin.
            let named = self.keep_alive.map(|timeout| timeout * 4 / 5);
            self.idle_limit = named.map_or(policy.limit, |named| named.min(policy.limit));
            local.keep_idle(self, policy.most);
        }
    }

    /// After a 101: the bare stream, and what was read beyond the head.
    pub fn into_tunnel(self: Box<Self>) -> (Stream, Bytes, Slot) {
        let (stream, ahead) = self.wire.into_stream();
        // In a tunnel no answer can be waiting behind a failed write.
        (stream.forgiving(false), ahead, self.slot)
    }
}

/// Sends a request to a node, on an idle connection or a new one.
pub(super) async fn send(
    worker: &Worker,
    call: &Call,
    local: &Rc<LocalNode>,
    settings: &config::Service,
    ask: Ask<'_, impl Fn() -> ReqBody>,
    demand: Demand,
    response: &mut Response<RespBody>,
) -> Sent {
    let Demand { replayable, again, mut now, .. } = demand;
    loop {
        let introduction = introduction(call, &settings.connections);
        let fit = |upstream: &mut Upstream| upstream.fitness(now, replayable, &settings.connections, introduction);
        let idle = if again { None } else { local.take_idle(fit) };
        let reused = idle.is_some();
        let mut upstream = match idle {
            Some(upstream) => upstream,
            // In a box, as every rare path of a request: its state would be moved with that of each request.
            None => match Box::pin(open(worker, call, local, settings)).await {
                Ok(upstream) => upstream,
                Err(loss) => return Sent::Unsent(loss),
            },
        };
        let pulse = upstream.pulse();
        let read = pulse.read();
        call.set_upstream(pulse);
        call.enter(Stage::Response, settings.timeouts.response);
        match exchange((call, settings), &mut upstream, reused, &ask, response).await {
            Ok(Some(Ok(found))) => {
                upstream.wire.receive(found.body);
                return Sent::Response(Feed::Http1(upstream));
            }
            Ok(Some(Err(error))) => {
                let silent = reused && upstream.pulse().read() == read;
                if silent {
                    local.hung_up(now.saturating_duration_since(upstream.idle_since), now);
                }
                return Sent::Lost(if silent { Loss::Stale(error) } else { Loss::Broken(error) });
            }
            // A reused connection had just closed. Another one of the same node is no further try.
            Ok(None) => local.hung_up(now.saturating_duration_since(upstream.idle_since), now),
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

/// Until the head of the response is there. `None`: the connection had ended before anything was written.
async fn exchange(
    (call, settings): (&Call, &config::Service),
    upstream: &mut Upstream,
    reused: bool,
    ask: &Ask<'_, impl Fn() -> ReqBody>,
    response: &mut Response<RespBody>,
) -> Result<Option<Result<Head, Error>>, Verdict> {
    let wire = &mut upstream.wire;
    let mut begun = false;
    call.unless_judged(poll_fn(move |cx| {
        let first = !begun;
        if first {
            if reused && !wire.is_silent(cx) {
                return Poll::Ready(None);
            }
            wire.begin(ask.head, ask.told, (ask.body)());
            begun = true;
        }
        wire.poll_head(cx, &ask.head.method, (call, settings), first && reused, response).map(Some)
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
        let fit = |upstream: &mut Upstream| upstream.fitness(now, false, &settings.connections, introduction);
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
