//! The head of a response, and how long its body is (RFC 9112 §4, §6.3).

use std::cell::Cell;
use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::response::Parts;
use http::{Method, Response, StatusCode, Version};
use httparse::Status;
use hyper::ext::ReasonPhrase;

use super::Error;
use super::body::Decoder;

/// Fields of a head, or of trailers.
pub(super) const MOST_FIELDS: usize = 100;

/// A head that was read.
#[derive(Debug)]
pub struct Head {
    /// What it says.
    pub parts: Parts,
    /// What reads the body; none where there is none.
    pub body: Option<Decoder>,
    /// The connection can carry another exchange after this one.
    pub keep_alive: bool,
}

/// Where a field's name and value stand.
#[derive(Clone, Copy, Default)]
struct Place {
    name: (u32, u32),
    value: (u32, u32),
}

/// Takes a head out of what came. `None`: it is not whole yet. `method`: of the request.
pub fn read_head(inbox: &mut BytesMut, method: &Method) -> Result<Option<Head>, Error> {
    let mut places = [Place::default(); MOST_FIELDS];
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, inbox, &mut fields);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(Error::Malformed(why(error))),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Error::Malformed("the status code is none"))?;
    let version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    // Only one that says something else is worth keeping.
    let reason = response.reason.filter(|reason| !reason.is_empty() && status.canonical_reason() != Some(*reason));
    let reason = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
    let count = response.headers.len();
    let base = inbox.as_ptr() as usize;
    let place = |part: &[u8]| {
        let start = part.as_ptr() as usize - base;
        (start as u32, (start + part.len()) as u32)
    };
    for (field, at) in response.headers.iter().zip(&mut places) {
        *at = Place { name: place(field.name.as_bytes()), value: place(field.value) };
    }
    let text = inbox.split_to(length).freeze();
    let mut head = Response::new(()).into_parts().0;
    head.status = status;
    head.version = version;
    let (headers, closes) = fields_of(&text, &places[..count])?;
    head.headers = headers;
    if let Some(reason) = reason {
        head.extensions.insert(reason);
    }
    frame(head, closes, method).map(Some)
}

thread_local! {
    /// What the next head is read into: most have as many fields as the one before.
    static SPARE: Cell<HeaderMap> = Cell::default();
}

/// More fields than this are not kept room for.
const SPARE_FIELDS: usize = 2 * MOST_FIELDS;

/// Takes fields that nobody needs any more, for the room that they have.
pub fn recycle(mut headers: HeaderMap) {
    if headers.capacity() <= SPARE_FIELDS {
        headers.clear();
        SPARE.set(headers);
    }
}

/// The fields, and whether the node closes. What a node says of every connection it says for us alone, and is not kept.
fn fields_of(text: &Bytes, places: &[Place]) -> Result<(HeaderMap, bool), Error> {
    let mut headers = SPARE.take();
    headers.reserve(places.len() + 2);
    let mut closes = false;
    for Place { name, value } in places {
        let name = &text[name.0 as usize..name.1 as usize];
        if name.len() == 10 && name.eq_ignore_ascii_case(b"connection") {
            let option = &text[value.0 as usize..value.1 as usize];
            closes |= option.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(b"close"));
            if option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"keep-alive") {
                continue;
            }
        }
        let name = HeaderName::from_bytes(name);
        let name = name.map_err(|_| Error::Malformed("a field's name"))?;
        let value = HeaderValue::from_maybe_shared(text.slice(value.0 as usize..value.1 as usize));
        headers.append(name, value.map_err(|_| Error::Malformed("a field's value"))?);
    }
    Ok((headers, closes))
}

/// Finds out where the body ends.
fn frame(mut head: Parts, mut closes: bool, method: &Method) -> Result<Head, Error> {
    let headers = &mut head.headers;
    closes |= head.version == Version::HTTP_10;
    let (mut coding, mut length, mut lengths) = (None, None, 0);
    for (name, value) in headers.iter() {
        if *name == CONTENT_LENGTH {
            lengths += 1;
            // Several that agree are one (RFC 9110 §8.6).
            for one in value.as_bytes().split(|byte| *byte == b',') {
                let one = digits(one.trim_ascii()).ok_or(Error::Malformed("the content length is no number"))?;
                if length.is_some_and(|length| length != one) {
                    return Err(Error::Malformed("two content lengths"));
                }
                length = Some(one);
            }
        } else if *name == TRANSFER_ENCODING {
            coding = Some(value);
        }
    }
    let empty = *method == Method::HEAD
        || head.status.is_informational()
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if empty {
        None
    } else if let Some(coding) = coding {
        if head.version == Version::HTTP_10 {
            return Err(Error::Malformed("a transfer coding in HTTP/1.0"));
        }
        let last = coding.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
        let chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        Some(if chunked { Decoder::chunked() } else { Decoder::to_the_end() })
    } else {
        length.map_or_else(|| Some(Decoder::to_the_end()), |length| (length > 0).then(|| Decoder::of_length(length)))
    };
    if let (Some(length), true) = (length, lengths > 1) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let keep_alive = !closes && !body.as_ref().is_some_and(Decoder::ends_with_connection);
    Ok(Head { parts: head, body, keep_alive })
}

/// Digits and nothing else: `+3` is no length (RFC 9110 §8.6).
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

pub(super) fn why(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a field's name",
        httparse::Error::HeaderValue => "a field's value",
        httparse::Error::NewLine => "an end of line",
        httparse::Error::Status => "the status line",
        httparse::Error::TooManyHeaders => "too many fields",
        httparse::Error::Version => "the version",
        httparse::Error::Token => "a token",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, method: &Method) -> Result<Option<(Head, BytesMut)>, Error> {
        let mut inbox = BytesMut::from(text);
        Ok(read_head(&mut inbox, method)?.map(|head| (head, inbox)))
    }

    fn whole(text: &str) -> Head {
        read(text, &Method::GET).expect("in order").expect("whole").0
    }

    #[test]
    fn a_head_is_read_once_it_is_whole_and_what_follows_stays() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: b c \r\nx-a: d\r\n\r\nabcHTTP";
        let end = text.find("abc").expect("a body");
        for cut in 0..end {
            assert!(read(&text[..cut], &Method::GET).expect("in order").is_none(), "{:?}", &text[..cut]);
        }
        let (head, rest) = read(text, &Method::GET).expect("in order").expect("whole");
        assert_eq!((head.parts.status, head.keep_alive, &rest[..]), (StatusCode::OK, true, &b"abcHTTP"[..]));
        assert_eq!(head.parts.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["b c", "d"]);
        assert_eq!(head.body.and_then(|body| body.left()), Some(3));
    }

    #[test]
    fn no_body_follows_where_none_can() {
        for (text, method) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", Method::HEAD),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Method::HEAD),
            ("HTTP/1.1 204 No Content\r\n\r\n", Method::GET),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n", Method::GET),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Method::GET),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Method::GET),
        ] {
            let (head, _) = read(text, &method).expect("in order").expect("whole");
            assert!(head.body.is_none() && head.keep_alive, "{text:?}");
        }
    }

    #[test]
    fn a_connection_is_used_again_only_where_both_ends_know_it() {
        for (fields, again) in [
            ("content-length: 1", true),
            ("content-length: 1\r\nconnection: keep-alive", true),
            ("content-length: 1\r\nconnection: x, Close", false),
            ("content-length: 1\r\nconnection: x\r\nconnection: close", false),
            ("transfer-encoding: chunked", true),
            ("x: y", false),
            ("transfer-encoding: gzip", false),
        ] {
            assert_eq!(whole(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n")).keep_alive, again, "{fields:?}");
        }
        assert!(!whole("HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\n").keep_alive);
    }

    #[test]
    fn lengths_that_agree_are_one_and_others_are_an_error() {
        let head = whole("HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\ncontent-length: 5\r\n\r\n");
        assert_eq!(head.parts.headers.get_all(CONTENT_LENGTH).iter().collect::<Vec<_>>(), ["5"]);
        for value in ["", "+5", "-1", "5 5", "0x5", "5, 6", "5,", "99999999999999999999"] {
            let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {value}\r\n\r\n");
            assert!(read(&text, &Method::GET).is_err(), "{value:?}");
        }
        assert!(read("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", &Method::GET).is_err());
    }

    #[test]
    fn a_reason_of_ones_own_is_kept() {
        let head = whole("HTTP/1.1 200 Fine by me\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(head.parts.extensions.get::<ReasonPhrase>().map(ReasonPhrase::as_bytes), Some(&b"Fine by me"[..]));
        assert!(whole("HTTP/1.1 200 OK\r\n\r\n").parts.extensions.is_empty());
        assert!(whole("HTTP/1.1 200\r\n\r\n").parts.extensions.is_empty());
    }

    #[test]
    fn what_is_no_response_is_malformed() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MOST_FIELDS + 1));
        for text in [
            "SSH-2.0-OpenSSH_9.2p1\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\na : c\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: \0\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            &many,
        ] {
            assert!(read(text, &Method::GET).is_err_and(|error| error.is_malformed()), "{text:?}");
        }
    }
}
