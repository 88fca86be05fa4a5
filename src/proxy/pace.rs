//! How fast a client sends or takes a body, measured only while it is the client who is waited for: a node that takes its
//! time costs nobody his upload.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The pace of one call. Read and written by the watchdog, but for the bytes that came.
#[derive(Debug, Default)]
pub struct Pace {
    /// Bytes a second, and over how much waiting; set by the handler. Zero: any pace will do.
    rate: Cell<u64>,
    window: Cell<Duration>,
    /// Bytes of the request's body; counted by the body.
    came: Cell<u64>,
    /// The last look, how much of the time since the window began was waiting, and how much had moved then.
    looked: Cell<Option<Instant>>,
    waited: Cell<Duration>,
    before: Cell<u64>,
}

impl Pace {
    /// Asks for this many bytes in each second of waiting, as a mean over `window`.
    pub fn ask(&self, rate: u64, window: Duration) {
        self.rate.set(rate);
        self.window.set(window);
    }

    /// Told by a request's body.
    pub fn count(&self, bytes: usize) {
        self.came.set(self.came.get() + bytes as u64);
    }

    /// Bytes that have to move in `time`, and at least one.
    pub fn owed(&self, time: Duration) -> u64 {
        ((self.rate.get() as f64 * time.as_secs_f64()) as u64).max(1)
    }

    /// Bytes of the request's body so far.
    pub fn came(&self) -> u64 {
        self.came.get()
    }

    /// The watchdog's look: whether the client was too slow. `waits` is whether the client is waited for now, `moved` what
    /// has moved so far.
    pub fn is_too_slow(&self, now: Instant, waits: bool, moved: u64) -> bool {
        let rate = self.rate.get();
        if rate == 0 {
            return false;
        }
        let Some(looked) = self.looked.replace(Some(now)) else {
            self.before.set(moved);
            return false;
        };
        if !waits {
            return false;
        }
        let waited = self.waited.get() + (now - looked);
        self.waited.set(waited);
        if waited < self.window.get() {
            return false;
        }
        self.waited.set(Duration::ZERO);
        let before = self.before.replace(moved);
        (moved.saturating_sub(before) as f64) < rate as f64 * waited.as_secs_f64()
    }

    /// From here on something else is measured: what moved the other way counts no more.
    pub fn turn(&self) {
        self.looked.set(None);
        self.waited.set(Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks each 100 ms for `seconds`; each second, `bytes` come and the client is waited for in `waits` tenths of it.
    fn too_slow(bytes: u64, waits: u32, seconds: u32) -> bool {
        let pace = Pace::default();
        pace.ask(100, Duration::from_secs(10));
        let start = Instant::now();
        (0..seconds * 10).any(|tick| {
            let second = u64::from(tick / 10);
            pace.is_too_slow(start + Duration::from_millis(100) * tick, tick % 10 < waits, second * bytes)
        })
    }

    #[test]
    fn only_waiting_for_the_client_counts() {
        assert!(too_slow(50, 10, 30));
        assert!(!too_slow(120, 10, 300));
        assert!(!too_slow(50, 0, 300), "nobody waits for it");
        assert!(!too_slow(50, 4, 300), "it sends 50 bytes in each 400 ms that it is given");
        assert!(too_slow(0, 1, 200), "nothing in ten seconds of waiting");
    }
}
