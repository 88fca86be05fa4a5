//! Compression on the way out, in the body itself: the client's connection asks for a piece, the node's body is asked for as
//! much as that takes. So a slow client holds the node back as ever, and what has come so far never waits for more: when the
//! node pauses, the encoder is flushed.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use async_compression::Level;
use async_compression::codecs::brotli::params::EncoderParams;
use async_compression::codecs::flate::params::FlateEncoderParams;
use async_compression::codecs::zstd::params::CParameter;
use async_compression::codecs::{BrotliEncoder, EncodeV2, GzipEncoder, ZstdEncoder};
use async_compression::core::util::{PartialBuffer, WriteBuffer};
use bytes::{Buf, Bytes};
use http::header::{
    self, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue, VARY,
};
use http::{Method, Response, StatusCode};
use hyper::body::{Body, Frame};

use super::super::body::{BodyError, RespBody};
use super::Pass;
use crate::config::{Coding, Compression};
use crate::net::http1::digits;

/// Bodies that are being compressed at once on one worker: each takes up to 1 MiB. More go as they are.
const MOST: usize = 128;
/// Bytes that go into the encoder, and come out of it, at once.
const PIECE: usize = 16 * 1024;

/// Fields that were true of the body as the node sent it.
const STALE: [HeaderName; 6] = [
    CONTENT_LENGTH,
    header::ACCEPT_RANGES,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// How this client's answer may be compressed.
#[derive(Debug)]
pub(super) struct Accepted(Option<Coding>);

impl Accepted {
    /// The best for both sides (RFC 9110 §12.5.3).
    pub(super) fn of(compression: Option<&Compression>, headers: &HeaderMap) -> Self {
        let Some(compression) = compression else { return Self(None) };
        if forbids(headers) {
            return Self(None);
        }
        // Who likes it better as it is gets it so.
        let plain = named(headers, "identity").0.unwrap_or(0.0);
        let mut best: Option<(Coding, f32)> = None;
        for coding in &compression.codings {
            let quality = quality(headers, coding.as_str());
            if quality > 0.0 && quality >= plain && best.is_none_or(|(_, other)| quality > other) {
                best = Some((*coding, quality));
            }
        }
        Self(best.map(|(coding, _)| coding))
    }
}

/// How much a client likes a coding, from 0 (not at all) to 1.
fn quality(headers: &HeaderMap, coding: &str) -> f32 {
    let (own, any) = named(headers, coding);
    own.unwrap_or(any)
}

/// How much it likes the coding of this name, if it names it, and any other.
fn named(headers: &HeaderMap, coding: &str) -> (Option<f32>, f32) {
    let mut any = 0.0;
    for item in headers.get_all(ACCEPT_ENCODING).iter().flat_map(|line| line.to_str().unwrap_or_default().split(',')) {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let quality = quality.map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
        if name.eq_ignore_ascii_case(coding) {
            return (Some(quality), any);
        } else if name == "*" {
            any = quality;
        }
    }
    (None, any)
}

/// `Cache-Control: no-transform`, of either side.
fn forbids(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CACHE_CONTROL).iter();
    lines
        .flat_map(|line| line.to_str().unwrap_or_default().split(','))
        .any(|word| word.trim().eq_ignore_ascii_case("no-transform"))
}

/// Compresses an answer, if that may be done.
pub(super) fn apply(pass: &Pass, busy: &Rc<Cell<usize>>, response: &mut Response<RespBody>) {
    let Some(compression) = &pass.state.door.compression else { return };
    if response.status() == StatusCode::NOT_MODIFIED {
        // It says nothing of what it is about, and a cache has to find the answer that it has by this.
        vary(response.headers_mut());
        if pass.accepted.0.is_some() {
            weaken(response.headers_mut());
        }
        return;
    }
    if !is_fit(compression, &pass.method, response) {
        return;
    }
    // To every client: a cache has to know before it gives this answer to another one.
    vary(response.headers_mut());
    let Some(coding) = pass.accepted.0.filter(|_| busy.get() < MOST) else { return };
    let body = match std::mem::replace(response.body_mut(), RespBody::Empty) {
        // It would be.
        body if pass.method == Method::HEAD && body.is_end_stream() => body,
        RespBody::Full(bytes) => {
            let Some(compressed) = whole(coding, &bytes) else {
                *response.body_mut() = RespBody::Full(bytes);
                return;
            };
            RespBody::Full(compressed)
        }
        body => RespBody::Compressed(Box::new(Compressed::new(coding, body, busy))),
    };
    *response.body_mut() = body;
    let headers = response.headers_mut();
    for name in STALE {
        headers.remove(name);
    }
    weaken(headers);
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
}

/// The bytes differ from the node's (RFC 9110 §8.8.1).
fn weaken(headers: &mut HeaderMap) {
    if let Some(tag) = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"))
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        headers.insert(ETAG, weak);
    }
}

fn is_fit(compression: &Compression, method: &Method, response: &Response<RespBody>) -> bool {
    let (status, headers) = (response.status(), response.headers());
    let bare =
        [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::PARTIAL_CONTENT, StatusCode::NOT_MODIFIED];
    if status.is_informational() || bare.contains(&status) {
        return false;
    }
    if headers.contains_key(CONTENT_ENCODING) || headers.contains_key(CONTENT_RANGE) || forbids(headers) {
        return false;
    }
    let length = match response.body() {
        // As it would be for GET, as far as that is told.
        _ if method == Method::HEAD => headers.get(CONTENT_LENGTH).and_then(|length| digits(length.as_bytes())),
        RespBody::Full(bytes) => Some(bytes.len() as u64),
        RespBody::Relay(_) => response.body().size_hint().exact(),
        _ => return false,
    };
    if length.is_some_and(|length| length < compression.least.max(1)) {
        return false;
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "text/event-stream" || kind.starts_with("application/grpc") || kind.starts_with("multipart/") {
        return false;
    }
    compression.types.iter().any(|known| match known.strip_suffix('*') {
        Some(family) => kind.starts_with(family),
        None => kind == *known,
    })
}

fn vary(headers: &mut HeaderMap) {
    let lines = headers.get_all(VARY).iter();
    let mut words = lines.flat_map(|line| line.to_str().unwrap_or_default().split(',')).map(str::trim);
    if !words.any(|word| word == "*" || word.eq_ignore_ascii_case("accept-encoding")) {
        headers.append(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
    }
}

/// With windows of 256 KiB: a larger one would help little, and each of these bodies holds one.
fn encoder(coding: Coding) -> Box<dyn EncodeV2> {
    match coding {
        Coding::Gzip => Box::new(GzipEncoder::new(FlateEncoderParams::from(Level::Precise(5)))),
        Coding::Brotli => {
            Box::new(BrotliEncoder::new(EncoderParams::default().quality(Level::Precise(4)).window_size(18)))
        }
        Coding::Zstd => Box::new(ZstdEncoder::new_with_params(3, &[CParameter::window_log(18)])),
    }
}

/// A body that is at hand, compressed; `None` if that makes it no shorter.
fn whole(coding: Coding, bytes: &Bytes) -> Option<Bytes> {
    let mut encoder = encoder(coding);
    let mut space = vec![0; bytes.len()];
    let mut output = WriteBuffer::new_initialized(&mut space);
    let mut input = PartialBuffer::new(&bytes[..]);
    while !input.unwritten().is_empty() && !output.has_no_spare_space() {
        encoder.encode(&mut input, &mut output).ok()?;
    }
    while !output.has_no_spare_space() {
        if encoder.finish(&mut output).ok()? {
            let length = output.written_len();
            space.truncate(length);
            return Some(space.into());
        }
    }
    None
}

/// A body on its way through an encoder.
pub struct Compressed {
    inner: RespBody,
    encoder: Box<dyn EncodeV2>,
    /// Still to be compressed.
    input: Bytes,
    /// For what comes out, used again for each piece.
    space: Box<[u8]>,
    /// Something went in that may not have come out.
    dirty: bool,
    stage: Stage,
    trailers: Option<Frame<Bytes>>,
    busy: Rc<Cell<usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Flowing,
    /// The node's body is whole; the encoder's end has to come out.
    Finishing,
    Done,
}

impl Drop for Compressed {
    fn drop(&mut self) {
        self.busy.set(self.busy.get() - 1);
    }
}

impl Compressed {
    fn new(coding: Coding, inner: RespBody, busy: &Rc<Cell<usize>>) -> Self {
        busy.set(busy.get() + 1);
        Self {
            inner,
            encoder: encoder(coding),
            input: Bytes::new(),
            space: vec![0; PIECE].into(),
            dirty: false,
            stage: Stage::Flowing,
            trailers: None,
            busy: Rc::clone(busy),
        }
    }

    /// One step of the encoder. What came out, and whether it was all that this step has.
    fn step(&mut self, what: Step) -> std::io::Result<(Option<Bytes>, bool)> {
        let mut output = WriteBuffer::new_initialized(&mut self.space);
        let done = match what {
            Step::Encode => {
                let most = self.input.len().min(PIECE);
                let mut input = PartialBuffer::new(&self.input[..most]);
                self.encoder.encode(&mut input, &mut output)?;
                let taken = input.written_len();
                self.input.advance(taken);
                self.dirty = true;
                true
            }
            Step::Flush => self.encoder.flush(&mut output)?,
            Step::Finish => self.encoder.finish(&mut output)?,
        };
        let written = output.written();
        Ok(((!written.is_empty()).then(|| Bytes::copy_from_slice(written)), done))
    }

    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let what = if !self.input.is_empty() {
                Step::Encode
            } else if self.stage == Stage::Finishing {
                Step::Finish
            } else if self.stage == Stage::Done {
                return Poll::Ready(self.trailers.take().map(Ok));
            } else {
                match Pin::new(&mut self.inner).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        match frame.into_data() {
                            Ok(data) => self.input = data,
                            Err(frame) => {
                                self.trailers = Some(frame);
                                self.stage = Stage::Finishing;
                            }
                        }
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(None) => {
                        self.stage = Stage::Finishing;
                        continue;
                    }
                    Poll::Pending if self.dirty => Step::Flush,
                    Poll::Pending => return Poll::Pending,
                }
            };
            let (piece, done) = self.step(what).map_err(BodyError::Compress)?;
            match what {
                Step::Finish if done => self.stage = Stage::Done,
                Step::Flush if done => self.dirty = false,
                _ => {}
            }
            if let Some(piece) = piece {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
    }

    /// Whether nothing more comes.
    pub fn is_end_stream(&self) -> bool {
        self.stage == Stage::Done && self.trailers.is_none()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Encode,
    Flush,
    Finish,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_what_it_likes_best_and_the_service_prefers() {
        let compression = Compression {
            codings: vec![Coding::Zstd, Coding::Brotli, Coding::Gzip],
            types: vec!["text/*".into()],
            least: 1,
        };
        for (accepts, coding) in [
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, br;q=0.9", Some(Coding::Gzip)),
            ("GZIP", Some(Coding::Gzip)),
            ("gzip;q=0", None),
            ("*", Some(Coding::Zstd)),
            ("zstd;q=0, *;q=0.5", Some(Coding::Brotli)),
            ("identity", None),
            ("gzip;q=x", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepts));
            assert_eq!(Accepted::of(Some(&compression), &headers).0, coding, "{accepts}");
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=0, No-Transform"));
            assert_eq!(Accepted::of(Some(&compression), &headers).0, None);
        }
        assert_eq!(Accepted::of(Some(&compression), &HeaderMap::new()).0, None);
    }

    #[test]
    fn what_does_not_become_shorter_stays_as_it_is() {
        for coding in [Coding::Zstd, Coding::Brotli, Coding::Gzip] {
            let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(5000).collect();
            assert_eq!(whole(coding, &noise.into()), None);
            assert!(whole(coding, &vec![b'a'; 5000].into()).is_some_and(|short| short.len() < 100));
            assert_eq!(whole(coding, &Bytes::from_static(b"a")), None);
        }
    }
}
