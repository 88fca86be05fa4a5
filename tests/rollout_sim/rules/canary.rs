//! A version on trial: shares by steps, held, judged, steered, sent back.

use std::time::Duration;

use sluicegate::api::Steering;
use sluicegate::config::{Control, Step, Strategy};
use sluicegate::model::{NodeState, Share};
use sluicegate::rollout::{Action, Canary, Ending, Event, Phase, Verdict, Wanted};

use super::{Service, wanted};

/// Steps of 5% for a minute, 25% until promoted, 50% for a minute.
fn canary(release: &str, nodes: &[&str]) -> Wanted {
    let minute = Some(Duration::from_mins(1));
    let step = |share, hold| Step { share: Share(share), hold };
    let steps = vec![step(500, minute), step(2500, None), step(5000, minute)];
    Wanted {
        strategy: Strategy::Canary,
        canary: Canary { steps, guarded: true, asked: false, extend: Duration::from_mins(2), pass_if_too_few: false },
        ..wanted(release, nodes)
    }
}

impl Service {
    /// v1 on four nodes, and v2 on as many at its first step.
    fn on_trial() -> Self {
        let mut service = Self::serving(canary("v1", &["a", "b", "c", "d"]));
        service.want(canary("v2", &["e", "f", "g", "h"]));
        for node in ["e", "f", "g", "h"] {
            service.health(node, true);
        }
        service
    }

    /// The share of the version on trial, in percent.
    fn trial(&self) -> Option<f64> {
        let split = self.machine.split();
        let trial = split.trial?;
        let slice = split.slices.last().expect("a slice");
        assert_eq!(slice.version, trial, "it is the last");
        Some(slice.share.percent())
    }

    fn judge(&mut self, verdict: Verdict) {
        let trial = self.machine.trial().expect("a trial");
        self.tell(Event::Judged { version: trial.version, share: trial.share, verdict });
    }

    fn steer(&mut self, steering: Steering) {
        self.machine.can_steer(steering).expect("it is possible");
        self.tell(Event::Steer(steering));
    }

    fn steps(&self) -> Vec<f64> {
        let step = |action: &Action| match action {
            Action::Stepped { share, .. } => Some(share.percent()),
            _ => None,
        };
        self.log.iter().filter_map(step).collect()
    }
}

#[test]
fn the_first_step_begins_when_enough_new_nodes_are_healthy_for_its_share() {
    let mut service = Service::serving(canary("v1", &["a", "b", "c", "d"]));
    service.want(canary("v2", &["e", "f", "g", "h"]));
    assert_eq!((service.trial(), service.machine.phase()), (None, Phase::WaitingForHealth));
    service.health("e", true);
    assert_eq!((service.trial(), service.machine.phase()), (Some(5.0), Phase::Trial));
    assert_eq!(service.split(), ["a", "b", "c", "d", "e"]);
    service.health("f", true);
    assert_eq!(service.trial(), Some(5.0), "more nodes, the same share");
}

#[test]
fn a_step_ends_when_its_hold_is_over_and_the_guard_has_seen_enough() {
    let mut service = Service::on_trial();
    service.judge(Verdict::Pass);
    service.pass_time(59);
    assert_eq!(service.trial(), Some(5.0));
    service.pass_time(1);
    assert_eq!(service.trial(), Some(25.0));
}

#[test]
fn a_step_with_too_few_requests_is_prolonged_and_then_held_until_there_are_enough() {
    let mut service = Service::on_trial();
    service.judge(Verdict::TooFew);
    service.pass_time(3600);
    assert_eq!(service.trial(), Some(5.0));
    assert!(service.machine.reason().expect("a reason").contains("too few requests"));
    service.judge(Verdict::Pass);
    assert_eq!(service.trial(), Some(25.0));
}

#[test]
fn a_step_with_too_few_requests_passes_after_its_extension_if_so_configured() {
    let lenient = |mut wanted: Wanted| {
        wanted.canary.pass_if_too_few = true;
        wanted
    };
    let mut service = Service::on_trial();
    service.want(lenient(canary("v2", &["e", "f", "g", "h"])));
    service.judge(Verdict::TooFew);
    service.pass_time(179);
    assert_eq!(service.trial(), Some(5.0));
    assert_eq!(service.machine.deadline(), Some(service.now.plus(Duration::from_secs(1))));
    service.pass_time(1);
    assert_eq!(service.trial(), Some(25.0));
}

#[test]
fn no_step_passes_while_an_outside_judge_objects_or_before_it_was_heard_of() {
    let asked = |release, nodes: &[&str]| {
        let mut wanted = canary(release, nodes);
        (wanted.canary.asked, wanted.canary.pass_if_too_few) = (true, true);
        wanted
    };
    let mut service = Service::on_trial();
    service.want(asked("v2", &["e", "f", "g", "h"]));
    service.pass_time(600);
    assert_eq!(service.trial(), Some(5.0), "nothing was heard yet");
    service.judge(Verdict::Hold("the webhook does not let it pass".into()));
    service.pass_time(600);
    assert_eq!(service.trial(), Some(5.0));
    assert!(service.machine.reason().is_some_and(|note| note.contains("the webhook does not let it pass")));
    service.judge(Verdict::TooFew);
    assert_eq!(service.trial(), Some(25.0), "it lets it, and too few requests pass after their time");
}

#[test]
fn a_step_that_is_held_by_hand_waits_for_its_promotion_however_long_that_takes() {
    let mut service = Service::on_trial();
    service.judge(Verdict::Pass);
    service.pass_time(60);
    service.judge(Verdict::Pass);
    service.pass_time(86_400);
    assert_eq!(service.trial(), Some(25.0));
    assert_eq!(service.machine.deadline(), None, "nothing happens by itself");
    service.steer(Steering::Promote);
    assert_eq!(service.trial(), Some(50.0));
}

#[test]
fn after_the_last_step_the_new_version_gets_everything_and_the_old_one_is_kept_warm() {
    let mut service = Service::on_trial();
    service.steer(Steering::Promote);
    service.steer(Steering::Promote);
    assert_eq!(service.trial(), Some(50.0));
    service.steer(Steering::Promote);
    assert_eq!(service.steps(), [5.0, 25.0, 50.0, 100.0]);
    assert_eq!((service.trial(), service.split()), (None, vec!["e".into(), "f".into(), "g".into(), "h".into()]));
    assert_eq!((service.machine.phase(), service.state("a")), (Phase::Keeping, NodeState::Standby));
    service.pass_time(300);
    assert_eq!(service.endings(), [Ending::Done]);
}

#[test]
fn a_full_promotion_ends_every_hold_but_waits_for_the_nodes() {
    let mut service = Service::serving(canary("v1", &["a", "b", "c", "d"]));
    service.want(canary("v2", &["e", "f", "g", "h"]));
    service.health("e", true);
    service.steer(Steering::PromoteFull);
    assert_eq!(service.trial(), Some(25.0), "one node may have a quarter");
    service.health("f", true);
    assert_eq!(service.trial(), Some(50.0));
    service.health("g", true);
    assert_eq!(service.trial(), Some(50.0));
    service.health("h", true);
    assert_eq!(service.machine.phase(), Phase::Keeping);
}

#[test]
fn a_failed_verdict_sends_the_version_back_in_one_publication_and_it_is_refused() {
    let mut service = Service::on_trial();
    service.log.clear();
    service.judge(Verdict::Fail("9 of 17 requests failed".into()));
    assert_eq!(service.publications(), 1);
    assert_eq!(service.split(), ["a", "b", "c", "d"]);
    assert_eq!(service.endings(), [Ending::RolledBack]);
    assert!(service.last_reason().contains("9 of 17"), "{}", service.last_reason());
    assert_eq!(service.machine.phase(), Phase::Failed);
    // The same version again is not tried.
    service.want(canary("v1", &["a", "b", "c", "d"]));
    service.log.clear();
    service.want(canary("v2", &["e", "f", "g", "h"]));
    assert_eq!(service.endings(), [Ending::RolledBack], "told at once");
    assert_eq!(service.split(), ["a", "b", "c", "d"]);
}

#[test]
fn a_refused_version_is_tried_again_when_asked() {
    let mut service = Service::on_trial();
    service.judge(Verdict::Fail("it failed".into()));
    service.log.clear();
    service.steer(Steering::Retry);
    for node in ["e", "f", "g", "h"] {
        service.health(node, true);
    }
    assert_eq!(service.trial(), Some(5.0));
    assert_eq!(service.machine.refused(), []);
}

#[test]
fn a_verdict_on_another_step_or_version_counts_for_nothing() {
    let mut service = Service::on_trial();
    let old = service.machine.trial().expect("a trial");
    service.steer(Steering::Promote);
    let fail = || Verdict::Fail("late".into());
    service.tell(Event::Judged { version: old.version, share: old.share, verdict: fail() });
    service.tell(Event::Judged { version: "v9".into(), share: Share(2500), verdict: fail() });
    assert_eq!((service.trial(), service.endings()), (Some(25.0), vec![]));
}

#[test]
fn a_failing_version_is_not_sent_back_to_one_without_a_healthy_node() {
    let mut service = Service::on_trial();
    for node in ["a", "b", "c", "d"] {
        service.health(node, false);
    }
    assert_eq!((service.trial(), service.split().len()), (None, 4), "the new version gets everything");
    service.judge(Verdict::Fail("it failed".into()));
    assert_eq!(service.endings(), []);
    assert!(service.machine.can_steer(Steering::Abort).is_err());
    service.health("a", true);
    assert_eq!(service.trial(), Some(5.0));
    service.judge(Verdict::Fail("it still fails".into()));
    assert_eq!(service.split(), ["a"]);
}

#[test]
fn a_version_that_is_sent_back_gets_nothing_even_if_an_old_node_is_missing() {
    let mut service = Service::on_trial();
    service.hold("a", true);
    service.hold("a", false);
    service.judge(Verdict::Fail("it failed".into()));
    assert_eq!(service.state("a"), NodeState::Joining);
    assert_eq!(service.split(), ["b", "c", "d"]);
}

#[test]
fn a_pause_stops_the_clock_of_a_step() {
    let mut service = Service::on_trial();
    service.judge(Verdict::Pass);
    service.pass_time(30);
    service.steer(Steering::Pause);
    service.pass_time(3600);
    assert_eq!((service.trial(), service.machine.deadline()), (Some(5.0), None));
    assert!(service.machine.reason().expect("a reason").contains("paused"));
    service.judge(Verdict::Pass);
    service.steer(Steering::Resume);
    service.pass_time(29);
    assert_eq!(service.trial(), Some(5.0));
    service.pass_time(1);
    assert_eq!(service.trial(), Some(25.0));
}

#[test]
fn a_paused_version_can_still_fail() {
    let mut service = Service::on_trial();
    service.steer(Steering::Pause);
    service.judge(Verdict::Fail("it failed".into()));
    assert_eq!(service.endings(), [Ending::RolledBack]);
}

#[test]
fn a_pause_holds_a_rolling_change_and_its_deadline_too() {
    let mut service = Service::serving(wanted("v1", &["a", "b"]));
    service.want(wanted("v2", &["c", "d"]));
    service.steer(Steering::Pause);
    service.health("c", true);
    service.pass_time(3600);
    assert_eq!((service.split(), service.endings()), (vec!["a".into(), "b".into()], vec![]));
    service.steer(Steering::Resume);
    service.health("d", true);
    assert_eq!(service.split(), ["c", "d"]);
}

#[test]
fn the_configuration_pauses_promotes_and_aborts_as_well() {
    let mut service = Service::on_trial();
    let controlled = |control| Wanted { control, ..canary("v2", &["e", "f", "g", "h"]) };
    service.want(controlled(Control::Pause));
    service.judge(Verdict::Pass);
    service.pass_time(600);
    assert_eq!(service.trial(), Some(5.0));
    assert!(service.machine.can_steer(Steering::Resume).is_err(), "the file says otherwise");
    service.want(controlled(Control::Abort));
    assert_eq!((service.endings(), service.split().len()), (vec![Ending::RolledBack], 4));
    service.want(controlled(Control::Promote));
    assert_eq!(service.machine.phase(), Phase::Failed, "a refused version stays refused");
    service.steer(Steering::Retry);
    for node in ["e", "f", "g", "h"] {
        service.health(node, true);
    }
    assert_eq!(service.machine.phase(), Phase::Keeping, "no hold was kept");
}

#[test]
fn an_abort_while_the_old_version_is_warm_takes_one_publication() {
    let mut service = Service::on_trial();
    service.steer(Steering::PromoteFull);
    assert_eq!(service.machine.phase(), Phase::Keeping);
    let a = service.node("a");
    service.log.clear();
    service.steer(Steering::Abort);
    assert_eq!((service.publications(), service.split()), (1, vec!["a".into(), "b".into(), "c".into(), "d".into()]));
    assert_eq!(service.node("a"), a, "the warm node, not a new stay");
    assert_eq!(service.endings(), [Ending::RolledBack]);
}

#[test]
fn steps_that_are_edited_in_the_middle_never_take_a_share_back() {
    let mut service = Service::on_trial();
    service.steer(Steering::Promote);
    let mut edited = canary("v2", &["e", "f", "g", "h"]);
    edited.canary.steps =
        [100, 3000].map(|share| Step { share: Share(share), hold: Some(Duration::from_mins(1)) }).into();
    service.want(edited);
    assert_eq!(service.trial(), Some(25.0));
    service.judge(Verdict::Pass);
    assert_eq!(service.trial(), Some(30.0), "its step is gone, so is the hold");
}

#[test]
fn a_version_whose_nodes_die_in_its_trial_is_refused_at_the_deadline() {
    let mut service = Service::on_trial();
    service.pass_time(30);
    for node in ["e", "f", "g", "h"] {
        service.health(node, false);
    }
    assert_eq!((service.trial(), service.split().len()), (None, 4));
    service.pass_time(59);
    assert_eq!(service.endings(), []);
    service.pass_time(1);
    assert_eq!(service.endings(), [Ending::Unhealthy]);
}

#[test]
fn a_newer_release_takes_the_trial_back_and_begins_its_own_from_what_served() {
    let mut service = Service::on_trial();
    service.steer(Steering::Promote);
    service.want(canary("v3", &["i", "j", "k", "l"]));
    assert_eq!(service.endings(), [Ending::Superseded]);
    assert_eq!(service.split(), ["a", "b", "c", "d"], "an unproven version does not go on");
    service.health("i", true);
    assert_eq!(service.trial(), Some(5.0));
    assert_eq!(service.split(), ["a", "b", "c", "d", "i"]);
}

#[test]
fn other_nodes_for_a_version_on_trial_go_on_with_its_share() {
    let mut service = Service::on_trial();
    service.steer(Steering::Promote);
    service.want(canary("v2", &["e", "f", "g", "x"]));
    assert_eq!((service.trial(), service.split().len()), (Some(25.0), 8));
    service.health("x", true);
    service.steer(Steering::PromoteFull);
    assert_eq!(service.split(), ["e", "f", "g", "x"]);
}

#[test]
fn setting_the_release_back_ends_the_trial_at_once() {
    let mut service = Service::on_trial();
    service.log.clear();
    service.want(canary("v1", &["a", "b", "c", "d"]));
    assert_eq!((service.publications(), service.split().len()), (1, 4));
    assert_eq!(service.endings(), [Ending::Superseded, Ending::Done]);
    assert_eq!(service.machine.refused(), [], "nobody said that it is bad");
}

#[test]
fn a_first_step_of_nothing_is_held_like_any_other() {
    let mut service = Service::serving(canary("v1", &["a"]));
    let mut wanted = canary("v2", &["b"]);
    wanted.canary.steps.insert(0, Step { share: Share::NONE, hold: None });
    service.want(wanted);
    service.health("b", true);
    assert_eq!(service.trial(), Some(0.0));
    assert_eq!(service.split(), ["a", "b"], "a preview reaches it");
    service.pass_time(3600);
    assert_eq!(service.trial(), Some(0.0));
    service.steer(Steering::Promote);
    assert_eq!(service.trial(), Some(5.0));
}

#[test]
fn a_restart_in_the_middle_of_a_trial_goes_on_at_the_same_step() {
    let mut service = Service::on_trial();
    service.steer(Steering::Promote);
    let journal = serde_json::to_string(&service.machine).expect("a journal");
    service.machine = serde_json::from_str(&journal).expect("a machine");
    let now = service.now;
    let actions = service.machine.resume(now);
    assert!(actions.iter().any(|action| matches!(action, Action::Publish(split) if split.trial.is_some())));
    assert_eq!(service.trial(), Some(25.0));
    service.want(canary("v2", &["e", "f", "g", "h"]));
    assert_eq!(service.trial(), Some(25.0));
}

#[test]
fn a_first_deploy_and_an_edit_of_one_version_have_no_trial() {
    let mut service = Service::serving(canary("v1", &["a", "b"]));
    service.want(canary("v1", &["c", "d"]));
    service.health("c", true);
    assert_eq!(service.trial(), None);
    service.health("d", true);
    assert_eq!((service.split(), service.endings()), (vec!["c".into(), "d".into()], vec![Ending::Done]));
}
