//! End to end: real sockets, real files, the real data plane.

mod support;

mod cuts;
mod drain;
mod faults;
mod kill;
mod proxying;
mod retry;
mod reuse;
mod shutdown;
mod timeouts;
mod tunnel;
