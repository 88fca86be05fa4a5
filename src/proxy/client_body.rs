//! A request's body as it comes from the client, in either version of HTTP.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use hyper::body::{Body, Frame, SizeHint};

use super::body::BodyError;
use super::front::LineBody;

/// What the client sends.
pub enum ClientBody {
    /// Over HTTP/1; none if there is no body.
    Http1(Option<LineBody>),
    /// Over HTTP/2; none if there is no body.
    Http2(Option<Box<Http2Body>>),
}

/// One stream's body.
pub struct Http2Body {
    stream: RecvStream,
    length: Option<u64>,
    /// Bytes of the last piece: the client may send as much anew once the next piece is asked for.
    owed: usize,
}

impl ClientBody {
    /// The body of a stream; `length`: what its head says.
    pub fn http2(stream: RecvStream, length: Option<u64>) -> Self {
        if stream.is_end_stream() {
            return Self::Http2(None);
        }
        Self::Http2(Some(Box::new(Http2Body { stream, length, owed: 0 })))
    }

    /// Whether the client waits to be told to send it, by being asked for it (RFC 9110 §10.1.1).
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Http1(Some(body)) if body.is_held())
    }
}

impl Http2Body {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let owed = std::mem::take(&mut self.owed);
        if owed > 0 {
            // Fails only for a stream that has ended.
            let _ = self.stream.flow_control().release_capacity(owed);
        }
        let failed = |_| BodyError::Client;
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) => {
                self.owed = data.len();
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(failed(error)))),
            None => {
                let trailers = ready!(self.stream.poll_trailers(cx)).map_err(failed)?;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Http1(Some(body)) => body.poll_frame(cx).map_err(|_| BodyError::Client),
            Self::Http2(Some(body)) => body.poll_frame(cx),
            Self::Http1(None) | Self::Http2(None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.as_ref().is_none_or(LineBody::is_end_stream),
            Self::Http2(body) => body.as_ref().is_none_or(|body| body.stream.is_end_stream()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(None) | Self::Http2(None) => SizeHint::with_exact(0),
            Self::Http1(Some(body)) => body.size_hint(),
            Self::Http2(Some(body)) => body.length.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}
