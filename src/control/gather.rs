//! Gathers what `/metrics` tells.
//!
//! Ten thousand services are some hundred thousand counters. They are read a few services at a time, between one turn of the
//! loop and the next, so that no probe, no edit and no drain waits for a scrape. Whatever asks meanwhile is answered by the next gathering.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::controller::Controller;
use super::entry::Entry;
use crate::api::{
    Measures, NodeMeasures, NodeTotals, Outcome, Reply, ServiceMeasures, VersionMeasures, WorkerMeasures,
};
use crate::model::{NodeState, ServiceName, Share, Version, WorkKind};
use crate::rollout::Verdict;

/// Services that are read at once.
const AT_ONCE: usize = 64;

/// Nodes that are told one by one, over all services: a bound on what a scrape can become.
const NODES: usize = 10_000;

/// How changes end, in the order in which they are counted.
const OUTCOMES: [(Outcome, &str); 5] = [
    (Outcome::Done, "done"),
    (Outcome::DoneWithCuts, "done-with-cuts"),
    (Outcome::Unhealthy, "unhealthy"),
    (Outcome::RolledBack, "rolled-back"),
    (Outcome::Superseded, "superseded"),
];

const VERDICTS: [&str; 4] = ["pass", "hold", "fail", "too_few"];

/// What the control plane itself counts of a service.
#[derive(Debug, Default)]
pub(super) struct Counted {
    ended: [u64; OUTCOMES.len()],
    /// Passed, held, failed, too few requests to say.
    verdicts: [u64; VERDICTS.len()],
    drained: u64,
    /// By [`WorkKind::ALL`].
    cut: [u64; WorkKind::ALL.len()],
}

impl Counted {
    /// A change ended.
    pub(super) fn ended(&mut self, outcome: Outcome) {
        if let Some(place) = OUTCOMES.iter().position(|(known, _)| *known == outcome) {
            self.ended[place] += 1;
        }
    }

    /// The guard changed its mind.
    pub(super) fn judged(&mut self, verdict: &Verdict) {
        self.verdicts[match verdict {
            Verdict::Pass => 0,
            Verdict::Hold(_) => 1,
            Verdict::Fail(_) => 2,
            Verdict::TooFew => 3,
        }] += 1;
    }

    /// A node was drained, and this was cut.
    pub(super) fn drained(&mut self, cut: impl Iterator<Item = WorkKind>) {
        self.drained += 1;
        for kind in cut {
            self.cut[kind as usize] += 1;
        }
    }
}

/// Who asked, and what has been gathered for them.
#[derive(Debug, Default)]
pub(super) struct Scrapes {
    /// They wait for the next gathering.
    waiting: Vec<oneshot::Sender<Reply>>,
    under_way: Option<Gathering>,
}

#[derive(Debug)]
struct Gathering {
    measures: Measures,
    /// The last service that was read.
    last: Option<ServiceName>,
    /// Nodes that may still be told.
    nodes: usize,
    replies: Vec<oneshot::Sender<Reply>>,
}

impl Scrapes {
    /// Somebody asks.
    pub(super) fn ask(&mut self, reply: oneshot::Sender<Reply>) {
        self.waiting.push(reply);
    }

    /// Whether there is something to do.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way.is_some() || !self.waiting.is_empty()
    }
}

impl Controller {
    /// Reads some more services, if somebody asked; and answers after the last.
    pub(super) fn gather(&mut self) {
        if !self.scrapes.is_busy() {
            return;
        }
        let mut gathering = match self.scrapes.under_way.take() {
            Some(gathering) => gathering,
            None => Gathering {
                measures: self.common_measures(),
                last: None,
                nodes: NODES,
                replies: std::mem::take(&mut self.scrapes.waiting),
            },
        };
        let detail = self.config.as_ref().map(|config| config.metrics.clone()).unwrap_or_default();
        if detail.services {
            let from = gathering.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut read = 0;
            let mut last = None;
            for (name, entry) in self.entries.range::<ServiceName, _>((from, Bound::Unbounded)).take(AT_ONCE) {
                let mut service = service(entry);
                if detail.nodes {
                    let nodes = nodes(entry);
                    if nodes.len() <= gathering.nodes {
                        gathering.nodes -= nodes.len();
                        service.nodes = nodes;
                    } else {
                        gathering.measures.nodes_left_out += nodes.len();
                    }
                }
                gathering.measures.services.push(service);
                read += 1;
                last = Some(name.clone());
            }
            if read == AT_ONCE {
                gathering.last = last;
                self.scrapes.under_way = Some(gathering);
                return;
            }
        }
        let measures = Arc::new(gathering.measures);
        for reply in gathering.replies {
            // Who went away needs no answer.
            let _ = reply.send(Reply::Measures(Arc::clone(&measures)));
        }
    }

    fn common_measures(&self) -> Measures {
        let mut unrouted = [0; 5];
        let workers = self.pool.stats().iter().map(|stats| {
            for (sum, count) in unrouted.iter_mut().zip(&stats.unrouted) {
                *sum += count.get();
            }
            let ended = stats.ended.get();
            let accepted = stats.accepted.get();
            WorkerMeasures {
                accepted,
                refused: stats.refused.get(),
                open: accepted.saturating_sub(ended),
                handshakes: stats.handshakes.get(),
                resumed: stats.handshakes_resumed.get(),
                handshakes_failed: stats.handshakes_failed.get(),
                requests: stats.requests.get(),
                failed: stats.failed.get(),
                abusive: stats.abusive.get(),
            }
        });
        let workers = workers.collect();
        Measures {
            now: self.clock.now(),
            started: self.started,
            generation: self.pool.generation(),
            ready: *self.ready.borrow(),
            config_ok: !self.files.stale,
            config_loaded: self.files.loaded,
            problems: self.files.problems.len(),
            journal_ok: self.writer.as_ref().is_none_or(|writer| writer.last_error().is_none()),
            certificates: self.held.status().list,
            listeners: self.listeners.report(),
            workers,
            unrouted,
            service_count: self.entries.len(),
            services: Vec::new(),
            access_log: self.access_log.counts(),
            access_log_ok: !self.access_log.is_failing(),
            spans: self.spans.counts(),
            nodes_left_out: 0,
        }
    }
}

fn service(entry: &Entry) -> ServiceMeasures {
    let mut classes = [0; 5];
    let (mut failed, mut retried) = (0, 0);
    for shard in entry.stats.shards() {
        for (sum, count) in classes.iter_mut().zip(&shard.classes) {
            *sum += count.get();
        }
        failed += shard.failed.get();
        retried += shard.retried.get();
    }
    let (held, held_in_vain) = entry.hold.totals();
    let counted = &entry.counted;
    ServiceMeasures {
        name: entry.name().clone(),
        phase: entry.machine.phase().as_str(),
        all_down: entry.told_all_down,
        halted: entry.halt.as_ref().map(|halt| halt.kind),
        refused: entry.machine.refused().len(),
        classes,
        failed,
        retried,
        waiting: entry.hold.waiting(),
        held,
        held_in_vain,
        ended: OUTCOMES.iter().zip(counted.ended).map(|((_, word), count)| (*word, count)).collect(),
        verdicts: std::array::from_fn(|place| (VERDICTS[place], counted.verdicts[place])),
        drained: counted.drained,
        cut: std::array::from_fn(|place| (WorkKind::ALL[place].as_str(), counted.cut[place])),
        versions: versions(entry),
        nodes: Vec::new(),
    }
}

fn versions(entry: &Entry) -> Vec<VersionMeasures> {
    let mut versions: BTreeMap<&Version, VersionMeasures> = BTreeMap::new();
    let new = |version: &Version| {
        let share = entry.shares.iter().find(|(known, _)| known == version).map_or(Share::NONE, |(_, share)| *share);
        VersionMeasures {
            version: version.clone(),
            share: share.percent() / 100.0,
            in_flight: 0,
            states: [0; NodeState::ALL.len()],
            connections: 0,
            totals: entry.gone.get(version).map(|gone| gone.totals.clone()).unwrap_or_default(),
        }
    };
    // Versions without a node are told as long as they are remembered, so that no counter ends while somebody looks.
    for version in entry.gone.keys().chain([&entry.settings.release]) {
        versions.entry(version).or_insert_with(|| new(version));
    }
    for node in entry.machine.nodes() {
        let sums = versions.entry(&node.node.version).or_insert_with(|| new(&node.node.version));
        if let Some(place) = NodeState::ALL.iter().position(|state| *state == node.state) {
            sums.states[place] += 1;
        }
    }
    for (node, member) in &entry.members {
        let sums = versions.entry(&node.version).or_insert_with(|| new(&node.version));
        sums.in_flight += member.node.inflight();
        sums.connections += member.node.connections();
        sums.totals.add(&member.totals());
    }
    versions.into_values().collect()
}

fn nodes(entry: &Entry) -> Vec<NodeMeasures> {
    let node = |node: &crate::rollout::NodeEntry| NodeMeasures {
        version: node.node.version.clone(),
        address: node.node.address.clone(),
        state: node.state,
        in_flight: entry.members.get(&node.node).map_or(0, |member| member.node.inflight()),
    };
    entry.machine.nodes().map(node).collect()
}

/// Counters of nodes that have left.
#[derive(Clone, Debug, Default)]
pub(super) struct Gone {
    /// Failures as `status` tells them.
    pub(super) failures: u64,
    pub(super) totals: NodeTotals,
}
