//! The body of a response that comes on a stream.

use std::task::{Context, Poll, ready};

use ::h2::RecvStream;
use bytes::Bytes;
use hyper::body::Frame;

use super::carriers::Place;
use super::upload::Detached;
use crate::proxy::body::BodyError;

/// What follows the head of a response. Dropped before its end, it resets the stream.
pub struct Answer {
    recv: RecvStream,
    /// Bytes that are still to come, if the head tells. More or fewer are an error of the stream.
    left: Option<u64>,
    /// Bytes that were given on and that the node may send again as many of.
    owed: usize,
    /// All data came; trailers may follow.
    data_ended: bool,
    // Held for their drop: the rest of the request's body, and the place on the connection.
    _upload: Option<Detached>,
    _place: Place,
}

impl Answer {
    /// `length`: as its head tells it.
    pub(super) fn new(recv: RecvStream, length: Option<u64>, upload: Option<Detached>, place: Place) -> Self {
        Self { recv, left: length, owed: 0, data_ended: false, _upload: upload, _place: place }
    }

    /// Whether nothing more comes.
    pub fn is_end_stream(&self) -> bool {
        self.recv.is_end_stream()
    }

    /// Bytes that are still to come, if that is known.
    pub fn left(&self) -> Option<u64> {
        if self.is_end_stream() { Some(0) } else { self.left }
    }

    /// The next piece, or the trailers. To ask for it says that the client took the last one: only then may the node send
    /// more.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.owed > 0 {
            // Fails only if the stream has ended, and then nobody needs room.
            let _ = self.recv.flow_control().release_capacity(std::mem::take(&mut self.owed));
        }
        while !self.data_ended {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.owed = data.len();
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(BodyError::Stream(error)))),
                None => self.data_ended = true,
            }
        }
        match ready!(self.recv.poll_trailers(cx)) {
            Ok(Some(mut trailers)) => {
                super::head::clean(&mut trailers);
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(BodyError::Stream(error)))),
        }
    }
}
