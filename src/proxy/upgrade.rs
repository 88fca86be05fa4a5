//! After a 101: bytes both ways, until one side ends, nothing moves for too long, or the node has to be left.
//!
//! A WebSocket that must end gets a Close frame between two messages, so that the client knows that it should come back;
//! anything else can only be closed.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::call::Registered;
use super::claim::Permit;
use super::view::Slot;
use super::websocket::{CLOSE_SERVICE_RESTART, FrameTracker};
use crate::model::WorkKind;
use crate::net::Stream;

const BUFFER: usize = 16 * 1024;

/// A tunnel that waits for its client's side.
#[derive(Debug)]
pub struct Tunnel {
    node: Stream,
    /// What the node sent right behind its 101.
    node_ahead: Bytes,
    call: Registered,
    // Held for their drop: the claim on the node and the place among its connections.
    _permit: Permit,
    _slot: Slot,
}

/// One direction.
struct Half {
    buffer: Vec<u8>,
    /// `buffer[start..]` is still to be written.
    start: usize,
    tracker: Option<FrameTracker>,
    /// Nothing more is read: the source ended, or this direction is being closed.
    ended: bool,
    /// Something was written that TLS may still hold.
    unflushed: bool,
    /// The end was passed on.
    shut: bool,
}

impl Half {
    fn new(ahead: &[u8], tracked: bool) -> Self {
        let mut tracker = tracked.then(FrameTracker::default);
        if let Some(tracker) = &mut tracker {
            tracker.advance(ahead);
        }
        Self { buffer: ahead.to_vec(), start: 0, tracker, ended: false, unflushed: false, shut: false }
    }

    fn is_drained(&self) -> bool {
        self.start == self.buffer.len()
    }

    /// Whether everything that was passed on is whole messages.
    fn is_at_border(&self) -> bool {
        self.is_drained() && self.tracker.as_ref().is_none_or(FrameTracker::is_at_border)
    }

    /// Moves what can be moved. With `last` set, reads no further than to the end of a message. `Ready` once shut.
    fn poll<F: AsyncRead + Unpin, T: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
        last: bool,
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.is_drained() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.buffer[self.start..]))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.start += written;
                self.unflushed = true;
            }
            if self.unflushed {
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
                self.unflushed = false;
            }
            if self.ended {
                if !self.shut {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.shut = true;
                }
                return Poll::Ready(Ok(()));
            }
            if last && self.is_at_border() {
                return Poll::Pending;
            }
            self.buffer.resize(BUFFER, 0);
            self.start = 0;
            let mut space = ReadBuf::new(&mut self.buffer);
            let polled = Pin::new(&mut *from).poll_read(cx, &mut space);
            let read = space.filled().len();
            self.buffer.truncate(read);
            if polled.is_pending() {
                // An idle tunnel keeps no buffer.
                self.buffer = Vec::new();
                return Poll::Pending;
            }
            ready!(polled)?;
            if read == 0 {
                self.ended = true;
            } else if let Some(tracker) = &mut self.tracker {
                let whole = tracker.advance(&self.buffer);
                if let (true, Some(whole)) = (last, whole) {
                    // What follows would be a message begun and never ended.
                    self.buffer.truncate(whole);
                    *tracker = FrameTracker::default();
                }
            }
        }
    }
}

impl Tunnel {
    /// A tunnel to `node`, for a call that got its 101.
    pub fn new(node: Stream, node_ahead: Bytes, call: Registered, permit: Permit, slot: Slot) -> Self {
        Self { node, node_ahead, call, _permit: permit, _slot: slot }
    }

    /// Runs to the end of both directions.
    pub async fn run(mut self: Box<Self>, mut client: impl AsyncRead + AsyncWrite + Unpin, client_ahead: Bytes) {
        let tracked = self.call.kind() == WorkKind::WebSocket;
        let mut down = Half::new(&self.node_ahead, tracked);
        let mut up = Half::new(&client_ahead, tracked);
        let mut closing = false;
        let result: io::Result<()> = poll_fn(|cx| {
            if self.call.poll_killed(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let cut = self.call.is_cut();
            if cut && !tracked {
                return Poll::Ready(Ok(()));
            }
            let down_done = down.poll(cx, &mut self.node, &mut client, cut)?.is_ready();
            if cut && !closing && !down.ended && down.is_at_border() {
                closing = true;
                // Nothing may follow a Close (RFC 6455 §5.5.1), so there is none of ours behind the node's.
                let said = down.tracker.as_ref().is_some_and(FrameTracker::has_closed);
                down = Half::new(if said { &[] } else { CLOSE_SERVICE_RESTART }, false);
                // Nothing more comes from the node; the client still may say what it has to, up to its own Close.
                let written = down.poll(cx, &mut self.node, &mut client, true)?;
                debug_assert!(written.is_pending(), "a closing half does not end by itself");
            }
            let up_done = up.poll(cx, &mut client, &mut self.node, false)?.is_ready();
            let answered = up.is_drained() && up.tracker.as_ref().is_some_and(FrameTracker::has_closed);
            let done = if closing { up_done || answered } else { down_done && up_done };
            if done { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await;
        if let Err(error) = result {
            tracing::debug!(client = %self.call.front.remote(), %error, "tunnel ended");
        }
    }
}
