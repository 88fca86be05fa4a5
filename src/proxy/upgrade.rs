//! After a 101: bytes both ways, until one side ends, nothing moves for too long, or the node has to be left.
//!
//! A WebSocket that must end gets a Close frame between two messages, so that the client knows that it should come back;
//! anything else can only be closed.

mod half;
mod shortcut;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use self::half::Half;
pub use self::half::Readable;
use self::shortcut::{Entry, Pass};
use super::access_log::Outcome;
use super::call::{Registered, Verdict};
use super::claim::Permit;
use super::view::Slot;
use super::websocket::{CLOSE_SERVICE_RESTART, FrameTracker};
use crate::model::WorkKind;
use crate::net::Stream;

/// So many times a direction reads before others have their turn.
const PIECES: usize = 32;

/// A tunnel that waits for its client's side.
#[derive(Debug)]
pub struct Tunnel {
    node: Stream,
    /// What the node sent right behind its 101.
    node_ahead: Bytes,
    call: Registered,
    /// How long the other side of a WebSocket may be silent when one has ended.
    half_closed: Duration,
    // Held for their drop: the claim on the node and the place among its connections.
    _permit: Permit,
    _slot: Slot,
}

/// Both directions and what they run on, for the tunnel's task and for the short way.
struct Pipe<C> {
    node: Stream,
    client: C,
    down: Half,
    up: Half,
    /// Who is woken when a direction can go on. Written by the task.
    waker: Waker,
    /// The tunnel is to end between two messages. Written by the task.
    cut: bool,
    /// The client has been told to come back, or is being told.
    closing: bool,
    /// The node ended its direction while the client had not.
    node_first: bool,
    /// Both directions rest, and the tunnel is not to end: the short way is open.
    at_rest: bool,
    /// What the short way came to, for the task.
    failed: Option<io::Error>,
}

impl<C: Readable> Pipe<C> {
    /// Each `ahead` is what came right behind the head of that side.
    fn new((node, node_ahead): (Stream, &[u8]), (client, client_ahead): (C, &[u8]), tracked: bool) -> Self {
        Self {
            node,
            client,
            down: Half::new(node_ahead, tracked),
            up: Half::new(client_ahead, tracked),
            waker: Waker::noop().clone(),
            cut: false,
            closing: false,
            node_first: false,
            at_rest: false,
            failed: None,
        }
    }

    /// Moves what can be moved. `Ready` when both directions are done.
    fn poll(&mut self) -> Poll<io::Result<()>> {
        self.at_rest = false;
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let Self { node, client, down, up, .. } = self;
        let cx = &mut Context::from_waker(&self.waker);
        let down_done = down.poll(cx, node, client, self.cut, PIECES)?.is_ready();
        if self.cut && !self.closing && !down.ended && down.is_at_border() {
            self.closing = true;
            // Nothing may follow a Close (RFC 6455 §5.5.1), so there is none of ours behind the node's.
            let said = down.tracker.as_ref().is_some_and(FrameTracker::has_closed);
            *down = Half::new(if said { &[] } else { CLOSE_SERVICE_RESTART }, false);
            // Nothing more comes from the node; the client still may say what it has to, up to its own Close.
            let written = down.poll(cx, node, client, true, PIECES)?;
            debug_assert!(written.is_pending(), "a closing half does not end by itself");
        }
        self.node_first |= down.ended && !up.ended && !self.closing;
        let up_done = up.poll(cx, client, node, false, PIECES)?.is_ready();
        let answered = || up.is_drained() && up.tracker.as_ref().is_some_and(FrameTracker::has_closed);
        let done = if self.closing { up_done || answered() } else { down_done && up_done };
        if done {
            if self.closing {
                // Best effort: both have said all that they have to.
                let _ = Pin::new(&mut *client).poll_shutdown(cx)?;
            }
            return Poll::Ready(Ok(()));
        }
        if client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.at_rest = !self.cut && down.is_resting() && up.is_resting();
        Poll::Pending
    }

    /// From a rest, passes on what came. There is more to do than that unless it rests again.
    #[inline]
    fn pass(&mut self) -> io::Result<()> {
        // Neither an error nor a panic leaves it at rest.
        self.at_rest = false;
        let Self { node, client, down, up, .. } = self;
        let cx = &mut Context::from_waker(&self.waker);
        let mut at_rest = true;
        if node.is_readable() {
            down.pass(cx, node, client)?;
            at_rest = down.is_resting();
        }
        // Who ended first is for the task to see.
        if at_rest && client.is_readable() {
            up.pass(cx, client, node)?;
            at_rest = up.is_resting();
        }
        self.at_rest = at_rest;
        Ok(())
    }
}

impl<C: Readable> Pass for RefCell<Pipe<C>> {
    fn pass(&self) -> bool {
        // Its own task may be at work, and have used up its turn.
        let Ok(mut pipe) = self.try_borrow_mut() else { return false };
        if pipe.at_rest
            && let Err(error) = pipe.pass()
        {
            pipe.failed = Some(error);
        }
        pipe.at_rest
    }

    fn spoil(&self) {
        self.borrow_mut().failed = Some(io::Error::other("a panic while a message was passed on"));
    }
}

impl Tunnel {
    /// A tunnel to `node`, with what came behind its 101, for the call that got that.
    pub fn new(
        (node, node_ahead): (Stream, Bytes),
        call: Registered,
        half_closed: Duration,
        permit: Permit,
        slot: Slot,
    ) -> Self {
        Self { node, node_ahead, call, half_closed, _permit: permit, _slot: slot }
    }

    /// Runs to the end of both directions.
    pub async fn run(self: Box<Self>, client: impl Readable + 'static, client_ahead: Bytes) {
        // Dropped the other way round.
        let Self { _slot, _permit, half_closed, call, node_ahead, node } = *self;
        let tracked = call.kind() == WorkKind::WebSocket;
        let is_socket = client.is_socket();
        let pipe = Pipe::new((node, &node_ahead), (client, &client_ahead), tracked);
        let pipe = Rc::new(RefCell::new(pipe));
        let entry = is_socket.then(|| Entry::open(Rc::clone(&pipe) as Rc<dyn Pass>)).flatten();
        let mut task = Waker::noop().clone();
        let mut whole = tracked;
        let result: io::Result<()> = poll_fn(|cx| {
            let mut pipe = pipe.borrow_mut();
            if !task.will_wake(cx.waker()) {
                task.clone_from(cx.waker());
                pipe.waker = entry.as_ref().map_or_else(|| task.clone(), |entry| entry.waker(task.clone()));
                pipe.down.meet_task();
                pipe.up.meet_task();
            }
            if call.poll_killed(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            pipe.cut = call.is_cut();
            if pipe.cut && !tracked {
                return Poll::Ready(Ok(()));
            }
            let polled = pipe.poll();
            if whole && (pipe.down.ended || pipe.up.ended) {
                whole = false;
                // No WebSocket says more than what is on its way already: a Close has been sent, or never will be.
                call.limit_silence(half_closed);
            }
            if polled.is_pending() && (pipe.down.is_paused() || pipe.up.is_paused()) {
                // Others have their turn, and the runtime a look at their sockets, before this task goes on.
                let _ = pin!(tokio::task::yield_now()).poll(cx);
            }
            polled
        })
        .await;
        drop(entry);
        let pipe = pipe.borrow();
        call.count_received(pipe.up.moved);
        call.count_sent(pipe.down.moved);
        call.note_end(match (call.verdict(), &result) {
            (Some(Verdict::Cut(reason)), _) => Outcome::cut(reason),
            (Some(Verdict::TimedOut(_)), _) => Outcome::TimeoutBody,
            (None, Err(_)) => Outcome::TunnelBroken,
            (None, Ok(())) if pipe.node_first => Outcome::TunnelNode,
            (None, Ok(())) => Outcome::TunnelClient,
        });
        if let Err(error) = result {
            tracing::debug!(client = %call.front.remote(), %error, "tunnel ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::shortcut::tests::Count;
    use super::*;
    use crate::net::pair;

    /// A tunnel whose task is nobody but the count of how often it was woken.
    async fn opened() -> io::Result<(Rc<RefCell<Pipe<Stream>>>, Entry, Arc<Count>, TcpStream, TcpStream)> {
        let ((node, node_peer), (client, client_peer)) = (pair().await?, pair().await?);
        let pipe = Rc::new(RefCell::new(Pipe::new((node, &[]), (client, &[]), true)));
        let entry = Entry::open(Rc::clone(&pipe) as Rc<dyn Pass>).ok_or(io::ErrorKind::StorageFull)?;
        let task = Arc::new(Count::default());
        pipe.borrow_mut().waker = entry.waker(Arc::clone(&task).into());
        assert!(pipe.borrow_mut().poll().is_pending());
        Ok((pipe, entry, task, node_peer, client_peer))
    }

    #[tokio::test]
    async fn messages_both_ways_wake_no_task_and_the_end_wakes_it() -> io::Result<()> {
        let (pipe, _entry, task, mut node, mut client) = opened().await?;
        for _ in 0..5 {
            let mut message = [0; 7];
            client.write_all(b"\x82\x05hello").await?;
            node.read_exact(&mut message).await?;
            assert_eq!(&message, b"\x82\x05hello");
            node.write_all(b"\x81\x05world").await?;
            client.read_exact(&mut message).await?;
            assert_eq!(&message, b"\x81\x05world");
        }
        assert_eq!((task.times(), pipe.borrow().up.moved, pipe.borrow().down.moved), (0, 35, 35));
        drop(node);
        task.woken(1).await;
        assert!(pipe.borrow_mut().poll().is_pending() && pipe.borrow().node_first);
        drop(client);
        task.woken(2).await;
        assert!(matches!(pipe.borrow_mut().poll(), Poll::Ready(Ok(()))));
        Ok(())
    }

    #[tokio::test]
    async fn what_the_other_side_does_not_take_is_left_to_the_task() -> io::Result<()> {
        let (pipe, _entry, task, mut node, mut client) = opened().await?;
        let flood = async {
            loop {
                node.write_all(&[0; 16_000]).await?;
            }
        };
        let stuck = async {
            let mut seen = 0;
            while !pipe.borrow().client.pulse().is_blocked() {
                let woken = task.times();
                if woken > seen || pipe.borrow().down.is_paused() {
                    seen = woken;
                    assert!(pipe.borrow_mut().poll().is_pending());
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            failed = flood => return failed,
            () = stuck => {}
        }
        // As soon as there is room it is woken.
        let woken = task.times();
        assert!(woken > 0 && pipe.borrow_mut().poll().is_pending());
        let mut taken = vec![0; pipe.borrow().down.moved];
        client.read_exact(&mut taken).await?;
        task.woken(woken + 1).await;
        Ok(())
    }

    #[tokio::test]
    async fn a_tunnel_that_is_to_end_is_left_to_its_task() -> io::Result<()> {
        let (pipe, _entry, task, _node, mut client) = opened().await?;
        pipe.borrow_mut().cut = true;
        assert!(pipe.borrow_mut().poll().is_pending());
        client.write_all(b"\x82\x05hello").await?;
        task.woken(1).await;
        assert_eq!(pipe.borrow().up.moved, 0);
        Ok(())
    }

    #[tokio::test]
    async fn a_broken_connection_is_told_to_the_task() -> io::Result<()> {
        let (pipe, _entry, task, _node, client) = opened().await?;
        client.set_zero_linger()?;
        drop(client);
        task.woken(1).await;
        assert!(matches!(pipe.borrow_mut().poll(), Poll::Ready(Err(_))));
        Ok(())
    }
}
