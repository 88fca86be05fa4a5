//! One direction of a tunnel.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::{Stream, Waiting};
use crate::proxy::websocket::FrameTracker;

const BUFFER: usize = 16 * 1024;

thread_local! {
    /// What every tunnel of a worker reads into. What the other side takes at once, which is nearly everything, is never
    /// copied, and an idle tunnel holds nothing.
    static SPACE: RefCell<Box<[u8; BUFFER]>> = RefCell::new(Box::new([0; BUFFER]));
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

    /// Whether the other side has gone, though nothing is read or written. Whoever asks is woken when it has. A socket tells it when
    /// it is read or written.
    fn poll_gone(&self, _: &Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Whether who waits for it is woken by the runtime only, never by a task that is at work.
    fn is_socket(&self) -> bool {
        false
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

    fn is_socket(&self) -> bool {
        true
    }
}

/// One direction.
pub struct Half {
    /// Whether the source will wake the tunnel. Each time one direction has something the other one is looked at too.
    waiting: Waiting,
    /// What the other side did not take yet.
    rest: Bytes,
    pub tracker: Option<FrameTracker>,
    /// Nothing more is read: the source ended, or this direction is being closed.
    pub ended: bool,
    /// Something was written that TLS may still hold.
    unflushed: bool,
    /// The end was passed on.
    shut: bool,
    /// Bytes that the other side took.
    pub moved: usize,
    /// It stopped for the sake of others.
    paused: bool,
}

impl Half {
    pub fn new(ahead: &[u8], tracked: bool) -> Self {
        let mut tracker = tracked.then(FrameTracker::default);
        if let Some(tracker) = &mut tracker {
            tracker.advance(ahead);
        }
        let rest = Bytes::copy_from_slice(ahead);
        Self {
            waiting: Waiting::default(),
            rest,
            tracker,
            ended: false,
            unflushed: false,
            shut: false,
            moved: 0,
            paused: false,
        }
    }

    pub fn is_drained(&self) -> bool {
        self.rest.is_empty()
    }

    /// Whether everything that was passed on is whole messages.
    pub fn is_at_border(&self) -> bool {
        self.is_drained() && self.tracker.as_ref().is_none_or(FrameTracker::is_at_border)
    }

    /// Whether nothing is left to be done until there is something to read, for which the tunnel will be woken.
    #[inline]
    pub fn is_resting(&self) -> bool {
        self.waiting.is_entered() && self.is_drained() && !self.unflushed && !self.ended
    }

    /// The tunnel is polled by a task that is entered nowhere yet.
    pub fn meet_task(&mut self) {
        self.waiting = Waiting::default();
    }

    /// Whether it stopped for the sake of others: it has to be polled again.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Moves what can be moved, of what is read so many pieces. With `last` set, reads no further than to the end of a message. `Ready`
    /// once shut.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Readable,
        to: &mut impl Readable,
        last: bool,
        pieces: usize,
    ) -> Poll<io::Result<()>> {
        // Something wakes the tunnel for one of its directions; this is the other.
        if self.is_resting() && !from.is_readable() {
            return Poll::Pending;
        }
        self.paused = false;
        for _ in 0..pieces {
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
        self.paused = true;
        Poll::Pending
    }

    /// From a rest, passes on what came. There is more to do than that unless it rests again.
    #[inline(never)]
    pub fn pass(&mut self, cx: &mut Context<'_>, from: &mut impl Readable, to: &mut impl Readable) -> io::Result<()> {
        let _ = SPACE.with_borrow_mut(|space| self.read(cx, from, to, false, space))?;
        if !self.is_resting() {
            // TLS holds what was written until it is flushed, and says only when asked again that nothing more came.
            let _ = self.poll(cx, from, to, false, 1)?;
        }
        Ok(())
    }

    /// Reads one piece, and passes on what the other side takes at once.
    #[expect(clippy::inline_always, reason = "it is all that there is to do for a message")]
    #[inline(always)]
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Readable,
        to: &mut impl Readable,
        last: bool,
        space: &mut [u8; BUFFER],
    ) -> Poll<io::Result<()>> {
        let read = ready!(from.poll_take(cx, &mut self.waiting, space))?;
        let mut data = &space[..read];
        self.ended = data.is_empty();
        if let Some(tracker) = &mut self.tracker {
            let whole = tracker.advance(data);
            if let (true, Some(whole)) = (last, whole) {
                // What follows would be a message begun and never ended.
                data = &data[..whole];
                tracker.forget_begun();
            }
        }
        if data.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let written = match to.poll_give(cx, data)? {
            Poll::Ready(written) => {
                self.count(to, written)?;
                written
            }
            Poll::Pending => 0,
        };
        if written < data.len() {
            self.rest = Bytes::copy_from_slice(&data[written..]);
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::net::pair;

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
        let ((mut from, mut client), mut half) = (pair().await?, Half::new(&[], false));
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(half.poll(&mut nobody, &mut from, &mut Endless, false, 5).is_pending() && half.is_resting());
        half.meet_task();
        let moved = poll_fn(|cx| match half.poll(cx, &mut from, &mut Endless, false, 5)? {
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

    #[test]
    fn who_always_has_more_to_move_lets_others_have_their_turn_and_says_so() {
        let mut half = Half::new(&[], false);
        let mut nobody = Context::from_waker(Waker::noop());
        for round in 1..=3 {
            assert!(half.poll(&mut nobody, &mut Endless, &mut Endless, false, 5).is_pending() && half.is_paused());
            assert_eq!(half.moved, round * 5 * BUFFER);
        }
    }
}
