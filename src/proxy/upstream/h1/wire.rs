//! What one HTTP/1 connection says and hears: a request on its way out, and its response on its way in, at the same time.
//!
//! Nothing here is a task. Whoever polls moves both directions as far as they go.

use std::future::Future;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::request;
use http::{Method, StatusCode};
use hyper::body::{Body, Frame};
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::net::Stream;
use crate::net::http1::Error;
use crate::net::http1::body::{Decoder, Piece};
use crate::net::http1::request::{self as outgoing, Coding};
use crate::net::http1::response::{self as incoming, Head};
use crate::proxy::body::ReqBody;
use crate::proxy::call::Call;

/// Bytes of a response head. A node is ours, but a broken one must not fill the memory.
const HEAD_SIZE: usize = 128 * 1024;

/// Responses that may come before the one that counts. Some send one for each step of a long work.
const INTERIM: usize = 4096;

/// Bytes of room for what is read: to begin with, and as long as reads do not fill it.
const ROOM: usize = 8 * 1024;
const MOST_ROOM: usize = 256 * 1024;

/// A piece of a body no larger than this is copied, so that it leaves in one buffer with what frames it.
const COPIED: usize = 4 * 1024;

/// One connection's two directions.
pub(super) struct Wire {
    pub(super) stream: Stream,
    /// Read, and not used yet.
    inbox: BytesMut,
    /// Bytes to make room for at the next read.
    room: usize,
    /// To be written, of which so much was.
    outbox: Vec<u8>,
    written: usize,
    /// To be written behind it: a large piece of a body, and the end of its chunk.
    piece: Bytes,
    tail: &'static [u8],
    /// Something was written that TLS may still hold.
    unflushed: bool,
    sending: Sending,
    receiving: Receiving,
    /// Responses of this exchange that came before the one that counts.
    interims: usize,
    /// It can carry another exchange.
    keep_alive: bool,
}

enum Sending {
    /// All of the request is written, or on its way.
    Done,
    Body(ReqBody, Coding),
    /// The request can never be whole.
    Failed,
}

enum Receiving {
    /// Between two exchanges, or behind the whole of a response.
    Nothing,
    Body(Decoder),
    Failed,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            inbox: BytesMut::new(),
            room: ROOM,
            outbox: Vec::new(),
            written: 0,
            piece: Bytes::new(),
            tail: b"",
            unflushed: false,
            sending: Sending::Done,
            receiving: Receiving::Nothing,
            interims: 0,
            keep_alive: true,
        }
    }

    /// Begins an exchange. Nothing is written before it is polled.
    pub(super) fn begin(&mut self, head: &request::Parts, body: ReqBody) {
        let coding = (!body.is_end_stream()).then(|| outgoing::coding(head));
        outgoing::write_head(&mut self.outbox, head, coding);
        // All of such a body is there, whatever its sender has yet to say of its end.
        let coding = coding.filter(|coding| *coding != Coding::Length(0));
        self.interims = 0;
        self.sending = coding.map_or(Sending::Done, |coding| Sending::Body(body, coding));
    }

    /// Whether the node has said nothing and not hung up, as far as the event loop knows. Nobody is woken by an earlier waker
    /// after this.
    pub(super) fn is_silent(&mut self, cx: &mut Context<'_>) -> bool {
        self.inbox.is_empty() && self.read(cx).is_pending()
    }

    /// Whether another exchange can begin on it.
    pub(super) fn is_idle(&self) -> bool {
        self.keep_alive
            && self.inbox.is_empty()
            && self.is_written()
            && matches!((&self.sending, &self.receiving), (Sending::Done, Receiving::Nothing))
    }

    /// Gives back memory that an idle connection does not need.
    pub(super) fn rest(&mut self) {
        self.room = ROOM;
        if self.inbox.capacity() > 2 * ROOM {
            self.inbox = BytesMut::new();
        }
        if self.outbox.capacity() > ROOM {
            self.outbox = Vec::new();
        }
    }

    /// Sends what can be sent, and reads on until the head of the response is there.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        call: &Call,
    ) -> Poll<Result<Head, Error>> {
        loop {
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
            let came = !self.inbox.is_empty();
            let head = match came.then(|| incoming::read_head(&mut self.inbox, method)).transpose()?.flatten() {
                Some(head) => head,
                None if self.inbox.len() >= HEAD_SIZE => {
                    return Poll::Ready(Err(Error::Malformed("the head is too large")));
                }
                None => match ready!(self.read(cx))? {
                    0 => return Poll::Ready(Err(Error::Ended)),
                    _ => continue,
                },
            };
            let status = head.parts.status;
            if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                self.interims += 1;
                if self.interims > INTERIM {
                    return Poll::Ready(Err(Error::Malformed("interim responses without end")));
                }
                if status == StatusCode::CONTINUE {
                    call.release_body();
                }
                continue;
            }
            self.keep_alive = head.keep_alive;
            return Poll::Ready(Ok(head));
        }
    }

    /// The body of the response whose head has come.
    pub(super) fn receive(&mut self, body: Option<Decoder>) {
        self.receiving = body.map_or(Receiving::Nothing, Receiving::Body);
    }

    /// Whether all of the response came.
    pub(super) fn has_ended(&self) -> bool {
        !matches!(self.receiving, Receiving::Body(_))
    }

    /// The bytes of the body that are still to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match &self.receiving {
            Receiving::Nothing => Some(0),
            Receiving::Body(body) => body.left(),
            Receiving::Failed => None,
        }
    }

    /// The next piece of the response's body, or its trailers. What is left of the request goes on its way too.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        // A node that wants no more of the request has answered it all the same.
        let _ = self.poll_send(cx);
        let polled = self.poll_piece(cx);
        if let Poll::Ready(Some(Err(_))) = &polled {
            self.receiving = Receiving::Failed;
        }
        polled
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            let Receiving::Body(body) = &mut self.receiving else { return Poll::Ready(None) };
            let frame = match body.take(&mut self.inbox)? {
                Piece::Data(data) => Some(Frame::data(data)),
                Piece::Trailers(trailers) => Some(Frame::trailers(trailers)),
                Piece::End => None,
                Piece::Nothing => {
                    let closes = body.ends_with_connection();
                    match ready!(self.read(cx))? {
                        0 if closes => None,
                        0 => return Poll::Ready(Some(Err(Error::Ended))),
                        _ => continue,
                    }
                }
            };
            if frame.is_none() || matches!(&self.receiving, Receiving::Body(body) if body.has_ended()) {
                self.receiving = Receiving::Nothing;
            }
            return Poll::Ready(frame.map(Ok));
        }
    }

    /// Writes what can be written. `Ready` when that was all of the request, or nothing more can be.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if let Err(error) = self.fill(cx) {
                self.sending = Sending::Failed;
                return Poll::Ready(Err(error));
            }
            if self.is_written() {
                if self.unflushed {
                    ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
                    self.unflushed = false;
                }
                return if matches!(self.sending, Sending::Body(..)) { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            ready!(self.write(cx))?;
        }
    }

    fn is_written(&self) -> bool {
        self.outbox.is_empty() && self.piece.is_empty() && self.tail.is_empty()
    }

    /// Takes over what there is of the body, as long as there is room.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        while let Sending::Body(body, coding) = &mut self.sending
            && self.piece.is_empty()
            && self.tail.is_empty()
            && self.outbox.len() < COPIED
        {
            let frame = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Err(_))) => return Err(Error::Upload),
                Poll::Ready(Some(Ok(frame))) => Some(frame),
                Poll::Ready(None) => None,
            };
            let mut ended = frame.is_none() || body.is_end_stream();
            let mut trailers = None;
            match frame.map(Frame::into_data) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    match coding {
                        // The node would take what is too much for another request.
                        Coding::Length(left) => {
                            *left = left.checked_sub(data.len() as u64).ok_or(Error::Upload)?;
                            ended |= *left == 0;
                        }
                        Coding::Chunked => {
                            outgoing::write_chunk_size(&mut self.outbox, data.len());
                            self.tail = b"\r\n";
                        }
                    }
                    if data.len() <= COPIED {
                        self.outbox.extend_from_slice(&data);
                        self.outbox.extend_from_slice(self.tail);
                        self.tail = b"";
                    } else {
                        self.piece = data;
                    }
                }
                Some(Err(frame)) => {
                    trailers = frame.into_trailers().ok();
                    ended = true;
                }
                None => {}
            }
            if !ended {
                continue;
            }
            match coding {
                Coding::Length(0) => {}
                // Less came than the head promises.
                Coding::Length(_) => return Err(Error::Upload),
                // What ends the last chunk has to be said first.
                Coding::Chunked if !self.tail.is_empty() => return Ok(()),
                Coding::Chunked => outgoing::write_end(&mut self.outbox, trailers.as_ref()),
            }
            self.sending = Sending::Done;
        }
        Ok(())
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let head = &self.outbox[self.written..];
        let stream = Pin::new(&mut self.stream);
        let mut written = if self.piece.is_empty() && self.tail.is_empty() {
            ready!(stream.poll_write(cx, head))?
        } else {
            let all = [IoSlice::new(head), IoSlice::new(&self.piece), IoSlice::new(self.tail)];
            ready!(stream.poll_write_vectored(cx, &all))?
        };
        if written == 0 {
            return Poll::Ready(Err(Error::Io(std::io::ErrorKind::WriteZero.into())));
        }
        self.unflushed = true;
        let of_head = written.min(head.len());
        self.written += of_head;
        written -= of_head;
        if self.written == self.outbox.len() {
            self.outbox.clear();
            self.written = 0;
        }
        let of_piece = written.min(self.piece.len());
        self.piece.advance(of_piece);
        self.tail = &self.tail[written - of_piece..];
        Poll::Ready(Ok(()))
    }

    /// Reads once. Zero at the end.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Error>> {
        if self.inbox.capacity() - self.inbox.len() < ROOM / 8 {
            self.inbox.reserve(self.room);
        }
        let space = self.inbox.capacity() - self.inbox.len();
        // Made, polled and dropped: it holds nothing between two polls.
        let read = ready!(pin!(self.stream.read_buf(&mut self.inbox)).poll(cx))?;
        if read == space {
            // There is more than fits.
            self.room = (2 * self.room).min(MOST_ROOM);
        }
        Poll::Ready(Ok(read))
    }

    /// The bare stream, and what was read of it beyond the head.
    pub(super) fn into_stream(self) -> (Stream, Bytes) {
        (self.stream, self.inbox.freeze())
    }
}
