//! Errors: what is wrong, where it stands, and how it is shown.
//!
//! The reading modules speak of byte offsets ([`Findings`]); operators see lines and columns ([`Problem`]). Nothing here
//! stops at the first error.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use anstyle::{AnsiColor, Style};

use crate::api::Problem;

/// A part of a file, in bytes.
pub(super) type Span = Range<usize>;

/// More problems than this in one file are counted, not listed: nobody reads them, and each quotes a line.
const LISTED: usize = 1000;

/// A line longer than this (in characters) is cut around the column when it is quoted.
const LINE: usize = 160;
/// What stays before the column of a line that is cut there.
const LEAD: usize = 60;
/// Marks a cut.
const CUT: char = '…';

/// What is wrong with one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    message: String,
    hint: Option<String>,
    /// The value may be a password: it must not be quoted in a log.
    secret: bool,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, secret: false }
    }

    /// Shows the line without what stands in quotes.
    pub(super) fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// What to do about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Everything found wrong with one file so far. Shared by its readers, hence the cells.
pub(super) struct Findings<'t> {
    text: &'t str,
    /// Lines of the file above the text.
    above: usize,
    starts: OnceCell<Vec<usize>>,
    list: RefCell<Vec<(Option<Span>, Fault)>>,
    unlisted: Cell<usize>,
    /// Every key that a reader asked for, and whether it was there: the one list of known keys.
    #[cfg(test)]
    pub(super) keys: RefCell<std::collections::BTreeMap<String, bool>>,
}

impl<'t> Findings<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self::of_part(text, 0)
    }

    /// Of a part of a file that begins with a line, below so many others.
    pub(super) fn of_part(text: &'t str, above: usize) -> Self {
        Self {
            text,
            above,
            starts: OnceCell::new(),
            list: RefCell::default(),
            unlisted: Cell::new(0),
            #[cfg(test)]
            keys: RefCell::default(),
        }
    }

    pub(super) fn add(&self, span: &Span, fault: Fault) {
        self.push(Some(span.clone()), fault);
    }

    /// For what no line shows: something is missing, or the file cannot be read.
    pub(super) fn add_whole(&self, fault: Fault) {
        self.push(None, fault);
    }

    fn push(&self, span: Option<Span>, fault: Fault) {
        let mut list = self.list.borrow_mut();
        if list.len() < LISTED {
            list.push((span, fault));
        } else {
            self.unlisted.set(self.unlisted.get() + 1);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    /// The line of the file that an offset is in, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.above + self.own_line(offset)
    }

    /// The line of the text.
    fn own_line(&self, offset: usize) -> usize {
        let starts = self.starts.get_or_init(|| {
            let ends = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            std::iter::once(0).chain(ends.map(|(end, _)| end + 1)).collect()
        });
        starts.partition_point(|start| *start <= offset)
    }

    /// Where something stands, as a problem without a message: for what is found wrong with it later.
    pub(super) fn place(&self, path: &Path, span: &Span) -> Problem {
        let offset = self.text.floor_char_boundary(span.start);
        let line = self.own_line(offset);
        let start = self.starts.get().and_then(|starts| starts.get(line - 1)).copied().unwrap_or(0);
        self.shown(path, span, (line, start, self.text[start..offset].chars().count() + 1))
    }

    /// The problem at a part of the file, whose line, start of that line and column are known.
    fn shown(&self, path: &Path, span: &Span, (line, start, column): (usize, usize, usize)) -> Problem {
        let offset = self.text.floor_char_boundary(span.start);
        let rest = self.text[offset..].lines().next().unwrap_or("");
        let end = self.text.ceil_char_boundary(span.end).clamp(offset, offset + rest.len());
        Problem {
            path: path.to_owned(),
            line: self.above + line,
            column,
            text: quote(&self.text[start..offset], rest, column),
            width: self.text[offset..end].chars().count().clamp(1, LINE),
            message: String::new(),
            hint: None,
        }
    }

    /// As operators see them, in the order of the file.
    pub(super) fn into_problems(self, path: &Path) -> Vec<Problem> {
        let mut list = self.list.take();
        list.sort_by_key(|(span, _)| span.as_ref().map(|span| span.start));
        let mut problems = Vec::with_capacity(list.len());
        // Characters are counted onwards from the last problem of the same line, so that a file of one long line with
        // many problems is read once.
        let mut counted = (0, 0, 0);
        for (span, fault) in list {
            let Some(span) = span else {
                problems.push(whole(path, fault.message, fault.hint));
                continue;
            };
            let offset = self.text.floor_char_boundary(span.start);
            let line = self.own_line(offset);
            let start = self.starts.get().and_then(|starts| starts.get(line - 1)).copied().unwrap_or(0);
            if counted.0 != line {
                counted = (line, start, 1);
            }
            let column = counted.2 + self.text[counted.1..offset].chars().count();
            counted = (line, offset, column);
            let mut place = self.shown(path, &span, (line, start, column));
            if fault.secret {
                place.text = masked(&place.text);
            }
            problems.push(Problem { message: fault.message, hint: fault.hint, ..place });
        }
        if self.unlisted.get() > 0 {
            problems.push(whole(path, format!("{} more errors are not listed", self.unlisted.get()), None));
        }
        problems
    }
}

/// A problem of a whole file.
pub(super) fn whole(path: &Path, message: String, hint: Option<String>) -> Problem {
    Problem { path: path.to_owned(), line: 0, column: 0, text: String::new(), width: 0, message, hint }
}

/// One line for people: what would move the cursor or the colours becomes a harmless character, so that carets stand right.
fn quote(before: &str, after: &str, column: usize) -> String {
    let mut text = String::new();
    let mut left = LINE;
    if column > LEAD + 1 && before.len() + after.len() > LINE {
        text.push(CUT);
        let from = before.char_indices().rev().nth(LEAD - 2).map_or(0, |(at, _)| at);
        text.push_str(&before[from..]);
        left -= LEAD;
    } else {
        text.push_str(before);
        left -= column - 1;
    }
    match after.char_indices().nth(left) {
        Some((at, _)) => {
            text.push_str(&after[..at]);
            text.push(CUT);
        }
        None => text.push_str(after),
    }
    let shown = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// The line with a star for each character from its first quote on, but for what separates values.
fn masked(line: &str) -> String {
    let quote = line.find(['"', '\'']).unwrap_or(0);
    let star = |c: char| if c.is_whitespace() || "\"',[]".contains(c) { c } else { '*' };
    line[..quote].chars().chain(line[quote..].chars().map(star)).collect()
}

/// One problem as plain text: where and what, the line with the part marked, and the hint. Ends with a newline.
pub fn render(problem: &Problem) -> String {
    paint(problem, Style::new(), Style::new(), Style::new())
}

/// [`render`] with colours. Meant to be written through an `anstream` stream, which takes them out again where they are not wanted.
pub fn render_coloured(problem: &Problem) -> String {
    paint(problem, Style::new().bold(), AnsiColor::Red.on_default().bold(), AnsiColor::Cyan.on_default())
}

fn paint(problem: &Problem, place: Style, mark: Style, help: Style) -> String {
    let mut out = String::new();
    let path = problem.path.display();
    // Writing into a `String` cannot fail.
    if problem.line == 0 {
        let _ = writeln!(out, "{place}{path}:{place:#} {}", problem.message);
    } else {
        let _ = writeln!(out, "{place}{path}:{}:{}:{place:#} {}", problem.line, problem.column, problem.message);
        let _ = writeln!(out, "{:>5} | {}", problem.line, problem.text);
        let cut = problem.text.starts_with(CUT) && problem.column > LEAD + 1;
        let column = if cut { LEAD + 1 } else { problem.column };
        let _ = writeln!(out, "      | {:2$}{mark}{:^<3$}{mark:#}", "", "", column - 1, problem.width.max(1));
    }
    if let Some(hint) = &problem.hint {
        let _ = writeln!(out, "  {help}hint:{help:#} {hint}");
    }
    out
}

/// The known word that was probably meant, if one is near enough: a third of its letters may be wrong.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A longer word is no slip of the keyboard, and the distance costs its length times the other's.
    if word.len() > 64 {
        return None;
    }
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .filter(|(distance, known)| *distance <= known.chars().count() / 3)
        .min()
        .map(|(_, known)| known)
}

/// Words as a list for people: `a`, `b`, `c`.
pub(super) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for (index, word) in words.into_iter().enumerate() {
        if index == 20 {
            out.push_str(", …");
            break;
        }
        let _ = write!(out, "{}`{word}`", if index == 0 { "" } else { ", " });
    }
    out
}
