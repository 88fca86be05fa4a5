//! After a 101: bytes both ways, until one side ends, nothing moves for too long, or the node has to be left.
//!
//! A WebSocket that must end gets a Close frame between two messages, so that the client knows that it should come back;
//! anything else can only be closed.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::access_log::Outcome;
use super::call::{Registered, Verdict};
use super::claim::Permit;
use super::view::Slot;
use super::websocket::{CLOSE_SERVICE_RESTART, FrameTracker};
use crate::model::WorkKind;
use crate::net::{Stream, Waiting};

const BUFFER: usize = 16 * 1024;

/// So many times a direction reads before others have their turn.
const PIECES: usize = 32;

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

/// An end of a tunnel.
pub trait Readable: AsyncRead + AsyncWrite + Unpin {
    /// Whether a read may find something.
    #[inline]
    fn is_readable(&self) -> bool {
        true
    }

    /// Reads once; zero at the end.
    fn poll_take(&mut self, cx: &mut Context<'_>, _: &mut Waiting, space: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut space = ReadBuf::new(space);
        ready!(Pin::new(self).poll_read(cx, &mut space))?;
        Poll::Ready(Ok(space.filled().len()))
    }

    /// Writes what is taken at once, by somebody whom nothing has kept waiting.
    fn poll_give(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, data)
    }

    /// Whether what was written may have to be flushed.
    #[inline]
    fn is_buffered(&self) -> bool {
        true
    }
}

impl Readable for Stream {
    #[inline]
    fn is_readable(&self) -> bool {
        Self::is_readable(self)
    }

    #[inline]
    fn poll_take(&mut self, cx: &mut Context<'_>, waiting: &mut Waiting, space: &mut [u8]) -> Poll<io::Result<usize>> {
        Self::poll_take(self, cx, waiting, space)
    }

    #[inline]
    fn poll_give(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_give(self, cx, data)
    }

    #[inline]
    fn is_buffered(&self) -> bool {
        self.is_tls()
    }
}

/// One direction.
struct Half {
    /// Whether the source will wake the tunnel. Each time one direction has something the other one is looked at too.
    waiting: Waiting,
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
        Self { waiting: Waiting::default(), rest, tracker, ended: false, unflushed: false, shut: false, moved: 0 }
    }

    fn is_drained(&self) -> bool {
        self.rest.is_empty()
    }

    /// Whether everything that was passed on is whole messages.
    fn is_at_border(&self) -> bool {
        self.is_drained() && self.tracker.as_ref().is_none_or(FrameTracker::is_at_border)
    }

    /// Whether nothing is left to be done until there is something to read, for which the tunnel will be woken.
    fn is_resting(&self) -> bool {
        self.waiting.is_entered() && self.is_drained() && !self.unflushed && !self.ended
    }

    /// The tunnel is polled by a task that is entered nowhere yet.
    fn meet_task(&mut self) {
        self.waiting = Waiting::default();
    }

    /// Moves what can be moved. With `last` set, reads no further than to the end of a message. `Ready` once shut.
    #[inline]
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Readable,
        to: &mut impl Readable,
        last: bool,
    ) -> Poll<io::Result<()>> {
        // A message wakes the tunnel for one of its directions; this is the other.
        if self.is_resting() && !from.is_readable() {
            return Poll::Pending;
        }
        self.work(cx, from, to, last)
    }

    fn work(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Readable,
        to: &mut impl Readable,
        last: bool,
    ) -> Poll<io::Result<()>> {
        for _ in 0..PIECES {
            while !self.is_drained() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.rest))?;
                self.count(to, written)?;
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
            let read = SPACE.with_borrow_mut(|space| self.read(cx, from, to, last, space))?;
            if read.is_pending() || self.is_resting() {
                return Poll::Pending;
            }
        }
        // Others have their turn, and the runtime a look at their sockets, before this task goes on.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
        Poll::Pending
    }

    /// Reads one piece, and passes on what the other side takes at once.
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Readable,
        to: &mut impl Readable,
        last: bool,
        space: &mut [u8],
    ) -> Poll<io::Result<()>> {
        let read = ready!(from.poll_take(cx, &mut self.waiting, space))?;
        let mut data = &space[..read];
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
            match to.poll_give(cx, data)? {
                Poll::Ready(written) => {
                    self.count(to, written)?;
                    data = &data[written..];
                }
                Poll::Pending => {
                    self.rest = Bytes::copy_from_slice(data);
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The other side took so much.
    #[inline]
    fn count(&mut self, to: &impl Readable, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = to.is_buffered();
        self.moved += written;
        Ok(())
    }
}

impl Tunnel {
    /// A tunnel to `node`, for a call that got its 101.
    pub fn new(node: Stream, node_ahead: Bytes, call: Registered, permit: Permit, slot: Slot) -> Self {
        Self { node, node_ahead, call, _permit: permit, _slot: slot }
    }

    /// Runs to the end of both directions.
    pub async fn run(mut self: Box<Self>, mut client: impl Readable, client_ahead: Bytes) {
        let tracked = self.call.kind() == WorkKind::WebSocket;
        let mut down = Half::new(&self.node_ahead, tracked);
        let mut up = Half::new(&client_ahead, tracked);
        let mut closing = false;
        // Whether the node ended its direction while the client had not.
        let mut node_first = false;
        let mut task = Waker::noop().clone();
        let bell = self.call.bell();
        let mut cut = false;
        let result: io::Result<()> = poll_fn(|cx| {
            let unknown = !task.will_wake(cx.waker());
            if unknown {
                task.clone_from(cx.waker());
                down.meet_task();
                up.meet_task();
            }
            // The call and its connection lie where a message's way does not lead: to look there each time would cost more than to ask.
            if bell.as_ref().is_none_or(|bell| bell.answer()) || unknown {
                if self.call.poll_killed(cx).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                cut = self.call.is_cut();
                if cut && !tracked {
                    return Poll::Ready(Ok(()));
                }
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
            let answered = || up.is_drained() && up.tracker.as_ref().is_some_and(FrameTracker::has_closed);
            let done = if closing { up_done || answered() } else { down_done && up_done };
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Always has something, and takes everything.
    struct Endless;

    impl AsyncRead for Endless {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let room = buf.remaining();
            buf.initialize_unfilled();
            buf.advance(room);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Endless {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(data.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Readable for Endless {}

    #[tokio::test]
    async fn a_direction_at_rest_is_woken_in_a_task_that_it_has_not_met() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        let (mut from, mut half) = (Stream::new(listener.accept().await?.0), Half::new(&[], false));
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(half.poll(&mut nobody, &mut from, &mut Endless, false).is_pending() && half.is_resting());
        half.meet_task();
        let moved = poll_fn(|cx| match half.poll(cx, &mut from, &mut Endless, false)? {
            Poll::Pending if half.moved == 0 => Poll::Pending,
            _ => Poll::Ready(io::Result::Ok(half.moved)),
        });
        let (moved, written) = tokio::join!(moved, async {
            tokio::task::yield_now().await;
            client.write_all(b"data").await
        });
        written?;
        assert_eq!(moved?, 4);
        Ok(())
    }

    #[tokio::test]
    async fn who_always_has_more_to_move_lets_others_have_their_turn_and_goes_on() {
        let mut half = Half::new(&[], false);
        for round in 1..=3 {
            // Ends only if it is woken.
            let mut polled = false;
            poll_fn(|cx| {
                if polled {
                    return Poll::Ready(());
                }
                polled = true;
                assert!(half.poll(cx, &mut Endless, &mut Endless, false).is_pending());
                Poll::Pending
            })
            .await;
            assert_eq!(half.moved, round * PIECES * BUFFER);
        }
    }
}
