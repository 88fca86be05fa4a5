//! Sluice: a zero-downtime reverse proxy for rolling deploys.
//!
//! The map, in reading order; layers import downward only (`tests/layers.rs`):
//!
//! | layer | modules |
//! |---|---|
//! | 0 | [`model`]: the plain words |
//! | 1 | [`config`]: what was asked for · [`api`]: what operators see, as data · [`telemetry`] |
//! | 2 | [`pool`]: what is serving · [`rollout`]: what to do next (pure) · [`net`]: sockets |
//! | 3 | [`proxy`]: the data plane · [`control`]: the control plane · [`admin`]: the API |
//! | 4 | [`app`]: wiring and signals · [`cli`]: one file per verb |
#![deny(unsafe_code)]

pub mod model;

pub mod api;
pub mod config;
pub mod telemetry;

pub mod net;
pub mod pool;
pub mod rollout;

pub mod admin;
pub mod control;
pub mod proxy;

pub mod app;
pub mod cli;
