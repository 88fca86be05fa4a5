//! Who knows a secret reaches the version on trial before it has a share; nobody else learns anything.

use sluicegate::model::FailureKind::Status;

use crate::support::client::{Client, Response};
use crate::support::control::refused;
use crate::support::node::TestNode;
use crate::support::trial::on_trial;

const SECRET: &str = "open-sesame-3f1a9c";

async fn ask(client: &mut Client, fields: &str) -> Response {
    client.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n")).await;
    client.response("GET").await.expect("a response")
}

#[tokio::test]
async fn the_secret_in_a_header_leads_to_the_version_on_trial_and_no_further() {
    let (old, new) = (TestNode::answering("old").await, TestNode::answering("new").await);
    let more = format!("preview = {{ secret = \"{SECRET}\" }}\ncohort = {{}}\n");
    let mut proxy = on_trial(&[old.address], &[new.address], 0, &more);
    let mut client = Client::connect(proxy.address).await;
    let response = ask(&mut client, &format!("x-sluice-preview: {SECRET}")).await;
    assert_eq!(response.text(), "new");
    assert_eq!(response.header("cache-control"), Some("private, no-store"));
    assert!(response.header("set-cookie").is_none(), "a look changes no cohort");
    for wrong in ["", "x", &SECRET[..17], &format!("{SECRET}x"), &SECRET.to_uppercase(), &"x".repeat(SECRET.len())] {
        let response = ask(&mut client, &format!("x-sluice-preview: {wrong}")).await;
        assert_eq!((response.text().as_str(), response.header("cache-control")), ("old", None), "{wrong}");
    }
    assert_eq!(ask(&mut client, "x-sluice-previews: 1").await.text(), "old");
    for request in old.requests().iter().chain(&new.requests()) {
        assert!(request.header("x-sluice-preview").is_none());
    }
    // Nothing is on trial: it opens nothing, and is told to nobody.
    proxy.publish_shares(&[("v1", 10_000)], false);
    assert_eq!(ask(&mut client, &format!("x-sluice-preview: {SECRET}")).await.text(), "old");
    assert!(old.requests().iter().all(|request| request.header("x-sluice-preview").is_none()));
}

#[tokio::test]
async fn the_secret_in_a_cookie_goes_and_the_other_cookies_stay() {
    let (old, new) = (TestNode::answering("old").await, TestNode::answering("new").await);
    let more = format!("preview = {{ by = \"cookie peek\", secret = \"{SECRET}\" }}\n");
    let proxy = on_trial(&[old.address], &[new.address], 0, &more);
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(ask(&mut client, &format!("cookie: a=1; peek={SECRET}; b=2")).await.text(), "new");
    assert_eq!(ask(&mut client, &format!("cookie: peek={SECRET}")).await.text(), "new");
    assert_eq!(ask(&mut client, "cookie: peek=wrong; a=1").await.text(), "old");
    assert_eq!(ask(&mut client, "cookie: a=1;b=2").await.text(), "old");
    let cookies =
        |node: &TestNode| node.requests().iter().map(|r| r.header("cookie").map(str::to_owned)).collect::<Vec<_>>();
    assert_eq!(cookies(&new), [Some("a=1; b=2".to_owned()), None]);
    assert_eq!(cookies(&old), [Some("a=1".to_owned()), Some("a=1;b=2".to_owned())]);
}

#[tokio::test]
async fn a_preview_is_neither_shielded_nor_judged() {
    let old = TestNode::answering("old").await;
    let new = TestNode::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.respond(500, "broken").await;
        }
    })
    .await;
    let more = format!("preview = {{ secret = \"{SECRET}\" }}\n");
    let proxy = on_trial(&[old.address], &[new.address], 10_000, &more);
    let mut client = Client::connect(proxy.address).await;
    let response = ask(&mut client, &format!("x-sluice-preview: {SECRET}")).await;
    assert_eq!((response.status, response.text().as_str()), (500, "broken"));
    assert_eq!(proxy.judged(new.address), (0, vec![]));
    assert_eq!(ask(&mut client, "accept: */*").await.text(), "old");
    assert_eq!(proxy.judged(new.address), (1, vec![(Status, 1)]));
}

#[tokio::test]
async fn without_a_usable_node_on_trial_a_preview_shows_the_old_version() {
    let old = TestNode::answering("old").await;
    let more = format!("preview = {{ secret = \"{SECRET}\" }}\n");
    let proxy = on_trial(&[old.address], &[refused()], 0, &more);
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(ask(&mut client, &format!("x-sluice-preview: {SECRET}")).await.text(), "old");
}
