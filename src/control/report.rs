//! The state of everything as operators see it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use xxhash_rust::xxh3::xxh3_64;

use super::controller::Controller;
use super::entry::{Draining, Entry};
use crate::api::{
    ConfigStatus, Load, NodeStatus, NodeTotals, RolloutStatus, ServiceStatus, Status, StepStatus, TrialStatus,
    VersionStatus, class_of,
};
use crate::config;
use crate::model::{Holder, NodeState, ServiceName, Share, Timestamp, Version};
use crate::pool::{Command, Pool};
use crate::rollout::NodeEntry;

/// Version of the document's shape.
const SCHEMA: u32 = 1;

/// What holds one node open is told up to so many pieces.
const HOLDERS: usize = 20;

/// A worker that does not answer within this is passed over.
const HOLDERS_WITHIN: Duration = Duration::from_millis(250);

impl Controller {
    /// The state of everything, or of one service. What holds draining nodes open is as it was when last asked.
    pub(super) fn status(&self, only: Option<&ServiceName>) -> Status {
        let mut services: Vec<_> = match only {
            Some(name) => self.entries.get(name).map(service).into_iter().collect(),
            None => self.entries.values().map(service).collect(),
        };
        let journal = self.writer.as_ref().and_then(|writer| writer.last_error());
        if let (Some(writer), true) = (&self.writer, journal.is_some()) {
            for service in &mut services {
                service.unsaved = writer.error_of(&service.name).map(|error| error.to_string());
            }
        }
        Status {
            schema: SCHEMA,
            sluice: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started: self.started,
            now: self.clock.now(),
            generation: self.pool.generation(),
            ready: *self.ready.borrow(),
            load: self.load(),
            config: self.config_status(),
            journal,
            listeners: self.listeners.report(),
            certificates: self.held.status(),
            services,
        }
    }

    fn load(&self) -> Load {
        let mut load = Load::default();
        for worker in self.pool.stats() {
            // What has ended is read first, so that there are never fewer than none.
            let ended = worker.ended.get();
            load.connections += worker.accepted.get().saturating_sub(ended);
            load.requests += worker.requests.get();
            load.errors += worker.unrouted[class_of(500)].get();
        }
        for shard in self.entries.values().flat_map(|entry| entry.stats.shards()) {
            load.errors += shard.classes[class_of(500)].get();
        }
        load
    }

    pub(super) fn config_status(&self) -> ConfigStatus {
        self.files.clone()
    }

    /// Draining nodes of the reported services: where each stands in the report, and its key in the pool.
    pub(super) fn draining(&self, status: &Status) -> Vec<(usize, usize, u64)> {
        let mut found = Vec::new();
        for (at, service) in status.services.iter().enumerate() {
            if !service.nodes.iter().any(|node| node.state == NodeState::Draining) {
                continue;
            }
            let Some(entry) = self.entries.get(&service.name) else {
                continue;
            };
            // In the order of the machine, as in the report.
            for (place, node) in entry.machine.nodes().enumerate() {
                let member = entry.members.get(&node.node);
                if let Some(member) = member.filter(|member| member.draining == Draining::Running) {
                    found.push((at, place, member.node.key));
                }
            }
        }
        found
    }
}

/// One service. What holds its draining nodes open is as it was when last asked.
pub(super) fn service(entry: &Entry) -> ServiceStatus {
    let machine = &entry.machine;
    let split = machine.split();
    let nodes: Vec<NodeStatus> = machine
        .nodes()
        .map(|node| {
            let member = entry.members.get(&node.node);
            let (requests, failures) = member.map(|member| member.node.totals()).unwrap_or_default();
            let draining = node.state == NodeState::Draining;
            NodeStatus {
                version: node.node.version.clone(),
                address: node.node.address.clone(),
                state: node.state,
                since: node.since,
                reason: node.reason.clone(),
                probe: member.and_then(|member| member.prober.report()),
                weight: member.map_or(1, |member| member.weight),
                until: until(entry, node),
                in_flight: member.map_or(0, |member| member.node.inflight()),
                requests,
                failures,
                holders: member.filter(|_| draining).map(|member| member.holders.clone()).unwrap_or_default(),
            }
        })
        .collect();
    let mut versions: BTreeMap<&Version, VersionStatus> = BTreeMap::new();
    let gone = |version: &Version, count: fn(&NodeTotals) -> u64| {
        entry.gone.get(version).map_or(0, |gone| count(&gone.totals))
    };
    let version = |version: &Version| VersionStatus {
        version: version.clone(),
        // As published: by weight and warmth, which the split does not know.
        share: entry
            .shares
            .iter()
            .find(|(known, _)| known == version)
            .map_or(Share::NONE, |(_, share)| *share)
            .percent(),
        serving: split.slices.iter().filter(|slice| slice.version == *version).map(|slice| slice.nodes.len()).sum(),
        nodes: 0,
        requests: gone(version, |totals| totals.requests),
        failures: entry.gone.get(version).map_or(0, |gone| gone.failures),
        shielded: gone(version, |totals| totals.shielded),
        shadowed: gone(version, |totals| totals.shadowed),
        shadow_differed: gone(version, |totals| totals.shadow_differed),
    };
    // Versions without a node are told only while something is still meant with them.
    let rollout = machine.rollout();
    let ways = rollout.iter().flat_map(|rollout| rollout.from.iter().chain([&rollout.to]));
    for known in machine.wanted().map(|wanted| &wanted.release).into_iter().chain(ways) {
        versions.entry(known).or_insert_with(|| version(known));
    }
    for node in &nodes {
        let sums = versions.entry(&node.version).or_insert_with(|| version(&node.version));
        sums.nodes += 1;
        sums.requests += node.requests;
        sums.failures += node.failures;
    }
    for (node, member) in &entry.members {
        let (shielded, shadowed, differed) = member.node.trial_counts();
        if let Some(sums) = versions.get_mut(&node.version) {
            sums.shielded += shielded;
            sums.shadowed += shadowed;
            sums.shadow_differed += differed;
        }
    }
    let versions = versions.into_values().collect();
    let (held, held_in_vain) = entry.hold.totals();
    ServiceStatus {
        name: entry.name().clone(),
        source: entry.settings.source.clone(),
        release: entry.settings.release.clone(),
        change: entry.number,
        phase: machine.phase().as_str().into(),
        reason: machine.reason().map(Into::into),
        all_down: split.all_down,
        halt: entry.halt.clone(),
        tag: tag(entry),
        waiting: entry.hold.waiting(),
        held,
        held_in_vain,
        rollout: rollout.map(|rollout| RolloutStatus {
            from: rollout.from,
            to: rollout.to,
            strategy: rollout.strategy.as_str().into(),
            started: rollout.started,
            ready: rollout.ready,
            wanted: rollout.wanted,
            deadline: rollout.deadline,
            trial: trial(entry),
        }),
        versions,
        nodes,
        refused: machine.refused().to_vec(),
        unsaved: None,
    }
}

/// Of everything that was decided, by whomever; not of counters, and not of the nodes' health.
pub(super) fn tag(entry: &Entry) -> String {
    let machine = &entry.machine;
    let trial = machine.trial().map(|trial| (trial.share, trial.full));
    let refused: Vec<_> = machine.refused().iter().map(|refused| &refused.version).collect();
    let held: Vec<_> = machine.held().collect();
    let steered = entry.change.steered.len();
    let decided = (entry.number, machine.phase(), trial, machine.paused(), refused, held, &entry.halt, steered);
    format!("{:016x}", xxh3_64(format!("{decided:?}").as_bytes()))
}

/// The version on trial.
fn trial(entry: &Entry) -> Option<TrialStatus> {
    let trial = entry.machine.trial()?;
    let steps = &entry.settings.rollout.steps;
    let told = |step: &config::Step| StepStatus {
        share: step.share.percent(),
        hold_ms: step.hold.map(|hold| u64::try_from(hold.as_millis()).unwrap_or(u64::MAX)),
    };
    Some(TrialStatus {
        share: trial.share.percent(),
        step: steps.iter().filter(|step| step.share <= trial.share).count(),
        steps: steps.iter().map(told).collect(),
        since: trial.since,
        paused: entry.machine.paused(),
        promoted: trial.full,
        evidence: super::trial::evidence(entry),
    })
}

/// When a node that is left out comes back at the latest, or one that warms up is warm.
fn until(entry: &Entry, node: &NodeEntry) -> Option<Timestamp> {
    match node.state {
        NodeState::Warming => Some(node.since.plus(entry.settings.balance.slow_start)),
        NodeState::Ejected if node.healthy => node.setback.map(|setback| setback.ends()),
        _ => None,
    }
}

/// Asks the workers what holds a node open; oldest first. Always ends, soon.
pub(super) async fn holders(pool: &Pool, node: u64) -> Vec<Holder> {
    let end = Instant::now() + HOLDERS_WITHIN;
    let answers = (0..pool.workers()).filter_map(|worker| {
        let (reply, answer) = oneshot::channel();
        let command = Command::Holders { node, limit: HOLDERS, reply };
        pool.tell_one(worker, command).then(|| timeout_at(end, answer))
    });
    let answers: Vec<_> = answers.collect();
    let mut all: Vec<Holder> = join_all(answers).await.into_iter().flatten().flatten().flatten().collect();
    all.sort_by_key(|holder| std::cmp::Reverse(holder.age_ms));
    all.truncate(HOLDERS);
    all
}
