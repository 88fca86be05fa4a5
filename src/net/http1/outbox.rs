//! What is to be written to a connection: heads, and bodies in their frame (RFC 9112 §6, §7.1).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use hyper::body::Body;
use tokio::io::AsyncWrite;

use super::{Error, fields};
use crate::net::Stream;

/// A piece of a body no larger than this is copied, so that it leaves in one buffer with what frames it.
const COPIED: usize = 4 * 1024;

/// Bytes of room that an idle connection may keep.
const ROOM: usize = 8 * 1024;

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// So many bytes are left.
    Length(u64),
    /// In chunks.
    Chunked {
        /// Whether trailers are said behind them.
        trailers: bool,
    },
    /// By the end of the connection.
    Close,
}

/// What waits to be written.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// Of which so much was written.
    written: usize,
    /// Behind it: a large piece of a body, and what ends its chunk.
    piece: Bytes,
    tail: &'static [u8],
    /// Behind that: what came while the peer took nothing.
    more: Vec<u8>,
    /// The peer takes nothing now.
    blocked: bool,
    /// Bytes that may wait then.
    backlog: usize,
    /// Something was written that TLS may still hold.
    unflushed: bool,
}

impl Outbox {
    /// Takes over this much of a body while the peer takes nothing, so that whoever sends it may be done.
    pub fn with_backlog(backlog: usize) -> Self {
        Self { backlog, ..Self::default() }
    }

    /// Nothing waits, not even for the transport.
    pub fn is_empty(&self) -> bool {
        self.is_written() && !self.unflushed
    }

    fn is_written(&self) -> bool {
        self.bytes.is_empty() && !self.has_piece()
    }

    fn has_piece(&self) -> bool {
        !(self.piece.is_empty() && self.tail.is_empty())
    }

    /// Whether more of a body may be taken over.
    fn has_room(&self) -> bool {
        if self.blocked {
            self.bytes.len() - self.written + self.piece.len() + self.more.len() < self.backlog
        } else {
            !self.has_piece() && self.bytes.len() < COPIED
        }
    }

    /// What is written last: where a head goes, and what is copied of a body.
    pub fn back(&mut self) -> &mut Vec<u8> {
        if self.has_piece() { &mut self.more } else { &mut self.bytes }
    }

    /// Gives back memory that an idle connection does not need.
    pub fn rest(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > ROOM {
            self.bytes = Vec::new();
        }
        if self.more.capacity() > 0 {
            self.more = Vec::new();
        }
    }

    /// Takes over what there is of a body, as long as there is room. `Ready` when it has ended.
    pub fn poll_fill<B>(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut B,
        coding: &mut Coding,
    ) -> Poll<Result<(), B::Error>>
    where
        B: Body<Data = Bytes, Error: From<Error>> + Unpin,
    {
        while self.has_room() {
            let frame = ready!(Pin::new(&mut *body).poll_frame(cx)).transpose()?;
            match frame.map(hyper::body::Frame::into_data) {
                Some(Ok(data)) => {
                    let last = body.is_end_stream();
                    if self.push(data, coding, last)? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Some(Err(frame)) => return Poll::Ready(Ok(self.end(*coding, frame.into_trailers().ok().as_ref())?)),
                None => return Poll::Ready(Ok(self.end(*coding, None)?)),
            }
        }
        Poll::Pending
    }

    /// Takes the whole of a body whose length its head has told.
    pub fn push_whole(&mut self, body: Bytes) {
        self.put(body, b"");
    }

    /// Takes bytes of a body, and what ends their chunk.
    fn put(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() <= COPIED || self.has_piece() {
            let back = self.back();
            back.extend_from_slice(&data);
            back.extend_from_slice(tail);
        } else {
            (self.piece, self.tail) = (data, tail);
        }
    }

    /// Takes a piece; whether that was all.
    fn push(&mut self, data: Bytes, coding: &mut Coding, last: bool) -> Result<bool, Error> {
        if data.is_empty() {
            if last {
                self.end(*coding, None)?;
            }
            return Ok(last);
        }
        let (mut ended, mut tail): (_, &'static [u8]) = (last, b"");
        match coding {
            // The peer would take what is too much for another message.
            Coding::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Error::Body)?;
                if last && *left > 0 {
                    return Err(Error::Body);
                }
                ended |= *left == 0;
            }
            Coding::Chunked { .. } => {
                write_chunk_size(self.back(), data.len());
                tail = if last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
            }
            Coding::Close => {}
        }
        self.put(data, tail);
        Ok(ended)
    }

    /// Says that nothing follows.
    fn end(&mut self, coding: Coding, trailers: Option<&HeaderMap>) -> Result<(), Error> {
        match coding {
            Coding::Length(0) | Coding::Close => Ok(()),
            // Less came than the head promises.
            Coding::Length(_) => Err(Error::Body),
            Coding::Chunked { trailers: said } => {
                write_end(self.back(), trailers.filter(|_| said));
                Ok(())
            }
        }
    }

    /// Writes what waits, and has the transport send it. `Ready` when nothing waits any more.
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
        if self.is_empty() { Poll::Ready(Ok(())) } else { self.poll_write_all(cx, stream) }
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
        while !self.is_written() {
            let wrote = self.write(cx, stream);
            self.blocked = wrote.is_pending();
            ready!(wrote)?;
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
        let head = &self.bytes[self.written..];
        let stream = Pin::new(stream);
        let mut written = if self.has_piece() {
            let all = [IoSlice::new(head), IoSlice::new(&self.piece), IoSlice::new(self.tail)];
            ready!(stream.poll_write_vectored(cx, &all))?
        } else {
            ready!(stream.poll_write(cx, head))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        let of_head = written.min(head.len());
        self.written += of_head;
        written -= of_head;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
        let of_piece = written.min(self.piece.len());
        self.piece.advance(of_piece);
        self.tail = &self.tail[written - of_piece..];
        if self.is_written() && !self.more.is_empty() {
            std::mem::swap(&mut self.bytes, &mut self.more);
        }
        Poll::Ready(Ok(()))
    }
}

/// Writes what stands before a chunk of so many bytes. Behind it stands an end of line.
pub(super) fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(DIGITS[size >> (4 * digit) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a chunked body.
pub(super) fn write_end(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| fields::may_trail(name)) {
        fields::write(out, name, value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use http::HeaderValue;
    use hyper::body::Frame;

    use super::*;

    /// A body of these frames; it knows its end only when asked, or with the last of them.
    struct Frames(VecDeque<Frame<Bytes>>, bool);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }

        fn is_end_stream(&self) -> bool {
            self.1 && self.0.is_empty()
        }
    }

    /// All that is written of a body.
    fn written(
        frames: impl IntoIterator<Item = Frame<Bytes>>,
        knows: bool,
        mut coding: Coding,
    ) -> Result<Vec<u8>, Error> {
        let (mut body, mut all) = (Frames(frames.into_iter().collect(), knows), Vec::new());
        let mut outbox = Outbox::default();
        loop {
            let polled = outbox.poll_fill(&mut Context::from_waker(Waker::noop()), &mut body, &mut coding);
            // As if it had been written.
            all.append(&mut outbox.bytes);
            all.extend_from_slice(&std::mem::take(&mut outbox.piece));
            all.extend_from_slice(std::mem::take(&mut outbox.tail));
            all.append(&mut outbox.more);
            if let Poll::Ready(done) = polled {
                return done.map(|()| all);
            }
        }
    }

    fn data(text: &'static [u8]) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text))
    }

    const CHUNKED: Coding = Coding::Chunked { trailers: true };

    #[test]
    fn chunk_sizes_are_hexadecimal() {
        for size in [0_usize, 1, 9, 15, 16, 255, 256, 4095, 4096, 65_537, usize::MAX] {
            let mut out = Vec::new();
            write_chunk_size(&mut out, size);
            assert_eq!(String::from_utf8(out).expect("text"), format!("{size:x}\r\n"));
        }
    }

    #[test]
    fn the_frame_of_a_body_does_not_depend_on_when_its_end_is_known() {
        for knows in [false, true] {
            let body = || [data(b"ab"), data(b""), data(b"c")];
            assert_eq!(written(body(), knows, CHUNKED).expect("in order"), b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
            assert_eq!(written(body(), knows, Coding::Length(3)).expect("in order"), b"abc");
            assert_eq!(written(body(), knows, Coding::Close).expect("in order"), b"abc");
            assert_eq!(written([], knows, CHUNKED).expect("in order"), b"0\r\n\r\n");
            assert_eq!(written([data(b"")], knows, CHUNKED).expect("in order"), b"0\r\n\r\n");
            let large = Frame::data(Bytes::from(vec![b'x'; COPIED + 1]));
            let chunk = [&b"1001\r\n"[..], &[b'x'; COPIED + 1], b"\r\n0\r\n\r\n"].concat();
            assert_eq!(written([large], knows, CHUNKED).expect("in order"), chunk);
        }
    }

    #[test]
    fn a_body_goes_on_behind_what_a_peer_does_not_take_up_to_a_limit() {
        let frames = || (0..9).map(|n| Frame::data(Bytes::from(vec![b'0' + n; if n == 1 { 5000 } else { 500 }])));
        let mut outbox = Outbox { blocked: true, ..Outbox::with_backlog(6000) };
        let mut body = Frames(frames().collect(), true);
        let polled = outbox.poll_fill(&mut Context::from_waker(Waker::noop()), &mut body, &mut CHUNKED.clone());
        assert!(polled.is_pending() && body.0.len() == 6, "three of them are as much as may wait");
        let all = [&outbox.bytes[..], &outbox.piece, outbox.tail, &outbox.more].concat();
        let expected = written(frames().take(3), false, CHUNKED).expect("in order");
        assert_eq!(all, expected[..expected.len() - 5], "in their order, and nothing of the end");
        let mut patient = Outbox { blocked: true, ..Outbox::default() };
        let mut body = Frames(frames().collect(), true);
        let polled = patient.poll_fill(&mut Context::from_waker(Waker::noop()), &mut body, &mut CHUNKED.clone());
        assert!(polled.is_pending() && body.0.len() == 9);
    }

    #[test]
    fn a_body_that_is_not_what_its_head_promises_is_an_error() {
        for knows in [false, true] {
            assert!(written([data(b"abcd")], knows, Coding::Length(3)).is_err());
            assert!(written([data(b"ab")], knows, Coding::Length(3)).is_err());
            assert!(written([], knows, Coding::Length(3)).is_err());
        }
    }

    #[test]
    fn trailers_cannot_change_what_was_said_in_the_head() {
        let mut trailers = HeaderMap::new();
        trailers.insert("content-length", HeaderValue::from_static("7"));
        trailers.insert("host", HeaderValue::from_static("b.test"));
        trailers.insert("x-sum", HeaderValue::from_static("abc"));
        let body = || [data(b"a"), Frame::trailers(trailers.clone())];
        assert_eq!(written(body(), true, CHUNKED).expect("in order"), b"1\r\na\r\n0\r\nx-sum: abc\r\n\r\n");
        let unasked = written(body(), true, Coding::Chunked { trailers: false }).expect("in order");
        assert_eq!(unasked, b"1\r\na\r\n0\r\n\r\n");
        assert_eq!(written(body(), true, Coding::Length(1)).expect("in order"), b"a");
    }
}
