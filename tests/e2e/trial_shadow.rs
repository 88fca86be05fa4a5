//! Copies for the version on trial: counted, bounded, and never felt.

use std::time::{Duration, Instant};

use sluicegate::model::FailureKind::{Status, Timeout};

use crate::support::client::Client;
use crate::support::node::TestNode;
use crate::support::trial::on_trial;
use crate::support::until;

const ALL: &str = "shadow.share = \"100%\"\n";

#[tokio::test]
async fn safe_requests_without_a_body_are_copied_and_marked() {
    let (old, new) = (TestNode::answering("old").await, TestNode::answering("new").await);
    let proxy = on_trial(&[old.address], &[new.address], 0, ALL);
    let mut client = Client::connect(proxy.address).await;
    for (index, method) in ["GET", "HEAD", "OPTIONS"].into_iter().enumerate() {
        client
            .send(format!("{method} /{method}?q HTTP/1.1\r\nhost: shop\r\nx-sluice-shadow: 1\r\nx-a: b\r\n\r\n"))
            .await;
        assert_eq!(client.response(method).await.expect("a response").status, 200);
        until("the copy is there", || new.requests().len() == index + 1).await;
        let copy = new.requests().pop().expect("a copy");
        assert_eq!(copy.line, format!("{method} /{method}?q HTTP/1.1"));
        assert_eq!((copy.header("host"), copy.header("x-a")), (Some("shop"), Some("b")));
        assert_eq!(copy.all("x-sluice-shadow"), ["1"]);
    }
    assert!(old.requests().iter().all(|request| request.header("x-sluice-shadow").is_none()), "only Sluice says so");
    until("they are judged", || proxy.judged(new.address) == (3, vec![])).await;
    assert_eq!(proxy.node(new.address).trial_counts(), (0, 3, 0));
    // What changes something, or has a body, is not copied.
    client.post("/", "body").await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx").await;
    client.response("GET").await.expect("a response");
    client.get("/last").await;
    until("the last copy is there", || new.requests().len() == 4).await;
    assert!(new.requests()[3].line.starts_with("GET /last"));
}

#[tokio::test]
async fn a_version_that_fails_its_copies_is_judged_by_them_and_nobody_feels_it() {
    let old = TestNode::answering("old").await;
    let new = TestNode::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.respond(500, "broken").await;
        }
    })
    .await;
    let proxy = on_trial(&[old.address], &[new.address], 0, ALL);
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..4 {
        let response = client.get("/").await;
        assert_eq!((response.status, response.text().as_str()), (200, "old"));
    }
    until("they are judged", || proxy.judged(new.address) == (4, vec![(Status, 4)])).await;
    until("they are compared", || proxy.node(new.address).trial_counts() == (0, 4, 4)).await;
    assert_eq!(proxy.judged(old.address), (4, vec![]));
}

#[tokio::test]
async fn copies_are_bounded_and_end_at_their_deadline_also_when_their_client_has_gone() {
    let old = TestNode::answering("old").await;
    let new = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await;
    let more = "shadow = { share = \"100%\", most = 3, timeout = \"500ms\" }\n";
    let proxy = on_trial(&[old.address], &[new.address], 0, more);
    let mut client = Client::connect(proxy.address).await;
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "old");
    }
    // On a machine that takes longer than the copies, more than three may have had their turn.
    let quick = began.elapsed() < Duration::from_millis(450);
    drop(client);
    until("copies wait", || !new.requests().is_empty()).await;
    until("they end", || proxy.node(new.address).inflight() == 0).await;
    let copies = new.requests().len() as u64;
    assert!(!quick || copies <= 3, "{copies}");
    assert_eq!(proxy.judged(new.address), (copies, vec![(Timeout, copies)]));
    // And there is room for further ones.
    Client::connect(proxy.address).await.get("/").await;
    until("another copy", || new.requests().len() as u64 > copies).await;
}

#[tokio::test]
async fn the_share_is_met_and_an_endless_answer_is_left() {
    let old = TestNode::answering("old").await;
    let new = TestNode::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            for _ in 0..1_000 {
                peer.send(&piece).await;
            }
        }
    })
    .await;
    let proxy = on_trial(&[old.address], &[new.address], 0, "shadow.share = \"5%\"\n");
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..200 {
        client.get("/").await;
    }
    let copied = || proxy.node(new.address).trial_counts().1;
    until("they are copied", || (8..=12).contains(&copied())).await;
    until("they are left", || proxy.node(new.address).inflight() == 0).await;
    assert!((8..=12).contains(&copied()), "{}", copied());
}

#[tokio::test]
async fn a_copy_does_not_outlive_the_drain_of_its_node() {
    let old = TestNode::answering("old").await;
    let new = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await;
    let proxy = on_trial(&[old.address], &[new.address], 0, "shadow = { share = \"100%\", timeout = \"1h\" }\n");
    Client::connect(proxy.address).await.get("/").await;
    until("the copy waits", || new.requests().len() == 1).await;
    let holders = proxy.holders(new.address).await;
    assert_eq!(holders.len(), 1, "{holders:?}");
    proxy.cut(new.address, sluicegate::model::WorkKind::Request, Duration::from_millis(200)).all().await;
    until("the claim is given back", || proxy.node(new.address).inflight() == 0).await;
    assert_eq!(proxy.judged(new.address).1, vec![], "a cut is no failure");
}
