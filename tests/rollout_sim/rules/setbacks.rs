//! Nodes that fail while their probes pass, and nodes that warm up.

use super::*;

impl Service {
    fn fails(&mut self, address: &str) {
        let node = self.node(address);
        self.tell(Event::Failing { node, detail: "5 requests in a row failed".into() });
    }
}

#[test]
fn a_failing_node_is_left_out_and_comes_back_after_a_while() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.fails("a");
    assert_eq!((service.state("a"), service.split()), (NodeState::Ejected, vec!["b".to_owned()]));
    service.health("a", true);
    assert_eq!(service.split(), ["b"], "its probes passed before, too");
    assert_eq!(service.machine.deadline(), Some(service.now.plus(Duration::from_secs(10))));
    service.pass_time(9);
    assert_eq!(service.split(), ["b"]);
    service.pass_time(1);
    assert_eq!(service.split(), ["a", "b"]);
}

#[test]
fn each_setback_soon_after_the_last_takes_twice_as_long_and_a_good_while_forgets_them() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    for seconds in [10, 20, 40] {
        service.fails("a");
        service.pass_time(seconds - 1);
        assert_eq!(service.split(), ["b"], "of {seconds} s");
        service.pass_time(1);
        assert_eq!(service.split(), ["a", "b"], "after {seconds} s");
    }
    service.pass_time(40);
    assert_eq!(service.machine.deadline(), None);
    service.fails("a");
    service.pass_time(10);
    assert_eq!(service.split(), ["a", "b"]);
}

#[test]
fn a_node_whose_probes_fail_and_pass_again_is_back_at_once() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.fails("a");
    service.health("a", false);
    service.pass_time(60);
    assert_eq!(service.state("a"), NodeState::Ejected, "now it is its probes");
    service.fails("b");
    assert_eq!(service.split(), ["b"]);
    service.health("a", true);
    assert_eq!(service.split(), ["a", "b"]);
    service.fails("a");
    service.health("a", false);
    service.health("a", true);
    assert_eq!(service.split(), ["a", "b"], "another process, perhaps");
}

#[test]
fn the_last_node_and_more_than_the_ceiling_are_never_left_out() {
    let mut service = Service::serving(wanted("v1", &["a"]));
    service.fails("a");
    assert_eq!(service.split(), ["a"]);
    let mut service = Service::serving(wanted("v1", &["a", "b", "c", "d"]));
    for node in ["a", "b", "c", "d"] {
        service.fails(node);
    }
    assert_eq!(service.split(), ["c", "d"]);
    service.health("c", false);
    service.fails("d");
    assert_eq!(service.split(), ["d"]);
    service.health("d", false);
    assert_eq!(service.split(), ["a", "b"], "a node that fails sometimes is better than none");
    assert!(!service.machine.split().all_down);
}

#[test]
fn no_old_node_leaves_for_a_new_one_that_fails() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.want(wanted("v2", &["c", "d"]));
    service.health("c", true);
    assert_eq!(service.split(), ["b", "c"]);
    service.fails("c");
    service.health("d", true);
    assert_eq!(service.split(), ["b", "d"], "one for one, and no more");
    service.pass_time(10);
    assert_eq!(service.split(), ["b", "c", "d"], "it is back, but not trusted yet");
    service.pass_time(10);
    assert_eq!(service.split(), ["c", "d"], "it has proved itself");
}

#[test]
fn a_version_that_fails_again_and_again_is_refused_and_does_not_swing() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.want(wanted("v2", &["c", "d"]));
    service.health("c", true);
    service.fails("c");
    service.health("d", true);
    let served = service.publications();
    let mut seconds = 0;
    while service.endings().is_empty() {
        service.pass_time(1);
        seconds += 1;
        assert!(seconds < 300, "it never ends");
        if service.split().contains(&"c".to_owned()) {
            service.fails("c");
        }
        assert!(service.split().contains(&"b".to_owned()), "what is healthy stays");
    }
    assert_eq!(service.endings(), [Ending::Unhealthy]);
    assert!(service.last_reason().contains("5 requests in a row failed"), "{}", service.last_reason());
    assert!(service.publications() - served < 12, "{} publications", service.publications() - served);
    service.health("a", true);
    service.health("b", true);
    assert_eq!(service.split(), ["a", "b"]);
}

#[test]
fn what_is_left_out_stays_out_over_an_edit_and_a_restart() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.fails("a");
    service.want(wanted("v1", &["a", "b", "c"]));
    service.health("c", true);
    assert_eq!(service.split(), ["b", "c"]);
    let journal = serde_json::to_string(&service.machine).expect("a journal");
    service.machine = serde_json::from_str(&journal).expect("a machine");
    let now = service.now;
    service.machine.resume(now);
    assert_eq!(service.split(), ["b", "c"]);
    service.pass_time(10);
    assert_eq!(service.split(), ["a", "b", "c"]);
}

#[test]
fn without_a_ceiling_nothing_is_left_out() {
    let mut none = wanted("v1", &["a", "b"]);
    none.ejection.most = Share::NONE;
    let mut service = Service::serving(none);
    service.fails("a");
    assert_eq!(service.split(), ["a", "b"]);
}

fn slowly(release: &str, nodes: &[&str]) -> Wanted {
    Wanted { slow_start: Duration::from_secs(20), ..wanted(release, nodes) }
}

#[test]
fn a_node_warms_up_before_it_serves_in_full() {
    let mut service = Service::serving(slowly("v1", &["a"]));
    assert_eq!((service.state("a"), service.split()), (NodeState::Warming, vec!["a".to_owned()]));
    service.pass_time(19);
    assert_eq!(service.state("a"), NodeState::Warming);
    service.pass_time(1);
    assert_eq!(service.state("a"), NodeState::Serving);
    assert_eq!(service.machine.deadline(), None);
}

#[test]
fn an_old_node_leaves_when_the_new_one_is_warm() {
    let mut service = Service::serving(slowly("v1", &["a", "b"]));
    service.pass_time(20);
    service.want(slowly("v2", &["c", "d"]));
    service.health("c", true);
    service.health("d", true);
    assert_eq!(service.split(), ["a", "b", "c", "d"]);
    service.pass_time(20);
    assert_eq!(service.split(), ["c", "d"]);
    assert_eq!(service.endings(), [Ending::Done]);
}

#[test]
fn warming_up_is_no_reason_to_refuse_a_version() {
    let slow = |release, nodes: &[_]| Wanted { slow_start: Duration::from_mins(10), ..wanted(release, nodes) };
    let mut service = Service::serving(wanted("v1", &["a"]));
    service.want(slow("v2", &["b"]));
    service.health("b", true);
    service.pass_time(599);
    assert_eq!((service.endings(), service.split()), (vec![], vec!["a".to_owned(), "b".to_owned()]));
    service.pass_time(1);
    assert_eq!((service.endings(), service.split()), (vec![Ending::Done], vec!["b".to_owned()]));
}

#[test]
fn a_swap_does_not_wait_for_warmth() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.want(Wanted { strategy: Strategy::BlueGreen, ..slowly("v2", &["c", "d"]) });
    service.health("c", true);
    service.health("d", true);
    assert_eq!(service.split(), ["c", "d"]);
    assert_eq!(service.state("c"), NodeState::Warming);
}

#[test]
fn a_warming_node_can_be_taken_out_fall_sick_and_be_hurried() {
    let mut service = Service::serving(slowly("v1", &["a", "b", "c"]));
    service.health("a", false);
    assert_eq!(service.state("a"), NodeState::Ejected);
    service.health("a", true);
    assert_eq!(service.state("a"), NodeState::Warming);
    service.hold("b", true);
    assert_eq!(service.split(), ["a", "c"]);
    service.want(wanted("v1", &["a", "b", "c"]));
    assert_eq!(service.state("a"), NodeState::Serving, "slow start was turned off");
}
