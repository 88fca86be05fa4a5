//! A request on its way out: its head, and the frame of its body (RFC 9112 §3, §5, §7.1).

use http::header::{self, CONTENT_LENGTH, HeaderMap, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// So many bytes are left.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// What frames the body of a request with this head that has one: the length it names, or else chunks.
pub fn coding(head: &Parts) -> Coding {
    if head.headers.contains_key(TRANSFER_ENCODING) {
        return Coding::Chunked;
    }
    let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.map_or(Coding::Chunked, Coding::Length)
}

/// Writes the head. `coding`: of the body, if there is one.
pub fn write_head(out: &mut Vec<u8>, head: &Parts, coding: Option<Coding>) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.uri.path_and_query().map_or("/", PathAndQuery::as_str).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &head.headers {
        write_field(out, name, value.as_bytes());
    }
    if coding == Some(Coding::Chunked) && !head.headers.contains_key(TRANSFER_ENCODING) {
        write_field(out, &TRANSFER_ENCODING, b"chunked");
    }
    out.extend_from_slice(b"\r\n");
}

fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes what stands before a chunk of so many bytes. Behind it stands an end of line.
pub fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(DIGITS[size >> (4 * digit) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a chunked body.
pub fn write_end(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| may_trail(name)) {
        write_field(out, name, value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a field may stand behind a body: none that frames, routes or authorises a message, or says how its body is to be
/// read (RFC 9110 §6.5.1).
fn may_trail(name: &HeaderName) -> bool {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    ![
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
        header::HOST,
        header::CONNECTION,
        KEEP_ALIVE,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::MAX_FORWARDS,
        header::AUTHORIZATION,
        header::PROXY_AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::EXPECT,
        header::COOKIE,
        header::SET_COOKIE,
    ]
    .contains(name)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    fn head(request: http::request::Builder) -> Parts {
        request.body(()).expect("a request").into_parts().0
    }

    fn written(head: &Parts, coding: Option<Coding>) -> String {
        let mut out = Vec::new();
        write_head(&mut out, head, coding);
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
        assert_eq!(coding(&chunked), Coding::Chunked);
        assert_eq!(written(&chunked, Some(Coding::Chunked)).matches("chunked").count(), 1);
        // A body without a word on its end would be taken for the next request.
        let bare = head(Request::post("/"));
        assert!(written(&bare, Some(coding(&bare))).contains("transfer-encoding: chunked\r\n"));
    }

    #[test]
    fn chunk_sizes_are_hexadecimal() {
        for size in [0_usize, 1, 9, 15, 16, 255, 256, 4095, 4096, 65_537, usize::MAX] {
            let mut out = Vec::new();
            write_chunk_size(&mut out, size);
            assert_eq!(String::from_utf8(out).expect("text"), format!("{size:x}\r\n"));
        }
    }

    #[test]
    fn trailers_cannot_change_what_was_said_in_the_head() {
        let mut trailers = HeaderMap::new();
        trailers.insert("content-length", HeaderValue::from_static("7"));
        trailers.insert("host", HeaderValue::from_static("b.test"));
        trailers.insert("x-sum", HeaderValue::from_static("abc"));
        let mut out = Vec::new();
        write_end(&mut out, Some(&trailers));
        assert_eq!(out, b"0\r\nx-sum: abc\r\n\r\n");
    }
}
