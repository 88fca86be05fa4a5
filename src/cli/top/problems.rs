//! What is wrong with the proxy as a whole: the configuration, the journal, listeners, certificates.

use std::time::Duration;

use ratatui::text::Line;

use super::app::App;
use super::paint::{BOLD, plain, wrap};
use crate::api::{CertificateStatus, ListenerStatus, Problem, Status};
use crate::cli::view;
use crate::cli::words::duration;
use crate::model::Timestamp;

/// A certificate that ends sooner than this is told.
const SOON: Duration = Duration::from_hours(24 * 7);

/// Each in a line, the worst first.
pub fn short(status: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    for listener in &status.listeners {
        if let Some(error) = &listener.error {
            lines.push(format!("listener {} on {} is not open: {error}", listener.name, listener.address));
        }
    }
    if status.config.stale {
        let first = status.config.problems.first().map(|problem| format!(": {}", place(problem))).unwrap_or_default();
        lines.push(format!("the files on disk are not valid; what was loaded before goes on (c){first}"));
    } else if !status.config.problems.is_empty() {
        lines.push(format!("configuration: {} (c)", count(status.config.problems.len(), "warning")));
    }
    if let Some(error) = &status.journal {
        lines.push(format!("not saved: {error}"));
    }
    if !status.certificates.problems.is_empty() {
        lines.push(format!("certificates: {} (c)", count(status.certificates.problems.len(), "bad file")));
    }
    lines.extend(status.certificates.list.iter().filter_map(|certificate| ending(certificate, status.now)));
    lines
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn place(problem: &Problem) -> String {
    let path = problem.path.display();
    if problem.line == 0 {
        format!("{path}: {}", problem.message)
    } else {
        format!("{path}:{}: {}", problem.line, problem.message)
    }
}

fn ending(certificate: &CertificateStatus, now: Timestamp) -> Option<String> {
    let left = certificate.not_after.since(now);
    (left < SOON).then(|| {
        let file = certificate.file.display();
        if left.is_zero() {
            format!("certificate {file} HAS ENDED")
        } else {
            format!("certificate {file} ends in {}", duration(left))
        }
    })
}

/// All of it, on a page.
pub fn rows(app: &App, columns: usize) -> Vec<Line<'static>> {
    let Some(status) = &app.status else {
        return vec![Line::from("Nothing is known yet.")];
    };
    let mut lines = vec![Line::styled("Configuration", BOLD)];
    let mut tell = |text: &str, indent: usize| lines.extend(wrap(&app.look.line(text), columns, indent));
    let age = duration(app.now().since(status.config.loaded));
    tell(&format!("  {}, loaded {age} ago", plain(&status.config.path.display().to_string())), 4);
    for file in status.config.files.iter().filter(|file| **file != status.config.path) {
        tell(&format!("  {}", plain(&file.display().to_string())), 4);
    }
    if status.config.stale {
        tell("  STALE: the files are not valid; what was loaded before goes on", 4);
    }
    if let Some(error) = &status.journal {
        tell(&format!("  NOT SAVED: {}", plain(error)), 4);
    }
    for problem in &status.config.problems {
        for line in view::problem(problem) {
            tell(&line, 6);
        }
    }
    if status.config.problems.is_empty() {
        tell("  no errors", 0);
    }
    for (title, told) in [("Listeners", listeners(status)), ("Certificates", certificates(app, status))] {
        lines.push(Line::default());
        lines.push(Line::styled(title, BOLD));
        lines.extend(told.iter().flat_map(|text| wrap(&app.look.line(text), columns, 4)));
    }
    lines
}

fn listeners(status: &Status) -> Vec<String> {
    let listener = |listener: &ListenerStatus| {
        let state = listener.error.as_deref().unwrap_or("open");
        format!("  {} on {}: {}", plain(&listener.name), plain(&listener.address), plain(state))
    };
    status.listeners.iter().map(listener).collect()
}

fn certificates(app: &App, status: &Status) -> Vec<String> {
    let lines = view::certificates(&status.certificates, app.now());
    if lines.is_empty() { vec!["  none".into()] } else { lines.iter().map(|line| format!("  {line}")).collect() }
}
