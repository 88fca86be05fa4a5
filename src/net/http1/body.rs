//! A body as it comes (RFC 9112 §6, §7).

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::header::HeaderMap;
use httparse::Status;
use hyper::body::Frame;

use super::extension::Extension;
use super::fields::{self, MOST_FIELDS, why};
use super::places::Places;
use super::{Error, Inbox};
use crate::net::Stream;

/// Bytes of chunk extensions in one body, which say nothing to us.
const MOST_EXTENSIONS: usize = 16 * 1024;

/// Bytes of trailers.
const MOST_TRAILERS: usize = 16 * 1024;

/// Finds the end of a body.
#[derive(Debug)]
pub struct Decoder(Kind);

#[derive(Debug)]
enum Kind {
    /// So many bytes are left.
    Length(u64),
    Chunked {
        state: Chunk,
        extensions: usize,
        /// Only what the grammar has is taken.
        strict: bool,
    },
    /// It ends where the connection does.
    Close,
    /// It has ended.
    Ended,
}

/// Where a chunked body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// Within the digits of a size: the size so far, and how many digits it has.
    Size(u64, u8),
    /// Behind them, with what may follow.
    Extension(u64, Extension),
    /// The line of the size ends.
    SizeEnd(u64),
    /// So many bytes are left of the chunk.
    Data(u64),
    /// Behind the data.
    DataEnd,
    /// The end of that line.
    DataLine,
    /// Behind the last chunk.
    Trailers,
}

/// What was found next.
#[derive(Debug)]
pub enum Piece {
    /// Some of the body; never empty.
    Data(Bytes),
    /// What stands behind the body. It has ended.
    Trailers(HeaderMap),
    /// It has ended.
    End,
    /// More has to come first.
    Nothing,
}

impl Decoder {
    /// A body of so many bytes, which are some.
    pub(super) fn of_length(length: u64) -> Self {
        Self(Kind::Length(length))
    }

    /// A body in chunks. What stands between them and says nothing may be anything.
    pub(super) fn chunked() -> Self {
        Self(Kind::Chunked { state: Chunk::Size(0, 0), extensions: 0, strict: false })
    }

    /// The same of somebody who may mean it to be read in two ways.
    pub(super) fn strictly_chunked() -> Self {
        Self(Kind::Chunked { state: Chunk::Size(0, 0), extensions: 0, strict: true })
    }

    /// A body that ends with its connection.
    pub(super) fn to_the_end() -> Self {
        Self(Kind::Close)
    }

    /// Whether only the end of the connection ends it.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.0, Kind::Close)
    }

    /// Whether all of it was taken.
    pub fn has_ended(&self) -> bool {
        matches!(self.0, Kind::Ended)
    }

    /// The bytes that are left, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self.0 {
            Kind::Length(left) => Some(left),
            Kind::Ended => Some(0),
            Kind::Chunked { .. } | Kind::Close => None,
        }
    }

    /// The next piece of the body or its trailers, from what came or comes. None behind its end.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        inbox: &mut Inbox,
        stream: &mut Stream,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            match self.take(inbox)? {
                Piece::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Piece::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Piece::End => return Poll::Ready(None),
                Piece::Nothing => {}
            }
            if ready!(inbox.poll_read(cx, stream))? == 0 {
                if !self.ends_with_connection() {
                    return Poll::Ready(Some(Err(Error::Ended)));
                }
                self.0 = Kind::Ended;
            }
        }
    }

    /// Takes the next piece out of what came.
    pub fn take(&mut self, inbox: &mut BytesMut) -> Result<Piece, Error> {
        match &mut self.0 {
            Kind::Ended => Ok(Piece::End),
            _ if inbox.is_empty() => Ok(Piece::Nothing),
            Kind::Close => Ok(Piece::Data(inbox.split().freeze())),
            Kind::Length(left) => {
                let data = some_of(inbox, left);
                if *left == 0 {
                    self.0 = Kind::Ended;
                }
                Ok(Piece::Data(data))
            }
            Kind::Chunked { state, extensions, strict } => {
                let piece = chunked(state, extensions, *strict, inbox)?;
                if matches!(piece, Piece::End | Piece::Trailers(_)) {
                    self.0 = Kind::Ended;
                }
                Ok(piece)
            }
        }
    }
}

/// As much as there is, of as much as is left.
fn some_of(inbox: &mut BytesMut, left: &mut u64) -> Bytes {
    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(inbox.len());
    *left -= here as u64;
    inbox.split_to(here).freeze()
}

fn chunked(state: &mut Chunk, extensions: &mut usize, strict: bool, inbox: &mut BytesMut) -> Result<Piece, Error> {
    const EXTENSION: Error = Error::Malformed("a chunk's extension is malformed");
    loop {
        if let Chunk::Data(left) = state {
            if inbox.is_empty() {
                return Ok(Piece::Nothing);
            }
            let data = some_of(inbox, left);
            if *left == 0 {
                *state = Chunk::DataEnd;
            }
            return Ok(Piece::Data(data));
        }
        if *state == Chunk::Trailers {
            return trailers(inbox, strict);
        }
        let Some(byte) = inbox.first().copied() else { return Ok(Piece::Nothing) };
        inbox.advance(1);
        *state = match (*state, byte) {
            (Chunk::Size(size, digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                // Sixteen digits are all that a number of 64 bits has; more would be one that overflows, or leading zeros
                // without end.
                if digits == 16 {
                    return Err(Error::Malformed("a chunk's size is too large"));
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Chunk::Size(size << 4 | u64::from(digit), digits + 1)
            }
            (Chunk::Size(size, 1..), b'\r') => Chunk::SizeEnd(size),
            (Chunk::Size(size, 1..), b';' | b' ' | b'\t') => {
                Chunk::Extension(size, Extension::begin(byte, strict).ok_or(EXTENSION)?)
            }
            (Chunk::Extension(size, at), b'\r') if at.may_end() => Chunk::SizeEnd(size),
            (Chunk::Extension(size, at), _) => {
                *extensions += 1;
                if *extensions > MOST_EXTENSIONS {
                    return Err(Error::Malformed("too many chunk extensions"));
                }
                Chunk::Extension(size, at.next(byte).ok_or(EXTENSION)?)
            }
            (Chunk::SizeEnd(0), b'\n') => Chunk::Trailers,
            (Chunk::SizeEnd(size), b'\n') => Chunk::Data(size),
            (Chunk::DataEnd, b'\r') => Chunk::DataLine,
            (Chunk::DataLine, b'\n') => Chunk::Size(0, 0),
            _ => return Err(Error::Malformed("a chunk is malformed")),
        };
    }
}

fn trailers(inbox: &mut BytesMut, strict: bool) -> Result<Piece, Error> {
    const TOO_MANY: Error = Error::Malformed("too many trailers");
    if inbox.starts_with(b"\r\n") {
        inbox.advance(2);
        return Ok(Piece::End);
    }
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let (length, places) = match httparse::parse_headers(inbox, &mut fields) {
        // The same however they come.
        Ok(Status::Complete((length, _))) if length > MOST_TRAILERS => return Err(TOO_MANY),
        Ok(Status::Complete((length, fields))) => {
            let mut places = Places::within(inbox);
            places.note(fields);
            (length, Some(places))
        }
        Ok(Status::Partial) if inbox.len() > MOST_TRAILERS => return Err(TOO_MANY),
        Ok(Status::Partial) => (inbox.len(), None),
        Err(error) => return Err(why(error)),
    };
    if strict && has_bare_end(&inbox[..length]) {
        return Err(Error::Malformed("a line of the trailers ends as none may"));
    }
    let Some(places) = places else { return Ok(Piece::Nothing) };
    let text = inbox.split_to(length).freeze();
    let mut trailers = HeaderMap::new();
    fields::read(&text, &places, &mut trailers, |_, _| Ok(true))?;
    Ok(Piece::Trailers(trailers))
}

/// Whether a line ends without a carriage return.
fn has_bare_end(text: &[u8]) -> bool {
    text.iter().enumerate().any(|(at, byte)| *byte == b'\n' && (at == 0 || text[at - 1] != b'\r'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::net::http1::outbox::{write_chunk_size, write_end};
    use http::header::{HeaderName, HeaderValue};

    /// A body's data, its trailers, and what is left behind it.
    type Whole = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// Takes a body that comes in pieces. `None`: it has not ended.
    fn read<'a>(mut decoder: Decoder, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Whole>, Error> {
        let (mut inbox, mut data, mut end) = (BytesMut::new(), Vec::new(), None);
        for piece in pieces {
            inbox.extend_from_slice(piece);
            while end.is_none() {
                match decoder.take(&mut inbox)? {
                    Piece::Data(some) => {
                        assert!(!some.is_empty());
                        data.extend_from_slice(&some);
                    }
                    Piece::Trailers(trailers) => end = Some(Some(trailers)),
                    Piece::End => end = Some(None),
                    Piece::Nothing => break,
                }
            }
        }
        assert_eq!(end.is_some(), decoder.has_ended());
        Ok(end.map(|trailers| (data, trailers, inbox.to_vec())))
    }

    #[test]
    fn a_body_of_known_length_ends_with_it() {
        let (data, trailers, rest) =
            read(Decoder::of_length(5), [&b"hel"[..], b"loHTTP"]).expect("in order").expect("whole");
        assert_eq!((&data[..], trailers, &rest[..]), (&b"hello"[..], None, &b"HTTP"[..]));
        assert!(read(Decoder::of_length(5), [&b"hell"[..]]).expect("in order").is_none());
    }

    #[test]
    fn extensions_are_passed_over() {
        let body = b"5;a=b\r\nhello\r\n1 \t; x\r\n!\r\n000\r\n\r\n";
        let (data, ..) = read(Decoder::chunked(), [&body[..]]).expect("in order").expect("whole");
        assert_eq!(data, b"hello!");
    }

    #[test]
    fn of_a_client_only_what_the_grammar_has_is_passed_over() {
        for (body, taken) in [
            ("5\r\nhello\r\n0\r\n\r\n", true),
            ("5;a=b ; c=\"d\"\r\nhello\r\n0;e\r\nx: y\r\n\r\n", true),
            ("5;\r\nhello\r\n0\r\n\r\n", false),
            ("5 \r\nhello\r\n0\r\n\r\n", false),
            ("5;a\x01\r\nhello\r\n0\r\n\r\n", false),
            ("5\r\nhello\r\n0\r\n\n", false),
            ("5\r\nhello\r\n0\r\nx: y\n\r\n", false),
            ("5\r\nhello\r\n0\r\nx: y\r\n\n", false),
        ] {
            let strict = read(Decoder::strictly_chunked(), [body.as_bytes()]);
            assert_eq!(strict.as_ref().is_ok_and(Option::is_some), taken, "{body:?}: {strict:?}");
            assert!(taken || strict.is_err_and(|error| error.is_malformed()), "{body:?}");
            assert!(read(Decoder::chunked(), [body.as_bytes()]).is_ok_and(|read| read.is_some()), "{body:?}");
        }
        // Told before it has ended, whatever follows.
        assert!(read(Decoder::strictly_chunked(), [&b"0\r\nx: y\nz"[..]]).is_err());
        // What stands behind the trailers is nobody's business here.
        assert!(read(Decoder::strictly_chunked(), [&b"0\r\n\r\nGET / HTTP/1.1\n\n"[..]]).is_ok());
    }

    #[test]
    fn a_chunk_that_could_be_read_in_two_ways_is_an_error() {
        let long = format!("1;{}", "x".repeat(MOST_EXTENSIONS + 1));
        let many = format!("0\r\n{}\r\n", "a: b\r\n".repeat(MOST_FIELDS + 1));
        let large = format!("0\r\na: {}", "b".repeat(MOST_TRAILERS));
        let ended = format!("{large}\r\n\r\n");
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "0x5\r\nhello\r\n",
            "5\nhello\r\n",
            "5\rhello\r\n",
            "5\r\nhello5\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5;a\nb\r\nhello\r\n",
            "10000000000000000\r\n",
            ";a\r\n",
            "0\r\na b: c\r\n\r\n",
            "0\r\n: c\r\n\r\n",
            &long,
            &many,
            &large,
            &ended,
        ] {
            let shown = &body[..body.len().min(40)];
            assert!(read(Decoder::chunked(), [body.as_bytes()]).is_err_and(|error| error.is_malformed()), "{shown:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_in_chunks_is_read_however_it_comes(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
            trailer in prop::option::of("[a-z]{1,8}"),
            cuts in prop::collection::vec(0_usize..2000, 0..8),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                write_chunk_size(&mut wire, chunk.len());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            let trailers = trailer.map(|value| {
                HeaderMap::from_iter([(HeaderName::from_static("x-sum"), HeaderValue::from_str(&value).expect("text"))])
            });
            write_end(&mut wire, trailers.as_ref());
            wire.extend_from_slice(b"next");
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(wire.len())).collect();
            cuts.push(wire.len());
            cuts.sort_unstable();
            let mut from = 0;
            let pieces = cuts.iter().map(|cut| &wire[std::mem::replace(&mut from, *cut)..*cut]);
            let (data, found, rest) = read(Decoder::chunked(), pieces).expect("in order").expect("whole");
            prop_assert_eq!(data, chunks.concat());
            prop_assert_eq!(found, trailers);
            prop_assert_eq!(rest, b"next");
        }

        #[test]
        fn nothing_that_comes_makes_it_panic(
            text in "[0-9a-f;\r\n :x=\"\\\\]{0,60}",
            cut in 0_usize..60,
            strict: bool,
        ) {
            let text = text.as_bytes();
            let (one, two) = text.split_at(cut.min(text.len()));
            let decoder = || if strict { Decoder::strictly_chunked() } else { Decoder::chunked() };
            let in_two = read(decoder(), [one, two]).ok();
            let at_once = read(decoder(), [text]).ok();
            // The same is found however it comes, but for an end that waits for more.
            prop_assert_eq!(in_two, at_once);
        }
    }
}
