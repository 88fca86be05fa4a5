//! Versions on trial: their counters are read many times a second, judged, and the machine is told.
//!
//! The counters of all workers are only read, so a look costs the data plane nothing. Both versions are counted over the same
//! window: from the moment that the new one got its present share, or from a restart of the proxy in the middle of it. A window
//! is kept node by node, because nodes come and go in it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::controller::Controller;
use super::entry::{Entry, Member};
use super::judges::{Case, Judges};
use crate::api::Evidence;
use crate::model::{ServiceName, Share, Tally, Timestamp, Version};
use crate::rollout::guard::{decide, judge};
use crate::rollout::{Event, NodeRef, Verdict};

/// From one look to the next: short against the time in which a bad version does harm, long against what a look costs.
const LOOK: Duration = Duration::from_millis(20);

/// Looks may take this part of the control plane's time, however many versions are on trial.
const PART: u32 = 10;

/// What was counted of a version on trial, and of the others beside it, since it got its share.
#[derive(Debug)]
pub(super) struct Window {
    version: Version,
    share: Share,
    /// The counters of each node when the window began; a node without was not there.
    base: BTreeMap<NodeRef, Tally>,
    /// What nodes did in the window that are gone: old ones, new ones.
    gone: (Tally, Tally),
    /// Outcomes of the new version when it was judged last.
    seen: Option<u64>,
    /// What the machine was told last.
    told: Option<Verdict>,
    /// When it began.
    began: Instant,
    /// Who else is asked.
    judges: Judges,
}

impl Window {
    fn begin(version: Version, share: Share, members: &BTreeMap<NodeRef, Member>) -> Self {
        let base = members.iter().map(|(node, member)| (node.clone(), member.node.tally())).collect();
        Self {
            version,
            share,
            base,
            gone: Default::default(),
            seen: None,
            told: None,
            began: Instant::now(),
            judges: Judges::default(),
        }
    }

    fn of(&self, node: &NodeRef, member: &Member) -> Tally {
        let tally = member.node.tally();
        self.base.get(node).map_or_else(|| tally.clone(), |base| tally.since(base))
    }

    /// A node goes: what it did stays.
    pub(super) fn bury(&mut self, node: &NodeRef, member: &Member) {
        let tally = self.of(node, member);
        let sum = if node.version == self.version { &mut self.gone.1 } else { &mut self.gone.0 };
        sum.add(&tally);
        self.base.remove(node);
    }

    /// What the old version did, and the new one.
    fn tallies(&self, members: &BTreeMap<NodeRef, Member>) -> (Tally, Tally) {
        let (mut old, mut new) = self.gone.clone();
        for (node, member) in members {
            let sum = if node.version == self.version { &mut new } else { &mut old };
            sum.add(&self.of(node, member));
        }
        (old, new)
    }

    /// Asks the outside judges whose turn it is.
    fn ask(&mut self, service: &ServiceName, since: Timestamp, evidence: Evidence, now: Instant) {
        let window = now.duration_since(self.began).as_millis();
        let case = Case {
            service: service.clone(),
            version: self.version.clone(),
            share: self.share.percent(),
            since,
            window_ms: u64::try_from(window).unwrap_or(u64::MAX),
            evidence,
        };
        self.judges.ask(&case, now);
    }

    /// Outcomes of the new version: the same number means that there is nothing new to judge.
    fn pulse(&self, members: &BTreeMap<NodeRef, Member>) -> u64 {
        let new = members.iter().filter(|(node, _)| node.version == self.version);
        new.map(|(_, member)| member.node.pulse()).sum()
    }
}

/// What the guard makes of the trial now; none if there is no trial, or nothing judges it.
pub(super) fn evidence(entry: &Entry) -> Option<Evidence> {
    let guard = &entry.settings.rollout.guard;
    let window = entry.window.as_ref().filter(|_| guard.is_on())?;
    let (old, new) = window.tallies(&entry.members);
    let mut evidence = judge(guard, windows(entry), &old, &new).evidence;
    evidence.judges = window.judges.opinions();
    // What sent it back, or holds it, is told in the same words; more requests may have come since.
    if let Some((told, why)) = window.told.as_ref().and_then(|told| Some((told, told.why()?))) {
        (evidence.verdict, evidence.reason) = (told.as_str().into(), why.to_owned());
    }
    Some(evidence)
}

/// How many windows share the probability of a false alarm.
fn windows(entry: &Entry) -> usize {
    entry.settings.rollout.steps.len().max(1)
}

impl Controller {
    /// Begins and ends the service's window, as its trial does. Called whenever anything changed in the service.
    pub(super) fn follow_trial(&mut self, name: &ServiceName) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let Some(trial) = entry.machine.trial() else {
            entry.window = None;
            self.on_trial.remove(name);
            return;
        };
        let same = |window: &Window| (&window.version, window.share) == (&trial.version, trial.share);
        if !entry.window.as_ref().is_some_and(same) {
            entry.window = Some(Window::begin(trial.version, trial.share, &entry.members));
        }
        self.on_trial.insert(name.clone());
    }

    /// Judges every version on trial that was given requests since the last look. When to look again; never, if nothing is on trial.
    pub(super) fn judge_trials(&mut self) -> Option<Instant> {
        let began = Instant::now();
        let mut verdicts = Vec::new();
        for name in &self.on_trial {
            let Some(entry) = self.entries.get_mut(name) else {
                continue;
            };
            let (guard, count) = (&entry.settings.rollout.guard, windows(entry));
            let Some(window) = entry.window.as_mut().filter(|_| guard.is_on()) else {
                continue;
            };
            let pulse = Some(window.pulse(&entry.members));
            // Without a share there is nothing to ask about.
            let judges = if window.share == Share::NONE { &[][..] } else { &guard.judges };
            window.judges.follow(judges, began);
            let ask = window.judges.look(began);
            let news = window.judges.take_news();
            if window.seen == pulse && !ask && !news {
                continue;
            }
            window.seen = pulse;
            let (old, new) = window.tallies(&entry.members);
            if ask {
                let evidence = judge(guard, count, &old, &new).evidence;
                window.ask(name, entry.machine.trial().map(|trial| trial.since).unwrap_or_default(), evidence, began);
            }
            let verdict = window.judges.weigh(decide(guard, count, &old, &new));
            // A version that must go may have nowhere to go to: it is told again, until it has.
            if window.told.as_ref().map(std::mem::discriminant) != Some(std::mem::discriminant(&verdict)) {
                entry.counted.judged(&verdict);
            }
            let other = window.told.as_ref() != Some(&verdict);
            if other || matches!(verdict, Verdict::Fail(_)) {
                window.told = Some(verdict.clone());
                verdicts.push((name.clone(), window.version.clone(), window.share, verdict, other));
            }
        }
        for (name, version, share, verdict, other) in verdicts {
            if let Verdict::Fail(why) = &verdict {
                info!(service = %name, version = %version, share = %share, why, "the guard fails a version");
            }
            let now = self.clock.now();
            if let Some(entry) = self.entries.get_mut(&name).filter(|_| other && share != Share::NONE) {
                entry.announce_verdict(&version, share.percent(), &verdict, now);
            }
            self.tell(&name, Event::Judged { version, share, verdict });
        }
        let pause = (began.elapsed() * PART).max(LOOK);
        (!self.on_trial.is_empty()).then(|| Instant::now() + pause)
    }
}
