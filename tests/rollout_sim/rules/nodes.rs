//! Sick nodes, nodes taken out by hand, removal and restarts.

use std::time::Duration;

use sluicegate::model::{NodeAddress, NodeState, Timestamp};
use sluicegate::rollout::{Action, Ending, Event, Machine, NodeRef, Wanted};

use super::{Service, wanted};

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
fn a_sick_node_leaves_the_split_without_draining_and_comes_back() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.health("a", false);
    assert_eq!(service.split(), ["b"]);
    assert_eq!(service.state("a"), NodeState::Ejected);
    assert!(!service.log.iter().any(|action| matches!(action, Action::Drain(_))));
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
    service.want(Wanted { serve_when_all_down: false, ..wanted("v1", &["a", "b", "c"]) });
    assert_eq!(service.split(), [""; 0]);
    assert!(!service.machine.split().all_down);
}

#[test]
fn a_node_taken_out_by_hand_drains_and_comes_back_as_a_new_stay() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    let first = service.node("a");
    service.hold("a", true);
    assert_eq!(service.split(), ["b"]);
    let entry = service.machine.nodes().find(|entry| entry.node == first).expect("listed");
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

    service.now = service.now.plus(Duration::from_hours(1));
    let actions = service.machine.resume(service.now);
    let a = service.node("a");
    assert_eq!(actions.iter().filter(|action| matches!(action, Action::Join(_))).count(), 4);
    assert!(actions.contains(&Action::Publish(split)));
    assert!(actions.contains(&Action::Drain(a.clone())));
    assert!(
        !actions.iter().any(|action| matches!(action, Action::Ended { .. })),
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
    let ghost = NodeRef { version: "v1".into(), address: "a".into(), serial: 99 };
    service.tell(Event::Health { node: ghost.clone(), healthy: false, detail: "late".into() });
    service.tell(Event::Drained { node: ghost });
    service.tell(Event::Drained { node: service.node("a") });
    service.hold("nowhere", true);
    assert_eq!(service.machine, before);
    assert!(service.log.is_empty());
}

#[test]
fn with_every_node_sick_a_removed_one_leaves_all_the_same() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.health("a", false);
    service.health("b", false);
    service.want(wanted("v1", &["a"]));
    assert_eq!(service.endings(), [Ending::Done]);
    assert_eq!(service.split(), ["a"]);
    assert!(service.machine.split().all_down);
}

#[test]
fn a_journal_with_less_in_it_is_read() {
    let machine: Machine = serde_json::from_str("{}").expect("missing fields have defaults");
    assert_eq!(machine, Machine::new());
    assert!(machine.is_empty());
    assert!(machine.clone().resume(Timestamp(1)).is_empty());
}
