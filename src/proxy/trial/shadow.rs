//! Copies of requests for the version on trial: it shows what it can before it answers a user.
//!
//! A copy is made when the original's answer has begun, so that nobody waits for it; it has a task, a claim and a deadline of its
//! own, and there are only so many. What comes back is counted and dropped.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::HeaderValue;
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::body::Body;
use tokio::time::timeout;

use super::super::answer;
use super::super::attempts::Outgoing;
use super::super::body::{ReqBody, RespBody};
use super::super::call::{Call, Registered};
use super::super::claim::{Course, Failure, claim};
use super::super::front::Front;
use super::super::headers::Seen;
use super::super::upstream::{self, Ask, Demand, Sent};
use super::super::view::View;
use super::super::worker::Worker;
use super::guest::SHADOW;
use super::shield::is_safe;
use crate::config::Shadow;
use crate::model::Share;
use crate::pool::balance::point_of;
use crate::pool::{Aim, cohort};

/// Bytes of an answer that are read: what comes after says nothing more.
const READ: usize = 1 << 20;

/// What this worker copies of a service's requests.
#[derive(Debug)]
pub struct Shadows {
    /// Those that could have been copied, counted.
    turn: Cell<u32>,
    under_way: Rc<Cell<usize>>,
}

impl Shadows {
    /// `turn`: anything. Workers begin at different places.
    pub fn new(turn: u32) -> Self {
        Self { turn: Cell::new(turn), under_way: Rc::default() }
    }

    fn is_due(&self, share: Share) -> bool {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        cohort::place_at(point_of(turn)) < share.0
    }

    fn enter(&self, most: usize) -> Option<Place> {
        let now = self.under_way.get();
        (now < most).then(|| {
            self.under_way.set(now + 1);
            Place(Rc::clone(&self.under_way))
        })
    }
}

/// A copy's place among those under way.
struct Place(Rc<Cell<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Sends a copy of a request that the old version has answered with `status`, if it is its turn.
pub fn copy(
    worker: &Rc<Worker>,
    call: &Call,
    (view, index): (&Rc<View>, usize),
    outgoing: &Outgoing<'_>,
    course: Course,
    status: StatusCode,
) {
    let Some((service, local)) = view.service(index) else { return };
    let trial = service.settings.trial.as_ref();
    let Some(shadow) = trial.and_then(|trial| trial.shadow.as_ref()) else { return };
    let parts = &*outgoing.head;
    let plain = is_safe(&parts.method) && outgoing.source.is_none() && outgoing.seen.upgrade.is_none();
    if !plain || outgoing.hostless || !local.shadows.is_due(shadow.share) {
        return;
    }
    let Some(place) = local.shadows.enter(worker.part_of(shadow.most)) else { return };
    let mut request = parts.clone();
    if let Some(told) = &outgoing.told {
        told.enter(&mut request.headers);
    }
    request.headers.insert(SHADOW, HeaderValue::from_static("1"));
    let (worker, front) = (Rc::clone(worker), Rc::clone(&call.front));
    let copy = Copy { view: Rc::clone(view), index, course, status, shadow: shadow.clone() };
    tokio::task::spawn_local(async move {
        copy.run(&worker, &front, request).await;
        drop(place);
    });
}

/// A copy on its way.
struct Copy {
    view: Rc<View>,
    index: usize,
    course: Course,
    /// What the original was answered with.
    status: StatusCode,
    shadow: Shadow,
}

impl Copy {
    async fn run(&self, worker: &Rc<Worker>, front: &Rc<Front>, request: Parts) {
        let task = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let call = Registered::new(worker, front, Some(task), request.method.clone(), request.uri.clone());
        let shared = Rc::clone(call.shared());
        let work = timeout(self.shadow.timeout, self.exchange(worker, call, request));
        let mut work = pin!(work);
        // A claim that has to end, ends: the drain must not wait for what nobody wants.
        let ended = poll_fn(|cx| match shared.poll_killed(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => work.as_mut().poll(cx),
        });
        if ended.await.is_err() {
            shared.expire_patience();
        }
    }

    async fn exchange(&self, worker: &Rc<Worker>, call: Registered, request: Parts) {
        let Some((service, local)) = self.view.service(self.index) else { return };
        let settings = &*service.settings;
        let course = Course { aim: Aim::OnlyTrial, ..self.course };
        let Ok(permit) = claim(worker, &call, service, local, course, &[]) else { return };
        permit.count_request();
        let began = Instant::now();
        let patience = settings.rollout.guard.patience.unwrap_or(self.shadow.timeout).min(self.shadow.timeout);
        call.begin_patience(began, patience, true, &permit);
        let demand = Demand { replayable: true, again: false, now: began, upgrade: false };
        let ask = Ask { head: &request, told: None, body: ReqBody::empty };
        let mut response = Response::new(RespBody::Empty);
        let sent = upstream::send(worker, &call, permit.local(), settings, ask, demand, &mut response).await;
        call.end_patience();
        let (status, answer) = match sent {
            Sent::Response(feed) => {
                if let Ok(answer) = answer::examine(&mut response, feed, &Seen::default()).await {
                    let status = response.status();
                    let failed = settings.rollout.guard.fails(status.as_u16());
                    permit.count_answer(began.elapsed(), status, failed);
                    (Some(status), Some(answer))
                } else {
                    permit.count_failure(Failure::Reset);
                    (None, None)
                }
            }
            Sent::Unsent(loss) | Sent::Refused(loss) | Sent::Lost(loss) => {
                permit.count_failure(super::super::attempts::blame(&loss));
                (None, None)
            }
        };
        permit.count_shadow(status != Some(self.status));
        if let Some(answer) = answer {
            answer.pass_on(&mut response, worker, call, permit, (None, None), settings).await;
            read(response.into_body()).await;
        }
    }
}

/// Takes an answer's body up to a bound.
async fn read(mut body: RespBody) {
    let mut left = READ;
    while left > 0 {
        let frame = poll_fn(|cx: &mut Context<'_>| Pin::new(&mut body).poll_frame(cx)).await;
        let Some(Ok(frame)) = frame else { return };
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len).max(1));
    }
}
