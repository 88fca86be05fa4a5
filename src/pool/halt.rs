//! What an operator did to a service's traffic: nothing of it reaches a node until it is taken back, or its time is over.

use std::sync::Arc;
use std::time::Instant;

/// Why no request of a service is given to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Requests wait in the service's [`Hold`](super::Hold).
    Held {
        /// They wait no longer than this, even if nobody is left to let them go.
        until: Instant,
    },
    /// Requests are told to come back later.
    Maintenance(Arc<Maintenance>),
}

/// What clients are told meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// In place of the service's page.
    pub message: Option<String>,
    /// For `Retry-After`, in seconds.
    pub retry_after: u64,
}
