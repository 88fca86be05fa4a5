//! What may stand behind the size of a chunk (RFC 9112 §7.1.1). It says nothing to us, but whoever takes for one what is none may
//! see the chunk begin elsewhere.

/// Where an extension stands:
/// `chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    /// Anything goes, but an end of line.
    Any,
    /// Behind a blank behind the size or a value: another extension has to follow.
    Blank,
    /// Behind the semicolon.
    Start,
    Name,
    /// Behind a blank behind the name: a value or another extension has to follow.
    NameBlank,
    /// Behind the equals sign.
    Value,
    Token,
    Quoted,
    /// Behind a backslash.
    Escaped,
    /// Behind the closing quote.
    Closed,
}

impl Extension {
    /// What the first byte behind the size begins.
    pub(super) fn begin(byte: u8, strict: bool) -> Option<Self> {
        match byte {
            b';' | b' ' | b'\t' if !strict => Some(Self::Any),
            b';' => Some(Self::Start),
            b' ' | b'\t' => Some(Self::Blank),
            _ => None,
        }
    }

    /// Where it stands behind one more byte. `None`: that one may not follow.
    pub(super) fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            // Whoever takes a bare end of line for one would see another chunk begin here.
            (_, b'\n') => None,
            (Self::Any, _) | (Self::Blank | Self::Start | Self::NameBlank | Self::Value, b' ' | b'\t') => Some(self),
            (Self::Blank | Self::Name | Self::NameBlank | Self::Token | Self::Closed, b';') => Some(Self::Start),
            (Self::Name | Self::NameBlank, b'=') => Some(Self::Value),
            (Self::Name, b' ' | b'\t') => Some(Self::NameBlank),
            (Self::Token | Self::Closed, b' ' | b'\t') => Some(Self::Blank),
            (Self::Start | Self::Name, _) if is_token(byte) => Some(Self::Name),
            (Self::Value, b'"') => Some(Self::Quoted),
            (Self::Value | Self::Token, _) if is_token(byte) => Some(Self::Token),
            (Self::Quoted, b'"') => Some(Self::Closed),
            (Self::Quoted, b'\\') => Some(Self::Escaped),
            (Self::Quoted | Self::Escaped, b'\t' | b' '..=b'~' | 0x80..) => Some(Self::Quoted),
            _ => None,
        }
    }

    /// Whether the line may end here.
    pub(super) fn may_end(self) -> bool {
        matches!(self, Self::Any | Self::Name | Self::Token | Self::Closed)
    }
}

/// `tchar` of RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_taken(text: &str, strict: bool) -> bool {
        let mut bytes = text.bytes();
        let first = bytes.next().and_then(|first| Extension::begin(first, strict));
        bytes.try_fold(first, |at, byte| at?.next(byte).map(Some)).flatten().is_some_and(Extension::may_end)
    }

    #[test]
    fn an_extension_is_a_name_and_may_have_a_value() {
        for text in [
            ";a",
            ";a=b",
            " ; a = b",
            "\t;\ta\t=\tb",
            ";a;b=c ;d",
            ";a=\"\"",
            ";a=\"b;\\\"c\\\\\t\u{e9}\"",
            ";a=\"b\" ;c",
            ";a ;b",
            ";a=!#$%&'*+-.^_`|~9",
        ] {
            assert!(is_taken(text, true) && is_taken(text, false), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_extension_is_refused_where_that_is_asked_for() {
        for text in [
            ";",
            "; ",
            " ",
            "\t",
            ";;",
            ";a;",
            ";=b",
            ";a=",
            ";a= ",
            ";a b",
            ";a=b c",
            ";a ",
            ";a=b ",
            ";a=\"b",
            ";a=\"b\"c",
            ";a=\"\\",
            ";a\0",
            ";a=\x01",
            ";a=\"\x7f\"",
            ";bad[name",
            ";a=b=c",
            ";a\rb",
            ";\u{e9}",
        ] {
            assert!(!is_taken(text, true) && is_taken(text, false), "{text:?}");
        }
        for text in ["", "a", "=", ";a\nb", ";a=\"\n\""] {
            assert!(!is_taken(text, true) && !is_taken(text, false), "{text:?}");
        }
    }
}
