//! What must hold after a restart, and when everything came to rest.

use std::collections::BTreeSet;

use sluicegate::model::{NodeState, Timestamp};
use sluicegate::rollout::{Action, Machine, Phase};

use crate::observer::{Observer, ensure};

impl Observer {
    /// A restart from the journal.
    pub fn restart(&mut self, machine: &mut Machine, now: Timestamp) -> Result<Vec<Action>, String> {
        self.trace.push(format!("{:>12} restart", now.0));
        self.seen.insert("restart".into());
        let journal = serde_json::to_string(machine).map_err(|error| error.to_string())?;
        let restored: Machine = serde_json::from_str(&journal).map_err(|error| error.to_string())?;
        ensure(restored == *machine, || "the journal does not give the machine back".into())?;
        *machine = restored;

        // Nothing outside survived but the processes: what is told now must rebuild what was there.
        let known = self.nodes.clone();
        let before = self.published.clone();
        let actions = machine.resume(now);
        let mut joined = BTreeSet::new();
        let mut rest = Vec::new();
        let mut first = None;
        let mut closed = BTreeSet::new();
        for action in &actions {
            match action {
                Action::Join(node) if known.contains_key(node) => {
                    joined.insert(node.clone());
                }
                Action::Publish(split) if first.is_none() => first = Some(split.clone()),
                Action::Drain(node) if known.get(node).is_some_and(|stay| stay.closed) => {
                    closed.insert(node.clone());
                }
                other => rest.push(other.clone()),
            }
        }
        ensure(joined.iter().eq(known.keys()), || {
            format!("after a restart {joined:?} are joined, not {:?}", known.keys())
        })?;
        ensure(known.is_empty() || first.as_ref() == Some(&before), || {
            format!("after a restart {first:?} is published, not {before:?}")
        })?;
        for (node, stay) in &mut self.nodes {
            ensure(!stay.closed || closed.contains(node), || format!("{node:?} is open after a restart"))?;
            stay.healthy &= stay.served;
        }
        self.check_actions(&rest, false)?;
        self.check_state(machine, now)?;
        Ok(actions)
    }

    /// When nothing happens any more and everything is healthy, everything is where it shall be.
    pub fn check_end(&self, machine: &Machine) -> Result<(), String> {
        ensure(!self.open, || "the last change never ended".into())?;
        for entry in machine.nodes() {
            let home = entry.state == NodeState::Serving || (entry.state == NodeState::Drained && entry.held_out);
            ensure(home, || format!("in the end {:?} is {}", entry.node, entry.state))?;
        }
        let serving: BTreeSet<_> =
            self.split_nodes().map(|node| (node.version.clone(), node.address.clone())).collect();
        let Some(wanted) = &self.wanted else {
            return ensure(machine.is_empty(), || "a removed service is not empty".into());
        };
        if machine.phase() == Phase::Failed {
            ensure(machine.reason().is_some(), || "it failed without a reason".into())?;
            let versions: BTreeSet<_> = serving.iter().map(|(version, _)| version).collect();
            ensure(versions.len() <= 1, || format!("after the way back {versions:?} serve"))?;
            let refused = machine.refused().iter().any(|refused| refused.version == wanted.release);
            return ensure(refused, || "it failed, but nothing is refused".into());
        }
        ensure(machine.phase() == Phase::Settled, || format!("in the end it is {}", machine.phase().as_str()))?;
        let wanted: BTreeSet<_> = wanted
            .nodes
            .iter()
            .filter(|address| !self.held.contains(*address))
            .map(|address| (wanted.release.clone(), address.clone()))
            .collect();
        ensure(serving == wanted, || format!("in the end {serving:?} serve, wanted are {wanted:?}"))
    }
}
