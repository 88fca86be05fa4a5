//! HPACK (RFC 7541): how HTTP/2 says the fields of a head.
//!
//! A head is said again and again on a connection, so both sides keep what they have heard: most fields are one byte. What is
//! here is quick at that, since it is done for each request: an indexed field is a look into a table and a count of references,
//! and so also costs no memory, however often a head says it.

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod statics;
mod table;
#[cfg(test)]
mod tests;

use http::HeaderName;

pub use decoder::Decoder;
pub use encoder::Encoder;

/// Bytes in a dynamic table until something else is agreed upon (RFC 9113 §6.5.2), as RFC 7541 §4.1 counts them.
pub const DEFAULT_TABLE: usize = 4096;

/// What a field costs on top of the bytes of its name and its value (RFC 7541 §4.1).
const OVERHEAD: usize = 32;

/// What is no HPACK. Nothing that follows on its connection can be understood: a `COMPRESSION_ERROR` (RFC 9113 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the field block cannot be decoded: {0}")]
pub struct Malformed(&'static str);

/// What a field is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// `:authority`
    Authority,
    /// `:method`
    Method,
    /// `:path`
    Path,
    /// `:protocol` (RFC 8441 §4)
    Protocol,
    /// `:scheme`
    Scheme,
    /// `:status`
    Status,
    /// That of a field of HTTP, and no pseudo-header.
    Regular(HeaderName),
    /// None that HTTP/2 allows (RFC 9113 §8.2.1): empty, not in lower case, no token, or an unknown pseudo-header.
    Malformed,
}

impl Name {
    /// What these bytes name. Allocates for those names that are not among the well-known ones of `http`.
    fn of(text: &[u8]) -> Self {
        if text.first() == Some(&b':') {
            return Self::pseudo(text);
        }
        // `HeaderName` would take upper case, and make it lower.
        if text.iter().any(u8::is_ascii_uppercase) {
            return Self::Malformed;
        }
        HeaderName::from_bytes(text).map_or(Self::Malformed, Self::Regular)
    }

    const fn pseudo(text: &[u8]) -> Self {
        match text {
            b":authority" => Self::Authority,
            b":method" => Self::Method,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":scheme" => Self::Scheme,
            b":status" => Self::Status,
            _ => Self::Malformed,
        }
    }
}
