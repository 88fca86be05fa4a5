//! Where a stream may be ended without breaking what is in it: between two server-sent events, between two gRPC messages.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::events::EventBorder;
use super::grpc;
use crate::pool::CutReason;

/// Follows a stream and knows whether what was passed on is whole.
#[derive(Clone, Debug)]
pub enum Border {
    /// Server-sent events.
    Events(EventBorder),
    /// gRPC messages.
    Messages(MessageBorder),
}

/// What a response is, by its head.
#[derive(Debug)]
pub enum Nature {
    /// It has an end of its own.
    Answer,
    /// It may go on for ever; in it, where it may be ended, if that can be seen.
    Stream(Option<Border>),
}

impl Nature {
    /// By the content's type.
    pub fn of(headers: &HeaderMap) -> Self {
        let Some(kind) = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) else { return Self::Answer };
        let after = |prefix: &str| {
            let (start, rest) = kind.split_at_checked(prefix.len())?;
            start.eq_ignore_ascii_case(prefix.as_bytes()).then_some(rest)
        };
        if after("text/event-stream").is_some() {
            // The borders of a compressed stream cannot be seen.
            let plain = !headers.contains_key(CONTENT_ENCODING);
            return Self::Stream(plain.then(|| Border::Events(EventBorder::default())));
        }
        if let Some(rest) = after("application/grpc") {
            // Not gRPC-Web, which has its trailers in the body.
            let plain = grpc::is_grpc_suffix(rest);
            return Self::Stream(plain.then(|| Border::Messages(MessageBorder::default())));
        }
        if after("multipart/x-mixed-replace").is_some() { Self::Stream(None) } else { Self::Answer }
    }
}

impl Border {
    /// Whether everything seen so far is whole.
    pub fn is_at_border(&self) -> bool {
        match self {
            Self::Events(border) => border.is_at_border(),
            Self::Messages(border) => border.is_at_border(),
        }
    }

    /// Takes the next piece. Returns how much of it belongs to whole events or messages, if one ends in it.
    pub fn advance(&mut self, data: &[u8]) -> Option<usize> {
        match self {
            Self::Events(border) => border.advance(data),
            Self::Messages(border) => border.advance(data),
        }
    }

    /// What is behind the last whole one was dropped.
    pub fn restart(&mut self) {
        match self {
            Self::Events(border) => *border = EventBorder::default(),
            Self::Messages(border) => *border = MessageBorder::default(),
        }
    }

    /// What tells the client that the stream was ended and that it should come back. Events need nothing: a client of them
    /// comes back by itself.
    pub fn farewell(&self, reason: CutReason) -> Option<HeaderMap> {
        match self {
            Self::Events(_) => None,
            Self::Messages(_) => Some(grpc::farewell(reason)),
        }
    }
}

/// Follows gRPC's framing: a byte of flags, four of length, the message ("gRPC over HTTP2", Length-Prefixed-Message).
#[derive(Clone, Debug, Default)]
pub struct MessageBorder {
    /// Bytes of the prefix that were seen.
    prefix: u8,
    /// Bytes of the message that are still to come, as far as the prefix tells.
    left: u32,
}

/// Bytes before a message.
const PREFIX: u8 = 5;

impl MessageBorder {
    /// Whether everything seen so far is whole messages.
    pub fn is_at_border(&self) -> bool {
        self.prefix == 0
    }

    /// Takes the next piece. Returns how much of it belongs to whole messages, if one ends in it.
    pub fn advance(&mut self, data: &[u8]) -> Option<usize> {
        let (mut at, mut whole) = (0, None);
        while at < data.len() {
            if self.prefix < PREFIX {
                if self.prefix > 0 {
                    self.left = self.left << 8 | u32::from(data[at]);
                }
                self.prefix += 1;
                at += 1;
            } else {
                let taken = (self.left as usize).min(data.len() - at);
                self.left -= taken as u32;
                at += taken;
            }
            if self.prefix == PREFIX && self.left == 0 {
                *self = Self::default();
                whole = Some(at);
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        let one = |message: &Vec<u8>| {
            let length = (message.len() as u32).to_be_bytes();
            [&[0][..], &length[..], &message[..]].concat()
        };
        messages.iter().flat_map(one).collect()
    }

    #[test]
    fn a_message_ends_where_its_length_says() {
        let bytes = framed(&[b"ab".to_vec(), Vec::new(), vec![7; 300]]);
        let mut border = MessageBorder::default();
        assert!(border.is_at_border());
        assert_eq!(border.advance(&bytes[..6]), None);
        assert!(!border.is_at_border());
        assert_eq!(border.advance(&bytes[6..20]), Some(6), "both short ones");
        assert_eq!(border.advance(&bytes[20..]), Some(bytes.len() - 20));
        assert!(border.is_at_border());
    }

    #[test]
    fn grpc_is_told_from_its_relatives() {
        for (kind, stream, bordered) in [
            ("application/grpc", true, true),
            ("application/grpc+proto", true, true),
            ("Application/gRPC; x=y", true, true),
            ("application/grpc-web+proto", true, false),
            ("text/event-stream; charset=utf-8", true, true),
            ("multipart/x-mixed-replace; boundary=x", true, false),
            ("application/json", false, false),
            ("app", false, false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            let nature = Nature::of(&headers);
            assert_eq!(matches!(nature, Nature::Stream(_)), stream, "{kind}");
            assert_eq!(matches!(nature, Nature::Stream(Some(_))), bordered, "{kind}");
        }
    }

    proptest! {
        #[test]
        fn the_pieces_in_which_messages_come_do_not_matter(
            messages in vec(vec(any::<u8>(), 0..20), 0..6),
            cuts in vec(1usize..15, 0..30),
            rest in 0usize..8,
        ) {
            let mut bytes = framed(&messages);
            let whole = bytes.len();
            bytes.extend(&framed(&[vec![1; 20]])[..rest]);
            let mut border = MessageBorder::default();
            let (mut at, mut last) = (0usize, 0);
            for size in cuts.into_iter().chain([usize::MAX]) {
                let end = at.saturating_add(size).min(bytes.len());
                if let Some(part) = border.advance(&bytes[at..end]) {
                    last = at + part;
                }
                at = end;
            }
            prop_assert_eq!(last, whole);
            prop_assert_eq!(border.is_at_border(), rest == 0);
        }
    }
}
