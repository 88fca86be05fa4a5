//! The demo's course against stand-ins for the proxy.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::script::{Release, Setup, play};
use super::seam::{self, Launch};
use super::summary::Summary;
use super::view::Screen;
use super::{Origin, fake, keep, tables};
use crate::api::Outcome;

fn setup(launch: Launch, unhealthy: bool) -> Setup {
    let release = if unhealthy { Release::Unhealthy } else { Release::Good };
    Setup { release, rate: 100.0, before: Duration::from_secs(1), after: Duration::from_millis(500), launch }
}

async fn summary_with(launch: Launch, unhealthy: bool) -> Summary {
    let setup = setup(launch, unhealthy);
    let (summary, stage) = play(&setup, &mut Screen::new(true)).await.unwrap();
    drop(stage);
    summary
}

#[tokio::test]
async fn a_careful_proxy_passes() {
    let summary = summary_with(fake::careful, false).await;
    assert!(summary.ok, "{summary:#?}");
    assert_eq!((summary.failed, summary.duplicated, summary.lost), (0, 0, 0));
    assert!(summary.versions["v1"] > 0 && summary.versions["v2"] > 0);
    // What the client reads last may reach it a little after the proxy has written it.
    let slack = 1_000;
    let (first, last) = (summary.first_new_ms.unwrap(), summary.last_old_ms.unwrap());
    assert!(first <= summary.wait_ms, "{first} ms, {} ms", summary.wait_ms);
    assert!(last <= summary.wait_ms + slack, "{last} ms, {} ms", summary.wait_ms);
    let text = tables::table_of(&summary).join("\n");
    assert!(text.contains("0 of") && text.contains(&summary.verdict), "{text}");
}

#[tokio::test]
async fn a_careless_proxy_is_found_out() {
    let summary = summary_with(fake::careless, false).await;
    assert!(!summary.ok, "{summary:#?}");
    assert_eq!(summary.outcome, Outcome::Done, "it claims that all is well");
    assert!(summary.failed > 0);
    assert!(summary.verdict.contains("failed"), "{}", summary.verdict);
    let text = tables::table_of(&summary).join("\n");
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
    assert!(!wrong.problems(Release::Unhealthy, 0).is_empty());
    assert!(!summary.problems(Release::Good, 0).is_empty());
    assert!(!summary.problems(Release::Unhealthy, 1).is_empty());
}

#[tokio::test]
async fn a_demo_that_is_kept_can_go_back_to_the_first_version() {
    let setup = setup(fake::careful, false);
    let mut screen = Screen::new(true);
    let (_, mut stage) = play(&setup, &mut screen).await.unwrap();
    let (config, target) = (stage.config.clone(), stage.target);
    let old: Vec<_> = stage.old.iter().map(Origin::address).collect();
    let back = async move {
        let nodes: Vec<_> = old.iter().map(ToString::to_string).collect();
        seam::set_release(&config, "shop", "v1", &nodes).unwrap();
        while !answer(target).await.contains("x-version: v1") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let kept = keep(&setup, &mut screen, &mut stage, back);
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, kept).await.unwrap().unwrap();
}

/// What the proxy answers to a plain GET.
async fn answer(target: SocketAddr) -> String {
    let mut stream = TcpStream::connect(target).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_proxy_that_does_not_start_is_an_error_that_says_why() {
    let setup = Setup {
        release: Release::Good,
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
    let before = "[service.shop]\nrelease = \"v1\"\n[service.shop.versions]\nv1 = [\"a:1\"]\n";
    let nodes = ["b:1".to_owned(), "b:2".to_owned()];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sluice.toml");
    std::fs::write(&file, before).unwrap();
    seam::set_release(&file, "shop", "v2", &nodes).unwrap();
    let read: toml::Table = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    let shop = &read["service"]["shop"];
    assert_eq!(shop["release"].as_str(), Some("v2"));
    assert_eq!(shop["versions"]["v1"].as_array().unwrap().len(), 1);
    assert_eq!(shop["versions"]["v2"].as_array().unwrap().len(), 2);
}
