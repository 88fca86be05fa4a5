//! End to end: real sockets, real files, the real data plane.

mod support;

mod conformance;
mod framing;
mod headers;
mod limits;
mod proxying;
mod retry;
mod routing;
mod streaming;
