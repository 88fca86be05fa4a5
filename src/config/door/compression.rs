//! What is compressed on its way out.

use super::super::reader::Table;

/// A way to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// Its name in `Accept-Encoding`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// `[service.NAME.compression]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// In the order in which they are preferred among those that a client takes equally.
    pub codings: Vec<Coding>,
    /// Media types in lower case, without parameters; `text/*` for all of a kind.
    pub types: Vec<String>,
    /// A body that is known to be shorter in bytes goes as it is.
    pub least: u64,
}

#[cfg(not(feature = "compression"))]
pub(super) fn read(t: &mut Table<'_>) -> Option<Compression> {
    use super::super::error::Fault;

    let fault = Fault::new("this build of Sluice cannot compress");
    t.refuse("compression", fault.hint("remove the section, or build it with `cargo build --features compression`"));
    None
}

#[cfg(feature = "compression")]
pub(super) fn read(t: &mut Table<'_>) -> Option<Compression> {
    use super::super::error::Fault;
    use super::super::file::misplaced;
    use super::super::units::shorten;
    use super::checked_list;

    const KNOWN: [(&str, Coding); 3] = [("zstd", Coding::Zstd), ("br", Coding::Brotli), ("gzip", Coding::Gzip)];
    const TYPES: [&str; 8] = [
        "text/*",
        "application/json",
        "application/problem+json",
        "application/javascript",
        "application/xml",
        "application/wasm",
        "application/manifest+json",
        "image/svg+xml",
    ];

    let mut t = t.table("compression", "service.*.compression")?;
    for key in ["codings", "types"] {
        if t.holds_empty_list(key) {
            t.findings().add(&t.span, Fault::new(format!("`{key}` is empty: nothing would be compressed")));
        }
    }
    let mut codings = checked_list(&mut t, "codings", |text| {
        let known = KNOWN.iter().find(|(name, _)| *name == text).map(|(_, coding)| *coding);
        known.ok_or_else(|| {
            Fault::new(format!("`{}` is not a coding that Sluice knows", shorten(text)))
                .hint("one of `zstd`, `br` and `gzip`")
        })
    });
    let mut types = checked_list(&mut t, "types", |text| {
        let lower = text.to_ascii_lowercase();
        let sides = lower.split_once('/').filter(|(kind, name)| !kind.is_empty() && !name.is_empty());
        let well = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b));
        match sides {
            Some((kind, name)) if well(kind) && (name == "*" || well(name)) => Ok(lower),
            _ => Err(Fault::new(format!("`{}` is not a media type", shorten(text)))
                .hint("write it like \"text/html\" or \"text/*\"")),
        }
    });
    if codings.is_empty() {
        codings = KNOWN.iter().map(|(_, coding)| *coding).collect();
    }
    if types.is_empty() {
        types = TYPES.iter().map(|kind| (*kind).to_owned()).collect();
    }
    let least = t.size("least", 1024, 0..=1 << 30) as u64;
    t.finish(misplaced);
    Some(Compression { codings, types, least })
}
