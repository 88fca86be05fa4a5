//! What the load saw, counted.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Failures that are kept with their details.
const EXAMPLES: usize = 20;
/// The longest latency that is told apart, in microseconds; longer ones count as this.
const LONGEST: u64 = 120_000_000;
/// The load's answers name their version; more names than this are a fault of the test, not worth memory.
const VERSIONS: usize = 100;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// GET of a small page.
    Get,
    /// POST of an order with a body: never sent twice.
    Post,
    /// A download that takes seconds.
    Slow,
    /// PUT of a large body in many pieces.
    Upload,
    /// A WebSocket session of some seconds.
    WebSocket,
    /// A stream of server-sent events, read for some seconds.
    Events,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Get, Self::Post, Self::Slow, Self::Upload, Self::WebSocket, Self::Events];

    /// The word that people see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Slow => "download",
            Self::Upload => "upload",
            Self::WebSocket => "websocket",
            Self::Events => "events",
        }
    }

    /// Whether its latency is what a user waits for, and not how long it was meant to take.
    pub fn is_short(self) -> bool {
        matches!(self, Self::Get | Self::Post)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No connection could be made.
    Connect,
    /// The answer had another status than the one that belongs to the request.
    Status,
    /// The connection was closed before the first byte of the answer.
    Closed,
    /// The connection was reset before the first byte of the answer.
    Reset,
    /// No complete answer in time.
    Timeout,
    /// The answer broke off in its body.
    Truncated,
    /// The answer was complete, but not the right one.
    WrongBody,
    /// The answer was not HTTP.
    Protocol,
    /// A WebSocket or an event stream ended in a way that is not an orderly "come back".
    Abnormal,
    /// Too much was in flight already, so it was not even sent.
    Overload,
    /// Still unfinished when the load was stopped and had waited long enough.
    Unfinished,
}

impl Reason {
    /// The word that people see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Status => "status",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::WrongBody => "wrong-body",
            Self::Protocol => "protocol",
            Self::Abnormal => "abnormal",
            Self::Overload => "overload",
            Self::Unfinished => "unfinished",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One failure.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When, counted from the start of the load.
    pub at: Duration,
    /// What failed.
    pub kind: Kind,
    /// Why.
    pub reason: Reason,
    /// More about it, for people.
    pub detail: String,
    /// The version that had begun to answer, if any had.
    pub version: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.as_deref().unwrap_or("nobody");
        write!(
            f,
            "{:.3} s  {}  {}  answered by {version}: {}",
            self.at.as_secs_f64(),
            self.kind,
            self.reason,
            self.detail
        )
    }
}

/// One kind of work.
#[derive(Clone, Debug)]
pub struct KindTally {
    /// Begun.
    pub started: u64,
    /// Ended well.
    pub ok: u64,
    /// Failed, by reason.
    pub failed: BTreeMap<Reason, u64>,
    /// From the moment it was due to its last byte, in microseconds; of those that ended well.
    pub latency: Histogram<u64>,
}

impl KindTally {
    /// Number of failures.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    fn new() -> Self {
        Self { started: 0, ok: 0, failed: BTreeMap::new(), latency: histogram() }
    }
}

/// One version, as `X-Version` tells it.
#[derive(Clone, Copy, Debug)]
pub struct VersionTally {
    /// Answers that it gave, whole or not.
    pub answers: u64,
    /// When the head of its first answer came.
    pub first: Instant,
    /// When the head of its latest answer came.
    pub last_begun: Instant,
    /// When the latest of its answers ended.
    pub last: Instant,
}

/// Everything counted so far: a copy, taken at one moment.
#[derive(Clone, Debug)]
pub struct Tally {
    /// When the load began.
    pub started: Instant,
    /// By kind; every kind is there.
    pub kinds: BTreeMap<Kind, KindTally>,
    /// By version.
    pub versions: BTreeMap<String, VersionTally>,
    /// The first failures.
    pub examples: Vec<Failure>,
    /// Requests that the client sent again because a reused connection had been closed. Zero unless
    /// [`LoadOptions::retry`](super::LoadOptions::retry) is set; whoever sets it must look here.
    pub client_retries: u64,
    /// WebSockets closed with 1012 and event streams ended between two events: the client came back. Not failures.
    pub restarts: u64,
    /// Messages that came back over WebSockets.
    pub messages: u64,
    /// Server-sent events that came.
    pub events: u64,
    /// Connections that the client opened.
    pub connections: u64,
    /// Begun and not ended.
    pub in_flight: usize,
}

impl Tally {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            kinds: Kind::ALL.into_iter().map(|kind| (kind, KindTally::new())).collect(),
            versions: BTreeMap::new(),
            examples: Vec::new(),
            client_retries: 0,
            restarts: 0,
            messages: 0,
            events: 0,
            connections: 0,
            in_flight: 0,
        }
    }

    /// Everything begun.
    pub fn started_total(&self) -> u64 {
        self.kinds.values().map(|kind| kind.started).sum()
    }

    /// Everything that ended well.
    pub fn ok(&self) -> u64 {
        self.kinds.values().map(|kind| kind.ok).sum()
    }

    /// Everything that failed.
    pub fn failures(&self) -> u64 {
        self.kinds.values().map(KindTally::failures).sum()
    }

    /// Failures for one reason, of every kind.
    pub fn failed_by(&self, reason: Reason) -> u64 {
        self.kinds.values().filter_map(|kind| kind.failed.get(&reason)).sum()
    }

    /// Answers of a version; 0 if it never answered.
    pub fn answers(&self, version: &str) -> u64 {
        self.versions.get(version).map_or(0, |tally| tally.answers)
    }

    /// Latency of short work, in microseconds.
    pub fn short(&self) -> Histogram<u64> {
        let mut all = histogram();
        for (kind, tally) in &self.kinds {
            if kind.is_short() {
                // Equal bounds, so that it cannot fail.
                let _ = all.add(&tally.latency);
            }
        }
        all
    }

    /// Latency of short work since an earlier copy of this tally, in microseconds.
    pub fn short_since(&self, earlier: &Self) -> Histogram<u64> {
        let mut all = self.short();
        let _ = all.subtract(earlier.short());
        all
    }

    /// For the message of a test that failed: counts and the first failures.
    pub fn explain(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for (kind, tally) in &self.kinds {
            let _ = writeln!(text, "{kind:10} started {} ok {} failed {:?}", tally.started, tally.ok, tally.failed);
        }
        let _ = writeln!(text, "restarts {} client retries {}", self.restarts, self.client_retries);
        for failure in &self.examples {
            let _ = writeln!(text, "{failure}");
        }
        text
    }

    pub(super) fn begin(&mut self, kind: Kind) {
        self.in_flight += 1;
        self.kind(kind).started += 1;
    }

    pub(super) fn succeed(&mut self, kind: Kind, latency: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let tally = self.kind(kind);
        tally.ok += 1;
        let micros = u64::try_from(latency.as_micros()).unwrap_or(LONGEST);
        tally.latency.saturating_record(micros);
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        self.in_flight = self.in_flight.saturating_sub(1);
        *self.kind(failure.kind).failed.entry(failure.reason).or_default() += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(failure);
        }
    }

    /// The head of an answer came.
    pub(super) fn answered(&mut self, version: &str, now: Instant) {
        if let Some(tally) = self.versions.get_mut(version) {
            tally.answers += 1;
            tally.last_begun = now;
            tally.last = now;
        } else if self.versions.len() < VERSIONS {
            let tally = VersionTally { answers: 1, first: now, last_begun: now, last: now };
            self.versions.insert(version.to_owned(), tally);
        }
    }

    /// Something of this version came, or ended.
    pub(super) fn heard(&mut self, version: &str, now: Instant) {
        if let Some(tally) = self.versions.get_mut(version) {
            tally.last = now;
        }
    }

    fn kind(&mut self, kind: Kind) -> &mut KindTally {
        self.kinds.entry(kind).or_insert_with(KindTally::new)
    }
}

fn histogram() -> Histogram<u64> {
    // Two digits: 1% is more exact than the machine is quiet, and a copy of the tally stays small.
    match Histogram::new_with_bounds(1, LONGEST, 2) {
        Ok(histogram) => histogram,
        Err(_) => unreachable!("the bounds are constants that the library accepts"),
    }
}
