//! Text with words in braces that stand for something: header values, lines of the access log.

use super::error::{Fault, listed, nearest};
use super::units::shorten;

/// A part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// As it stands; never empty.
    Text(&'a str),
    /// The word between two braces.
    Word(&'a str),
}

/// `{word}` is a word; a brace before anything else is a brace, as in the JSON of `Report-To`.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    // Where the text begins that no word has ended yet, and where to look for the next one.
    let (mut plain, mut from) = (0, 0);
    while let Some(found) = text[from..].find('{') {
        let start = from + found;
        let word = &text[start + 1..];
        let end = word.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(word.len());
        from = start + 1;
        if end == 0 || !word[end..].starts_with('}') {
            continue;
        }
        if plain < start {
            pieces.push(Piece::Text(&text[plain..start]));
        }
        pieces.push(Piece::Word(&word[..end]));
        from += end + 1;
        plain = from;
    }
    if plain < text.len() {
        pieces.push(Piece::Text(&text[plain..]));
    }
    pieces
}

/// What a word stands for among those that are known. `what`: what it is not, if it is none of them.
pub(super) fn meaning<T: Copy>(
    word: &str,
    known: impl Iterator<Item = (&'static str, T)> + Clone,
    what: &str,
) -> Result<T, Fault> {
    if let Some((_, found)) = known.clone().find(|(name, _)| *name == word) {
        return Ok(found);
    }
    let names = || known.clone().map(|(name, _)| name);
    let fault = Fault::new(format!("`{{{}}}` {what}", shorten(word)));
    Err(match nearest(word, names()) {
        Some(near) => fault.hint(format!("did you mean `{{{near}}}`?")),
        None => fault.hint(format!("known are {}", listed(names()))),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_template_is_text_and_words_and_other_braces_are_braces() {
        assert_eq!(pieces("{\"s\":{status}} {x"), [Piece::Text("{\"s\":"), Piece::Word("status"), Piece::Text("} {x")]);
        assert_eq!(pieces("{{a}"), [Piece::Text("{"), Piece::Word("a")]);
        assert_eq!(pieces(""), []);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(text in "[a{}_é\"]{0,20}") {
            let whole: String = pieces(&text)
                .into_iter()
                .map(|piece| match piece {
                    Piece::Text(text) => text.to_owned(),
                    Piece::Word(word) => format!("{{{word}}}"),
                })
                .collect();
            prop_assert_eq!(whole, text);
        }
    }
}
