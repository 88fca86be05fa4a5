//! A response that comes while its request is still on its way: both move in a task of their own, so that a client that does not
//! read yet can go on sending. Rare; and such a connection is not used again.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Upstream;
use crate::net::http1::Error;

/// What such a response's body comes through; dropped with it, the connection ends.
#[derive(Debug)]
pub struct Detached {
    frames: mpsc::Receiver<Result<Frame<Bytes>, Error>>,
    /// Bytes that are still to come, where that is known.
    left: Option<u64>,
    ended: bool,
    task: JoinHandle<()>,
}

impl Detached {
    /// Has a task drive the connection until the response has ended.
    pub fn new(upstream: Box<Upstream>) -> Self {
        let (left, ended) = (upstream.left(), upstream.is_end_stream());
        let (sender, frames) = mpsc::channel(1);
        let task = tokio::task::spawn_local(run(upstream, sender));
        Self { frames, left, ended, task }
    }

    /// Whether all of the response was taken.
    pub fn is_end_stream(&self) -> bool {
        self.ended
    }

    /// The bytes that are still to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        self.left
    }

    /// The next piece of the response's body, or its trailers.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(self.frames.poll_recv(cx));
        match (&frame, &mut self.left) {
            (Some(Ok(frame)), Some(left)) => {
                *left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len) as u64);
                self.ended = *left == 0;
            }
            (None | Some(Err(_)), _) => self.ended = true,
            (Some(Ok(_)), None) => {}
        }
        Poll::Ready(frame)
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(mut upstream: Box<Upstream>, sender: mpsc::Sender<Result<Frame<Bytes>, Error>>) {
    loop {
        let mut room = pin!(sender.reserve());
        let room = poll_fn(|cx| {
            // Whether the answer is taken or not.
            let _ = upstream.wire.poll_send(cx);
            room.as_mut().poll(cx)
        });
        let Ok(room) = room.await else { return };
        let Some(frame) = poll_fn(|cx| upstream.poll_frame(cx)).await else { return };
        room.send(frame);
    }
}
