//! Everything at once, and the old version kept warm.

use std::time::Duration;

use sluicegate::model::NodeState;
use sluicegate::rollout::{Ending, Phase, Wanted};

use super::{Service, blue_green, wanted};

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
    assert_eq!(service.machine.deadline(), Some(service.now.plus(Duration::from_mins(5))));
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
fn a_strategy_that_is_edited_in_the_middle_of_a_change_applies_from_then_on() {
    let mut service = Service::serving(blue_green("v1", &["a", "b"]));
    service.want(blue_green("v2", &["c", "d"]));
    service.health("c", true);
    assert_eq!(service.split(), ["a", "b"]);
    service.want(wanted("v2", &["c", "d"]));
    assert_eq!(service.split(), ["b", "c"]);
}

#[test]
fn a_shorter_keep_ends_the_warm_time_at_once() {
    let mut service = Service::serving(blue_green("v1", &["a"]));
    service.want(blue_green("v2", &["b"]));
    service.health("b", true);
    service.pass_time(10);
    service.want(Wanted { keep: Duration::from_secs(5), ..blue_green("v2", &["b"]) });
    assert_eq!(service.endings(), [Ending::Done]);
}

#[test]
fn blue_green_does_not_wait_for_the_last_node_when_nothing_healthy_serves() {
    let mut service = Service::serving(blue_green("v1", &["a"]));
    service.want(blue_green("v2", &["b", "c"]));
    service.health("b", true);
    assert_eq!(service.split(), ["a"]);
    service.health("a", false);
    assert_eq!(service.split(), ["b"]);
    service.health("a", true);
    assert_eq!(service.split(), ["a", "b"], "nothing old leaves before every new node is healthy");
    service.health("c", true);
    assert_eq!(service.split(), ["b", "c"]);
    assert_eq!(service.state("a"), NodeState::Standby);
}

#[test]
fn warm_nodes_that_stepped_in_step_back_for_the_first_new_node_that_recovers() {
    let mut service = Service::serving(blue_green("v1", &["a"]));
    service.want(blue_green("v2", &["b", "c"]));
    for healthy in [true, false] {
        service.health("b", healthy);
        service.health("c", healthy);
    }
    assert_eq!(service.split(), ["a"]);
    service.health("c", true);
    assert_eq!(service.split(), ["c"]);
    assert_eq!(service.state("a"), NodeState::Standby);
}
