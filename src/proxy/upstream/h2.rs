//! HTTP/2: one exchange on a stream of a connection that carries many.
//!
//! The connection is a task of its own ([`carrier`]); the stream belongs to the call, whose task sends the request's body and
//! takes the answer's. Dropping the stream resets it, and nothing else on the connection notices.

mod answer;
mod carrier;
mod carriers;
mod head;
mod upload;

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use ::h2::Reason;
use ::h2::client::ResponseFuture;
use http::{Response, StatusCode};
use hyper::body::Body;

use super::{Ask, Demand, Feed, Loss, Sent};
use crate::config;
use crate::proxy::body::{ReqBody, RespBody};
use crate::proxy::call::{Call, Stage, Verdict};
use crate::proxy::view::LocalNode;
use crate::proxy::worker::Worker;

pub use answer::Answer;
pub use carriers::Carriers;
use carriers::Place;
use upload::{Failure, Upload};

/// Sends a request on a connection that has room for it, or on a new one.
pub(super) async fn send(
    worker: &Worker,
    call: &Call,
    local: &Rc<LocalNode>,
    settings: &config::Service,
    ask: &Ask<'_, impl Fn() -> ReqBody>,
    demand: Demand,
    response: &mut Response<RespBody>,
) -> Sent {
    let (place, mut send) = loop {
        let place = match carriers::place(worker, call, local, settings, demand).await {
            Ok(place) => place,
            Err(loss) => return Sent::Unsent(loss),
        };
        let mut send = place.carrier().sender();
        // After a GOAWAY nothing new may be sent, while what was sent before goes on.
        match send.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => break (place, send),
            _ => place.carrier().retire(),
        }
    };
    let head = match head::request(ask.head, ask.told, place.carrier().is_secure()) {
        Ok(head) => head,
        Err(why) => return Sent::Lost(Loss::Head(why)),
    };
    call.enter(Stage::Response, settings.timeouts.response);
    let heard = place.carrier().heard();
    let body = (ask.body)();
    let whole = body.is_end_stream();
    let (coming, stream) = match send.send_request(head, whole) {
        Ok(sent) => sent,
        Err(error) => return Sent::Lost(Loss::Head(error.to_string())),
    };
    drop(send);
    let upload = (!whole).then(|| Upload::new(body, stream));
    let mut exchange = Exchange { response: coming, upload };
    match call.unless_judged(poll_fn(|cx| exchange.poll(cx, call, settings))).await {
        Ok(Ok(came)) => {
            let upload = exchange.upload.map(Upload::detach);
            let (head, body) = came.into_parts();
            let length = head::length(&head.headers);
            *response = Response::from_parts(head, RespBody::Empty);
            Sent::Response(Feed::Http2(Box::new(Answer::new(body, length, upload, place))))
        }
        Ok(Err(Failure::Client)) => Sent::Lost(Loss::Upload),
        Ok(Err(Failure::Stream(error))) => failed(&place, error),
        Err(verdict) => {
            if matches!(verdict, Verdict::TimedOut(_)) && place.carrier().heard() == heard {
                // Not a byte came since: the next request must not find out the same.
                place.carrier().retire();
            }
            Sent::Lost(Loss::Judged(verdict))
        }
    }
}

/// What a stream's error says about the request.
fn failed(place: &Place, error: ::h2::Error) -> Sent {
    // Streams above the last one that a GOAWAY names fail with it, and only those (RFC 9113 §6.8).
    let unseen = error.is_remote() && error.is_go_away();
    let refused = error.is_remote() && error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    if !error.is_reset() {
        place.carrier().retire();
    }
    if unseen || refused { Sent::Refused(Loss::Stream(error)) } else { Sent::Lost(Loss::Stream(error)) }
}

/// A request on its way, until the head of its response.
struct Exchange {
    response: ResponseFuture,
    /// Until all of the body is handed over.
    upload: Option<Upload>,
}

impl Exchange {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        call: &Call,
        settings: &config::Service,
    ) -> Poll<Result<Response<::h2::RecvStream>, Failure>> {
        while let Poll::Ready(Some(Ok(interim))) = self.response.poll_informational(cx) {
            if interim.status() == StatusCode::CONTINUE {
                call.release_body();
            }
            call.hint(interim.status(), interim.headers(), settings);
        }
        match self.upload.as_mut().map(|upload| upload.poll(cx)) {
            Some(Poll::Ready(Err(Failure::Client))) => return Poll::Ready(Err(Failure::Client)),
            // A node that wants no more of it says so with a reset, before or behind its answer.
            Some(Poll::Ready(_)) => self.upload = None,
            Some(Poll::Pending) | None => {}
        }
        Pin::new(&mut self.response).poll(cx).map_err(Failure::Stream)
    }
}
