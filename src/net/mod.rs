//! Sockets: the only layer that knows what one is.

mod connect;
pub mod listener;
pub mod stream;

pub use connect::connect;
pub use stream::{Pulse, Stream};
