//! Where requests wait while no node of their service is ready.
//!
//! One for each service, over all workers. A request first takes a place, then asks to be told, and then looks once more
//! whether a node is ready; who makes one ready does so first and then looks whether somebody waits. So in any order at least one of
//! the two sees the other, and nobody sleeps beside a free node. Nothing here is touched by requests that find one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The requests of one service that wait for a node.
#[derive(Debug, Default)]
pub struct Hold {
    /// How many wait now.
    waiting: AtomicUsize,
    /// How many have waited since the start.
    held: AtomicU64,
    /// Of them, those that waited in vain.
    expired: AtomicU64,
    ready: Notify,
}

/// One request's place among those that wait; left when dropped, also when its client goes.
#[derive(Debug)]
pub struct Place(Arc<Hold>);

impl Hold {
    /// Takes a place, unless `most` are taken.
    pub fn enter(self: &Arc<Self>, most: usize) -> Option<Place> {
        let more = |waiting| (waiting < most).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        self.held.fetch_add(1, Ordering::Relaxed);
        Some(Place(Arc::clone(self)))
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many have waited since the start, and how many of them in vain.
    pub fn totals(&self) -> (u64, u64) {
        (self.held.load(Ordering::Relaxed), self.expired.load(Ordering::Relaxed))
    }

    /// A node has room for one more: wakes the request that has waited longest.
    pub fn wake_one(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.ready.notify_one();
        }
    }

    /// Other nodes serve now: wakes every request.
    pub fn wake_all(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.ready.notify_waiters();
        }
    }
}

impl Place {
    /// Ready once somebody has called. Enable it, then look for a node, then await it.
    pub fn called(&self) -> Notified<'_> {
        fence(Ordering::SeqCst);
        self.0.ready.notified()
    }

    /// Nobody called in time.
    pub fn expire(&self) {
        self.0.expired.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn no_more_wait_than_may() {
        let hold = Arc::new(Hold::default());
        let places: Vec<_> = (0..3).filter_map(|_| hold.enter(2)).collect();
        assert_eq!((places.len(), hold.waiting()), (2, 2));
        drop(places);
        assert_eq!(hold.waiting(), 0);
        assert!(hold.enter(2).is_some());
        assert_eq!(hold.totals(), (3, 0));
    }

    #[test]
    fn a_call_for_one_wakes_who_came_first_and_is_passed_on_if_that_one_goes() {
        let hold = Arc::new(Hold::default());
        let places = [hold.enter(9), hold.enter(9)].map(|place| place.expect("a place"));
        let mut calls = places.each_ref().map(|place| Box::pin(place.called()));
        for call in &mut calls {
            assert!(!call.as_mut().enable());
        }
        hold.wake_one();
        let [first, mut second] = calls;
        let mut cx = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        drop(first);
        assert!(second.as_mut().poll(&mut cx).is_ready());
    }
}
