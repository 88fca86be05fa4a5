//! The access log as workers see it: how lines look, and where they go.

use std::sync::Arc;

use crate::config;
use crate::telemetry::lines::Sink;

/// How lines look, and where they go.
#[derive(Debug)]
pub struct AccessLog {
    /// How they look, and which requests are told.
    pub settings: Arc<config::AccessLog>,
    /// Where they go.
    pub sink: Sink,
}
