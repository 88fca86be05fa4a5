//! Requests a second, from the differences between looks. Pure.

use std::collections::{HashMap, VecDeque};

use crate::api::{ServiceStatus, Status};
use crate::model::{ServiceName, Timestamp, Version};

/// A rate is that of about so long a time, so that it neither flickers nor lags.
const WINDOW: u64 = 5_000; // ms
/// Looks that are kept at most.
const LOOKS: usize = 8;
/// Looks closer to each other than this tell nothing.
const SHORTEST: u64 = 200; // ms

/// What was counted at one look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    at: u64,
    requests: u64,
    failures: u64,
}

/// What happens now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Requests a second.
    pub requests: f64,
    /// Of them, those that fail, a second.
    pub failures: f64,
}

impl Rate {
    /// The part of the requests that fails, in percent; none without requests.
    pub fn failed(self) -> Option<f64> {
        (self.requests > 0.0).then(|| (self.failures / self.requests * 100.0).min(100.0))
    }
}

/// The last looks at two counters, oldest first.
#[derive(Clone, Debug, Default)]
struct Looks(VecDeque<Count>);

impl Looks {
    fn note(&mut self, at: Timestamp, requests: u64, failures: u64) {
        let now = Count { at: at.0, requests, failures };
        if let Some(last) = self.0.back() {
            let counted_anew = requests < last.requests || failures < last.failures || at.0 < last.at;
            if counted_anew {
                self.0.clear();
            } else if at.0 - last.at < SHORTEST {
                return;
            }
        }
        while self.0.len() >= LOOKS || self.0.get(1).is_some_and(|second| second.at.saturating_add(WINDOW) <= at.0) {
            self.0.pop_front();
        }
        self.0.push_back(now);
    }

    /// None before the second look.
    fn rate(&self) -> Option<Rate> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        let seconds = (last.at - first.at) as f64 / 1000.0;
        (seconds > 0.0).then(|| Rate {
            requests: (last.requests - first.requests) as f64 / seconds,
            failures: (last.failures - first.failures) as f64 / seconds,
        })
    }
}

/// The rates of everything that a status counts.
#[derive(Debug, Default)]
pub struct Rates {
    /// The process that counts: another one begins anew.
    process: (u32, u64),
    all: Looks,
    services: HashMap<ServiceName, Vec<(Version, Looks)>>,
}

impl Rates {
    /// Notes a look; `whole` if the status holds every service.
    pub fn note(&mut self, status: &Status, whole: bool) {
        let process = (status.pid, status.started.0);
        if self.process != process {
            *self = Self { process, ..Self::default() };
        }
        self.all.note(status.now, status.load.requests, status.load.errors);
        if whole {
            self.services.retain(|name, _| {
                status.services.binary_search_by(|service| service.name.as_str().cmp(name.as_str())).is_ok()
            });
        }
        for service in &status.services {
            if !self.services.contains_key(&service.name) {
                self.services.insert(service.name.clone(), Vec::new());
            }
            if let Some(versions) = self.services.get_mut(&service.name) {
                note_versions(versions, service, status.now);
            }
        }
    }

    /// Of the whole proxy: requests, and 5xx that clients got.
    pub fn all(&self) -> Option<Rate> {
        self.all.rate()
    }

    /// Of a version: requests that it was given, and those that it failed.
    pub fn version(&self, service: &ServiceName, version: &Version) -> Option<Rate> {
        self.services.get(service)?.iter().find(|(known, _)| known == version)?.1.rate()
    }

    /// Of all versions of a service.
    pub fn service(&self, service: &ServiceName) -> Option<Rate> {
        let rates = self.services.get(service)?.iter().filter_map(|(_, looks)| looks.rate());
        rates
            .reduce(|sum, rate| Rate { requests: sum.requests + rate.requests, failures: sum.failures + rate.failures })
    }
}

fn note_versions(versions: &mut Vec<(Version, Looks)>, service: &ServiceStatus, now: Timestamp) {
    versions.retain(|(known, _)| service.versions.iter().any(|version| version.version == *known));
    for version in &service.versions {
        let at = versions.iter().position(|(known, _)| *known == version.version).unwrap_or_else(|| {
            versions.push((version.version.clone(), Looks::default()));
            versions.len() - 1
        });
        versions[at].1.note(now, version.requests, version.failures);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::admin::fake;

    fn look(seconds: u64, requests: u64, failures: u64) -> Status {
        let mut shop = fake::service("shop", Path::new("/s.toml"));
        shop.versions[1].requests = requests;
        shop.versions[1].failures = failures;
        let mut status = fake::status(vec![shop]);
        status.now = Timestamp(fake::NOW.0 + seconds * 1000);
        status.load.requests = requests;
        status
    }

    #[test]
    fn a_rate_is_the_difference_of_some_seconds() {
        let mut rates = Rates::default();
        rates.note(&look(0, 100, 0), true);
        assert_eq!(rates.all(), None, "one look is none");
        for (second, requests) in [(1, 150), (2, 200), (3, 250), (4, 300), (5, 350), (6, 1_400)] {
            rates.note(&look(second, requests, second), true);
        }
        let all = rates.all().unwrap();
        assert!((all.requests - 250.0).abs() < 0.01, "1,250 in the last five seconds: {all:?}");
        let shop = rates.service(&"shop".into()).unwrap();
        assert!((shop.requests - 250.0).abs() < 0.01, "the other version does nothing");
        assert!((shop.failed().unwrap() - 0.4).abs() < 0.01, "{shop:?}");
        assert_eq!(rates.version(&"shop".into(), &"v1".into()).unwrap().failed(), None);
    }

    #[test]
    fn a_proxy_that_starts_anew_and_a_clock_that_goes_back_begin_anew() {
        let mut rates = Rates::default();
        rates.note(&look(0, 100, 0), true);
        rates.note(&look(1, 200, 0), true);
        let mut restarted = look(2, 5_000, 0);
        restarted.pid += 1;
        rates.note(&restarted, true);
        assert_eq!(rates.all(), None);
        rates.note(&look(3, 10, 0), true);
        rates.note(&look(2, 20, 0), true);
        assert_eq!(rates.all(), None);
        rates.note(&look(3, 30, 0), true);
        assert!((rates.all().unwrap().requests - 10.0).abs() < 0.01);
    }

    #[test]
    fn a_service_that_is_gone_is_forgotten_but_not_one_that_was_not_asked_for() {
        let mut rates = Rates::default();
        rates.note(&look(0, 1, 0), true);
        let nothing = fake::status(Vec::new());
        rates.note(&nothing, false);
        assert_eq!(rates.services.len(), 1);
        rates.note(&nothing, true);
        assert!(rates.services.is_empty());
    }
}
