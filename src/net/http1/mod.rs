//! HTTP/1 (RFC 9112): heads and bodies, and the two directions of a connection, for both of its ends.
//!
//! hyper hands every exchange through channels, because it may be asked from another task, and reads the clock and makes a buffer
//! for each request. Here whoever asks or answers also drives the connection; most of the work of a request was that.

pub mod body;
mod extension;
pub mod fields;
mod inbox;
mod names;
mod outbox;
mod places;
pub mod request;
pub mod response;

use std::io;

pub use fields::{decimal, digits, may_trail, recycle, spare};
pub use inbox::Inbox;
pub use outbox::{Coding, Outbox};

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
    /// A head has more bytes than it may have.
    #[error("the head is too large")]
    HeadTooLarge,
    /// A request's first line has.
    #[error("the request target is too long")]
    TargetTooLong,
    /// A head has more fields than it may have.
    #[error("too many fields")]
    TooManyFields,
    /// The body that was to be sent failed.
    #[error("the body that was to be sent failed")]
    Body,
}

impl Error {
    /// Whether the peer said something that cannot be understood.
    pub fn is_malformed(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::HeadTooLarge | Self::TargetTooLong | Self::TooManyFields)
    }
}
