//! The request's body on its way to a node, as fast as the node's window lets it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h2::{Reason, SendStream};
use bytes::Bytes;
use hyper::body::Body;

use super::head;
use crate::proxy::body::ReqBody;

/// Why an exchange on a stream failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client's side of the request's body; the stream was reset.
    Client,
    /// The stream's, or its connection's.
    Stream(::h2::Error),
}

/// A body and the stream it goes to.
pub(super) struct Upload {
    body: ReqBody,
    stream: SendStream<Bytes>,
    /// A piece that waits for room in the node's window, and whether it is the last.
    piece: Option<(Bytes, bool)>,
}

impl Upload {
    pub(super) fn new(body: ReqBody, stream: SendStream<Bytes>) -> Self {
        Self { body, stream, piece: None }
    }

    /// Hands over what can be. `Ready` when that was all of it, or nothing more can be.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            if let Some((piece, last)) = self.piece.take() {
                if !piece.is_empty() && self.stream.capacity() == 0 {
                    match self.stream.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Failure::Stream(error))),
                        Poll::Ready(None) => return Poll::Ready(Err(Failure::Stream(Reason::STREAM_CLOSED.into()))),
                        Poll::Pending => {
                            self.piece = Some((piece, last));
                            return Poll::Pending;
                        }
                    }
                    if self.stream.capacity() == 0 {
                        self.piece = Some((piece, last));
                        continue;
                    }
                }
                self.stream.send_data(piece, last).map_err(Failure::Stream)?;
                if last {
                    return Poll::Ready(Ok(()));
                }
            }
            if let Poll::Ready(reset) = self.stream.poll_reset(cx) {
                return Poll::Ready(Err(Failure::Stream(reset.map_or_else(|error| error, Into::into))));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => {
                    self.stream.send_data(Bytes::new(), true).map_err(Failure::Stream)?;
                    return Poll::Ready(Ok(()));
                }
                Some(Err(_)) => {
                    // What came so far must not look like all of it.
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Failure::Client));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => {
                        // Just enough to stand in line for the connection's window: to ask for all of it would take from it
                        // what other streams could use now.
                        self.stream.reserve_capacity(1);
                        self.piece = Some((piece, self.body.is_end_stream()));
                    }
                    Err(frame) => {
                        if let Ok(mut trailers) = frame.into_trailers() {
                            head::clean(&mut trailers);
                            self.stream.send_trailers(trailers).map_err(Failure::Stream)?;
                            return Poll::Ready(Ok(()));
                        }
                    }
                },
            }
        }
    }

    /// Has a task of its own hand over the rest, while the response flows.
    pub(super) fn detach(mut self) -> Detached {
        self.body.settle();
        Detached(tokio::task::spawn_local(async move {
            // The response tells of a failure; without one, a body that could not be handed over was not wanted.
            let _ = poll_fn(|cx| self.poll(cx)).await;
        }))
    }
}

/// An upload that goes on by itself; dropped with this.
#[derive(Debug)]
pub(super) struct Detached(tokio::task::JoinHandle<()>);

impl Drop for Detached {
    fn drop(&mut self) {
        self.0.abort();
    }
}
