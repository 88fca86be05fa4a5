//! The HTTP/2 connections that a worker has to one node: as few as have room for everything.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::super::{Demand, Loss};
use super::carrier::Carrier;
use crate::config::{self, NodeProtocol, Protocol};
use crate::proxy::call::{Call, Stage, Verdict};
use crate::proxy::view::LocalNode;
use crate::proxy::worker::Worker;

/// The connections of one node that take new streams.
#[derive(Debug, Default)]
pub struct Carriers {
    open: RefCell<Vec<Rc<Carrier>>>,
    /// One is being opened: everybody else waits for it instead of opening his own.
    connecting: Cell<bool>,
    /// Told when it is open, or could not be opened.
    connected: Notify,
    /// What the node chose last, where it may; forgotten when it could not be reached, for what comes up in its place may
    /// choose otherwise.
    chosen: Cell<Option<Protocol>>,
}

/// A stream's place on a connection.
#[derive(Debug)]
pub(super) struct Place {
    carrier: Rc<Carrier>,
    local: Rc<LocalNode>,
}

impl Place {
    fn new(carrier: Rc<Carrier>, local: &Rc<LocalNode>, settings: &config::Connections) -> Self {
        carrier.streams.set(carrier.streams.get() + 1);
        carrier.idle_limit.set(settings.idle_timeout);
        carrier.ping_after.set(settings.ping);
        Self { carrier, local: Rc::clone(local) }
    }

    pub(super) fn carrier(&self) -> &Carrier {
        &self.carrier
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.carrier.streams.get() - 1;
        self.carrier.streams.set(left);
        if left == 0 {
            self.carrier.rest_since.set(Instant::now());
        }
        self.local.freed.notify_one();
    }
}

impl Carriers {
    /// What the node chose last.
    pub fn chosen(&self) -> Option<Protocol> {
        self.chosen.get()
    }

    /// The node could not be reached.
    pub fn forget(&self) {
        self.chosen.set(None);
    }

    /// Lets go of all connections: each closes when its last stream has ended.
    pub fn retire(&self) {
        for carrier in self.open.take() {
            carrier.retire();
        }
    }

    /// The watchdog's look at them: those that are dead, or idle for too long, are let go of.
    pub fn watch(&self, now: Instant) {
        self.open.borrow_mut().retain(|carrier| carrier.check(now));
    }

    /// A place on the first connection that has room; so the last ones fall idle, and are closed.
    fn claim(&self, local: &Rc<LocalNode>, settings: &config::Connections) -> Option<Place> {
        let mut open = self.open.borrow_mut();
        open.retain(|carrier| carrier.is_usable());
        let carrier = open.iter().find(|carrier| carrier.has_room(settings.streams))?;
        Some(Place::new(Rc::clone(carrier), local, settings))
    }
}

/// While this lives, a connection is being opened.
struct Connecting<'a>(&'a Carriers);

impl<'a> Connecting<'a> {
    fn begin(carriers: &'a Carriers) -> Self {
        carriers.connecting.set(true);
        Self(carriers)
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.connected.notify_waiters();
    }
}

/// While this lives, a connection is asked whether it lives.
struct Checking<'a>(&'a Carrier);

impl Drop for Checking<'_> {
    fn drop(&mut self) {
        self.0.checking.set(false);
        self.0.checked.notify_waiters();
    }
}

/// A place for one more stream: on a connection that there is, on a new one, or on one that comes free.
pub(super) async fn place(
    worker: &Worker,
    call: &Call,
    local: &Rc<LocalNode>,
    settings: &config::Service,
    demand: Demand,
) -> Result<Place, Loss> {
    let carriers = &local.carriers;
    let connections = &settings.connections;
    let most = worker.part_of(connections.max);
    let mut waits = false;
    loop {
        let claimed = carriers.claim(local, connections);
        if let Some(place) = &claimed
            && (demand.replayable || !needs_check(place, demand.now, connections.fresh))
        {
            return claimed.ok_or(Loss::Busy);
        }
        if !waits {
            waits = true;
            call.enter(Stage::Connect, settings.timeouts.connect);
        }
        if let Some(place) = claimed {
            if answers(call, place.carrier()).await.inspect_err(|loss| suspect(worker, local, loss))? {
                return Ok(place);
            }
            place.carrier().retire();
            continue;
        }
        if carriers.chosen.get() == Some(Protocol::Http1) && connections.protocol == NodeProtocol::Auto {
            // It was chosen while this call waited.
            return Err(Loss::SpeaksHttp1);
        }
        if carriers.connecting.get() {
            call.unless_judged(carriers.connected.notified()).await.map_err(Loss::Judged)?;
            continue;
        }
        if local.open() >= most {
            call.unless_judged(local.freed.notified()).await.map_err(|verdict| match verdict {
                Verdict::TimedOut(_) => Loss::Busy,
                Verdict::Cut(_) => Loss::Judged(verdict),
            })?;
            continue;
        }
        let connecting = Connecting::begin(carriers);
        let opened = call.unless_judged(Carrier::connect(local, connections)).await;
        let carrier = opened.unwrap_or_else(|verdict| Err(Loss::Judged(verdict)));
        if matches!(carrier, Err(Loss::SpeaksHttp1)) {
            carriers.chosen.set(Some(Protocol::Http1));
        }
        let carrier = carrier.inspect_err(|loss| suspect(worker, local, loss))?;
        carriers.chosen.set(Some(Protocol::Http2));
        local.recovered();
        let place = Place::new(Rc::clone(&carrier), local, connections);
        // A node that left meanwhile is not kept a connection for.
        if !local.node.is_closed() {
            carriers.open.borrow_mut().push(carrier);
        }
        drop(connecting);
        return Ok(place);
    }
}

/// A connection could not be made, or did not answer.
fn suspect(worker: &Worker, local: &Rc<LocalNode>, loss: &Loss) {
    if let Loss::Protocol(error) = loss
        && !local.has_trouble()
    {
        tracing::warn!(
            node = %local.node.id, %error,
            "this node does not speak HTTP/2; if it speaks HTTP/1.1, set `protocol = \"http1\"` in its service's connections"
        );
    }
    if !matches!(loss, Loss::Judged(Verdict::Cut(_)) | Loss::SpeaksHttp1) {
        worker.trouble_at(local);
    }
}

/// Whether a request that must not be sent twice should first see that the connection lives: it is this one alone on it, and
/// it rested for a while.
fn needs_check(place: &Place, now: Instant, fresh: Duration) -> bool {
    let carrier = place.carrier();
    let alone = carrier.streams.get() == 1;
    carrier.checking.get() || (alone && now.saturating_duration_since(carrier.rest_since.get()) >= fresh)
}

/// Asks the node with a PING. `false`: the connection has ended.
async fn answers(call: &Call, carrier: &Carrier) -> Result<bool, Loss> {
    if carrier.checking.get() {
        call.unless_judged(carrier.checked.notified()).await.map_err(Loss::Judged)?;
        return Ok(carrier.is_usable());
    }
    carrier.checking.set(true);
    let checking = Checking(carrier);
    carrier.ask();
    let answered = call.unless_judged(poll_fn(|cx| carrier.poll_answer(cx))).await;
    if let Err(Verdict::TimedOut(_)) = answered {
        carrier.kill();
    }
    drop(checking);
    answered.map_err(Loss::Judged)
}
