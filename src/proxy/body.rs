//! A response body on its way to the client. Its end is the end of the call: the connection goes back, the claim is
//! released.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::access_log::Outcome;
use super::border::Border;
use super::call::{Registered, Verdict};
use super::claim::{Failure, Permit};
use super::upgrade::Tunnel;
use super::upstream::h2::Answer;
use super::upstream::{Detached, Feed, IdlePolicy, Upstream};
use crate::net::http1;

pub use super::client_body::ClientBody;
pub use super::replay::ReqBody;

/// Why a body ended before its end. The client's connection or stream is broken off then, so that nobody takes a part for the whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client's side of a request body failed.
    #[error("the client's request body failed")]
    Client,
    /// The node's side of a response body failed.
    #[error("the node's response body failed: {0}")]
    Node(#[from] http1::Error),
    /// It could not be compressed.
    #[cfg(feature = "compression")]
    #[error("the response body could not be compressed: {0}")]
    Compress(std::io::Error),
    /// The same on a stream. Not a source: the node's reset code must not reach the client, where `REFUSED_STREAM` says that the
    /// request was not worked on.
    #[error("the node's response body failed: {0}")]
    Stream(h2::Error),
}

/// What the client gets.
pub enum RespBody {
    /// Nothing, or nothing more.
    Empty,
    /// All of it, at hand.
    Full(Bytes),
    /// What a node is sending.
    Relay(Box<Relay>),
    /// The same, compressed on its way.
    #[cfg(feature = "compression")]
    Compressed(Box<super::door::Compressed>),
    /// None: with this head the connection becomes a tunnel. Taken out by the front.
    Tunnel(Box<Tunnel>),
}

impl RespBody {
    /// A body that is at hand.
    pub fn full(text: impl Into<Bytes>) -> Self {
        Self::Full(text.into())
    }
}

impl Body for RespBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Relay(relay) => relay.poll_frame(cx),
            #[cfg(feature = "compression")]
            Self::Compressed(body) => body.poll_frame(cx),
            Self::Empty | Self::Tunnel(_) => Poll::Ready(None),
            Self::Full(_) => {
                let Self::Full(bytes) = std::mem::replace(&mut *self, Self::Empty) else {
                    return Poll::Ready(None);
                };
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Tunnel(_) => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Relay(relay) => relay.is_end_stream(),
            #[cfg(feature = "compression")]
            Self::Compressed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Tunnel(_) => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Relay(relay) => relay.size_hint(),
            #[cfg(feature = "compression")]
            Self::Compressed(_) => SizeHint::new(),
        }
    }
}

/// Where the body comes from, and who lets the connection to the node make progress.
enum Driver {
    /// This body, whenever the client's connection asks for more.
    Body(Box<Upstream>),
    /// A task.
    Task(Detached),
    /// The connection's own task.
    Stream(Box<Answer>),
    /// Nobody: the response is complete or failed.
    Gone,
}

/// A response body that a node is sending.
pub struct Relay {
    /// What came with the head, last first.
    ahead: Vec<Frame<Bytes>>,
    driver: Driver,
    /// Set for a stream whose borders can be seen: where it may be ended.
    border: Option<Border>,
    /// For the connection when it goes back.
    idle: IdlePolicy,
    // Dropped in this order: the claim, then the call that names it.
    permit: Option<Permit>,
    call: Option<Registered>,
}

/// What came with the head of a response.
pub enum Start {
    /// All of the body: nothing is left at the node.
    Whole(Bytes, Feed),
    /// A part, last piece first, and the rest follows.
    Part(Vec<Frame<Bytes>>, Feed),
    /// It broke off already.
    Failed(BodyError),
}

/// Takes what is at hand of a body right after its head. A small answer is usually complete then, and is passed on in one
/// piece with its head. More of it wakes the client's task.
pub fn begin(cx: &mut Context<'_>, mut feed: Feed) -> Start {
    let mut first: Option<Frame<Bytes>> = None;
    loop {
        let polled = match &mut feed {
            Feed::Http1(upstream) if upstream.is_end_stream() => break,
            Feed::Http2(answer) if answer.is_end_stream() => break,
            Feed::Http1(upstream) => upstream.poll_frame(cx).map_err(BodyError::Node),
            Feed::Http2(answer) => answer.poll_frame(cx),
        };
        match polled {
            Poll::Ready(None) => break,
            Poll::Ready(Some(Ok(frame))) if first.is_none() && frame.is_data() => first = Some(frame),
            Poll::Ready(Some(Ok(next))) => {
                return Start::Part([Some(next), first].into_iter().flatten().collect(), feed);
            }
            Poll::Ready(Some(Err(error))) => return Start::Failed(error),
            Poll::Pending => return Start::Part(first.into_iter().collect(), feed),
        }
    }
    Start::Whole(first.and_then(|frame| frame.into_data().ok()).unwrap_or_default(), feed)
}

impl Relay {
    /// Passes on what follows. `detached`: the request's body is still on its way.
    pub fn new(
        ahead: Vec<Frame<Bytes>>,
        feed: Feed,
        detached: bool,
        border: Option<Border>,
        idle: IdlePolicy,
        permit: Permit,
        call: Registered,
    ) -> Self {
        let driver = match feed {
            Feed::Http1(upstream) if detached => Driver::Task(Detached::new(upstream)),
            Feed::Http1(upstream) => Driver::Body(upstream),
            Feed::Http2(answer) => Driver::Stream(answer),
        };
        Self { ahead, driver, border, idle, permit: Some(permit), call: Some(call) }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty()
            && match &self.driver {
                Driver::Body(upstream) => upstream.is_end_stream(),
                Driver::Task(detached) => detached.is_end_stream(),
                Driver::Stream(answer) => answer.is_end_stream(),
                Driver::Gone => true,
            }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.ahead.pop() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut self.driver {
            Driver::Body(upstream) => upstream.poll_frame(cx).map_err(BodyError::Node),
            Driver::Task(detached) => detached.poll_frame(cx).map_err(BodyError::Node),
            Driver::Stream(answer) => answer.poll_frame(cx),
            Driver::Gone => Poll::Ready(None),
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let cut = self.call.as_ref().and_then(|call| call.cut_reason());
        if let (Some(reason), Some(border)) = (cut, &self.border)
            && border.is_at_border()
        {
            let farewell = border.farewell(reason);
            self.end(Err(Outcome::cut(reason)));
            return Poll::Ready(farewell.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        match self.poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.end(Ok(()));
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(permit) = &self.permit {
                    permit.count_failure(Failure::Truncated);
                }
                self.end(Err(Outcome::NodeBody));
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(call) = &self.call {
                    call.count_piece();
                    call.count_sent(frame.data_ref().map_or(0, Bytes::len));
                }
                let Some(border) = &mut self.border else {
                    if self.is_end_stream() {
                        self.end(Ok(()));
                    }
                    return Poll::Ready(Some(Ok(frame)));
                };
                let Some(data) = frame.data_ref() else {
                    return Poll::Ready(Some(Ok(frame)));
                };
                let whole = border.advance(data);
                match whole {
                    // The stream is to end, and the last whole event ends in this piece. What is behind it is dropped, so
                    // that the stream stands at a border and ends with the next poll.
                    Some(whole) if cut.is_some() => {
                        border.restart();
                        Poll::Ready(Some(Ok(Frame::data(data.slice(..whole)))))
                    }
                    _ => Poll::Ready(Some(Ok(frame))),
                }
            }
        }
    }

    /// Lets go of the node, then of the call.
    fn end(&mut self, how: Result<(), Outcome>) {
        if let Some(call) = &self.call {
            call.note_end(how.err().unwrap_or(Outcome::Done));
        }
        let driver = std::mem::replace(&mut self.driver, Driver::Gone);
        if let (Ok(()), Driver::Body(upstream)) = (how, driver) {
            upstream.give_back(self.idle, Instant::now());
        }
        self.permit = None;
        self.call = None;
    }

    fn size_hint(&self) -> SizeHint {
        // Behind a body that names its length no trailers are sent.
        if self.ahead.iter().any(Frame::is_trailers) {
            return SizeHint::new();
        }
        let ahead = self.ahead.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum::<u64>();
        let rest = match &self.driver {
            Driver::Body(upstream) => upstream.left(),
            Driver::Task(detached) => detached.left(),
            Driver::Stream(answer) => answer.left(),
            Driver::Gone => Some(0),
        };
        match rest {
            Some(rest) => SizeHint::with_exact(ahead + rest),
            None => SizeHint::new(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(call) = &self.call {
            call.note_end(call.outcome_of_drop());
        }
        // Dropped before its end: the client has gone, or the watchdog ended the connection because the node stalled.
        let stalled = self.call.as_ref().is_some_and(|call| matches!(call.verdict(), Some(Verdict::TimedOut(_))));
        if let (true, Some(permit)) = (stalled, &self.permit) {
            // It may as well be the client that does not read.
            permit.count_failure(Failure::Other);
        }
    }
}
