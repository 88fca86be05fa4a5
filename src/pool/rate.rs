//! A rate, kept for each client: GCRA (a token bucket without a timer), in a table of fixed size.
//!
//! `governor` does the arithmetic; its own tables grow with every new client, and an attacker has as many addresses as he
//! likes. This one never grows. A key can be in eight places; if others are there, the one goes that has asked least lately,
//! which is the one whose bucket is fullest: forgetting it forgives the least.

use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};

use crate::config::Rate;

/// Keys that are known at once. 16 bytes each: 1 MiB a rate.
const KEYS: usize = 1 << 16;
/// Places where a key can be: two cache lines.
const WAYS: usize = 8;
/// Locks. Each is held for some ten nanoseconds.
const SHARDS: usize = 64;
const SETS: usize = KEYS / WAYS / SHARDS;

/// The count of a rate.
#[derive(Debug)]
pub struct Limiter {
    inner: RateLimiter<u64, Table, MonotonicClock>,
    /// Drawn anew for each limiter, so that nobody can aim at the places of another.
    seed: RandomState,
}

impl Limiter {
    /// Everybody's bucket is full.
    pub fn new(rate: &Rate) -> Self {
        let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
        // At least a nanosecond, says the configuration.
        let quota = Quota::with_period(rate.per / rate.requests.max(1)).unwrap_or_else(|| Quota::per_second(burst));
        let inner = RateLimiter::new(quota.allow_burst(burst), Table::default(), MonotonicClock);
        Self { inner, seed: RandomState::new() }
    }

    /// Takes one request out of this key's bucket. `Err`: there is none for this long.
    pub fn check(&self, key: impl Hash) -> Result<(), Duration> {
        // Zero marks a free place.
        let key = self.seed.hash_one(key).max(1);
        self.inner.check_key(&key).map_err(|until| until.wait_time_from(self.inner.clock().now()))
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: u64,
    /// When the bucket will be full again; before now, it is.
    full: u64,
}

#[derive(Debug)]
struct Table(Vec<Mutex<Box<[[Slot; WAYS]]>>>);

impl Default for Table {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Mutex::new(vec![[Slot::default(); WAYS]; SETS].into())).collect())
    }
}

impl StateStore for Table {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let index = *key as usize;
        let mut shard = self.0[index % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        let set = &mut shard[index / SHARDS % SETS];
        if let Some(slot) = set.iter_mut().find(|slot| slot.key == *key) {
            let (value, full) = f(Some(Nanos::from(slot.full)))?;
            slot.full = full.as_u64();
            return Ok(value);
        }
        let (value, full) = f(None)?;
        if let Some(slot) = set.iter_mut().min_by_key(|slot| slot.full) {
            *slot = Slot { key: *key, full: full.as_u64() };
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RateKey;

    fn limiter(requests: u32, per: Duration, burst: u32) -> Limiter {
        Limiter::new(&Rate { requests, per, burst, by: RateKey::Client, path: None })
    }

    #[test]
    fn a_burst_goes_through_and_then_the_rate_holds() {
        let limiter = limiter(1, Duration::from_hours(1), 5);
        for _ in 0..5 {
            assert_eq!(limiter.check("a"), Ok(()));
        }
        let wait = limiter.check("a").expect_err("the bucket is empty");
        assert!(wait > Duration::from_mins(59) && wait <= Duration::from_hours(1), "{wait:?}");
        assert_eq!(limiter.check("b"), Ok(()));
    }

    #[test]
    fn a_bucket_fills_again() {
        let limiter = limiter(1000, Duration::from_secs(1), 1);
        assert_eq!(limiter.check("a"), Ok(()));
        let mut granted = 0;
        let start = std::time::Instant::now();
        // On a busy machine this thread sleeps for most of the time, and a bucket of one does not save up.
        while granted < 20 && start.elapsed() < Duration::from_secs(30) {
            granted += u32::from(limiter.check("a").is_ok());
        }
        let most = start.elapsed().as_millis() as u32 + 2;
        assert!(granted == 20 && granted <= most, "{granted} of at most {most}");
    }

    #[test]
    fn a_million_clients_do_not_make_it_grow_or_forget_the_greedy_one() {
        let limiter = limiter(100, Duration::from_hours(1), 100);
        for _ in 0..100 {
            assert_eq!(limiter.check("greedy"), Ok(()));
        }
        for client in 0..1_000_000 {
            // Newcomers are served, whoever has to be forgotten.
            assert_eq!(limiter.check(client), Ok(()));
        }
        assert!(limiter.check("greedy").is_err(), "it cannot hide behind a million addresses");
    }
}
