//! What the version on trial fails, the old one answers.

use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use sluicegate::model::FailureKind::{Connect, Reset, Status, Timeout, Truncated};

use crate::support::any::{AnyNode, Http, full};
use crate::support::client::Client;
use crate::support::control::refused;
use crate::support::node::TestNode;
use crate::support::trial::on_trial;
use crate::support::until;

/// Everything goes to the version on trial.
const ALL: u32 = 10_000;

/// A node that answers everything with this status.
async fn failing(status: u16) -> TestNode {
    TestNode::start(move |mut peer| async move {
        while peer.request().await.is_some() {
            peer.respond(status, "bad").await;
        }
    })
    .await
}

/// A node that takes requests and says nothing.
async fn silent() -> TestNode {
    TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await
}

#[tokio::test]
async fn a_get_that_the_version_on_trial_fails_is_answered_by_the_old_one_and_counted_once() {
    let old = TestNode::answering("old").await;
    for (name, new, kind) in [
        ("500", failing(500).await, Status),
        ("no answer", TestNode::dropping().await, Reset),
        ("reset in the head", TestNode::sending("HTTP/1.1 200 OK\r\ncontent-le", true).await, Reset),
        ("no HTTP", TestNode::sending("SSH-2.0-x\r\n\r\n", true).await, Reset),
        ("silence", silent().await, Timeout),
    ] {
        let more = "retry = { attempts = 1, budget = \"0%\" }\nrollout.guard.patience = \"200ms\"\n";
        let proxy = on_trial(&[old.address], &[new.address], ALL, more);
        let mut client = Client::connect(proxy.address).await;
        for (number, method) in ["GET", "HEAD", "OPTIONS", "GET"].into_iter().enumerate() {
            client.send(format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n")).await;
            let response = client.response(method).await.expect("a response");
            assert_eq!(response.status, 200, "{name} {method}");
            assert!(response.header("x-sluice-error").is_none());
            let count = number as u64 + 1;
            assert_eq!(proxy.judged(new.address), (count, vec![(kind, count)]), "{name}");
            assert_eq!(proxy.judged(old.address), (count, vec![]), "{name}");
            assert_eq!(proxy.shielded(new.address), count, "{name}");
        }
        assert_eq!(proxy.counts().1, 0, "nobody saw a failure");
        until("no claim is left", || proxy.node(new.address).inflight() == 0).await;
    }
}

#[tokio::test]
async fn what_could_not_be_sent_goes_to_the_old_version_whatever_the_method() {
    let (old, dead) = (TestNode::answering("old").await, [refused(), refused()]);
    let proxy = on_trial(&[old.address], &dead, ALL, "");
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.post("/", "body").await.text(), "old");
    let judged = [proxy.judged(dead[0]), proxy.judged(dead[1])];
    assert_eq!(judged.iter().map(|node| node.0).sum::<u64>(), 1, "one failure, of two dead nodes");
    assert!(judged.iter().flat_map(|node| &node.1).all(|(kind, count)| (*kind, *count) == (Connect, 1)));
    for _ in 0..10 {
        assert_eq!(client.post("/", "body").await.text(), "old");
    }
    assert_eq!(old.requests().len(), 11);
}

#[tokio::test]
async fn a_post_never_goes_twice() {
    let old = TestNode::answering("old").await;
    for (new, status) in [(failing(503).await, 503), (TestNode::dropping().await, 502)] {
        let proxy = on_trial(&[old.address], &[new.address], ALL, "rollout.shield = \"idempotent\"\n");
        let mut client = Client::connect(proxy.address).await;
        for _ in 0..5 {
            assert_eq!(client.post("/", "body").await.status, status);
        }
        assert_eq!((new.requests().len(), old.requests().len()), (5, 0));
        assert_eq!(proxy.judged(new.address).0, 5);
    }
}

#[tokio::test]
async fn a_put_is_shielded_only_if_so_configured_and_with_its_whole_body() {
    let (old, new) = (TestNode::echoing().await, failing(500).await);
    let body = "0123456789".repeat(3_000);
    for (shield, buffer, wanted) in
        [("safe", "64KiB", 500), ("idempotent", "64KiB", 200), ("idempotent", "1KiB", 500), ("off", "64KiB", 500)]
    {
        let more = format!("rollout.shield = \"{shield}\"\nretry.buffer = \"{buffer}\"\n");
        let proxy = on_trial(&[old.address], &[new.address], ALL, &more);
        let mut client = Client::connect(proxy.address).await;
        let before = old.requests().len();
        for key in ["PUT /", "POST /"] {
            let head = format!("content-length: {}\r\nidempotency-key: 7", body.len());
            client.send(format!("{key} HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n{body}")).await;
            let response = client.response("PUT").await.expect("a response");
            assert_eq!(response.status, wanted, "{shield} {buffer}");
            assert!(wanted != 200 || response.body == body.as_bytes());
        }
        assert_eq!(old.requests().len() - before, if wanted == 200 { 2 } else { 0 });
    }
}

#[tokio::test]
async fn if_the_old_version_fails_too_its_answer_is_the_clients() {
    let (old, new) = (failing(503).await, failing(500).await);
    let proxy = on_trial(&[old.address], &[new.address], ALL, "");
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.get("/").await.status, 503);
    assert_eq!(proxy.judged(new.address), (1, vec![(Status, 1)]));
    assert_eq!(proxy.judged(old.address), (1, vec![(Status, 1)]));
    assert_eq!((new.requests().len(), old.requests().len()), (1, 1), "and neither is asked again");
}

#[tokio::test]
async fn without_room_at_the_old_version_the_answer_of_the_one_on_trial_stands() {
    let (old, new) = (silent().await, failing(500).await);
    let proxy = on_trial(&[old.address], &[new.address], ALL, "balance.max_requests = 1\n");
    assert!(proxy.node(old.address).enter(1), "its only place is taken");
    let mut client = Client::connect(proxy.address).await;
    let response = client.get("/").await;
    assert_eq!((response.status, response.text().as_str()), (500, "bad"));
    assert_eq!(proxy.shielded(new.address), 0);
    proxy.node(old.address).leave();
}

/// What has been passed on cannot be taken back.
#[tokio::test]
async fn an_answer_that_breaks_off_later_is_counted_once_and_not_shielded() {
    let old = TestNode::answering("old").await;
    let new = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        // Until the proxy has passed it on: it then asks for more.
        tokio::time::sleep(Duration::from_millis(300)).await;
    })
    .await;
    let proxy = on_trial(&[old.address], &[new.address], ALL, "");
    let mut client = Client::connect(proxy.address).await;
    let response = client.get("/").await;
    assert!(response.truncated && response.status == 200);
    assert_eq!(proxy.judged(new.address), (1, vec![(Truncated, 1)]));
    assert_eq!(old.requests().len(), 0);
}

/// The guard learns of it at once, also where nobody may answer instead.
#[tokio::test]
async fn an_answer_that_begins_after_the_guards_patience_is_a_timeout_and_stays_one() {
    let old = TestNode::answering("old").await;
    let new = TestNode::start(|mut peer| async move {
        while peer.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(600)).await;
            peer.respond(200, "late").await;
        }
    })
    .await;
    let proxy = on_trial(&[old.address], &[new.address], ALL, "rollout.guard.patience = \"100ms\"\n");
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
    until("the guard knows", || proxy.judged(new.address) == (1, vec![(Timeout, 1)])).await;
    assert_eq!(client.response("POST").await.expect("a response").text(), "late");
    assert_eq!(proxy.judged(new.address), (1, vec![(Timeout, 1)]), "and not again");
    // Both versions are measured alike.
    let slow = on_trial(&[new.address], &[old.address], 0, "rollout.guard.patience = \"100ms\"\n");
    let began = Instant::now();
    assert_eq!(Client::connect(slow.address).await.get("/").await.text(), "late");
    assert!(began.elapsed() >= Duration::from_millis(500), "nobody shields the old version");
    assert_eq!(slow.judged(new.address), (1, vec![(Timeout, 1)]));
}

/// A client that goes takes nothing away from what the guard knows.
#[tokio::test]
async fn a_client_that_gives_up_on_a_silent_node_was_counted() {
    let (old, new) = (TestNode::answering("old").await, silent().await);
    let more = "rollout.shield = \"off\"\nrollout.guard.patience = \"100ms\"\n";
    let proxy = on_trial(&[old.address], &[new.address], ALL, more);
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until("the guard knows", || proxy.judged(new.address) == (1, vec![(Timeout, 1)])).await;
    drop(client);
    until("the claim is given back", || proxy.node(new.address).inflight() == 0).await;
    assert_eq!(proxy.judged(new.address), (1, vec![(Timeout, 1)]));
}

/// A slow upload is the client's matter.
#[tokio::test]
async fn patience_is_not_for_clients() {
    let (old, new) = (TestNode::answering("old").await, TestNode::answering("new").await);
    let proxy = on_trial(&[old.address], &[new.address], ALL, "rollout.guard.patience = \"400ms\"\n");
    let mut client = Client::connect(proxy.address).await;
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab").await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    client.send("cd").await;
    assert_eq!(client.response("PUT").await.expect("a response").text(), "new");
    assert_eq!(proxy.judged(new.address), (1, vec![]));
}

/// The watchdog's last look at a client that dawdles once took the client's time from the node.
#[tokio::test]
async fn a_node_has_all_its_time_after_a_client_that_dawdled() {
    let old = TestNode::answering("old").await;
    let new = TestNode::start(|mut peer| async move {
        while peer.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(500)).await;
            peer.respond(200, "new").await;
        }
    })
    .await;
    let proxy = on_trial(&[old.address], &[new.address], ALL, "rollout.guard.patience = \"1s\"\n");
    let mut client = Client::connect(proxy.address).await;
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab").await;
    tokio::time::sleep(Duration::from_millis(1_800)).await;
    client.send("cd").await;
    assert_eq!(client.response("PUT").await.expect("a response").text(), "new");
    assert_eq!(proxy.judged(new.address), (1, vec![]));
}

#[tokio::test]
async fn over_http2_a_stream_is_shielded_and_its_connection_lives() {
    let of = |status: u16, body: &'static str| {
        AnyNode::start(Http::Two, move |_| async move {
            let mut response = Response::new(full(body));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            response
        })
    };
    let (old, new) = (of(200, "old").await, of(500, "bad").await);
    let proxy = on_trial(&[old.address], &[new.address], ALL, "connections.protocol = \"h2c\"\n");
    let mut client = Client::connect(proxy.address).await;
    for count in 1..=5 {
        assert_eq!(client.get("/").await.text(), "old");
        assert_eq!(proxy.judged(new.address), (count, vec![(Status, count)]));
    }
    assert_eq!(client.post("/", "body").await.status, 500);
}

#[tokio::test]
async fn without_a_trial_nothing_is_shielded() {
    let (old, new) = (TestNode::answering("old").await, failing(500).await);
    let mut proxy = on_trial(&[old.address], &[new.address], ALL, "");
    proxy.publish_shares(&[("v1", 0), ("v2", ALL)], false);
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.get("/").await.status, 500);
    assert_eq!(old.requests().len(), 0);
}
