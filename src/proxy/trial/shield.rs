//! What the version on trial fails, the old one answers, so that users do not pay for the trial.
//!
//! No budget limits it, because a bad version would use up any, and those after it would pay. What bounds it is that a request is
//! shielded once and never goes back: the old version gets no more requests than it would without the trial, and all of its nodes
//! are still there. If none of them can take the request now, it keeps what the version on trial said.
//!
//! A failed gRPC call is not shielded: its status stands in trailers, mostly behind messages that the client has got.

use std::rc::Rc;
use std::time::Instant;

use http::Method;

use super::super::attempts::Outgoing;
use super::super::call::Call;
use super::super::claim::{Course, Permit, claim};
use super::super::view::ServiceLocal;
use super::super::worker::Worker;
use crate::config::Shield;
use crate::pool::{Aim, ServiceView};

/// One try of a request while a version is on trial.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// It is at a node of that version.
    pub on_trial: bool,
    /// Which of its requests are shielded.
    shield: Shield,
}

impl Watch {
    /// Begins to watch a try; none if nothing is on trial.
    pub fn begin(
        call: &Call,
        service: &ServiceView,
        permit: &Permit,
        outgoing: &Outgoing<'_>,
        now: Instant,
    ) -> Option<Self> {
        service.trial?;
        if outgoing.preview {
            // Whoever previews wants to see what is, and may break it on purpose.
            permit.keep_from_guard();
            return Some(Self { on_trial: service.is_on_trial(&permit.local().node), shield: Shield::Off });
        }
        let rollout = &service.settings.rollout;
        let watch = Self { on_trial: service.is_on_trial(&permit.local().node), shield: rollout.shields() };
        if let Some(patience) = rollout.guard.patience {
            // A larger body may not be there any more when the time is over; then there is nobody else to wait for.
            let small = outgoing.source.as_ref().is_none_or(|source| source.is_small());
            call.begin_patience(now, patience, small && watch.shields(outgoing), permit);
        }
        Some(watch)
    }

    /// Whether a try that ended before the request left is shielded: that does no harm, whatever the request.
    pub fn shields_unsent(self) -> bool {
        self.on_trial && self.shield > Shield::Off
    }

    /// Whether a try that the node has seen is.
    pub fn shields(self, outgoing: &Outgoing<'_>) -> bool {
        let may = match self.shield {
            Shield::Off => false,
            Shield::Safe => is_safe(&outgoing.head.method),
            Shield::Idempotent => outgoing.seen.idempotent,
        };
        self.on_trial && may && outgoing.source.as_ref().is_none_or(|source| source.can_go_again())
    }
}

/// Changes nothing (RFC 9110 §9.2.1).
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Claims a node of the old version for a request that the one on trial has failed; none if there is none now, and then all is as
/// before.
pub fn claim_old(
    worker: &Rc<Worker>,
    call: &Call,
    (service, local): (&ServiceView, &ServiceLocal),
    course: Course,
    failed: &Permit,
    tried: &[u64],
) -> Option<Permit> {
    let place = call.place();
    let course = Course { aim: Aim::NotTrial, ..course };
    let Ok(permit) = claim(worker, call, service, local, course, tried) else {
        call.put_back(place);
        return None;
    };
    failed.count_shielded();
    call.note_shielded(failed.local());
    tracing::debug!(failed = %failed.local().node.id, instead = %permit.local().node.id, "shielded");
    Some(permit)
}
