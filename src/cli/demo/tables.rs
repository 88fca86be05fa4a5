//! The demo's lines and tables, as text. Colours are always in it; the output takes them out where they do not belong.

use std::fmt::Write as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::summary::{Latency, Summary};
use super::tally::Tally;
use crate::api::{Evidence, Sample, ServiceStatus};
use crate::model::NodeState;

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const WARN: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// What a frame shows.
pub(super) struct Moment<'a> {
    pub(super) elapsed: Duration,
    /// The service as the proxy tells it.
    pub(super) status: &'a ServiceStatus,
    pub(super) tally: &'a Tally,
    /// The tally a while ago, and how long that while was.
    pub(super) before: &'a Tally,
    pub(super) window: Duration,
    pub(super) duplicated: usize,
}

/// The table for a terminal.
pub(super) fn table(moment: &Moment<'_>) -> Vec<String> {
    let Moment { status, tally, .. } = moment;
    let mut lines = vec![
        String::new(),
        format!("{DIM}{}{DIM:#}  {BOLD}{}{BOLD:#}", seconds(moment.elapsed), title(status)),
        String::new(),
        format!("{DIM}   version    share  nodes    answers    req/s{DIM:#}"),
    ];
    for version in &status.versions {
        let name = version.version.as_str();
        let bar = "█".repeat((version.share / 4.0).round() as usize);
        lines.push(format!(
            "   {name:<8} {:>6.1}% {:>6} {:>10} {:>8.0}   {GOOD}{bar}{GOOD:#}",
            version.share,
            version.nodes,
            thousands(tally.answers(name)),
            rate(moment, name),
        ));
    }
    if let Some(evidence) = evidence(status) {
        lines.push(String::new());
        lines.push(format!("   guard: {}", judged(evidence)));
    }
    lines.push(String::new());
    lines.push(format!("{DIM}   node               version   state     in flight{DIM:#}"));
    for node in &status.nodes {
        let style = match node.state {
            NodeState::Serving => GOOD,
            NodeState::Ejected => BAD,
            NodeState::Drained | NodeState::Standby => DIM,
            NodeState::Joining | NodeState::Warming | NodeState::Draining => WARN,
        };
        lines.push(format!(
            "   {:<18} {:<9} {style}{:<9}{style:#} {:>9}   {DIM}{}{DIM:#}",
            node.address,
            node.version,
            node.state,
            node.in_flight,
            short(&node.reason, 40)
        ));
    }
    lines.push(String::new());
    lines.push(format!("   {}", numbers(moment)));
    lines
}

/// One line for a pipe.
pub(super) fn line(moment: &Moment<'_>) -> String {
    let mut text = format!("{}  {}", seconds(moment.elapsed), title(moment.status));
    for version in &moment.status.versions {
        let name = version.version.as_str();
        let _ = write!(text, "  {name} {:.1}% {}", version.share, thousands(moment.tally.answers(name)));
    }
    let mut states: Vec<(NodeState, usize)> = Vec::new();
    for node in &moment.status.nodes {
        match states.iter_mut().find(|(state, _)| *state == node.state) {
            Some((_, count)) => *count += 1,
            None => states.push((node.state, 1)),
        }
    }
    text.push_str("  nodes");
    for (state, count) in states {
        let _ = write!(text, " {count} {state}");
    }
    if let Some(evidence) = evidence(moment.status) {
        let _ = write!(text, "  guard: {}", judged(evidence));
    }
    let _ = write!(text, "  {}", numbers(moment));
    text
}

fn evidence(status: &ServiceStatus) -> Option<&Evidence> {
    let trial = status.rollout.as_ref()?.trial.as_ref()?;
    trial.evidence.as_ref().filter(|_| trial.share > 0.0)
}

/// What the guard sees, in a few words.
fn judged(evidence: &Evidence) -> String {
    let style = if evidence.verdict == "fail" { BAD } else { GOOD };
    let of = |sample: &Sample| format!("{} of {} failed", thousands(sample.failures), thousands(sample.requests));
    format!("{style}{}{style:#} (new: {}; old: {})", evidence.verdict, of(&evidence.new), of(&evidence.old))
}

fn title(status: &ServiceStatus) -> String {
    match &status.rollout {
        Some(rollout) => {
            let from = rollout.from.as_ref().map_or("nothing", |from| from.as_str());
            let (to, ready, wanted) = (&rollout.to, rollout.ready, rollout.wanted);
            format!("{}: {from} → {to}, {ready} of {wanted}", status.phase)
        }
        None => format!("{}: {}", status.phase, status.release),
    }
}

/// Rate, latency and failures since the frame before.
fn numbers(moment: &Moment<'_>) -> String {
    let ended = |tally: &Tally| tally.ok() + tally.failures();
    let rate = per_second(ended(moment.tally) - ended(moment.before), moment.window);
    let latency = Latency::of(&moment.tally.short_since(moment.before));
    let failed = moment.tally.failures();
    let style = if failed > 0 { BAD } else { GOOD };
    format!(
        "{rate:.0} req/s  p50 {}  p99 {}  {style}failed {failed}{style:#}  duplicated {}",
        ms(latency.p50_ms),
        ms(latency.p99_ms),
        moment.duplicated
    )
}

fn rate(moment: &Moment<'_>, version: &str) -> f64 {
    let answers = moment.tally.answers(version) - moment.before.answers(version);
    per_second(answers, moment.window)
}

fn per_second(count: u64, window: Duration) -> f64 {
    count as f64 / window.as_secs_f64().max(0.001)
}

/// The table at the end.
pub(super) fn table_of(summary: &Summary) -> Vec<String> {
    let optional = |value: Option<u64>| match value {
        Some(value) => format!("{value} ms after the edit"),
        None => "none".into(),
    };
    let list = |pairs: Vec<(String, u64)>| {
        let words: Vec<_> = pairs.into_iter().map(|(name, count)| format!("{name} {}", thousands(count))).collect();
        words.join(", ")
    };
    let kinds = list(summary.kinds.iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect());
    let versions = list(summary.versions.iter().map(|(name, n)| (name.clone(), *n)).collect());
    let latency = |latency: &Latency| {
        format!("p50 {}, p99 {}, max {}", ms(latency.p50_ms), ms(latency.p99_ms), ms(latency.max_ms))
    };
    let mut rows = vec![
        ("requests", format!("{} ({kinds})", thousands(summary.requests))),
        ("answered by", versions),
        ("failed", thousands(summary.failed)),
        (
            "duplicated POSTs",
            format!("{} of {}, by the nodes' own ledger", summary.duplicated, thousands(summary.posts)),
        ),
        (
            "WebSockets",
            format!(
                "{} messages came back, {} sessions moved",
                thousands(summary.websocket_messages),
                summary.websocket_restarts
            ),
        ),
        ("latency", latency(&summary.latency)),
    ];
    if summary.outcome.is_done() {
        rows.extend([
            ("first v2 response", optional(summary.first_new_ms)),
            ("last v1 response", optional(summary.last_old_ms)),
            ("wait returned", optional(Some(summary.wait_ms))),
            ("latency, rollout", latency(&summary.latency_during)),
        ]);
    }
    let mut lines = vec![String::new()];
    for (name, value) in rows {
        lines.push(format!("  {DIM}{name:<18}{DIM:#}  {value}"));
    }
    lines.push(String::new());
    if !summary.failures.is_empty() {
        lines.push("  The first failures:".into());
        lines.extend(summary.failures.iter().map(|failure| format!("    {failure}")));
        lines.push(String::new());
    }
    let style = if summary.ok { GOOD } else { BAD }.bold();
    lines.push(format!("{style}{}{style:#}", summary.verdict));
    lines
}

pub(super) fn seconds(elapsed: Duration) -> String {
    format!("{:5.1} s", elapsed.as_secs_f64())
}

fn ms(value: f64) -> String {
    if value < 10.0 { format!("{value:.1} ms") } else { format!("{value:.0} ms") }
}

fn short(text: &str, length: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= length {
        return line.to_owned();
    }
    let cut: String = line.chars().take(length - 1).collect();
    format!("{cut}…")
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::api::{NodeStatus, RolloutStatus, VersionStatus};
    use crate::cli::demo::{Failure, Kind, Reason};
    use crate::model::{NodeAddress, Timestamp, Version};

    fn half_way() -> ServiceStatus {
        let version = |name: &str, share| VersionStatus {
            version: name.into(),
            share,
            serving: 1,
            nodes: 1,
            requests: 0,
            failures: 0,
            shielded: 0,
            shadowed: 0,
            shadow_differed: 0,
        };
        let node = |name: &str, address: &str, state| NodeStatus {
            version: name.into(),
            address: NodeAddress::new(address),
            state,
            since: Timestamp(0),
            reason: "a download of 2 s".into(),
            probe: None,
            weight: 1,
            until: None,
            in_flight: 4,
            requests: 0,
            failures: 0,
            holders: Vec::new(),
        };
        ServiceStatus {
            name: "shop".into(),
            source: "sluice.toml".into(),
            release: "v2".into(),
            change: 2,
            phase: "rolling".into(),
            reason: None,
            all_down: false,
            halt: None,
            tag: String::new(),
            waiting: 0,
            held: 0,
            held_in_vain: 0,
            rollout: Some(RolloutStatus {
                from: Some(Version::new("v1")),
                to: Version::new("v2"),
                strategy: "rolling".into(),
                started: Timestamp(0),
                ready: 1,
                wanted: 2,
                deadline: None,
                trial: None,
            }),
            versions: vec![version("v1", 75.0), version("v2", 25.0)],
            nodes: vec![
                node("v1", "127.0.0.1:1", NodeState::Draining),
                node("v2", "127.0.0.1:2", NodeState::Serving),
                node("v2", "127.0.0.1:3", NodeState::Joining),
            ],
            refused: Vec::new(),
            unsaved: None,
        }
    }

    #[test]
    fn a_frame_tells_shares_rates_node_states_and_failures() {
        let start = Instant::now();
        let before = Tally::new(start);
        let mut tally = before.clone();
        for _ in 0..20 {
            tally.begin(Kind::Get);
            tally.answered("v2", start);
            tally.succeed(Kind::Get, Duration::from_millis(5));
        }
        tally.begin(Kind::Post);
        tally.fail(Failure {
            at: Duration::ZERO,
            kind: Kind::Post,
            reason: Reason::Closed,
            detail: String::new(),
            version: None,
        });
        let moment = Moment {
            elapsed: Duration::from_millis(7_250),
            status: &half_way(),
            tally: &tally,
            before: &before,
            window: Duration::from_secs(2),
            duplicated: 1,
        };
        let plain = |text: &str| anstream::adapter::strip_str(text).to_string();
        assert_eq!(
            plain(&line(&moment)),
            "  7.2 s  rolling: v1 → v2, 1 of 2  v1 75.0% 0  v2 25.0% 20  nodes 1 draining 1 serving 1 joining  \
             10 req/s  p50 5.0 ms  p99 5.0 ms  failed 1  duplicated 1"
        );
        let table = plain(&table(&moment).join("\n"));
        for words in [
            "v2         25.0%      1         20       10   ██████\n",
            "127.0.0.1:1        v1        draining          4   a download of 2 s",
            "failed 1  duplicated 1",
        ] {
            assert!(table.contains(words), "no `{words}` in\n{table}");
        }
    }

    #[test]
    fn big_numbers_are_grouped_and_long_reasons_are_cut() {
        let numbers = [0, 999, 1_000, 1_234_567].map(thousands);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(short("passed\n2 of 2", 10), "passed");
        assert_eq!(short("a long reason", 7), "a long…");
    }
}
