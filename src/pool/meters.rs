//! What workers count together: rates, requests under way, connections by address.
//!
//! Nothing of this is touched unless the configuration asks for it. Where it does, the counts are exact over all workers:
//! the kernel deals connections out by chance, so a small limit that is divided would refuse clients which are well below it.
//!
//! A count belongs to a service and its rule, not to a snapshot: an edit that leaves the rule alone leaves the count alone.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::passwords::Passwords;
use super::rate::Limiter;
use crate::config::Rate;
use crate::model::ServiceName;

/// Each address is counted in one of these, so that workers seldom meet.
const SHARDS: usize = 16;

/// All counts of one pool.
#[derive(Debug, Default)]
pub struct Meters {
    limiters: Known<(ServiceName, Rate), Limiter>,
    flights: Known<ServiceName, Flight>,
    /// All client connections. Not by worker, as requests are: the kernel deals them out by chance, and one costs much more than to
    /// be counted.
    pub connections: Arc<Flight>,
    /// Compares the passwords of all services.
    pub passwords: Passwords,
    addresses: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
}

/// What is in use somewhere, by its key. Locked when a worker sees a new snapshot, never for a request.
#[derive(Debug)]
struct Known<K, V>(Mutex<HashMap<K, Weak<V>>>);

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V> Known<K, V> {
    /// What is known under this key, or what `make` makes.
    fn get(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut known = lock(&self.0);
        if let Some(value) = known.get(&key).and_then(Weak::upgrade) {
            return value;
        }
        let value = Arc::new(make());
        known.retain(|_, other| other.strong_count() > 0);
        known.insert(key, Arc::downgrade(&value));
        value
    }
}

/// Nothing panics while it holds one of these locks; if something did, the counts are still counts.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meters {
    /// The count of a rate.
    pub fn limiter(&self, service: &ServiceName, rate: &Rate) -> Arc<Limiter> {
        self.limiters.get((service.clone(), rate.clone()), || Limiter::new(rate))
    }

    /// The count of a service's requests.
    pub fn flight(&self, service: &ServiceName) -> Arc<Flight> {
        self.flights.get(service.clone(), Flight::default)
    }

    /// Counts a connection from this address; `None` if there are `most` already.
    pub fn connect(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Connected> {
        let key = client_key(address);
        let mut counts = lock(self.shard(key));
        let count = counts.entry(key).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Connected { meters: Arc::clone(self), key })
    }

    fn shard(&self, key: IpAddr) -> &Mutex<HashMap<IpAddr, usize>> {
        let sum = match key {
            IpAddr::V4(ip) => ip.octets().into_iter().fold(0, u8::wrapping_add),
            IpAddr::V6(ip) => ip.octets().into_iter().fold(0, u8::wrapping_add),
        };
        &self.addresses[usize::from(sum) % SHARDS]
    }
}

/// By what a client is known: its address, in IPv6 its /64, of which one client has 2^64 addresses.
pub fn client_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64))),
        ip @ IpAddr::V4(_) => ip,
    }
}

/// A connection that is counted as long as this lives.
#[derive(Debug)]
pub struct Connected {
    meters: Arc<Meters>,
    key: IpAddr,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut counts = lock(self.meters.shard(self.key));
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// What is under way: requests of a service, connections.
#[derive(Debug, Default)]
pub struct Flight(AtomicUsize);

impl Flight {
    /// Counts one more; `None` if there are `most` already.
    pub fn enter(self: &Arc<Self>, most: usize) -> Option<Ticket> {
        let ticket = Ticket(Arc::clone(self));
        (self.0.fetch_add(1, Ordering::Relaxed) < most).then_some(ticket)
    }
}

/// One that is counted as long as this lives.
#[derive(Debug)]
pub struct Ticket(Arc<Flight>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_address_and_in_ipv6_by_network() {
        let meters = Arc::new(Meters::default());
        let of = |text: &str| meters.connect(text.parse().expect("an address"), 2);
        let first = of("2001:db8::1");
        let second = of("2001:db8::2:3");
        assert!(first.is_some() && second.is_some() && of("2001:db8::9").is_none());
        assert!(of("2001:db8:0:1::1").is_some(), "another network");
        let four = (of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert!(four.0.is_some() && four.1.is_some() && of("192.0.2.1").is_none());
        drop(first);
        assert!(of("2001:db8::9").is_some());
        drop((second, four));
        assert!(meters.addresses.iter().all(|shard| lock(shard).is_empty()), "nothing is left behind");
    }

    #[test]
    fn requests_are_counted_exactly_over_threads() {
        let meters = Meters::default();
        let flight = meters.flight(&ServiceName::new("a"));
        let most = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        if let Some(ticket) = flight.enter(3) {
                            most.fetch_max(flight.0.load(Ordering::Relaxed), Ordering::Relaxed);
                            drop(ticket);
                        }
                    }
                });
            }
        });
        assert_eq!(flight.0.load(Ordering::Relaxed), 0);
        assert!(Arc::ptr_eq(&flight, &meters.flight(&ServiceName::new("a"))));
    }
}
