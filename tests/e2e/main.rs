//! End to end: real sockets, real files, the real data plane.

mod support;

mod conformance;
mod framing;
mod headers;
mod proxying;
mod routing;
