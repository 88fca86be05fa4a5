//! Where TOML itself is wrong: which of the parser's errors are worth showing, and in which words.

use toml::de::{DeTable, Error};

use super::error::{Fault, Findings};
use super::units::shorten;

/// Parses TOML. `None` if its syntax is wrong, which is in the findings then.
pub(super) fn parse<'t>(text: &'t str, findings: &Findings<'_>) -> Option<toml::Spanned<DeTable<'t>>> {
    /// A larger file gets its first syntax error only: the parser keeps all of them, and garbage has one a byte.
    const SMALL: usize = 256 << 10;
    let error = match DeTable::parse(text) {
        Ok(table) => return Some(table),
        Err(error) => error,
    };
    let mut errors = if text.len() <= SMALL { DeTable::parse_recoverable(text).1 } else { vec![error] };
    let start = |error: &Error| error.span().map_or(0, |span| span.start);
    errors.sort_by_key(start);
    // Behind a bracket that was not closed everything looks wrong.
    if errors.iter().any(|error| error.message().contains("array") || error.message().contains("unclosed")) {
        errors.truncate(1);
    }
    // The first error of a line is the mistake, the others follow from it.
    errors.dedup_by_key(|error| findings.line(start(error)));
    for error in errors {
        let span = error.span().unwrap_or_default();
        findings.add(&span, explained(error.message(), text.get(span.clone()).unwrap_or_default()));
    }
    None
}

/// The parser's words, and what they mean where they are no help.
fn explained(message: &str, part: &str) -> Fault {
    let part = shorten(part);
    if message == "duplicate key" {
        return Fault::new(format!("`{part}` stands here for the second time"));
    }
    let fault = Fault::new(format!("not valid TOML: {message}"));
    if message.contains("array") {
        return fault.hint("is a `]` missing before this?");
    }
    fault
}
