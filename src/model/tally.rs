//! What a version did, in numbers: requests, failures by kind, and how long its answers took to begin.
//!
//! Plain sums, which add up: over workers, over nodes, over proxies.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a request can fail at a node that is to blame for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureKind {
    /// A status that counts as a failure.
    Status,
    /// No connection.
    Connect,
    /// The connection broke before an answer, or what came was no usable answer.
    Reset,
    /// No answer in time.
    Timeout,
    /// The answer broke off in its body.
    Truncated,
}

impl FailureKind {
    /// All of them, in the order in which a [`Tally`] counts them.
    pub const ALL: [Self; 5] = [Self::Status, Self::Connect, Self::Reset, Self::Timeout, Self::Truncated];

    /// The word that operators see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
        }
    }
}

/// Latency buckets: the first holds everything below `SHORTEST` microseconds, then four to an octave, the last everything above.
pub const BUCKETS: usize = 82;

/// In microseconds.
const SHORTEST: u64 = 1 << FIRST_OCTAVE;
const FIRST_OCTAVE: u32 = 7;
const PER_OCTAVE: u64 = 4;

/// The bucket of a latency.
pub fn bucket_of(latency: Duration) -> usize {
    let micros = latency.as_micros().min(u128::from(u64::MAX)) as u64;
    if micros < SHORTEST {
        return 0;
    }
    let octave = micros.ilog2();
    let quarter = (micros >> (octave - 2)) % PER_OCTAVE;
    (1 + u64::from(octave - FIRST_OCTAVE) * PER_OCTAVE + quarter).min(BUCKETS as u64 - 1) as usize
}

/// What every latency of a bucket is below; none for the last one.
pub fn upper_edge(bucket: usize) -> Option<Duration> {
    if bucket + 1 >= BUCKETS {
        return None;
    }
    let Some(place) = (bucket as u64).checked_sub(1) else {
        return Some(Duration::from_micros(SHORTEST));
    };
    let (octave, quarter) = (place / PER_OCTAVE + u64::from(FIRST_OCTAVE), place % PER_OCTAVE);
    Some(Duration::from_micros((1 << octave) / PER_OCTAVE * (PER_OCTAVE + quarter + 1)))
}

/// What one version, or one node, did in some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Requests whose outcome is known, failed ones included; without those that a client gave up or broke.
    pub requests: u64,
    /// Of them, those that failed, in the order of [`FailureKind::ALL`].
    pub failures: [u64; FailureKind::ALL.len()],
    /// How long answers took to begin.
    pub latencies: Latencies,
    /// Requests that were sent and have no outcome yet: as it is, not a count over some time.
    #[serde(default)]
    pub waiting: u64,
}

impl Tally {
    /// Failures of one kind.
    pub fn failed(&self, kind: FailureKind) -> u64 {
        self.failures[kind as usize]
    }

    /// Adds what another did.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        for (sum, more) in self.failures.iter_mut().zip(other.failures) {
            *sum += more;
        }
        self.latencies.add(&other.latencies);
        self.waiting += other.waiting;
    }

    /// What came since `earlier`, which was counted by the same counters.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut failures = self.failures;
        for (count, before) in failures.iter_mut().zip(earlier.failures) {
            *count = count.saturating_sub(before);
        }
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            failures,
            latencies: self.latencies.since(&earlier.latencies),
            waiting: self.waiting,
        }
    }
}

/// Latencies by bucket. Nothing is allocated before the first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(usize, u64)>", into = "Vec<(usize, u64)>")]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// Notes `count` latencies of a bucket; buckets beyond the last belong to the last.
    pub fn note(&mut self, bucket: usize, count: u64) {
        if count > 0 {
            if self.0.is_empty() {
                self.0.resize(BUCKETS, 0);
            }
            self.0[bucket.min(BUCKETS - 1)] += count;
        }
    }

    /// How many there are in a bucket.
    pub fn count(&self, bucket: usize) -> u64 {
        self.0.get(bucket).copied().unwrap_or(0)
    }

    /// How many there are in all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// How many are not below the upper edge of `bucket`.
    pub fn above(&self, bucket: usize) -> u64 {
        self.0.iter().skip(bucket + 1).sum()
    }

    /// The bucket that holds this quantile (0.99 is the 99th percentile); none without latencies.
    pub fn quantile(&self, quantile: f64) -> Option<usize> {
        let total = self.total();
        let rank = ((quantile * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        self.0.iter().position(|count| {
            seen += count;
            seen >= rank
        })
    }

    fn add(&mut self, other: &Self) {
        for (bucket, count) in other.0.iter().enumerate() {
            self.note(bucket, *count);
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        let mut rest = Self::default();
        for bucket in 0..self.0.len() {
            rest.note(bucket, self.count(bucket).saturating_sub(earlier.count(bucket)));
        }
        rest
    }
}

impl From<Vec<(usize, u64)>> for Latencies {
    fn from(pairs: Vec<(usize, u64)>) -> Self {
        let mut latencies = Self::default();
        for (bucket, count) in pairs {
            latencies.note(bucket, count);
        }
        latencies
    }
}

impl From<Latencies> for Vec<(usize, u64)> {
    fn from(latencies: Latencies) -> Self {
        latencies.0.into_iter().enumerate().filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_lies_below_the_upper_edge_of_its_bucket_and_not_below_the_one_before() {
        let mut micros: u64 = 1;
        while micros < 1 << 40 {
            let latency = Duration::from_micros(micros);
            let bucket = bucket_of(latency);
            assert!(upper_edge(bucket).is_none_or(|edge| latency < edge), "{latency:?} in {bucket}");
            let before = bucket.checked_sub(1).and_then(upper_edge);
            assert!(before.is_none_or(|edge| latency >= edge), "{latency:?} in {bucket}");
            micros += micros / 7 + 1;
        }
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_quantile_is_the_bucket_in_which_so_many_are_reached() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        latencies.note(3, 98);
        latencies.note(7, 2);
        assert_eq!(
            (latencies.quantile(0.5), latencies.quantile(0.98), latencies.quantile(0.99)),
            (Some(3), Some(3), Some(7))
        );
        assert_eq!((latencies.above(3), latencies.above(2), latencies.above(7)), (2, 100, 0));
    }

    #[test]
    fn a_tally_survives_being_written_and_read() {
        let mut tally = Tally { requests: 7, failures: [1, 0, 2, 0, 0], ..Tally::default() };
        tally.latencies.note(5, 6);
        let text = serde_json::to_string(&tally).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally);
        assert!(text.len() < 100, "{text}");
    }
}
