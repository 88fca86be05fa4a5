//! The first page: a service in each row. Only rows that are seen are made, so that ten thousand services cost what twenty do.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::app::{App, Link};
use super::draw::{failed, per_second, thousands};
use super::paint::{BOLD, DIM, Look, fit, fit_right, wrap};
use super::rows::{Sort, Trouble};
use crate::api::{HaltKind, ServiceStatus, TrialStatus};
use crate::cli::words::{duration, percent};
use crate::model::{NodeState, Timestamp};

/// What can be told of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Phase,
    Version,
    Share,
    Left,
    Requests,
    Failed,
    P95,
    Nodes,
}

/// Columns with their widths, the one before them not counted; in the order in which they stand.
const COLUMNS: [(Column, usize); 8] = [
    (Column::Phase, 9),
    (Column::Version, 10),
    (Column::Share, 11),
    (Column::Left, 11),
    (Column::Requests, 6),
    (Column::Failed, 6),
    (Column::P95, 6),
    (Column::Nodes, 5),
];

/// What goes first when there is no room.
const FIRST_TO_GO: [Column; 8] = [
    Column::P95,
    Column::Version,
    Column::Nodes,
    Column::Left,
    Column::Share,
    Column::Requests,
    Column::Failed,
    Column::Phase,
];

/// Names get at least this much before anything else goes.
const NAME: usize = 14;
/// The cursor and the mark.
const MARKS: usize = 4;
/// Cells of a share's bar.
const BAR: usize = 6;

/// Draws the table, and moves it so that the cursor is seen.
pub fn draw(app: &mut App, area: Rect, buffer: &mut Buffer) {
    let columns = usize::from(area.width);
    let shown = columns_for(columns);
    let taken: usize = shown.iter().map(|(_, width)| width + 1).sum();
    let name = columns.saturating_sub(taken + MARKS);
    let title = title(app, &shown, name);
    buffer.set_line(area.x, area.y, &title, area.width);
    let room = usize::from(area.height) - 1;
    app.room = room;
    if room == 0 {
        return;
    }
    if app.shown.is_empty() {
        for (row, line) in empty(app, columns).iter().take(room).enumerate() {
            buffer.set_line(area.x, area.y + 1 + row as u16, line, area.width);
        }
        return;
    }
    app.scroll = app.scroll.clamp(app.cursor.saturating_sub(room - 1), app.cursor);
    app.scroll = app.scroll.min(app.shown.len().saturating_sub(room));
    let Some(status) = &app.status else { return };
    let seen = app.shown.iter().enumerate().skip(app.scroll).take(room);
    for (row, (place, at)) in seen.enumerate() {
        let Some(service) = status.services.get(*at) else { continue };
        let y = area.y + 1 + row as u16;
        let selected = place == app.cursor;
        buffer.set_line(area.x, y, &line(app, service, &shown, name, selected), area.width);
        if selected {
            let line = Rect { y, height: 1, ..area };
            buffer.set_style(line, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
}

fn columns_for(width: usize) -> Vec<(Column, usize)> {
    let mut columns = COLUMNS.to_vec();
    for gone in FIRST_TO_GO {
        let taken: usize = columns.iter().map(|(_, width)| width + 1).sum();
        if taken + MARKS + NAME <= width {
            break;
        }
        columns.retain(|(column, _)| *column != gone);
    }
    columns
}

fn title(app: &App, columns: &[(Column, usize)], name: usize) -> Line<'static> {
    let all = app.status.as_ref().map_or(0, |status| status.services.len());
    let services = if app.filter.is_empty() {
        format!("SERVICES ({})", thousands(all as u64))
    } else {
        format!("/{} ({} of {})", app.filter, thousands(app.shown.len() as u64), thousands(all as u64))
    };
    let marked = |text: &str, sort: Sort| if app.sort == sort { format!("{text}▼") } else { text.to_owned() };
    let mut text = format!("{}{}", " ".repeat(MARKS), fit(&marked(&services, Sort::Name), name));
    for (column, width) in columns {
        text.push(' ');
        text += &match column {
            Column::Phase => fit(&marked("PHASE", Sort::Trouble), *width),
            Column::Version => fit("VERSION", *width),
            Column::Share => fit("SHARE", *width),
            Column::Left => fit("STEP, LEFT", *width),
            Column::Requests => fit_right(&marked("REQ/S", Sort::Requests), *width),
            Column::Failed => fit_right(&marked("FAIL", Sort::Failed), *width),
            Column::P95 => fit_right("P95", *width),
            Column::Nodes => fit_right("NODES", *width),
        };
    }
    Line::styled(text, BOLD)
}

/// Why there is nothing in the table.
fn empty(app: &App, columns: usize) -> Vec<Line<'static>> {
    let text = match (&app.link, &app.status) {
        (Link::Waiting, _) | (Link::Gone { .. }, None) => "  waiting for the proxy's first answer",
        _ if app.filter.is_empty() => "  no services",
        _ => "  nothing fits the filter; Esc shows all",
    };
    wrap(&Line::styled(text, DIM), columns, 2)
}

fn line(app: &App, service: &ServiceStatus, columns: &[(Column, usize)], name: usize, selected: bool) -> Line<'static> {
    let look = app.look;
    let trouble = Trouble::of(service);
    let style = of_trouble(look, trouble);
    let cursor = if selected { '>' } else { ' ' };
    let mut spans = vec![
        Span::styled(format!("{cursor} "), BOLD),
        Span::styled(format!("{} ", trouble.mark()), style),
        Span::styled(fit(service.name.as_str(), name), if trouble <= Trouble::Failing { style } else { BOLD }),
    ];
    for (column, width) in columns {
        spans.push(Span::raw(" "));
        let (text, style) = cell(app, service, *column);
        let right = matches!(column, Column::Requests | Column::Failed | Column::P95 | Column::Nodes);
        spans.push(Span::styled(if right { fit_right(&text, *width) } else { fit(&text, *width) }, style));
    }
    Line::from(spans)
}

fn cell(app: &App, service: &ServiceStatus, column: Column) -> (String, Style) {
    let look = app.look;
    let usual = Style::new();
    let rate = app.rates.service(&service.name);
    match column {
        Column::Phase => (phase(service).to_owned(), of_trouble(look, Trouble::of(service))),
        Column::Version => (version(service), usual),
        Column::Share => share(service).map_or_else(
            || (String::new(), usual),
            |share| (format!("{} {}", bar(share, BAR), fit_right(&percent(share.round()), 4)), look.moving()),
        ),
        Column::Left => (left(service, app.now()), usual),
        Column::Requests => (rate.map_or("–".into(), |rate| per_second(rate.requests)), usual),
        Column::Failed => failed(look, rate.and_then(super::rates::Rate::failed)),
        Column::P95 => (p95(service), usual),
        Column::Nodes => {
            let (up, all) = nodes(service);
            (format!("{up}/{all}"), if up < all { look.doubtful() } else { usual })
        }
    }
}

/// In the colour of how bad it is.
pub fn of_trouble(look: Look, trouble: Trouble) -> Style {
    match trouble {
        Trouble::Down | Trouble::Failing => look.bad(),
        Trouble::Moving => look.moving(),
        Trouble::None => look.good(),
    }
}

/// One word for what is going on.
fn phase(service: &ServiceStatus) -> &str {
    match service.halt.as_ref().map(|halt| halt.kind) {
        Some(HaltKind::Hold) => return "on hold",
        Some(HaltKind::Maintenance) => return "maintenance",
        None => {}
    }
    match service.phase.as_str() {
        _ if trial(service).is_some_and(|trial| trial.paused.is_some()) => "paused",
        "waiting for health" => "waiting",
        phase => phase,
    }
}

pub(super) fn trial(service: &ServiceStatus) -> Option<&TrialStatus> {
    service.rollout.as_ref()?.trial.as_ref()
}

fn version(service: &ServiceStatus) -> String {
    let to = service.rollout.as_ref().map_or(&service.release, |rollout| &rollout.to);
    if to.is_unnamed() { String::new() } else { to.to_string() }
}

/// The new version's share, while there are two.
fn share(service: &ServiceStatus) -> Option<f64> {
    let rollout = service.rollout.as_ref()?;
    service.versions.iter().find(|version| version.version == rollout.to).map(|version| version.share)
}

/// The step, and what is left of its hold; or of the rollout's own time.
fn left(service: &ServiceStatus, now: Timestamp) -> String {
    let Some(rollout) = &service.rollout else {
        return String::new();
    };
    let Some(trial) = &rollout.trial else {
        return rollout.deadline.map(|deadline| duration(deadline.since(now))).unwrap_or_default();
    };
    let place = match (trial.step, trial.steps.len()) {
        (0, _) => String::new(),
        (step, steps) => format!("{step}/{steps} "),
    };
    if trial.paused.is_some() || trial.promoted {
        return place.trim_end().to_owned();
    }
    match trial.steps.get(trial.step.wrapping_sub(1)).map(|step| step.hold_ms) {
        Some(Some(hold)) => {
            let left = trial.since.plus(Duration::from_millis(hold)).since(now);
            format!("{place}{}", if left.is_zero() { "over".into() } else { duration(left) })
        }
        Some(None) => format!("{place}manual"),
        None => place,
    }
}

/// The 95th percentile of the version on trial, as the guard sees it.
fn p95(service: &ServiceStatus) -> String {
    let p95 = trial(service).and_then(|trial| trial.evidence.as_ref()?.new.p95);
    p95.map_or(String::new(), |millis| duration(Duration::from_millis(millis.round() as u64)))
}

/// Nodes that get traffic, and all that shall.
fn nodes(service: &ServiceStatus) -> (usize, usize) {
    let up = |state| matches!(state, NodeState::Serving | NodeState::Warming);
    // Whoever leaves because that is wanted is not missed.
    let wanted = service.nodes.iter().filter(|node| !matches!(node.state, NodeState::Draining | NodeState::Drained));
    wanted.fold((0, 0), |(ups, all), node| (ups + usize::from(up(node.state)), all + 1))
}

/// A share as a bar; a small one is seen too.
pub fn bar(percent: f64, cells: usize) -> String {
    let full = (percent / 100.0 * cells as f64).ceil().clamp(0.0, cells as f64) as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(cells - full))
}
