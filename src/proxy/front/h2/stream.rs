//! One stream: its request goes through the handler, and the answer goes out as fast as the client takes it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, DATE, HeaderValue, SEC_WEBSOCKET_ACCEPT};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use hyper::body::{Body, Frame};
use tokio::time::Sleep;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::super::super::body::RespBody;
use super::super::super::call::{Call, Registered};
use super::super::super::client_body::ClientBody;
use super::super::super::error::Fault;
use super::super::super::headers::HOP_BY_HOP;
use super::super::super::worker::Worker;
use super::super::super::{date, grpc, handler, refuse};
use super::super::Front;
use super::handle::{Gone, Sender, StreamBody};
use super::meter::{Meter, NOT_TAKEN, RESET_EARLY};
use super::request::{CONNECTION_FIELDS, Prepared};
use super::tunnel::Bytewise;
use crate::model::WorkKind;
use crate::net::http1::recycle;
use crate::net::http2::frame::Reason;

/// Pieces of a body that are handed over before others get their turn.
const PIECES: usize = 8;
/// A client that takes too little of a stream still gets more time if it takes this much for each of the others meanwhile:
/// then the line is slow, and not the client.
const FAIR: u64 = 1024;
/// How long a client that has its answer may go on sending.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// A stream that is to be served.
pub struct Work {
    /// Where.
    pub worker: Rc<Worker>,
    /// Its connection.
    pub front: Rc<Front>,
    /// And what that costs.
    pub meter: Rc<Meter>,
    /// What is asked.
    pub request: Prepared,
    /// With this body, if there is one.
    pub body: Option<StreamBody>,
    /// Where the answer goes.
    pub sender: Sender,
}

/// Serves one request.
pub async fn run(work: Work) {
    let Work { worker, front, meter, request, mut body, mut sender } = work;
    let Prepared { mut request, websocket, is_head, .. } = request;
    let task = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let (method, uri) = match &request {
        Ok(head) => (head.method.clone(), head.uri.clone()),
        Err(_) => (Method::CONNECT, Uri::default()),
    };
    // One that is none is answered, but earns nothing by that.
    let answered = if request.is_ok() { Meter::answered } else { |_: &Meter| {} };
    let call = Registered::new(&worker, &front, Some(task), method, uri);
    let state = Rc::clone(call.shared());
    let grpc = request.as_ref().is_ok_and(|head| grpc::is_grpc(&head.headers));
    if let (true, Ok(head)) = (grpc, &request) {
        state.set_kind(WorkKind::Stream);
        if let Some(timeout) = grpc::timeout(&head.headers) {
            state.set_timeout(timeout);
        }
    }
    // In the connection's count until the client has it all, which is longer than a node works on it.
    let _open = Open::new(&front);
    // The rest of an extended CONNECT is what goes through the tunnel.
    let asked = if websocket.is_some() { None } else { body.take() };
    let asked = request.as_mut().map(|head| (head, ClientBody::Http2(asked))).map_err(|fault| &*fault);
    let mut response = Response::new(RespBody::Empty);
    // Pinned first, it is made in its place; awaited at once, it would be made elsewhere and moved.
    if !pin!(answer(&worker, call, &state, asked, &sender, &mut response)).await {
        meter.spend(RESET_EARLY);
        return;
    }
    if let Ok(head) = request {
        recycle(head.headers);
    }
    if grpc {
        retell(&mut response);
    }
    if let Some(key) = websocket {
        let switched = matches!(response.body(), RespBody::Tunnel(_));
        if switched && is_accepted(response.headers(), &key) {
            return open_tunnel(response, body, sender, meter).await;
        }
        if switched || response.status().is_success() {
            // The client would take it for an open WebSocket (RFC 8441 §5).
            response = Fault::BadResponse.response();
        }
    }
    let body = std::mem::replace(response.body_mut(), RespBody::Empty);
    rewrite(response.headers_mut(), &body);
    // What has no body by its status has none, whatever a node says or sends (RFC 9110 §6.4.1).
    let ends = match response.status() {
        StatusCode::NO_CONTENT => {
            response.headers_mut().remove(CONTENT_LENGTH);
            true
        }
        StatusCode::NOT_MODIFIED => true,
        _ => is_head || body.is_end_stream(),
    };
    // What it holds is let go before the client has read the head.
    let body = if ends {
        drop(body);
        None
    } else {
        Some(body)
    };
    if sender.send_head(response.status(), response.headers(), ends).is_err() {
        return;
    }
    recycle(std::mem::take(response.headers_mut()));
    let Some(body) = body else {
        answered(&meter);
        return linger(&sender).await;
    };
    let mut pump = Pump { body, waiting: Bytes::new(), last: false, stalled: None };
    match poll_fn(|cx| pump.poll(cx, &mut sender, &state, &front, &meter)).await {
        Ok(None) => {
            answered(&meter);
            drop(pump);
            linger(&sender).await;
        }
        Ok(Some(reason)) => sender.reset(reason),
        Err(Gone) => {}
    }
}

/// Lets a client that has its answer, and is still sending, find that out by itself (RFC 9113 §8.1 allows to reset its stream at
/// once): common ones lose the answer over a reset right behind it. What it sends meanwhile is dropped, and is no more than its window.
async fn linger(sender: &Sender) {
    if sender.is_heard() {
        return;
    }
    let _ = tokio::time::timeout(LINGER_TIME, poll_fn(|cx| sender.poll_heard(cx))).await;
}

/// A stream's place in its connection's count.
struct Open<'a>(&'a Front);

impl<'a> Open<'a> {
    fn new(front: &'a Front) -> Self {
        front.begin();
        Self(front)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Has the handler answer, for as long as the client wants to know. `false`: it does not.
async fn answer(
    worker: &Rc<Worker>,
    call: Registered,
    state: &Call,
    asked: Result<(&mut Parts, ClientBody), &Fault>,
    sender: &Sender,
    response: &mut Response<RespBody>,
) -> bool {
    let asked = match asked {
        Ok(asked) => asked,
        Err(fault) => {
            *response = refuse::refuse(worker, fault);
            return true;
        }
    };
    state.want_hints();
    let mut handler = pin!(handler::handle(worker, call, asked, response));
    let mut said = false;
    poll_fn(|cx| {
        if state.poll_killed(cx).is_ready() {
            sender.reset(Reason::CANCEL);
            return Poll::Ready(false);
        }
        // First: one that is reset at once shall not reach a node.
        if sender.poll_gone(cx).is_ready() {
            return Poll::Ready(false);
        }
        let answered = handler.as_mut().poll(cx);
        for hint in state.take_hints() {
            sender.send_interim(hint.status(), hint.headers());
        }
        if answered.is_ready() {
            return Poll::Ready(true);
        }
        if !said && state.wants_body() {
            said = true;
            // A client that hears nothing sends its body after a while.
            sender.send_interim(StatusCode::CONTINUE, &HeaderMap::new());
        }
        Poll::Pending
    })
    .await
}

/// Tells a fault in the words of gRPC.
fn retell(response: &mut Response<RespBody>) {
    if let Some(fault) = response.extensions_mut().remove::<Fault>() {
        *response = grpc::refusal(&fault);
    }
}

/// The last touches to a head. One walk over it costs less than to look four names up.
fn rewrite(headers: &mut HeaderMap, body: &RespBody) {
    let (mut connection, mut dated, mut measured) = (false, false, false);
    for name in headers.keys() {
        connection |= CONNECTION_FIELDS.contains(name);
        dated |= *name == DATE;
        measured |= *name == CONTENT_LENGTH;
    }
    if connection {
        for name in CONNECTION_FIELDS {
            headers.remove(name);
        }
    }
    if !dated {
        headers.insert(DATE, date::now());
    }
    if let (RespBody::Full(bytes), false) = (body, measured)
        && !bytes.is_empty()
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    }
}

/// Whether the node answered to the key; the client cannot tell, for it never saw one (RFC 6455 §4.1).
fn is_accepted(headers: &HeaderMap, key: &HeaderValue) -> bool {
    let accept = headers.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    accept == Some(derive_accept_key(key.as_bytes()).as_bytes())
}

/// A WebSocket: 200 instead of 101 (RFC 8441 §5), and then its bytes as DATA.
async fn open_tunnel(response: Response<RespBody>, received: Option<StreamBody>, sender: Sender, meter: Rc<Meter>) {
    let (mut head, body) = response.into_parts();
    let RespBody::Tunnel(tunnel) = body else { return };
    head.headers.remove(SEC_WEBSOCKET_ACCEPT);
    head.status = StatusCode::OK;
    rewrite(&mut head.headers, &RespBody::Empty);
    if sender.send_head(head.status, &head.headers, false).is_ok() {
        tunnel.run(Bytewise::new(sender, received, meter), Bytes::new()).await;
    }
}

/// Moves a body to the client.
struct Pump {
    body: RespBody,
    /// What the client has no window for yet.
    waiting: Bytes,
    /// Nothing comes after what waits.
    last: bool,
    /// While a piece cannot go out whole.
    stalled: Option<Stall>,
}

/// A piece that waits for the client.
struct Stall {
    /// When it has waited for too long.
    timer: Pin<Box<Sleep>>,
    /// What was sent before, of this stream since it stalled and of all streams together.
    own: u64,
    all: u64,
}

impl Pump {
    /// Resolves when all is sent, with `Some` when the stream has to be reset instead.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Sender,
        call: &Call,
        front: &Front,
        meter: &Meter,
    ) -> Poll<Result<Option<Reason>, Gone>> {
        if call.poll_killed(cx).is_ready() {
            return Poll::Ready(Ok(Some(Reason::CANCEL)));
        }
        if stream.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Gone));
        }
        for _ in 0..PIECES {
            if !self.waiting.is_empty() {
                let Poll::Ready(sent) = stream.poll_data(cx, &self.waiting, self.last) else {
                    return self.poll_stalled(cx, call, front, meter);
                };
                let size = sent?;
                self.waiting.advance(size);
                let whole = self.waiting.is_empty();
                meter.taken(size, whole);
                if whole {
                    if self.stalled.take().is_some() {
                        call.set_client_stalls(false);
                    }
                } else {
                    if let Some(stall) = &mut self.stalled {
                        stall.own += size as u64;
                    }
                    continue;
                }
            }
            if self.last {
                return Poll::Ready(Ok(None));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Some(done) = self.take(frame, stream) {
                        return Poll::Ready(done.map(|()| None));
                    }
                }
                Some(Err(_)) => return Poll::Ready(Ok(Some(Reason::INTERNAL_ERROR))),
                None => return Poll::Ready(stream.send_end().map(|()| None)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes over a piece. `Some`: it was the end.
    fn take(&mut self, frame: Frame<Bytes>, stream: &Sender) -> Option<Result<(), Gone>> {
        match frame.into_data() {
            Ok(data) => {
                self.last = self.body.is_end_stream();
                if data.is_empty() && self.last {
                    return Some(stream.send_end());
                }
                self.waiting = data;
                None
            }
            Err(frame) => Some(stream.send_trailers(&allowed(frame.into_trailers().unwrap_or_default()))),
        }
    }

    /// The client takes nothing now. No timer is armed for one that does.
    fn poll_stalled(
        &mut self,
        cx: &mut Context<'_>,
        call: &Call,
        front: &Front,
        meter: &Meter,
    ) -> Poll<Result<Option<Reason>, Gone>> {
        let patience = call.patience();
        call.set_client_stalls(true);
        let all = meter.all_taken();
        let stall =
            self.stalled.get_or_insert_with(|| Stall { timer: Box::pin(tokio::time::sleep(patience)), own: 0, all });
        while stall.timer.as_mut().poll(cx).is_ready() {
            let owed = call.pace.owed(patience);
            let others = FAIR * front.streams().saturating_sub(1) as u64;
            if stall.own < owed && all - stall.all < owed + others {
                meter.spend(NOT_TAKEN);
                return Poll::Ready(Ok(Some(Reason::CANCEL)));
            }
            (stall.own, stall.all) = (0, all);
            stall.timer.as_mut().reset((Instant::now() + patience.max(Duration::from_millis(1))).into());
        }
        Poll::Pending
    }
}

/// Trailers without what frames a message of HTTP/1 (RFC 9110 §6.5.1, RFC 9113 §8.2.2).
fn allowed(mut trailers: HeaderMap) -> HeaderMap {
    for name in HOP_BY_HOP.into_iter().chain([CONTENT_LENGTH]) {
        trailers.remove(name);
    }
    trailers
}
