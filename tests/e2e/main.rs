//! End to end: real sockets, real files, the real data plane.
#![allow(clippy::large_futures, reason = "a test's own stack is big enough for its buffers")]

mod support;

mod balance;
mod conformance;
mod cuts;
mod drain;
mod faults;
mod framing;
mod headers;
mod hold;
mod kill;
mod limits;
mod proxying;
mod retry;
mod reuse;
mod routing;
mod shutdown;
mod streaming;
mod timeouts;
mod tunnel;
