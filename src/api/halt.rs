//! A service whose traffic is stopped by hand.

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// What an operator may do to a service's traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Halting {
    /// Keep its requests waiting, for this long at most.
    Hold {
        /// In milliseconds.
        for_ms: u64,
    },
    /// Let them go.
    Release,
    /// Answer them 503.
    MaintenanceOn {
        /// In place of the service's page.
        message: Option<String>,
        /// For `Retry-After`, in seconds.
        retry_after: u64,
    },
    /// Answer them again.
    MaintenanceOff,
}

/// An operator stopped a service's traffic: no new request reaches a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaltStatus {
    /// Which way.
    pub kind: HaltKind,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself; none: when somebody ends it.
    pub until: Option<Timestamp>,
    /// What clients are told in place of the service's page, in maintenance.
    pub message: Option<String>,
    /// When clients are asked to come back, in seconds, in maintenance.
    pub retry_after: Option<u64>,
    /// Who did it, as far as the admin API knows.
    pub by: String,
}

/// How a service's traffic is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HaltKind {
    /// Requests wait.
    Hold,
    /// Requests are answered 503, with a page.
    Maintenance,
}

impl HaltKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Hold, Self::Maintenance];

    /// As in JSON, and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Maintenance => "maintenance",
        }
    }
}
