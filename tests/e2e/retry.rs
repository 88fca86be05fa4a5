//! What goes to another node when one fails, and what never does.

use std::time::{Duration, Instant};

use crate::support::client::{Client, Response};
use crate::support::control::{BlackHole, refused, single};
use crate::support::node::TestNode;
use crate::support::{Proxy, app};

/// With two nodes and this many requests, a node that is never chosen first is no accident (2^-40).
const MANY: usize = 40;

fn fault(response: &Response) -> (u16, &str) {
    (response.status, response.header("x-sluice-error").unwrap_or_default())
}

#[tokio::test]
async fn a_refused_connection_goes_to_another_node_whatever_the_method() {
    let node = TestNode::answering("here").await;
    let proxy = Proxy::with(&app(&[refused(), node.address], ""));
    let mut client = Client::connect(proxy.address).await;
    for round in 0..MANY {
        assert_eq!(client.get("/").await.text(), "here", "GET {round}");
        assert_eq!(client.post("/", "body").await.text(), "here", "POST {round}");
    }
    assert_eq!(node.requests().len(), 2 * MANY);
    assert!(proxy.counts().2 > 0, "the dead node was tried");
}

/// HTTP/1.0 without a host asks a node by its own name, so a second node must not be asked by the first one's.
#[tokio::test]
async fn a_request_without_a_host_asks_each_node_by_its_own_name() {
    let node = TestNode::answering("here").await;
    let proxy = single(&[refused(), node.address], "");
    for _ in 0..MANY {
        let mut client = Client::connect(proxy.address).await;
        client.send("GET / HTTP/1.0\r\n\r\n").await;
        assert_eq!(client.response("GET").await.expect("a response").text(), "here");
    }
    let own = node.address.to_string();
    assert!(node.requests().iter().all(|request| request.all("host") == [own.as_str()]));
}

#[tokio::test]
async fn a_connection_that_is_not_accepted_in_time_goes_to_another_node() {
    let hole = BlackHole::new();
    let node = TestNode::answering("here").await;
    let proxy = single(&[hole.address, node.address], "timeouts.connect = \"200ms\"");
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..10 {
        assert_eq!(client.post("/", "body").await.text(), "here");
    }
    assert_eq!(node.requests().len(), 10);
}

#[tokio::test]
async fn a_get_without_an_answer_goes_to_another_node() {
    let (bad, good) = (TestNode::dropping().await, TestNode::answering("here").await);
    let proxy = single(&[bad.address, good.address], "");
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..MANY {
        assert_eq!(client.get("/").await.text(), "here");
    }
    assert!(!bad.requests().is_empty(), "the bad node was tried");
    assert_eq!(good.requests().len(), MANY);
}

#[tokio::test]
async fn a_post_without_an_answer_is_never_sent_again() {
    let (bad, good) = (TestNode::dropping().await, TestNode::answering("here").await);
    let proxy = single(&[bad.address, good.address], "");
    let mut client = Client::connect(proxy.address).await;
    let mut lost = 0;
    for round in 0..MANY {
        let response = client.post(&format!("/{round}"), "body").await;
        if response.status != 200 {
            assert_eq!(fault(&response), (502, "reset"));
            lost += 1;
        }
    }
    assert_eq!((bad.requests().len(), good.requests().len()), (lost, MANY - lost));
    assert!(lost > 0, "the bad node was tried");
}

#[tokio::test]
async fn a_post_with_an_idempotency_key_is_sent_again_with_its_whole_body() {
    let (bad, good) = (TestNode::dropping().await, TestNode::answering("here").await);
    let proxy = single(&[bad.address, good.address], "");
    let mut client = Client::connect(proxy.address).await;
    let body = "0123456789".repeat(3_000);
    for _ in 0..MANY {
        let head = format!("content-length: {}\r\nidempotency-key: 7", body.len());
        client.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n{body}")).await;
        assert_eq!(client.response("POST").await.expect("a response").text(), "here");
    }
    assert!(!bad.requests().is_empty(), "the bad node was tried");
    assert_eq!(good.requests().len(), MANY);
    assert!(good.requests().iter().all(|request| request.body == body.as_bytes()));
}

#[tokio::test]
async fn a_chunked_body_is_sent_again_chunk_by_chunk() {
    let (bad, good) = (TestNode::dropping().await, TestNode::answering("here").await);
    let proxy = single(&[bad.address, good.address], "");
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..MANY {
        client.send("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
        tokio::task::yield_now().await;
        client.send("4\r\ndefg\r\n0\r\n\r\n").await;
        assert_eq!(client.response("PUT").await.expect("a response").text(), "here");
    }
    assert!(!bad.requests().is_empty(), "the bad node was tried");
    assert!(good.requests().iter().all(|request| request.body == b"abcdefg"));
}

#[tokio::test]
async fn a_body_that_is_still_arriving_is_sent_again_from_its_start() {
    // The bad node hangs up after the first bytes of the body, when the client has not sent the rest.
    let bad = TestNode::start(|mut peer| async move {
        peer.head().await;
        peer.bytes(3).await;
    })
    .await;
    let good = TestNode::answering("here").await;
    let proxy = single(&[bad.address, good.address], "");
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..MANY {
        let before = (bad.accepted(), proxy.counts().2);
        client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc").await;
        let node = proxy.node(good.address);
        crate::support::until("the good node has it", || node.inflight() == 1).await;
        client.send("def").await;
        assert_eq!(client.response("PUT").await.expect("a response").text(), "here");
        assert_eq!(bad.accepted() - before.0, (proxy.counts().2 - before.1) as usize);
    }
    assert!(bad.accepted() > 0, "the bad node was tried");
    assert!(good.requests().iter().all(|request| request.body == b"abcdef"));
}

#[tokio::test]
async fn a_body_beyond_the_buffer_is_not_sent_again() {
    let (bad, good) = (TestNode::dropping().await, TestNode::answering("here").await);
    let proxy = single(&[bad.address, good.address], "retry.buffer = \"1KiB\"\neject.failures = 0");
    for (size, replayed) in [(1024, true), (1025, false), (200_000, false)] {
        let before = (bad.requests().len(), good.requests().len());
        let mut client = Client::connect(proxy.address).await;
        let mut lost = 0;
        for _ in 0..MANY {
            let body = "x".repeat(size);
            client.send(format!("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n{body}")).await;
            let response = client.response("PUT").await.expect("a response");
            if response.status != 200 {
                assert_eq!(fault(&response), (502, "reset"));
                lost += 1;
            }
        }
        let (bad, good) = (bad.requests().len() - before.0, good.requests().len() - before.1);
        assert!(bad > 0, "the bad node was tried");
        assert_eq!((lost, good), if replayed { (0, MANY) } else { (bad, MANY - bad) }, "{size} bytes");
    }
}

#[tokio::test]
async fn tries_end_at_the_limit() {
    let nodes = [TestNode::dropping().await, TestNode::dropping().await, TestNode::dropping().await];
    let addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
    for (attempts, sent) in [(1, 1), (2, 2), (5, 3)] {
        let proxy = single(&addresses, &format!("retry.attempts = {attempts}"));
        let before: usize = nodes.iter().map(|node| node.requests().len()).sum();
        let response = Client::connect(proxy.address).await.get("/").await;
        assert_eq!(fault(&response), (502, "reset"));
        let after: usize = nodes.iter().map(|node| node.requests().len()).sum();
        assert_eq!(after - before, sent, "attempts = {attempts}");
    }
}

#[tokio::test]
async fn replays_end_with_the_budget() {
    let nodes = [TestNode::dropping().await, TestNode::dropping().await];
    let proxy = single(&[nodes[0].address, nodes[1].address], "retry.budget = \"10%\"\nretry.attempts = 2");
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..300 {
        assert_eq!(fault(&client.get("/").await), (502, "reset"));
    }
    let sent: usize = nodes.iter().map(|node| node.requests().len()).sum();
    // 300 first tries, the reserve of 100, and a tenth of 300 earned on the way.
    assert!((400..=430).contains(&sent), "{sent} requests sent");
}

#[tokio::test]
async fn with_every_node_down_the_answer_comes_at_once() {
    let began = Instant::now();
    let proxy = single(&[refused(), refused(), refused()], "");
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..20 {
        assert_eq!(fault(&client.get("/").await), (502, "connect"));
        assert_eq!(fault(&client.post("/", "body").await), (502, "connect"));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn without_a_node_the_answer_is_503() {
    let node = TestNode::answering("here").await;
    let mut proxy = single(&[node.address], "");
    proxy.publish(|_| false);
    let mut client = Client::connect(proxy.address).await;
    let response = client.get("/").await;
    assert_eq!(fault(&response), (503, "no-node"));
    assert_eq!(response.header("retry-after"), Some("1"));
    proxy.publish(|_| true);
    assert_eq!(client.get("/").await.text(), "here");
}

/// Part of a head has reached nobody but Sluice, and the request may be executed twice without harm: so it is replayed.
#[tokio::test]
async fn a_get_whose_response_broke_off_inside_its_head_goes_to_another_node() {
    let bad = TestNode::sending("HTTP/1.1 200 OK\r\ncontent-le", true).await;
    let good = TestNode::answering("here").await;
    let proxy = single(&[bad.address, good.address], "");
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..MANY {
        assert_eq!(client.get("/").await.text(), "here");
    }
    let tried = bad.requests().len();
    assert!(tried > 0, "the bad node was tried");
    let mut lost = 0;
    for _ in 0..MANY {
        let response = client.post("/", "body").await;
        lost += usize::from(response.status != 200);
    }
    assert_eq!(bad.requests().len() - tried, lost, "a POST is not replayed");
}

#[tokio::test]
async fn a_response_that_broke_off_inside_its_body_is_never_taken_for_whole() {
    let chunked = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    for (framed, pause) in [("content-length: 10\r\n\r\nhello", false), (chunked, false), (chunked, true)] {
        let bad = TestNode::start(move |mut peer| async move {
            peer.request().await;
            peer.send(format!("HTTP/1.1 200 OK\r\n{framed}")).await;
            if pause {
                // The head goes out before the connection breaks.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let good = TestNode::answering("here").await;
        let proxy = single(&[bad.address, good.address], "");
        let mut broken = 0;
        for _ in 0..MANY {
            let mut client = Client::connect(proxy.address).await;
            let response = client.get("/").await;
            if response.truncated {
                assert!(response.status == 200 && b"hello".starts_with(&response.body[..]));
            } else if response.status != 200 {
                assert_eq!(fault(&response), (502, "bad-response"));
            } else {
                assert_eq!(response.text(), "here");
                continue;
            }
            broken += 1;
        }
        assert!(broken > 0, "the bad node was tried");
        assert_eq!((bad.requests().len(), good.requests().len()), (broken, MANY - broken), "not replayed");
    }
}

/// A node that closes connections which are idle for some milliseconds, without a word.
async fn impatient(idle: Duration) -> TestNode {
    TestNode::start(move |mut peer| async move {
        while let Ok(Some(_)) = tokio::time::timeout(idle, peer.request()).await {
            peer.respond(200, "here").await;
        }
    })
    .await
}

/// One idle connection may be as dead as another. With three nodes that have all just hung up, and three tries, a request
/// that took one idle connection after the other was lost.
#[tokio::test]
async fn a_request_that_was_lost_on_an_idle_connection_gets_a_new_one() {
    // Each connection answers once, and ends when it is used again.
    let start = || {
        TestNode::start(|mut peer| async move {
            peer.request().await;
            peer.respond(200, "here").await;
            peer.request().await;
        })
    };
    let nodes = [start().await, start().await, start().await];
    let addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
    let proxy = single(&addresses, "");
    let mut client = Client::connect(proxy.address).await;
    for round in 0..300 {
        let response = client.get("/").await;
        assert_eq!(response.text(), "here", "round {round}: {:?}", fault(&response));
    }
    assert!(proxy.counts().2 > 0, "no request was ever lost");
}

#[tokio::test]
async fn the_only_node_gets_a_request_again_that_was_lost_on_an_idle_connection() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.respond(200, "here").await;
        peer.request().await;
    })
    .await;
    let proxy = single(&[node.address], "retry.budget = \"1%\"");
    let mut client = Client::connect(proxy.address).await;
    // Every other one is lost, more than the budget has: what is replayed here says nothing about trouble.
    for round in 0..300 {
        let response = client.get("/").await;
        assert_eq!(response.text(), "here", "round {round}: {:?}", fault(&response));
    }
}

/// A busy machine: the node's decision to hang up, made long ago, meets a POST on a connection that was in use just now.
#[tokio::test]
async fn a_post_takes_no_idle_connection_of_a_node_that_hangs_up_soon() {
    let node = impatient(Duration::from_millis(50)).await;
    let proxy = single(&[node.address], "connections.fresh = \"1h\"");
    let mut client = Client::connect(proxy.address).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        assert_eq!(client.get("/").await.text(), "here");
        let before = node.accepted();
        assert_eq!(client.post("/", "body").await.text(), "here");
        assert_eq!(node.accepted(), before + 1, "after {:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}

#[tokio::test]
async fn a_post_takes_an_idle_connection_of_a_node_that_has_kept_them_for_a_second() {
    let node = TestNode::answering("here").await;
    let proxy = single(&[node.address], "connections.fresh = \"1h\"");
    let mut client = Client::connect(proxy.address).await;
    let began = Instant::now();
    loop {
        assert_eq!(client.get("/").await.text(), "here");
        let before = node.accepted();
        assert_eq!(client.post("/", "body").await.text(), "here");
        if node.accepted() == before {
            break;
        }
        assert!(began.elapsed() < crate::support::PATIENCE, "never trusted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(900), "trusted after {:?}", began.elapsed());
}
