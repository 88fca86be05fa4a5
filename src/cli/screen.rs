//! Where a verb writes: plain lines into a pipe, or a block that is drawn again and again on a terminal.
//!
//! Writing never fails for the caller. A reader that goes away (`| head`) must not end a verb that watches a rollout and may have
//! to put a file back: the rest is written nowhere.

use std::io::{self, Write};

/// A terminal's measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// Standard output and standard error of a verb.
pub struct Screen<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    /// Whether colours are wanted; if not they are taken out here, and nobody else needs to ask.
    color: bool,
    /// None if output is piped: nothing is drawn twice then.
    terminal: Option<Terminal>,
    /// Lines of the block that the next one replaces.
    drawn: usize,
    lost: Option<io::ErrorKind>,
}

impl<'a> Screen<'a> {
    /// Writes there; `terminal` only if `out` is one that moves its cursor.
    pub fn new(out: &'a mut dyn Write, err: &'a mut dyn Write, color: bool, terminal: Option<Terminal>) -> Self {
        Self { out, err, color, terminal, drawn: 0, lost: None }
    }

    /// The terminal, if there is one.
    pub fn terminal(&self) -> Option<Terminal> {
        self.terminal
    }

    /// Whether colours are wanted.
    pub fn color(&self) -> bool {
        self.color
    }

    /// Why output goes nowhere any more: the reader is gone, or the disk is full.
    pub fn lost(&self) -> Option<io::ErrorKind> {
        self.lost
    }

    /// Writes text and a line end to standard output.
    pub fn line(&mut self, text: &str) {
        self.keep();
        let text = self.tint(text);
        let written = writeln!(self.out, "{text}").and_then(|()| self.out.flush());
        self.note_loss(written);
    }

    /// Writes text and a line end to standard error.
    pub fn complain(&mut self, text: &str) {
        self.keep();
        let text = self.tint(text);
        // If that fails as well there is nobody left to tell.
        let _ = writeln!(self.err, "{text}");
    }

    /// Draws a block over the last one. Long lines and a long tail are cut, since the cursor can only go back on what fits.
    pub fn draw(&mut self, block: &str) {
        let Some(terminal) = self.terminal else {
            return self.line(block);
        };
        let mut text = String::new();
        if self.drawn > 0 {
            text = format!("\x1b[{}A\x1b[J", self.drawn);
        }
        self.drawn = 0;
        for line in block.lines().take(terminal.height.max(3) - 2) {
            text += &cut(&self.tint(line), terminal.width);
            text.push('\n');
            self.drawn += 1;
        }
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        self.note_loss(written);
    }

    /// Leaves the last block where it is.
    pub fn keep(&mut self) {
        self.drawn = 0;
    }

    fn tint(&self, text: &str) -> String {
        if self.color { text.to_owned() } else { anstream::adapter::strip_str(text).to_string() }
    }

    fn note_loss(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.lost.get_or_insert(error.kind());
        }
    }
}

/// Columns that a text takes: colours take none. Wide characters count as one; names and addresses have none.
pub fn width(text: &str) -> usize {
    anstream::adapter::strip_str(text).to_string().chars().count()
}

/// Cuts to this many columns, and ends any colour.
fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let (mut used, mut escape) = (0, false);
    for character in text.chars() {
        escape = escape || character == '\x1b';
        if escape {
            kept.push(character);
            escape = character != 'm';
        } else if used + 1 < columns {
            kept.push(character);
            used += 1;
        } else {
            break;
        }
    }
    kept + "…\x1b[0m"
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_goes_away_is_noted_and_nothing_more() {
        let (mut out, mut err) = (Closed, Closed);
        let mut screen = Screen::new(&mut out, &mut err, false, None);
        screen.line("a");
        screen.complain("b");
        assert_eq!(screen.lost(), Some(io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn a_block_takes_the_place_of_the_last_one() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let terminal = Terminal { width: 5, height: 5 };
        let mut screen = Screen::new(&mut out, &mut err, true, Some(terminal));
        screen.draw("one\ntwo");
        screen.draw("\x1b[32mthree and more\x1b[0m\n2\n3\n4\n5");
        screen.line("end");
        assert_eq!(String::from_utf8(out).unwrap(), "one\ntwo\n\x1b[2A\x1b[J\x1b[32mthre…\x1b[0m\n2\n3\nend\n");
    }

    #[test]
    fn without_colour_there_are_no_escapes() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        Screen::new(&mut out, &mut err, false, None).draw("\x1b[32mgreen\x1b[0m");
        assert_eq!(out, b"green\n");
    }
}
