//! How nodes come and go, one for one.

use std::time::Duration;

use sluicegate::rollout::{Action, Ending, Phase, Wanted};

use super::{Service, blue_green, wanted};

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
    service.want(Wanted { deadline: Duration::from_secs(20), ..wanted("v2", &["b"]) });
    assert!(service.log.is_empty());
    service.pass_time(10);
    assert_eq!(service.endings(), [Ending::Unhealthy], "the new deadline counts from the same start");
}

#[test]
fn the_view_of_a_rollout_counts_what_is_ready() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    assert_eq!(service.machine.rollout(), None);
    service.want(wanted("v2", &["c", "d"]));
    service.health("c", true);
    let view = service.machine.rollout().expect("a rollout");
    assert_eq!((view.from, view.to), (Some("v1".into()), "v2".into()));
    assert_eq!((view.ready, view.wanted), (1, 2));
    assert_eq!(view.deadline, service.machine.deadline());
    assert_eq!(service.machine.reason(), Some("waiting for 1 of 2 nodes (d: no probe has passed yet)"));
}

#[test]
fn an_old_node_that_recovers_after_another_was_displaced_adds_to_the_floor() {
    let mut service = Service::serving(wanted("v1", &["a", "b", "c"]));
    service.health("c", false);
    service.want(wanted("v2", &["x", "y", "z"]));
    service.health("x", true);
    assert_eq!(service.split(), ["b", "x"]);
    service.health("c", true);
    assert_eq!(service.split(), ["b", "c", "x"]);
    service.health("y", true);
    assert_eq!(service.split().len(), 3);
}

#[test]
fn a_surge_of_one_brings_the_new_nodes_in_one_by_one() {
    let narrow = |release, nodes: &[&str]| Wanted { surge: Some(1), ..wanted(release, nodes) };
    let mut service = Service::serving(narrow("v1", &["a", "b"]));
    service.drains_finish = false;
    service.want(narrow("v2", &["c", "d"]));
    service.health("c", true);
    assert_eq!(service.split(), ["b", "c"]);
    service.health("d", true);
    assert_eq!(service.split(), ["c", "d"]);
    // A first deploy has nothing to go beyond.
    let mut service = Service::serving(narrow("v1", &["a", "b", "c"]));
    assert_eq!(service.split().len(), 3);
    service.want(narrow("v2", &["d", "e", "f", "g"]));
    for node in ["d", "e", "f", "g"] {
        service.health(node, true);
        assert!(service.split().len() <= 4, "{:?}", service.split());
    }
    assert_eq!(service.split(), ["d", "e", "f", "g"]);
}

#[test]
fn a_node_that_waits_for_room_is_not_taken_for_one_that_serves() {
    let narrow = |release, nodes: &[&str]| Wanted {
        surge: Some(1),
        slow_start: Duration::from_secs(20),
        ..wanted(release, nodes)
    };
    let mut service = Service::serving(narrow("v1", &["a", "b"]));
    service.pass_time(20);
    service.want(narrow("v2", &["c", "d"]));
    service.health("c", true);
    service.health("d", true);
    assert_eq!(service.split(), ["a", "b", "c"], "d is healthy, and has to wait");
    service.pass_time(20);
    assert_eq!(service.split(), ["b", "c", "d"], "c is warm and takes the place of one, and d begins");
    service.pass_time(20);
    assert_eq!(service.split(), ["c", "d"]);
}

#[test]
fn where_no_old_node_leaves_a_surge_keeps_nobody_out() {
    let narrow = |nodes: &[&str]| Wanted { surge: Some(1), ..wanted("v1", nodes) };
    let mut service = Service::serving(narrow(&["a"]));
    service.want(narrow(&["a", "b", "c", "d"]));
    for node in ["b", "c", "d"] {
        service.health(node, true);
    }
    assert_eq!(service.split(), ["a", "b", "c", "d"]);
}

#[test]
fn a_floor_below_what_served_lets_an_old_node_go_first() {
    let floored = |release, nodes: &[&str]| Wanted { floor: Some(1), ..wanted(release, nodes) };
    let mut service = Service::serving(floored("v1", &["a", "b"]));
    service.want(floored("v2", &["c", "d"]));
    assert_eq!(service.split(), ["b"], "there is no room for both");
    service.health("c", true);
    assert_eq!(service.split(), ["c"]);
    service.health("d", true);
    assert_eq!((service.split(), service.endings()), (vec!["c".into(), "d".into()], vec![Ending::Done]));
}
