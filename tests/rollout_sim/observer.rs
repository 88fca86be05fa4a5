//! Watches the machine from outside and knows only its events and actions: every promise is checked against that.

use std::collections::{BTreeMap, BTreeSet};

use sluicegate::api::Steering;
use sluicegate::model::{NodeAddress, NodeState, Share, Timestamp, Version};
use sluicegate::rollout::{Action, Ending, Event, Machine, NodeRef, Phase, Split, TrialView, Wanted};

/// What the outside knows of one stay.
#[derive(Clone, Debug, Default)]
pub struct Stay {
    pub healthy: bool,
    pub passed: bool,
    pub served: bool,
    pub closed: bool,
    pub drained: bool,
}

#[derive(Default)]
pub struct Observer {
    pub nodes: BTreeMap<NodeRef, Stay>,
    pub published: Split,
    pub wanted: Option<Wanted>,
    pub held: BTreeSet<NodeAddress>,
    pub trace: Vec<String>,
    /// Phases, endings and the like that occurred.
    pub seen: BTreeSet<String>,
    serials: BTreeSet<u64>,
    removed: bool,
    /// Whether the last change still owes its `Ended`.
    pub(super) open: bool,
    /// Healthy nodes that served when the change began.
    floor: usize,
    /// The first serial of nodes that joined since then.
    first_serial: u64,
}

/// How many nodes on duty are out, and how many are on duty.
fn out(machine: &Machine) -> (usize, usize) {
    let on_duty = machine.nodes().filter(|entry| entry.is_on_duty()).count();
    (on_duty - machine.nodes().filter(|entry| entry.serves()).count(), on_duty)
}

pub fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}

impl Observer {
    /// Carries an event to the machine and checks everything about the answer.
    pub fn tell(&mut self, machine: &mut Machine, event: Event, now: Timestamp) -> Result<Vec<Action>, String> {
        self.trace.push(format!("{:>12} {event:?}", now.0));
        let retried = event == Event::Steer(Steering::Retry) && machine.can_steer(Steering::Retry).is_ok();
        let begins = self.note_event(&event) || retried;
        let trial = machine.trial();
        let was_exact = self.published.trial.is_some();
        let before = self.healthy_in_split();
        if begins {
            self.floor = before;
            self.first_serial = self.next_serial();
        }
        let next_serial = self.next_serial();
        let out_before = out(machine);
        let actions = machine.handle(event.clone(), now);
        let is_sound = |node: &NodeRef| self.nodes.get(node).is_some_and(|stay| stay.served && stay.healthy);
        let drains_sound = actions.iter().any(|action| matches!(action, Action::Drain(node) if is_sound(node)));
        self.check_actions(&actions, begins)?;

        self.check_trial(machine, trial.as_ref())?;
        let after = self.healthy_in_split();
        if let Event::Failing { .. } = &event {
            // What a deadline that had passed does beside it may take nodes off duty.
            let (now_out, on_duty) = (out(machine).0, out_before.1);
            let most = self.wanted.as_ref().map_or(0, |wanted| wanted.ejection.most.0 as usize);
            ensure(now_out <= out_before.0 || (now_out * 10_000 <= on_duty * most && now_out < on_duty), || {
                format!("{now_out} of {on_duty} nodes are out, above the ceiling")
            })?;
            ensure(now_out <= out_before.0 + 1, || "one failing node took others with it".into())?;
            if now_out > out_before.0 {
                self.seen.insert("set back".into());
            }
        }
        // The others carried all but a share.
        let ends = |ending: &Ending| matches!(ending, Ending::RolledBack | Ending::Unhealthy | Ending::Superseded);
        let sent_back = was_exact
            && trial.as_ref().is_some_and(|trial| !trial.mixed)
            && actions.iter().any(|action| matches!(action, Action::Ended { ending, .. } if ends(ending)));
        let judged = actions.iter().any(|action| matches!(action, Action::Ended { ending: Ending::RolledBack, .. }))
            && matches!(event, Event::Judged { .. } | Event::Steer(_));
        if let (true, Some(trial)) = (judged && sent_back, &trial) {
            let serves = self.published.slices.iter().any(|slice| slice.version == trial.version);
            ensure(!serves, || format!("{} still serves after it was sent back", trial.version))?;
            self.seen.insert("sent back".into());
        }
        let excused = sent_back
            || matches!(event, Event::HeldOut { .. } | Event::Removed | Event::Failing { .. })
            || self.removed
            || self.wanted.as_ref().is_some_and(|wanted| wanted.nodes.is_empty());
        ensure(excused || after >= before.min(self.floor) || self.all_new_are_ready(machine), || {
            format!("capacity fell from {before} to {after}, the floor is {}", self.floor)
        })?;
        ensure(excused || !drains_sound || after > 0, || {
            "a healthy node drains, and none that is healthy is left".into()
        })?;
        if begins && sent_back {
            self.floor = after;
        }
        if machine.phase() == Phase::Failed && actions.iter().any(|action| matches!(action, Action::Ended { .. })) {
            self.floor = after;
            self.first_serial = next_serial;
        }
        self.check_state(machine, now)?;
        Ok(actions)
    }

    pub fn split_nodes(&self) -> impl Iterator<Item = &NodeRef> {
        self.published.slices.iter().flat_map(|slice| &slice.nodes)
    }

    pub(super) fn healthy_in_split(&self) -> usize {
        self.split_nodes().filter(|node| self.nodes[*node].healthy).count()
    }

    fn next_serial(&self) -> u64 {
        self.serials.last().map_or(0, |last| last + 1)
    }

    /// Takes over what the outside knows before the machine does. Answers whether a change begins.
    fn note_event(&mut self, event: &Event) -> bool {
        match event {
            Event::Wanted(wanted) => {
                let set = |wanted: &Wanted| wanted.nodes.iter().cloned().collect::<BTreeSet<_>>();
                let same =
                    self.wanted.as_ref().is_some_and(|last| last.release == wanted.release && set(last) == set(wanted));
                self.wanted = Some(wanted.clone());
                self.removed = false;
                !same
            }
            Event::Removed => {
                self.wanted = None;
                self.seen.insert("removed".into());
                !std::mem::replace(&mut self.removed, true)
            }
            Event::Health { node, healthy, .. } => {
                if let Some(stay) = self.nodes.get_mut(node) {
                    stay.healthy = *healthy;
                    stay.passed |= healthy;
                }
                false
            }
            Event::Drained { node } => {
                if let Some(stay) = self.nodes.get_mut(node) {
                    stay.drained |= stay.closed;
                }
                false
            }
            Event::HeldOut { .. } | Event::Tick | Event::Failing { .. } | Event::Judged { .. } | Event::Steer(_) => {
                false
            }
        }
    }

    pub(super) fn check_actions(&mut self, actions: &[Action], begins: bool) -> Result<(), String> {
        let mut superseded = begins && self.open;
        let mut began = false;
        if begins && !superseded {
            self.open = true;
        }
        for action in actions {
            self.trace.push(format!("{:>12}   -> {action:?}", ""));
            match action {
                Action::Join(node) => {
                    ensure(self.serials.insert(node.serial), || format!("serial {} is used twice", node.serial))?;
                    self.nodes.insert(node.clone(), Stay::default());
                }
                Action::Publish(split) => {
                    ensure(*split != self.published, || "the same split is published again".into())?;
                    self.check_split(split)?;
                    self.published = split.clone();
                }
                Action::Drain(node) => {
                    ensure(!self.split_nodes().any(|other| other == node), || {
                        format!("{node:?} drains, but is in the split")
                    })?;
                    let stay = self.nodes.get_mut(node).ok_or_else(|| format!("{node:?} drains, but is unknown"))?;
                    ensure(!stay.closed, || format!("{node:?} drains twice"))?;
                    stay.closed = true;
                }
                Action::Forget(node) => {
                    let stay = self.nodes.remove(node).ok_or_else(|| format!("{node:?} is forgotten twice"))?;
                    ensure(stay.drained || !stay.served, || format!("{node:?} is forgotten before it is drained"))?;
                }
                Action::Began { .. } => {
                    ensure(begins && self.open && !began, || "a change begins out of turn".into())?;
                    began = true;
                }
                Action::Stepped { version, share } => self.check_step(version, *share)?,
                Action::Ended { ending, .. } => {
                    self.seen.insert(format!("{ending:?}"));
                    ensure(self.open, || format!("{ending:?} is told, but no change is open"))?;
                    ensure(superseded == (*ending == Ending::Superseded), || {
                        format!("{ending:?} is told for a change that is superseded: {superseded}")
                    })?;
                    self.open = std::mem::take(&mut superseded);
                    if *ending == Ending::Done {
                        self.check_done()?;
                    }
                }
            }
        }
        ensure(!superseded, || "a change was superseded without a word".into())
    }

    /// What is on trial has exactly its share, and that never shrinks: `before` is the trial before the event.
    fn check_trial(&self, machine: &Machine, before: Option<&TrialView>) -> Result<(), String> {
        let after = machine.trial();
        if let Some(version) = &self.published.trial {
            let share = self.published.slices.last().filter(|slice| slice.version == *version).map(|slice| slice.share);
            let known = after.as_ref().filter(|trial| trial.version == *version).map(|trial| trial.share);
            ensure(share.is_some() && share == known && self.published.slices.len() > 1, || {
                format!("{version} is on trial with {share:?}, and {known:?} is known")
            })?;
        }
        let same = |after: &TrialView| before.filter(|before| before.version == after.version).cloned();
        let shrunk = after.as_ref().and_then(|after| Some((same(after)?.share, after.share)));
        ensure(shrunk.is_none_or(|(before, after)| before <= after), || format!("a share shrank: {shrunk:?}"))
    }

    /// A share only grows, by steps that the configuration names.
    fn check_step(&mut self, version: &Version, share: Share) -> Result<(), String> {
        let wanted = self.wanted.as_ref().ok_or("a step without a configuration")?;
        let known = wanted.canary.steps.iter().any(|step| step.share == share);
        ensure(wanted.release == *version && (known || share == Share::ALL), || format!("{version} steps to {share}"))?;
        self.seen.insert(if share == Share::ALL { "all steps".into() } else { "a step".into() });
        Ok(())
    }

    fn check_split(&mut self, split: &Split) -> Result<(), String> {
        let sum: u32 = split.slices.iter().map(|slice| slice.share.0).sum();
        ensure(split.slices.is_empty() || sum == Share::ALL.0, || format!("shares sum to {sum}"))?;
        ensure(!split.all_down || !split.slices.is_empty(), || "all down, but nothing is in the split".into())?;
        let mut doubles = BTreeSet::new();
        for slice in &split.slices {
            ensure(!slice.nodes.is_empty(), || format!("{} has a slice without nodes", slice.version))?;
            for node in &slice.nodes {
                let stay = self.nodes.get_mut(node).ok_or_else(|| format!("{node:?} is published, but unknown"))?;
                ensure(stay.passed, || format!("{node:?} gets traffic, but never passed"))?;
                ensure(!stay.closed, || format!("{node:?} gets traffic, but its gate is closed"))?;
                ensure(stay.healthy != split.all_down, || {
                    format!("{node:?} gets traffic; all down: {}", split.all_down)
                })?;
                ensure(node.version == slice.version, || format!("{node:?} is in the slice of {}", slice.version))?;
                ensure(doubles.insert((&node.version, &node.address)), || format!("{node:?} is in the split twice"))?;
                stay.served = true;
            }
        }
        if split.all_down {
            self.seen.insert("all down".into());
        }
        Ok(())
    }

    /// Done means: what was wanted has served, and every other node may be stopped.
    fn check_done(&self) -> Result<(), String> {
        let wanted = |node: &NodeRef| {
            self.wanted
                .as_ref()
                .is_some_and(|wanted| wanted.release == node.version && wanted.nodes.contains(&node.address))
        };
        for (node, stay) in &self.nodes {
            let held = self.held.contains(&node.address);
            ensure(stay.drained || (wanted(node) && (held || !stay.closed)), || {
                format!("done, but {node:?} is {stay:?}")
            })?;
        }
        Ok(())
    }

    /// Whether no new node is missing, so that every old one may leave.
    fn all_new_are_ready(&self, machine: &Machine) -> bool {
        !machine.nodes().any(|entry| match entry.state {
            NodeState::Joining => true,
            NodeState::Ejected => entry.node.serial >= self.first_serial,
            // It leaves: nobody waits for it to be ready.
            NodeState::Draining | NodeState::Drained => false,
            _ => entry.setback.is_some() && entry.node.serial >= self.first_serial,
        })
    }

    pub(super) fn check_state(&mut self, machine: &Machine, now: Timestamp) -> Result<(), String> {
        ensure(machine.held().all(|address| self.held.contains(address)), || {
            "an address is out that nobody took out".into()
        })?;
        self.held = machine.held().cloned().collect();
        let phase = machine.phase();
        self.seen.insert(phase.as_str().into());
        ensure(machine.split() == self.published, || "split() is not what was published".into())?;
        ensure(
            machine.nodes().map(|entry| &entry.node).collect::<BTreeSet<_>>().iter().copied().eq(self.nodes.keys()),
            || "the machine knows other nodes than the outside".into(),
        )?;
        for entry in machine.nodes() {
            let stay = &self.nodes[&entry.node];
            let fits = match entry.state {
                NodeState::Joining => !stay.served && !stay.closed,
                NodeState::Warming | NodeState::Serving => stay.healthy && stay.served && !stay.closed,
                NodeState::Ejected => (!stay.healthy || entry.setback.is_some()) && stay.served && !stay.closed,
                NodeState::Standby => stay.served && !stay.closed,
                NodeState::Draining => stay.closed && !stay.drained,
                NodeState::Drained => stay.drained,
            };
            ensure(fits, || format!("{:?} is {}, but outside it is {stay:?}", entry.node, entry.state))?;
            ensure(!entry.reason.is_empty(), || format!("{:?} has no reason", entry.node))?;
        }
        for entry in machine.nodes().filter(|entry| entry.is_alive()) {
            self.seen.insert(entry.state.to_string());
        }
        let serviceable = self.nodes.values().any(|stay| stay.served && stay.healthy && !stay.closed);
        ensure(!serviceable || self.healthy_in_split() > 0, || {
            "nothing healthy is in the split, though a healthy node that served is there".into()
        })?;
        if let Some(deadline) = machine.deadline() {
            ensure(deadline > now, || format!("the deadline {deadline:?} is not later than {now:?}"))?;
        }
        let waits = matches!(phase, Phase::WaitingForHealth | Phase::Rolling | Phase::Keeping);
        ensure(!waits || !self.open || machine.deadline().is_some() || machine.paused().is_some(), || {
            format!("{} without a deadline", phase.as_str())
        })?;
        ensure(phase == Phase::Settled || machine.reason().is_some(), || {
            format!("{} without a reason", phase.as_str())
        })?;
        ensure(phase != Phase::Settled || !self.open, || "settled, but the change has not ended".into())
    }
}
