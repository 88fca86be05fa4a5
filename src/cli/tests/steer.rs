//! Rollouts steered by hand.

use super::*;
use crate::api::{Steering, StepStatus, TrialStatus};
use crate::model::Timestamp;

/// A proxy whose `shop` has v2 on trial; what it is asked to do it refuses, if there is something to say.
fn on_trial(refuses: Option<&'static str>) -> (TempDir, Fake) {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path(), move |request| match (request, refuses) {
        (Request::Steer { .. }, Some(why)) => refused(RefusalKind::Conflict, why),
        (Request::Steer { .. }, None) => Reply::Service(Box::new(trial())),
        (Request::Wait { .. }, _) => progress(vec![
            moment(trial(), None),
            moment(trial(), Some((Outcome::RolledBack, "v2 was sent back: an operator aborted it; v1 serves"))),
        ]),
        _ => Reply::Status(Box::new(status(vec![trial()]))),
    });
    (folder, fake)
}

fn trial() -> crate::api::ServiceStatus {
    let mut shop = service("shop", Path::new("/s.toml"));
    shop.rollout.as_mut().unwrap().trial = Some(TrialStatus {
        share: 25.0,
        step: 2,
        steps: [5.0, 25.0, 50.0].map(|share| StepStatus { share, hold_ms: Some(60_000) }).to_vec(),
        since: Timestamp(crate::admin::fake::NOW.0 - 1000),
        paused: None,
        promoted: false,
        evidence: None,
    });
    shop
}

#[test]
fn each_verb_asks_for_its_own_and_says_what_happens_next() {
    for (args, steering, says) in [
        (&["promote", "shop"][..], Steering::Promote, "shop: v2 has 25% (step 2 of 3); `sluice wait shop` follows it"),
        (&["promote", "shop", "--full"], Steering::PromoteFull, "every further step without a hold"),
        (&["pause", "shop"], Steering::Pause, "v2 stays at 25%"),
        (&["resume", "shop"], Steering::Resume, "goes on"),
        (&["abort", "shop"], Steering::Abort, "`sluice retry shop` tries it again"),
        (&["retry", "shop"], Steering::Retry, "v2 is tried again"),
    ] {
        let (_folder, fake) = on_trial(None);
        let ran = run_on(&fake.socket, args, None);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        assert!(ran.out.contains(says), "{args:?}: {}", ran.out);
        let asked = fake.asked();
        let [Request::Steer { service, steering: asked, by }] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!((service.as_str(), *asked), ("shop", steering));
        assert!(by.contains("uid "), "{by}");

        let mut json = args.to_vec();
        json.push("--json");
        let ran = run_on(&fake.socket, &json, None);
        let value: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!((ran.code, &value["name"]), (0, &Value::from("shop")));
    }
}

#[test]
fn what_cannot_be_done_is_exit_code_2_with_the_reason() {
    for verb in ["promote", "pause", "resume", "abort", "retry"] {
        let (_folder, fake) = on_trial(Some("shop: no rollout is in progress"));
        let ran = run_on(&fake.socket, &[verb, "shop"], None);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""));
        assert_eq!(ran.err, "error: shop: no rollout is in progress\n");
        let ran = run_on(&fake.socket, &[verb, "shop", "--json"], None);
        let value: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!((ran.code, &value["error"]["kind"]), (2, &Value::from("conflict")));
        let ran = run_on(Path::new("/nowhere/s.sock"), &[verb, "shop"], None);
        assert_eq!(ran.code, 1, "{}", ran.err);
    }
}

#[test]
fn waiting_ends_with_the_exit_code_of_the_change_and_an_abort_wants_it_rolled_back() {
    // An aborted deploy puts the file back, and then it asks for another version; the others are not for what comes after theirs.
    for (verb, code, version) in [("abort", 0, None), ("promote", 4, Some("v2")), ("retry", 4, Some("v2"))] {
        let (_folder, fake) = on_trial(None);
        let ran = run_on(&fake.socket, &[verb, "shop", "--wait"], None);
        assert_eq!(ran.code, code, "{verb}: {}{}", ran.out, ran.err);
        let waited = fake.asked().into_iter().find_map(|request| match request {
            Request::Wait { version, .. } => version,
            _ => None,
        });
        assert_eq!(waited.as_ref().map(crate::model::Version::as_str), version, "{verb}");
    }
}

#[test]
fn a_trial_shows_in_the_status_and_as_it_goes_on() {
    let (_folder, fake) = on_trial(None);
    let out = run_on(&fake.socket, &["status"], None).out;
    assert!(out.contains("on trial: v2 with 25%, step 2 of 3"), "{out}");
    let out = run_on(&fake.socket, &["wait", "shop"], None).out;
    assert!(out.contains("on trial with 25%, step 2 of 3"), "{out}");
}
