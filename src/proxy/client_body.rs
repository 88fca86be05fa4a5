//! A request's body as it comes from the client, in either version of HTTP.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::body::BodyError;
use super::front::{LineBody, StreamBody};

/// What the client sends.
pub enum ClientBody {
    /// Over HTTP/1; none if there is no body.
    Http1(Option<LineBody>),
    /// Over HTTP/2; none if there is no body.
    Http2(Option<StreamBody>),
}

impl ClientBody {
    /// Whether the client waits to be told to send it, by being asked for it (RFC 9110 §10.1.1).
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Http1(Some(body)) if body.is_held())
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Http1(Some(body)) => body.poll_frame(cx).map_err(|_| BodyError::Client),
            Self::Http2(Some(body)) => body.poll_frame(cx).map_err(|_| BodyError::Client),
            Self::Http1(None) | Self::Http2(None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.as_ref().is_none_or(LineBody::is_end_stream),
            Self::Http2(body) => body.as_ref().is_none_or(StreamBody::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(None) | Self::Http2(None) => SizeHint::with_exact(0),
            Self::Http1(Some(body)) => body.size_hint(),
            Self::Http2(Some(body)) => body.size_hint(),
        }
    }
}
