//! Each rule of a rollout, as a short story with a name.

use std::time::Duration;

use sluicegate::config::Strategy;
use sluicegate::model::{NodeAddress, NodeState, Timestamp, Version};
use sluicegate::rollout::{Action, Ending, Event, Machine, NodeRef, Phase, Wanted};

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
        release: if release == "-" {
            Version::unnamed()
        } else {
            release.into()
        },
        nodes: nodes.iter().map(|&node| node.into()).collect(),
        strategy: Strategy::Rolling,
        keep: Duration::from_secs(300),
        deadline: Duration::from_secs(60),
        serve_when_all_down: true,
    }
}

fn blue_green(release: &str, nodes: &[&str]) -> Wanted {
    Wanted {
        strategy: Strategy::BlueGreen,
        ..wanted(release, nodes)
    }
}

impl Service {
    fn new() -> Self {
        Self {
            machine: Machine::new(),
            now: Timestamp(1_000_000),
            log: Vec::new(),
            drains_finish: true,
        }
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
        let newest = self
            .machine
            .nodes()
            .filter(|entry| entry.node.address.as_str() == address)
            .last();
        newest
            .unwrap_or_else(|| panic!("{address} is not known"))
            .node
            .clone()
    }

    fn health(&mut self, address: &str, healthy: bool) {
        let detail = if healthy { "status 200" } else { "status 503" };
        self.tell(Event::Health {
            node: self.node(address),
            healthy,
            detail: detail.into(),
        });
    }

    fn drained(&mut self, address: &str) {
        let draining = |entry: &&sluicegate::rollout::NodeEntry| {
            entry.node.address.as_str() == address && entry.state == NodeState::Draining
        };
        let node = self
            .machine
            .nodes()
            .find(draining)
            .expect("a draining node")
            .node
            .clone();
        self.tell(Event::Drained { node });
    }

    fn pass_time(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self.tell(Event::Tick);
    }

    fn hold(&mut self, address: &str, out: bool) {
        self.tell(Event::HeldOut {
            address: address.into(),
            out,
        });
    }

    /// Addresses that get traffic, sorted.
    fn split(&self) -> Vec<String> {
        let split = self.machine.split();
        let mut nodes: Vec<String> = split
            .slices
            .iter()
            .flat_map(|slice| &slice.nodes)
            .map(|node| node.address.to_string())
            .collect();
        nodes.sort();
        nodes
    }

    fn state(&self, address: &str) -> NodeState {
        let node = self.node(address);
        self.machine
            .nodes()
            .find(|entry| entry.node == node)
            .expect("known")
            .state
    }

    fn endings(&self) -> Vec<Ending> {
        let ending = |action: &Action| match action {
            Action::Ended { ending, .. } => Some(*ending),
            _ => None,
        };
        self.log.iter().filter_map(ending).collect()
    }

    fn publications(&self) -> usize {
        self.log
            .iter()
            .filter(|action| matches!(action, Action::Publish(_)))
            .count()
    }

    fn last_reason(&self) -> String {
        let reason = |action: &Action| match action {
            Action::Ended { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        self.log
            .iter()
            .filter_map(reason)
            .next_back()
            .expect("an ending")
    }

    fn known(&self) -> Vec<String> {
        self.machine
            .nodes()
            .map(|entry| entry.node.address.to_string())
            .collect()
    }
}

#[test]
fn a_node_gets_nothing_before_it_passed() {
    let mut service = Service::new();
    service.want(wanted("v1", &["a", "b"]));
    assert_eq!(service.split(), [""; 0]);
    assert_eq!(service.machine.phase(), Phase::WaitingForHealth);
    service.health("a", false);
    assert_eq!(service.split(), [""; 0]);
}

#[test]
fn at_a_first_deploy_each_node_serves_as_soon_as_it_is_healthy() {
    for wanted in [wanted("v1", &["a", "b"]), blue_green("v1", &["a", "b"])] {
        let mut service = Service::new();
        service.want(wanted);
        service.health("b", true);
        assert_eq!(service.split(), ["b"]);
        assert!(service.endings().is_empty());
        service.health("a", true);
        assert_eq!(service.split(), ["a", "b"]);
        assert_eq!(service.endings(), [Ending::Done]);
        assert_eq!(service.machine.phase(), Phase::Settled);
    }
}

#[test]
fn a_first_deploy_is_never_refused_and_may_succeed_late() {
    let mut service = Service::new();
    service.want(wanted("v1", &["a"]));
    service.health("a", false);
    service.pass_time(61);
    assert_eq!(service.endings(), [Ending::Unhealthy]);
    assert!(
        service.last_reason().contains("a: status 503"),
        "{}",
        service.last_reason()
    );
    assert_eq!(service.machine.phase(), Phase::WaitingForHealth);
    service.pass_time(1000);
    service.health("a", true);
    assert_eq!(service.split(), ["a"]);
    assert_eq!(service.machine.phase(), Phase::Settled);
    assert_eq!(service.endings(), [Ending::Unhealthy]);
    assert!(service.machine.refused().is_empty());
}

#[test]
fn in_a_rolling_change_each_new_node_takes_the_place_of_an_old_one() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.want(wanted("v2", &["c", "d"]));
    assert_eq!(service.split(), ["a", "b"]);
    service.health("c", true);
    assert_eq!(service.split(), ["b", "c"]);
    assert_eq!(service.machine.phase(), Phase::Rolling);
    service.health("d", true);
    assert_eq!(service.split(), ["c", "d"]);
    assert_eq!(service.endings(), [Ending::Done]);
    assert_eq!(service.known(), ["c", "d"]);
}

#[test]
fn a_node_leaves_the_split_before_it_drains() {
    let mut service = Service::serving(wanted("v1", &["a"]));
    service.drains_finish = false;
    service.want(wanted("v2", &["b"]));
    service.log.clear();
    service.health("b", true);
    let shapes: Vec<&str> = service
        .log
        .iter()
        .map(|action| match action {
            Action::Publish(_) => "publish",
            Action::Drain(_) => "drain",
            _ => "other",
        })
        .collect();
    assert_eq!(shapes, ["publish", "drain"]);
    assert_eq!(service.machine.phase(), Phase::Draining);
    assert!(service.endings().is_empty(), "old work is not finished");
    service.drained("a");
    assert_eq!(service.endings(), [Ending::Done]);
}

#[test]
fn a_smaller_version_takes_over_without_losing_capacity_on_the_way() {
    let mut service = Service::serving(wanted("v1", &["a", "b", "c", "d"]));
    service.want(wanted("v2", &["x", "y"]));
    service.health("x", true);
    assert_eq!(service.split().len(), 4);
    service.health("y", true);
    assert_eq!(service.split(), ["x", "y"]);
}

#[test]
fn a_larger_version_only_displaces_as_many_as_there_are() {
    let mut service = Service::serving(wanted("v1", &["a"]));
    service.want(wanted("v2", &["x", "y", "z"]));
    service.health("y", true);
    assert_eq!(service.split(), ["y"]);
    service.health("x", true);
    service.health("z", true);
    assert_eq!(service.split(), ["x", "y", "z"]);
    assert_eq!(service.endings(), [Ending::Done]);
}

#[test]
fn a_recovering_old_node_does_not_leave_without_a_new_one_in_its_place() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.health("b", false);
    service.want(wanted("v2", &["c", "d"]));
    service.health("b", true);
    assert_eq!(service.split(), ["a", "b"]);
    service.health("c", true);
    assert_eq!(service.split().len(), 2);
}

#[test]
fn kept_nodes_stay_untouched_when_the_list_is_edited() {
    let mut service = Service::serving(wanted("-", &["a", "b"]));
    let (a, b) = (service.node("a"), service.node("b"));
    service.want(wanted("-", &["b", "c"]));
    assert_eq!(service.split(), ["a", "b"]);
    service.health("c", true);
    assert_eq!(service.split(), ["b", "c"]);
    assert_eq!(service.node("b"), b);
    let touched = |action: &Action| match action {
        Action::Join(node) | Action::Drain(node) | Action::Forget(node) => *node == b,
        _ => false,
    };
    assert!(!service.log.iter().any(touched));
    assert!(service.log.contains(&Action::Forget(a)));
}

#[test]
fn nodes_that_are_only_removed_leave_at_once() {
    let mut service = Service::serving(wanted("v1", &["a", "b", "c"]));
    service.want(wanted("v1", &["b"]));
    assert_eq!(service.split(), ["b"]);
    assert_eq!(service.endings(), [Ending::Done]);
}

#[test]
fn the_last_healthy_node_does_not_leave_for_sick_ones() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.health("a", false);
    service.want(wanted("v1", &["a"]));
    assert_eq!(service.split(), ["b"]);
    service.pass_time(61);
    assert_eq!(service.endings(), [Ending::Unhealthy]);
    assert_eq!(service.split(), ["b"]);
    service.health("a", true);
    assert_eq!(service.split(), ["a"]);
}

#[test]
fn the_short_form_and_a_named_version_are_different_nodes() {
    let mut service = Service::serving(wanted("-", &["a"]));
    let unnamed = service.node("a");
    service.want(wanted("v1", &["a"]));
    assert_ne!(service.node("a"), unnamed);
    assert_eq!(service.split(), ["a"]);
    service.health("a", true);
    assert!(service.log.contains(&Action::Drain(unnamed)));
    assert_eq!(service.machine.split().slices[0].version.as_str(), "v1");
}

#[test]
fn blue_green_moves_nothing_before_every_new_node_is_healthy_and_then_everything_at_once() {
    let mut service = Service::serving(blue_green("v1", &["a", "b"]));
    service.want(blue_green("v2", &["c", "d"]));
    service.health("c", true);
    assert_eq!(service.publications(), 0);
    service.health("d", true);
    assert_eq!(service.publications(), 1);
    assert_eq!(service.split(), ["c", "d"]);
    assert_eq!(service.state("a"), NodeState::Standby);
    assert_eq!(service.machine.phase(), Phase::Keeping);
    assert_eq!(
        service.machine.deadline(),
        Some(service.now.plus(Duration::from_secs(300)))
    );
    service.pass_time(299);
    assert!(service.endings().is_empty());
    service.pass_time(1);
    assert_eq!(service.endings(), [Ending::Done]);
    assert_eq!(service.known(), ["c", "d"]);
}

#[test]
fn going_back_while_the_old_version_is_warm_takes_one_publication() {
    let mut service = Service::serving(blue_green("v1", &["a", "b"]));
    let a = service.node("a");
    service.want(blue_green("v2", &["c", "d"]));
    service.health("c", true);
    service.health("d", true);
    service.log.clear();
    service.want(blue_green("v1", &["a", "b"]));
    assert_eq!(service.publications(), 1);
    assert_eq!(service.split(), ["a", "b"]);
    assert_eq!(service.node("a"), a, "the warm node, not a new stay");
    assert_eq!(service.state("c"), NodeState::Standby);
    assert_eq!(service.endings(), [Ending::Superseded]);
}

#[test]
fn warm_nodes_step_in_when_the_new_version_dies() {
    let mut service = Service::serving(blue_green("v1", &["a"]));
    service.want(blue_green("v2", &["b"]));
    service.health("b", true);
    service.health("b", false);
    assert_eq!(service.split(), ["a"]);
    assert!(!service.machine.split().all_down);
    service.health("b", true);
    assert_eq!(service.split(), ["b"]);
    service.health("b", false);
    service.pass_time(300);
    assert_eq!(service.split(), ["a"], "it is the last healthy one");
    service.pass_time(60);
    assert_eq!(service.endings(), [Ending::Unhealthy]);
    assert_eq!(service.machine.phase(), Phase::Failed);
    assert_eq!(service.split(), ["a"]);
}

#[test]
fn a_list_edit_under_blue_green_is_rolling() {
    let mut service = Service::serving(blue_green("v1", &["a", "b"]));
    service.want(blue_green("v1", &["c", "d"]));
    service.health("c", true);
    assert_eq!(service.split().len(), 2);
    assert!(service.split().contains(&"c".into()));
    service.health("d", true);
    assert_eq!(service.split(), ["c", "d"]);
    assert_eq!(service.endings(), [Ending::Done]);
}

#[test]
fn a_version_that_does_not_become_healthy_is_refused_with_its_reason_and_the_old_one_serves() {
    for (first, second) in [
        (wanted("v1", &["a", "b"]), wanted("v2", &["c", "d"])),
        (blue_green("v1", &["a", "b"]), blue_green("v2", &["c", "d"])),
    ] {
        let mut service = Service::serving(first);
        service.want(second);
        service.health("c", false);
        service.health("d", false);
        assert_eq!(
            service.machine.deadline(),
            Some(service.now.plus(Duration::from_secs(60)))
        );
        service.pass_time(60);
        assert_eq!(service.endings(), [Ending::Unhealthy]);
        assert_eq!(service.split(), ["a", "b"]);
        assert_eq!(service.known(), ["a", "b"]);
        assert_eq!(service.machine.phase(), Phase::Failed);
        assert!(
            service
                .machine
                .reason()
                .expect("a reason")
                .contains("c: status 503")
        );
        assert_eq!(service.machine.refused()[0].version.as_str(), "v2");
        assert_eq!(
            service
                .machine
                .wanted()
                .expect("still wanted")
                .release
                .as_str(),
            "v2"
        );
        assert_eq!(service.publications(), 0);
    }
}

#[test]
fn each_node_that_becomes_healthy_restarts_the_deadline_but_flapping_does_not() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.want(wanted("v2", &["c", "d"]));
    service.pass_time(50);
    service.health("c", true);
    service.pass_time(50);
    assert!(service.endings().is_empty());
    service.health("c", false);
    service.health("c", true);
    service.pass_time(10);
    assert_eq!(service.endings(), [Ending::Unhealthy]);
}

#[test]
fn on_the_way_back_new_nodes_leave_only_as_old_ones_return() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.want(wanted("v2", &["c", "d"]));
    service.health("c", true);
    let old_a = service.machine.split();
    assert_eq!(service.split(), ["b", "c"]);
    service.pass_time(60);
    assert_eq!(service.endings(), [Ending::Unhealthy]);
    assert_eq!(
        service.split(),
        ["b", "c"],
        "a must pass its probes again first"
    );
    assert_eq!(service.machine.split(), old_a);
    assert_eq!(service.state("a"), NodeState::Joining);
    service.health("a", true);
    assert_eq!(service.split(), ["a", "b"]);
    assert_eq!(service.known(), ["b", "a"]);
    assert_eq!(service.endings(), [Ending::Unhealthy], "told once");
}

#[test]
fn a_refused_version_is_not_tried_again_until_its_nodes_differ() {
    let mut service = Service::serving(wanted("v1", &["a"]));
    service.want(wanted("v2", &["b"]));
    service.pass_time(60);
    service.want(wanted("v1", &["a"]));
    service.log.clear();
    service.want(wanted("v2", &["b"]));
    assert_eq!(service.endings(), [Ending::Unhealthy]);
    assert_eq!(service.known(), ["a"]);
    service.want(wanted("v2", &["b", "c"]));
    assert_eq!(service.known(), ["a", "b", "c"]);
    service.health("b", true);
    service.health("c", true);
    assert_eq!(service.endings(), [Ending::Unhealthy, Ending::Done]);
    assert_eq!(
        service.machine.refused().len(),
        1,
        "success of another change clears nothing"
    );
}

#[test]
fn refused_versions_are_remembered_up_to_a_bound() {
    let mut service = Service::serving(wanted("v1", &["a"]));
    for number in 0..40 {
        service.want(wanted(&format!("bad{number}"), &["b"]));
        service.pass_time(60);
    }
    assert_eq!(service.machine.refused().len(), 32);
    assert_eq!(service.machine.refused()[31].version.as_str(), "bad39");
}

#[test]
fn a_list_edit_that_does_not_become_healthy_refuses_nothing_and_completes_late() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.want(wanted("v1", &["c", "d"]));
    service.health("c", true);
    service.pass_time(60);
    assert_eq!(service.endings(), [Ending::Unhealthy]);
    assert!(service.machine.refused().is_empty());
    assert_eq!(service.split(), ["b", "c"]);
    service.health("d", true);
    assert_eq!(service.split(), ["c", "d"]);
    assert_eq!(service.machine.phase(), Phase::Settled);
    assert_eq!(service.endings(), [Ending::Unhealthy]);
}

#[test]
fn a_newer_edit_replans_from_what_serves() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.want(wanted("v2", &["c", "d"]));
    service.health("c", true);
    service.want(wanted("v3", &["e", "f"]));
    assert_eq!(service.endings(), [Ending::Superseded]);
    assert_eq!(service.split(), ["b", "c"]);
    service.health("e", true);
    assert_eq!(service.split().len(), 2);
    service.health("f", true);
    assert_eq!(service.split(), ["e", "f"]);
    assert_eq!(service.endings(), [Ending::Superseded, Ending::Done]);
}

#[test]
fn a_change_of_settings_restarts_nothing() {
    let mut service = Service::serving(wanted("v1", &["a"]));
    service.want(wanted("v2", &["b"]));
    service.pass_time(10);
    service.log.clear();
    service.want(Wanted {
        deadline: Duration::from_secs(20),
        ..wanted("v2", &["b"])
    });
    assert!(service.log.is_empty());
    service.pass_time(10);
    assert_eq!(
        service.endings(),
        [Ending::Unhealthy],
        "the new deadline counts from the same start"
    );
}

#[test]
fn an_edit_that_is_already_fulfilled_ends_at_once() {
    let mut service = Service::serving(wanted("v1", &["a"]));
    service.want(wanted("v2", &["b"]));
    service.pass_time(60);
    service.log.clear();
    service.want(wanted("v1", &["a"]));
    assert_eq!(service.log.len(), 1);
    assert_eq!(service.endings(), [Ending::Done]);
}

#[test]
fn a_sick_node_leaves_the_split_without_draining_and_comes_back() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.health("a", false);
    assert_eq!(service.split(), ["b"]);
    assert_eq!(service.state("a"), NodeState::Ejected);
    assert!(
        !service
            .log
            .iter()
            .any(|action| matches!(action, Action::Drain(_)))
    );
    service.health("a", true);
    assert_eq!(service.split(), ["a", "b"]);
}

#[test]
fn when_every_node_is_sick_traffic_goes_to_all_that_ever_passed_or_to_none_as_configured() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.want(wanted("v1", &["a", "b", "c"]));
    service.health("a", false);
    service.health("b", false);
    assert_eq!(service.split(), ["a", "b"]);
    assert!(service.machine.split().all_down);
    service.want(Wanted {
        serve_when_all_down: false,
        ..wanted("v1", &["a", "b", "c"])
    });
    assert_eq!(service.split(), [""; 0]);
    assert!(!service.machine.split().all_down);
}

#[test]
fn a_node_taken_out_by_hand_drains_and_comes_back_as_a_new_stay() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    let first = service.node("a");
    service.hold("a", true);
    assert_eq!(service.split(), ["b"]);
    let entry = service
        .machine
        .nodes()
        .find(|entry| entry.node == first)
        .expect("listed");
    assert_eq!((entry.state, entry.held_out), (NodeState::Drained, true));
    assert_eq!(entry.reason, "taken out by an operator");
    service.hold("a", false);
    assert_ne!(service.node("a"), first);
    assert!(service.log.contains(&Action::Forget(first)));
    assert_eq!(service.split(), ["b"]);
    service.health("a", true);
    assert_eq!(service.split(), ["a", "b"]);
}

#[test]
fn the_last_healthy_node_may_not_be_taken_out() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    let (a, b): (NodeAddress, NodeAddress) = ("a".into(), "b".into());
    assert_eq!(service.machine.can_hold_out(&a), Ok(()));
    assert!(service.machine.can_hold_out(&"z".into()).is_err());
    service.health("b", false);
    assert!(service.machine.can_hold_out(&a).is_err());
    assert_eq!(service.machine.can_hold_out(&b), Ok(()));
}

#[test]
fn a_node_that_is_out_does_not_hold_up_a_change_and_is_free_once_unwanted() {
    let mut service = Service::serving(wanted("-", &["a", "b"]));
    service.hold("a", true);
    service.want(wanted("-", &["a", "b", "c"]));
    service.health("c", true);
    assert_eq!(service.endings(), [Ending::Done]);
    service.want(wanted("-", &["b", "c"]));
    service.want(wanted("-", &["a", "b", "c"]));
    service.health("a", true);
    assert_eq!(service.split(), ["a", "b", "c"]);
}

#[test]
fn a_removed_service_drains_completely() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.drains_finish = false;
    service.tell(Event::Removed);
    assert_eq!(service.split(), [""; 0]);
    assert!(!service.machine.is_empty());
    service.drained("a");
    service.drained("b");
    assert_eq!(service.endings(), [Ending::Done]);
    assert!(service.machine.is_empty());
}

#[test]
fn after_a_restart_the_same_split_is_published_and_the_rollout_goes_on() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.drains_finish = false;
    service.want(wanted("v2", &["c", "d"]));
    service.health("c", true);
    let split = service.machine.split();
    let journal = serde_json::to_string(&service.machine).expect("serialises");
    let restored: Machine = serde_json::from_str(&journal).expect("reads its own journal");
    assert_eq!(restored, service.machine);
    service.machine = restored;

    service.now = service.now.plus(Duration::from_secs(3600));
    let actions = service.machine.resume(service.now);
    let a = service.node("a");
    assert_eq!(
        actions
            .iter()
            .filter(|action| matches!(action, Action::Join(_)))
            .count(),
        4
    );
    assert!(actions.contains(&Action::Publish(split)));
    assert!(actions.contains(&Action::Drain(a.clone())));
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::Ended { .. })),
        "new nodes get their full time again"
    );

    service.want(wanted("v2", &["c", "d"]));
    service.drains_finish = true;
    service.tell(Event::Drained { node: a });
    service.health("d", true);
    assert_eq!(service.split(), ["c", "d"]);
    assert_eq!(service.endings(), [Ending::Done]);
}

#[test]
fn events_for_unknown_nodes_do_nothing() {
    let mut service = Service::serving(wanted("v1", &["a"]));
    let before = service.machine.clone();
    let ghost = NodeRef {
        version: "v1".into(),
        address: "a".into(),
        serial: 99,
    };
    service.tell(Event::Health {
        node: ghost.clone(),
        healthy: false,
        detail: "late".into(),
    });
    service.tell(Event::Drained { node: ghost });
    service.tell(Event::Drained {
        node: service.node("a"),
    });
    service.hold("nowhere", true);
    assert_eq!(service.machine, before);
    assert!(service.log.is_empty());
}

#[test]
fn a_clock_that_goes_back_does_not_stretch_the_deadline() {
    let mut service = Service::serving(wanted("v1", &["a"]));
    service.want(wanted("v2", &["b"]));
    service.now = Timestamp(5);
    service.tell(Event::Tick);
    assert_eq!(service.machine.deadline(), Some(Timestamp(60_005)));
    service.now = Timestamp(u64::MAX);
    service.tell(Event::Tick);
    assert_eq!(service.endings(), [Ending::Unhealthy]);
    assert_eq!(service.split(), ["a"]);
}
