//! The machine as operators see it: its phase, its rollout, and why; and what they may ask of it.

use super::machine::Machine;
use super::nodes::{NodeEntry, Target, count, named};
use super::{Split, Wanted};
use crate::api::Refused;
use crate::config::Strategy;
use crate::model::{NodeAddress, NodeState, Share, Timestamp, Version};

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// What is wanted serves.
    Settled,
    /// Nodes must pass their probes before anything moves, or before an old node that stepped in may leave.
    WaitingForHealth,
    /// New nodes take the places of old ones.
    Rolling,
    /// The new version has a share, and is judged.
    Trial,
    /// Blue-green: the new version serves, the old one is kept warm.
    Keeping,
    /// Only old work is left.
    Draining,
    /// The wanted version is refused; what served before serves.
    Failed,
}

impl Phase {
    /// The word that operators see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::WaitingForHealth => "waiting for health",
            Self::Rolling => "rolling",
            Self::Trial => "on trial",
            Self::Keeping => "keeping",
            Self::Draining => "draining",
            Self::Failed => "failed",
        }
    }
}

/// The rollout in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutView {
    /// What served before; none for a first deploy. On the way back: the refused version.
    pub from: Option<Version>,
    /// What shall serve.
    pub to: Version,
    /// The way.
    pub strategy: Strategy,
    /// When it began.
    pub started: Timestamp,
    /// Nodes of `to` that are healthy.
    pub ready: usize,
    /// Nodes of `to` in all, without those that an operator took out.
    pub wanted: usize,
    /// When it gives up, or moves on by itself.
    pub deadline: Option<Timestamp>,
}

impl Machine {
    /// What was last published.
    pub fn split(&self) -> Split {
        self.published.clone()
    }

    /// Every node known, drained ones included until they are forgotten; oldest stay first.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeEntry> {
        self.nodes.iter()
    }

    /// Addresses that an operator took out; each is free again once it is not wanted any more.
    pub fn held(&self) -> impl Iterator<Item = &NodeAddress> {
        self.held.iter()
    }

    /// Versions that are not tried again until they change, oldest first.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// What the configuration asked for last; none after `Removed`.
    pub fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_ref()
    }

    /// Why the phase is what it is, in words for people.
    pub fn reason(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Whether the service is removed and nothing of it is left.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_none() && self.nodes.is_empty() && self.change.is_none()
    }

    /// Whether this node may be taken out by hand: says why not, if it would leave the service without a node.
    pub fn can_hold_out(&self, address: &NodeAddress) -> Result<(), String> {
        if self.held.contains(address) {
            return Ok(());
        }
        let (here, others): (Vec<&NodeEntry>, Vec<&NodeEntry>) =
            self.nodes.iter().filter(|entry| entry.is_alive()).partition(|entry| entry.node.address == *address);
        if here.is_empty() {
            return Err(format!("{address} is not a node of this service; `sluice status` lists its nodes"));
        }
        let healthy = |entry: &&NodeEntry| entry.healthy && entry.state != NodeState::Joining && !entry.is_set_back();
        if here.iter().any(|entry| entry.serves()) && !others.iter().any(healthy) {
            return Err(format!(
                "{address} is the last healthy node of this service; add another one, or wait until another one is healthy"
            ));
        }
        if here.iter().any(|entry| entry.is_on_duty())
            && !others.iter().any(|entry| entry.is_on_duty() || healthy(entry))
        {
            return Err(format!("{address} is the last node of this service; add another one first"));
        }
        Ok(())
    }

    /// What is going on.
    pub fn phase(&self) -> Phase {
        if self.back {
            return Phase::Failed;
        }
        let Some(change) = &self.change else {
            return Phase::Settled;
        };
        let target = self.target();
        let others =
            |state: NodeState| self.nodes.iter().any(|entry| entry.state == state && !target.holds(&entry.node));
        if self.removed {
            Phase::Draining
        } else if self.on_trial().is_some_and(|trial| trial.reached > Share::NONE) {
            Phase::Trial
        } else if change.arrived.is_none() {
            let moving = change.from.is_some()
                && self.nodes.iter().any(|entry| {
                    entry.serves() && entry.node.serial >= change.first_serial && target.holds(&entry.node)
                });
            if moving { Phase::Rolling } else { Phase::WaitingForHealth }
        } else if others(NodeState::Standby) {
            Phase::Keeping
        } else if [NodeState::Serving, NodeState::Warming, NodeState::Ejected].into_iter().any(others) {
            Phase::WaitingForHealth
        } else {
            Phase::Draining
        }
    }

    /// The rollout in progress, if one is: a way back counts, a removal does not.
    pub fn rollout(&self) -> Option<RolloutView> {
        let (change, wanted) = (self.change.as_ref()?, self.wanted.as_ref()?);
        let target = self.target();
        let open = || target.nodes.iter().filter(|address| !self.held.contains(*address));
        let ready = |entry: &NodeEntry| entry.healthy && entry.setback.is_none();
        Some(RolloutView {
            from: change.from.clone(),
            ready: open().filter(|address| self.alive(&target, address).is_some_and(ready)).count(),
            wanted: open().count(),
            strategy: if self.back { Strategy::Rolling } else { wanted.strategy },
            started: change.started,
            deadline: self.deadline(),
            to: target.version,
        })
    }

    pub(super) fn describe(&self) -> Option<String> {
        match self.phase() {
            Phase::Failed => self.failure.clone(),
            Phase::Settled if self.published.all_down => {
                Some("every node is unhealthy; traffic goes to all of them regardless".into())
            }
            Phase::Settled => None,
            Phase::WaitingForHealth | Phase::Rolling if self.paused().is_some() => {
                Some("paused; `sluice resume` lets it go on".into())
            }
            Phase::WaitingForHealth | Phase::Rolling => match &self.failure {
                Some(failure) => Some(format!("{failure}; still waiting")),
                None => Some(self.describe_missing(&self.target())),
            },
            Phase::Trial => Some(self.describe_trial()),
            Phase::Keeping => {
                Some(format!("{} serves; what served before is kept warm", named(&self.target().version)))
            }
            Phase::Draining => {
                let draining = self.nodes.iter().filter(|entry| entry.state == NodeState::Draining).count();
                Some(format!("waiting for {} to finish its work", count(draining)))
            }
        }
    }

    pub(super) fn describe_done(&self, target: &Target) -> String {
        if self.removed {
            return "the service is removed and its nodes are drained".into();
        }
        let serving = self.nodes.iter().filter(|entry| entry.serves() && target.holds(&entry.node)).count();
        if target.version.is_unnamed() {
            format!("{} of {} serving, every other one is drained", serving, count(target.nodes.len()))
        } else {
            format!("{} serves on {}, every other node is drained", target.version, count(serving))
        }
    }

    pub(super) fn describe_failure(&self, prior: Option<&Target>) -> String {
        let target = self.target();
        let deadline = self.wanted.as_ref().map(|wanted| wanted.deadline).unwrap_or_default();
        let next = match prior {
            Some(prior) => format!("; {} goes on serving", named(&prior.version)),
            None => String::new(),
        };
        format!(
            "{} was not healthy within {deadline:?}: {}{next}",
            named(&target.version),
            self.describe_missing(&target)
        )
    }

    /// Which nodes are missing, each with what its last probe said.
    pub(super) fn describe_missing(&self, target: &Target) -> String {
        let mut missing = Vec::new();
        for address in target.nodes.iter().filter(|address| !self.held.contains(*address)) {
            match self.alive(target, address) {
                Some(entry) if self.is_ready(entry) => {}
                Some(entry) if entry.is_set_back() => missing.push(format!("{address}: {}", entry.reason)),
                Some(entry) if entry.healthy => {
                    missing.push(format!("{address}: it failed a moment ago and has to prove itself"));
                }
                Some(entry) if entry.detail.is_empty() => {
                    missing.push(format!("{address}: no probe has passed yet"));
                }
                Some(entry) => missing.push(format!("{address}: {}", entry.detail)),
                None => missing.push(format!("{address}: not joined")),
            }
        }
        match missing.len() {
            0 if target.nodes.iter().all(|address| self.held.contains(address)) => {
                "every wanted node is taken out by an operator".into()
            }
            0 => "waiting for the others to make room".into(),
            number => format!("waiting for {} of {} ({})", number, count(target.nodes.len()), missing.join("; ")),
        }
    }
}
