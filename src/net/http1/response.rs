//! A response: its head, read and written, and how long its body is (RFC 9112 §4, §6.3).

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Response, StatusCode, Version};
use httparse::Status;
use hyper::ext::ReasonPhrase;

use super::Error;
use super::body::Decoder;
use super::fields::{self, MOST_FIELDS, digits, is_chunked, lists};
use super::places::Places;

/// What a head says of its message and its connection.
#[derive(Debug)]
pub struct Head {
    /// What reads the body; none where there is none.
    pub body: Option<Decoder>,
    /// The connection can carry another exchange after this one.
    pub keep_alive: bool,
}

/// Takes a head out of what came, into `response`, whose body stays what it is. `None`: it is not whole yet. `method`: of the
/// request.
pub fn read_head<B>(inbox: &mut BytesMut, method: &Method, response: &mut Response<B>) -> Result<Option<Head>, Error> {
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut head = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut head, inbox, &mut fields);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(fields::why(error)),
    };
    let status = head.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Error::Malformed("the status code is none"))?;
    let version = if head.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    // Only one that says something else is worth keeping.
    let reason = head.reason.filter(|reason| !reason.is_empty() && status.canonical_reason() != Some(*reason));
    let reason = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
    let mut places = Places::within(inbox);
    places.note(head.headers);
    let text = inbox.split_to(length).freeze();
    *response.status_mut() = status;
    *response.version_mut() = version;
    response.extensions_mut().clear();
    if let Some(reason) = reason {
        response.extensions_mut().insert(reason);
    }
    read_fields(response, &text, &places, method).map(Some)
}

/// Reads the fields, and finds out where the body ends.
fn read_fields<B>(response: &mut Response<B>, text: &Bytes, places: &Places, method: &Method) -> Result<Head, Error> {
    let (status, version) = (response.status(), response.version());
    let mut closes = version == Version::HTTP_10;
    // Whether the last coding of the last field is `chunked`.
    let (mut chunked, mut length, mut lengths) = (None, None, 0);
    fields::read(text, places, response.headers_mut(), |name, value| {
        match *name {
            CONTENT_LENGTH => {
                // Several that agree are one (RFC 9110 §8.6).
                for one in value.as_bytes().split(|byte| *byte == b',') {
                    lengths += 1;
                    let one = digits(one.trim_ascii()).ok_or(Error::Malformed("the content length is no number"))?;
                    if length.is_some_and(|length| length != one) {
                        return Err(Error::Malformed("two content lengths"));
                    }
                    length = Some(one);
                }
            }
            TRANSFER_ENCODING => chunked = Some(is_chunked(value)),
            CONNECTION => {
                closes |= lists(value, "close");
                // What a node says of every connection it says for us alone.
                let option = value.as_bytes();
                return Ok(!(option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"keep-alive")));
            }
            _ => {}
        }
        Ok(true)
    })?;
    let empty = *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = match (chunked, length) {
        _ if empty => None,
        (Some(_), _) if version == Version::HTTP_10 => {
            return Err(Error::Malformed("a transfer coding in HTTP/1.0"));
        }
        (Some(true), _) => Some(Decoder::chunked()),
        (None, Some(length)) => (length > 0).then(|| Decoder::of_length(length)),
        (Some(false), _) | (None, None) => Some(Decoder::to_the_end()),
    };
    if let (Some(length), true) = (length, lengths > 1) {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let keep_alive = !closes && !body.as_ref().is_some_and(Decoder::ends_with_connection);
    Ok(Head { body, keep_alive })
}

/// What a response's head says of the body behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// There is none, and nothing may be said of one (RFC 9110 §8.6: 1xx, 204).
    None,
    /// There is none, but what its length would be may stand in the head (HEAD, 304).
    AsSaid,
    /// So many bytes, whatever the head says.
    Exact(u64),
    /// It comes in chunks.
    Chunked,
    /// It ends with the connection.
    Close,
}

/// How a response is said on this connection.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// In which version: that of the request.
    pub version: Version,
    /// What follows the head.
    pub length: Length,
    /// The connection can carry another exchange.
    pub keep_alive: bool,
}

/// Writes the head; `date`: what to say of the time if it says nothing. Returns whether the connection goes on: the head itself may
/// say that it ends.
pub fn write_head<B>(
    out: &mut Vec<u8>,
    head: &Response<B>,
    manner: Manner,
    date: impl FnOnce() -> HeaderValue,
) -> bool {
    let Manner { version, length, keep_alive } = manner;
    let status = head.status();
    let reason = head.extensions().get::<ReasonPhrase>();
    if status == StatusCode::OK && version >= Version::HTTP_11 && reason.is_none() {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        out.extend_from_slice(if version >= Version::HTTP_11 { b"HTTP/1.1 " } else { b"HTTP/1.0 " });
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        let canonical = || status.canonical_reason().unwrap_or_default().as_bytes();
        out.extend_from_slice(reason.map_or_else(canonical, ReasonPhrase::as_bytes));
        out.extend_from_slice(b"\r\n");
    }
    let (mut dated, mut closes) = (false, false);
    for (name, value) in head.headers() {
        match *name {
            // Said below, as it is.
            CONTENT_LENGTH if length != Length::AsSaid => continue,
            TRANSFER_ENCODING => continue,
            CONNECTION => closes |= lists(value, "close"),
            DATE => dated = true,
            _ => {}
        }
        fields::write(out, name, value.as_bytes());
    }
    match length {
        Length::Exact(length) => fields::write_number(out, &CONTENT_LENGTH, length),
        Length::Chunked => fields::write(out, &TRANSFER_ENCODING, b"chunked"),
        Length::None | Length::AsSaid | Length::Close => {}
    }
    if !dated {
        fields::write(out, &DATE, date().as_bytes());
    }
    let goes_on = keep_alive && !closes && length != Length::Close;
    if status != StatusCode::SWITCHING_PROTOCOLS && !closes {
        if !goes_on {
            fields::write(out, &CONNECTION, b"close");
        } else if version < Version::HTTP_11 {
            fields::write(out, &CONNECTION, b"keep-alive");
        }
    }
    out.extend_from_slice(b"\r\n");
    goes_on
}

/// Writes a response that comes before the one that counts (RFC 9110 §15.2).
pub fn write_interim(out: &mut Vec<u8>, status: StatusCode, headers: &http::HeaderMap) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        fields::write(out, name, value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, method: &Method) -> Result<Option<(Response<()>, Head, BytesMut)>, Error> {
        let (mut inbox, mut response) = (BytesMut::from(text), Response::new(()));
        Ok(read_head(&mut inbox, method, &mut response)?.map(|head| (response, head, inbox)))
    }

    fn whole(text: &str) -> (Response<()>, Head) {
        let (response, head, _) = read(text, &Method::GET).expect("in order").expect("whole");
        (response, head)
    }

    #[test]
    fn a_head_is_read_once_it_is_whole_and_what_follows_stays() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: b c \r\nx-a: d\r\n\r\nabcHTTP";
        let end = text.find("abc").expect("a body");
        for cut in 0..end {
            assert!(read(&text[..cut], &Method::GET).expect("in order").is_none(), "{:?}", &text[..cut]);
        }
        let (response, head, rest) = read(text, &Method::GET).expect("in order").expect("whole");
        assert_eq!((response.status(), head.keep_alive, &rest[..]), (StatusCode::OK, true, &b"abcHTTP"[..]));
        assert_eq!(response.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["b c", "d"]);
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
            let (_, head, _) = read(text, &method).expect("in order").expect("whole");
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
            assert_eq!(whole(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n")).1.keep_alive, again, "{fields:?}");
        }
        assert!(!whole("HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\n").1.keep_alive);
    }

    #[test]
    fn lengths_that_agree_are_one_and_others_are_an_error() {
        let (response, _) = whole("HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\ncontent-length: 5\r\n\r\n");
        assert_eq!(response.headers().get_all(CONTENT_LENGTH).iter().collect::<Vec<_>>(), ["5"]);
        for value in ["", "+5", "-1", "5 5", "0x5", "5, 6", "5,", "99999999999999999999"] {
            let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {value}\r\n\r\n");
            assert!(read(&text, &Method::GET).is_err(), "{value:?}");
        }
        assert!(read("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", &Method::GET).is_err());
    }

    #[test]
    fn a_reason_of_ones_own_is_kept() {
        let (response, _) = whole("HTTP/1.1 200 Fine by me\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(response.extensions().get::<ReasonPhrase>().map(ReasonPhrase::as_bytes), Some(&b"Fine by me"[..]));
        assert!(whole("HTTP/1.1 200 OK\r\n\r\n").0.extensions().is_empty());
        assert!(whole("HTTP/1.1 200\r\n\r\n").0.extensions().is_empty());
    }

    #[test]
    fn nothing_is_left_of_the_response_that_was_read_to_the_same_place_before() {
        let mut response = Response::new(());
        for text in ["HTTP/1.0 201 Fine by me\r\nx-a: b\r\n\r\n", "HTTP/1.1 200 OK\r\nx-c: d\r\n\r\n"] {
            read_head(&mut BytesMut::from(text), &Method::GET, &mut response).expect("in order").expect("whole");
        }
        assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_11));
        assert!(response.extensions().is_empty());
        assert_eq!(response.headers().keys().collect::<Vec<_>>(), ["x-c"]);
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

    /// A response without a body of its own, as it is said.
    fn said(response: Response<()>, version: Version, length: Length, keep_alive: bool) -> (String, bool) {
        let mut out = Vec::new();
        let manner = Manner { version, length, keep_alive };
        let goes_on = write_head(&mut out, &response, manner, || HeaderValue::from_static("now"));
        (String::from_utf8(out).expect("text"), goes_on)
    }

    #[test]
    fn the_frame_is_said_once_and_as_it_is() {
        let ok =
            || Response::builder().header("content-length", "7").header("date", "then").body(()).expect("a response");
        for (length, expected) in [
            (Length::Exact(3), "date: then\r\ncontent-length: 3\r\n"),
            (Length::Chunked, "date: then\r\ntransfer-encoding: chunked\r\n"),
            (Length::AsSaid, "content-length: 7\r\ndate: then\r\n"),
            (Length::None, "date: then\r\n"),
        ] {
            let (text, goes_on) = said(ok(), Version::HTTP_11, length, true);
            assert_eq!((text, goes_on), (format!("HTTP/1.1 200 OK\r\n{expected}\r\n"), true));
        }
        let (text, goes_on) = said(ok(), Version::HTTP_11, Length::Close, true);
        assert!(text.contains("connection: close\r\n") && !text.contains("length") && !goes_on, "{text}");
    }

    #[test]
    fn what_becomes_of_the_connection_is_said_where_the_version_does_not_say_it() {
        let gone = |connection: &str| {
            let response = Response::builder().status(410).header("connection", connection);
            response.body(()).expect("a response")
        };
        for (version, connection, keep_alive, expected, goes) in [
            (Version::HTTP_11, "x", true, "HTTP/1.1 410 Gone\r\nconnection: x\r\ndate: now\r\n", true),
            (Version::HTTP_11, "close", true, "HTTP/1.1 410 Gone\r\nconnection: close\r\ndate: now\r\n", false),
            (
                Version::HTTP_11,
                "x",
                false,
                "HTTP/1.1 410 Gone\r\nconnection: x\r\ndate: now\r\nconnection: close\r\n",
                false,
            ),
            (
                Version::HTTP_10,
                "x",
                true,
                "HTTP/1.0 410 Gone\r\nconnection: x\r\ndate: now\r\nconnection: keep-alive\r\n",
                true,
            ),
        ] {
            let (text, goes_on) = said(gone(connection), version, Length::None, keep_alive);
            assert_eq!((text, goes_on), (format!("{expected}\r\n"), goes));
        }
    }

    #[test]
    fn what_is_said_is_read_the_same() {
        let response = Response::builder().status(299).header("x-a", "b").header("x-a", "c");
        let mut response = response.body(()).expect("a response");
        response.extensions_mut().insert(ReasonPhrase::from_static(b"Fine by me"));
        let (text, _) = said(response, Version::HTTP_11, Length::Exact(4), true);
        let (response, head) = whole(&text);
        assert_eq!((response.status().as_u16(), head.body.and_then(|body| body.left())), (299, Some(4)));
        assert_eq!(response.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(response.extensions().get::<ReasonPhrase>().map(ReasonPhrase::as_bytes), Some(&b"Fine by me"[..]));
        let mut interim = Vec::new();
        let hints = http::HeaderMap::from_iter([(http::header::LINK, HeaderValue::from_static("</a>"))]);
        write_interim(&mut interim, StatusCode::EARLY_HINTS, &hints);
        assert_eq!(interim, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    }
}
