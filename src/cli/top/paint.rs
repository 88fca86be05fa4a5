//! Text on its way to the terminal: harmless, in its style, cut and wrapped to what fits.

use anstyle::AnsiColor;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// Whether colours are wanted. Nothing is told by a colour alone, so that all of it is legible without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// False where `NO_COLOR` is set.
    pub color: bool,
}

impl Look {
    /// Something in a colour, if they are wanted.
    pub fn colored(self, color: AnsiColor) -> Style {
        if self.color { Style::new().fg(named(color)) } else { Style::new() }
    }

    /// All is well.
    pub fn good(self) -> Style {
        self.colored(AnsiColor::Green)
    }

    /// On its way.
    pub fn moving(self) -> Style {
        self.colored(AnsiColor::Cyan)
    }

    /// To be looked at.
    pub fn doubtful(self) -> Style {
        self.colored(AnsiColor::Yellow)
    }

    /// Wrong.
    pub fn bad(self) -> Style {
        self.colored(AnsiColor::Red).add_modifier(Modifier::BOLD)
    }

    /// What must not be missed.
    pub fn alarm(self) -> Style {
        self.bad().add_modifier(Modifier::REVERSED)
    }

    /// A line that a verb would print, with the styles of its escape sequences. Text in it must be [`plain`] or
    /// [`clean`](crate::cli::words::clean) already.
    pub fn line(self, text: &str) -> Line<'static> {
        let mut spans = Vec::new();
        let mut style = Style::new();
        for (at, part) in text.split('\x1b').enumerate() {
            let rest = match part.strip_prefix('[').and_then(|sequence| sequence.split_once('m')) {
                Some((codes, rest)) if at > 0 => {
                    style = codes.split(';').fold(style, |style, code| self.changed(style, code));
                    rest
                }
                _ => part,
            };
            if !rest.is_empty() {
                spans.push(Span::styled(plain(rest), style));
            }
        }
        Line::from(spans)
    }

    /// One code of ECMA-48's SGR, as far as the verbs use them.
    fn changed(self, style: Style, code: &str) -> Style {
        const COLORS: [AnsiColor; 8] = [
            AnsiColor::Black,
            AnsiColor::Red,
            AnsiColor::Green,
            AnsiColor::Yellow,
            AnsiColor::Blue,
            AnsiColor::Magenta,
            AnsiColor::Cyan,
            AnsiColor::White,
        ];
        match code.parse().unwrap_or(0_usize) {
            1 => style.add_modifier(Modifier::BOLD),
            2 => style.add_modifier(Modifier::DIM),
            code @ 30..=37 => style.patch(self.colored(COLORS[code - 30])),
            _ => Style::new(),
        }
    }
}

/// Fainter than the rest.
pub const DIM: Style = Style::new().add_modifier(Modifier::DIM);
/// Headings.
pub const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

fn named(color: AnsiColor) -> Color {
    match color {
        AnsiColor::Black => Color::Black,
        AnsiColor::Red => Color::Red,
        AnsiColor::Green => Color::Green,
        AnsiColor::Yellow => Color::Yellow,
        AnsiColor::Blue => Color::Blue,
        AnsiColor::Magenta => Color::Magenta,
        AnsiColor::Cyan => Color::Cyan,
        _ => Color::Reset,
    }
}

/// One line of text that cannot do anything to a terminal, whoever wrote it: no escape sequence, no line end, nothing that turns the
/// direction of what follows or takes no room.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' | '\t' => ' ',
            other if other.is_control() || is_format(other) => '\u{fffd}',
            other => other,
        })
        .collect()
}

/// Format characters: joiners, marks and overrides of direction, line and paragraph ends, the byte order mark, tags.
fn is_format(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Columns that a text takes, sign by sign, as it is drawn.
pub fn width(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    Span::raw(text).styled_graphemes(Style::new()).map(|grapheme| sign_width(grapheme.symbol)).sum()
}

fn sign_width(sign: &str) -> usize {
    Span::raw(sign).width()
}

/// Exactly this many columns: filled up, or cut with a mark that something is missing.
pub fn fit(text: &str, columns: usize) -> String {
    let text = plain(text);
    let taken = width(&text);
    if taken <= columns {
        return text + &" ".repeat(columns - taken);
    }
    let mut kept = String::new();
    let mut used = 0;
    for grapheme in Span::raw(&text).styled_graphemes(Style::new()) {
        let wide = sign_width(grapheme.symbol);
        if used + wide + 1 > columns {
            break;
        }
        kept.push_str(grapheme.symbol);
        used += wide;
    }
    if columns > 0 {
        kept.push('…');
        used += 1;
    }
    kept + &" ".repeat(columns.saturating_sub(used))
}

/// The same, on the right.
pub fn fit_right(text: &str, columns: usize) -> String {
    let taken = width(text);
    if taken <= columns { " ".repeat(columns - taken) + text } else { fit(text, columns) }
}

/// Breaks a line where it becomes too long, between words if there are any; what follows stands behind `indent`.
pub fn wrap(line: &Line<'static>, columns: usize, indent: usize) -> Vec<Line<'static>> {
    if line.width() <= columns || columns == 0 {
        return vec![line.clone()];
    }
    let indent = if indent * 2 > columns || columns < indent + 2 { 0 } else { indent };
    let signs: Vec<(String, usize, Style)> = line
        .styled_graphemes(Style::new())
        .map(|grapheme| (grapheme.symbol.to_owned(), sign_width(grapheme.symbol), grapheme.style))
        .collect();
    let mut lines = Vec::new();
    let mut from = 0;
    while from < signs.len() {
        let room = if lines.is_empty() { columns } else { columns - indent };
        let mut used = 0;
        let fitting = signs[from..].iter().take_while(|(_, wide, _)| {
            used += wide;
            used <= room
        });
        // A sign that is wider than all there is goes alone.
        let mut end = from + fitting.count().max(1);
        let between = signs.get(end).is_some_and(|(sign, ..)| sign == " ");
        if end < signs.len() && !between {
            let words = signs[from..end].iter().rposition(|(sign, ..)| sign == " ");
            // Not before the first word: that is the line's own indent.
            let begun = signs[from..end].iter().position(|(sign, ..)| sign != " ");
            if let Some(space) = words.filter(|space| begun.is_some_and(|begun| begun < *space)) {
                end = from + space + 1;
            }
        }
        let mut spans = if lines.is_empty() { Vec::new() } else { vec![Span::raw(" ".repeat(indent))] };
        spans.extend(signs[from..end].iter().map(|(sign, _, style)| Span::styled(sign.clone(), *style)));
        lines.push(Line::from(spans));
        from = end + usize::from(between);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(line: &Line<'_>) -> String {
        line.spans.iter().map(|span| span.content.as_ref()).collect()
    }

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        let bad = "a\x1b]0;title\x07b\u{9b}31mc\nd\u{202e}e\u{200d}f";
        assert_eq!(plain(bad), "a\u{fffd}]0;title\u{fffd}b\u{fffd}31mc d\u{fffd}e\u{fffd}f");
        assert_eq!(plain("Größe 店 🚀"), "Größe 店 🚀");
    }

    #[test]
    fn a_verbs_line_keeps_its_styles_and_loses_its_escapes() {
        let line = Look { color: true }.line("a \x1b[31mred\x1b[0m \x1b[1mbold\x1b[0m \x1b[2J");
        assert_eq!(text(&line), "a red bold \u{fffd}[2J".replace('\u{fffd}', ""));
        assert_eq!(line.spans[1].style.fg, Some(Color::Red));
        assert!(line.spans[3].style.add_modifier.contains(Modifier::BOLD));
        let line = Look { color: false }.line("a \x1b[31mred\x1b[0m");
        assert!(line.spans.iter().all(|span| span.style.fg.is_none()));
    }

    #[test]
    fn long_lines_break_between_words() {
        let line = Line::from("  one two three");
        let broken: Vec<_> = wrap(&line, 9, 4).iter().map(|line| text(line).trim_end().to_owned()).collect();
        assert_eq!(broken, ["  one two", "    three"]);
        let broken: Vec<_> = wrap(&Line::from("abcdefgh"), 3, 0).iter().map(text).collect();
        assert_eq!(broken, ["abc", "def", "gh"]);
    }

    proptest! {
        #[test]
        fn what_is_fitted_takes_exactly_its_room(text in ".{0,40}", columns in 0_usize..30) {
            prop_assert_eq!(width(&fit(&text, columns)), columns);
        }

        #[test]
        fn wrapping_keeps_every_sign_and_the_width(text in ".{0,80}", columns in 2_usize..40, indent in 0_usize..8) {
            let line = Line::from(plain(&text));
            let lines = wrap(&line, columns, indent);
            prop_assert!(lines.iter().all(|line| line.width() <= columns), "{:?}", lines);
            let kept: usize = lines.iter().map(|line| super::tests::text(line).replace(' ', "").len()).sum();
            prop_assert_eq!(kept, super::tests::text(&line).replace(' ', "").len());
        }
    }
}
