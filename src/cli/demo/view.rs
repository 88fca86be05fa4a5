//! What the demo shows: a table that is redrawn on a terminal, a line a second anywhere else.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::summary::Summary;
use super::tables::{BOLD, DIM, Moment, line, seconds, table, table_of};
use super::tally::Tally;
use crate::api::ServiceStatus;

/// A shorter time than this is too short for a rate.
const BRIEF: Duration = Duration::from_millis(300);

/// How things are shown. Decided once, from the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// A terminal that can move its cursor.
    Live,
    /// A pipe, a file, `NO_COLOR`, `TERM=dumb`.
    Plain,
    /// `--json`: only the summary.
    Silent,
}

/// The output.
pub(super) struct Screen {
    mode: Mode,
    begun: Instant,
    /// Lines of the table that the next one replaces.
    drawn: usize,
    /// When the last frame was shown, and the tally then.
    last: Option<(Instant, Tally)>,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        let out = std::io::stdout();
        let mode = if json {
            Mode::Silent
        } else if out.is_terminal() && anstream::AutoStream::choice(&out) != anstream::ColorChoice::Never {
            Mode::Live
        } else {
            Mode::Plain
        };
        Self { mode, begun: Instant::now(), drawn: 0, last: None }
    }

    /// Time between two frames.
    pub(super) fn every(&self) -> Duration {
        match self.mode {
            Mode::Live => Duration::from_millis(500),
            Mode::Plain | Mode::Silent => Duration::from_secs(1),
        }
    }

    /// Something happened: a line that stays.
    pub(super) fn note(&mut self, text: &str) {
        if self.mode == Mode::Silent {
            return;
        }
        let at = seconds(self.begun.elapsed());
        // The table goes on below this line.
        self.put(&[format!("{DIM}{at}{DIM:#}  {BOLD}{text}{BOLD:#}")], true);
    }

    /// Shows how things are.
    pub(super) fn frame(&mut self, status: &ServiceStatus, tally: Tally, duplicated: usize) {
        let now = Instant::now();
        let Some((at, before)) = &self.last else {
            self.last = Some((now, tally));
            return;
        };
        let moment = Moment { elapsed: now - self.begun, status, tally: &tally, before, window: now - *at, duplicated };
        // Rates over a moment are noise: such a frame keeps the window of the one before, and a pipe does without it.
        let brief = moment.window < BRIEF;
        match self.mode {
            Mode::Live => {
                let lines = table(&moment);
                self.put(&lines, false);
            }
            Mode::Plain if !brief => {
                let line = line(&moment);
                self.put(&[line], true);
            }
            Mode::Plain | Mode::Silent => {}
        }
        if !brief {
            self.last = Some((now, tally));
        }
    }

    /// The last word.
    pub(super) fn summary(&mut self, summary: &Summary) {
        if self.mode == Mode::Silent {
            match serde_json::to_string_pretty(summary) {
                Ok(text) => anstream::println!("{text}"),
                Err(error) => anstream::eprintln!("error: {error}"),
            }
            return;
        }
        self.put(&table_of(summary), true);
    }

    /// Lines that stay.
    pub(super) fn say(&mut self, lines: &[String]) {
        if self.mode != Mode::Silent {
            self.put(lines, true);
        }
    }

    fn put(&mut self, lines: &[String], stay: bool) {
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A\x1b[J", self.drawn);
        }
        // A line that is longer than the terminal must not wrap: the next frame would begin in the wrong place.
        let (unwrap, wrap) = match (self.mode, stay) {
            (Mode::Live, false) => ("\x1b[?7l", "\x1b[?7h"),
            _ => ("", ""),
        };
        text.push_str(unwrap);
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(wrap);
        self.drawn = if stay { 0 } else { lines.len() };
        let mut out = anstream::stdout().lock();
        // Nobody reads any more: the exit code still tells the result.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
