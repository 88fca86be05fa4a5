//! Small things that every view needs: durations as people write them, and columns.

use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::screen::width;
use crate::model::NodeState;

/// A duration, as coarse as it is useful: `850ms`, `12s`, `3m 10s`, `2h 5m`, `4d 3h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.is_zero() => "0s".into(),
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3600 => pair(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => pair(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

fn pair(large: u64, unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit} {small}{small_unit}") }
}

/// Reads `90s`, `1m30s`, `500ms`, `2h`. A number without a unit is refused: nobody can tell what it means.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a duration: write `30s`, `5m` or `1m30s`");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis = match rest[..end].trim() {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        let part = number.checked_mul(millis).ok_or_else(bad)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or_else(bad)?;
        rest = rest[end..].trim_start();
    }
    // A year is for ever, and what is far longer would overflow a clock.
    if total > Duration::from_hours(24 * 366) {
        return Err(format!("`{text}` is longer than a year"));
    }
    Ok(total)
}

/// Rows in columns of equal width, two spaces apart, each line behind `indent`.
pub fn columns(indent: &str, rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|at| {
            let cells = rows.iter().filter_map(|row| row.get(at));
            cells.map(|cell| width(cell)).max().unwrap_or(0)
        })
        .collect();
    rows.iter()
        .map(|row| {
            let mut line = indent.to_owned();
            for (at, cell) in row.iter().enumerate() {
                line += cell;
                if at + 1 < row.len() {
                    line += &" ".repeat(widths[at] - width(cell) + 2);
                }
            }
            line.trim_end().to_owned()
        })
        .collect()
}

/// A share as a bar of twenty cells, half cells rounded up so that a small share is still seen.
pub fn bar(percent: f64) -> String {
    let full = ((percent / 5.0).ceil().clamp(0.0, 20.0)) as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(20 - full))
}

/// A share for people: `5%`, `33.3%`.
pub fn percent(share: f64) -> String {
    if (share - share.round()).abs() < 0.05 { format!("{share:.0}%") } else { format!("{share:.1}%") }
}

/// Text that came from a network or a file, made harmless for a terminal: a path or the body of a failed probe may hold escape
/// sequences. Line ends stay.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' => '\n',
            '\t' => ' ',
            other if other.is_control() => '\u{fffd}',
            other => other,
        })
        .collect()
}

/// In a colour.
pub fn colored(color: AnsiColor, text: impl std::fmt::Display) -> String {
    let style = color.on_default();
    format!("{style}{text}{style:#}")
}

/// In bold.
pub fn bold(text: impl std::fmt::Display) -> String {
    let style = Style::new().bold();
    format!("{style}{text}{style:#}")
}

/// Fainter than the rest.
pub fn dim(text: impl std::fmt::Display) -> String {
    let style = Style::new().dimmed();
    format!("{style}{text}{style:#}")
}

/// A node's state in its colour.
pub fn state(state: NodeState) -> String {
    let color = match state {
        NodeState::Serving => AnsiColor::Green,
        NodeState::Joining | NodeState::Warming => AnsiColor::Cyan,
        NodeState::Standby | NodeState::Drained => AnsiColor::Blue,
        NodeState::Draining => AnsiColor::Yellow,
        NodeState::Ejected => AnsiColor::Red,
    };
    colored(color, state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, millis, shown) in [
            ("500ms", 500, "500ms"),
            ("0s", 0, "0s"),
            ("90s", 90_000, "1m 30s"),
            ("1m30s", 90_000, "1m 30s"),
            ("1m 30s", 90_000, "1m 30s"),
            ("2h", 7_200_000, "2h"),
            ("50h", 180_000_000, "2d 2h"),
        ] {
            let read = parse_duration(text).unwrap();
            assert_eq!(read, Duration::from_millis(millis), "{text}");
            assert_eq!(duration(read), shown);
        }
        for bad in ["", "30", "s", "-1s", "1.5s", "1x", "99999999999999999999s", "9999999d", "ä"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn columns_line_up_whatever_their_colour() {
        let rows = vec![vec![colored(AnsiColor::Red, "ab"), "x".into()], vec!["a".into(), "y".into()]];
        let lines = columns("  ", &rows);
        assert_eq!(anstream::adapter::strip_str(&lines[0]).to_string(), "  ab  x");
        assert_eq!(lines[1], "  a   y");
    }

    #[test]
    fn a_small_share_is_seen_and_a_whole_one_is_full() {
        assert_eq!(bar(1.0).matches('█').count(), 1);
        assert_eq!(bar(0.0).matches('█').count(), 0);
        assert_eq!(bar(100.0).matches('█').count(), 20);
        assert_eq!((percent(5.0), percent(33.33)), ("5%".into(), "33.3%".into()));
    }
}
