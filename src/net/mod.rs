//! Sockets: the only layer that knows what one is.

pub mod listener;
pub mod stream;

pub use stream::{Pulse, Stream};
