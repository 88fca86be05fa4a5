//! Which node a request gets: chosen, claimed, and counted. And where it waits if there is none.

use std::cell::{Cell, OnceCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, timeout_at};

use super::call::{Call, Stage, Verdict};
use super::halted;
use super::view::{LocalNode, ServiceLocal, View};
use super::worker::Worker;
use crate::config::Kinds;
use crate::model::FailureKind;
use crate::pool::hold::Place;
use crate::pool::{Aim, Hold, ServiceView, Turn};

/// A node that failed so often that it was reported is tried last for this long: the controller decides meanwhile.
const SUSPECTED: Duration = Duration::from_secs(1);

/// A claim on a node: while it lives, the node is not drained. Not `Send`: it is released on the worker that counted it.
#[derive(Debug)]
pub struct Permit {
    local: Rc<LocalNode>,
    worker: Rc<Worker>,
    /// How many failures in a row are reported, and of which kinds; none if that is off.
    watch: Option<(u32, Kinds)>,
    /// Set if the service limits requests at a node: who waits for the place.
    place: Option<Arc<Hold>>,
    /// What the guard was told of the request.
    told: Cell<Told>,
    /// Set for a version on trial or beside one, if it has only so long to begin an answer: raised by the watchdog when it was told
    /// that this time is over.
    overdue: OnceCell<Rc<Cell<bool>>>,
}

/// What the guard was told of a request: one outcome, whatever else happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// There is no request yet.
    Nothing,
    /// It was sent.
    Open,
    Answered,
    Failed,
    /// It is none of its business.
    Aside,
}

/// How a request failed at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection.
    Connect,
    /// The connection broke, or what came was no usable answer.
    Reset,
    /// No answer in time.
    Timeout,
    /// The answer broke off in its body.
    Truncated,
    /// A status of 500 or more.
    Status,
    /// Counted, but proves nothing about the node: a client may have caused it.
    Other,
}

impl Failure {
    /// As the guard counts it. Whether a status is a failure depends on the service.
    fn kind(self) -> Option<FailureKind> {
        match self {
            Self::Connect => Some(FailureKind::Connect),
            Self::Reset => Some(FailureKind::Reset),
            Self::Timeout => Some(FailureKind::Timeout),
            Self::Truncated => Some(FailureKind::Truncated),
            Self::Status | Self::Other => None,
        }
    }
}

/// Why there is no claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No node is left.
    NoNode,
    /// Every node that is left has as many requests as it may have.
    Full,
    /// The chosen node closed just now, or its last place was taken: look again.
    Again,
}

impl Permit {
    /// Claims the node, unless its gate is closed or it is full.
    fn claim(local: Rc<LocalNode>, worker: &Rc<Worker>, service: &ServiceView) -> Option<Self> {
        if !local.node.claim(worker.index()) {
            return None;
        }
        let eject = &service.settings.eject;
        let watch = (eject.failures > 0).then_some((eject.failures, eject.on));
        // From here on the claim is released when this is dropped.
        let mut permit = Self {
            local,
            worker: Rc::clone(worker),
            watch,
            place: None,
            told: Cell::new(Told::Nothing),
            overdue: OnceCell::new(),
        };
        if let Some(limit) = service.settings.balance.max_requests {
            if !permit.local.node.enter(limit) {
                return None;
            }
            permit.place = Some(Arc::clone(&service.hold));
        }
        Some(permit)
    }

    /// The node.
    pub fn local(&self) -> &Rc<LocalNode> {
        &self.local
    }

    /// The node is given a request.
    pub fn count_request(&self) {
        let stats = self.local.node.stats(self.worker.index());
        stats.requests.add_one();
        if self.told.get() == Told::Aside {
            stats.given_up.add_one();
        } else {
            self.told.set(Told::Open);
        }
    }

    /// The guard is told nothing of the request, which is yet to be given: it is a preview, or asked beside another one.
    pub fn keep_from_guard(&self) {
        self.told.set(Told::Aside);
    }

    /// Which worker counts here.
    pub fn worker(&self) -> usize {
        self.worker.index()
    }

    /// What the watchdog raises when it tells the guard that the answer did not begin in time.
    pub fn overdue(&self) -> Rc<Cell<bool>> {
        Rc::clone(self.overdue.get_or_init(Rc::default))
    }

    /// The node began to answer after `latency`, with a status that the guard takes for a failure or not.
    pub fn count_answer(&self, latency: Duration, status: StatusCode, failed: bool) {
        let stats = self.local.node.stats(self.worker.index());
        if self.told.get() == Told::Aside {
            stats.note_aside(status.as_u16());
        } else {
            stats.note_answer(status.as_u16(), latency);
        }
        self.tell(failed.then_some(FailureKind::Status));
        if status.is_server_error() {
            self.count_failure(Failure::Status);
        } else {
            stats.successes.add_one();
            self.end_streak();
        }
    }

    /// The version on trial failed the request, and the old one will answer it.
    pub fn count_shielded(&self) {
        self.local.node.stats(self.worker.index()).shielded.add_one();
    }

    /// The request was a copy, which was answered with the status of the original or not.
    pub fn count_shadow(&self, differs: bool) {
        let stats = self.local.node.stats(self.worker.index());
        stats.shadowed.add_one();
        if differs {
            stats.shadow_differed.add_one();
        }
    }

    fn was_told(&self) -> Told {
        if self.overdue.get().is_some_and(|overdue| overdue.get()) { Told::Failed } else { self.told.get() }
    }

    fn tell(&self, failure: Option<FailureKind>) {
        let told = self.was_told();
        if matches!(told, Told::Failed | Told::Aside) {
            return;
        }
        let stats = self.local.node.stats(self.worker.index());
        // What breaks off later was counted as answered when it began.
        if told != Told::Answered {
            stats.answered.add_one();
            self.told.set(Told::Answered);
        }
        if let Some(kind) = failure {
            stats.failed[kind as usize].add_one();
            self.told.set(Told::Failed);
        }
    }

    fn end_streak(&self) {
        if self.local.node.stats(self.worker.index()).streak.end() {
            self.local.recovered();
        }
    }

    /// The node answered with a failure, or did not answer as it should.
    pub fn count_failure(&self, failure: Failure) {
        let stats = self.local.node.stats(self.worker.index());
        stats.failures.add_one();
        if failure != Failure::Other {
            stats.blamed.add_one();
        }
        if let Some(kind) = failure.kind() {
            self.tell(Some(kind));
        }
        let Some((most, kinds)) = self.watch else {
            return;
        };
        let counts = match failure {
            Failure::Connect => kinds.connect,
            Failure::Reset | Failure::Truncated => kinds.reset,
            Failure::Timeout => kinds.timeout,
            Failure::Status => kinds.status,
            Failure::Other => return,
        };
        if !counts {
            // It answered, if not well: the row is over.
            if failure == Failure::Status {
                self.end_streak();
            }
            return;
        }
        stats.strikes.add_one();
        if stats.streak.add_one() >= u64::from(most) {
            stats.streak.end();
            self.worker.suspect(&self.local, SUSPECTED);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.was_told() == Told::Open {
            self.local.node.stats(self.worker.index()).given_up.add_one();
        }
        self.local.node.release(self.worker.index());
        if let Some(hold) = self.place.take() {
            self.local.node.leave();
            hold.wake_one();
        }
    }
}

/// Where a request belongs: the same for all its tries, but for `aim`.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// Where it stands in the division between versions; see [`Turn`].
    pub point: u32,
    /// What the service tells requests by, if it does.
    pub key: Option<u64>,
    /// Which versions may have it.
    pub aim: Aim,
}

/// Chooses a node and claims it.
pub fn claim(
    worker: &Rc<Worker>,
    call: &Call,
    service: &ServiceView,
    local: &ServiceLocal,
    course: Course,
    tried: &[u64],
) -> Result<Permit, Refusal> {
    let limit = service.settings.balance.max_requests;
    let gone = |node: &crate::pool::Node| tried.contains(&node.key) || node.is_closed();
    let chosen = service.choose(
        Turn { point: course.point, random: worker.random(), key: course.key, aim: course.aim },
        |slice| local.rotation(slice),
        |node| node.inflight_on(worker.index()),
        |node| worker.avoids(node, call.started),
        |node| gone(node) || limit.is_some_and(|limit| node.is_full(limit)),
    );
    let Some(node) = chosen else {
        let full = limit.is_some() && service.slices.iter().flat_map(|slice| &slice.nodes).any(|node| !gone(node));
        return Err(if full { Refusal::Full } else { Refusal::NoNode });
    };
    let local = worker.local(node);
    call.set_node(Some(Rc::clone(&local)));
    Permit::claim(local, worker, service).ok_or_else(|| {
        call.set_node(None);
        Refusal::Again
    })
}

/// A request's wait for a node, from its first to the last.
#[derive(Debug)]
pub struct Wait {
    place: Place,
    until: Instant,
}

impl Wait {
    /// Takes a place among those who wait; none if the service has no such places, or all are taken.
    pub fn begin(service: &ServiceView) -> Option<Self> {
        let hold = &service.settings.hold;
        if hold.wait.is_zero() {
            return None;
        }
        Some(Self { place: service.hold.enter(hold.most)?, until: Instant::now() + hold.wait })
    }

    /// Waits until there is a node, of which `tried` are none before anything has changed; none when the time is over. A client
    /// that goes takes its request along.
    pub async fn for_node(
        &self,
        worker: &Rc<Worker>,
        call: &Call,
        (view, index): (&Rc<View>, usize),
        course: Course,
        tried: &[u64],
    ) -> Result<Option<Found>, Verdict> {
        call.enter(Stage::Free, Duration::MAX);
        let look = |afresh: bool| {
            let newest = worker.view();
            let index = newest.index_of(index, view)?;
            let (service, local) = newest.service(index)?;
            if halted::is_held(service) {
                return None;
            }
            let permit = claim(worker, call, service, local, course, if afresh { &[] } else { tried }).ok()?;
            Some(Found { permit, view: newest, index, afresh })
        };
        let mut afresh = false;
        loop {
            let mut called = pin!(self.place.called());
            called.as_mut().enable();
            if let Some(found) = look(afresh) {
                return Ok(Some(found));
            }
            if call.unless_judged(timeout_at(self.until, called)).await?.is_err() {
                self.place.expire();
                return Ok(None);
            }
            // Whoever calls has seen that a node is ready: also one that could not be reached before.
            afresh = true;
        }
    }
}

/// What a wait ended with.
#[derive(Debug)]
pub struct Found {
    /// The claim.
    pub permit: Permit,
    /// By this view, in which the service stands at `index`.
    pub view: Rc<View>,
    /// See there.
    pub index: usize,
    /// Nodes that were tried before the wait may be tried again.
    pub afresh: bool,
}
