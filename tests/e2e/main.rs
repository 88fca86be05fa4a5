//! End to end: real sockets, real files, the real data plane.

mod support;

mod framing;
mod proxying;
