//! What people are told when a change ends: what happened, why, and what to do next.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use super::entry::Entry;
use crate::api::{CutNode, Outcome, ProbeReport};
use crate::model::{NodeAddress, NodeState, Version};

/// Pieces of cut work that are listed one by one; the rest is counted.
const LISTED: usize = 20;

/// The message of a change's end.
pub(super) fn ended(entry: &Entry, outcome: Outcome, reason: &str) -> String {
    match outcome {
        Outcome::Done | Outcome::DoneWithCuts => done(entry),
        Outcome::Unhealthy => unhealthy(entry, reason),
        Outcome::RolledBack => format!(
            "{name}: {reason}\nNext: `sluice history {name}` shows what the guard saw; mend the release and deploy it under a new \
             version name, or `sluice retry {name}` to try the same one again",
            name = entry.name()
        ),
        Outcome::Superseded | Outcome::TimedOut => format!("{}: {reason}", entry.name()),
    }
}

fn done(entry: &Entry) -> String {
    let Some(wanted) = entry.machine.wanted() else {
        return format!("{}: removed; its nodes may be stopped: {}", entry.name(), stopped(entry));
    };
    let serving = entry
        .machine
        .nodes()
        .filter(|node| {
            matches!(node.state, NodeState::Serving | NodeState::Warming) && node.node.version == wanted.release
        })
        .count();
    let mut text = format!("{}: {}serves on {}", entry.name(), named(&wanted.release), count(serving, "node"));
    let old = stopped(entry);
    if !old.is_empty() {
        let _ = write!(text, "; the old nodes may be stopped: {old}");
    }
    text + &cuts(&entry.change.cut)
}

fn stopped(entry: &Entry) -> String {
    let stays = |address: &NodeAddress| entry.machine.wanted().is_some_and(|wanted| wanted.nodes.contains(address));
    let old: BTreeSet<_> = entry
        .change
        .drained
        .iter()
        .map(|(_, address)| address)
        .filter(|address| !stays(address))
        .map(NodeAddress::as_str)
        .collect();
    old.into_iter().collect::<Vec<_>>().join(", ")
}

/// What deadlines cut, a line each; empty if nothing.
pub(super) fn cuts(cut: &[CutNode]) -> String {
    let all = cut.iter().map(|node| node.work.len()).sum::<usize>();
    if all == 0 {
        return String::new();
    }
    let mut text = format!("\n{} cut when the drain deadline came:", count(all, "piece") + " of work");
    let pieces = cut.iter().flat_map(|node| node.work.iter().map(move |work| (node, work)));
    for (node, work) in pieces.take(LISTED) {
        let age = Duration::from_millis(work.age_ms);
        let _ = write!(
            text,
            "\n  {}: {} {} {} from {}, {age:.1?} old",
            node.address, work.kind, work.method, work.path, work.client
        );
    }
    if all > LISTED {
        let _ = write!(text, "\n  and {} more", all - LISTED);
    }
    text
}

fn unhealthy(entry: &Entry, reason: &str) -> String {
    let mut text = format!("{}: {reason}", entry.name());
    let Some(wanted) = entry.machine.wanted() else {
        return text;
    };
    let mut found = false;
    for address in &wanted.nodes {
        let current = entry
            .members
            .iter()
            .filter(|(node, _)| node.address == *address && node.version == wanted.release)
            .find_map(|(_, member)| member.prober.report());
        let Some(report) = current.or_else(|| entry.change.failed.get(address).cloned()) else {
            continue;
        };
        if !report.passed {
            found = true;
            let _ = write!(text, "\n  last probe: {}", probe(&report));
        }
    }
    let next = if found {
        "start the new nodes or mend what their health check says"
    } else {
        "see why its nodes do not become healthy (`sluice status`)"
    };
    let _ = write!(
        text,
        "\nNext: {next}, then deploy under a new version name or with other nodes; \
         or set `release` back to what serves now"
    );
    text
}

/// One probe in a line: what was asked, what came back, how long it took, and the first bytes of the body.
pub(super) fn probe(report: &ProbeReport) -> String {
    let mut text = report.target.clone();
    match (&report.error, report.status) {
        // The error names the status if that is what is wrong.
        (Some(error), Some(status)) if !error.starts_with("status") => {
            let _ = write!(text, " answered {status}: {error}");
        }
        (Some(error), _) => {
            let _ = write!(text, ": {error}");
        }
        (None, Some(status)) => {
            let _ = write!(text, " answered {status}");
        }
        (None, None) => {}
    }
    let _ = write!(text, ", after {} ms", report.took_ms);
    if let Some(body) = report.body.as_deref().filter(|body| !body.is_empty()) {
        let _ = write!(text, "; it said {body:?}");
    }
    text
}

/// A verdict's reason, where what was asked is known: what came back.
pub(super) fn finding(report: &ProbeReport) -> String {
    match (&report.error, report.status) {
        (Some(error), _) => error.clone(),
        (None, Some(status)) => format!("answered {status}"),
        (None, None) => "its probe passed".into(),
    }
}

/// `v2 `, or nothing for the short form.
fn named(version: &Version) -> String {
    if version.is_unnamed() { String::new() } else { format!("{version} ") }
}

pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
