//! Events: what happened, one by one, for those who listen.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::model::{NodeAddress, ServiceName, Timestamp, Version};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Grows with each, also over a restart of the proxy.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// Of which service; none: of the whole proxy.
    pub service: Option<ServiceName>,
    /// Which version it is about.
    pub version: Option<Version>,
    /// Which node.
    pub node: Option<NodeAddress>,
    /// What happened and why, for people.
    pub message: String,
}

impl Event {
    /// Tells that events up to this one were lost.
    pub fn gap(id: u64, at: Timestamp) -> Self {
        let message = "events were lost: look at the status".into();
        Self { id, at, kind: EventKind::Gap, service: None, version: None, node: None, message }
    }
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A rollout began.
    Began,
    /// The version on trial has another share.
    Step,
    /// The guard made up its mind about a step.
    Verdict,
    /// A rollout was paused, or goes on.
    Pause,
    /// A rollout ended.
    Ended,
    /// A node changed its state.
    Node,
    /// A drain deadline cut work.
    Cut,
    /// An operator steered a rollout.
    Steered,
    /// An operator stopped a service's traffic, or it goes on.
    Halt,
    /// Another configuration runs.
    Configured,
    /// Files are invalid; what runs goes on.
    Invalid,
    /// Events were lost between the last one that was seen and the next: look at the status.
    Gap,
}

impl EventKind {
    /// As in JSON, and as the `event` of a server-sent event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Began => "began",
            Self::Step => "step",
            Self::Verdict => "verdict",
            Self::Pause => "pause",
            Self::Ended => "ended",
            Self::Node => "node",
            Self::Cut => "cut",
            Self::Steered => "steered",
            Self::Halt => "halt",
            Self::Configured => "configured",
            Self::Invalid => "invalid",
            Self::Gap => "gap",
        }
    }
}

/// Events from a moment on, without a gap between those that were and those that come.
#[derive(Debug)]
pub struct Feed {
    /// Those that were, oldest first.
    pub past: Vec<Arc<Event>>,
    /// Those that come.
    pub live: broadcast::Receiver<Arc<Event>>,
}
