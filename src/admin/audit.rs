//! The audit line: who asked for a change, and what became of it.
//!
//! Changes are always told. Refusals are told up to a bound, because anybody who reaches the port can bring them about: they must not fill a
//! disk, nor push out of the log what matters.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use http::request::Parts;

use super::visitor::Visitor;

/// Refusals that are told in a [`SPAN`].
const MOST: u32 = 60;
const SPAN: Duration = Duration::from_mins(1);

/// Tells who asked for a change, and what became of it.
pub(super) fn audit(visitor: &Visitor, head: &Parts, status: StatusCode) {
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    tracing::info!(target: "audit", by = visitor.name(), method = %head.method, target = %target.escape_debug(),
        status = status.as_u16(), "audit: admin request");
}

/// How many refusals were told lately.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Lately>);

#[derive(Debug, Default)]
struct Lately {
    since: Option<Instant>,
    seen: u32,
}

impl Refusals {
    /// Tells one, unless there were too many; what was not told is counted, and the count is told with the first one after.
    pub(super) fn audit(&self, visitor: &Visitor, head: &Parts, status: StatusCode) {
        let (tell, missed) = self.0.lock().unwrap_or_else(PoisonError::into_inner).see(Instant::now());
        if missed > 0 {
            tracing::warn!(target: "audit", refusals = missed, "audit: more requests were refused than told");
        }
        if tell {
            audit(visitor, head, status);
        }
    }
}

impl Lately {
    /// Whether this one is told, and how many before it were not.
    fn see(&mut self, now: Instant) -> (bool, u32) {
        let begins = self.since.is_none_or(|since| now.saturating_duration_since(since) >= SPAN);
        let missed = if begins { self.seen.saturating_sub(MOST) } else { 0 };
        if begins {
            *self = Self { since: Some(now), seen: 0 };
        }
        self.seen = self.seen.saturating_add(1);
        (self.seen <= MOST, missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_up_to_a_bound_and_what_is_not_told_is_counted() {
        let (mut lately, now) = (Lately::default(), Instant::now());
        let told = (0..MOST + 40).filter(|_| lately.see(now).0).count();
        assert_eq!(told, MOST as usize);
        assert_eq!(lately.see(now + SPAN), (true, 40));
        assert_eq!(lately.see(now + SPAN), (true, 0));
    }
}
