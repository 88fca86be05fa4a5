//! What a connection knows of one of its streams (RFC 9113 §5.1).

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::link::STREAM_WINDOW;
use crate::net::http2::frame::MAX;

/// Pieces that wait are put together up to so many bytes.
const SMALL: usize = 4096;

/// A stream.
#[derive(Debug)]
pub struct StreamState {
    /// Its number.
    pub id: u32,
    /// Who has hold of it: its task, and the reader of its body.
    pub handles: u8,
    /// The client has not ended its half.
    pub receives: bool,
    /// We have not ended ours.
    pub sends: bool,
    /// Somebody will read what comes.
    pub has_reader: bool,
    /// It ended before its time: the client reset it, or we did, or the connection is over.
    over: bool,
    /// It stands in the line for what all streams share.
    pub waits: bool,
    /// What came and was not read yet.
    data: VecDeque<Bytes>,
    trailers: Option<Box<HeaderMap>>,
    /// What is still to come, as its head says.
    pub left: Option<u64>,
    /// What the client may send, and what was used of that and not told to be free yet.
    pub window_in: u32,
    pub owed: u32,
    /// What we may send.
    pub window_out: i64,
    /// Its task.
    owner: Option<Waker>,
    /// The task that reads its body, which may be another one.
    reader: Option<Waker>,
}

impl StreamState {
    /// One that its client has begun. `left`: see there.
    pub fn new(id: u32, receives: bool, left: Option<u64>, window_out: i64) -> Self {
        Self {
            id,
            handles: 1 + u8::from(receives),
            receives,
            sends: true,
            has_reader: receives,
            over: false,
            waits: false,
            data: VecDeque::new(),
            trailers: None,
            left,
            window_in: STREAM_WINDOW,
            owed: 0,
            window_out,
            owner: None,
            reader: None,
        }
    }

    /// Whether it ended before its time.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Ends it before its time. Bytes of the connection's window that nobody will read.
    pub fn abandon(&mut self) -> u32 {
        self.over = true;
        (self.receives, self.sends) = (false, false);
        self.wake_owner();
        self.wake_reader();
        self.drop_data()
    }

    /// What came is read by nobody. Bytes.
    pub fn drop_data(&mut self) -> u32 {
        self.trailers = None;
        std::mem::take(&mut self.data).iter().map(|data| data.len() as u32).sum()
    }

    /// Bytes that were not read yet.
    #[cfg(test)]
    pub fn unread(&self) -> u32 {
        self.data.iter().map(|data| data.len() as u32).sum()
    }

    /// A piece of the body came.
    pub fn push_data(&mut self, data: Bytes) {
        match self.data.back_mut() {
            // A place in the line, and the memory that it was read into with all its padding, would be many times a piece of one
            // byte; and nobody counts those.
            Some(last) if last.len() + data.len() <= SMALL => *last = join(std::mem::take(last), &data),
            _ => self.data.push_back(data),
        }
        self.wake_reader();
    }

    /// The end of the body came, perhaps with trailers.
    pub fn end_data(&mut self, trailers: Option<HeaderMap>) {
        self.receives = false;
        self.trailers = trailers.map(Box::new);
        self.wake_reader();
        if !self.sends {
            // It may be waiting for just this.
            self.wake_owner();
        }
    }

    /// The next of what came. `None`: the stream ended before its time.
    pub fn poll_data(&mut self, cx: &Context<'_>) -> Poll<Option<Came>> {
        if let Some(data) = self.data.pop_front() {
            return Poll::Ready(Some(Came::Data(data)));
        }
        if self.over {
            return Poll::Ready(None);
        }
        if !self.receives {
            return Poll::Ready(Some(self.trailers.take().map_or(Came::End, |trailers| Came::Trailers(*trailers))));
        }
        keep(&mut self.reader, cx.waker());
        Poll::Pending
    }

    /// Whether all that came was read, and there is no more to come.
    pub fn is_read(&self) -> bool {
        !self.receives && !self.over && self.data.is_empty() && self.trailers.is_none()
    }

    /// We may send more, or less. `None`: more than there can be (§6.9.1).
    pub fn widen(&mut self, more: i64) -> Option<()> {
        let closed = self.window_out <= 0;
        self.window_out += more;
        if closed && self.window_out > 0 {
            self.wake_owner();
        }
        (self.window_out <= i64::from(MAX)).then_some(())
    }

    /// Keeps the waker of its task.
    #[inline]
    pub fn keep_owner(&mut self, waker: &Waker) {
        keep(&mut self.owner, waker);
    }

    /// Has its task look again.
    pub fn wake_owner(&self) {
        if let Some(owner) = &self.owner {
            owner.wake_by_ref();
        }
    }

    fn wake_reader(&self) {
        if let Some(reader) = &self.reader {
            reader.wake_by_ref();
        }
    }
}

/// What came of a body.
#[derive(Debug)]
pub enum Came {
    /// A piece.
    Data(Bytes),
    /// What stands behind it.
    Trailers(HeaderMap),
    /// All of it.
    End,
}

/// Puts a piece behind another one, in memory that has room for more.
fn join(last: Bytes, data: &[u8]) -> Bytes {
    let mut joined = match last.try_into_mut() {
        Ok(last) if last.capacity() == SMALL => last,
        Ok(last) => copy(&last),
        Err(last) => copy(&last),
    };
    joined.extend_from_slice(data);
    joined.freeze()
}

fn copy(data: &[u8]) -> BytesMut {
    let mut copy = BytesMut::with_capacity(SMALL);
    copy.extend_from_slice(data);
    copy
}

fn keep(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn tiny_pieces_that_wait_become_larger_ones() {
        let mut stream = StreamState::new(1, true, None, 0);
        let sizes = (0..3_000).map(|at| if at % 700 == 699 { 5_000 } else { at % 3 });
        let (mut all, mut places, mut byte) = (Vec::new(), 0, 0_u8);
        for size in sizes {
            let piece: Vec<u8> = (0..size)
                .map(|_| {
                    byte = byte.wrapping_add(7);
                    byte
                })
                .collect();
            all.extend_from_slice(&piece);
            // What it was read into is far larger.
            let mut inbox = BytesMut::with_capacity(64 * 1024);
            inbox.extend_from_slice(&piece);
            stream.push_data(inbox.split_to(size).freeze());
        }
        let mut came = Vec::new();
        while let Poll::Ready(Some(Came::Data(data))) = stream.poll_data(&Context::from_waker(Waker::noop())) {
            places += 1;
            came.extend_from_slice(&data);
            if data.len() < 5_000
                && let Ok(data) = data.try_into_mut()
            {
                assert!(data.capacity() <= SMALL || data.len() <= 2, "{} in {}", data.len(), data.capacity());
            }
        }
        assert!(came == all);
        assert!(places <= 2 * (all.len() / SMALL + 1) + 4, "{places} places for {} bytes", all.len());
    }
}
