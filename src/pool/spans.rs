//! Spans as workers see them: which requests are told, and where they go.

use crate::telemetry::lines::Sink;

/// Which requests are told as spans, and where they go.
#[derive(Debug)]
pub struct Spans {
    /// The part of the traces that begin here: 1 is all.
    pub sample: f64,
    /// Where they go: each as a line of JSON.
    pub sink: Sink,
}
