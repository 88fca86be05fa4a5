//! A request: its head, read and written, and what frames its body (RFC 9112 §3, §5, §6).

use std::mem::MaybeUninit;

use bytes::{Buf, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version};
use httparse::Status;

use super::body::Decoder;
use super::fields::{self, MOST_FIELDS, digits, is_chunked, lists};
use super::places::{Places, part};
use super::{Coding, Error};

/// The longest target that the `http` crate has room for.
const MOST_TARGET: usize = u16::MAX as usize - 1;

/// What a head may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes, the first line among them.
    pub size: usize,
    /// Fields.
    pub fields: usize,
}

/// What a head says of its message and its connection.
#[derive(Debug)]
pub struct Head {
    /// What reads the body; none where there is none.
    pub body: Option<Decoder>,
    /// The connection can carry another exchange after this one.
    pub keep_alive: bool,
    /// The client sends its body when it hears that it may (RFC 9110 §10.1.1).
    pub expects_continue: bool,
    /// The client takes trailers (RFC 9110 §6.5.1).
    pub te_trailers: bool,
}

/// Nothing yet, to be read into.
pub fn blank() -> Parts {
    Request::new(()).into_parts().0
}

/// Takes a head out of what came, into `parts`: they stay where they are for as long as the request takes. `None`: it is not whole
/// yet.
pub fn read_head(inbox: &mut BytesMut, bounds: Bounds, parts: &mut Parts) -> Result<Option<Head>, Error> {
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut more = Vec::new();
    let fields = if bounds.fields <= MOST_FIELDS {
        &mut fields[..bounds.fields]
    } else {
        // Costs an allocation for each head.
        more.resize_with(bounds.fields, MaybeUninit::uninit);
        &mut more[..]
    };
    let mut request = httparse::Request::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut request, inbox, fields);
    let length = match parsed {
        Ok(Status::Complete(length)) if length <= bounds.size => length,
        Ok(Status::Partial) if inbox.len() <= bounds.size => return Ok(None),
        Ok(_) => return Err(too_large(inbox, bounds.size)),
        Err(error) => return Err(fields::why(error)),
    };
    let method = Method::from_bytes(request.method.unwrap_or_default().as_bytes());
    let method = method.map_err(|_| Error::Malformed("the method is malformed"))?;
    let version = if request.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut places = Places::within(inbox);
    places.note(request.headers);
    let target = places.range(request.path.unwrap_or_default().as_bytes());
    let text = inbox.split_to(length).freeze();
    let target = part(&text, target);
    if target.len() > MOST_TARGET {
        return Err(Error::TargetTooLong);
    }
    parts.uri = Uri::from_maybe_shared(target).map_err(|_| Error::Malformed("the request target is malformed"))?;
    parts.method = method;
    parts.version = version;
    read_fields(parts, &text, &places).map(Some)
}

/// Reads the fields, and finds out how long the body is and what becomes of the connection.
fn read_fields(parts: &mut Parts, text: &bytes::Bytes, places: &Places) -> Result<Head, Error> {
    let modern = parts.version >= Version::HTTP_11;
    let (mut length, mut chunked) = (None, None);
    let (mut closes, mut keeps) = (false, modern);
    let (mut expects, mut trailers) = (false, false);
    fields::read(text, places, &mut parts.headers, |name, value| {
        match *name {
            TRANSFER_ENCODING if !modern => return Err(Error::Malformed("a transfer coding in HTTP/1.0")),
            TRANSFER_ENCODING => chunked = Some(is_chunked(value)),
            CONTENT_LENGTH => {
                let one = digits(value.as_bytes()).ok_or(Error::Malformed("the content length is no number"))?;
                if length.is_some_and(|length| length != one) {
                    return Err(Error::Malformed("two content lengths"));
                }
                return Ok(length.replace(one).is_none());
            }
            CONNECTION => {
                closes |= lists(value, "close");
                keeps |= lists(value, "keep-alive");
            }
            EXPECT => expects = modern && value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
            TE => trailers |= lists(value, "trailers"),
            _ => {}
        }
        Ok(true)
    })?;
    let mut keep_alive = keeps && !closes;
    let body = match (chunked, length) {
        (Some(true), length) => {
            if length.is_some() {
                // Who sent both may have meant either: the next request could begin elsewhere (RFC 9112 §6.3).
                parts.headers.remove(CONTENT_LENGTH);
                keep_alive = false;
            }
            Some(Decoder::strictly_chunked())
        }
        (Some(false), _) => return Err(Error::Malformed("only the transfer coding `chunked`, once, is understood")),
        (None, length) => length.filter(|length| *length > 0).map(Decoder::of_length),
    };
    let expects_continue = expects && body.is_some();
    Ok(Head { body, keep_alive, expects_continue, te_trailers: trailers })
}

/// Which part of a head has more bytes than all of it may have.
fn too_large(text: &[u8], size: usize) -> Error {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.len() < size {
        Error::HeadTooLarge
    } else if line[..size].contains(&b' ') {
        Error::TargetTooLong
    } else {
        Error::Malformed("the method is malformed")
    }
}

/// Drops empty lines ahead of a head (RFC 9112 §2.2): some clients send one behind a body, and many would be read anew with each.
/// Whether there were any.
pub fn skip_empty_lines(inbox: &mut BytesMut) -> bool {
    let mut lines = 0;
    loop {
        match &inbox[lines..] {
            [b'\n', ..] => lines += 1,
            [b'\r', b'\n', ..] => lines += 2,
            _ => break,
        }
    }
    inbox.advance(lines);
    lines > 0
}

/// Whether a head may be whole: its first `seen` bytes were not. To look for its end costs less than to read it anew with each
/// byte of a client that sends them one by one.
pub fn may_be_whole(text: &[u8], seen: usize, bounds: Bounds) -> bool {
    let fresh = &text[seen.saturating_sub(3).min(text.len())..];
    let ends = || fresh.windows(2).any(|two| two == b"\n\n") || fresh.windows(3).any(|three| three == b"\n\r\n");
    seen == 0 || text.len() > bounds.size || ends()
}

/// What frames the body of a request with this head that has one: the length it names, or else chunks.
pub fn coding(head: &Parts) -> Coding {
    const CHUNKED: Coding = Coding::Chunked { trailers: true };
    if head.headers.contains_key(TRANSFER_ENCODING) {
        return CHUNKED;
    }
    let length = head.headers.get(CONTENT_LENGTH).and_then(|length| digits(length.as_bytes()));
    length.map_or(CHUNKED, Coding::Length)
}

/// Writes the head. `more`: fields that stand behind those of the head, as lines. `coding`: of the body, if there is one.
pub fn write_head(out: &mut Vec<u8>, head: &Parts, more: &[u8], coding: Option<Coding>) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.uri.path_and_query().map_or("/", PathAndQuery::as_str).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &head.headers {
        fields::write(out, name, value.as_bytes());
    }
    if matches!(coding, Some(Coding::Chunked { .. })) && !head.headers.contains_key(TRANSFER_ENCODING) {
        fields::write(out, &TRANSFER_ENCODING, b"chunked");
    }
    out.extend_from_slice(more);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: Coding = Coding::Chunked { trailers: true };
    const BOUNDS: Bounds = Bounds { size: 1024, fields: 100 };

    fn head(request: http::request::Builder) -> Parts {
        request.body(()).expect("a request").into_parts().0
    }

    fn written(head: &Parts, coding: Option<Coding>) -> String {
        let mut out = Vec::new();
        write_head(&mut out, head, b"", coding);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_head_is_said_as_it_is() {
        let get = head(Request::get("/a/b?c=d").header("host", "a.test").header("x-two", "1").header("x-two", "2"));
        let expected = "GET /a/b?c=d HTTP/1.1\r\nhost: a.test\r\nx-two: 1\r\nx-two: 2\r\n\r\n";
        assert_eq!(written(&get, None), expected);
        let options = head(Request::options("*").header("host", "a.test"));
        assert_eq!(written(&options, None), "OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n");
    }

    #[test]
    fn a_body_is_framed_by_its_length_or_else_in_chunks() {
        let known = head(Request::post("/").header("content-length", "5"));
        assert_eq!(coding(&known), Coding::Length(5));
        let chunked = head(Request::post("/").header("transfer-encoding", "chunked"));
        assert_eq!(coding(&chunked), CHUNKED);
        assert_eq!(written(&chunked, Some(CHUNKED)).matches("chunked").count(), 1);
        // A body without a word on its end would be taken for the next request.
        let bare = head(Request::post("/"));
        assert!(written(&bare, Some(coding(&bare))).contains("transfer-encoding: chunked\r\n"));
    }

    fn read(text: &str) -> Result<Option<(Parts, Head, BytesMut)>, Error> {
        let (mut inbox, mut parts) = (BytesMut::from(text), blank());
        Ok(read_head(&mut inbox, BOUNDS, &mut parts)?.map(|head| (parts, head, inbox)))
    }

    fn whole(text: &str) -> Head {
        read(text).expect("in order").expect("whole").1
    }

    #[test]
    fn a_head_is_read_once_it_is_whole_and_what_follows_stays() {
        let text = "\r\nPOST /a?b HTTP/1.1\r\nHost: a.test\r\nX-A: b c \r\ncontent-length: 3\r\nx-a: d\r\n\r\nabcGET";
        let end = text.find("abc").expect("a body");
        for cut in 0..end {
            assert!(read(&text[..cut]).expect("in order").is_none(), "{:?}", &text[..cut]);
        }
        let (parts, head, rest) = read(text).expect("in order").expect("whole");
        assert_eq!(
            (parts.method.as_str(), parts.uri.to_string().as_str(), &rest[..]),
            ("POST", "/a?b", &b"abcGET"[..])
        );
        assert_eq!((parts.version, head.keep_alive), (Version::HTTP_11, true));
        assert_eq!(parts.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["b c", "d"]);
        assert_eq!(head.body.and_then(|body| body.left()), Some(3));
    }

    #[test]
    fn nothing_is_left_of_the_request_that_was_read_to_the_same_place_before() {
        let mut parts = blank();
        for text in ["POST /a HTTP/1.0\r\nx-a: b\r\n\r\n", "GET /b HTTP/1.1\r\nx-c: d\r\n\r\n"] {
            read_head(&mut BytesMut::from(text), BOUNDS, &mut parts).expect("in order").expect("whole");
        }
        assert_eq!((&parts.method, parts.uri.path(), parts.version), (&Method::GET, "/b", Version::HTTP_11));
        assert_eq!(parts.headers.keys().collect::<Vec<_>>(), ["x-c"]);
    }

    #[test]
    fn what_comes_byte_by_byte_is_looked_at_again_only_where_it_may_end() {
        for text in ["GET / HTTP/1.1\r\nhost: a.test\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\nhost: a.test\n\nrest"] {
            let whole_at = (0..=text.len()).find(|end| read(&text[..*end]).expect("in order").is_some());
            let (mut seen, mut looks, mut found) = (0, 0, None);
            for end in 1..=text.len() {
                if found.is_none() && may_be_whole(&text.as_bytes()[..end], seen, BOUNDS) {
                    looks += 1;
                    found = read(&text[..end]).expect("in order").map(|_| end);
                }
                seen = end;
            }
            assert_eq!(found, whole_at, "{text:?}");
            assert!(looks <= 4, "{looks} looks at {text:?}");
        }
        assert!(may_be_whole(&[b'x'; 1025], 1024, BOUNDS), "what is too large is told at once");
    }

    #[test]
    fn empty_lines_ahead_of_a_head_are_no_part_of_it() {
        for (text, rest) in
            [("", ""), ("\r\n", ""), ("\n\r\n\r", "\r"), ("\r\n\nGET /\r\n", "GET /\r\n"), ("\rG", "\rG")]
        {
            let mut inbox = BytesMut::from(text);
            assert_eq!(skip_empty_lines(&mut inbox), text != rest);
            assert_eq!(inbox, rest, "{text:?}");
        }
    }

    #[test]
    fn a_connection_is_kept_where_both_ends_know_it() {
        for (version, fields, kept) in [
            ("1.1", "", true),
            ("1.1", "connection: close", false),
            ("1.1", "connection: x, Close", false),
            ("1.1", "connection: close\r\nconnection: keep-alive", false),
            ("1.1", "connection: keep-alive", true),
            ("1.1", "transfer-encoding: chunked\r\ncontent-length: 3", false),
            ("1.1", "content-length: 3\r\ntransfer-encoding: chunked", false),
            ("1.0", "", false),
            ("1.0", "connection: Keep-Alive", true),
            ("1.0", "connection: keep-alive, close", false),
        ] {
            let head =
                whole(&format!("POST / HTTP/{version}\r\n{fields}{}\r\n", if fields.is_empty() { "" } else { "\r\n" }));
            assert_eq!(head.keep_alive, kept, "{version} {fields:?}");
        }
    }

    #[test]
    fn a_body_has_one_length() {
        let body =
            |fields: &str| read(&format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n")).map(|read| read.expect("whole"));
        for (fields, left) in [
            ("content-length: 3", Some(Some(3))),
            ("content-length: 3\r\ncontent-length: 3", Some(Some(3))),
            ("content-length: 0", None),
            ("x: y", None),
            ("transfer-encoding: chunked", Some(None)),
            ("transfer-encoding: Chunked\r\ncontent-length: 3", Some(None)),
        ] {
            let (parts, head, _) = body(fields).expect("in order");
            assert_eq!(head.body.as_ref().map(Decoder::left), left, "{fields:?}");
            let said = parts.headers.get_all(CONTENT_LENGTH).iter().count();
            assert_eq!(said, usize::from(fields.starts_with("content")), "{fields:?}");
        }
        for fields in [
            "content-length: 3\r\ncontent-length: 4",
            "content-length: 3, 3",
            "content-length: +3",
            "content-length:",
            "transfer-encoding: gzip",
            "transfer-encoding: chunked, gzip",
            "transfer-encoding:",
        ] {
            assert!(body(fields).is_err_and(|error| error.is_malformed()), "{fields:?}");
        }
        assert!(read("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn who_asks_before_sending_is_known_by_it() {
        let expects = |version, fields| whole(&format!("POST / HTTP/{version}\r\n{fields}\r\n\r\n")).expects_continue;
        assert!(expects("1.1", "expect: 100-Continue\r\ncontent-length: 3"));
        assert!(!expects("1.1", "expect: 100-continue"), "there is nothing to send");
        assert!(!expects("1.0", "expect: 100-continue\r\ncontent-length: 3"));
        assert!(whole("GET / HTTP/1.1\r\nte: x, Trailers\r\n\r\n").te_trailers);
    }

    #[test]
    fn what_is_too_large_is_told_by_its_kind() {
        let long = "x".repeat(BOUNDS.size);
        let many = "a: b\r\n".repeat(BOUNDS.fields + 1);
        for end in ["", "\r\n\r\n"] {
            let head = read(&format!("GET / HTTP/1.1\r\na: {long}{end}"));
            assert!(matches!(head, Err(Error::HeadTooLarge)), "{head:?}");
            let target = read(&format!("GET /{long} HTTP/1.1\r\na: b{end}"));
            assert!(matches!(target, Err(Error::TargetTooLong)), "{target:?}");
        }
        assert!(matches!(read(&long.repeat(2)), Err(Error::Malformed(_))), "a method without end");
        assert!(matches!(read(&format!("GET / HTTP/1.1\r\n{many}\r\n")), Err(Error::TooManyFields)));
    }

    #[test]
    fn what_is_no_request_is_malformed() {
        for text in [
            "GET\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET / HTTP/1.2\r\n\r\n",
            "GET /a b HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\na b: c\r\n\r\n",
            "GET / HTTP/1.1\r\na : c\r\n\r\n",
            "GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\na: \0\r\n\r\n",
            "\x16\x03\x01\x02",
        ] {
            assert!(read(text).is_err_and(|error| error.is_malformed()), "{text:?}");
        }
    }
}
