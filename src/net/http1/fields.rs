//! The fields of a head or of trailers (RFC 9110 §5, RFC 9112 §5).

use std::cell::RefCell;

use bytes::Bytes;
use http::header::{self, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};

use super::Error;
use super::names::name;
use super::places::Places;

/// Fields of a response's head, or of trailers.
pub(super) const MOST_FIELDS: usize = 100;

/// Reads the fields at these places, in place of those that were there. `keep`: whether one is to be kept, with whatever else is to
/// be made of it.
#[inline]
pub(super) fn read(
    text: &Bytes,
    places: &Places,
    headers: &mut HeaderMap,
    mut keep: impl FnMut(&HeaderName, &HeaderValue) -> Result<bool, Error>,
) -> Result<(), Error> {
    *headers = spare();
    // With room for `Via`. More would often be more than there is in a spare one, and cost two allocations; less than the
    // smallest table holds would leave one that is too small for the next head.
    headers.reserve(SMALLEST.max(places.count() + 1));
    for place in places.iter() {
        let name = name(place.name(text)).ok_or(Error::Malformed("a field's name is malformed"))?;
        let value = place.value(text);
        if keep(&name, &value)? {
            headers.try_append(name, value).map_err(|_| Error::TooManyFields)?;
        }
    }
    Ok(())
}

thread_local! {
    /// What the next heads are read into: most have as many fields as those before.
    static SPARE: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// So many of them are kept, none with more room than for this many fields.
const SPARES: usize = 64;
const SPARE_FIELDS: usize = 2 * MOST_FIELDS;

/// Fields for which a table of eight places has room.
const SMALLEST: usize = 6;

/// Room for the fields of a head.
pub fn spare() -> HeaderMap {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Takes fields that nobody needs any more, for the room that they have.
pub fn recycle(mut headers: HeaderMap) {
    if headers.capacity() > 0 && headers.capacity() <= SPARE_FIELDS {
        headers.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARES {
                spare.push(headers);
            }
        });
    }
}

/// Writes a field.
pub fn write(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    let name = name.as_str().as_bytes();
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a field that holds a number, without an allocation for its digits.
pub(super) fn write_number(out: &mut Vec<u8>, name: &HeaderName, number: u64) {
    write(out, name, decimal(number, &mut [0; 20]));
}

/// A number's digits, in `space`, which has room for the largest. `write!` costs several times as much.
pub fn decimal(mut number: u64, space: &mut [u8; 20]) -> &[u8] {
    let mut first = space.len();
    loop {
        first -= 1;
        space[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &space[first..];
        }
    }
}

/// Whether a field may stand behind a body: none that frames, routes or authorises a message, or says how its body is to be
/// read (RFC 9110 §6.5.1).
pub fn may_trail(name: &HeaderName) -> bool {
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
        header::FORWARDED,
    ]
    .contains(name)
        // Who somebody is, only we say, and in the head.
        && !name.as_str().starts_with("x-forwarded-")
}

/// Whether a list names this option (RFC 9110 §7.6.1).
pub(super) fn lists(list: &HeaderValue, option: &str) -> bool {
    list.as_bytes().split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
}

/// Whether the last of these transfer codings is `chunked`, which alone tells the end of a body (RFC 9112 §6.3).
pub(super) fn is_chunked(codings: &HeaderValue) -> bool {
    let last = codings.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
    last.trim_ascii().eq_ignore_ascii_case(b"chunked")
}

/// Digits and nothing else: `+3` is no length (RFC 9110 §8.6).
pub fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// What is wrong with a head.
pub(super) fn why(error: httparse::Error) -> Error {
    Error::Malformed(match error {
        httparse::Error::HeaderName => "a field's name is malformed",
        httparse::Error::HeaderValue => "a field's value is malformed",
        httparse::Error::NewLine => "a line ends as none may",
        httparse::Error::Status => "the status line is malformed",
        httparse::Error::TooManyHeaders => return Error::TooManyFields,
        httparse::Error::Version => "the version is none of HTTP/1",
        httparse::Error::Token => "the first line is malformed",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_a_number_and_nothing_else_is() {
        for (text, number) in
            [("0", Some(0)), ("007", Some(7)), ("18446744073709551615", Some(u64::MAX)), ("18446744073709551616", None)]
        {
            assert_eq!(digits(text.as_bytes()), number, "{text}");
        }
        for text in ["", "+3", "-1", "0x3", "3 ", "3,3", "\u{663}"] {
            assert_eq!(digits(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_number_is_written_in_its_digits() {
        for number in [0, 7, 10, 128, 999, 65_536, u64::MAX] {
            let mut out = Vec::new();
            write_number(&mut out, &CONTENT_LENGTH, number);
            assert_eq!(String::from_utf8(out).expect("text"), format!("content-length: {number}\r\n"));
        }
    }

    #[test]
    fn fields_beyond_the_few_are_read_too() {
        let text = (0..MOST_FIELDS).fold(String::new(), |text, n| text + &format!("x-{n}: v{n}\r\n"));
        let text = Bytes::from(text + "\r\n");
        let mut parsed = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&text, &mut parsed) else {
            panic!("no fields")
        };
        let mut places = Places::within(&text);
        places.note(fields);
        let mut headers = HeaderMap::new();
        read(&text, &places, &mut headers, |_, _| Ok(true)).expect("in order");
        assert_eq!(headers.len(), MOST_FIELDS);
        assert!((0..MOST_FIELDS).all(|n| headers[format!("x-{n}")] == format!("v{n}")));
    }
}
