//! What is fuzzed: one function a target. Each takes any bytes and panics if a promise is broken.

use std::path::Path;

use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use sluicegate::config;
use sluicegate::net::http1::Error;
use sluicegate::net::http1::body::{Decoder, Piece};
use sluicegate::net::http1::request::{self, Bounds};
use sluicegate::net::http1::response::read_head;
use sluicegate::net::http2::hpack::{self, Encoder, Name};
use sluicegate::net::proxy_header::{Found, find};
use sluicegate::pool::Router;
use sluicegate::pool::router::normalised;
use sluicegate::proxy::events::EventBorder;
use sluicegate::proxy::headers::{self, BodyLength, Seen};
use sluicegate::proxy::websocket::FrameTracker;

/// A configuration is taken, or every reason why not can be shown.
pub fn config_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let loaded = config::load_str(text, Path::new("sluice.toml"));
    assert!(loaded.config.is_some() || !loaded.problems.is_empty(), "refused without a reason");
    for problem in &loaded.problems {
        assert!(!config::render(problem).is_empty());
    }
}

/// A path is normalised once and for all, and what is found lies within it. The first line is the host.
pub fn router(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (host, path) = text.split_once('\n').unwrap_or(("", text));
    let path = normalised(path);
    let again = normalised(&path);
    assert_eq!(path, again, "not normalised at once");
    let segments = || path.split('/').map(|segment| segment.to_ascii_lowercase().replace("%2e", "."));
    assert!(segments().all(|segment| segment != "." && segment != ".."), "{path:?} leads elsewhere");
    let configured = "[[listener]]\nname = 'a'\nbind = '127.0.0.1:1'\n[service.a]\nmatch = ['a.example', '*.example', '*/a/b', '*']\nnodes = ['127.0.0.1:2']\n";
    let config = config::load_str(configured, Path::new("sluice.toml")).config.expect("valid");
    let matches = config.services.values().flat_map(|service| &service.matches);
    let router = Router::new(matches.enumerate().map(|(index, pattern)| (pattern, index)));
    if let Some(route) = router.find(host, &path) {
        assert!(path.get(route.prefix..).is_some(), "the prefix ends outside {path:?}");
    }
}

/// What a node gets holds nothing that was meant for the proxy alone. The first line is the method, each other one a field.
pub fn headers(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut head = request::blank();
    let Some(Ok(method)) = lines.next().map(Method::from_bytes) else { return };
    head.method = method;
    for line in lines {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..at]);
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line[at + 1..].trim_ascii())) else { continue };
        head.headers.append(name, value);
    }
    let mut seen = Seen::default();
    if headers::examine(&head, false, |_| false, &mut seen).is_err() {
        return;
    }
    let upgrades = seen.upgrade.is_some();
    let mut fields = head.headers;
    seen.rewrite(&mut fields, BodyLength::Known);
    assert!(!fields.contains_key("keep-alive") && !fields.contains_key("proxy-connection"));
    assert!(!fields.contains_key(TRANSFER_ENCODING));
    assert_eq!(fields.contains_key(UPGRADE), upgrades);
    assert!(fields.get_all(TE).iter().all(|value| value == "trailers"));
    assert!(fields.get_all(CONNECTION).iter().all(|value| value == "upgrade" || value == "te"));
    assert_eq!(fields.contains_key(EXPECT), seen.expects_continue);
    assert!(fields.get_all("host").iter().count() <= 1);
}

/// Where a connection may be ended between two messages: of a WebSocket, then of server-sent events. However the bytes are
/// cut into pieces, the borders are the same, and no border lies inside a message.
pub fn borders(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let piece = usize::from(*cut).max(1);
    let (mut whole, mut parts) = (FrameTracker::default(), FrameTracker::default());
    let border = whole.advance(data);
    for piece in data.chunks(piece) {
        parts.advance(piece);
    }
    assert_eq!((whole.is_at_border(), whole.has_closed()), (parts.is_at_border(), parts.has_closed()));
    let mut again = FrameTracker::default();
    let up_to = border.unwrap_or(0);
    again.advance(&data[..up_to]);
    assert!(again.is_at_border(), "the last border is one");
    assert!(again.advance(&data[up_to..]).is_none(), "and there is none behind it");

    let (mut whole, mut parts) = (EventBorder::default(), EventBorder::default());
    let border = whole.advance(data);
    for piece in data.chunks(piece) {
        parts.advance(piece);
    }
    assert_eq!(whole.is_at_border(), parts.is_at_border());
    if let Some(up_to) = border {
        assert!(up_to <= data.len() && matches!(data[up_to - 1], b'\r' | b'\n'));
    }
}

/// A PROXY header is found at the same place however its bytes arrive, and what is no header is not taken for the beginning of
/// one later on.
pub fn proxy_header(data: &[u8]) {
    let whole = find(data);
    for end in 0..data.len() {
        match (find(&data[..end]), whole) {
            // Nothing behind a header is looked at, and it does not grow.
            (Found::Header(length, client), whole) => {
                assert!(length <= end);
                assert_eq!(whole, Found::Header(length, client), "{end} bytes were a header");
            }
            (Found::Nothing, whole) => assert_eq!(whole, Found::Nothing, "{end} bytes were none"),
            // It may still become anything, but no byte of it may belong to what follows.
            (Found::Part, Found::Header(length, _)) => assert!(end < length, "{end} of {length} bytes were a part"),
            (Found::Part, _) => {}
        }
    }
}

/// What one connection to a node says: each response's status and body, and whether what follows is malformed.
fn said<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<(u16, Vec<u8>)>, bool) {
    let (mut inbox, mut responses, mut body) = (BytesMut::new(), Vec::<(u16, Vec<u8>)>::new(), None);
    let mut one = |inbox: &mut BytesMut| -> Result<bool, Error> {
        let Some(decoder) = &mut body else {
            let mut response = Response::new(());
            let Some(head) = read_head(inbox, &Method::GET, &mut response)? else { return Ok(false) };
            let to_the_end = head.body.as_ref().is_some_and(Decoder::ends_with_connection);
            assert!(!(head.keep_alive && to_the_end), "nothing can follow what only the end ends");
            responses.push((response.status().as_u16(), Vec::new()));
            body = head.body;
            return Ok(true);
        };
        match decoder.take(inbox)? {
            Piece::Nothing => return Ok(false),
            Piece::Data(data) => {
                assert!(!data.is_empty());
                responses.last_mut().expect("a head").1.extend_from_slice(&data);
                if decoder.has_ended() {
                    body = None;
                }
            }
            Piece::Trailers(_) | Piece::End => body = None,
        }
        Ok(true)
    };
    let mut malformed = false;
    for piece in pieces {
        inbox.extend_from_slice(piece);
        loop {
            match one(&mut inbox) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    assert!(error.is_malformed());
                    malformed = true;
                    break;
                }
            }
        }
        if malformed {
            break;
        }
    }
    (responses, malformed)
}

/// A node's responses are the same however their bytes arrive.
pub fn responses(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let piece = usize::from(*cut).max(1);
    assert_eq!(said(std::iter::once(data)), said(data.chunks(piece)));
}

/// What a client's requests may be here.
const BOUNDS: Bounds = Bounds { size: 2048, fields: 40 };

/// A request as it was found: its head, what becomes of the connection, its body, and its trailers.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    head: String,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

/// What a client says on one connection, read as a connection does.
#[derive(Default)]
struct Asked {
    inbox: BytesMut,
    /// So much of the inbox is no whole head.
    looked: usize,
    body: Option<Decoder>,
    requests: Vec<Heard>,
}

impl Asked {
    /// Takes a head or a piece of a body. `false`: more has to come first.
    fn take(&mut self) -> Result<bool, Error> {
        let Some(decoder) = &mut self.body else {
            if request::skip_empty_lines(&mut self.inbox) {
                self.looked = 0;
            }
            let may_be = !self.inbox.is_empty() && request::may_be_whole(&self.inbox, self.looked, BOUNDS);
            let mut parts = request::blank();
            let head = if may_be { request::read_head(&mut self.inbox, BOUNDS, &mut parts)? } else { None };
            self.looked = if head.is_some() { 0 } else { self.inbox.len() };
            let Some(head) = head else { return Ok(false) };
            assert!(parts.headers.len() <= BOUNDS.fields);
            assert!(head.body.is_some() || !head.expects_continue, "there is nothing to send");
            said_again(&parts, head.body.as_ref());
            passed_on(&parts, head.body.as_ref());
            let uri = &parts.uri;
            let text = format!("{} {uri} {:?} {} {}", parts.method, parts.version, head.keep_alive, head.te_trailers);
            self.requests.push(Heard { head: text, headers: parts.headers, ..Heard::default() });
            self.body = head.body;
            return Ok(true);
        };
        let found = self.requests.last_mut().expect("a head");
        match decoder.take(&mut self.inbox)? {
            Piece::Nothing => return Ok(false),
            Piece::Data(data) => found.body.extend_from_slice(&data),
            Piece::Trailers(trailers) => found.trailers = Some(trailers),
            Piece::End => {}
        }
        if decoder.has_ended() {
            self.body = None;
        }
        Ok(true)
    }

    /// Whether all that came is in order so far.
    fn hears(&mut self, pieces: &mut dyn Iterator<Item = &[u8]>) -> bool {
        for piece in pieces {
            self.inbox.extend_from_slice(piece);
            loop {
                match self.take() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        assert!(error.is_malformed());
                        return false;
                    }
                }
            }
        }
        true
    }
}

/// Whoever reads what is written of a request finds the same head, and a body where there is one.
fn said_again(parts: &Parts, body: Option<&Decoder>) {
    let mut parts = parts.clone();
    let Ok(uri) = headers::target(&parts.uri, None) else { return };
    parts.uri = uri;
    let coding = body.map(|_| request::coding(&parts));
    let mut text = Vec::new();
    request::write_head(&mut text, &parts, b"", coding);
    text.extend_from_slice(b"behind it");
    let mut inbox = BytesMut::from(&text[..]);
    let (mut heard, bounds) = (request::blank(), Bounds { size: 2 * BOUNDS.size, fields: BOUNDS.fields + 1 });
    let again = request::read_head(&mut inbox, bounds, &mut heard);
    let again = again.unwrap_or_else(|error| panic!("{error}: {parts:?}")).expect("a whole head");
    assert_eq!(&inbox[..], b"behind it");
    assert_eq!((&heard.method, heard.uri.path_and_query()), (&parts.method, parts.uri.path_and_query()));
    assert_eq!(again.body.as_ref().map(Decoder::left), body.map(Decoder::left), "{parts:?}");
    if parts.headers.contains_key(TRANSFER_ENCODING) || !heard.headers.contains_key(TRANSFER_ENCODING) {
        assert_eq!(heard.headers, parts.headers);
    }
}

/// The same of the head that a node gets, if it gets one.
fn passed_on(parts: &Parts, body: Option<&Decoder>) {
    let mut seen = Seen::default();
    if headers::examine(parts, body.is_some(), |_| false, &mut seen).is_err() {
        return;
    }
    let mut parts = parts.clone();
    let known = body.is_none() || parts.headers.contains_key(CONTENT_LENGTH);
    seen.rewrite(&mut parts.headers, if known { BodyLength::Known } else { BodyLength::Unknown });
    let framed = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().filter(|name| parts.headers.contains_key(*name)).count();
    assert!(framed <= 1 && (body.is_none() || framed == 1), "{parts:?}");
    said_again(&parts, body);
}

/// A client's requests are the same however their bytes arrive, and are said to a node as they were meant.
pub fn requests(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let piece = usize::from(*cut).max(1);
    let (mut whole, mut parts) = (Asked::default(), Asked::default());
    let (whole_in_order, parts_in_order) =
        (whole.hears(&mut std::iter::once(data)), parts.hears(&mut data.chunks(piece)));
    assert_eq!(whole.requests, parts.requests);
    // What is no head may be known only at its end.
    assert!(parts_in_order == whole_in_order || (parts_in_order && parts.body.is_none() && !parts.inbox.is_empty()));
}

/// What is read of field blocks, each behind a byte with its length, is read again when we say it: as a head, or as trailers. That
/// length, in steps of 32 bytes, is also the size of the table that the reader lets us have.
pub fn hpack(data: &[u8]) {
    let (mut decoder, mut reader) =
        (hpack::Decoder::new(hpack::DEFAULT_TABLE), hpack::Decoder::new(hpack::DEFAULT_TABLE));
    let (mut encoder, mut rest) = (Encoder::new(), data);
    while let Some((length, behind)) = rest.split_first() {
        let (block, behind) = behind.split_at(behind.len().min(usize::from(*length)));
        rest = behind;
        let (mut fields, mut most) = (Vec::new(), 0);
        let whole = decoder.decode(block, |name, value, size| {
            most = most.max(size);
            if let (Name::Regular(name), Some(value)) = (name, value) {
                assert_eq!(size, name.as_str().len() + value.len() + 32);
                fields.push((name, value));
            }
        });
        // The shortest code has five bits, and a table no field that is larger than itself.
        assert!(most <= hpack::DEFAULT_TABLE + 2 * block.len());
        if whole.is_err() {
            return;
        }
        encoder.resize(32 * u32::from(*length));
        let mut out = Vec::new();
        let is_head = length % 2 == 0;
        if is_head {
            encoder.status(&mut out, StatusCode::OK);
        }
        for (name, value) in &fields {
            encoder.field(&mut out, name, value);
        }
        let mut again = Vec::new();
        let read = reader.decode(&out, |name, value, _| again.push((name, value)));
        assert_eq!(read, Ok(()));
        let status = is_head.then(|| (Name::Status, Some(HeaderValue::from_static("200"))));
        let said = fields.into_iter().map(|(name, value)| (Name::Regular(name), Some(value)));
        assert!(again.into_iter().eq(status.into_iter().chain(said)));
    }
}
