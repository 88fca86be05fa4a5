//! What is told to whoever asked to be told of a service's rollouts.

use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::model::{ServiceName, Timestamp, Version};

/// Something happened in a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Happening {
    /// Unlike that of any other: whoever gets one twice may drop it.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// Where.
    pub service: ServiceName,
    /// In which change.
    pub change: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
    /// In words for people; chat servers show it.
    pub text: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum What {
    /// A rollout began.
    Began {
        /// What served before.
        from: Option<Version>,
        /// What shall serve.
        version: Version,
    },
    /// The version on trial has another share.
    Stepped {
        /// Which.
        version: Version,
        /// In percent; all of it when the trial is over.
        share: f64,
    },
    /// The guard found something else than before.
    Verdict {
        /// Of which version.
        version: Version,
        /// At which share, in percent.
        share: f64,
        /// `pass`, `fail`, `hold` or `not enough requests`.
        verdict: String,
        /// Why; empty if there is nothing to say.
        reason: String,
    },
    /// The rollout ended.
    Ended {
        /// Which version it was about.
        version: Version,
        /// How.
        outcome: Outcome,
        /// Why.
        reason: String,
    },
}
