//! What is remembered of rollouts: how they went and how they ended.

use serde::{Deserialize, Serialize};

use super::report::Evidence;
use crate::model::{Holder, NodeAddress, Timestamp, Version};

/// One step that a rollout went through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The new version's share, in percent.
    pub share: f64,
    /// When it got it.
    pub started: Timestamp,
    /// When it went on, or back.
    pub ended: Option<Timestamp>,
    /// What the guard made of it in the end.
    pub evidence: Option<Evidence>,
}

/// One finished rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The service's change number.
    pub change: u64,
    /// What served before.
    pub from: Option<Version>,
    /// What should serve.
    pub to: Version,
    /// The nodes of `to`, so that `rollback` can bring them back.
    pub nodes: Vec<NodeAddress>,
    /// `rolling` or `blue-green`.
    pub strategy: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, in words for people.
    pub reason: String,
    /// What drain deadlines cut.
    pub cut: Vec<CutNode>,
    /// The steps of a canary.
    #[serde(default)]
    pub steps: Vec<StepRecord>,
    /// Who steered it, and when, in words: `promote` by hand and the like.
    #[serde(default)]
    pub steered: Vec<Steered>,
}

/// An operator steered a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steered {
    /// When.
    pub at: Timestamp,
    /// How.
    pub steering: super::Steering,
    /// Who, as far as the admin API knows.
    pub by: String,
}

/// Work that was cut on one node when its drain deadline came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutNode {
    /// The node.
    pub address: NodeAddress,
    /// Its version.
    pub version: Version,
    /// What was cut.
    pub work: Vec<Holder>,
}

/// How a rollout ended, or a verb that waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The old nodes may be stopped.
    Done,
    /// The new version never became healthy; the old one serves.
    Unhealthy,
    /// The guard, or an operator, sent it back.
    RolledBack,
    /// A newer change took over.
    Superseded,
    /// Done, but a drain deadline cut something.
    DoneWithCuts,
    /// The waiting verb's own `--timeout` passed; the rollout goes on.
    TimedOut,
}

impl Outcome {
    /// The exit code of every verb that waits.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Unhealthy => 3,
            Self::RolledBack => 4,
            Self::Superseded => 5,
            Self::DoneWithCuts => 6,
            Self::TimedOut => 7,
        }
    }

    /// Whether the wanted version serves.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Done | Self::DoneWithCuts)
    }
}
