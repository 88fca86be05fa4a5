//! One call: a request from its arrival to the end of its response body or tunnel.
//!
//! The call is what the rest of the worker sees of a request: the watchdog finds its time limits here, the control plane
//! learns from it what holds a node open, and a cut reaches the request through it.

mod hints;
mod note;
mod patience;
mod registered;
mod watch;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Uri};

use self::hints::Hints;
use self::patience::Patience;
pub use self::registered::Registered;
use super::access_log::Entry;
use super::front::Front;
use super::pace::Pace;
use super::view::LocalNode;
use crate::model::{Holder, WorkKind};
use crate::net::Pulse;
use crate::pool::CutReason;
use crate::pool::meters::Ticket;

/// How long a client may take nothing of an answer that came from no node.
const UNSENT: Duration = Duration::from_secs(30);

/// What a call waits for; each stage has its own limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing that is limited here.
    Free,
    /// A connection to a node.
    Connect,
    /// The head of the response. Bytes of the request body on their way extend the time, bytes of a slow head do not.
    Response,
    /// The next byte of a body or of a tunnel, in either direction.
    Flow,
}

/// What was decided about a call from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The stage's limit passed.
    TimedOut(Stage),
    /// The call has to end.
    Cut(CutReason),
}

/// A request under way. Shared by its handler, its body and the worker's table.
#[derive(Debug)]
pub struct Call {
    /// The client's connection.
    pub front: Rc<Front>,
    /// The task that runs it, if that is its own (HTTP/2) and not the connection's (HTTP/1).
    task: Option<Waker>,
    /// When it arrived.
    pub started: Instant,
    method: Method,
    uri: Uri,
    /// Set by the handler when the response's head tells.
    kind: Cell<WorkKind>,
    /// Set by the handler, with the limit; `restarted` tells the watchdog to count anew.
    stage: Cell<Stage>,
    limit: Cell<Duration>,
    restarted: Cell<bool>,
    /// Set by the handler: the node that is claimed for it now.
    node: RefCell<Option<Rc<LocalNode>>>,
    /// Set by the handler: what moves over the connection to the node, if that serves this call alone.
    upstream: RefCell<Option<Rc<Pulse>>>,
    /// Pieces of either body that went by; counted by the bodies.
    pieces: Cell<u64>,
    /// Set by the request body: the client is the one who is awaited.
    pub awaits_client: Cell<bool>,
    /// Set by the handler: how long the client may be awaited.
    client_limit: Cell<Duration>,
    /// How fast the client sends or takes a body.
    pub pace: Pace,
    /// Set by the handler: what is noted for the access log, if there is one.
    entry: RefCell<Option<Rc<Entry>>>,
    /// Bytes of the answer's body that went by; counted by the body.
    sent: Cell<u64>,
    /// Set by the handler: its place among the requests of a service that may have only so many.
    ticket: RefCell<Option<Ticket>>,
    /// Set by the watchdog, taken by the handler or the body.
    verdict: Cell<Option<Verdict>>,
    /// Set by a cut command: when the call should end at its next clean border, and when it must.
    cut: Cell<Option<Cut>>,
    /// Set by the stream: when its client stops waiting.
    deadline: Cell<Option<Instant>>,
    /// Set by the watchdog when a cut takes hold.
    was_cut: Cell<bool>,
    /// Set by the handler for each try at a version on trial or beside one: when the answer should have begun.
    patience: RefCell<Option<Box<Patience>>>,
    /// Set by the handler: the version on trial failed it, and the old one was asked.
    shielded: Cell<bool>,
    /// Set by the handler for `Expect: 100-continue`, cleared by the watchdog after a second: the body is held back.
    held_since: Cell<Option<Instant>>,
    /// The body was held back and is wanted now.
    wants_body: Cell<bool>,
    hints: Hints,
    /// Set by the stream (HTTP/2): the client takes nothing now. It has its own limit for that.
    client_stalls: Cell<bool>,
    /// Set by the watchdog: the client must not take what it got for the whole.
    killed: Cell<bool>,
    /// The watchdog's own: the count it last saw, and when that changed.
    beat: Cell<u64>,
    moved: Cell<Instant>,
}

/// A claimed node and what moves over the connection to it.
pub type Place = (Option<Rc<LocalNode>>, Option<Rc<Pulse>>);

/// When and why a call has to end.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// From here on at the next clean border.
    pub at: Instant,
    /// From here on at once.
    pub by: Instant,
    /// Why.
    pub reason: CutReason,
}

impl Call {
    /// Whether the call works at this node.
    pub fn is_at(&self, node: u64) -> bool {
        self.node.borrow().as_ref().is_some_and(|local| local.node.key == node)
    }

    /// What kind of work it is, as far as is known.
    pub fn kind(&self) -> WorkKind {
        self.kind.get()
    }

    /// Told by the handler.
    pub fn set_kind(&self, kind: WorkKind) {
        self.kind.set(kind);
    }

    /// Told by the handler at each new stage.
    pub fn enter(&self, stage: Stage, limit: Duration) {
        self.stage.set(stage);
        self.limit.set(limit);
        self.restarted.set(true);
        self.note(|entry| entry.enter(stage));
        if stage == Stage::Flow {
            // A node that has begun to answer has what it needs; from here on it is the answer that must move.
            self.pace.turn();
        }
    }

    /// Told by a tunnel: from now on, silence of this length ends it, if none shorter does.
    pub fn limit_silence(&self, limit: Duration) {
        self.limit.set(limit.min(self.limit.get()));
        self.restarted.set(true);
    }

    /// Told by the handler when the call is counted among its service's.
    pub fn set_ticket(&self, ticket: Ticket) {
        *self.ticket.borrow_mut() = Some(ticket);
    }

    /// Told by the handler for a request with a body: how long the client may be awaited before the response begins.
    pub fn limit_client(&self, limit: Duration) {
        self.client_limit.set(limit);
    }

    /// Told by the handler when a node is claimed, and with `None` when the claim is given up.
    pub fn set_node(&self, node: Option<Rc<LocalNode>>) {
        if let Some(node) = &node {
            self.note(|entry| entry.chose(node));
            // A cut was meant for the node before; a replay elsewhere saved the call.
            self.was_cut.set(false);
            if self.cut.get().is_some_and(|cut| cut.reason == CutReason::Drain) {
                self.cut.set(None);
            }
        }
        *self.node.borrow_mut() = node;
        *self.upstream.borrow_mut() = None;
    }

    /// Where it is now, to be [put back](Self::put_back).
    pub fn place(&self) -> Place {
        (self.node.borrow().clone(), self.upstream.borrow().clone())
    }

    /// Told by the handler when it goes back to a try before.
    pub fn put_back(&self, place: Place) {
        self.set_node(place.0);
        *self.upstream.borrow_mut() = place.1;
    }

    /// The node's own name, for a request that came without a host.
    pub fn node_address(&self) -> Option<HeaderValue> {
        let node = self.node.borrow();
        HeaderValue::from_str(node.as_ref()?.node.id.address.authority()).ok()
    }

    /// Told by a body for each piece that it passes on: on a connection that calls share, only this tells one's progress.
    pub fn count_piece(&self) {
        self.pieces.set(self.pieces.get().wrapping_add(1));
    }

    /// Told by the handler when the connection to the node is chosen, if it serves this call alone.
    pub fn set_upstream(&self, pulse: Rc<Pulse>) {
        *self.upstream.borrow_mut() = Some(pulse);
    }

    /// For people: what this is.
    pub fn describe(&self) -> Holder {
        Holder {
            kind: self.kind.get(),
            method: self.method.to_string(),
            path: self.uri.path().chars().take(200).collect(),
            client: self.front.remote().to_string(),
            age_ms: self.started.elapsed().as_millis() as u64,
        }
    }

    /// Whether a cut ended it.
    pub fn was_cut(&self) -> bool {
        self.was_cut.get()
    }

    /// Whether it was told when the process ends.
    pub fn ends_with_process(&self) -> bool {
        self.cut.get().is_some_and(|cut| cut.reason == CutReason::Shutdown)
    }

    /// Asks for an end.
    pub fn cut(&self, cut: Cut) {
        self.cut.set(Some(cut));
    }

    /// Whether the call should end at its next clean border.
    pub fn is_cut(&self) -> bool {
        self.cut_reason().is_some()
    }

    /// Why it should.
    pub fn cut_reason(&self) -> Option<CutReason> {
        match self.verdict.get() {
            Some(Verdict::Cut(reason)) => Some(reason),
            _ => None,
        }
    }

    /// Told by the stream of a gRPC call: its client waits this long for all of it. No other limit holds for the head then.
    pub fn set_timeout(&self, timeout: Duration) {
        self.deadline.set(self.started.checked_add(timeout));
    }

    /// The verdict, once.
    pub fn take_verdict(&self) -> Option<Verdict> {
        self.verdict.take()
    }

    /// The verdict stays for others to see.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict.get()
    }

    /// Holds the request body back until the node asks for it; at most a second (RFC 9110 §10.1.1).
    pub fn hold_body(&self) {
        self.held_since.set(Some(self.started));
    }

    /// Lets the body go.
    pub fn release_body(&self) {
        if self.held_since.take().is_some() {
            self.wants_body.set(true);
        }
    }

    /// Whether the client of a body that was held back should be told to send it. HTTP/1 does so when it is polled.
    pub fn wants_body(&self) -> bool {
        !self.holds_body() && self.wants_body.get()
    }

    /// Told by a stream whose client shuts its window, and when it opens it again.
    pub fn set_client_stalls(&self, stalls: bool) {
        self.client_stalls.set(stalls);
    }

    /// How long the client may take nothing of a stream.
    pub fn patience(&self) -> Duration {
        let limit = self.limit.get();
        if limit.is_zero() { UNSENT } else { limit }
    }

    /// Whether its client's connection carries other calls too.
    pub fn is_stream(&self) -> bool {
        self.task.is_some()
    }

    /// Whether the body is held back.
    pub fn holds_body(&self) -> bool {
        self.held_since.get().is_some()
    }

    /// Has its task look at it again.
    pub fn wake(&self) {
        match &self.task {
            Some(task) => task.wake_by_ref(),
            None => self.front.wake(),
        }
    }

    /// Resolves when the call has to end at once.
    pub fn poll_killed(&self, cx: &Context<'_>) -> Poll<()> {
        if self.killed.get() {
            Poll::Ready(())
        } else if self.task.is_none() {
            self.front.poll_killed(cx.waker())
        } else {
            Poll::Pending
        }
    }

    /// Runs `work` unless a verdict comes first. The verdict is taken.
    pub async fn unless_judged<T>(&self, work: impl Future<Output = T>) -> Result<T, Verdict> {
        let mut work = pin!(work);
        poll_fn(|cx| match self.take_verdict() {
            // The watchdog wakes the call's task, so no waker is kept here.
            Some(verdict) => Poll::Ready(Err(verdict)),
            None => work.as_mut().poll(cx).map(Ok),
        })
        .await
    }
}
