//! Requests: what a verb may ask of the running proxy, and how it is answered.
//!
//! `admin` turns HTTP into a [`Call`] and sends it to `control` through a [`Port`]; neither knows the other.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::events::Feed;
use super::halt::Halting;
use super::history::{HistoryEntry, Outcome};
use super::measures::Measures;
use super::outline::Outline;
use super::report::{ConfigStatus, ServiceStatus, Status};
use crate::model::{NodeAddress, ServiceName, Version};

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The state of everything, or of one service.
    Status {
        /// Only this service.
        service: Option<ServiceName>,
    },
    /// The configuration that runs, in outline.
    Config,
    /// What happens from now on, or from a moment on.
    Events {
        /// The last event that the asker saw.
        after: Option<u64>,
    },
    /// What `/metrics` tells.
    Measures,
    /// Read the configuration files now, do not wait for the watcher. Answered when what was read is applied or refused.
    Reload,
    /// Follow the change that is wanted now until it ends. The files are read first, so that an edit made just before is seen.
    Wait {
        /// The service.
        service: ServiceName,
        /// Fail at once, as superseded, if another version is wanted.
        version: Option<Version>,
    },
    /// Finished rollouts, newest first.
    History {
        /// The service.
        service: ServiceName,
    },
    /// Steer the rollout in progress by hand. The files are read first, so that an edit made just before is seen.
    Steer {
        /// The service.
        service: ServiceName,
        /// How.
        steering: Steering,
        /// Who, for the history.
        by: String,
    },
    /// Stop a service's traffic, or let it go on.
    Halt {
        /// The service.
        service: ServiceName,
        /// What shall be.
        halting: Halting,
        /// Who, for the status.
        by: String,
    },
    /// Take one node out by hand, or put it back.
    Drain {
        /// The service.
        service: ServiceName,
        /// The node.
        node: NodeAddress,
        /// Put it back instead.
        undo: bool,
    },
}

/// What an operator may do to a rollout in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Steering {
    /// End the hold of this step.
    Promote,
    /// End this hold and all further ones.
    PromoteFull,
    /// Stay at this step.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Go back to what served before, and refuse the version.
    Abort,
    /// Try a refused version again.
    Retry,
}

impl Steering {
    /// The verb.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Promote | Self::PromoteFull => "promote",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Retry => "retry",
        }
    }
}

/// What is answered.
#[derive(Debug)]
pub enum Reply {
    /// To `Status`.
    Status(Box<Status>),
    /// To `Measures`.
    Measures(Arc<Measures>),
    /// To `Reload`: whether something is wrong with the files is in here.
    Config(ConfigStatus),
    /// To `Events`.
    Events(Feed),
    /// To `Config`.
    Outline(Box<Outline>),
    /// To `Steer` and `Halt`: how the service is after it.
    Service(Box<ServiceStatus>),
    /// To `Wait` and `Drain`: changes until a last one, whose `outcome` is set. The sender is dropped after that.
    Progress(watch::Receiver<Progress>),
    /// To `History`.
    History(Vec<HistoryEntry>),
    /// The request cannot be carried out.
    Refused(Refusal),
}

/// Why a request cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which kind.
    pub kind: RefusalKind,
    /// What is wrong and what to do, for people.
    pub message: String,
}

/// The kind of a refusal decides the HTTP status and the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// No such service, node or version: 404, exit code 2.
    NotFound,
    /// The configuration on disk is invalid, so there is nothing to wait for: 422, exit code 2.
    InvalidConfig,
    /// Another version is wanted than the one asked for: 409, exit code 5.
    Superseded,
    /// It would leave the service without a node, or the like: 409, exit code 2.
    Conflict,
    /// Something was decided since the asker looked: 412, exit code 2.
    Changed,
    /// The proxy is shutting down or overloaded: 503, exit code 1.
    Unavailable,
}

/// One moment of a change that a verb follows. On the wire: one JSON line each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The service as it is.
    pub service: ServiceStatus,
    /// Set on the last line.
    pub ended: Option<Ended>,
}

/// How a followed change ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// What happened, why, and what to do next, for people. May have several lines.
    pub message: String,
    /// The history entry, if the change was a rollout.
    pub entry: Option<HistoryEntry>,
}

/// A request on its way to `control`.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Carry it out only if one of these tags is what the asker saw, as in `If-Match`; empty: in any case.
    pub only_if: Vec<String>,
    /// Where the answer goes; dropped unanswered only if the control plane ends.
    pub reply: oneshot::Sender<Reply>,
}

/// The way into `control`: bounded, so that a flood of verbs waits outside.
#[derive(Clone, Debug)]
pub struct Port(mpsc::Sender<Call>);

impl Port {
    /// A port and the end that `control` reads.
    pub fn new(bound: usize) -> (Self, mpsc::Receiver<Call>) {
        let (sender, receiver) = mpsc::channel(bound);
        (Self(sender), receiver)
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&self, request: Request) -> Reply {
        self.ask_if(request, Vec::new()).await
    }

    /// Asks on the condition that one of these tags holds.
    pub async fn ask_if(&self, request: Request, only_if: Vec<String>) -> Reply {
        let gone =
            || Reply::Refused(Refusal { kind: RefusalKind::Unavailable, message: "the proxy is shutting down".into() });
        let (reply, answer) = oneshot::channel();
        if self.0.send(Call { request, only_if, reply }).await.is_err() {
            return gone();
        }
        answer.await.unwrap_or_else(|_| gone())
    }
}
