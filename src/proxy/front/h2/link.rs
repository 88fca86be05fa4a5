//! An HTTP/2 connection, as its own task and those of its streams share it: the streams, the windows of both directions (RFC
//! 9113 §5.2), and what is to be written.
//!
//! Data is not queued here. A stream hands over as much as the client has windows for and the wire has room for, and keeps the
//! rest, where a reset finds it; it waits in line for what all streams share, and is woken in its turn.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::meter::Meter;
use super::request::Known;
use super::stream_state::StreamState;
use super::wire::Wire;
use crate::config::Limits;
use crate::net::Stream;
use crate::net::http1::Inbox;
use crate::net::http2::frame::{self, Reason, kind, setting};
use crate::net::http2::hpack::{Decoder, Encoder};

/// How much a client may send on one stream ahead of its node.
pub(super) const STREAM_WINDOW: u32 = 256 * 1024;
/// And on all of a connection's streams together.
pub(super) const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What both windows are until something else is said (§6.9.2).
const DEFAULT_WINDOW: u32 = 65_535;
/// Bytes of the table that clients may compress heads with (§6.5.2).
const TABLE: usize = 4096;
/// Bytes that are read at once, at most.
const MOST_ROOM: usize = 64 * 1024;
/// Streams that wait in line and are woken together: most answers are small.
const WOKEN: usize = 8;
/// Streams that were reset and whose client may not know it yet.
const REMEMBERED: usize = 256;
/// What the ping says whose answer tells that the client knows it should begin no more streams.
const FAREWELL: [u8; 8] = *b"farewell";

/// A connection.
#[derive(Debug)]
pub struct Link(RefCell<State>);

/// A head that has not come to its end.
#[derive(Debug)]
pub(super) struct Block {
    pub id: u32,
    pub ends: bool,
    pub fields: Vec<u8>,
}

/// How far a connection is on its way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// It takes streams.
    Open,
    /// The client was told to begin no more, and may not know it yet (§6.8).
    Closing,
    /// It knows, or has said itself that no more come.
    Closed,
}

#[derive(Debug)]
pub(super) struct State {
    pub wire: Wire,
    pub inbox: Inbox,
    pub meter: Rc<Meter>,
    pub decoder: Decoder,
    pub encoder: Encoder,
    pub known: Known,
    /// What a head may be: its size, and its fields.
    pub head_size: usize,
    pub most_fields: usize,
    /// Streams that a client may have at a time.
    pub most_streams: usize,
    pub streams: Slab<StreamState>,
    /// Where the open ones are, in the order of their ids.
    pub open: Vec<(u32, usize)>,
    /// The last stream that the client began, and how many there were.
    pub last: u32,
    pub begun: u32,
    /// Streams that we reset and the client had not ended, the last ones.
    pub reset: VecDeque<u32>,
    pub block: Option<Block>,
    /// The preface, and the client's first settings, have come.
    pub has_preface: bool,
    pub has_settings: bool,
    /// The client has acknowledged our settings, and so knows how many streams it may have.
    pub greeted: bool,
    pub course: Course,
    /// What the client may send: of the connection's window, and what of it was used and not told to be free yet.
    pub window_in: u32,
    pub owed: u32,
    /// What we may send, on the connection and on a new stream.
    pub window_out: i64,
    pub initial_out: i64,
    /// Streams that wait for what all share.
    waiting: VecDeque<usize>,
    /// The connection's task, and whether it will look anyway.
    task: Option<Waker>,
    awake: bool,
}

impl Link {
    /// A connection of which nothing was read yet. The first thing it says waits to be sent.
    pub fn new(stream: Stream, limits: &Limits, meter: Rc<Meter>) -> Rc<Self> {
        Self::over(Wire::new(stream), limits, meter)
    }

    /// One whose client is a test.
    #[cfg(test)]
    pub fn nowhere(limits: &Limits, meter: Rc<Meter>) -> Rc<Self> {
        Self::over(Wire::nowhere(), limits, meter)
    }

    fn over(mut wire: Wire, limits: &Limits, meter: Rc<Meter>) -> Rc<Self> {
        let head_size = limits.head_size;
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, limits.streams as u32),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            // It counts 32 bytes for each field beyond its text (§6.5.2).
            (setting::MAX_HEADER_LIST_SIZE, 2 * head_size as u32),
            (setting::ENABLE_CONNECT_PROTOCOL, 1),
        ];
        frame::write_settings(wire.back(), &settings);
        frame::write_window(wire.back(), 0, CONNECTION_WINDOW - DEFAULT_WINDOW);
        Rc::new(Self(RefCell::new(State {
            wire,
            inbox: Inbox::new(MOST_ROOM),
            meter,
            decoder: Decoder::new(TABLE),
            encoder: Encoder::new(),
            known: Known::default(),
            head_size,
            most_fields: limits.headers,
            most_streams: limits.streams,
            streams: Slab::new(),
            open: Vec::new(),
            last: 0,
            begun: 0,
            reset: VecDeque::new(),
            block: None,
            has_preface: false,
            has_settings: false,
            greeted: false,
            course: Course::Open,
            window_in: CONNECTION_WINDOW,
            owed: 0,
            window_out: i64::from(DEFAULT_WINDOW),
            initial_out: i64::from(DEFAULT_WINDOW),
            waiting: VecDeque::new(),
            task: None,
            awake: true,
        })))
    }

    pub(super) fn borrow(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// Told by the connection's task when its turn begins.
    pub fn begin_turn(&self, waker: &Waker) {
        let state = &mut *self.borrow();
        state.awake = true;
        if !state.task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            state.task = Some(waker.clone());
        }
    }

    /// Told by it at the end: sends what was gathered, and wakes streams that waited for that.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn end_turn(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.borrow();
        state.awake = false;
        let sent = state.wire.poll_send(cx);
        // Also if something is left: those that do not stand in line fill what gets free, and it might never all be sent.
        state.wake_waiting();
        sent
    }

    /// Whether the client is not read from, as it does not take what it is told.
    pub fn is_held_back(&self) -> bool {
        self.borrow().wire.is_stuffed()
    }

    /// Reads once, unless the client sends and does not take what it is told. Zero at the end.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let State { wire, inbox, .. } = &mut *self.borrow();
        // Once it was sent, the connection looks again: nobody else will have it do that.
        if wire.is_stuffed() { Poll::Pending } else { wire.poll_read(cx, inbox) }
    }

    /// Whether all that was begun has been said, and nothing further is wanted.
    pub fn is_finished(&self) -> bool {
        let state = &*self.borrow();
        state.course == Course::Closed && state.streams.is_empty()
    }

    /// Asks the client to begin no more streams; it learns it in time to lose none (§6.8).
    pub fn close(&self) {
        let state = &mut *self.borrow();
        if state.course == Course::Open {
            state.course = Course::Closing;
            frame::write_goaway(state.wire.back(), frame::MAX, Reason::NO_ERROR);
            frame::write(state.wire.back(), (kind::PING, 0), 0, &FAREWELL);
        }
    }

    /// Ends all streams, and says why.
    pub fn abort(&self, reason: Reason) {
        let state = &mut *self.borrow();
        frame::write_goaway(state.wire.back(), state.last, reason);
        state.end_streams();
    }

    /// Asks for a sign of life.
    pub fn ping(&self) {
        frame::write(self.borrow().wire.back(), (kind::PING, 0), 0, &[0; 8]);
    }

    /// Has the connection's end be a reset.
    pub fn reset_at_end(&self) {
        self.borrow().wire.reset_at_end();
    }

    /// The connection is over, whatever was to be said.
    pub fn end(&self) {
        let state = &mut *self.borrow();
        state.end_streams();
        state.wire.close();
    }

    /// Says that nothing follows.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.borrow().wire.poll_shutdown(cx)
    }

    /// Reads and drops what comes. Bytes; zero at the end.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let State { wire, inbox, .. } = &mut *self.borrow();
        inbox.clear();
        wire.poll_read(cx, inbox)
    }
}

impl State {
    /// Has the connection's task send what was written.
    #[inline]
    pub fn wake(&mut self) {
        if !self.awake {
            self.awake = true;
            if let Some(task) = &self.task {
                task.wake_by_ref();
            }
        }
    }

    /// Where an open stream is.
    #[inline]
    pub fn find(&self, id: u32) -> Option<usize> {
        match self.open.last() {
            Some((last, key)) if *last == id => Some(*key),
            _ => self.open.binary_search_by_key(&id, |(id, _)| *id).ok().map(|at| self.open[at].1),
        }
    }

    /// A stream that the client and we have ended, or one of us alone for both.
    pub fn close_stream(&mut self, key: usize) {
        let id = self.streams[key].id;
        if let Ok(at) = self.open.binary_search_by_key(&id, |(id, _)| *id) {
            self.open.remove(at);
        }
    }

    /// Ends a stream before its time.
    pub fn reset_stream(&mut self, key: usize, reason: Reason) {
        let stream = &mut self.streams[key];
        if stream.is_over() {
            return;
        }
        let (id, unended) = (stream.id, stream.receives);
        frame::write_reset(self.wire.back(), id, reason);
        if unended {
            self.remember_reset(id);
        }
        self.abandon(key);
        self.wake();
    }

    /// A stream that was reset while its client may still be sending.
    pub fn remember_reset(&mut self, id: u32) {
        if self.reset.len() == REMEMBERED {
            self.reset.pop_front();
        }
        self.reset.push_back(id);
    }

    /// A stream on which nothing is sent or taken any more, either way.
    pub fn abandon(&mut self, key: usize) {
        let unread = self.streams[key].abandon();
        self.close_stream(key);
        self.give_back(unread);
    }

    fn end_streams(&mut self) {
        for (_, stream) in &mut self.streams {
            stream.abandon();
        }
        self.open.clear();
        self.course = Course::Closed;
        self.block = None;
    }

    /// A stream whose tasks have let go of it.
    pub fn forget(&mut self, key: usize) {
        if self.streams[key].receives {
            // Its answer is whole; what the client still sends is of no use (§8.1).
            self.reset_stream(key, Reason::NO_ERROR);
        }
        if self.streams.remove(key).waits {
            self.waiting.retain(|waits| *waits != key);
        }
        if self.streams.is_empty() {
            self.inbox.rest();
        }
        if self.course == Course::Closed {
            self.wake();
        }
    }

    /// Data of the connection's window was used.
    pub fn give_back(&mut self, bytes: u32) {
        self.owed += bytes;
        if self.owed >= CONNECTION_WINDOW / 2 {
            frame::write_window(self.wire.back(), 0, self.owed);
            self.window_in += self.owed;
            self.owed = 0;
            self.wake();
        }
    }

    /// And of a stream's. It may be one that was reset meanwhile, whose share of the connection's window was given back then.
    pub fn give_back_of(&mut self, key: usize, bytes: u32) {
        let stream = &mut self.streams[key];
        stream.owed += bytes;
        if stream.receives && stream.owed >= STREAM_WINDOW / 2 {
            frame::write_window(self.wire.back(), stream.id, stream.owed);
            stream.window_in += stream.owed;
            stream.owed = 0;
            self.wake();
        }
        self.give_back(bytes);
    }

    /// Has a stream wait for its turn to use what all share.
    pub fn wait_in_line(&mut self, key: usize, waker: &Waker) {
        let stream = &mut self.streams[key];
        stream.keep_owner(waker);
        if !stream.waits {
            stream.waits = true;
            self.waiting.push_back(key);
        }
    }

    /// Whether there is anything to share.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.window_out > 0 && self.wire.has_room()
    }

    /// Wakes streams that wait for their turn, if it has come. One of them that needs nothing more calls this for the next.
    pub fn wake_waiting(&mut self) {
        if !self.has_room() {
            return;
        }
        for _ in 0..WOKEN {
            let Some(key) = self.waiting.pop_front() else { return };
            if let Some(stream) = self.streams.get_mut(key) {
                stream.waits = false;
                stream.wake_owner();
            }
        }
    }

    /// The client has seen that it should begin no more streams.
    pub fn pinged_back(&mut self, payload: &[u8]) {
        if payload == FAREWELL {
            self.take_no_more();
        }
    }

    /// Begins no more streams of a client that was asked to ask for none.
    pub fn take_no_more(&mut self) {
        if self.course == Course::Closing {
            self.course = Course::Closed;
            frame::write_goaway(self.wire.back(), self.last, Reason::NO_ERROR);
        }
    }
}
