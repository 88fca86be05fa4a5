//! HTTP/1 as a client speaks it (RFC 9112): heads and bodies, without a connection.
//!
//! hyper's client hands every exchange through three channels, because it may be asked from another task. Here whoever asks
//! also drives the connection, and a third of the work of a request was that.

pub mod body;
pub mod request;
pub mod response;

use std::io;

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection ended before the message did.
    #[error("the connection ended before the message did")]
    Ended,
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is no HTTP/1, or could be read in two ways.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// The body that was to be sent failed.
    #[error("the request's body failed")]
    Upload,
}

impl Error {
    /// Whether the peer said something that cannot be understood.
    pub fn is_malformed(&self) -> bool {
        matches!(self, Self::Malformed(_))
    }
}
