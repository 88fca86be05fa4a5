//! What the demo found, and what it makes of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::ledger::Ledger;
use super::origin::OriginCounts;
use super::script::Release;
use super::tally::Tally;
use crate::api::{Ended, Outcome};

/// Everything the demo prints at its end; with `--json` this is the document.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Version of this document's shape.
    pub schema: u32,
    /// Whether everything went as promised; decides the exit code.
    pub ok: bool,
    /// One line for people.
    pub verdict: String,
    /// How the rollout ended.
    pub outcome: Outcome,
    /// What the proxy said about that.
    pub message: String,
    /// Requests, WebSocket sessions and event streams begun.
    pub requests: u64,
    /// How many of them failed, by what the client saw.
    pub failed: u64,
    /// POSTs among them: a POST that reached a node is never sent twice, so nothing can shield it.
    pub failed_posts: u64,
    /// Requests that the new version's nodes got.
    pub new_requests: u64,
    /// The first failures.
    pub failures: Vec<String>,
    /// Requests of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Answers of each version.
    pub versions: BTreeMap<String, u64>,
    /// POSTs that were answered.
    pub posts: u64,
    /// POSTs that were executed more than once, by the origins' own ledger.
    pub duplicated: u64,
    /// POSTs that were answered but are not in the ledger.
    pub lost: u64,
    /// Requests that a node got before it was ready.
    pub early: u64,
    /// Requests that a node got after it was told to stop.
    pub late: u64,
    /// Messages that came back over WebSockets.
    pub websocket_messages: u64,
    /// WebSockets that were asked to connect again, and did.
    pub websocket_restarts: u64,
    /// From the edit to the first answer of the new version, in milliseconds.
    pub first_new_ms: Option<u64>,
    /// From the edit to the end of the last answer of the old version, in milliseconds.
    pub last_old_ms: Option<u64>,
    /// From the edit to the end of the wait, in milliseconds.
    pub wait_ms: u64,
    /// Latency of GETs and POSTs, all the time.
    pub latency: Latency,
    /// The same, between the edit and the end of the wait.
    pub latency_during: Latency,
    /// How long all of it took, in milliseconds.
    pub took_ms: u64,
}

/// Quantiles, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Half are faster.
    pub p50_ms: f64,
    /// All but one in a hundred are faster.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl Latency {
    pub(super) fn of(micros: &Histogram<u64>) -> Self {
        let ms = |micros: u64| micros as f64 / 1000.0;
        Self {
            p50_ms: ms(micros.value_at_quantile(0.5)),
            p99_ms: ms(micros.value_at_quantile(0.99)),
            max_ms: ms(micros.max()),
        }
    }
}

/// POSTs that a broken version may fail before it is sent back.
const POSTS_LOST: u64 = 5;

/// `1 request`, `2 requests`.
fn many(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What the course of the demo left behind.
pub(super) struct Evidence<'a> {
    pub(super) release: Release,
    pub(super) begun: Instant,
    pub(super) edited: Instant,
    pub(super) waited: Duration,
    pub(super) ended: &'a Ended,
    /// At the edit, at the end of the wait, at the end.
    pub(super) tallies: [&'a Tally; 3],
    pub(super) ledger: &'a Ledger,
    /// What the old nodes and the new nodes saw.
    pub(super) nodes: [Vec<OriginCounts>; 2],
}

impl Summary {
    pub(super) fn of(evidence: Evidence<'_>) -> Self {
        let [at_edit, at_end, tally] = evidence.tallies;
        let [old, new] = &evidence.nodes;
        let posts = tally.kinds[&super::Kind::Post].ok;
        let all = || old.iter().chain(new);
        let since = |at: Instant| at.saturating_duration_since(evidence.edited).as_millis() as u64;
        let mut summary = Self {
            schema: 1,
            ok: false,
            verdict: String::new(),
            outcome: evidence.ended.outcome,
            message: evidence.ended.message.clone(),
            requests: tally.started_total(),
            failed: tally.failures(),
            failed_posts: tally.kinds[&super::Kind::Post].failures(),
            new_requests: new.iter().map(|node| node.requests).sum(),
            failures: tally.examples.iter().map(ToString::to_string).collect(),
            kinds: tally.kinds.iter().map(|(kind, tally)| (kind.as_str(), tally.started)).collect(),
            versions: tally.versions.iter().map(|(version, tally)| (version.clone(), tally.answers)).collect(),
            posts,
            duplicated: evidence.ledger.duplicates().len() as u64,
            lost: posts.saturating_sub(evidence.ledger.orders()),
            early: all().map(|node| node.early).sum(),
            late: all().map(|node| node.late).sum(),
            websocket_messages: tally.messages,
            websocket_restarts: tally.restarts,
            first_new_ms: tally.versions.get("v2").map(|tally| since(tally.first)),
            last_old_ms: tally.versions.get("v1").map(|tally| since(tally.last)),
            wait_ms: evidence.waited.as_millis() as u64,
            latency: Latency::of(&tally.short()),
            latency_during: Latency::of(&at_end.short_since(at_edit)),
            took_ms: evidence.begun.elapsed().as_millis() as u64,
        };
        let problems = summary.problems(evidence.release, summary.new_requests);
        summary.ok = problems.is_empty();
        summary.verdict = if summary.ok {
            summary.success(evidence.release)
        } else {
            format!("Not as promised: {}.", problems.join("; "))
        };
        summary
    }

    fn success(&self, release: Release) -> String {
        match release {
            Release::Good => "The new version took over, and no request noticed.".into(),
            Release::Canary => "The new version took over by steps, and no request noticed.".into(),
            Release::Unhealthy => "The version that never became healthy was refused, and no request noticed.".into(),
            Release::Broken if self.failed == 0 => {
                format!(
                    "The broken version was sent back after {}, and no user noticed.",
                    many(self.new_requests, "request")
                )
            }
            Release::Broken => format!(
                "The broken version was sent back after {}; {} failed, which nobody may send twice, and no GET did.",
                many(self.new_requests, "request"),
                many(self.failed, "POST"),
            ),
        }
    }

    /// What is not as it should be.
    pub(super) fn problems(&self, release: Release, new_requests: u64) -> Vec<String> {
        let unhealthy = release == Release::Unhealthy;
        let mut problems = Vec::new();
        let mut counted = |count: u64, what: &str| {
            if count > 0 {
                problems.push(format!("{count} {what}"));
            }
        };
        if release == Release::Broken {
            counted(self.failed - self.failed_posts, "requests that could be shielded failed");
            counted(self.failed_posts.saturating_sub(POSTS_LOST), "POSTs more failed than a decision in time costs");
        } else {
            counted(self.failed, "requests failed");
        }
        counted(self.duplicated, "POSTs were executed more than once");
        counted(self.lost, "POSTs were answered but not executed by any node");
        counted(self.early, "requests came to a node that was not ready");
        counted(self.late, "requests came to a node that had been stopped");
        if unhealthy {
            counted(new_requests, "requests came to the unhealthy version");
        }
        let expected = match release {
            Release::Good | Release::Canary => Outcome::Done,
            Release::Unhealthy => Outcome::Unhealthy,
            Release::Broken => Outcome::RolledBack,
        };
        if self.outcome != expected {
            problems.push(format!("the rollout ended as {:?} and not as {expected:?}: {}", self.outcome, self.message));
        } else if !unhealthy && new_requests == 0 {
            problems.push("the new version never answered".into());
        }
        if self.requests == 0 {
            problems.push("no request was made".into());
        }
        problems
    }
}
