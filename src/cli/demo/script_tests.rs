//! The demo's course against stand-ins for the proxy.

use std::time::Duration;

use super::script::{Setup, play};
use super::seam::{self, Launch};
use super::summary::Summary;
use super::view::Screen;
use super::{fake, view};
use crate::api::Outcome;

async fn summary_with(launch: Launch, unhealthy: bool) -> Summary {
    let setup = Setup {
        unhealthy,
        rate: 100.0,
        before: Duration::from_secs(1),
        after: Duration::from_millis(500),
        launch,
    };
    let (summary, stage) = play(&setup, &mut Screen::new(true)).await.unwrap();
    drop(stage);
    summary
}

#[tokio::test]
async fn a_careful_proxy_passes() {
    let summary = summary_with(fake::careful, false).await;
    assert!(summary.ok, "{summary:#?}");
    assert_eq!(
        (summary.failed, summary.duplicated, summary.lost),
        (0, 0, 0)
    );
    assert!(summary.versions["v1"] > 0 && summary.versions["v2"] > 0);
    // It waited for downloads that had just begun, and for nothing of the new version.
    let (first, last) = (summary.first_new_ms.unwrap(), summary.last_old_ms.unwrap());
    assert!(
        first >= 900,
        "v2 needs a second to be ready, came after {first} ms"
    );
    assert!(last <= summary.wait_ms, "{last} ms, {} ms", summary.wait_ms);
    let text = view::table_of(&summary).join("\n");
    assert!(
        text.contains("0 of") && text.contains(&summary.verdict),
        "{text}"
    );
}

#[tokio::test]
async fn a_careless_proxy_is_found_out() {
    let summary = summary_with(fake::careless, false).await;
    assert!(!summary.ok, "{summary:#?}");
    assert_eq!(summary.outcome, Outcome::Done, "it claims that all is well");
    assert!(summary.failed > 0);
    assert!(summary.verdict.contains("failed"), "{}", summary.verdict);
    let text = view::table_of(&summary).join("\n");
    assert!(text.contains("The first failures:"), "{text}");
}

#[tokio::test]
async fn a_version_that_never_becomes_healthy_is_refused_and_that_is_success() {
    let summary = summary_with(fake::careful, true).await;
    assert!(summary.ok, "{summary:#?}");
    assert_eq!(summary.outcome, Outcome::Unhealthy);
    assert_eq!(summary.versions.get("v2"), None);
    // The same end is no success for a version that should have come.
    let mut wrong = summary.clone();
    wrong.outcome = Outcome::Done;
    assert!(!wrong.problems(true, 0).is_empty());
    assert!(!summary.problems(false, 0).is_empty());
    assert!(!summary.problems(true, 1).is_empty());
}

#[tokio::test]
async fn a_proxy_that_does_not_start_is_an_error_that_says_why() {
    let setup = Setup {
        unhealthy: false,
        rate: 10.0,
        before: Duration::ZERO,
        after: Duration::ZERO,
        launch: |_| Err("the port is taken".into()),
    };
    let error = play(&setup, &mut Screen::new(true)).await.err().unwrap();
    assert_eq!(error, "the proxy cannot be started: the port is taken");
}

#[test]
fn the_edit_names_the_new_version_and_its_nodes_and_keeps_the_old_ones() {
    let before =
        "[service.shop]\nrelease = \"v1\"\n[service.shop.versions]\nv1 = [\"a:1\"]\n";
    let nodes = ["b:1".to_owned(), "b:2".to_owned()];
    let after = seam::set_release(before, "shop", "v2", &nodes).unwrap();
    let read: toml::Table = after.parse().unwrap();
    let shop = &read["service"]["shop"];
    assert_eq!(shop["release"].as_str(), Some("v2"));
    assert_eq!(shop["versions"]["v1"].as_array().unwrap().len(), 1);
    assert_eq!(shop["versions"]["v2"].as_array().unwrap().len(), 2);
}
