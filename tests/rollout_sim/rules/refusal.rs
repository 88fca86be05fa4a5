//! Deadlines, refused versions and the way back.

use std::time::Duration;

use sluicegate::api::Steering;
use sluicegate::model::{NodeState, Timestamp};
use sluicegate::rollout::{Action, Ending, Event, Phase};

use super::{Service, blue_green, wanted};

#[test]
fn a_first_deploy_is_never_refused_and_may_succeed_late() {
    let mut service = Service::new();
    service.want(wanted("v1", &["a"]));
    service.health("a", false);
    service.pass_time(61);
    assert_eq!(service.endings(), [Ending::Unhealthy]);
    assert!(service.last_reason().contains("a: status 503"), "{}", service.last_reason());
    assert_eq!(service.machine.phase(), Phase::WaitingForHealth);
    service.pass_time(1000);
    service.health("a", true);
    assert_eq!(service.split(), ["a"]);
    assert_eq!(service.machine.phase(), Phase::Settled);
    assert_eq!(service.endings(), [Ending::Unhealthy]);
    assert!(service.machine.refused().is_empty());
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
        assert_eq!(service.machine.deadline(), Some(service.now.plus(Duration::from_mins(1))));
        service.pass_time(60);
        assert_eq!(service.endings(), [Ending::Unhealthy]);
        assert_eq!(service.split(), ["a", "b"]);
        assert_eq!(service.known(), ["a", "b"]);
        assert_eq!(service.machine.phase(), Phase::Failed);
        assert!(service.machine.reason().expect("a reason").contains("c: status 503"));
        assert_eq!(service.machine.refused()[0].version.as_str(), "v2");
        assert_eq!(service.machine.wanted().expect("still wanted").release.as_str(), "v2");
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
    assert_eq!(service.split(), ["b", "c"], "a must pass its probes again first");
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
    assert_eq!(service.machine.refused().len(), 1, "success of another change clears nothing");
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

#[test]
fn a_refused_version_that_comes_again_supersedes_what_is_under_way() {
    let mut service = Service::serving(wanted("v1", &["a"]));
    service.want(wanted("v2", &["b"]));
    service.pass_time(60);
    service.want(wanted("v3", &["c"]));
    service.log.clear();
    service.want(wanted("v2", &["b"]));
    assert_eq!(service.endings(), [Ending::Superseded, Ending::Unhealthy]);
    assert_eq!(service.known(), ["a"]);
    assert_eq!(service.machine.phase(), Phase::Failed);
}

#[test]
fn a_version_without_nodes_is_nothing_to_go_back_to() {
    let mut service = Service::serving(wanted("v1", &["a"]));
    service.want(wanted("v1", &[]));
    assert_eq!(service.split(), [""; 0]);
    service.want(wanted("v2", &["b"]));
    service.pass_time(60);
    assert!(service.machine.refused().is_empty());
    service.health("b", true);
    assert_eq!(service.split(), ["b"]);
}

#[test]
fn after_a_first_deploy_that_stopped_halfway_a_refused_version_leaves_what_serves() {
    let mut service = Service::new();
    service.want(wanted("v1", &["a", "b"]));
    service.health("a", true);
    service.want(wanted("v2", &["c", "d"]));
    service.health("c", true);
    service.pass_time(60);
    assert_eq!(service.endings(), [Ending::Superseded, Ending::Unhealthy]);
    assert_eq!(service.split(), ["c"], "a was displaced and must pass again");
    service.health("a", true);
    assert_eq!(service.split(), ["a"]);
    assert_eq!(service.known(), ["a"]);
}

#[test]
fn a_first_version_that_was_given_up_is_waited_for_again_by_a_retry() {
    let mut service = Service::new();
    service.want(wanted("v1", &["a", "b"]));
    service.pass_time(60);
    assert_eq!(service.endings(), [Ending::Unhealthy]);
    service.log.clear();
    service.machine.can_steer(Steering::Retry).expect("a retry");
    service.tell(Event::Steer(Steering::Retry));
    assert!(service.log.iter().any(|action| matches!(action, Action::Began { .. })), "{:?}", service.log);
    assert!(!service.log.iter().any(|action| matches!(action, Action::Join(_))), "its nodes are known");
    service.health("a", true);
    service.health("b", true);
    assert_eq!((service.split(), service.endings()), (vec!["a".into(), "b".into()], vec![Ending::Done]));
    assert!(service.machine.can_steer(Steering::Retry).is_err(), "it serves");
}
