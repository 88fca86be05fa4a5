//! A version on trial: it gets a share, which grows by steps as time, its nodes, the guard and the operator allow.
//!
//! What is kept is the share that was reached, not the number of a step, so that steps may be edited in the middle: the next
//! step is the first one with a greater share, and nobody who moved to the new version moves back. The share never shrinks but
//! by going back altogether.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::nodes::{NodeEntry, Target, count, named};
use super::{Action, Verdict};
use crate::config::{Control, Strategy};
use crate::model::{Share, Timestamp, Version};

/// Where the trial is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Trial {
    /// What the new version has; [`Share::ALL`]: the trial is over.
    pub(super) reached: Share,
    /// When it got this. Moved on by the length of each pause.
    pub(super) since: Timestamp,
    /// Whether the guard has seen enough at this share.
    pub(super) enough: bool,
    /// Whether the guard has looked at this share at all.
    pub(super) heard: bool,
    /// Who does not let it pass, and why.
    pub(super) objection: Option<String>,
    /// An operator ended the hold of this step.
    pub(super) promoted: bool,
    /// And of all further ones.
    pub(super) full: bool,
    /// Since when too few of its nodes are healthy, for its share or for the next one that is due.
    pub(super) short: Option<Timestamp>,
    /// It had a part of the traffic before it went by steps, so the others do not carry what they carried once.
    pub(super) mixed: bool,
    /// What keeps it at its share; written with each look.
    pub(super) held: Option<Held>,
}

/// The version on trial, for the guard and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialView {
    /// Which version.
    pub version: Version,
    /// Its share. Nothing before the first step.
    pub share: Share,
    /// Since when, but for pauses.
    pub since: Timestamp,
    /// Whether the guard has seen enough at this share.
    pub enough: bool,
    /// Whether it goes through the further steps without holding any.
    pub full: bool,
    /// Whether it had a part of the traffic before it went by steps.
    pub mixed: bool,
}

/// Why a trial stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Held {
    /// It stays until then.
    Until(Timestamp),
    /// Somebody must promote it.
    ByHand,
    /// The guard needs more requests; until then, or for as long as it takes.
    TooFew(Option<Timestamp>),
    /// An outside judge does not let it pass.
    Objection,
    /// It is paused.
    Paused,
    /// Too few of its nodes are healthy for the next share: so many are needed.
    Nodes(usize),
}

impl Machine {
    /// The version on trial, if one is: a guard may judge it.
    pub fn trial(&self) -> Option<TrialView> {
        let trial = self.on_trial()?;
        Some(TrialView {
            version: self.target().version,
            share: trial.reached,
            since: trial.since,
            enough: trial.enough,
            full: trial.full,
            mixed: trial.mixed,
        })
    }

    /// Whether the change in progress goes by steps, and is not through them.
    pub(super) fn on_trial(&self) -> Option<&Trial> {
        let change = self.change.as_ref()?;
        let by_steps = self.wanted.as_ref().is_some_and(|wanted| wanted.strategy == Strategy::Canary);
        (by_steps && change.prior.is_some() && change.arrived.is_none() && change.trial.reached < Share::ALL)
            .then_some(&change.trial)
    }

    /// Since when the change in progress is paused.
    pub fn paused(&self) -> Option<Timestamp> {
        self.change.as_ref()?.paused
    }

    /// Follows what operators want: a pause begins, or ends and does not count.
    pub(super) fn follow_pause(&mut self, now: Timestamp) {
        let by_file = self.wanted.as_ref().is_some_and(|wanted| wanted.control == Control::Pause);
        let Some(change) = &mut self.change else {
            return;
        };
        let pause = (change.pause || by_file) && !change.told && change.arrived.is_none();
        match (pause, change.paused) {
            (true, None) => change.paused = Some(now),
            (false, Some(at)) => {
                let length = now.since(at);
                change.progress = change.progress.plus(length).min(now);
                change.trial.since = change.trial.since.plus(length).min(now);
                change.trial.short = change.trial.short.map(|short| short.plus(length).min(now));
                change.paused = None;
            }
            _ => {}
        }
    }

    /// Takes every step that is due. One share at a time is published, but a step without a hold ends at once.
    pub(super) fn advance(&mut self, target: &Target, prepared: bool, now: Timestamp, out: &mut Vec<Action>) {
        self.take_over_part(target, now);
        while self.on_trial().is_some() && self.held_by(target, prepared, now).is_none() {
            let next = self.next_share();
            let Some(change) = &mut self.change else {
                return;
            };
            let (full, mixed) = (change.trial.full, change.trial.mixed);
            change.trial = Trial { reached: next, since: now, full, mixed, ..Trial::default() };
            // The deadline is for the nodes, and they were healthy just now.
            change.progress = now;
            out.push(Action::Stepped { version: target.version.clone(), share: next });
        }
        let Some(reached) = self.on_trial().map(|trial| trial.reached) else {
            return;
        };
        let held = self.held_by(target, prepared, now);
        let short = matches!(held, Some(Held::Nodes(_))) || self.ready_for(target) < self.needed_for(target, reached);
        if let Some(change) = &mut self.change {
            change.trial.short = if short { change.trial.short.or(Some(now)) } else { None };
            change.trial.held = held;
        }
    }

    /// A version that came by its part of the traffic otherwise, before the strategy was edited, keeps it.
    fn take_over_part(&mut self, target: &Target, now: Timestamp) {
        if self.on_trial().is_none() || self.published.trial.is_some() || self.published.slices.len() < 2 {
            return;
        }
        let part = self.begin_trial(&target.version, now);
        if let Some(change) = self.change.as_mut().filter(|change| change.trial.reached < part.reached) {
            change.trial = part;
        }
    }

    /// What the trial waits for, in words for people.
    pub(super) fn describe_trial(&self) -> String {
        let target = self.target();
        let Some(trial) = self.on_trial() else {
            return String::new();
        };
        let waits = match trial.held {
            Some(Held::Paused) => "paused; `sluice resume` lets it go on".to_owned(),
            Some(Held::ByHand) => "held until `sluice promote`".to_owned(),
            Some(Held::Until(_)) => "held by its step".to_owned(),
            Some(Held::TooFew(Some(_))) => "prolonged, because there were too few requests to judge it".to_owned(),
            Some(Held::TooFew(None)) => {
                "held, because there were too few requests to judge it; more of them, or `sluice promote`, let it go on"
                    .to_owned()
            }
            Some(Held::Objection) => {
                format!("held: {}", trial.objection.as_deref().unwrap_or("outside judges are about to be asked"))
            }
            Some(Held::Nodes(needed)) => {
                format!("the next step needs {} healthy: {}", count(needed), self.describe_missing(&target))
            }
            None => "about to take its next step".to_owned(),
        };
        format!("{} has {} of the traffic; {waits}", named(&target.version), trial.reached)
    }

    fn ready_for(&self, target: &Target) -> usize {
        let ready = |entry: &&NodeEntry| entry.serves() && entry.setback.is_none() && target.holds(&entry.node);
        self.nodes.iter().filter(ready).count()
    }

    fn needed_for(&self, target: &Target, share: Share) -> usize {
        let before = self.change.as_ref().map_or(0, |change| change.floor);
        needed(share, before, target.nodes.len()).max(1)
    }

    /// The first configured share above the one that is reached; then all.
    fn next_share(&self) -> Share {
        let reached = self.on_trial().map_or(Share::NONE, |trial| trial.reached);
        let steps = self.wanted.iter().flat_map(|wanted| &wanted.canary.steps);
        steps.map(|step| step.share).find(|share| *share > reached).unwrap_or(Share::ALL)
    }

    /// What keeps the trial at its share; nothing if the next step is due.
    pub(super) fn held_by(&self, target: &Target, prepared: bool, now: Timestamp) -> Option<Held> {
        let (trial, wanted) = (self.on_trial()?, self.wanted.as_ref()?);
        if self.paused().is_some() {
            return Some(Held::Paused);
        }
        let promoted = trial.promoted || trial.full || wanted.control == Control::Promote;
        let begun = trial.reached > Share::NONE || self.first_is_nothing();
        if begun
            && !promoted
            && let Some(held) = self.hold_of_step(trial, now)
        {
            return Some(held);
        }
        let next = self.next_share();
        if next == Share::ALL {
            return (!prepared).then_some(Held::Nodes(target.nodes.len()));
        }
        let needed = self.needed_for(target, next);
        (self.ready_for(target) < needed).then_some(Held::Nodes(needed))
    }

    /// A first step of nothing: for a preview, or for a shadow.
    fn first_is_nothing(&self) -> bool {
        let first = self.wanted.as_ref().and_then(|wanted| wanted.canary.steps.first());
        first.is_some_and(|step| step.share == Share::NONE)
    }

    fn hold_of_step(&self, trial: &Trial, now: Timestamp) -> Option<Held> {
        let canary = &self.wanted.as_ref()?.canary;
        // A step that was edited away is over as soon as the guard has seen enough.
        let step = canary.steps.iter().find(|step| step.share == trial.reached);
        let hold = match step.map(|step| step.hold) {
            Some(None) => return Some(Held::ByHand),
            Some(Some(hold)) => hold,
            None => Duration::ZERO,
        };
        let until = trial.since.plus(hold);
        if now < until {
            return Some(Held::Until(until));
        }
        // Without a share there may be nothing to judge.
        if !canary.guarded || trial.enough || trial.reached == Share::NONE {
            return None;
        }
        if trial.objection.is_some() || (canary.asked && !trial.heard) {
            return Some(Held::Objection);
        }
        let extended = until.plus(canary.extend);
        match canary.pass_if_too_few {
            true if now >= extended => None,
            true => Some(Held::TooFew(Some(extended))),
            false => Some(Held::TooFew(None)),
        }
    }

    /// The guard looked. `true`: the version must go.
    pub(super) fn note_verdict(&mut self, version: &Version, share: Share, verdict: &Verdict) -> bool {
        let current = self.on_trial().is_some_and(|trial| trial.reached == share) && self.target().version == *version;
        let Some(change) = self.change.as_mut().filter(|_| current) else {
            return false;
        };
        change.trial.enough = *verdict == Verdict::Pass;
        change.trial.heard = true;
        change.trial.objection = match verdict {
            Verdict::Hold(why) => Some(why.clone()),
            _ => None,
        };
        // Going back to nodes of which none is healthy would be worse than any new version.
        matches!(verdict, Verdict::Fail(_)) && self.can_go_back()
    }

    /// A version that begins its steps, and may have a part of the traffic already: nobody who moved to it moves back.
    pub(super) fn begin_trial(&self, version: &Version, now: Timestamp) -> Trial {
        let has = self.published.slices.iter().find(|slice| slice.version == *version);
        let reached = has.map_or(Share::NONE, |slice| slice.share);
        Trial { reached, since: now, mixed: reached > Share::NONE, ..Trial::default() }
    }

    /// Whether the version on trial can be dropped at once, because the others carry all but its share.
    pub(super) fn can_evict(&self) -> bool {
        self.published.trial.is_some() && self.on_trial().is_some_and(|trial| !trial.mixed) && self.can_go_back()
    }

    /// Whether a healthy node is there of what served before.
    pub(super) fn can_go_back(&self) -> bool {
        let prior = self.change.as_ref().and_then(|change| change.prior.as_ref());
        prior.is_some_and(|prior| {
            self.nodes
                .iter()
                .any(|entry| entry.is_alive() && entry.healthy && !entry.is_set_back() && prior.holds(&entry.node))
        })
    }
}

impl Trial {
    /// When its hold may end by itself.
    pub(super) fn wake(&self) -> Option<Timestamp> {
        match self.held {
            Some(Held::Until(at) | Held::TooFew(Some(at))) => Some(at),
            _ => None,
        }
    }
}

/// How many new nodes a share needs, so that each gets no more than an old one had: `before` served, `all` are wanted.
fn needed(share: Share, before: usize, all: usize) -> usize {
    (before * share.0 as usize).div_ceil(Share::ALL.0 as usize).min(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_needs_as_many_nodes_as_had_it_before() {
        assert_eq!(needed(Share(500), 4, 4), 1);
        assert_eq!(needed(Share(2500), 4, 4), 1);
        assert_eq!(needed(Share(2501), 4, 4), 2);
        assert_eq!(needed(Share(5000), 4, 1), 1, "whoever gives fewer nodes than before wants them larger");
        assert_eq!(needed(Share::ALL, 3, 5), 3);
    }
}
