//! The machine of one service: what was asked, what is, and how each event changes it.
//!
//! It is level-triggered: an event is noted down here, then `reconcile` compares what is with what shall be and does what is
//! possible now. So lost, repeated or late events cost time and nothing else. Its serialised form is the service's journal.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::canary::Trial;
use super::nodes::{NodeEntry, Target, named, same_set};
use super::steer::is_refused;
use super::{Action, Ending, Event, NodeRef, Split, Verdict, Wanted};
use crate::api::{Outcome, Refused};
use crate::model::{NodeAddress, NodeState, Timestamp, Version};

/// Refused versions that are remembered; the oldest is forgotten first.
const REFUSED_KEPT: usize = 32;

/// The rollout logic of one service, for as long as the service lives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The next stay's number; only grows.
    pub(super) next_serial: u64,
    /// What the configuration said last; none before the first word, and after `Removed`.
    pub(super) wanted: Option<Wanted>,
    /// The service is gone from the configuration.
    pub(super) removed: bool,
    /// Every node known, in the order of their serials.
    pub(super) nodes: Vec<NodeEntry>,
    /// Addresses that an operator took out.
    pub(super) held: BTreeSet<NodeAddress>,
    /// What served in full last: where a refused version goes back to.
    pub(super) stable: Option<Target>,
    /// The change in progress. It stays until every node that must leave is drained.
    pub(super) change: Option<Change>,
    /// The wanted version is refused: head for `stable`.
    pub(super) back: bool,
    /// Why the wanted version is refused or late.
    pub(super) failure: Option<String>,
    /// Versions that are not tried again, oldest first.
    pub(super) refused: Vec<Refused>,
    /// The split that the workers see.
    pub(super) published: Split,
    /// What is going on, in words for people; renewed after every event.
    pub(super) note: Option<String>,
}

/// One change on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) from: Option<Version>,
    pub(super) started: Timestamp,
    /// The start, or the last time that a new node passed for the first time: the deadline counts from here.
    pub(super) progress: Timestamp,
    /// Healthy nodes that serve must not become fewer than this by our doing: as many as there were when the change began,
    /// and more when a sick old node recovers. Written by `raise_floor`, the first time before anything moves.
    pub(super) floor: usize,
    /// Healthy old nodes that gave their place to new ones.
    pub(super) displaced: usize,
    /// Nodes from this serial on joined because of this change.
    pub(super) first_serial: u64,
    /// What to go back to, if the change brings another version; none if there is nothing to go back to.
    pub(super) prior: Option<Target>,
    /// When every wanted node served and the old ones left the split.
    pub(super) arrived: Option<Timestamp>,
    /// Where the trial is, if the change goes by steps.
    #[serde(default)]
    pub(super) trial: Trial,
    /// The version that was sent back from its trial: it gets nothing as soon as another one serves, for the others had its part
    /// of the traffic but for a share.
    #[serde(default)]
    pub(super) evicted: Option<Version>,
    /// An operator paused it.
    #[serde(default)]
    pub(super) pause: bool,
    /// Since when it is paused, whoever did it.
    #[serde(default)]
    pub(super) paused: Option<Timestamp>,
    /// Whether `Ended` was told. The machine may still be working: going back, or waiting for late nodes.
    pub(super) told: bool,
}

impl Machine {
    /// A service that nothing is known of yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what happened and answers what to do. `now` may jump in either direction.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Action> {
        let mut out = Vec::new();
        self.follow_clock(now);
        match event {
            Event::Wanted(wanted) => self.want(wanted, now, &mut out),
            Event::Removed => self.remove(now, &mut out),
            Event::Health { node, healthy, detail } => self.observe(&node, healthy, detail, now),
            Event::Failing { node, detail } => self.set_back(&node, &detail, now),
            Event::Drained { node } => self.note_drained(&node, now),
            Event::HeldOut { address, out } => self.hold(address, out),
            Event::Judged { version, share, verdict } => {
                if self.note_verdict(&version, share, &verdict)
                    && let Verdict::Fail(why) = &verdict
                {
                    self.roll_back(why, now, &mut out);
                }
            }
            Event::Steer(steering) => self.steer(steering, now, &mut out),
            Event::Tick => {}
        }
        self.reconcile(now, &mut out);
        out
    }

    /// After a restart: the actions that bring the outside to the state that the journal holds. Nodes that were serving are
    /// taken as healthy until their probes say otherwise, so the same split serves at once. New nodes get their full time
    /// again, because nobody probed them meanwhile.
    pub fn resume(&mut self, now: Timestamp) -> Vec<Action> {
        if self.wanted.is_none() && self.nodes.is_empty() {
            return Vec::new();
        }
        self.follow_clock(now);
        if let Some(change) = &mut self.change {
            change.progress = now;
        }
        let mut out = Vec::new();
        for entry in &mut self.nodes {
            if entry.state == NodeState::Joining {
                entry.healthy = false;
            }
            out.push(Action::Join(entry.node.clone()));
        }
        out.push(Action::Publish(self.published.clone()));
        let closed = self.nodes.iter().filter(|entry| !entry.is_alive());
        out.extend(closed.map(|entry| Action::Drain(entry.node.clone())));
        self.reconcile(now, &mut out);
        out
    }

    /// Where the machine is heading.
    pub(super) fn target(&self) -> Target {
        if let (true, Some(stable)) = (self.back, &self.stable) {
            return stable.clone();
        }
        match &self.wanted {
            Some(wanted) => Target { version: wanted.release.clone(), nodes: wanted.nodes.clone() },
            None => Target { version: Version::unnamed(), nodes: Vec::new() },
        }
    }

    pub(super) fn want(&mut self, wanted: Wanted, now: Timestamp, out: &mut Vec<Action>) {
        let same = self.wanted.as_ref().is_some_and(|last| is_same(last, &wanted));
        if same {
            self.wanted = Some(wanted);
            return;
        }
        let under_way = self.change.as_ref().filter(|change| change.arrived.is_none() && !change.told);
        let trial = under_way.map(|change| (self.target().version, change.trial.clone()));
        let evictable = self.can_evict();
        self.supersede(&format!("a newer change took over: {}", named(&wanted.release)), out);
        self.wanted = Some(wanted);
        self.removed = false;
        self.back = false;
        self.failure = None;
        if self.stable.is_none() {
            self.stable = self.on_duty();
        }
        let target = self.target();
        let mut change = self.begin(now);
        change.trial = self.begin_trial(&target.version, now);
        match trial {
            // The same version with other nodes: who moved to it stays with it.
            Some((version, trial)) if version == target.version => change.trial = trial,
            // An unproven version does not go on while another one makes its way.
            Some((version, _)) if evictable => change.evicted = Some(version),
            _ => {}
        }
        let earlier = self
            .refused
            .iter()
            .find(|refused| refused.version == target.version && same_set(&refused.nodes, &target.nodes));
        if let (Some(refused), Some(_)) = (earlier, &self.stable) {
            let reason = format!(
                "{} was refused earlier and is not tried again until its name or its nodes change, or `sluice retry`: {}",
                named(&refused.version),
                refused.reason
            );
            let ending = if refused.outcome == Outcome::RolledBack { Ending::RolledBack } else { Ending::Unhealthy };
            out.push(Action::Ended { ending, reason: reason.clone() });
            self.failure = Some(reason);
            self.back = true;
            change.told = true;
        } else {
            change.prior = self.prior().filter(|prior| prior.version != target.version);
            if !self.is_fulfilled(&target) {
                out.push(Action::Began { from: change.from.clone(), to: target.version });
            }
        }
        self.change = Some(change);
    }

    fn remove(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        if self.removed {
            return;
        }
        self.supersede("the service was removed", out);
        self.change = Some(self.begin(now));
        self.removed = true;
        self.wanted = None;
        self.stable = None;
        self.back = false;
        self.failure = None;
        self.held.clear();
        self.refused.clear();
    }

    /// A change that starts from what serves now.
    pub(super) fn begin(&self, now: Timestamp) -> Change {
        Change {
            from: self.stable.as_ref().map(|stable| stable.version.clone()),
            started: now,
            progress: now,
            floor: 0,
            displaced: 0,
            first_serial: self.next_serial,
            prior: None,
            arrived: None,
            trial: Trial::default(),
            evicted: None,
            pause: false,
            paused: None,
            told: false,
        }
    }

    fn supersede(&mut self, reason: &str, out: &mut Vec<Action>) {
        if let Some(change) = self.change.take()
            && !change.told
        {
            out.push(Action::Ended { ending: Ending::Superseded, reason: reason.into() });
        }
    }

    /// The wanted version did not make it. A new version is refused and what served before comes back, held to the same rule: no
    /// healthy node leaves for one that is not. An edit of one version's nodes, or a first deploy, just goes on waiting.
    pub(super) fn give_up(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        let Some(change) = &mut self.change else {
            return;
        };
        change.told = true;
        let prior = change.prior.clone();
        let reason = self.describe_failure(prior.as_ref());
        self.go_back(Ending::Unhealthy, reason, now, out);
    }

    /// Tells the end of the change, and if there is something to go back to, refuses the wanted version and heads for that.
    pub(super) fn go_back(&mut self, ending: Ending, reason: String, now: Timestamp, out: &mut Vec<Action>) {
        let prior = self.change.as_ref().and_then(|change| change.prior.clone());
        if let (Some(prior), Some(wanted)) = (prior, &self.wanted) {
            self.refused.retain(|refused| !is_refused(refused, wanted));
            self.refused.push(Refused {
                version: wanted.release.clone(),
                nodes: wanted.nodes.clone(),
                at: now,
                reason: reason.clone(),
                outcome: if ending == Ending::RolledBack { Outcome::RolledBack } else { Outcome::Unhealthy },
            });
            if self.refused.len() > REFUSED_KEPT {
                self.refused.remove(0);
            }
            let from = wanted.release.clone();
            let evicted = self.can_evict().then(|| from.clone());
            self.change = Some(Change { from: Some(from), evicted, told: true, ..self.begin(now) });
            self.stable = Some(prior);
            self.back = true;
        }
        self.failure = Some(reason.clone());
        out.push(Action::Ended { ending, reason });
    }

    fn observe(&mut self, node: &NodeRef, healthy: bool, detail: String, now: Timestamp) {
        let wanted = self.target().holds(node);
        let warms = self.warms();
        let Some(entry) = self.nodes.iter_mut().find(|entry| entry.node == *node && entry.is_alive()) else {
            return;
        };
        let was_healthy = std::mem::replace(&mut entry.healthy, healthy);
        entry.detail.clone_from(&detail);
        match entry.state {
            NodeState::Serving | NodeState::Warming if !healthy => {
                entry.enter(NodeState::Ejected, detail, now);
            }
            // Left out already, and now for this.
            NodeState::Ejected if !healthy && was_healthy => entry.reason = detail,
            // Passing as before proves nothing for a node that fails at what its probes do not ask. But one that had failed
            // its probes was mended, or is another process now.
            NodeState::Ejected if healthy && !was_healthy => {
                entry.setback = None;
                entry.welcome("its probes pass again", warms, now);
            }
            _ => {}
        }
        if healthy && !entry.passed {
            entry.passed = true;
            if let (true, Some(change)) = (wanted, &mut self.change) {
                change.progress = now;
            }
        }
    }

    fn note_drained(&mut self, node: &NodeRef, now: Timestamp) {
        let draining = self.nodes.iter_mut().find(|entry| entry.node == *node && entry.state == NodeState::Draining);
        if let Some(entry) = draining {
            let reason = if entry.held_out { super::reconcile::TAKEN_OUT } else { "holds no work" };
            entry.enter(NodeState::Drained, reason, now);
        }
    }

    fn hold(&mut self, address: NodeAddress, out: bool) {
        if out {
            self.held.insert(address);
        } else {
            self.held.remove(&address);
        }
    }

    /// A clock that went backwards must not stretch deadlines: what lies in the future now happened now.
    fn follow_clock(&mut self, now: Timestamp) {
        for setback in self.nodes.iter_mut().filter_map(|entry| entry.setback.as_mut()) {
            setback.at = setback.at.min(now);
        }
        for entry in self.nodes.iter_mut().filter(|entry| entry.state == NodeState::Warming) {
            entry.since = entry.since.min(now);
        }
        if let Some(change) = &mut self.change {
            change.started = change.started.min(now);
            change.progress = change.progress.min(now);
            change.arrived = change.arrived.map(|arrived| arrived.min(now));
            change.trial.since = change.trial.since.min(now);
            change.trial.short = change.trial.short.map(|short| short.min(now));
            change.paused = change.paused.map(|paused| paused.min(now));
        }
    }

    /// What serves, as a place to go back to, before anything ever served in full.
    fn on_duty(&self) -> Option<Target> {
        let version = self.nodes.iter().find(|entry| entry.is_on_duty())?.node.version.clone();
        let of_version = self.nodes.iter().filter(|entry| entry.is_on_duty() && entry.node.version == version);
        let nodes = of_version.map(|entry| entry.node.address.clone()).collect();
        Some(Target { version, nodes })
    }

    /// What to go back to: what served in full last, and what has joined it since and serves, though its change was overtaken.
    fn prior(&self) -> Option<Target> {
        let mut prior = self.stable.clone()?;
        for entry in self.nodes.iter().filter(|entry| entry.serves() && entry.node.version == prior.version) {
            if !prior.nodes.contains(&entry.node.address) {
                prior.nodes.push(entry.node.address.clone());
            }
        }
        Some(prior)
    }

    /// Whether the target serves already, and nothing else is there.
    fn is_fulfilled(&self, target: &Target) -> bool {
        let there = |address: &NodeAddress| {
            self.held.contains(address)
                || self.nodes.iter().any(|entry| {
                    entry.is_on_duty() && entry.node.address == *address && entry.node.version == target.version
                })
        };
        target.nodes.iter().all(there)
            && self.nodes.iter().all(|entry| entry.state == NodeState::Drained || target.holds(&entry.node))
    }
}

/// Whether the nodes that are wanted are the same; settings may differ.
fn is_same(last: &Wanted, next: &Wanted) -> bool {
    last.release == next.release && same_set(&last.nodes, &next.nodes)
}
