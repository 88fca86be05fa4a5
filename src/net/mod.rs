//! Sockets: the only layer that knows what one is.

pub mod stream;

pub use stream::{Pulse, Stream};
