//! The page of one service: versions, the trial and its evidence, nodes, what was refused, history. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::app::App;
use super::draw::{failed, per_second, thousands};
use super::paint::{BOLD, DIM, Look, fit, fit_right, plain, wrap};
use super::rows::Trouble;
use super::table::{bar, of_trouble};
use crate::api::{NodeStatus, ProbeReport, ServiceStatus};
use crate::cli::words::{clean, duration, percent};
use crate::cli::{trial, view};
use crate::model::{NodeState, ServiceName, Timestamp};

/// Finished rollouts that are shown.
const HISTORY: usize = 10;
/// Nodes that are told one by one, the troubled ones first.
const NODES: usize = 1000;

/// Everything about a service.
pub fn rows(app: &App, name: &ServiceName, columns: usize) -> Vec<Line<'static>> {
    if app.status.is_none() {
        return vec![Line::styled("  waiting for the proxy's first answer", DIM)];
    }
    let Some(service) = app.service(name) else {
        let text = format!("There is no service {} any more. Esc goes back.", plain(name.as_str()));
        return wrap(&Line::from(text), columns, 0);
    };
    let mut page = Page { look: app.look, columns, lines: Vec::new() };
    page.head(service, app.now());
    page.versions(service, app);
    for line in trial::lines(service, app.now()) {
        page.tell(&line, 6);
    }
    page.beside(service);
    page.problems(service, app);
    page.nodes(service, app.now());
    for refused in &service.refused {
        let ago = duration(app.now().since(refused.at));
        let text = format!("refused {} {ago} ago: {}", plain(refused.version.as_str()), plain(&refused.reason));
        page.push(&Line::styled(text, page.look.bad()), 4);
    }
    if let Some((_, entries)) = app.history.as_ref().filter(|(of, _)| of == name) {
        page.title("HISTORY");
        let most = &entries[..entries.len().min(HISTORY)];
        for line in view::history(most, app.now()).lines().skip(usize::from(!most.is_empty())) {
            page.tell(&format!("  {line}"), 6);
        }
    }
    page.lines
}

/// Lines, as they come.
struct Page {
    look: Look,
    columns: usize,
    lines: Vec<Line<'static>>,
}

impl Page {
    /// A line that a verb would print.
    fn tell(&mut self, text: &str, indent: usize) {
        self.push(&self.look.line(text), indent);
    }

    fn push(&mut self, line: &Line<'static>, indent: usize) {
        self.lines.extend(wrap(line, self.columns, indent));
    }

    fn title(&mut self, text: &str) {
        self.lines.push(Line::default());
        self.lines.push(Line::styled(text.to_owned(), BOLD));
    }

    fn head(&mut self, service: &ServiceStatus, now: Timestamp) {
        let trouble = of_trouble(self.look, Trouble::of(service));
        let mut spans = vec![
            Span::styled(plain(service.name.as_str()), BOLD),
            Span::raw("  "),
            Span::styled(plain(&service.phase), trouble),
        ];
        if let Some(rollout) = &service.rollout {
            let way = match &rollout.from {
                _ if rollout.to.is_unnamed() => String::new(),
                Some(from) => format!("{from} → {}, ", rollout.to),
                None => format!("→ {}, ", rollout.to),
            };
            let took = duration(now.since(rollout.started));
            let left = rollout.deadline.map(|deadline| format!(", {} left", duration(deadline.since(now))));
            let text = format!(
                "  {way}{}, {} of {} new nodes serve, for {took}{}",
                rollout.strategy,
                rollout.ready,
                rollout.wanted,
                left.unwrap_or_default()
            );
            spans.push(Span::raw(plain(&text)));
        }
        self.push(&Line::from(spans), 2);
        if let Some(reason) = &service.reason {
            self.push(&Line::from(format!("  {}", plain(reason))), 2);
        }
        let bad = self.look.bad();
        if service.all_down {
            let text = "  every node is unhealthy: traffic goes to all of them regardless";
            self.push(&Line::styled(text, bad), 2);
        }
        if let Some(halt) = &service.halt {
            self.push(&Line::styled(format!("  {}", plain(&view::halted(halt, now))), bad), 2);
        }
        if service.waiting > 0 {
            self.push(&Line::styled(format!("  requests that wait: {}", thousands(service.waiting as u64)), bad), 2);
        }
    }

    fn versions(&mut self, service: &ServiceStatus, app: &App) {
        self.lines.push(Line::default());
        let name = 10.max(self.columns.saturating_sub(66)).min(24);
        let text = format!(
            "{} {:<15} {:>7} {:>7} {:>12} {:>7}",
            fit("VERSION", name),
            "SHARE",
            "REQ/S",
            "FAILED",
            "REQUESTS",
            "NODES"
        );
        self.lines.push(Line::styled(text, BOLD));
        for version in &service.versions {
            let rate = app.rates.version(&service.name, &version.version);
            let (part, style) = failed(self.look, rate.and_then(super::rates::Rate::failed));
            let known = if version.version.is_unnamed() { "all" } else { version.version.as_str() };
            self.lines.push(Line::from(vec![
                Span::raw(fit(known, name)),
                Span::styled(format!(" {}", bar(version.share, 10)), self.look.moving()),
                Span::raw(fit_right(&percent(version.share), 5)),
                Span::raw(fit_right(&rate.map_or("–".into(), |rate| per_second(rate.requests)), 8)),
                Span::styled(fit_right(&part, 8), style),
                Span::raw(fit_right(&thousands(version.requests), 13)),
                Span::raw(fit_right(&format!("{}/{}", version.serving, version.nodes), 8)),
            ]));
        }
    }

    /// What a version on trial was spared, or got besides.
    fn beside(&mut self, service: &ServiceStatus) {
        for version in &service.versions {
            let name = plain(version.version.as_str());
            if version.shielded > 0 {
                let count = thousands(version.shielded);
                let text = format!("  shield: {count} that {name} failed were answered by the old version");
                self.push(&Line::from(text), 6);
            }
            if version.shadowed > 0 {
                let (count, differed) = (thousands(version.shadowed), thousands(version.shadow_differed));
                let text = format!("  shadow: {name} got {count} copies, and answered {differed} with another status");
                self.push(&Line::from(text), 6);
            }
        }
    }

    /// What is wrong with the file that the service comes from.
    fn problems(&mut self, service: &ServiceStatus, app: &App) {
        let config = app.status.iter().map(|status| &status.config);
        let problems = config.flat_map(|config| &config.problems).filter(|problem| problem.path == service.source);
        let lines: Vec<_> = problems.flat_map(view::problem).collect();
        if !lines.is_empty() {
            self.title("CONFIGURATION");
            for line in &lines {
                self.tell(line, 6);
            }
        }
    }

    fn nodes(&mut self, service: &ServiceStatus, now: Timestamp) {
        let mut nodes: Vec<&NodeStatus> = service.nodes.iter().collect();
        nodes.sort_by_key(|node| rank(node.state));
        let mut counts: BTreeMap<u8, (NodeState, usize)> = BTreeMap::new();
        for node in &nodes {
            counts.entry(rank(node.state)).or_insert((node.state, 0)).1 += 1;
        }
        let counts: Vec<_> = counts.values().map(|(state, count)| format!("{count} {state}")).collect();
        self.title(&format!("NODES  {}", counts.join(", ")));
        let longest = |text: fn(&NodeStatus) -> &str| nodes.iter().map(|node| text(node).len()).max().unwrap_or(0);
        // As much as the names need, as long as the rest keeps its room.
        let address = longest(|node| node.address.as_str()).clamp(8, 10.max(self.columns.saturating_sub(50)).min(40));
        let version = longest(|node| node.version.as_str()).clamp(1, 12);
        for node in nodes.iter().take(NODES) {
            self.node(node, address, version, now);
        }
        if nodes.len() > NODES {
            self.lines.push(Line::styled(format!("  … and {} more", nodes.len() - NODES), DIM));
        }
    }

    fn node(&mut self, node: &NodeStatus, address: usize, version: usize, now: Timestamp) {
        let style = state(self.look, node.state);
        let mut spans = vec![
            Span::styled(format!("{} ", mark(node.state)), style),
            Span::raw(fit(node.address.as_str(), address)),
            Span::raw(format!(" {} ", fit(node.version.as_str(), version))),
            Span::styled(fit(&node.state.to_string(), 8), style),
            Span::raw(fit_right(&duration(now.since(node.since)), 8)),
            Span::raw(fit_right(&format!("{} in flight", thousands(node.in_flight as u64)), 13)),
        ];
        let fine = node.state == NodeState::Serving && node.probe.as_ref().is_none_or(|probe| probe.passed);
        // Writing to a string cannot fail.
        let mut reason = plain(&node.reason);
        if let Some(until) = node.until {
            let what = if node.state == NodeState::Warming { "warm" } else { "back" };
            let _ = write!(reason, "; {what} in {}", duration(until.since(now)));
        }
        if node.weight != 1 {
            let _ = write!(reason, "; weight {}", node.weight);
        }
        if fine {
            // Nodes that are well take a line each, whatever there is to say.
            let probe = node.probe.as_ref().map(|probe| format!("  {}", passed(probe))).unwrap_or_default();
            spans.push(Span::styled(format!("{probe}  {reason}"), DIM));
            let line = Line::from(spans);
            return self.lines.push(line);
        }
        self.lines.push(Line::from(std::mem::take(&mut spans)));
        self.push(&Line::from(format!("    {reason}")), 4);
        if let Some(probe) = &node.probe {
            let line = Line::styled(format!("    {}", probed(probe, now)), DIM);
            self.push(&line, 4);
        }
        for holder in &node.holders {
            self.tell(&format!("    held by {}", clean(&view::work(holder))), 6);
        }
    }
}

/// Those to look at first.
fn rank(state: NodeState) -> u8 {
    match state {
        NodeState::Ejected => 0,
        NodeState::Draining => 1,
        NodeState::Joining => 2,
        NodeState::Warming => 3,
        NodeState::Serving => 4,
        NodeState::Standby => 5,
        NodeState::Drained => 6,
    }
}

/// A state, told without a colour too.
fn mark(state: NodeState) -> char {
    match state {
        NodeState::Ejected => '!',
        NodeState::Draining | NodeState::Joining | NodeState::Warming => '~',
        NodeState::Serving | NodeState::Standby | NodeState::Drained => ' ',
    }
}

fn state(look: Look, state: NodeState) -> Style {
    match state {
        NodeState::Ejected => look.bad(),
        NodeState::Draining => look.doubtful(),
        NodeState::Joining | NodeState::Warming => look.moving(),
        NodeState::Serving => look.good(),
        NodeState::Standby | NodeState::Drained => DIM,
    }
}

/// A probe that passed, in short.
fn passed(probe: &ProbeReport) -> String {
    let status = probe.status.map_or("connected".to_owned(), |status| status.to_string());
    format!("{status} in {}", took(probe))
}

fn took(probe: &ProbeReport) -> String {
    if probe.took_ms == 0 { "<1ms".into() } else { duration(Duration::from_millis(probe.took_ms)) }
}

/// The last probe, with what came back if it failed.
fn probed(probe: &ProbeReport, now: Timestamp) -> String {
    let ago = duration(now.since(probe.at));
    let took = took(probe);
    let status = probe.status.map(|status| format!(" {status}")).unwrap_or_default();
    let error = probe.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let body = probe.body.as_ref().filter(|body| !body.is_empty()).map(|body| format!(" «{body}»")).unwrap_or_default();
    let how = if probe.passed { "passed" } else { "failed" };
    plain(&format!("last probe {how} {ago} ago after {took}: {}{status}{error}{body}", probe.target))
}
