//! Asset skew: a page of one version asks for a file that only that version has, and meets the other. So a 404 for such a path is
//! asked once of the other version.

use std::rc::Rc;
use std::time::Instant;

use http::{Response, StatusCode};

use super::super::answer::{self, Answer};
use super::super::attempts::Outgoing;
use super::super::body::RespBody;
use super::super::call::Call;
use super::super::claim::{Course, Permit, claim};
use super::super::upstream::{self, Demand, Sent};
use super::super::view::ServiceLocal;
use super::super::worker::Worker;
use crate::pool::{Aim, ServiceView};

/// Asks the other version than that which has just said 404, and has `response` be what it says. None if it does not have it either;
/// then the call is where it was.
pub async fn ask_other(
    worker: &Rc<Worker>,
    call: &Call,
    (service, local): (&ServiceView, &ServiceLocal),
    outgoing: &Outgoing<'_>,
    (course, on_trial): (Course, bool),
    response: &mut Response<RespBody>,
) -> Option<(Answer, Permit)> {
    let place = call.place();
    let aim = if on_trial { Aim::NotTrial } else { Aim::OnlyTrial };
    let found = match claim(worker, call, service, local, Course { aim, ..course }, &[]) {
        Ok(permit) => ask(worker, call, permit, service, outgoing, response).await,
        Err(_) => None,
    };
    if found.is_none() {
        call.put_back(place);
    }
    found
}

async fn ask(
    worker: &Rc<Worker>,
    call: &Call,
    permit: Permit,
    service: &ServiceView,
    outgoing: &Outgoing<'_>,
    response: &mut Response<RespBody>,
) -> Option<(Answer, Permit)> {
    // It has its share of the requests beside this one, and is judged by that.
    permit.keep_from_guard();
    permit.count_request();
    let demand = Demand { replayable: true, again: false, now: Instant::now(), upgrade: false };
    let sent =
        upstream::send(worker, call, permit.local(), &service.settings, outgoing.request(), demand, response).await;
    let Sent::Response(feed) = sent else { return None };
    let answer = answer::examine(response, feed, outgoing.seen).await.ok()?;
    let status = response.status();
    permit.count_answer(demand.now.elapsed(), status, false);
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return Some((answer, permit));
    }
    answer.discard(worker, &service.settings);
    None
}
