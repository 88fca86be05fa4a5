//! After a 101: bytes both ways, until one side ends, nothing moves for too long, or the node has to be left.
//!
//! A WebSocket that must end gets a Close frame between two messages, so that the client knows that it should come back;
//! anything else can only be closed.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::access_log::Outcome;
use super::call::{Registered, Verdict};
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

thread_local! {
    /// What every tunnel of a worker reads into. What the other side takes at once, which is nearly everything, is never
    /// copied, and an idle tunnel holds nothing.
    static SPACE: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// Where a direction reads.
pub trait Readable: AsyncRead + Unpin {
    /// Whether there may be something to read; to ask costs less than to read in vain, which half of all looks are. Who waits is
    /// woken when there is.
    fn poll_readable(&self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Readable for Stream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        Self::poll_readable(self, cx)
    }
}

/// One direction.
struct Half {
    /// What the other side did not take yet.
    rest: Bytes,
    tracker: Option<FrameTracker>,
    /// Nothing more is read: the source ended, or this direction is being closed.
    ended: bool,
    /// Something was written that TLS may still hold.
    unflushed: bool,
    /// The end was passed on.
    shut: bool,
    /// Bytes that the other side took.
    moved: usize,
}

impl Half {
    fn new(ahead: &[u8], tracked: bool) -> Self {
        let mut tracker = tracked.then(FrameTracker::default);
        if let Some(tracker) = &mut tracker {
            tracker.advance(ahead);
        }
        let rest = Bytes::copy_from_slice(ahead);
        Self { rest, tracker, ended: false, unflushed: false, shut: false, moved: 0 }
    }

    fn is_drained(&self) -> bool {
        self.rest.is_empty()
    }

    /// Whether everything that was passed on is whole messages.
    fn is_at_border(&self) -> bool {
        self.is_drained() && self.tracker.as_ref().is_none_or(FrameTracker::is_at_border)
    }

    /// Moves what can be moved. With `last` set, reads no further than to the end of a message. `Ready` once shut.
    fn poll<F: Readable, T: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
        last: bool,
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.is_drained() {
                let written = ready!(self.write(cx, to, &self.rest.clone()))?;
                self.rest.advance(written);
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
            ready!(from.poll_readable(cx));
            ready!(SPACE.with_borrow_mut(|space| self.read(cx, from, to, last, space)))?;
        }
    }

    /// Reads one piece, and passes on what the other side takes at once.
    fn read<F: Readable, T: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
        last: bool,
        space: &mut [u8],
    ) -> Poll<io::Result<()>> {
        let mut space = ReadBuf::new(space);
        ready!(Pin::new(&mut *from).poll_read(cx, &mut space))?;
        let mut data = space.filled();
        self.ended = data.is_empty();
        if let Some(tracker) = &mut self.tracker {
            let whole = tracker.advance(data);
            if let (true, Some(whole)) = (last, whole) {
                // What follows would be a message begun and never ended.
                data = &data[..whole];
                *tracker = FrameTracker::default();
            }
        }
        while !data.is_empty() {
            match self.write(cx, to, data)? {
                Poll::Ready(written) => data = &data[written..],
                Poll::Pending => {
                    self.rest = Bytes::copy_from_slice(data);
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn write<T: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut T,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(to).poll_write(cx, data))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        self.moved += written;
        Poll::Ready(Ok(written))
    }
}

impl Tunnel {
    /// A tunnel to `node`, for a call that got its 101.
    pub fn new(node: Stream, node_ahead: Bytes, call: Registered, permit: Permit, slot: Slot) -> Self {
        Self { node, node_ahead, call, _permit: permit, _slot: slot }
    }

    /// Runs to the end of both directions.
    pub async fn run(mut self: Box<Self>, mut client: impl Readable + AsyncWrite, client_ahead: Bytes) {
        let tracked = self.call.kind() == WorkKind::WebSocket;
        let mut down = Half::new(&self.node_ahead, tracked);
        let mut up = Half::new(&client_ahead, tracked);
        let mut closing = false;
        // Whether the node ended its direction while the client had not.
        let mut node_first = false;
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
            node_first |= down.ended && !up.ended && !closing;
            let up_done = up.poll(cx, &mut client, &mut self.node, false)?.is_ready();
            let answered = up.is_drained() && up.tracker.as_ref().is_some_and(FrameTracker::has_closed);
            let done = if closing { up_done || answered } else { down_done && up_done };
            if done { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await;
        self.call.count_received(up.moved);
        self.call.count_sent(down.moved);
        self.call.note_end(match (self.call.verdict(), &result) {
            (Some(Verdict::Cut(reason)), _) => Outcome::cut(reason),
            (Some(Verdict::TimedOut(_)), _) => Outcome::TimeoutBody,
            (None, Err(_)) => Outcome::TunnelBroken,
            (None, Ok(())) if node_first => Outcome::TunnelNode,
            (None, Ok(())) => Outcome::TunnelClient,
        });
        if let Err(error) = result {
            tracing::debug!(client = %self.call.front.remote(), %error, "tunnel ended");
        }
    }
}
