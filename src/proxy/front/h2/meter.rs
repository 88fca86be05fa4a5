//! What a client costs. Every frame that brings no request and no data costs a little of an allowance, requests that are
//! answered and data that is taken fill it up again. HTTP/2's floods (PING, SETTINGS, PRIORITY, CONTINUATION, empty frames,
//! window updates of one byte, streams that are reset as soon as they are opened) are all ways to send much of the one and
//! little of the other, and so there is one rule for all.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::Rest;
use super::wire::Wire;

/// The most that can be saved up. A browser that leaves a page resets some fifty streams at once.
const ALLOWANCE: i64 = 2_000;
/// What comes back with each look of the watchdog, twice a second.
const REFILL: i64 = 50;
/// A stream that got its answer; it makes up for one that was reset too early.
const ANSWERED: i64 = 20;
/// A stream that the client reset before its answer began.
pub const RESET_EARLY: i64 = 20;
/// A stream whose answer the client did not take in time.
pub const NOT_TAKEN: i64 = 100;
/// A stream that was refused without becoming a request: a malformed or too large head, or one too many.
const REFUSED: i64 = 20;
/// A change of settings: each open stream's window may have to be looked at.
const SETTINGS: i64 = 20;
/// Any other frame without a use of its own.
const OTHER: i64 = 1;

const PREFACE: usize = 24;
const HEADER: usize = 9;

/// One connection's account. Written by what reads its frames and by its streams, looked at by the connection.
#[derive(Debug)]
pub struct Meter {
    allowance: Cell<i64>,
    /// The preface or a head is incomplete.
    in_head: Cell<bool>,
    /// Streams that the client began, as its frames say.
    begun: Cell<u64>,
    /// Those that became requests, or were paid for.
    settled: Cell<u64>,
    /// The client has acknowledged our settings, and so knows how many streams it may have.
    greeted: Cell<bool>,
    /// `h2` has asked for more than there was: it has dealt with all frames before.
    drained: Cell<bool>,
    /// Bytes of bodies that were sent.
    taken: Cell<u64>,
    /// The watchdog's own: bytes read, since when there are no more, and whether it has asked for a sign of life.
    heard: Cell<Option<(u64, Instant)>>,
    pinged: Cell<bool>,
    /// The watchdog's own: how long nothing is under way.
    pub rest: Cell<Option<Rest>>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            allowance: Cell::new(ALLOWANCE),
            in_head: Cell::new(true),
            begun: Cell::new(0),
            settled: Cell::new(0),
            greeted: Cell::new(false),
            drained: Cell::new(true),
            taken: Cell::new(0),
            heard: Cell::new(None),
            pinged: Cell::new(false),
            rest: Cell::new(None),
        }
    }
}

impl Meter {
    /// Takes from the allowance.
    pub fn spend(&self, cost: i64) {
        self.allowance.set(self.allowance.get() - cost);
    }

    fn earn(&self, worth: i64) {
        self.allowance.set((self.allowance.get() + worth).min(ALLOWANCE));
    }

    /// Told by a stream that was answered to the end.
    pub fn answered(&self) {
        self.earn(ANSWERED);
    }

    /// Told by a stream for what it sends, and when that ends a piece of its body: a client may thank for it with a few
    /// window updates.
    pub fn taken(&self, bytes: usize, whole: bool) {
        self.taken.set(self.taken.get() + bytes as u64);
        if whole {
            self.earn(2 + i64::from((bytes / 1024) as u32));
        }
    }

    /// Bytes of all bodies that had room in the client's windows.
    pub fn all_taken(&self) -> u64 {
        self.taken.get()
    }

    /// Told by the connection for each stream that became a request.
    pub fn accepted(&self) {
        self.settled.set(self.settled.get() + 1);
    }

    /// Charges for the streams that `h2` refused by itself, once it has seen all that was read. One may still be arriving.
    pub fn settle(&self) {
        if !self.drained.get() {
            return;
        }
        let refused = self.begun.get().saturating_sub(self.settled.get() + 1);
        if refused > 0 {
            self.settled.set(self.settled.get() + refused);
            if self.greeted.get() {
                self.spend(REFUSED * i64::from(refused as u32));
            }
        }
    }

    /// Whether the client has used up what it had.
    pub fn is_exhausted(&self) -> bool {
        self.allowance.get() < 0
    }

    /// Told by the watchdog with each of its looks.
    pub fn refill(&self) {
        if !self.is_exhausted() {
            self.earn(REFILL);
        }
    }

    /// Whether the preface or a head has begun and not ended.
    pub fn is_in_head(&self) -> bool {
        self.in_head.get()
    }

    /// The watchdog's: how long nothing was read, by the count of bytes read.
    pub fn silence(&self, read: u64, now: Instant) -> Duration {
        match self.heard.get() {
            Some((known, since)) if known == read => now - since,
            _ => {
                self.heard.set(Some((read, now)));
                self.pinged.set(false);
                Duration::ZERO
            }
        }
    }

    /// The watchdog's: whether it has not asked for a sign of life yet.
    pub fn ping_once(&self) -> bool {
        !self.pinged.replace(true)
    }
}

/// Follows the frames that a client sends, by their headers alone (RFC 9113 §4.1).
#[derive(Debug, Default)]
struct Frames {
    seen: usize,
    header: [u8; HEADER],
    have: usize,
    /// Bytes of the frame that are still to come.
    payload: usize,
    /// The last stream that the client began.
    last: u32,
    /// The frame under way ends a head.
    ends_head: bool,
}

impl Frames {
    fn advance(&mut self, mut data: &[u8], meter: &Meter) {
        if self.seen < PREFACE {
            let rest = data.len().min(PREFACE - self.seen);
            self.seen += rest;
            data = &data[rest..];
            if self.seen < PREFACE {
                return;
            }
            meter.in_head.set(false);
        }
        while !data.is_empty() {
            let wanted = if self.payload > 0 { self.payload } else { HEADER - self.have };
            let (taken, rest) = data.split_at(wanted.min(data.len()));
            data = rest;
            if self.payload > 0 {
                self.payload -= taken.len();
            } else {
                self.header[self.have..self.have + taken.len()].copy_from_slice(taken);
                self.have += taken.len();
                if self.have < HEADER {
                    continue;
                }
                self.have = 0;
                self.begin(meter);
            }
            if self.payload == 0 && std::mem::take(&mut self.ends_head) {
                meter.in_head.set(false);
            }
        }
    }

    /// At the end of a frame's header.
    fn begin(&mut self, meter: &Meter) {
        let [a, b, c, kind, flags, id @ ..] = self.header;
        self.payload = u32::from_be_bytes([0, a, b, c]) as usize;
        let id = u32::from_be_bytes(id) & 0x7FFF_FFFF;
        let (end_stream, end_headers, ack) = (flags & 0x1 != 0, flags & 0x4 != 0, flags & 0x1 != 0);
        match kind {
            // DATA
            0 if self.payload > 0 || end_stream => {}
            // HEADERS
            1 => {
                meter.in_head.set(true);
                self.ends_head = end_headers;
                if id > self.last {
                    self.last = id;
                    meter.begun.set(meter.begun.get() + 1);
                }
            }
            // SETTINGS
            4 if !ack => meter.spend(SETTINGS),
            4 => {
                meter.greeted.set(true);
                meter.spend(OTHER);
            }
            // CONTINUATION
            9 => {
                self.ends_head = end_headers;
                meter.spend(OTHER);
            }
            _ => meter.spend(OTHER + i64::from((self.payload / 1024) as u32)),
        }
    }
}

/// A client's connection, with its frames counted on the way.
#[derive(Debug)]
pub struct Metered {
    wire: Wire,
    frames: Frames,
    meter: Rc<Meter>,
}

impl Metered {
    /// Counts what comes over a connection, from its first byte on.
    pub fn new(wire: Wire, meter: Rc<Meter>) -> Self {
        Self { wire, frames: Frames::default(), meter }
    }
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.meter.is_exhausted() {
            // `h2` reads on as long as there is something to read; the connection has to get a look at the account.
            return Poll::Pending;
        }
        let Self { wire, frames, meter } = &mut *self;
        let before = buf.filled().len();
        let result = Pin::new(wire).poll_read(cx, buf);
        meter.drained.set(result.is_pending());
        frames.advance(&buf.filled()[before..], meter);
        result
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, id: u32, length: usize) -> Vec<u8> {
        let mut frame = (length as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(id.to_be_bytes());
        frame.extend(std::iter::repeat_n(0, length));
        frame
    }

    fn after(frames: &[Vec<u8>], piece: usize) -> Meter {
        let meter = Meter::default();
        let mut follower = Frames::default();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frames.concat());
        for piece in bytes.chunks(piece) {
            follower.advance(piece, &meter);
        }
        meter
    }

    #[test]
    fn requests_and_data_cost_nothing() {
        let meter = after(&[frame(1, 0x4, 1, 30), frame(0, 0, 1, 100), frame(0, 1, 1, 0), frame(1, 0x5, 3, 9)], 1000);
        assert_eq!((meter.allowance.get(), meter.begun.get()), (ALLOWANCE, 2));
        assert!(!meter.is_in_head());
    }

    #[test]
    fn every_flood_uses_up_the_allowance() {
        for (kind, flags, length) in
            [(6, 0, 8), (4, 0, 6), (2, 0, 5), (8, 0, 4), (0, 0, 0), (3, 0, 4), (9, 0, 0), (77, 0, 1)]
        {
            let flood = vec![frame(kind, flags, 1, length); 2_001];
            assert!(after(&flood, 4096).is_exhausted(), "frames of type {kind}");
        }
    }

    #[test]
    fn a_head_is_incomplete_until_its_last_byte() {
        let meter = after(&[frame(1, 0, 1, 30), frame(9, 0, 1, 30)], 7);
        assert!(meter.is_in_head());
        let mut last = frame(9, 0x4, 1, 30);
        last.pop();
        let mut frames = vec![frame(1, 0, 1, 30), last];
        assert!(after(&frames, 7).is_in_head());
        frames[1].push(0);
        assert!(!after(&frames, 7).is_in_head());
        assert!(Meter::default().is_in_head(), "the preface counts too");
    }

    #[test]
    fn streams_that_become_no_requests_are_paid_for() {
        let mut heads: Vec<_> = (0..200).map(|n| frame(1, 0x5, 2 * n + 1, 1)).collect();
        let early = after(&heads, 4096);
        early.settle();
        assert_eq!(early.allowance.get(), ALLOWANCE, "it could not know");
        heads.insert(0, frame(4, 1, 0, 0));
        let meter = after(&heads, 4096);
        meter.earn(OTHER);
        for _ in 0..100 {
            meter.accepted();
        }
        meter.settle();
        assert_eq!(meter.allowance.get(), ALLOWANCE - 99 * REFUSED, "one may still be arriving");
        meter.settle();
        assert_eq!(meter.allowance.get(), ALLOWANCE - 99 * REFUSED, "and each is paid for once");
    }

    proptest! {
        #[test]
        fn the_pieces_in_which_frames_come_do_not_matter(
            frames in proptest::collection::vec((0u8..12, any::<u8>(), 0u32..9, 0usize..40), 0..20),
            piece in 1usize..50,
        ) {
            let frames: Vec<_> = frames.into_iter().map(|(k, f, i, l)| frame(k, f, i, l)).collect();
            let (whole, parts) = (after(&frames, usize::MAX), after(&frames, piece));
            prop_assert_eq!(whole.allowance.get(), parts.allowance.get());
            prop_assert_eq!(whole.begun.get(), parts.begun.get());
            prop_assert_eq!(whole.is_in_head(), parts.is_in_head());
        }
    }
}
