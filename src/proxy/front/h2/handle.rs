//! A stream as its tasks have it: one sends the answer, one reads the body.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use hyper::body::{Frame, SizeHint};

use super::link::{Link, State};
use super::stream_state::Came;
use crate::net::http2::frame::{self, Header, MOST, Reason, flag, kind};

/// The stream ended before its time: the client reset it, or is gone.
#[derive(Debug)]
pub struct Gone;

/// Who answers. Dropped before it said the end, it resets the stream.
pub struct Sender {
    link: Rc<Link>,
    key: usize,
}

/// What is still to come of a request: its only reader.
pub struct StreamBody {
    link: Rc<Link>,
    key: usize,
    /// Bytes of the last piece: the client may send as many more once the next piece is asked for.
    owed: usize,
    /// Bytes of all pieces, as its head says.
    length: Option<u64>,
}

/// Both ends of a stream that has just begun; the second if it has a body, of this length if its head says one.
pub fn ends(link: &Rc<Link>, key: usize, receives: bool, length: Option<u64>) -> (Sender, Option<StreamBody>) {
    let body = receives.then(|| StreamBody { link: Rc::clone(link), key, owed: 0, length });
    (Sender { link: Rc::clone(link), key }, body)
}

impl Sender {
    /// Whether the stream has ended before its time. Whoever asks is woken when it does.
    pub fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        let stream = &mut self.link.borrow().streams[self.key];
        if stream.is_over() {
            return Poll::Ready(());
        }
        stream.keep_owner(cx.waker());
        Poll::Pending
    }

    /// Whether the client sends no more.
    pub fn is_heard(&self) -> bool {
        !self.link.borrow().streams[self.key].receives
    }

    /// The same. Whoever asks is woken when that is so.
    pub fn poll_heard(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_heard() {
            return Poll::Ready(());
        }
        let stream = &mut self.link.borrow().streams[self.key];
        stream.keep_owner(cx.waker());
        Poll::Pending
    }

    /// Says a head that is not the last one (RFC 9110 §15.2). Best effort.
    pub fn send_interim(&self, status: StatusCode, headers: &HeaderMap) {
        let state = &mut *self.link.borrow();
        if !state.streams[self.key].is_over() {
            self.write_head(state, Some(status), headers, false);
        }
    }

    /// Says the head.
    ///
    /// # Errors
    /// The stream is over.
    pub fn send_head(&self, status: StatusCode, headers: &HeaderMap, ends: bool) -> Result<(), Gone> {
        let state = &mut *self.link.borrow();
        if state.streams[self.key].is_over() {
            return Err(Gone);
        }
        self.write_head(state, Some(status), headers, ends);
        Ok(())
    }

    /// Says trailers, and that it was all.
    ///
    /// # Errors
    /// The stream is over.
    pub fn send_trailers(&self, trailers: &HeaderMap) -> Result<(), Gone> {
        let state = &mut *self.link.borrow();
        if state.streams[self.key].is_over() {
            return Err(Gone);
        }
        self.write_head(state, None, trailers, true);
        Ok(())
    }

    fn write_head(&self, state: &mut State, status: Option<StatusCode>, headers: &HeaderMap, ends: bool) {
        let State { wire, encoder, streams, .. } = &mut *state;
        frame::write_head(wire.back(), streams[self.key].id, ends, |out| {
            if let Some(status) = status {
                encoder.status(out, status);
            }
            for (name, value) in headers {
                encoder.field(out, name, value);
            }
        });
        if ends {
            self.ended(state);
        }
        state.wake();
    }

    fn ended(&self, state: &mut State) {
        let stream = &mut state.streams[self.key];
        stream.sends = false;
        if !stream.receives {
            state.close_stream(self.key);
        }
    }

    /// Hands over as much of this as can go now, and returns how much that was. `last`: nothing comes behind it.
    ///
    /// # Errors
    /// The stream is over.
    pub fn poll_data(&mut self, cx: &mut Context<'_>, data: &[u8], last: bool) -> Poll<Result<usize, Gone>> {
        let state = &mut *self.link.borrow();
        let has_room = state.has_room();
        let stream = &mut state.streams[self.key];
        if stream.is_over() {
            return Poll::Ready(Err(Gone));
        }
        if stream.window_out <= 0 {
            stream.keep_owner(cx.waker());
            // It may have been woken to use what others wait for.
            state.wake_waiting();
            return Poll::Pending;
        }
        if !has_room {
            state.wait_in_line(self.key, cx.waker());
            return Poll::Pending;
        }
        let window = stream.window_out.min(state.window_out) as usize;
        let piece = &data[..data.len().min(window).min(MOST)];
        let size = i64::from(piece.len() as u32);
        stream.window_out -= size;
        state.window_out -= size;
        let ends = last && piece.len() == data.len();
        let flags = if ends { flag::END_STREAM } else { 0 };
        let header = Header { length: piece.len(), kind: kind::DATA, flags, stream: stream.id };
        state.wire.put(cx, &header.bytes(), piece);
        if ends {
            self.ended(state);
        }
        state.wake();
        Poll::Ready(Ok(piece.len()))
    }

    /// Says that it was all.
    ///
    /// # Errors
    /// The stream is over.
    pub fn send_end(&self) -> Result<(), Gone> {
        let state = &mut *self.link.borrow();
        let stream = &state.streams[self.key];
        if stream.is_over() {
            return Err(Gone);
        }
        if stream.sends {
            let header = Header { length: 0, kind: kind::DATA, flags: flag::END_STREAM, stream: stream.id };
            state.wire.back().extend_from_slice(&header.bytes());
            self.ended(state);
            state.wake();
        }
        Ok(())
    }

    /// Ends the stream before its time.
    pub fn reset(&self, reason: Reason) {
        self.link.borrow().reset_stream(self.key, reason);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let state = &mut *self.link.borrow();
        if state.streams[self.key].sends {
            state.reset_stream(self.key, Reason::CANCEL);
        }
        // It may have been woken to use what others wait for.
        state.wake_waiting();
        let_go(state, self.key);
    }
}

impl StreamBody {
    /// The next piece, or the trailers.
    pub fn poll_frame(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Gone>>> {
        let state = &mut *self.link.borrow();
        let owed = std::mem::take(&mut self.owed);
        if owed > 0 {
            state.give_back_of(self.key, owed as u32);
        }
        Poll::Ready(match ready!(state.streams[self.key].poll_data(cx)) {
            Some(Came::Data(data)) => {
                self.owed = data.len();
                Some(Ok(Frame::data(data)))
            }
            Some(Came::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Came::End) => None,
            None => Some(Err(Gone)),
        })
    }

    /// Whether there is nothing more to read.
    pub fn is_end_stream(&self) -> bool {
        self.link.borrow().streams[self.key].is_read()
    }

    /// The bytes of all of it, where that is known.
    pub fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        let state = &mut *self.link.borrow();
        let stream = &mut state.streams[self.key];
        stream.has_reader = false;
        let unread = stream.drop_data();
        state.give_back(unread + self.owed as u32);
        let_go(state, self.key);
    }
}

fn let_go(state: &mut State, key: usize) {
    let stream = &mut state.streams[key];
    stream.handles -= 1;
    if stream.handles == 0 {
        state.forget(key);
    }
}
