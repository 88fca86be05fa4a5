//! What a client costs. Every frame that brings no request and no data costs a little of an allowance, requests that are
//! answered and data that is taken fill it up again. HTTP/2's floods (PING, SETTINGS, PRIORITY, CONTINUATION, empty frames,
//! window updates of one byte, streams that are reset as soon as they are opened) are all ways to send much of the one and
//! little of the other, and so there is one rule for all.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::super::Rest;

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
pub const REFUSED: i64 = 20;
/// A change of settings: each open stream's window may have to be looked at.
pub const SETTINGS: i64 = 20;
/// Any other frame without a use of its own.
pub const OTHER: i64 = 1;

/// Bytes of answers for which a client may give one of them: half of the smallest window that anything real has.
const THANKED: u64 = 512;

/// One connection's account. Written by the connection for the frames that come, and by its streams.
#[derive(Debug)]
pub struct Meter {
    allowance: Cell<i64>,
    /// The preface or a head is incomplete.
    in_head: Cell<bool>,
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

    /// Told by a stream for what it sends, and when that ends a piece of its body: a client may thank for both with a few window
    /// updates, each for half a window. What it takes byte by byte is worth nothing until it is much.
    pub fn taken(&self, bytes: usize, whole: bool) {
        let before = self.taken.replace(self.taken.get() + bytes as u64);
        let worth = (self.taken.get() / THANKED - before / THANKED) as u32 + if whole { 2 } else { 0 };
        if worth > 0 {
            self.earn(worth.into());
        }
    }

    /// Bytes of all bodies that had room in the client's windows.
    pub fn all_taken(&self) -> u64 {
        self.taken.get()
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

    /// Told by the connection, each time it has looked at what came.
    pub fn set_in_head(&self, in_head: bool) {
        self.in_head.set(in_head);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_with_a_usual_or_a_small_window_may_take_any_amount() {
        let meter = Meter::default();
        for _ in 0..10_000 {
            meter.taken(1024, false);
            meter.spend(2 * OTHER);
            assert_eq!(meter.allowance.get(), ALLOWANCE - 2 * OTHER);
        }
        for _ in 0..10_000 {
            // A piece of 64 KiB through a window of one byte less, with updates for each half of it.
            for bytes in [16_384, 16_384, 16_384, 16_383, 1] {
                meter.taken(bytes, bytes == 1);
            }
            meter.spend(4 * OTHER);
            assert!(!meter.is_exhausted());
        }
    }

    #[test]
    fn a_client_that_takes_byte_by_byte_may_not() {
        let meter = Meter::default();
        let taken = (0..10_000).take_while(|_| {
            meter.taken(1, false);
            meter.spend(2 * OTHER);
            !meter.is_exhausted()
        });
        assert!(taken.count() < 1_100);
    }
}
