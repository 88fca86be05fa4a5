//! Each rule of a rollout, as a short story with a name; and what the stories are told with.

mod blue_green;
mod canary;
mod nodes;
mod refusal;
mod rolling;
mod setbacks;

use std::time::Duration;

use sluicegate::config::{Control, Strategy};
use sluicegate::model::{NodeState, Share, Timestamp, Version};
use sluicegate::rollout::{Action, Canary, Ejection, Ending, Event, Machine, NodeRef, Wanted};

/// A machine whose outside does at once what it is told: joins, drains and forgets are carried out faithfully; health is told by
/// the test.
struct Service {
    machine: Machine,
    now: Timestamp,
    log: Vec<Action>,
    drains_finish: bool,
}

fn wanted(release: &str, nodes: &[&str]) -> Wanted {
    Wanted {
        release: if release == "-" { Version::unnamed() } else { release.into() },
        nodes: nodes.iter().map(|&node| node.into()).collect(),
        strategy: Strategy::Rolling,
        keep: Duration::from_mins(5),
        deadline: Duration::from_mins(1),
        serve_when_all_down: true,
        slow_start: Duration::ZERO,
        ejection: Ejection { time: Duration::from_secs(10), longest: Duration::from_mins(5), most: Share(5_000) },
        canary: Canary::default(),
        control: Control::Run,
        surge: None,
        floor: None,
    }
}

fn blue_green(release: &str, nodes: &[&str]) -> Wanted {
    Wanted { strategy: Strategy::BlueGreen, ..wanted(release, nodes) }
}

impl Service {
    fn new() -> Self {
        Self { machine: Machine::new(), now: Timestamp(1_000_000), log: Vec::new(), drains_finish: true }
    }

    /// A service that serves `wanted` on healthy nodes, with an empty log.
    fn serving(wanted: Wanted) -> Self {
        let mut service = Self::new();
        let nodes = wanted.nodes.clone();
        service.tell(Event::Wanted(wanted));
        for node in nodes {
            service.health(node.as_str(), true);
        }
        assert_eq!(service.endings(), [Ending::Done]);
        service.log.clear();
        service
    }

    fn tell(&mut self, event: Event) {
        let actions = self.machine.handle(event, self.now);
        self.log.extend(actions.iter().cloned());
        for action in actions {
            if let (Action::Drain(node), true) = (action, self.drains_finish) {
                self.tell(Event::Drained { node });
            }
        }
    }

    fn want(&mut self, wanted: Wanted) {
        self.tell(Event::Wanted(wanted));
    }

    /// The newest stay of this address.
    fn node(&self, address: &str) -> NodeRef {
        let newest = self.machine.nodes().filter(|entry| entry.node.address.as_str() == address).last();
        newest.unwrap_or_else(|| panic!("{address} is not known")).node.clone()
    }

    fn health(&mut self, address: &str, healthy: bool) {
        let detail = if healthy { "status 200" } else { "status 503" };
        self.tell(Event::Health { node: self.node(address), healthy, detail: detail.into() });
    }

    fn drained(&mut self, address: &str) {
        let draining = |entry: &&sluicegate::rollout::NodeEntry| {
            entry.node.address.as_str() == address && entry.state == NodeState::Draining
        };
        let node = self.machine.nodes().find(draining).expect("a draining node").node.clone();
        self.tell(Event::Drained { node });
    }

    fn pass_time(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self.tell(Event::Tick);
    }

    fn hold(&mut self, address: &str, out: bool) {
        self.tell(Event::HeldOut { address: address.into(), out });
    }

    /// Addresses that get traffic, sorted.
    fn split(&self) -> Vec<String> {
        let split = self.machine.split();
        let mut nodes: Vec<String> =
            split.slices.iter().flat_map(|slice| &slice.nodes).map(|node| node.address.to_string()).collect();
        nodes.sort();
        nodes
    }

    fn state(&self, address: &str) -> NodeState {
        let node = self.node(address);
        self.machine.nodes().find(|entry| entry.node == node).expect("known").state
    }

    fn endings(&self) -> Vec<Ending> {
        let ending = |action: &Action| match action {
            Action::Ended { ending, .. } => Some(*ending),
            _ => None,
        };
        self.log.iter().filter_map(ending).collect()
    }

    fn publications(&self) -> usize {
        self.log.iter().filter(|action| matches!(action, Action::Publish(_))).count()
    }

    fn last_reason(&self) -> String {
        let reason = |action: &Action| match action {
            Action::Ended { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        self.log.iter().filter_map(reason).next_back().expect("an ending")
    }

    fn known(&self) -> Vec<String> {
        self.machine.nodes().map(|entry| entry.node.address.to_string()).collect()
    }
}
