//! What a node says before its answer, on its way to the client: `103 Early Hints` (RFC 8297) and whatever else comes as an
//! interim response (RFC 9110 §15.2).
//!
//! A try that fails and is made again elsewhere may have hinted already, and so may one whose answer is not the one that the client
//! gets: hints promise nothing (RFC 8297 §2).

use std::cell::{Cell, RefCell};

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use super::super::door;
use super::super::headers::{HOP_BY_HOP, tokens};
use super::Call;
use crate::config;

/// Interim responses that a request may bring its client. HTTP/2 does not tell when they have left, so what a client does not take
/// is bounded by what there may be at all.
const MOST: u8 = 8;

/// Bytes of their fields, all together, counted as HTTP/1 writes them.
const SIZE: usize = 16 * 1024;

/// An interim response, as a client may hear it.
pub type Hint = Response<()>;

/// Those of a call.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// Set by the front: there is a client that knows them.
    wanted: Cell<bool>,
    /// Added to by the exchange, taken by the front. In a box, as nearly no request has any.
    kept: RefCell<Option<Box<Kept>>>,
}

#[derive(Debug, Default)]
struct Kept {
    waiting: Vec<Hint>,
    /// What came so far.
    count: u8,
    size: usize,
}

impl Call {
    /// Told by the front of a client that knows interim responses, which is none of HTTP/1.0.
    pub fn want_hints(&self) {
        self.hints.wanted.set(true);
    }

    /// Told by the exchange when an interim response came. A `100` is no news for the client, who is told when its body is wanted; a
    /// `101` in HTTP/2 is none for anybody.
    pub fn hint(&self, status: StatusCode, headers: &HeaderMap, service: &config::Service) {
        let own = matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS);
        if own || !self.hints.wanted.get() {
            return;
        }
        let mut kept = self.hints.kept.borrow_mut();
        let kept = kept.get_or_insert_default();
        if kept.count >= MOST {
            return;
        }
        let mut headers = for_client(headers);
        if let Some(door) = &service.door {
            door::hide(&door.response_headers, &mut headers);
        }
        let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if size > SIZE - kept.size {
            return;
        }
        kept.count += 1;
        kept.size += size;
        let mut hint = Response::new(());
        *hint.status_mut() = status;
        *hint.headers_mut() = headers;
        kept.waiting.push(hint);
    }

    /// Taken by the front each time that the handler was polled, for they are worth something only until the answer comes.
    pub fn take_hints(&self) -> Vec<Hint> {
        self.hints.kept.borrow_mut().as_mut().map(|kept| std::mem::take(&mut kept.waiting)).unwrap_or_default()
    }

    /// Another try begins: what the last one said and nobody heard is not said any more.
    pub(super) fn forget_hints(&self) {
        if let Some(kept) = &mut *self.hints.kept.borrow_mut() {
            kept.waiting.clear();
        }
    }
}

/// The fields without those that hold for one connection (RFC 9110 §7.6.1), and as copies: they may wait for longer than a node's
/// connection needs the buffer that it reads into.
fn for_client(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<&str> = headers.get_all(CONNECTION).iter().flat_map(tokens).collect();
    let mut kept = HeaderMap::new();
    for (name, value) in headers {
        let is_named = || named.iter().any(|option| option.eq_ignore_ascii_case(name.as_str()));
        if HOP_BY_HOP.contains(name) || *name == CONTENT_LENGTH || is_named() {
            continue;
        }
        if let Ok(mut copy) = HeaderValue::from_bytes(value.as_bytes()) {
            copy.set_sensitive(value.is_sensitive());
            kept.append(name.clone(), copy);
        }
    }
    kept
}
