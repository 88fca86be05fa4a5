//! End to end: real sockets, real files, the real data plane.
#![allow(clippy::large_futures, reason = "a test's own stack is big enough for its buffers")]

mod support;

mod conformance;
mod framing;
mod headers;
mod limits;
mod proxying;
mod retry;
mod routing;
mod streaming;
