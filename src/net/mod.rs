//! Sockets: the only layer that knows what one is, and TLS on them.

pub mod ask;
mod connect;
pub mod http1;
pub mod http2;
pub mod listener;
mod pacing;
pub mod proxy_header;
pub mod stream;
pub mod tls;

pub use connect::{ConnectError, Dial, connect};
pub use proxy_header::Introduction;
#[cfg(test)]
pub(crate) use stream::tests::pair;
pub use stream::{Pulse, Stream, Waiting};
