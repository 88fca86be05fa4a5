//! End to end: real sockets, real files, the real data plane.
#![allow(clippy::large_futures, reason = "a test's own stack is big enough for its buffers")]

mod access_log;
mod support;
mod tracing;

mod balance;
mod conformance;
mod cuts;
mod door;
mod door_auth;
#[cfg(feature = "compression")]
mod door_compression;
mod door_errors;
mod door_h2;
mod door_limits;
mod drain;
mod faults;
mod framing;
mod front_h1;
mod front_h1_mix;
mod grpc;
mod h2_abuse;
mod h2_ends;
mod h2_frames;
mod h2_grpc;
mod h2_requests;
mod h2_times;
mod h2_tls;
mod h2_websocket;
mod headers;
mod hints;
mod hold;
mod kill;
mod limits;
mod matrix;
mod node_h2;
mod node_h2_ends;
mod node_h2_tls;
mod proxy_protocol;
mod proxying;
mod retry;
mod reuse;
mod routing;
mod shutdown;
mod streaming;
mod timeouts;
mod tls;
mod tls_clients;
mod tls_nodes;
mod tls_reload;
mod trial_cohort;
mod trial_exact;
mod trial_preview;
mod trial_shadow;
mod trial_shield;
mod tunnel;
