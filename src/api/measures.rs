//! Measures: what `/metrics` tells, as plain sums of one moment. `control` gathers them, `admin` writes them down.

use std::sync::LazyLock;

use super::halt::HaltKind;
use super::report::{CertificateStatus, ListenerStatus};
use crate::model::{BUCKETS, FailureKind, NodeAddress, NodeState, ServiceName, Timestamp, Version, upper_edge};

/// Upper edges of the latency buckets that are told, in microseconds. Each is an edge of the buckets that are counted
/// ([`upper_edge`]), so that the sums are exact.
pub const EDGES: [u64; 13] =
    [512, 1_024, 2_560, 5_120, 10_240, 24_576, 49_152, 98_304, 262_144, 524_288, 1_048_576, 2_621_440, 10_485_760];

/// Which of the told buckets a counted one belongs to; the last one is everything above the last edge.
static COARSE: LazyLock<[u8; BUCKETS]> = LazyLock::new(|| {
    std::array::from_fn(|bucket| {
        let edge = upper_edge(bucket).map_or(u128::MAX, |edge| edge.as_micros());
        EDGES.iter().position(|told| edge <= u128::from(*told)).unwrap_or(EDGES.len()) as u8
    })
});

/// The first digit of a status less one: 0 stands for 1xx.
pub fn class_of(status: u16) -> usize {
    usize::from((status / 100).clamp(1, 5)) - 1
}

/// Everything.
#[derive(Debug, Default)]
pub struct Measures {
    /// When this was gathered.
    pub now: Timestamp,
    /// When the proxy started.
    pub started: Timestamp,
    /// Number of the snapshot that is serving.
    pub generation: u64,
    /// Whether requests are welcome.
    pub ready: bool,
    /// Whether what runs is what the files say.
    pub config_ok: bool,
    /// When what runs was loaded.
    pub config_loaded: Timestamp,
    /// Errors and warnings of the last read.
    pub problems: usize,
    /// Whether the newest state of every service is on disk.
    pub journal_ok: bool,
    /// What listeners show to clients.
    pub certificates: Vec<CertificateStatus>,
    /// Listeners.
    pub listeners: Vec<ListenerStatus>,
    /// One a worker.
    pub workers: Vec<WorkerMeasures>,
    /// Requests that were for no service, by the class of their answers.
    pub unrouted: [u64; 5],
    /// Services there are.
    pub service_count: usize,
    /// One a service, by name; empty if `metrics.services` is off.
    pub services: Vec<ServiceMeasures>,
    /// Lines of the access log that were written, and that were lost; none if there is no log.
    pub access_log: (u64, u64),
    /// Whether it can be written.
    pub access_log_ok: bool,
    /// Spans that were told, and that were lost.
    pub spans: (u64, u64),
    /// Nodes that are not told one by one because there are too many.
    pub nodes_left_out: usize,
}

/// One worker.
#[derive(Clone, Debug, Default)]
pub struct WorkerMeasures {
    /// Client connections accepted.
    pub accepted: u64,
    /// Client connections refused at a limit.
    pub refused: u64,
    /// Client connections open.
    pub open: u64,
    /// TLS handshakes that came to their end.
    pub handshakes: u64,
    /// Of them, those that went on with an earlier session.
    pub resumed: u64,
    /// Connections that ended before their first request.
    pub handshakes_failed: u64,
    /// Requests.
    pub requests: u64,
    /// Requests that Sluice answered itself because something was wrong.
    pub failed: u64,
    /// HTTP/2 connections that were ended because of abuse.
    pub abusive: u64,
}

/// One service.
#[derive(Clone, Debug)]
pub struct ServiceMeasures {
    /// Its name.
    pub name: ServiceName,
    /// What is going on.
    pub phase: &'static str,
    /// Whether every node is unhealthy and traffic goes to all of them regardless.
    pub all_down: bool,
    /// How an operator has stopped its traffic.
    pub halted: Option<HaltKind>,
    /// Versions that are refused.
    pub refused: usize,
    /// Its requests, by the class of what clients got.
    pub classes: [u64; 5],
    /// Of them, those that Sluice answered itself because something was wrong.
    pub failed: u64,
    /// Requests sent again to another node.
    pub retried: u64,
    /// Requests that wait because no node is ready.
    pub waiting: usize,
    /// Requests that have waited.
    pub held: u64,
    /// Of them, those that waited in vain.
    pub held_in_vain: u64,
    /// Changes that ended, by outcome.
    pub ended: Vec<(&'static str, u64)>,
    /// What the guard made of versions on trial, whenever it changed its mind, by verdict.
    pub verdicts: [(&'static str, u64); 4],
    /// Nodes that were drained.
    pub drained: u64,
    /// Work that drain deadlines cut, by kind.
    pub cut: [(&'static str, u64); 4],
    /// One a version.
    pub versions: Vec<VersionMeasures>,
    /// Its nodes, if `metrics.nodes` asks for them.
    pub nodes: Vec<NodeMeasures>,
}

/// One version.
#[derive(Clone, Debug)]
pub struct VersionMeasures {
    /// Its name.
    pub version: Version,
    /// Its part of the traffic now: 1 is all.
    pub share: f64,
    /// Requests that its nodes are working on.
    pub in_flight: usize,
    /// Its nodes by state, in the order of [`NodeState::ALL`].
    pub states: [usize; NodeState::ALL.len()],
    /// Connections to its nodes that are open.
    pub connections: u64,
    /// What was counted, of nodes that have left too.
    pub totals: NodeTotals,
}

/// One node.
#[derive(Clone, Debug)]
pub struct NodeMeasures {
    /// Its version.
    pub version: Version,
    /// Its address.
    pub address: NodeAddress,
    /// Where it is on its way.
    pub state: NodeState,
    /// Requests that it is working on.
    pub in_flight: usize,
}

/// Counters of nodes. They add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTotals {
    /// Requests sent, retries included.
    pub requests: u64,
    /// Answers by class.
    pub classes: [u64; 5],
    /// Failures, in the order of [`FailureKind::ALL`].
    pub failures: [u64; FailureKind::ALL.len()],
    /// Latencies between one of [`EDGES`] and the one before; the last is everything above.
    pub latencies: [u64; EDGES.len() + 1],
    /// Their sum, in microseconds.
    pub latency_sum: u64,
    /// Connections opened.
    pub opened: u64,
    /// Requests that a version failed on trial, and that the old one was asked in its place.
    pub shielded: u64,
    /// Copies of requests that it got on trial.
    pub shadowed: u64,
    /// Of them, those that it answered with another status than the original had.
    pub shadow_differed: u64,
    /// Probes that passed.
    pub probes_passed: u64,
    /// Probes that failed.
    pub probes_failed: u64,
}

impl NodeTotals {
    /// Notes so many latencies of a counted bucket.
    pub fn note_latencies(&mut self, bucket: usize, count: u64) {
        let told = COARSE.get(bucket).map_or(EDGES.len(), |told| usize::from(*told));
        self.latencies[told] += count;
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        fn all(sums: &mut [u64], more: &[u64]) {
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
        self.requests += other.requests;
        all(&mut self.classes, &other.classes);
        all(&mut self.failures, &other.failures);
        all(&mut self.latencies, &other.latencies);
        self.latency_sum += other.latency_sum;
        self.opened += other.opened;
        self.shielded += other.shielded;
        self.shadowed += other.shadowed;
        self.shadow_differed += other.shadow_differed;
        self.probes_passed += other.probes_passed;
        self.probes_failed += other.probes_failed;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::bucket_of;

    #[test]
    fn every_edge_that_is_told_is_an_edge_of_what_is_counted() {
        for edge in EDGES {
            let below = bucket_of(Duration::from_micros(edge - 1));
            assert_eq!(upper_edge(below), Some(Duration::from_micros(edge)));
            assert_eq!(bucket_of(Duration::from_micros(edge)), below + 1);
        }
    }

    #[test]
    fn a_latency_is_told_below_its_edge_and_above_the_one_before() {
        for (micros, place) in [(0, 0), (511, 0), (512, 1), (1_023, 1), (10_485_759, 12), (10_485_760, 13)] {
            let mut totals = NodeTotals::default();
            totals.note_latencies(bucket_of(Duration::from_micros(micros)), 3);
            assert_eq!(totals.latencies[place], 3, "{micros} µs: {:?}", totals.latencies);
        }
    }

    #[test]
    fn statuses_have_five_classes() {
        let classes = [101, 200, 308, 499, 599].map(class_of);
        assert_eq!(classes, [0, 1, 2, 3, 4]);
        // Whatever a node sends is counted somewhere.
        assert_eq!((class_of(0), class_of(999)), (0, 4));
    }
}
