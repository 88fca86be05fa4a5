//! What was read of a connection and not used yet.

use std::io;
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll, ready};

use crate::net::Stream;
use bytes::{Bytes, BytesMut};

/// Bytes of room for what is read: to begin with, and as long as reads do not fill it.
const ROOM: usize = 8 * 1024;

/// What came and waits to be used.
#[derive(Debug)]
pub struct Inbox {
    bytes: BytesMut,
    /// Bytes to make room for at the next read.
    room: usize,
    /// And at most.
    most: usize,
}

impl Inbox {
    /// Nothing yet. Once reads fill the room that there is, it grows up to `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { bytes: BytesMut::new(), room: ROOM, most }
    }

    /// Reads once. Zero at the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<usize>> {
        if self.bytes.capacity() - self.bytes.len() < ROOM / 8 {
            self.bytes.reserve(self.room);
        }
        let space = self.bytes.capacity() - self.bytes.len();
        let read = ready!(stream.poll_append(cx, &mut self.bytes))?;
        if read == space {
            // There is more than fits.
            self.room = (2 * self.room).min(self.most);
        }
        Poll::Ready(Ok(read))
    }

    /// [`Self::poll_read`], for when there is most likely nothing.
    pub fn poll_more(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<usize>> {
        ready!(stream.poll_readable(cx));
        self.poll_read(cx, stream)
    }

    /// Gives back memory that an idle connection does not need.
    pub fn rest(&mut self) {
        self.room = ROOM;
        if self.bytes.is_empty() && self.bytes.capacity() > 2 * ROOM {
            self.bytes = BytesMut::new();
        }
    }

    /// What is in it.
    pub fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }
}

impl Deref for Inbox {
    type Target = BytesMut;

    fn deref(&self) -> &BytesMut {
        &self.bytes
    }
}

impl DerefMut for Inbox {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }
}
