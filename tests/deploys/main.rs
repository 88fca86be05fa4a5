//! The promise itself: rollouts, crashes and outages under open-loop load, and what the users saw of them.
//!
//! Everything is real: the proxy with its files and its admin socket, the verbs as processes, nodes with ports of their own.
//! By default each test deploys a few times; `SLUICE_ROLLOUTS=50` is the full measure.

mod canary;
mod cohorts;
mod grpc;
mod grpc_node;
mod kills;
mod outages;
mod rollouts;
mod stage;
