//! What `status`, the progress of a rollout, and `history` look like. Pure: reports in, text out.

use std::time::Duration;

use anstyle::AnsiColor;

use super::trial;
use super::words::{bar, bold, clean, colored, columns, dim, duration, percent, state};
use crate::api::{
    CertificatesStatus, CutNode, HaltKind, HaltStatus, HistoryEntry, NodeStatus, Outcome, Problem, ServiceStatus,
    Status,
};
use crate::model::{Holder, NodeState, Timestamp};

/// Whatever a report says, a caret stands no further to the right.
const LONGEST_LINE: usize = 10_000;

/// Everything, or the services that the report holds.
pub fn status(status: &Status) -> String {
    let mut lines = vec![format!(
        "{} pid {}, up {}, {}",
        bold(format!("sluice {}", status.sluice)),
        status.pid,
        duration(status.now.since(status.started)),
        if status.ready { colored(AnsiColor::Green, "ready") } else { colored(AnsiColor::Yellow, "not ready") }
    )];
    lines.push(format!(
        "configuration {}, loaded {} ago",
        status.config.path.display(),
        duration(status.now.since(status.config.loaded))
    ));
    if status.config.stale {
        lines.push(colored(AnsiColor::Red, "STALE: the files on disk are not valid; what was loaded before goes on"));
    }
    lines.extend(status.config.problems.iter().flat_map(problem));
    if let Some(error) = &status.journal {
        lines.push(colored(AnsiColor::Red, format!("NOT SAVED: {}", clean(error))));
    }
    for listener in &status.listeners {
        lines.push(match &listener.error {
            None => format!("listener {} on {}", listener.name, listener.address),
            Some(error) => {
                colored(AnsiColor::Red, format!("listener {} on {}: {error}", listener.name, listener.address))
            }
        });
    }
    lines.extend(certificates(&status.certificates, status.now));
    for service in &status.services {
        lines.push(String::new());
        lines.extend(self::service(service, status.now, usize::MAX));
    }
    if status.services.is_empty() {
        lines.push("no services".into());
    }
    lines.join("\n")
}

/// One problem, where it stands.
pub(super) fn problem(problem: &Problem) -> Vec<String> {
    let place = if problem.line == 0 {
        problem.path.display().to_string()
    } else {
        format!("{}:{}:{}", problem.path.display(), problem.line, problem.column)
    };
    let mut lines = vec![format!("  {place}: {}", clean(&problem.message))];
    if !problem.text.is_empty() {
        lines.push(format!("      {}", clean(&problem.text)));
        let caret = "^".repeat(problem.width.clamp(1, LONGEST_LINE));
        let gap = " ".repeat(problem.column.saturating_sub(1).min(LONGEST_LINE));
        lines.push(format!("      {gap}{}", colored(AnsiColor::Red, caret)));
    }
    if let Some(hint) = &problem.hint {
        lines.push(format!("      hint: {}", clean(hint)));
    }
    lines
}

/// The certificates that are shown, and until when; and what is wrong with their files.
pub(super) fn certificates(certificates: &CertificatesStatus, now: Timestamp) -> Vec<String> {
    const SOON: Duration = Duration::from_hours(24 * 7);
    let mut lines = Vec::new();
    for certificate in &certificates.list {
        let left = certificate.not_after.since(now);
        let end = if left.is_zero() {
            colored(AnsiColor::Red, "HAS ENDED")
        } else {
            let text = format!("ends in {}", duration(left));
            if left < SOON { colored(AnsiColor::Yellow, text) } else { text }
        };
        let names: Vec<_> = certificate.names.iter().map(|name| clean(name)).collect();
        lines.push(format!("certificate {} ({}) {end}", certificate.file.display(), names.join(", ")));
    }
    if !certificates.problems.is_empty() {
        let text = "FILES ARE BAD: what was read of them before goes on";
        lines.push(colored(AnsiColor::Red, text));
        lines.extend(certificates.problems.iter().flat_map(problem));
    }
    lines
}

/// One service: phase, shares, nodes. At most `most` nodes; those on their way first, if some must be left out.
pub fn service(service: &ServiceStatus, now: Timestamp, most: usize) -> Vec<String> {
    let mut head = format!("{}  {}", bold(&service.name), phase(service));
    if let Some(rollout) = &service.rollout {
        // The short form has no names to go from and to.
        let way = match &rollout.from {
            _ if rollout.to.is_unnamed() => String::new(),
            Some(from) => format!("{from} → {}, ", rollout.to),
            None => format!("→ {}, ", rollout.to),
        };
        head = format!(
            "{head}  {way}{}, {} of {} new nodes serve, for {}",
            rollout.strategy,
            rollout.ready,
            rollout.wanted,
            duration(now.since(rollout.started))
        );
        if let Some(deadline) = rollout.deadline {
            head = format!("{head}, {} left", duration(deadline.since(now)));
        }
    }
    let mut lines = vec![head];
    if let Some(reason) = &service.reason {
        lines.extend(reason.lines().map(|line| format!("  {}", clean(line))));
    }
    if service.all_down {
        lines.push(colored(AnsiColor::Red, "  every node is unhealthy: traffic goes to all of them regardless"));
    }
    if let Some(halt) = &service.halt {
        lines.push(colored(AnsiColor::Yellow, format!("  {}", halted(halt, now))));
    }
    if service.waiting > 0 {
        let why = if service.halt.is_some() { "they are on hold" } else { "no node is ready" };
        let waiting = format!("  requests that wait because {why}: {}", service.waiting);
        lines.push(colored(AnsiColor::Yellow, waiting));
    }
    let shares: Vec<_> = service
        .versions
        .iter()
        .map(|version| {
            let failures = format!("{} failed", version.failures);
            vec![
                version.version.to_string(),
                colored(AnsiColor::Green, bar(version.share)),
                percent(version.share),
                format!("{}/{} nodes", version.serving, version.nodes),
                format!("{} requests", version.requests),
                if version.failures > 0 { colored(AnsiColor::Red, failures) } else { dim(failures) },
            ]
        })
        .collect();
    lines.extend(columns("  ", &shares));
    lines.extend(trial::lines(service, now));
    lines.extend(nodes(service, now, most));
    for refused in &service.refused {
        lines.push(colored(
            AnsiColor::Red,
            format!(
                "  refused {} {} ago: {}",
                refused.version,
                duration(now.since(refused.at)),
                clean(&refused.reason)
            ),
        ));
    }
    lines
}

/// What an operator did to the traffic.
pub fn halted(halt: &HaltStatus, now: Timestamp) -> String {
    let since = duration(now.since(halt.since));
    let by = clean(&halt.by);
    match halt.kind {
        HaltKind::Hold => {
            let left = halt.until.map(|until| format!(", {} left", duration(until.since(now)))).unwrap_or_default();
            format!("ON HOLD for {since}{left}, by {by}: new requests wait")
        }
        HaltKind::Maintenance => {
            let message =
                halt.message.as_ref().map(|text| format!(": {}", clean(text).replace('\n', " "))).unwrap_or_default();
            format!("IN MAINTENANCE for {since}, by {by}: new requests are answered 503{message}")
        }
    }
}

fn phase(service: &ServiceStatus) -> String {
    let color = match service.phase.as_str() {
        "settled" => AnsiColor::Green,
        "failed" => AnsiColor::Red,
        _ => AnsiColor::Cyan,
    };
    colored(color, &service.phase)
}

fn nodes(service: &ServiceStatus, now: Timestamp, most: usize) -> Vec<String> {
    let mut shown: Vec<&NodeStatus> = service.nodes.iter().collect();
    if shown.len() > most {
        shown.sort_by_key(|node| matches!(node.state, NodeState::Serving | NodeState::Drained));
        shown.truncate(most);
    }
    let rows: Vec<_> = shown
        .iter()
        .map(|node| {
            vec![
                node.address.to_string(),
                node.version.to_string(),
                state(node.state),
                format!("{} ago", duration(now.since(node.since))),
                format!("{} in flight", node.in_flight),
                format!("{}{}", clean(&node.reason).replace('\n', " "), beside(node, now)),
            ]
        })
        .collect();
    let mut lines = Vec::new();
    for (node, row) in shown.iter().zip(columns("  ", &rows)) {
        lines.push(row);
        let holders = node.holders.iter();
        lines.extend(holders.map(|holder| format!("      held by {}", work(holder))));
    }
    let left = service.nodes.len() - shown.len();
    if left > 0 {
        lines.push(dim(format!("  … and {left} more")));
    }
    lines
}

/// What is told of a node behind its reason.
fn beside(node: &NodeStatus, now: Timestamp) -> String {
    let until = node.until.map(|until| {
        let what = if node.state == NodeState::Warming { "warm" } else { "back" };
        format!("; {what} in {}", duration(until.since(now)))
    });
    let weight = (node.weight != 1).then(|| format!("; weight {}", node.weight));
    until.into_iter().chain(weight).collect()
}

pub(super) fn work(work: &Holder) -> String {
    format!(
        "{} {} {} from {}, for {}",
        work.kind,
        clean(&work.method),
        clean(&work.path),
        clean(&work.client),
        duration(std::time::Duration::from_millis(work.age_ms))
    )
}

/// What changed in all services, and in what was read, a line each.
pub fn status_changes(before: Option<&Status>, now: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    let told = |status: &Status| (status.ready, status.config.stale);
    if before.map(told) != Some(told(now)) {
        let ready = if now.ready { "ready" } else { "not ready" };
        let stale = if now.config.stale { "; the files on disk are not valid: `sluice check` tells why" } else { "" };
        lines.push(format!("sluice: {ready}{stale}"));
    }
    for service in &now.services {
        let was = before.and_then(|before| before.services.iter().find(|old| old.name == service.name));
        lines.extend(changes(was, service).into_iter().map(|line| format!("{}: {line}", service.name)));
    }
    let gone = before.iter().flat_map(|before| &before.services);
    let gone = gone.filter(|old| !now.services.iter().any(|service| service.name == old.name));
    lines.extend(gone.map(|service| format!("{}: gone", service.name)));
    lines
}

/// What changed from one moment to the next, a line each; what matters of it if there was no moment before.
pub fn changes(before: Option<&ServiceStatus>, now: &ServiceStatus) -> Vec<String> {
    let mut lines = Vec::new();
    let told = before.map(|before| (&before.phase, &before.reason));
    if told != Some((&now.phase, &now.reason)) {
        let reason = now.reason.as_deref().unwrap_or("");
        let between = if reason.is_empty() { "" } else { ": " };
        lines.push(format!("{}{between}{}", phase(now), clean(reason)));
    }
    let shares = |service: &ServiceStatus| -> Vec<String> {
        let versions = service.versions.iter();
        versions
            .filter(|version| !version.version.is_unnamed())
            .map(|version| format!("{} {}", version.version, percent(version.share)))
            .collect()
    };
    let shares_now = shares(now);
    if before.map(shares).as_ref() != Some(&shares_now) && !shares_now.is_empty() {
        lines.push(format!("traffic: {}", shares_now.join(", ")));
    }
    let halt = |service: &ServiceStatus| service.halt.clone();
    if before.map(halt) != Some(now.halt.clone()) && (before.is_some() || now.halt.is_some()) {
        lines.push(match &now.halt {
            Some(halt) => match halt.kind {
                HaltKind::Hold => format!("on hold, by {}", clean(&halt.by)),
                HaltKind::Maintenance => format!("in maintenance, by {}", clean(&halt.by)),
            },
            None => "traffic goes on".into(),
        });
    }
    let told = trial::told(now);
    if told.is_some() && before.map(trial::told).as_ref() != Some(&told) {
        lines.extend(told);
    }
    let judged = trial::judged(now).filter(|(verdict, _)| {
        // The word alone: counts come with every request.
        before.and_then(trial::judged).is_none_or(|(before, _)| before != *verdict)
    });
    lines.extend(judged.map(|(_, evidence)| format!("guard: {}", trial::verdict(evidence))));
    for node in &now.nodes {
        let was = before.and_then(|before| {
            before.nodes.iter().find(|old| old.address == node.address && old.version == node.version)
        });
        // At first only what is on its way: a hundred nodes that serve are no news.
        let news = match (before, was) {
            (None, _) => !matches!(node.state, NodeState::Serving | NodeState::Drained),
            (Some(_), was) => was.map(|was| was.state) != Some(node.state),
        };
        if news {
            let version = if node.version.is_unnamed() { String::new() } else { format!(" ({})", node.version) };
            lines.push(format!("node {}{version} {}: {}", node.address, state(node.state), clean(&node.reason)));
        }
    }
    lines
}

/// Finished rollouts, as they come.
pub fn history(entries: &[HistoryEntry], now: Timestamp) -> String {
    if entries.is_empty() {
        return "no finished rollouts yet".into();
    }
    let mut rows = vec![["WHEN", "FROM", "TO", "STRATEGY", "TOOK", "OUTCOME", "WHY"].map(dim).to_vec()];
    for entry in entries {
        rows.push(vec![
            format!("{} ago", duration(now.since(entry.finished))),
            entry.from.as_ref().map_or("none".into(), ToString::to_string),
            if entry.to.is_unnamed() { format!("{} nodes", entry.nodes.len()) } else { entry.to.to_string() },
            entry.strategy.clone(),
            duration(entry.finished.since(entry.started)),
            outcome(entry.outcome),
            clean(entry.reason.lines().next().unwrap_or("")),
        ]);
    }
    let mut lines = columns("", &rows).into_iter();
    let mut text: Vec<String> = lines.next().into_iter().collect();
    for (entry, line) in entries.iter().zip(lines) {
        text.push(line);
        text.extend(trial::past(entry, now));
        text.extend(cut(&entry.cut));
    }
    text.join("\n")
}

/// What drain deadlines cut, a line for each piece of work.
pub fn cut(nodes: &[CutNode]) -> Vec<String> {
    nodes
        .iter()
        .flat_map(|node| node.work.iter().map(move |work| format!("  cut on {}: {}", node.address, self::work(work))))
        .collect()
}

fn outcome(outcome: Outcome) -> String {
    match outcome {
        Outcome::Done => colored(AnsiColor::Green, "done"),
        Outcome::DoneWithCuts => colored(AnsiColor::Yellow, "done with cuts"),
        Outcome::Unhealthy => colored(AnsiColor::Red, "unhealthy"),
        Outcome::RolledBack => colored(AnsiColor::Red, "rolled back"),
        Outcome::Superseded => colored(AnsiColor::Yellow, "superseded"),
        Outcome::TimedOut => colored(AnsiColor::Yellow, "timed out"),
    }
}
