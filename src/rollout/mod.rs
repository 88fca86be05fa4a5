//! What to do next: pure. No sockets, no clock, no files; time is an argument, randomness is not needed.
//!
//! In reading order: `diff` says what an edit changes (`spec` is what it compares); `machine` holds what is asked of one service
//! and what is, and takes [`Event`]s in; `reconcile` does what is possible now and gives [`Action`]s out, by the policy that
//! `plan` makes of a strategy; `setback` leaves out nodes that fail, and `outliers` finds them; `nodes` and `split` are what it works on; `view` shows it to operators. `control` carries the
//! actions out and does nothing else. A split may be published before the journal has it, for a crash then plans again from
//! the one before; but that a node is drained, or that a change has ended, is told only once it is on disk, because a script
//! acts on it. A disk that fails holds this up for some seconds only, and is told of.

pub mod diff;
pub mod guard;
pub mod machine;
pub mod outliers;
pub mod plan;

mod canary;
mod nodes;
mod reconcile;
mod setback;
mod spec;
mod split;
mod steer;
mod view;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::Steering;
use crate::config::{Control, Step, Strategy};
use crate::model::{NodeAddress, Share, Version};

pub use canary::TrialView;
pub use machine::Machine;
pub use nodes::NodeEntry;
pub use setback::{Ejection, Setback};
pub use view::{Phase, RolloutView};

/// What the configuration asks of one service, as far as nodes are concerned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The version that shall serve.
    pub release: Version,
    /// Its nodes, without doubles.
    pub nodes: Vec<NodeAddress>,
    /// The way there.
    pub strategy: Strategy,
    /// Blue-green: how long the old version stays warm.
    pub keep: Duration,
    /// The new nodes must be healthy within this.
    pub deadline: Duration,
    /// Whether traffic goes to every node when all are unhealthy.
    pub serve_when_all_down: bool,
    /// How long a node that begins to serve warms up; not at all if zero.
    #[serde(default)]
    pub slow_start: Duration,
    /// How long, and how many, failing nodes are left out.
    #[serde(default)]
    pub ejection: Ejection,
    /// Canary: the way of the traffic; otherwise not looked at.
    #[serde(default)]
    pub canary: Canary,
    /// What the operator wants of the rollout in progress.
    #[serde(default)]
    pub control: Control,
    /// Rolling: new nodes that may serve beyond as many as served before.
    #[serde(default)]
    pub surge: Option<usize>,
    /// Rolling: healthy nodes that go on serving, if fewer than served before will do.
    #[serde(default)]
    pub floor: Option<usize>,
}

/// The way of the traffic to a version on trial.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// The shares on the way to all, growing.
    pub steps: Vec<Step>,
    /// Whether somebody judges: if not, time alone decides.
    pub guarded: bool,
    /// Whether others are asked too: no step passes before something was heard of them.
    #[serde(default)]
    pub asked: bool,
    /// A step with too few requests is prolonged by up to this,
    pub extend: Duration,
    /// and then passes, or waits on.
    pub pass_if_too_few: bool,
}

/// One stay of a node in a service. An address that leaves and comes back gets a new serial: a closed gate never reopens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeRef {
    /// The version it runs.
    pub version: Version,
    /// Where it listens.
    pub address: NodeAddress,
    /// Which stay; unique within the service, never used twice.
    pub serial: u64,
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.version.is_unnamed() {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{} {}", self.version, self.address)
        }
    }
}

/// How traffic is divided: what the workers shall see. Shares sum to [`Share::ALL`], or the split is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// One a version that gets traffic.
    pub slices: Vec<Slice>,
    /// True if no node is healthy and all of them are in here regardless.
    pub all_down: bool,
    /// The version that is judged while it has this share, which is exact; its slice is the last, and its share may be nothing.
    #[serde(default)]
    pub trial: Option<Version>,
}

/// One version's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The version.
    pub version: Version,
    /// Its part.
    pub share: Share,
    /// Its nodes; never empty.
    pub nodes: Vec<NodeRef>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The configuration asks for this now. Told again after a restart.
    Wanted(Wanted),
    /// The service is gone from the configuration.
    Removed,
    /// A node's probes changed their verdict (after `rise` passes or `fall` failures). Told also when nothing changed since.
    Health {
        /// The node.
        node: NodeRef,
        /// The verdict.
        healthy: bool,
        /// Why, in words for people.
        detail: String,
    },
    /// Users' requests fail at a node that its probes find healthy.
    Failing {
        /// The node.
        node: NodeRef,
        /// How, in words for people.
        detail: String,
    },
    /// A node that was told to drain holds no work any more.
    Drained {
        /// The node.
        node: NodeRef,
    },
    /// An operator takes a node out, or puts it back.
    HeldOut {
        /// The node's address.
        address: NodeAddress,
        /// Out, or back.
        out: bool,
    },
    /// The guard looked at the trial that [`Machine::trial`] tells of. Of another step or version it counts for nothing.
    Judged {
        /// The version on trial.
        version: Version,
        /// Its share.
        share: Share,
        /// What was found.
        verdict: Verdict,
    },
    /// An operator steers the change in progress; [`Machine::can_steer`] says what is possible.
    Steer(Steering),
    /// Time passed; `deadline()` asked for this.
    Tick,
}

/// What the guard found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong so far, and there were too few requests to say that nothing is.
    TooFew,
    /// There were enough requests, and nothing is wrong so far.
    Pass,
    /// Nothing is wrong so far, but somebody who is asked does not let it pass; who and why, in words for people.
    Hold(String),
    /// It is worse than it may be; why, in words for people.
    Fail(String),
}

impl Verdict {
    /// As in the API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::TooFew => "not enough requests",
            Self::Pass => "pass",
            Self::Hold(_) => "hold",
            Self::Fail(_) => "fail",
        }
    }

    /// Why it stands in the way.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::TooFew | Self::Pass => None,
            Self::Hold(why) | Self::Fail(why) => Some(why),
        }
    }
}

/// What to do. The order matters: they are carried out one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the node known and begin to probe it. It gets no traffic.
    Join(NodeRef),
    /// Let the workers see this split.
    Publish(Split),
    /// Close the node's gate and wait until it holds no work; then tell `Drained`. It is in no published split.
    Drain(NodeRef),
    /// The node is drained or never served: stop its probes and drop it.
    Forget(NodeRef),
    /// A rollout began.
    Began {
        /// What served before.
        from: Option<Version>,
        /// What shall serve.
        to: Version,
    },
    /// The version on trial has this share from now on.
    Stepped {
        /// The version.
        version: Version,
        /// Its share; all of it if the trial is over.
        share: Share,
    },
    /// The change that was last told by `Wanted` has ended.
    Ended {
        /// How.
        ending: Ending,
        /// Why, in words for people.
        reason: String,
    },
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The wanted nodes serve, and every other one is drained.
    Done,
    /// The wanted version did not become healthy in time and is refused; what served before serves.
    Unhealthy,
    /// The guard or an operator sent the wanted version back, and it is refused; what served before serves.
    RolledBack,
    /// A newer `Wanted` came first.
    Superseded,
}
