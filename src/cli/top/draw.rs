//! The screen: a line for the whole, what is wrong with it, a page, and a line that tells what keys do. Pure, but that it writes
//! down how many rows the page had.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::app::{App, Link, Mode, Page};
use super::deeds::KEYS;
use super::paint::{BOLD, DIM, Look, fit, plain, width, wrap};
use super::{detail, problems, table};
use crate::api::HaltKind;
use crate::cli::words::{duration, percent};

/// Lines at the top that tell what is wrong with the whole; more are counted.
const MOST_WARNINGS: usize = 3;

/// Draws everything.
pub fn draw(app: &mut App, buffer: &mut Buffer) {
    let area = buffer.area;
    if area.width == 0 || area.height == 0 {
        return;
    }
    let columns = usize::from(area.width);
    let mut top = vec![head(app, columns)];
    // Whoever has only a few rows wants to see the services.
    let most = if area.height >= 12 { MOST_WARNINGS } else { 1 };
    top.extend(warnings(app, columns, most));
    let mut foot = foot(app, columns);
    if area.height >= 12 && app.page == Page::Services {
        foot.splice(0..0, why(app, columns));
    }
    foot.truncate(most);
    let below = foot.len().min(usize::from(area.height));
    let above = top.len().min(usize::from(area.height) - below);
    let height = area.height - (above + below) as u16;
    let page = Rect { y: area.y + above as u16, height, ..area };
    for (row, line) in top.iter().take(above).enumerate() {
        buffer.set_line(area.x, area.y + row as u16, line, area.width);
    }
    for (row, line) in foot.iter().take(below).enumerate() {
        buffer.set_line(area.x, page.y + height + row as u16, line, area.width);
    }
    app.room = usize::from(page.height);
    if page.height == 0 {
        return;
    }
    match app.page.clone() {
        Page::Services => table::draw(app, page, buffer),
        Page::Service(name) => scrolled(app, page, buffer, |app| detail::rows(app, &name, columns)),
        Page::Problems => scrolled(app, page, buffer, |app| problems::rows(app, columns)),
        Page::Help => scrolled(app, page, buffer, |_| help(columns)),
    }
    if matches!(app.link, Link::Gone { .. }) {
        // What is old is faint.
        buffer.set_style(page, DIM);
    }
}

/// A page of lines, from the one that it was scrolled to.
fn scrolled(app: &mut App, page: Rect, buffer: &mut Buffer, lines: impl FnOnce(&App) -> Vec<Line<'static>>) {
    let lines = lines(app);
    let room = usize::from(page.height);
    app.scroll = app.scroll.min(lines.len().saturating_sub(room));
    for (row, line) in lines.iter().skip(app.scroll).take(room).enumerate() {
        buffer.set_line(page.x, page.y + row as u16, line, page.width);
    }
    let below = lines.len().saturating_sub(app.scroll + room);
    let more = if below > 0 { format!(" {below} more ↓ ") } else { String::new() };
    let foot = page.y + page.height;
    if foot < buffer.area.height && usize::from(page.width) > width(&more) {
        // What keys do gives way to it.
        let at = page.x + page.width - width(&more) as u16;
        buffer.set_string(at, foot, more, Style::new().add_modifier(Modifier::REVERSED));
    }
}

/// `sluice 0.1.0  pid 7  generation 42  up 4d 3h  ready     1,234 req/s  0.3 5xx/s  512 connections`
fn head(app: &App, columns: usize) -> Line<'static> {
    let Some(status) = &app.status else {
        return Line::styled(fit("sluice", columns), BOLD);
    };
    let rate = app.rates.all();
    let errors = rate.map_or("–".into(), |rate| per_second(rate.failures));
    let failing = rate.is_some_and(|rate| rate.failures > 0.0);
    let (requests, connections) =
        (rate.map_or("–".into(), |rate| per_second(rate.requests)), thousands(status.load.connections));
    let bad = if failing { app.look.bad() } else { Style::new() };
    let mut right = vec![
        Span::raw(format!("{requests} req/s")),
        Span::styled(format!("  {errors} 5xx/s"), bad),
        Span::raw(format!("  {connections} conns")),
    ];
    let mut left = vec![Span::styled(format!("sluice {}", plain(&status.sluice)), BOLD)];
    let taken = |spans: &[Span<'_>]| spans.iter().map(Span::width).sum::<usize>();
    while right.len() > 1 && taken(&left) + 2 + taken(&right) > columns {
        right.pop();
    }
    let ready = if status.ready { Span::raw("") } else { Span::styled("  NOT READY", app.look.doubtful()) };
    let parts = [
        ready,
        Span::raw(format!("  up {}", duration(app.now().since(status.started)))),
        Span::raw(format!("  pid {}", status.pid)),
        Span::raw(format!("  generation {}", status.generation)),
    ];
    for part in parts {
        if taken(&left) + part.width() + 2 + taken(&right) <= columns {
            left.push(part);
        }
    }
    let between = columns.saturating_sub(taken(&left) + taken(&right));
    left.push(Span::raw(" ".repeat(between)));
    left.extend(right);
    Line::from(left)
}

/// That the proxy does not answer, and what is wrong with it as a whole.
fn warnings(app: &App, columns: usize, most: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Link::Gone { since, why } = &app.link {
        let gone = duration(app.clock.since(*since));
        let text = format!(" NO ANSWER FROM THE PROXY for {gone}, asked again every second: {}", plain(why));
        lines = block(&text, columns, most, app.look.alarm());
    }
    let mut texts: Vec<String> = app.status.iter().flat_map(problems::short).collect();
    let more = texts.len().saturating_sub(most);
    if more > 0 {
        texts.truncate(most);
        if let Some(last) = texts.last_mut() {
            *last = format!("(and {more} more: c) {last}");
        }
    }
    lines.extend(texts.into_iter().map(|text| Line::styled(fit(&format!(" {text}"), columns), app.look.alarm())));
    lines
}

/// Text in lines that are filled to their end, the last one cut if there are too many.
fn block(text: &str, columns: usize, most: usize, style: Style) -> Vec<Line<'static>> {
    let mut lines: Vec<String> = wrap(&Line::from(text.to_owned()), columns, 1)
        .iter()
        .map(|line| line.spans.iter().map(|span| span.content.as_ref()).collect::<String>().trim_end().to_owned())
        .collect();
    if lines.len() > most {
        let rest = lines.split_off(most.saturating_sub(1)).join(" ");
        lines.push(rest);
    }
    lines.into_iter().map(|line| Line::styled(fit(&line, columns), style)).collect()
}

/// What there is to say of the service under the cursor.
fn why(app: &App, columns: usize) -> Option<Line<'static>> {
    let service = app.service(app.selected.as_ref()?)?;
    let reason = service.reason.as_deref().filter(|reason| !reason.is_empty())?;
    Some(Line::styled(fit(&format!(" {}: {reason}", service.name), columns), DIM))
}

/// What keys do now, or what came of the last.
fn foot(app: &App, columns: usize) -> Vec<Line<'static>> {
    if let Mode::Confirm(question) = &app.mode {
        let service = app.service(&question.service);
        let what = service.map(|service| question.deed.consequence(service)).unwrap_or_default();
        let verb = question.deed.name();
        // The question is never what is cut.
        let asked = "  y / n";
        let text = fit(&format!(" {verb} {}: {what}?", question.service), columns.saturating_sub(asked.len()));
        let text = format!("{}{asked}", text.trim_end());
        let style = Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD);
        return vec![Line::styled(fit(&text, columns), style)];
    }
    if app.mode == Mode::Filter {
        let line = fit(&format!(" /{}▏  Enter keeps it, Esc ends it", app.filter), columns);
        return vec![Line::styled(line, Style::new().add_modifier(Modifier::REVERSED))];
    }
    match &app.notice {
        Some(Ok(text)) => return block(&format!(" {}", plain(text)), columns, MOST_WARNINGS, app.look.good()),
        Some(Err(text)) => return block(&format!(" {}", plain(text)), columns, MOST_WARNINGS, app.look.bad()),
        None => {}
    }
    // What undoes a halt comes first, so that it is seen however narrow it is.
    let halt = match &app.page {
        Page::Service(name) => app.service(name).and_then(|service| service.halt.as_ref()),
        _ => None,
    };
    let undo = halt.map(|halt| match halt.kind {
        HaltKind::Hold => ("h", "release"),
        HaltKind::Maintenance => ("m", "end maintenance"),
    });
    let keys: &[(&str, &str)] = match app.page {
        Page::Services => &[
            ("?", "help"),
            ("q", "quit"),
            ("Enter", "open"),
            ("/", "filter"),
            ("s", "sort"),
            ("p", "promote"),
            ("z", "pause"),
            ("r", "resume"),
            ("a", "abort"),
            ("h", "hold"),
            ("m", "maintenance"),
        ],
        Page::Service(_) => &[
            ("?", "help"),
            ("q", "quit"),
            ("Esc", "back"),
            ("p", "promote"),
            ("z", "pause"),
            ("r", "resume"),
            ("a", "abort"),
            ("t", "retry"),
            ("h", "hold"),
            ("m", "maintenance"),
        ],
        Page::Problems | Page::Help => &[("Esc", "back"), ("q", "quit")],
    };
    let mut spans = Vec::new();
    let mut used = 0;
    for (key, does) in undo.iter().chain(keys.iter().filter(|key| undo.is_none_or(|(undo, _)| undo != key.0))) {
        let both = [Span::styled(format!(" {key}"), BOLD), Span::raw(format!(" {does} "))];
        used += both.iter().map(Span::width).sum::<usize>();
        if used > columns {
            break;
        }
        spans.extend(both);
    }
    vec![Line::from(spans)]
}

/// The keys.
fn help(columns: usize) -> Vec<Line<'static>> {
    let mut lines = vec![Line::styled("Keys", BOLD)];
    let deeds = KEYS.map(|(key, verb, does)| (key.to_string(), format!("{verb}: {does}")));
    let looking = [
        ("↑ ↓ j k", "up and down; PgUp, PgDn, Home, End"),
        ("Enter", "open a service: versions, the guard's evidence, nodes, history"),
        ("Esc", "back; on the first page: out of the filter, then quit"),
        ("/", "filter by a part of a name, a phase or a version"),
        ("s", "sort by: trouble, name, req/s, failed"),
        ("c", "configuration: errors, listeners, certificates"),
        ("Ctrl-L", "draw again"),
        ("Ctrl-Z", "to the shell; `fg` comes back"),
        ("q Ctrl-C", "quit"),
    ]
    .map(|(key, does)| (key.to_owned(), does.to_owned()));
    let entry = |(key, does): (String, String)| {
        let line = Line::from(vec![Span::styled(format!("  {}", fit(&key, 10)), BOLD), Span::raw(does)]);
        wrap(&line, columns, 12)
    };
    lines.extend(looking.into_iter().flat_map(entry));
    lines.push(Line::default());
    lines.push(Line::styled("For the service under the cursor, after a question", BOLD));
    lines.extend(deeds.into_iter().flat_map(entry));
    lines.push(Line::default());
    lines.push(Line::styled("What is shown", BOLD));
    let meant = [
        ("✖ ! ~", "users feel it; something failed; on its way"),
        ("5xx/s", "answers with a 5xx that clients got, from nodes and from Sluice"),
        ("FAILED", "of the requests that nodes were given: 5xx, resets, timeouts, also those that another node or the old version then answered"),
        ("SHARE", "of the new version, while there are two"),
        ("LEFT", "the step, and how long it is still held"),
    ]
    .map(|(key, does)| (key.to_owned(), does.to_owned()));
    lines.extend(meant.into_iter().flat_map(entry));
    lines.push(Line::default());
    lines.extend(wrap(&Line::from("Rates are those of the last five seconds."), columns, 0));
    lines
}

/// A rate, as coarse as it is useful: `0`, `0.3`, `42`, `1,234`, `56.7k`.
pub fn per_second(rate: f64) -> String {
    match rate {
        rate if rate <= 0.0 => "0".into(),
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate if rate < 9_999.5 => thousands(rate.round() as u64),
        rate if rate < 999_500.0 => format!("{:.1}k", rate / 1000.0),
        rate => format!("{:.1}M", rate / 1_000_000.0),
    }
}

/// A count with commas.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Part of a hundred that failed, in its style.
pub fn failed(look: Look, part: Option<f64>) -> (String, Style) {
    match part {
        None => ("–".into(), DIM),
        Some(part) if part <= 0.0 => ("0%".into(), Style::new()),
        Some(part) if part < 0.1 => ("<0.1%".into(), look.doubtful()),
        Some(part) if part < 1.0 => (percent(part), look.doubtful()),
        Some(part) => (percent(part), look.bad()),
    }
}
