//! The core of the machine: compares what is with what shall be, and does what is possible now.

use std::time::Duration;

use super::canary::Trial;
use super::machine::Machine;
use super::nodes::{NodeEntry, Target};
use super::plan::{Admit, Plan, Retire, Situation, plan};
use super::split::{split, split_for};
use super::{Action, Ending, NodeRef};
use crate::config::Strategy;
use crate::model::{NodeAddress, NodeState, Timestamp};

/// The reason of a node that an operator took out.
pub(super) const TAKEN_OUT: &str = "taken out by an operator";

impl Machine {
    pub(super) fn reconcile(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        self.follow_abort(now, out);
        self.pass(now, out);
        if self.give_up_at().is_some_and(|at| now >= at) {
            self.give_up(now, out);
            self.pass(now, out);
        }
        self.finish(out);
        self.note = self.describe();
    }

    /// When the change fails if nothing happens: the deadline of new nodes, or of old ones that had to step in after the switch.
    pub(super) fn give_up_at(&self) -> Option<Timestamp> {
        let (change, wanted) = (self.change.as_ref()?, self.wanted.as_ref()?);
        if change.told || change.paused.is_some() {
            return None;
        }
        match change.arrived {
            None if self.on_trial().is_some() => {
                // A hold may be as long as it likes; a lack of nodes may not.
                Some(change.trial.short?.max(change.progress).plus(wanted.deadline))
            }
            None => {
                // What warms up is on its way.
                let warming = self.nodes.iter().filter(|entry| entry.state == NodeState::Warming);
                let warm = warming.map(|entry| entry.since.plus(wanted.slow_start)).max();
                Some(change.progress.max(warm.unwrap_or_default()).plus(wanted.deadline))
            }
            Some(arrived) => {
                let target = self.target();
                let stepped_in = self.nodes.iter().any(|entry| entry.is_on_duty() && !target.holds(&entry.node));
                stepped_in.then(|| arrived.plus(wanted.keep).plus(wanted.deadline))
            }
        }
    }

    /// When `Tick` is wanted next. Some in every phase that waits for time; later than `now` right after handling.
    pub fn deadline(&self) -> Option<Timestamp> {
        let keep_until = self.change.as_ref().and_then(|change| {
            let standby = self.nodes.iter().any(|entry| entry.state == NodeState::Standby);
            Some(change.arrived.filter(|_| standby)?.plus(self.wanted.as_ref()?.keep))
        });
        let hold_until = self.on_trial().and_then(Trial::wake);
        [keep_until, hold_until, self.give_up_at(), self.next_return()].into_iter().flatten().min()
    }

    /// One walk from what is towards the target. Nodes change their state first; then one `Publish` shows the sum, and only
    /// after it the gates close.
    fn pass(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        let target = self.target();
        self.prune_held(&target);
        let mut drains = self.take_out(now);
        self.join(&target, now, out);
        self.readmit(now);
        self.warm_up(now);

        self.follow_pause(now);
        let plan = self.plan(&target);
        let prepared = self.is_prepared(&target);
        let paused = self.paused().is_some();
        if (plan.admit == Admit::Each || prepared) && (!paused || self.on_trial().is_some()) {
            self.raise_floor();
            self.admit(&target, self.room(&target, plan), now);
        }
        self.evict(now, &mut drains);
        self.raise_floor();
        self.advance(&target, prepared, now, out);
        if !paused && self.on_trial().is_none() {
            self.retire(&target, plan, prepared, now, &mut drains);
        }
        self.step_in(&target, now);
        self.readmit_if_none_serves(now);
        self.arrive(&target, prepared, now);
        self.end_standby(&target, plan, now, &mut drains);

        let when_all_down = self.wanted.as_ref().is_some_and(|wanted| wanted.serve_when_all_down);
        let split = self.on_trial().map_or_else(
            || split(&self.nodes, when_all_down),
            |trial| split_for(&self.nodes, when_all_down, &target, trial.reached),
        );
        if split != self.published {
            self.published = split.clone();
            out.push(Action::Publish(split));
        }
        out.extend(drains.into_iter().map(Action::Drain));
    }

    fn plan(&self, target: &Target) -> Plan {
        let change = self.change.as_ref();
        let protects = change.is_some_and(|change| change.arrived.is_none())
            && self.nodes.iter().any(|entry| entry.is_on_duty() && entry.healthy && !target.holds(&entry.node));
        plan(Situation {
            strategy: self.wanted.as_ref().map_or(Strategy::Rolling, |wanted| wanted.strategy),
            keep: self.wanted.as_ref().map_or(Duration::ZERO, |wanted| wanted.keep),
            replaces: change.is_some_and(|change| change.prior.is_some()),
            protects,
        })
    }

    /// An address that is neither wanted nor gone back to is free again: when it comes back, it is a node like any other.
    fn prune_held(&mut self, target: &Target) {
        let (wanted, stable, nodes) = (&self.wanted, &self.stable, &self.nodes);
        self.held.retain(|address| {
            target.nodes.contains(address)
                || wanted.as_ref().is_some_and(|wanted| wanted.nodes.contains(address))
                || stable.as_ref().is_some_and(|stable| stable.nodes.contains(address))
                || nodes.iter().any(|entry| entry.node.address == *address && entry.state != NodeState::Drained)
        });
        for entry in &mut self.nodes {
            entry.held_out &= self.held.contains(&entry.node.address);
        }
    }

    fn take_out(&mut self, now: Timestamp) -> Vec<NodeRef> {
        let mut drains = Vec::new();
        for entry in &mut self.nodes {
            if self.held.contains(&entry.node.address) && entry.is_alive() {
                entry.held_out = true;
                entry.enter(NodeState::Draining, TAKEN_OUT, now);
                drains.push(entry.node.clone());
            }
        }
        drains
    }

    /// Nodes that are wanted and not there join; nodes that never served and are not wanted any more just go.
    fn join(&mut self, target: &Target, now: Timestamp, out: &mut Vec<Action>) {
        self.nodes.retain(|entry| {
            let goes = entry.state == NodeState::Joining && !target.holds(&entry.node);
            if goes {
                out.push(Action::Forget(entry.node.clone()));
            }
            !goes
        });
        for address in &target.nodes {
            if self.held.contains(address) || self.alive(target, address).is_some() {
                continue;
            }
            let node = NodeRef { version: target.version.clone(), address: address.clone(), serial: self.next_serial };
            self.next_serial += 1;
            out.push(Action::Join(node.clone()));
            self.nodes.push(NodeEntry::joining(node, now));
        }
    }

    /// The open stay of a wanted node.
    pub(super) fn alive(&self, target: &Target, address: &NodeAddress) -> Option<&NodeEntry> {
        self.nodes
            .iter()
            .find(|entry| entry.is_alive() && entry.node.address == *address && entry.node.version == target.version)
    }

    /// Whether the target can stand alone: every new node is healthy (an old one may be sick: it was not our doing), and
    /// no healthy node would have to leave for sick ones.
    fn is_prepared(&self, target: &Target) -> bool {
        let mut open = target.nodes.iter().filter(|address| !self.held.contains(*address));
        open.all(|address| self.alive(target, address).is_some_and(|entry| self.is_ready(entry)))
            && self.can_stand_alone(target)
    }

    pub(super) fn is_ready(&self, entry: &NodeEntry) -> bool {
        let first_serial = self.change.as_ref().map_or(0, |change| change.first_serial);
        if entry.node.serial < first_serial {
            entry.healthy || entry.state == NodeState::Ejected
        } else {
            entry.healthy && entry.setback.is_none()
        }
    }

    fn can_stand_alone(&self, target: &Target) -> bool {
        target.nodes.is_empty()
            || self
                .nodes
                .iter()
                .any(|entry| entry.is_alive() && entry.healthy && entry.setback.is_none() && target.holds(&entry.node))
            // A node that is left out would serve again before none does.
            || !self.nodes.iter().any(|entry| entry.is_on_duty() && entry.healthy)
    }

    /// How many more nodes may serve.
    fn room(&self, target: &Target, plan: Plan) -> usize {
        let surge = self.wanted.as_ref().and_then(|wanted| wanted.surge);
        let (Some(surge), Some(change), Retire::OneForOne) = (surge, &self.change, plan.retire) else {
            return usize::MAX;
        };
        let serving = self.nodes.iter().filter(|entry| entry.serves()).count();
        // What served before and what shall serve may be that many anyway. Where nothing served, there is nothing to go beyond.
        let anyway = change.floor.max(target.nodes.len());
        if change.floor == 0 { usize::MAX } else { (anyway + surge).saturating_sub(serving) }
    }

    fn admit(&mut self, target: &Target, mut room: usize, now: Timestamp) {
        let warms = self.warms();
        for entry in &mut self.nodes {
            let ready = matches!(entry.state, NodeState::Joining | NodeState::Standby) && entry.healthy;
            if ready && room > 0 && target.holds(&entry.node) {
                room -= 1;
                entry.welcome("its probes pass", warms, now);
            }
        }
    }

    /// Counts what must not be lost. An old node that recovers in the middle of a change adds to it; otherwise it would be
    /// drained without a new node in its place.
    fn raise_floor(&mut self) {
        let Some(change) = &mut self.change else {
            return;
        };
        let old = |entry: &&NodeEntry| entry.serves() && entry.node.serial < change.first_serial;
        change.floor = change.floor.max(self.nodes.iter().filter(old).count() + change.displaced);
    }

    fn retire(&mut self, target: &Target, plan: Plan, prepared: bool, now: Timestamp, drains: &mut Vec<NodeRef>) {
        let Some(change) = &mut self.change else {
            return;
        };
        let enough = self.wanted.as_ref().and_then(|wanted| wanted.floor).unwrap_or(usize::MAX);
        let (version, arrived, floor) = (&target.version, change.arrived, change.floor.min(enough));
        let leaves = |entry: &NodeEntry| entry.is_on_duty() && !target.holds(&entry.node);
        let standing = self.nodes.iter().any(|entry| entry.serves() && target.holds(&entry.node));
        // A new node that warms up, or has just failed, cannot take the place of an old one yet.
        let first_serial = change.first_serial;
        let is_full = |entry: &NodeEntry| {
            entry.serves()
                && (entry.node.serial < first_serial || (entry.state == NodeState::Serving && entry.setback.is_none()))
        };
        // Nor can one that waits for room beside the old ones.
        let waits = |entry: &NodeEntry| entry.state == NodeState::Joining && entry.healthy;
        let cold = plan.retire == Retire::OneForOne
            && self
                .nodes
                .iter()
                .any(|entry| target.holds(&entry.node) && (waits(entry) || (entry.serves() && !is_full(entry))));
        if (prepared && !cold) || (arrived.is_some() && standing) {
            let keep_on = arrived.unwrap_or(now).plus(plan.keep) > now;
            for entry in self.nodes.iter_mut().filter(|entry| leaves(entry)) {
                if keep_on {
                    entry.enter(NodeState::Standby, format!("{version} serves; ready to go back to"), now);
                } else {
                    entry.enter(NodeState::Draining, "not wanted any more", now);
                    drains.push(entry.node.clone());
                }
            }
        } else if plan.retire == Retire::OneForOne {
            let serving = self.nodes.iter().filter(|entry| is_full(entry)).count();
            let spare = serving.saturating_sub(floor);
            let healthy = self.nodes.iter_mut().filter(|entry| entry.serves() && leaves(entry));
            for entry in healthy.take(spare) {
                change.displaced += usize::from(entry.node.serial < change.first_serial);
                entry.enter(NodeState::Draining, "a new node took its place", now);
                drains.push(entry.node.clone());
            }
        }
    }

    /// Takes out what was sent back from its trial, if anything else serves.
    fn evict(&mut self, now: Timestamp, drains: &mut Vec<NodeRef>) {
        let Some(version) = self.change.as_ref().and_then(|change| change.evicted.clone()) else {
            return;
        };
        if !self.nodes.iter().any(|entry| entry.serves() && entry.node.version != version) {
            return;
        }
        for entry in self.nodes.iter_mut().filter(|entry| entry.is_on_duty() && entry.node.version == version) {
            entry.enter(NodeState::Draining, "its version was sent back", now);
            drains.push(entry.node.clone());
        }
    }

    /// A request is answered as long as one healthy node exists: warm nodes serve when nothing else does.
    fn step_in(&mut self, target: &Target, now: Timestamp) {
        if self.nodes.iter().any(NodeEntry::serves) {
            return;
        }
        for entry in &mut self.nodes {
            if entry.state == NodeState::Standby && entry.healthy {
                let reason = format!("no node of {} is healthy", target.version);
                entry.enter(NodeState::Serving, reason, now);
            }
        }
    }

    /// From here on, sick nodes of the target are sick nodes, and not a change that failed.
    fn arrive(&mut self, target: &Target, prepared: bool, now: Timestamp) {
        let Some(change) = &mut self.change else {
            return;
        };
        let left = !self.nodes.iter().any(|entry| entry.is_on_duty() && !target.holds(&entry.node));
        if change.arrived.is_none() && prepared && left {
            change.arrived = Some(now);
            if self.wanted.is_some() {
                self.stable = Some(target.clone()).filter(|target| !target.nodes.is_empty());
            }
        }
    }

    fn end_standby(&mut self, target: &Target, plan: Plan, now: Timestamp, drains: &mut Vec<NodeRef>) {
        let arrived = self.change.as_ref().and_then(|change| change.arrived);
        if arrived.is_some_and(|arrived| arrived.plus(plan.keep) > now) {
            return;
        }
        for entry in &mut self.nodes {
            if entry.state == NodeState::Standby && !target.holds(&entry.node) {
                entry.enter(NodeState::Draining, "not wanted any more", now);
                drains.push(entry.node.clone());
            }
        }
    }

    /// The change is over when the target stands and every other node is drained; drained nodes are forgotten after that.
    fn finish(&mut self, out: &mut Vec<Action>) {
        let target = self.target();
        // A node that an operator took out of the target has its own waiter.
        let pending = |entry: &NodeEntry| {
            if target.holds(&entry.node) {
                entry.state == NodeState::Draining && !entry.held_out
            } else {
                entry.state != NodeState::Drained
            }
        };
        let over =
            self.change.as_ref().is_some_and(|change| change.arrived.is_some()) && !self.nodes.iter().any(pending);
        if over && let Some(change) = self.change.take() {
            if !change.told {
                out.push(Action::Ended { ending: Ending::Done, reason: self.describe_done(&target) });
            }
            if !self.back {
                self.failure = None;
            }
            self.prune_held(&target);
        }
        if self.change.as_ref().is_none_or(|change| change.told) {
            self.nodes.retain(|entry| {
                let goes = entry.state == NodeState::Drained && !entry.held_out;
                if goes {
                    out.push(Action::Forget(entry.node.clone()));
                }
                !goes
            });
        }
    }
}
