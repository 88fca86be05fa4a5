//! One service as the control plane holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::courier::Courier;
use super::events::Told;
use super::followers::Followers;
use super::gather::{Counted, Gone};
use super::probing::Prober;
use super::state::{MAX_HISTORY, Record};
use super::trial::Window;
use crate::api::{
    CutNode, Ended, Evidence, HaltStatus, HistoryEntry, NodeTotals, Outcome, ProbeReport, Steered, StepRecord,
};
use crate::config::{self, TooFew};
use crate::model::{Holder, NodeAddress, NodeState, ServiceName, Share, Timestamp, Version};
use crate::pool::{Hold, Node, ServiceStats};
use crate::rollout::outliers::Tally;
use crate::rollout::{Canary, Ejection, Ending, Machine, NodeRef, Wanted};

/// What is kept of a service beside its change number and its history, so that `kill -9` loses nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) machine: Machine,
    pub(super) change: Change,
    /// What an operator did to the traffic: a restart in the middle must not let it through.
    #[serde(default)]
    pub(super) halt: Option<HaltStatus>,
}

/// The change that the configuration asked for last: what `wait` waits for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Change {
    /// When a rollout began, and what served then; none if nothing had to move.
    pub(super) began: Option<(Timestamp, Option<Version>)>,
    /// Nodes that were drained since.
    pub(super) drained: Vec<(Version, NodeAddress)>,
    /// What their drain deadlines cut.
    pub(super) cut: Vec<CutNode>,
    /// The last failed probes of nodes that were forgotten since.
    pub(super) failed: BTreeMap<NodeAddress, ProbeReport>,
    /// The steps it went through.
    #[serde(default)]
    pub(super) steps: Vec<StepRecord>,
    /// How operators steered it.
    #[serde(default)]
    pub(super) steered: Vec<Steered>,
    /// How it ended.
    pub(super) ended: Option<Ended>,
}

/// Drained nodes that are remembered; the list is for people.
const DRAINED_KEPT: usize = 1000;

/// Acts of steering that are remembered of one change; the list is for people.
const STEERED_KEPT: usize = 100;

impl Change {
    /// The version on trial got another share, after what the guard saw of the last one.
    pub(super) fn step(&mut self, share: Share, evidence: Option<Evidence>, now: Timestamp) {
        self.end_step(evidence, now);
        if share != Share::NONE {
            let ended = (share == Share::ALL).then_some(now);
            self.steps.push(StepRecord { share: share.percent(), started: now, ended, evidence: None });
        }
    }

    fn end_step(&mut self, evidence: Option<Evidence>, now: Timestamp) {
        if let Some(last) = self.steps.last_mut().filter(|last| last.ended.is_none()) {
            last.ended = Some(now);
            last.evidence = evidence;
        }
    }

    /// An operator steered it.
    pub(super) fn note_steered(&mut self, steered: Steered) {
        if self.steered.len() < STEERED_KEPT {
            self.steered.push(steered);
        }
    }

    /// A node left because of this change. What happens after its end is told is not part of it.
    pub(super) fn note_drained(&mut self, node: &NodeRef, cut: Vec<Holder>) {
        if self.ended.is_some() {
            return;
        }
        let drained = (node.version.clone(), node.address.clone());
        if !self.drained.contains(&drained) && self.drained.len() < DRAINED_KEPT {
            self.drained.push(drained);
        }
        if !cut.is_empty() {
            self.cut.push(CutNode { address: node.address.clone(), version: node.version.clone(), work: cut });
        }
    }
}

/// Where a node's drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Draining {
    No,
    Running,
    Over,
}

/// One stay of a node: what the machine does not need to know of it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) node: Arc<Node>,
    /// As the configuration says, or last said if it has no such node any more.
    pub(super) weight: u32,
    /// Its counters when the last window began.
    pub(super) tally: Tally,
    /// Ends with this.
    pub(super) prober: Prober,
    /// The state that was told in the log last.
    pub(super) told: NodeState,
    pub(super) draining: Draining,
    /// What held it open when it was asked last.
    pub(super) holders: Vec<Holder>,
}

impl Member {
    /// What was counted of it in this stay.
    pub(super) fn totals(&self) -> NodeTotals {
        let mut totals = self.node.node_totals();
        (totals.probes_passed, totals.probes_failed) = self.prober.counts();
        totals
    }
}

/// One service.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) settings: Arc<config::Service>,
    /// The same, for the probers.
    pub(super) tuning: watch::Sender<Arc<config::Service>>,
    pub(super) machine: Machine,
    pub(super) members: BTreeMap<NodeRef, Member>,
    /// What is counted of the version on trial, while one is.
    pub(super) window: Option<Window>,
    /// Where its requests wait; in every view of it.
    pub(super) hold: Arc<Hold>,
    /// What came of its requests; in every view of it.
    pub(super) stats: Arc<ServiceStats>,
    /// What the control plane counts.
    pub(super) counted: Counted,
    /// As published last: what the split says, by weight and warmth.
    pub(super) shares: Vec<(Version, Share)>,
    /// When its nodes' counters are compared next.
    pub(super) window_ends: Timestamp,
    /// What an operator did to its traffic.
    pub(super) halt: Option<HaltStatus>,
    /// The change number.
    pub(super) number: u64,
    pub(super) change: Change,
    /// Whether the end of the change is on disk, or nothing is kept.
    pub(super) durable: bool,
    /// Digest of the record that the journal has or is about to have.
    pub(super) saved: Option<u64>,
    /// Oldest first.
    pub(super) history: Vec<HistoryEntry>,
    /// Counters of nodes that were forgotten, by version.
    pub(super) gone: BTreeMap<Version, Gone>,
    pub(super) followers: Followers,
    /// Tells others what happens.
    pub(super) courier: Courier,
    /// As it stands in the controller's list of deadlines.
    pub(super) deadline: Option<Timestamp>,
    /// Whether the log says that every node is unhealthy.
    pub(super) told_all_down: bool,
    /// What those who listen were told.
    pub(super) told: Told,
}

/// Versions whose counters are remembered after their last node left.
const GONE_KEPT: usize = 32;

impl Entry {
    pub(super) fn new(settings: Arc<config::Service>, workers: usize) -> Self {
        Self {
            tuning: watch::Sender::new(Arc::clone(&settings)),
            settings,
            machine: Machine::new(),
            members: BTreeMap::new(),
            window: None,
            hold: Arc::default(),
            stats: Arc::new(ServiceStats::new(workers)),
            counted: Counted::default(),
            shares: Vec::new(),
            window_ends: Timestamp::default(),
            halt: None,
            number: 0,
            change: Change::default(),
            durable: true,
            saved: None,
            history: Vec::new(),
            gone: BTreeMap::new(),
            followers: Followers::default(),
            courier: Courier::default(),
            deadline: None,
            told_all_down: false,
            told: Told::default(),
        }
    }

    /// What the journal holds, under the settings of today.
    pub(super) fn kept(settings: Arc<config::Service>, record: Record<Kept>, workers: usize) -> Self {
        let saved = record.encode().ok().map(|record| record.digest());
        let mut entry = Self {
            saved,
            machine: record.state.machine,
            number: record.change,
            // Its end was told before the restart, or is told by nobody.
            courier: Courier::after(record.state.change.ended.is_some().then_some(record.change)),
            change: record.state.change,
            halt: record.state.halt,
            history: record.history,
            ..Self::new(settings, workers)
        };
        // Whoever listens was told of this by the process before.
        entry.told = Told::of(&entry);
        entry
    }

    pub(super) fn name(&self) -> &ServiceName {
        &self.settings.name
    }

    /// As the journal shall hold it.
    pub(super) fn record(&self) -> Record<Kept> {
        Record {
            service: self.name().clone(),
            change: self.number,
            state: Kept { machine: self.machine.clone(), change: self.change.clone(), halt: self.halt.clone() },
            history: self.history.clone(),
        }
    }

    /// Notes how the change ended. A rollout goes into the history.
    pub(super) fn end(&mut self, ending: Ending, reason: &str, now: Timestamp) {
        if self.change.ended.is_some() {
            return;
        }
        let evidence = super::trial::evidence(self);
        self.change.end_step(evidence, now);
        let outcome = match ending {
            Ending::Done if self.change.cut.is_empty() => Outcome::Done,
            Ending::Done => Outcome::DoneWithCuts,
            Ending::Unhealthy => Outcome::Unhealthy,
            Ending::RolledBack => Outcome::RolledBack,
            Ending::Superseded => Outcome::Superseded,
        };
        self.counted.ended(outcome);
        let entry = self.history_entry(outcome, reason, now);
        if let Some(entry) = &entry {
            self.history.push(entry.clone());
            let excess = self.history.len().saturating_sub(MAX_HISTORY);
            self.history.drain(..excess);
        }
        self.durable = false;
        self.change.ended = Some(Ended { outcome, message: super::words::ended(self, outcome, reason), entry });
    }

    /// The history without an entry that a crash could still lose.
    pub(super) fn told_history(&self) -> impl DoubleEndedIterator<Item = &HistoryEntry> {
        let ended = self.change.ended.as_ref().and_then(|end| end.entry.as_ref());
        let pending = usize::from(!self.durable && ended.is_some() && ended == self.history.last());
        self.history.iter().take(self.history.len() - pending)
    }

    fn history_entry(&self, outcome: Outcome, reason: &str, now: Timestamp) -> Option<HistoryEntry> {
        let (started, from) = self.change.began.clone()?;
        let wanted = self.machine_wanted()?;
        Some(HistoryEntry {
            change: self.number,
            from,
            to: wanted.release.clone(),
            nodes: wanted.nodes.clone(),
            strategy: wanted.strategy.as_str().into(),
            started,
            finished: now,
            outcome,
            reason: reason.into(),
            cut: self.change.cut.clone(),
            steps: self.change.steps.clone(),
            steered: self.change.steered.clone(),
        })
    }

    fn machine_wanted(&self) -> Option<&Wanted> {
        self.machine.wanted()
    }

    /// Adds the counters of a node that goes to those of its version.
    pub(super) fn bury(&mut self, node: &NodeRef) -> Option<Member> {
        let member = self.members.remove(node)?;
        if let Some(window) = &mut self.window {
            window.bury(node, &member);
        }
        let sums = self.gone.entry(node.version.clone()).or_default();
        sums.totals.add(&member.totals());
        sums.failures += member.node.totals().1;
        if self.gone.len() > GONE_KEPT {
            let present: BTreeSet<_> = self.members.keys().map(|node| &node.version).collect();
            let oldest = self.gone.keys().find(|version| !present.contains(version)).cloned();
            oldest.and_then(|version| self.gone.remove(&version));
        }
        let failed = member.prober.report().filter(|report| !report.passed);
        if let Some(report) = failed {
            self.change.failed.insert(node.address.clone(), report);
        }
        Some(member)
    }
}

/// What a service's settings ask of its nodes.
pub(super) fn wanted(settings: &config::Service) -> Wanted {
    Wanted {
        release: settings.release.clone(),
        nodes: settings.versions.get(&settings.release).cloned().unwrap_or_default(),
        strategy: settings.rollout.strategy,
        keep: settings.rollout.keep,
        deadline: settings.rollout.deadline,
        serve_when_all_down: settings.health.all_down == config::AllDown::Serve,
        slow_start: settings.balance.slow_start,
        canary: Canary {
            steps: settings.rollout.steps.clone(),
            guarded: settings.rollout.guard.is_on(),
            asked: !settings.rollout.guard.judges.is_empty(),
            extend: settings.rollout.guard.extend,
            pass_if_too_few: settings.rollout.guard.too_few == TooFew::Pass,
        },
        control: settings.rollout.control,
        surge: settings.rollout.surge,
        floor: settings.rollout.floor,
        ejection: Ejection {
            time: settings.eject.time,
            longest: settings.eject.max_time,
            most: Share((settings.eject.max_ejected * f64::from(Share::ALL.0)).round() as u32),
        },
    }
}

/// Whether `next` is another change than `last`, or the same one with other settings.
pub(super) fn is_new_change(last: Option<&Wanted>, next: &Wanted) -> bool {
    let set = |wanted: &Wanted| wanted.nodes.iter().cloned().collect::<BTreeSet<_>>();
    last.is_none_or(|last| last.release != next.release || set(last) != set(next))
}
