//! End to end: real sockets, real files, the real data plane.

mod support;

mod proxying;
mod retry;
