//! The tries of one request: one node after another, as far as that is safe, until one answers.

use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use http::header::HOST;
use http::request::Parts;
use http::{Response, StatusCode};

use super::answer::{self, Answer};
use super::body::{ReqBody, RespBody};
use super::call::{Registered, Stage, Verdict};
use super::claim::{Course, Failure, Permit, Refusal, Wait, claim};
use super::error::Fault;
use super::forwarded::Told;
use super::halted;
use super::headers::Seen;
use super::refuse::ended_by;
use super::replay::Source;
use super::trial;
use super::upstream::{self, Ask, Demand, Loss, Sent};
use super::view::View;
use super::worker::Worker;
use crate::net::ConnectError;
use crate::pool::{Aim, CutReason};

/// Tries beyond `retry.attempts` for requests that no node has seen.
const SPARE_TRIES: usize = 8;

/// A request that was examined and made ready for a node.
pub struct Outgoing<'a> {
    /// The head, as a node gets it.
    pub head: &'a mut Parts,
    /// What it is told of the client, if that does not stand in the head.
    pub told: Option<Rc<Told>>,
    /// What it said.
    pub seen: &'a Seen,
    /// The body, if there is one.
    pub source: Option<Rc<Source>>,
    /// It may have to be sent twice.
    pub repeatable: bool,
    /// Neither the client nor a policy said which host is asked.
    pub hostless: bool,
    /// Where it belongs.
    pub course: Course,
    /// It is a look at the version on trial by somebody who may.
    pub preview: bool,
    /// A 404 for it is asked of the other version while one is on trial.
    pub asset: bool,
}

/// Sends the request to one node after another, as far as that is safe, until one answers: in `response`.
pub async fn try_nodes(
    worker: &Rc<Worker>,
    call: Registered,
    outgoing: &mut Outgoing<'_>,
    (mut view, mut index): (Rc<View>, usize),
    response: &mut Response<RespBody>,
) -> Result<(), Fault> {
    if view.service(index).is_some_and(|(service, _)| service.halt.is_some()) {
        (view, index) = Box::pin(halted::pass(worker, &call, view, index)).await?;
    }
    let mut tried: Vec<u64> = Vec::new();
    // Among them, the node that had only given up an idle connection.
    let mut stale: Option<u64> = None;
    let mut fault = Fault::NoNode;
    let mut sends = 0;
    let mut refusals = 0;
    let mut wait: Option<Wait> = None;
    let mut course = outgoing.course;
    // Claimed already, for a request that the version on trial has failed.
    let mut instead: Option<Permit> = None;
    loop {
        let (service, local) = view.service(index).ok_or(Fault::NoService)?;
        if tried.len() >= service.settings.retry.attempts as usize + SPARE_TRIES {
            return Err(fault);
        }
        let claimed = instead.take().map_or_else(|| claim(worker, &call, service, local, course, &tried), Ok);
        let permit = match claimed {
            Ok(permit) => permit,
            Err(refusal) => {
                // The newest view may know better.
                let newest = worker.view();
                if !Rc::ptr_eq(&newest, &view) {
                    index = newest.index_of(index, &view).ok_or(Fault::NoService)?;
                    view = newest;
                    continue;
                }
                if refusal == Refusal::Again {
                    continue;
                }
                if let Some(again) = stale.take() {
                    // If it is the last one, it is as good as any.
                    tried.retain(|key| *key != again);
                    continue;
                }
                if refusal == Refusal::Full && sends == 0 {
                    fault = Fault::NodesFull;
                }
                // No node has seen it: it may wait for one that is ready, or can be reached again.
                let waits = sends == 0
                    && match fault {
                        Fault::NoNode | Fault::NodesFull => true,
                        Fault::Connect | Fault::ConnectTimeout => service.settings.hold.unreachable,
                        _ => false,
                    };
                if wait.is_none() && waits {
                    wait = Wait::begin(service);
                }
                let Some(wait) = wait.as_ref().filter(|_| waits) else {
                    return Err(fault);
                };
                let found = Box::pin(wait.for_node(worker, &call, (&view, index), course, &tried)).await;
                let found = found.map_err(ended_by)?.ok_or(fault.clone())?;
                if found.afresh {
                    tried.clear();
                }
                (view, index) = (found.view, found.index);
                found.permit
            }
        };
        let (service, local) = view.service(index).ok_or(Fault::NoService)?;
        let settings = &*service.settings;
        if outgoing.hostless {
            // HTTP/1.0 without a host: the node is asked by its own name.
            if let Some(host) = call.node_address() {
                outgoing.head.headers.insert(HOST, host);
            }
        }
        let replayable = outgoing.seen.idempotent;
        // The call's own time is the time only for its first try.
        let now = if tried.is_empty() && sends == 0 { call.started } else { Instant::now() };
        let upgrade = outgoing.seen.upgrade.is_some();
        let demand = Demand { replayable, again: sends > 0, now, upgrade };
        let trial = trial::Watch::begin(&call, service, &permit, outgoing, now);
        permit.count_request();
        call.count_attempt();
        let sent =
            pin!(upstream::send(worker, &call, permit.local(), settings, outgoing.request(), demand, response)).await;
        if matches!(sent, Sent::Response(_)) {
            call.note_head();
        }
        if trial.is_some() {
            call.end_patience();
        }
        // For a request that the version on trial fails.
        let old = |permit: &Permit| trial::claim_old(worker, &call, (service, local), course, permit, &tried);
        match sent {
            Sent::Response(feed) => match answer::examine(response, feed, outgoing.seen).await {
                Ok(answer) => {
                    let status = response.status();
                    let failed = settings.rollout.guard.fails(status.as_u16());
                    permit.count_answer(answer.came().saturating_duration_since(now), status, failed);
                    let shields = failed && trial.is_some_and(|trial| trial.shields(outgoing));
                    instead = shields.then(|| old(&permit)).flatten();
                    if instead.is_none() {
                        let Some(trial) = trial else {
                            let ends = (outgoing.source.as_ref(), outgoing.seen.upgrade.as_ref());
                            answer.pass_on(response, worker, call, permit, ends, settings).await;
                            return Ok(());
                        };
                        // In a box, as every rare path.
                        return Box::pin(relay(
                            worker,
                            call,
                            permit,
                            (answer, response),
                            outgoing,
                            (view, index),
                            trial,
                        ))
                        .await;
                    }
                    answer.discard(worker, settings);
                }
                Err(wrong) => {
                    permit.count_failure(Failure::Reset);
                    let shields = trial.is_some_and(|trial| trial.shields(outgoing));
                    instead = shields.then(|| old(&permit)).flatten();
                    if instead.is_none() {
                        return Err(wrong);
                    }
                    fault = wrong;
                }
            },
            Sent::Unsent(loss) => {
                tracing::debug!(node = %permit.local().node.id, %loss, "not sent");
                fault = outgoing.fault(&loss);
                permit.count_failure(blame(&loss));
                // Reaching nobody is not a try: no node has seen the request. A drain only ends the wait for its own node.
                if matches!(loss, Loss::Judged(Verdict::Cut(CutReason::Shutdown | CutReason::Deadline))) {
                    return Err(fault);
                }
                if trial.is_some_and(trial::Watch::shields_unsent) {
                    instead = old(&permit);
                }
            }
            Sent::Refused(loss) => {
                tracing::debug!(node = %permit.local().node.id, %loss, "refused");
                fault = outgoing.fault(&loss);
                refusals += 1;
                let whole = outgoing.repeatable && outgoing.source.as_ref().is_none_or(|source| source.is_whole());
                // Nothing was done, so it costs nothing of the budget; and if there is no other node, this one may take it on
                // another connection.
                if !whole || refusals >= settings.retry.attempts as usize + SPARE_TRIES {
                    permit.count_failure(blame(&loss));
                    return Err(fault);
                }
                stale = Some(permit.local().node.key);
            }
            Sent::Lost(loss) => {
                tracing::debug!(node = %permit.local().node.id, %loss, "lost");
                fault = outgoing.fault(&loss);
                let ended = matches!(
                    fault,
                    Fault::ClientBody | Fault::BodyTooLarge | Fault::ClientTimeout | Fault::Shutdown | Fault::Deadline
                );
                if !ended {
                    permit.count_failure(blame(&loss));
                }
                let whole = outgoing.source.as_ref().is_none_or(|source| source.is_whole());
                // A connection that the node had given up is no failure of its version.
                let shields = !ended && !matches!(loss, Loss::Stale(_));
                if shields && trial.is_some_and(|trial| trial.shields(outgoing)) {
                    instead = old(&permit);
                }
                sends += 1;
                // A connection that the node had given up says nothing about trouble, and the next try has a new one: so
                // that is free. The budget comes last: a request that is given up anyway must not use it up.
                let free = matches!(loss, Loss::Stale(_));
                stale = free.then_some(permit.local().node.key).or(stale);
                let spent = || sends >= settings.retry.attempts || !(free || local.spend());
                if instead.is_none() && (ended || !replayable || !whole || spent()) {
                    return Err(fault);
                }
            }
        }
        tried.push(permit.local().node.key);
        drop(permit);
        if instead.is_some() {
            // Whatever happens now, the version on trial had its try.
            course.aim = Aim::NotTrial;
            sends = 0;
            continue;
        }
        call.set_node(None);
        worker.stats().retried.add_one();
        if let Some(stats) = local.stats(worker.index()) {
            stats.retried.add_one();
        }
        let newest = worker.view();
        if !Rc::ptr_eq(&newest, &view) {
            index = newest.index_of(index, &view).ok_or(Fault::NoService)?;
            view = newest;
        }
    }
}

/// What becomes of a node's answer while a version is on trial.
async fn relay(
    worker: &Rc<Worker>,
    call: Registered,
    permit: Permit,
    (mut answer, response): (Answer, &mut Response<RespBody>),
    outgoing: &Outgoing<'_>,
    (view, index): (Rc<View>, usize),
    trial: trial::Watch,
) -> Result<(), Fault> {
    let (service, local) = view.service(index).ok_or(Fault::NoService)?;
    let settings = &*service.settings;
    let mut permit = permit;
    let course = outgoing.course;
    if !trial.on_trial && !call.was_shielded() {
        trial::copy(worker, &call, (&view, index), outgoing, course, response.status());
    }
    if outgoing.asset && response.status() == StatusCode::NOT_FOUND && outgoing.source.is_none() {
        let mut said = Response::new(RespBody::Empty);
        let asked = trial::ask_other(worker, &call, (service, local), outgoing, (course, trial.on_trial), &mut said);
        if let Some(other) = asked.await {
            *response = said;
            let first = std::mem::replace(&mut answer, other.0);
            permit = other.1;
            first.discard(worker, settings);
        }
    }
    let ends = (outgoing.source.as_ref(), outgoing.seen.upgrade.as_ref());
    answer.pass_on(response, worker, call, permit, ends, settings).await;
    Ok(())
}

impl Outgoing<'_> {
    /// The request, for one more try.
    pub fn request(&self) -> Ask<'_, impl Fn() -> ReqBody> {
        let body = || self.source.as_ref().map_or_else(ReqBody::empty, Source::body);
        Ask { head: self.head, told: self.told.as_deref(), body }
    }

    fn fault(&self, loss: &Loss) -> Fault {
        if self.source.as_ref().is_some_and(|source| source.is_broken()) {
            let large = self.source.as_ref().is_some_and(|source| source.is_too_large());
            return if large { Fault::BodyTooLarge } else { Fault::ClientBody };
        }
        match loss {
            Loss::Connect(ConnectError::Unreachable(_)) => Fault::Connect,
            Loss::Connect(ConnectError::Tls(_)) => Fault::NodeTls,
            Loss::Protocol(_) | Loss::SpeaksHttp1 => Fault::Protocol,
            Loss::Head(_) => Fault::BadRequest("the request cannot be said in HTTP/2"),
            Loss::Busy => Fault::NodeBusy,
            Loss::Judged(Verdict::TimedOut(Stage::Connect)) => Fault::ConnectTimeout,
            Loss::Judged(Verdict::TimedOut(_)) => {
                let waiting = self.source.as_ref().is_some_and(|source| source.awaits_client());
                if waiting { Fault::ClientTimeout } else { Fault::ResponseTimeout }
            }
            Loss::Judged(verdict @ Verdict::Cut(_)) => ended_by(*verdict),
            Loss::Upload => Fault::ClientBody,
            Loss::Broken(error) if error.is_malformed() => Fault::BadResponse,
            Loss::Stream(error) if error.is_library() => Fault::BadResponse,
            Loss::Stale(_) | Loss::Broken(_) | Loss::Stream(_) => Fault::Reset,
        }
    }
}

/// What a loss says about the node.
pub fn blame(loss: &Loss) -> Failure {
    match loss {
        Loss::Connect(_) | Loss::Protocol(_) | Loss::Judged(Verdict::TimedOut(Stage::Connect)) => Failure::Connect,
        Loss::Judged(Verdict::TimedOut(_)) => Failure::Timeout,
        Loss::Broken(_) | Loss::Stream(_) => Failure::Reset,
        // Ours to limit, a habit of idle connections, the client's doing, or a decision from outside.
        Loss::Busy
        | Loss::Stale(_)
        | Loss::SpeaksHttp1
        | Loss::Upload
        | Loss::Head(_)
        | Loss::Judged(Verdict::Cut(_)) => Failure::Other,
    }
}
