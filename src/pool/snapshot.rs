//! What is serving, at one moment: immutable, published whole.

use std::sync::Arc;

use super::access_log::AccessLog;
use super::balance::{self, ONE, Weights};
use super::cohort::CohortKey;
use super::halt::Halt;
use super::hold::Hold;
use super::node::Node;
use super::ring::Ring;
use super::router::Router;
use super::spans::Spans;
use super::stats::ServiceStats;
use crate::config::{self, Policy};
use crate::model::{Share, Version};

/// Everything a worker needs to answer a request. One pointer, swapped at once.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows with every publication.
    pub generation: u64,
    /// From host and path to an index into `services`. Shared between snapshots while no route changes.
    pub router: Arc<Router>,
    /// The services, in the order of their names; an edit to one leaves the others' `Arc`s as they are.
    pub services: Vec<Arc<ServiceView>>,
    /// What holds for every request.
    pub edge: Arc<Edge>,
}

/// What the configuration says about clients, whatever the service.
#[derive(Debug, Default)]
pub struct Edge {
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Bounds on what clients may use.
    pub limits: config::Limits,
    /// What clients see when something goes wrong and no service says otherwise.
    pub errors: Option<Arc<config::Errors>>,
    /// What the cookies of cohorts are signed with, where no service has a key of its own; none: they are not set.
    pub cohort_key: Option<Arc<CohortKey>>,
    /// Whether some listener tells nodes who a client is by its certificate: then no client may say so itself.
    pub forwards_clients: bool,
    /// Where a line for each request goes, if it is wanted.
    pub access_log: Option<Arc<AccessLog>>,
    /// Where requests are told as spans, if they are.
    pub spans: Option<Arc<Spans>>,
    /// How requests are followed from hop to hop; none if there is nothing to do but to pass on what is well formed.
    pub tracing: Option<Box<config::Tracing>>,
}

/// One service as it serves.
#[derive(Debug)]
pub struct ServiceView {
    /// Its settings: timeouts, retries, connections.
    pub settings: Arc<config::Service>,
    /// How traffic is divided; empty if no node may get any.
    pub slices: Vec<Slice>,
    /// True if every node is unhealthy and all are in here regardless.
    pub all_down: bool,
    /// Where in `slices` the version is that is on trial beside the one before it: the last, with a share that may be nothing.
    pub trial: Option<usize>,
    /// What an operator did to its traffic; none if it goes its way.
    pub halt: Option<Arc<Halt>>,
    /// Where its requests wait while no node is ready. The same one for as long as the service lives.
    pub hold: Arc<Hold>,
    /// What came of its requests. The same one for as long as the service lives.
    pub stats: Arc<ServiceStats>,
}

/// One version's part of the traffic.
#[derive(Debug)]
pub struct Slice {
    /// The version.
    pub version: Version,
    /// Its part; all shares of a service sum to [`Share::ALL`].
    pub share: Share,
    /// Its nodes; never empty.
    pub nodes: Vec<Arc<Node>>,
    /// What the policy needs to know beside; none for nodes of equal weight under the default policy.
    plan: Option<Box<Plan>>,
}

/// What a policy needs to choose among the nodes of a slice.
#[derive(Debug)]
struct Plan {
    /// None if all are alike.
    weights: Option<Weights>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    LeastOfTwo,
    /// One round, as places in the list of nodes; empty if all are alike, for then the list is the round.
    Round(Box<[u32]>),
    /// With what [`config::Policy::Hash`] says of spilling.
    Ring(Ring, Option<f64>),
}

/// What a choice depends on, beside the nodes.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Where the request stands in the division between versions, of 2^32.
    pub point: u32,
    /// Fresh.
    pub random: u64,
    /// The hash of the request's key, if the policy asks for one and the request has it.
    pub key: Option<u64>,
    /// Which versions may have it.
    pub aim: Aim,
}

/// Which versions may have a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aim {
    /// That of its point; another one if that has no usable node.
    #[default]
    Shares,
    /// The version on trial, whatever its share; another one if that has no usable node.
    Preview,
    /// Any but the version on trial.
    NotTrial,
    /// The version on trial and no other.
    OnlyTrial,
}

impl Turn {
    /// For a request that goes by the shares; `turn` counts this worker's requests to the service.
    pub fn new(turn: u32, random: u64, key: Option<u64>) -> Self {
        Self { point: Self::point(turn, key), random, key, aim: Aim::Shares }
    }

    /// Where a request stands by its turn. Whoever has a key stays with one version as long as its share allows: a share that
    /// grows moves keys one way only.
    pub fn point(turn: u32, key: Option<u64>) -> u32 {
        key.map_or_else(|| balance::point_of(turn), |key| key as u32)
    }
}

impl Slice {
    /// One version's part: its nodes, each with its weight in units of [`balance::ONE`].
    pub fn new(version: Version, share: Share, nodes: Vec<(Arc<Node>, u32)>, policy: &Policy) -> Self {
        let (nodes, weights): (Vec<_>, Vec<_>) = nodes.into_iter().unzip();
        let ring = || Ring::new(nodes.iter().map(|node| node.id.address.as_str()).zip(weights.iter().copied()), ONE);
        let known = Weights::new(&weights);
        let way = match policy {
            // With one node there is nothing to choose, and ten thousand such services must not cost anything.
            _ if nodes.len() < 2 => Way::LeastOfTwo,
            Policy::LeastRequest => Way::LeastOfTwo,
            Policy::RoundRobin => Way::Round(known.as_ref().map(balance::round).unwrap_or_default()),
            Policy::Hash { spill, .. } => Way::Ring(ring(), *spill),
        };
        let plan = match (&way, known) {
            (Way::LeastOfTwo, None) => None,
            (_, weights) => Some(Box::new(Plan { weights, way })),
        };
        Self { version, share, nodes, plan }
    }

    /// `rotation` counts this worker's requests to the slice, if it is asked.
    fn choose(
        &self,
        turn: Turn,
        rotation: impl FnOnce() -> u32,
        load: &impl Fn(&Node) -> usize,
        usable: impl Fn(&Node) -> bool,
    ) -> Option<&Arc<Node>> {
        let weights = self.plan.as_ref().and_then(|plan| plan.weights.as_ref());
        match (self.plan.as_ref().map(|plan| &plan.way), turn.key) {
            (Some(Way::Ring(ring, spill)), Some(key)) => {
                let in_turn = || ring.at(key).map(|index| &self.nodes[index]);
                let Some(spill) = spill else {
                    return in_turn().find(|node| usable(node));
                };
                self.unloaded(ring, key, *spill, load, &usable).or_else(|| in_turn().find(|node| usable(node)))
            }
            (Some(Way::Round(round)), _) => {
                let steps = if round.is_empty() { self.nodes.len() } else { round.len() };
                let first = rotation() as usize % steps;
                let places = (first..steps).chain(0..first);
                let mut nodes = places.map(|at| &self.nodes[round.get(at).map_or(at, |place| *place as usize)]);
                nodes.find(|node| usable(node))
            }
            _ => balance::least_of_two(&self.nodes, weights, turn.random, load, usable),
        }
    }

    /// The first node on the ring that has not much more than its part of the work (consistent hashing with bounded loads).
    fn unloaded(
        &self,
        ring: &Ring,
        key: u64,
        spill: f64,
        load: &impl Fn(&Node) -> usize,
        usable: &impl Fn(&Node) -> bool,
    ) -> Option<&Arc<Node>> {
        let weights = self.plan.as_ref().and_then(|plan| plan.weights.as_ref());
        let mut average = None;
        let index = ring.at(key).find(|index| {
            let node = &self.nodes[*index];
            let work = load(node);
            usable(node)
                && (work == 0 || {
                    // Asked only if it matters, because it means to look at every node.
                    let average = *average.get_or_insert_with(|| {
                        let all: usize = self.nodes.iter().map(|node| load(node)).sum();
                        let parts = weights.map_or(self.nodes.len() as u64, Weights::total);
                        (all + 1) as f64 / parts as f64
                    });
                    let part = weights.map_or(1, |weights| weights.of(*index));
                    (work as f64) < ((1.0 + spill) * average * part as f64).ceil()
                })
        })?;
        self.nodes.get(index)
    }
}

impl ServiceView {
    /// Chooses a node: a version by its share and the aim, then a node of it by the policy, among those that are not `avoided`.
    /// If all are avoided, avoiding is given up for those not `excluded` (tried already, closed, or full).
    ///
    /// `rotation` counts this worker's requests to a slice, `load` is this worker's count for a node.
    pub fn choose(
        &self,
        turn: Turn,
        rotation: impl Fn(usize) -> u32,
        load: impl Fn(&Node) -> usize,
        avoided: impl Fn(&Node) -> bool,
        excluded: impl Fn(&Node) -> bool,
    ) -> Option<&Arc<Node>> {
        let mut first = balance::slice_at(turn.point, self.slices.iter().map(|slice| slice.share));
        if let (Aim::Preview | Aim::OnlyTrial, Some(trial)) = (turn.aim, self.trial) {
            first = trial;
        }
        let usable = |node: &Node| !avoided(node) && !excluded(node);
        let chosen = self.slices.get(first)?;
        if self.allows(turn.aim, first)
            && let Some(node) = chosen.choose(turn, || rotation(first), &load, usable)
        {
            return Some(node);
        }
        // Another version is better than no answer. One without a share is asked when there is nothing else at all.
        let others = |shared: bool| {
            let order = (first..self.slices.len()).chain(0..first).map(|index| (index, &self.slices[index]));
            order.filter(move |(index, slice)| (slice.share != Share::NONE) == shared && self.allows(turn.aim, *index))
        };
        [true, false].into_iter().find_map(|shared| {
            let mut whole = others(shared);
            whole.find_map(|(index, slice)| slice.choose(turn, || rotation(index), &load, usable)).or_else(|| {
                others(shared)
                    .find_map(|(index, slice)| slice.choose(turn, || rotation(index), &load, |n| !excluded(n)))
            })
        })
    }

    fn allows(&self, aim: Aim, index: usize) -> bool {
        match aim {
            Aim::Shares | Aim::Preview => true,
            Aim::NotTrial => self.trial != Some(index),
            Aim::OnlyTrial => self.trial == Some(index),
        }
    }

    /// Whether this node is of the version on trial.
    pub fn is_on_trial(&self, node: &Node) -> bool {
        self.trial.and_then(|trial| self.slices.get(trial)).is_some_and(|slice| slice.version == node.id.version)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use super::*;
    use crate::config::HashBy;
    use crate::model::NodeId;
    use crate::pool::ring;

    fn slice(weights: &[u32], policy: &Policy) -> Slice {
        let node = |(index, weight): (usize, &u32)| {
            let address = format!("127.0.0.1:{}", 5000 + index);
            let id = NodeId { service: "s".into(), version: "v".into(), address: address.as_str().into() };
            (Node::new(id, 1), weight * ONE)
        };
        Slice::new("v".into(), Share::ALL, weights.iter().enumerate().map(node).collect(), policy)
    }

    fn by_key(number: u64) -> Turn {
        Turn::new(0, 7, Some(ring::hash(&number.to_le_bytes())))
    }

    #[test]
    fn a_node_with_much_more_than_its_part_passes_a_busy_key_on() {
        for (spill, weights) in [(0.25, &[1, 1, 1, 1][..]), (0.25, &[1, 3, 4]), (1.0, &[1, 1, 1])] {
            let slice = slice(weights, &Policy::Hash { by: HashBy::Client, spill: Some(spill) });
            let work: RefCell<HashMap<u64, usize>> = RefCell::default();
            let home = slice.choose(by_key(1), || 0, &|_| 0, |_| true).map(|node| node.key);
            let load = |node: &Node| work.borrow().get(&node.key).copied().unwrap_or(0);
            for number in 0..400 {
                let chosen = slice.choose(by_key(1), || 0, &load, |_| true).map(|node| node.key);
                if number == 0 {
                    assert_eq!(chosen, home, "its own node first");
                }
                *work.borrow_mut().entry(chosen.unwrap_or(0)).or_default() += 1;
            }
            let total: u32 = weights.iter().sum();
            for (node, weight) in slice.nodes.iter().zip(weights) {
                let most = (1.0 + spill) * 400.0 * f64::from(*weight) / f64::from(total);
                assert!(load(node) as f64 <= most.ceil(), "{} where {most} are the most", load(node));
            }
        }
    }

    #[test]
    fn a_key_keeps_its_node_without_spill_however_busy_that_is() {
        let slice = slice(&[1, 1, 1], &Policy::Hash { by: HashBy::Client, spill: None });
        for key in 0..50 {
            let home = slice.choose(by_key(key), || 0, &|_| 0, |_| true).map(|node| node.key);
            let busy = |node: &Node| if Some(node.key) == home { 1000 } else { 0 };
            assert_eq!(slice.choose(by_key(key), || 0, &busy, |_| true).map(|node| node.key), home);
            let next = slice.choose(by_key(key), || 0, &busy, |node| Some(node.key) != home).map(|node| node.key);
            assert!(next.is_some() && next != home, "the next one on the ring");
        }
    }

    #[test]
    fn one_node_and_the_usual_policy_cost_nothing_beside() {
        let hash = Policy::Hash { by: HashBy::Client, spill: Some(0.25) };
        assert!(slice(&[5], &hash).plan.is_none());
        assert!(slice(&[1, 1, 1], &Policy::LeastRequest).plan.is_none());
        assert!(slice(&[1, 2], &Policy::LeastRequest).plan.is_some());
    }

    #[test]
    fn a_growing_share_moves_keys_one_way_only() {
        let view = |first: u32| {
            let settings =
                "[[listener]]\nname = \"h\"\nbind = \"127.0.0.1:0\"\n[service.s]\nmatch = \"*\"\nnodes = [\"a:1\"]";
            let config = config::load_str(settings, std::path::Path::new("t.toml")).config.expect("valid");
            let settings = Arc::clone(config.services.values().next().expect("a service"));
            let policy = Policy::Hash { by: HashBy::Client, spill: None };
            let part = |version: &str, share| {
                let mut slice = slice(&[1, 1], &policy);
                (slice.version, slice.share) = (version.into(), Share(share));
                slice
            };
            let slices = vec![part("v1", first), part("v2", 10_000 - first)];
            ServiceView {
                settings,
                slices,
                all_down: false,
                trial: None,
                halt: None,
                hold: Arc::default(),
                stats: Arc::new(ServiceStats::new(1)),
            }
        };
        let version = |view: &ServiceView, key| {
            let node = view.choose(by_key(key), |_| 0, |_| 0, |_| false, |_| false).map(|node| node.key);
            view.slices[1].nodes.iter().any(|known| Some(known.key) == node)
        };
        let mut before = view(10_000);
        for first in [7_500, 5_000, 2_500, 0] {
            let after = view(first);
            for key in 0..200 {
                assert!(!version(&before, key) || version(&after, key), "key {key} went back");
            }
            before = after;
        }
        assert!((0..200).all(|key| version(&before, key)));
    }
}
