//! Where a stream of server-sent events may be ended: after a blank line (HTML standard §9.2.5), so that the client has
//! whole events only and comes back with the right `Last-Event-ID`.

/// Follows a stream and knows whether an event is complete.
#[derive(Clone, Debug, Default)]
pub struct EventBorder {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// At the beginning, or right after a blank line.
    #[default]
    Border,
    /// After a blank line whose CR may still be followed by its LF.
    BorderAfterCr,
    /// In a line.
    Line,
    /// After a line's end.
    LineEnd,
    /// After a line's CR, which may still be followed by its LF.
    LineEndAfterCr,
}

impl EventBorder {
    /// Whether everything seen so far is whole events.
    pub fn is_at_border(&self) -> bool {
        matches!(self.state, State::Border | State::BorderAfterCr)
    }

    /// Takes the next piece. Returns how much of it belongs to whole events, if an event ends in it.
    pub fn advance(&mut self, data: &[u8]) -> Option<usize> {
        let mut whole = None;
        for (index, byte) in data.iter().enumerate() {
            self.state = match (byte, self.state) {
                (b'\n', State::Line | State::LineEndAfterCr) => State::LineEnd,
                (b'\n', State::LineEnd | State::Border | State::BorderAfterCr) => State::Border,
                (b'\r', State::Line) => State::LineEndAfterCr,
                (b'\r', _) => State::BorderAfterCr,
                _ => State::Line,
            };
            if self.is_at_border() {
                whole = Some(index + 1);
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_event_ends_at_a_blank_line_in_every_line_ending() {
        for (text, whole) in [
            ("data: a\n\n", Some(9)),
            ("data: a\r\n\r\n", Some(11)),
            ("data: a\r\r", Some(9)),
            ("data: a\n", None),
            ("data: a\r\n", None),
            ("data: a\n\ndata: b\n", Some(9)),
            ("data: a\n\ndata: b\n\nx", Some(18)),
            ("data: a", None),
        ] {
            assert_eq!(EventBorder::default().advance(text.as_bytes()), whole, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_pieces_in_which_a_stream_comes_do_not_matter(text in "[a:\r\n]{0,40}", cut in 0usize..40) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let mut whole = EventBorder::default();
            whole.advance(bytes);
            let mut parts = EventBorder::default();
            parts.advance(&bytes[..cut]);
            parts.advance(&bytes[cut..]);
            prop_assert_eq!(whole.is_at_border(), parts.is_at_border());
        }
    }
}
