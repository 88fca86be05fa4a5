//! What an origin is working on: for its counts, for idle connections, and for a graceful end.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::origin::{Shared, lock};

/// Whether a connection waits for its next request, and since when. A new connection does not: what is to be tried out
/// is the race on reused ones, and a busy machine may take long to send the first request.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<(usize, Option<Instant>)>);

impl Meter {
    /// When the connection has waited long enough.
    pub(super) fn deadline(&self, limit: Option<Duration>) -> Instant {
        let limit = limit.unwrap_or(Duration::from_hours(1));
        match *lock(&self.0) {
            (0, Some(since)) => since + limit,
            _ => Instant::now() + limit,
        }
    }
}

/// One request, from its head to the end of its answer's body. Dropping it is the end.
#[derive(Debug)]
pub(super) struct Work {
    shared: Arc<Shared>,
    meter: Arc<Meter>,
    _alive: mpsc::Sender<()>,
}

impl Work {
    /// The head of a request came. `alive` keeps a graceful stop from ending before it.
    pub(super) fn begin(shared: &Arc<Shared>, meter: &Arc<Meter>, alive: &mpsc::Sender<()>) -> Self {
        shared.counters.active.fetch_add(1, Ordering::Relaxed);
        lock(&meter.0).0 += 1;
        Self { shared: shared.clone(), meter: meter.clone(), _alive: alive.clone() }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.shared.counters.active.fetch_sub(1, Ordering::Relaxed);
        let mut meter = lock(&self.meter.0);
        meter.0 -= 1;
        meter.1 = Some(Instant::now());
    }
}
