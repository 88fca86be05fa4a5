//! What the whole proxy does.

use serde::{Deserialize, Serialize};

/// The whole proxy's work, counted since it started; a service that goes takes its counts with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Client connections that are open.
    pub connections: u64,
    /// Requests, of any service or of none.
    pub requests: u64,
    /// Of them, those whose clients got a 5xx, from a node or from Sluice.
    pub errors: u64,
}
