//! A client's HTTP/1 connection, as its own task and the body of the request under way share it.
//!
//! One of them reads at a time: the task between two requests and behind a request's body, the body while it lasts.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::request::Parts;
use hyper::body::{Frame, SizeHint};
use tokio::io::AsyncWrite;

use crate::net::Stream;
use crate::net::http1::body::Decoder;
use crate::net::http1::request::{self, Bounds, Head};
use crate::net::http1::{Error, Inbox, Outbox};

/// Bytes that are read at once, at most.
const MOST_ROOM: usize = 64 * 1024;

/// A connection.
#[derive(Debug)]
pub struct Line(RefCell<Ends>);

#[derive(Debug)]
struct Ends {
    stream: Stream,
    inbox: Inbox,
    /// So much of the inbox is no whole head; set when it was looked at.
    looked: usize,
    /// What is still to come of the request under way.
    body: Option<Decoder>,
    /// Set with a request, moved on by its body.
    expectation: Expectation,
    /// What came of the body was none, or the connection ended in it.
    broken: bool,
    /// The latter.
    ended: bool,
    /// The connection's task, while the body of the request is read; another one may do that.
    watcher: Option<Waker>,
}

/// Whether the client waits to hear that it should send its body (RFC 9110 §10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expectation {
    /// It does not.
    None,
    /// It does.
    Waits,
    /// Somebody wants the body.
    Wanted,
    /// It was told to go on.
    Told,
}

impl Line {
    /// A connection of which nothing was read yet.
    pub(super) fn new(stream: Stream) -> Rc<Self> {
        let inbox = Inbox::new(MOST_ROOM);
        let expectation = Expectation::None;
        Rc::new(Self(RefCell::new(Ends {
            stream,
            inbox,
            looked: 0,
            body: None,
            expectation,
            broken: false,
            ended: false,
            watcher: None,
        })))
    }

    /// The next request's head, read into `parts`. `None`: the client has ended the connection between two requests.
    pub(super) fn poll_head(
        &self,
        cx: &mut Context<'_>,
        bounds: Bounds,
        parts: &mut Parts,
    ) -> Poll<Result<Option<Head>, Error>> {
        let ends = &mut *self.0.borrow_mut();
        loop {
            if request::skip_empty_lines(&mut ends.inbox) {
                ends.looked = 0;
            }
            if !ends.inbox.is_empty()
                && request::may_be_whole(&ends.inbox, ends.looked, bounds)
                && let Some(mut head) = request::read_head(&mut ends.inbox, bounds, parts)?
            {
                ends.looked = 0;
                ends.body = head.body.take();
                ends.expectation = if head.expects_continue { Expectation::Waits } else { Expectation::None };
                return Poll::Ready(Ok(Some(head)));
            }
            ends.looked = ends.inbox.len();
            if ready!(ends.inbox.poll_read(cx, &mut ends.stream))? == 0 {
                let rest = ends.inbox.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
                return Poll::Ready(if rest { Ok(None) } else { Err(Error::Ended) });
            }
        }
    }

    /// Whether nothing of another request has come, neither here nor in the kernel. One system call.
    pub(super) fn is_quiet(&self) -> bool {
        let ends = &mut *self.0.borrow_mut();
        ends.inbox.is_empty() && ends.stream.is_quiet()
    }

    /// Writes what waits.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, outbox: &mut Outbox) -> Poll<io::Result<()>> {
        outbox.poll_write(cx, &mut self.0.borrow_mut().stream)
    }

    /// Whether the client has gone, as far as that can be known while it has nothing to send. What it sends already of its next
    /// request stays.
    pub(super) fn is_gone(&self, cx: &mut Context<'_>) -> bool {
        let ends = &mut *self.0.borrow_mut();
        if ends.body.is_some() {
            if !ends.watcher.as_ref().is_some_and(|watcher| watcher.will_wake(cx.waker())) {
                ends.watcher = Some(cx.waker().clone());
            }
            return ends.ended;
        }
        if !ends.inbox.is_empty() {
            return false;
        }
        matches!(ends.inbox.poll_more(cx, &mut ends.stream), Poll::Ready(Ok(0) | Err(_)))
    }

    /// Whether the client is to be told to send its body; once.
    pub(super) fn take_wanted(&self) -> bool {
        let ends = &mut *self.0.borrow_mut();
        let wanted = ends.expectation == Expectation::Wanted;
        if wanted {
            ends.expectation = Expectation::Told;
        }
        wanted
    }

    /// Gives memory back that a connection does not need between two requests.
    pub(super) fn rest(&self) {
        self.0.borrow_mut().inbox.rest();
    }

    /// Behind a request that nobody reads any more: whether what is left of it is here, so that the next one can begin.
    pub(super) fn skip_body(&self, cx: &mut Context<'_>) -> bool {
        let ends = &mut *self.0.borrow_mut();
        // It may send what it asked for all the same, or not.
        if ends.broken || matches!(ends.expectation, Expectation::Waits | Expectation::Wanted) {
            return ends.body.is_none();
        }
        loop {
            match ends.poll_body(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(None) => return true,
                Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
            }
        }
    }

    /// Whether there is more to come of the request whose head was read last.
    pub(super) fn has_body(&self) -> bool {
        self.0.borrow().body.is_some()
    }

    /// Whether nobody holds the body of a request any more.
    pub(super) fn is_alone(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) == 1
    }

    /// Whether some of a further request has come.
    pub(super) fn holds_more(&self) -> bool {
        !self.0.borrow().inbox.is_empty()
    }

    /// Says that nothing follows.
    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_shutdown(cx)
    }

    /// Reads and drops what comes, to the end.
    pub(super) fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<()> {
        let ends = &mut *self.0.borrow_mut();
        loop {
            ends.inbox.clear();
            if !matches!(ready!(ends.inbox.poll_read(cx, &mut ends.stream)), Ok(1..)) {
                return Poll::Ready(());
            }
        }
    }

    /// Has the end of the connection look like what it is: not the end of what was being said.
    pub(super) fn reset(&self) {
        self.0.borrow().stream.reset_at_end();
    }

    /// The bare connection, and what was read ahead. None while a body shares it.
    pub(super) fn into_stream(self: Rc<Self>) -> Option<(Stream, Bytes)> {
        let ends = Rc::into_inner(self)?.0.into_inner();
        Some((ends.stream, ends.inbox.into_bytes()))
    }
}

impl Ends {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(body.poll_frame(cx, &mut self.inbox, &mut self.stream));
        let has_ended = body.has_ended();
        self.broken |= matches!(frame, Some(Err(_)));
        self.ended |= matches!(frame, Some(Err(Error::Ended | Error::Io(_))));
        if has_ended {
            self.body = None;
        }
        if has_ended || self.broken {
            // From here on, it is the connection's task that looks whether the client is still there.
            if let Some(watcher) = self.watcher.take_if(|watcher| !watcher.will_wake(cx.waker())) {
                watcher.wake();
            }
        }
        Poll::Ready(frame)
    }
}

/// What is still to come of a request: its only reader.
pub struct LineBody(Rc<Line>);

impl LineBody {
    /// The body of the request whose head was read last, if it has one.
    pub(super) fn of(line: &Rc<Line>) -> Option<Self> {
        line.0.borrow().body.is_some().then(|| Self(Rc::clone(line)))
    }

    /// The next piece, or the trailers. To ask for the first tells a client that waits for it to send.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let ends = &mut *self.0.0.borrow_mut();
        if ends.broken {
            return Poll::Ready(Some(Err(Error::Ended)));
        }
        if ends.expectation == Expectation::Waits && ends.inbox.is_empty() {
            ends.expectation = Expectation::Wanted;
        }
        ends.poll_body(cx)
    }

    /// Whether the client waits to hear that it should send it.
    pub fn is_held(&self) -> bool {
        let ends = self.0.0.borrow();
        matches!(ends.expectation, Expectation::Waits | Expectation::Wanted) && ends.body.is_some()
    }

    /// Whether all of it was taken.
    pub fn is_end_stream(&self) -> bool {
        self.0.0.borrow().body.is_none()
    }

    /// The bytes that are still to come, where that is known.
    pub fn size_hint(&self) -> SizeHint {
        let left = self.0.0.borrow().body.as_ref().map_or(Some(0), Decoder::left);
        left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
