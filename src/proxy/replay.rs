//! The client's request body on its way to a node, and what of it is held for a second try.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::body::{BodyError, ClientBody};
use super::call::Call;

/// The body of one request, for all tries together.
pub struct Source {
    call: Rc<Call>,
    incoming: RefCell<ClientBody>,
    /// What was sent already; only kept if the request may be replayed.
    held: RefCell<Vec<Bytes>>,
    held_bytes: Cell<usize>,
    trailers: RefCell<Option<HeaderMap>>,
    /// Bytes that may be held; nothing if the request must not be sent twice.
    limit: Cell<usize>,
    /// Bytes that the client may send.
    most: Cell<u64>,
    length: Option<u64>,
    state: Cell<State>,
    /// More was sent than may be held: there is no second try any more.
    overflowed: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Flowing,
    Complete,
    /// The client's side failed.
    Broken,
    /// The client sent more than it may.
    TooLarge,
}

impl Source {
    /// Wraps the client's body. Up to `limit` bytes of it are held for a replay.
    pub fn new(call: &Rc<Call>, incoming: ClientBody, limit: usize) -> Rc<Self> {
        let length = incoming.size_hint().exact();
        let state = if incoming.is_end_stream() { State::Complete } else { State::Flowing };
        Rc::new(Self {
            call: Rc::clone(call),
            incoming: RefCell::new(incoming),
            held: RefCell::default(),
            held_bytes: Cell::new(0),
            trailers: RefCell::default(),
            limit: Cell::new(limit),
            most: Cell::new(u64::MAX),
            length,
            state: Cell::new(state),
            overflowed: Cell::new(false),
        })
    }

    /// From here on, a body of more bytes than this fails.
    pub fn limit_size(&self, most: u64) {
        self.most.set(most);
    }

    /// Whether everything that was sent can be sent again.
    pub fn is_whole(&self) -> bool {
        !self.overflowed.get() && !self.is_broken()
    }

    /// Whether all of it can go to another node now, though one has begun to answer.
    pub fn can_go_again(&self) -> bool {
        // With its place for more taken away, what still comes would tear a hole into it.
        self.is_whole() && (self.is_complete() || self.limit.get() > 0)
    }

    /// Whether it is known to fit into what may be held.
    pub fn is_small(&self) -> bool {
        self.length.is_some_and(|length| length <= self.limit.get() as u64)
    }

    /// Whether the client has sent all of it.
    pub fn is_complete(&self) -> bool {
        self.state.get() == State::Complete
    }

    /// Whether the client's side failed, and so the exchange with the node had to.
    pub fn is_broken(&self) -> bool {
        matches!(self.state.get(), State::Broken | State::TooLarge)
    }

    /// Whether that was because it is larger than it may be.
    pub fn is_too_large(&self) -> bool {
        self.state.get() == State::TooLarge
    }

    /// Whether it is the client who is waited for.
    pub fn awaits_client(&self) -> bool {
        self.state.get() == State::Flowing && self.call.awaits_client.get()
    }

    /// Whether the client still waits to hear that it should send the body.
    pub fn is_held(&self) -> bool {
        self.call.holds_body() || self.incoming.borrow().is_held()
    }

    /// The body for one more try.
    pub fn body(self: &Rc<Self>) -> ReqBody {
        ReqBody { source: Some(Rc::clone(self)), sent: 0 }
    }

    /// Reads and drops what the client still sends, up to `limit` bytes. Ends when it is complete, broken, or too much.
    pub fn poll_discard(&self, cx: &mut Context<'_>, limit: &mut usize) -> Poll<()> {
        // Reading now would tell a client that waits for `100 Continue` to go on, when it is being refused.
        if self.is_held() {
            return Poll::Ready(());
        }
        while self.state.get() == State::Flowing && *limit > 0 {
            match Pin::new(&mut *self.incoming.borrow_mut()).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    *limit = limit.saturating_sub(frame.data_ref().map_or(0, Bytes::len).max(1));
                }
                Poll::Ready(Some(Err(_))) => self.state.set(State::Broken),
                Poll::Ready(None) => self.state.set(State::Complete),
            }
        }
        Poll::Ready(())
    }

    fn hold(&self, data: &Bytes) {
        if self.overflowed.get() {
            return;
        }
        let bytes = self.held_bytes.get() + data.len();
        if bytes > self.limit.get() {
            self.overflowed.set(true);
            self.held.borrow_mut().clear();
        } else {
            self.held_bytes.set(bytes);
            self.held.borrow_mut().push(data.clone());
        }
    }

    fn poll_more(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // `Expect: 100-continue`: the client is told to go on the moment its body is first polled, so it is not
        // polled before the node said so. The watchdog wakes the task after a second.
        if self.call.holds_body() {
            return Poll::Pending;
        }
        let mut incoming = self.incoming.borrow_mut();
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        self.call.awaits_client.set(polled.is_pending());
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.state.set(State::Complete);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => {
                self.state.set(State::Broken);
                Poll::Ready(Some(Err(BodyError::Client)))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.call.count_piece();
                if let Some(data) = frame.data_ref() {
                    self.call.pace.count(data.len());
                    if self.call.pace.came() > self.most.get() {
                        self.state.set(State::TooLarge);
                        return Poll::Ready(Some(Err(BodyError::Client)));
                    }
                    self.hold(data);
                } else if let Some(trailers) = frame.trailers_ref() {
                    *self.trailers.borrow_mut() = Some(trailers.clone());
                    self.state.set(State::Complete);
                }
                if incoming.is_end_stream() {
                    self.state.set(State::Complete);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

/// The request body of one try.
pub struct ReqBody {
    /// `None`: the request has no body.
    source: Option<Rc<Source>>,
    /// How many of the held pieces this try has sent.
    sent: usize,
}

impl ReqBody {
    /// An answer is there, so there is no second try: with the next piece, what was held is let go. Not before, because this
    /// may be a second try that is still sending it.
    pub fn settle(&self) {
        if let Some(source) = &self.source {
            source.limit.set(0);
        }
    }

    /// No body.
    pub fn empty() -> Self {
        Self { source: None, sent: 0 }
    }
}

impl Body for ReqBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(source) = self.source.clone() else {
            return Poll::Ready(None);
        };
        let again = source.held.borrow().get(self.sent).cloned();
        if let Some(data) = again {
            self.sent += 1;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match source.state.get() {
            State::Flowing => {
                let polled = source.poll_more(cx);
                if matches!(&polled, Poll::Ready(Some(Ok(frame))) if frame.is_data()) {
                    self.sent += 1;
                }
                if matches!(&polled, Poll::Ready(Some(Ok(frame))) if frame.is_trailers()) {
                    self.source = None;
                }
                polled
            }
            State::Complete => {
                self.source = None;
                Poll::Ready(source.trailers.borrow().clone().map(|trailers| Ok(Frame::trailers(trailers))))
            }
            State::Broken | State::TooLarge => Poll::Ready(Some(Err(BodyError::Client))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(|source| {
            source.is_complete() && self.sent >= source.held.borrow().len() && source.trailers.borrow().is_none()
        })
    }

    fn size_hint(&self) -> SizeHint {
        match self.source.as_ref().map(|source| source.length) {
            None => SizeHint::with_exact(0),
            Some(Some(length)) => SizeHint::with_exact(length),
            Some(None) => SizeHint::new(),
        }
    }
}
