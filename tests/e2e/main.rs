//! End to end: real sockets, real files, the real data plane.

mod support;

mod faults;
mod proxying;
mod retry;
mod reuse;
mod timeouts;
