//! Where a response without a natural end may be ended, so that the client has whole parts only.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use hyper::body::Frame;

use super::events::EventBorder;
use super::grpc::{self, MessageBorder};
use crate::pool::CutReason;

/// `Some` for a response without a natural end; in it, the tracker of its borders if it has any. HTTP/1 has no way to end a
/// gRPC call but to break off.
#[expect(clippy::option_option, reason = "two different questions: is it a stream, and can its borders be seen")]
pub fn of_stream(headers: &HeaderMap, http2: bool) -> Option<Option<Border>> {
    let kind = headers.get(CONTENT_TYPE)?.as_bytes();
    let is = |prefix: &str| kind.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()));
    if is("text/event-stream") {
        // The borders of a compressed stream cannot be seen.
        let plain = !headers.contains_key(CONTENT_ENCODING);
        return Some(plain.then(|| Border::Events(EventBorder::default())));
    }
    if is("application/grpc") {
        return Some((http2 && grpc::is_grpc(headers)).then(|| Border::Messages(MessageBorder::default())));
    }
    is("multipart/x-mixed-replace").then_some(None)
}

/// Follows a response.
#[derive(Debug)]
pub enum Border {
    /// Server-sent events.
    Events(EventBorder),
    /// A gRPC call.
    Messages(MessageBorder),
}

impl Border {
    /// Whether everything seen so far is whole parts.
    pub fn is_at_border(&self) -> bool {
        match self {
            Self::Events(border) => border.is_at_border(),
            Self::Messages(border) => border.is_at_border(),
        }
    }

    /// Takes the next piece. Returns how much of it belongs to whole parts, if one ends in it.
    pub fn advance(&mut self, data: &[u8]) -> Option<usize> {
        match self {
            Self::Events(border) => border.advance(data),
            Self::Messages(border) => border.advance(data),
        }
    }

    /// What is behind the last border is dropped.
    pub fn forget(&mut self) {
        match self {
            Self::Events(border) => *border = EventBorder::default(),
            Self::Messages(border) => *border = MessageBorder::default(),
        }
    }

    /// What the client is told at the end; nothing if it understands a mere end.
    pub fn farewell(&self, reason: CutReason) -> Option<Frame<Bytes>> {
        match self {
            Self::Events(_) => None,
            Self::Messages(_) => Some(Frame::trailers(grpc::farewell(reason))),
        }
    }
}
