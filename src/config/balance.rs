//! How requests are spread over nodes: which node is taken, which ones are left out for a while, and what happens when
//! there is none.

use std::time::Duration;

use http::HeaderName;

use super::error::{Fault, Findings};
use super::reader::{At, Field, Table};
use super::units::shorten;

/// How a node is chosen: `[service.NAME.balance]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Balance {
    /// The rule.
    pub policy: Policy,
    /// A node that begins to serve gets a growing part of its share for so long; not at all if zero.
    pub slow_start: Duration,
    /// Requests at one node at once, over all workers; without a limit if none.
    pub max_requests: Option<usize>,
}

/// The rule by which a node is chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Policy {
    /// The less loaded of two random ones.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// The same node for the same key, as long as it serves.
    Hash {
        /// What of the request is the key. A request without it goes to the less loaded of two.
        by: HashBy,
        /// A node with this much more work than the average (0.25 is a quarter) passes its further requests on to the next
        /// one. None: it keeps them.
        spill: Option<f64>,
    },
}

/// What of a request is its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashBy {
    /// The client's IP address, as trusted proxies tell it.
    Client,
    /// The first value of this header.
    Header(HeaderName),
    /// The value of this cookie.
    Cookie(String),
}

/// When a node is left out because of how it answers: `[service.NAME.eject]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Eject {
    /// Failures in a row, on one worker or in one window, that eject a node; off if 0.
    pub failures: u32,
    /// Which outcomes are failures in a row.
    pub on: Kinds,
    /// A node is ejected if its part of failures (5xx, resets, timeouts) is above that of the other nodes by more than this
    /// (0.3 is thirty percent of all); off if none.
    pub excess: Option<f64>,
    /// Requests that a node, and all others together, must have had in a window before their failures are compared.
    pub volume: u64,
    /// Over how long failures are compared.
    pub window: Duration,
    /// How long the first ejection takes; each further one, if it comes soon, twice as long as the last.
    pub time: Duration,
    /// The longest.
    pub max_time: Duration,
    /// The part of a service's nodes (0.5 is half) that may be out, for whatever reason, when one more is ejected.
    pub max_ejected: f64,
}

impl Eject {
    /// Whether anything is ever ejected.
    pub fn is_on(&self) -> bool {
        self.failures > 0 || self.excess.is_some()
    }
}

/// Which outcomes of a request count as failures in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// No connection.
    pub connect: bool,
    /// The connection broke, or the answer was no usable HTTP.
    pub reset: bool,
    /// No answer in time.
    pub timeout: bool,
    /// An answer with a status of 500 or more.
    pub status: bool,
}

/// What happens to a request for which no node is ready: `[service.NAME.hold]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// How long it waits for one; not at all if zero.
    pub wait: Duration,
    /// Requests that wait at once, over all workers; the next one is answered 503.
    pub most: usize,
    /// Whether those wait, too, that found every node refusing or not taking their connection.
    pub unreachable: bool,
}

impl Default for Eject {
    fn default() -> Self {
        Self {
            // Two can be bad luck with two slow pages; five in a row, without one answer between them, are not.
            failures: 5,
            // A client can choose pages that answer 500, so a status alone proves nothing; and a node that cannot be reached
            // is probed at once and avoided meanwhile.
            on: Kinds { connect: false, reset: true, timeout: true, status: false },
            // What one page or one client does hits all nodes alike: only a broken node stands out by so much.
            excess: Some(0.3),
            // With fewer, chance alone makes one node look worse.
            volume: 100,
            // Ten probes of the default interval: active health had its turn.
            window: Duration::from_secs(10),
            // Long enough for a restart or a long garbage collection.
            time: Duration::from_secs(10),
            // A node that fails for ever costs one look in five minutes.
            max_time: Duration::from_mins(5),
            // Two nodes may become one, but the rest must be able to carry the load.
            max_ejected: 0.5,
        }
    }
}

impl Default for Hold {
    fn default() -> Self {
        Self {
            // The first node of a service becomes healthy within this, and a client still learns of an outage before it gives up.
            wait: Duration::from_secs(2),
            // Some 20 MB at worst, and no more than a node accepts at once when it comes back.
            most: 1000,
            // With every node down, whoever asks wants to know at once; another proxy may be well.
            unreachable: false,
        }
    }
}

/// The words of `policy`.
#[derive(Clone, Copy, PartialEq)]
enum Word {
    LeastRequest,
    RoundRobin,
    Hash,
}

pub(super) fn balance(table: Option<Table<'_>>) -> Balance {
    let mut balance = Balance::default();
    let Some(mut t) = table else {
        return balance;
    };
    let words = [("least-request", Word::LeastRequest), ("round-robin", Word::RoundRobin), ("hash", Word::Hash)];
    let policy = t.choice("policy", Word::LeastRequest, &words, |word| {
        let hint = match word {
            "p2c" | "least_request" | "least-conn" | "leastconn" => "least-request",
            "rr" | "round_robin" | "roundrobin" | "weighted" => "round-robin",
            "consistent-hash" | "ring-hash" | "ip-hash" | "maglev" => "hash",
            _ => return None,
        };
        Some(Fault::new(format!("`policy` cannot be `{word}`")).hint(format!("write \"{hint}\"")))
    });
    let by = t.string("by");
    let spill = t.some_percent("spill", 1.0);
    balance.slow_start = t.duration("slow_start", balance.slow_start);
    balance.max_requests = t.count("max_requests", 1..=1_000_000).get().map(|at| at.value);
    balance.policy = match policy {
        Word::LeastRequest => Policy::LeastRequest,
        Word::RoundRobin => Policy::RoundRobin,
        Word::Hash => Policy::Hash {
            by: by.get().and_then(|at| hash_by(at, t.findings())).unwrap_or(HashBy::Client),
            spill: spill.get().map(|at| at.value),
        },
    };
    if policy != Word::Hash {
        for (key, span) in [("by", by.get().map(|at| &at.span)), ("spill", spill.get().map(|at| &at.span))] {
            if let Some(span) = span {
                let fault = Fault::new(format!("`{key}` needs `policy = \"hash\"`"));
                t.findings().add(span, fault.hint(format!("write `policy = \"hash\"`, or remove `{key}`")));
            }
        }
    }
    t.finish(|_| None);
    balance
}

pub(super) fn hash_by(at: &At<&str>, findings: &Findings<'_>) -> Option<HashBy> {
    let fault = || {
        Fault::new(format!("`{}` is nothing that a request can be told by", shorten(at.value)))
            .hint("write \"client\", \"header X-User\" or \"cookie session\"")
    };
    let parsed = match at.value.split_once(' ').map(|(kind, name)| (kind, name.trim())) {
        None if at.value == "client" => Ok(HashBy::Client),
        Some(("header", name)) => name.parse().map(HashBy::Header).map_err(|_| fault()),
        // RFC 6265 §4.1.1: the name of a cookie is a token, as that of a header.
        Some(("cookie", name)) if name.parse::<HeaderName>().is_ok() => Ok(HashBy::Cookie(name.to_owned())),
        _ => Err(fault()),
    };
    parsed.map_err(|fault| findings.add(&at.span, fault)).ok()
}

pub(super) fn eject(table: Option<Table<'_>>) -> Eject {
    let d = Eject::default();
    let Some(mut t) = table else {
        return d;
    };
    let on = t.string_or_strings("on", "`on` is empty: nothing would count as a failure");
    let max_time = t.duration_at("max_time");
    let mut eject = Eject {
        failures: t.count_or("failures", d.failures as usize, 0..=1000) as u32,
        on: on.get().map_or(d.on, |at| kinds(&at.value, t.findings())),
        excess: d.excess,
        volume: t.count_or("volume", d.volume as usize, 1..=1_000_000) as u64,
        window: t.some_duration("window", d.window),
        time: t.some_duration("time", d.time),
        max_time: max_time.get().map_or(d.max_time, |at| at.value),
        max_ejected: t.percent("max_ejected", d.max_ejected),
    };
    if let Field::Is(at) = t.some_percent("excess", 1.0) {
        // "100%" cannot be exceeded: that is how it is turned off.
        eject.excess = Some(at.value).filter(|excess| *excess < 1.0);
    }
    if let Some(at) = max_time.get().filter(|at| at.value < eject.time) {
        t.findings().add(&at.span, Fault::new("`max_time` is shorter than `time`, the first ejection"));
    }
    eject.max_time = eject.max_time.max(eject.time);
    t.finish(|_| None);
    eject
}

fn kinds(words: &[At<&str>], findings: &Findings<'_>) -> Kinds {
    let mut kinds = Kinds { connect: false, reset: false, timeout: false, status: false };
    for at in words {
        match at.value {
            "connect" => kinds.connect = true,
            "reset" => kinds.reset = true,
            "timeout" => kinds.timeout = true,
            "5xx" => kinds.status = true,
            other => findings.add(
                &at.span,
                Fault::new(format!("`{}` is no kind of failure", shorten(other)))
                    .hint("one of `connect`, `reset`, `timeout` and `5xx`"),
            ),
        }
    }
    kinds
}

pub(super) fn hold(table: Option<Table<'_>>) -> Hold {
    let d = Hold::default();
    let Some(mut t) = table else {
        return d;
    };
    let hold = Hold {
        wait: t.duration("wait", d.wait),
        most: t.count_or("most", d.most, 1..=1_000_000),
        unreachable: t.flag("unreachable", d.unreachable),
    };
    t.finish(|_| None);
    hold
}
