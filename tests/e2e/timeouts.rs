//! Every wait for a node has its limit, its status and its label.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};

use crate::support::client::{Client, Response};
use crate::support::control::{BlackHole, single};
use crate::support::node::TestNode;
use crate::support::{PATIENCE, until};

/// All limits in these tests.
const LIMIT: Duration = Duration::from_millis(300);

fn fault(response: &Response) -> (u16, &str) {
    (response.status, response.header("x-sluice-error").unwrap_or_default())
}

/// A node that sends this behind each request and then nothing.
async fn stalling(bytes: &'static str) -> TestNode {
    TestNode::sending(bytes, false).await
}

#[tokio::test]
async fn a_connection_that_is_not_accepted_is_504_connect_timeout() {
    let hole = BlackHole::new();
    let proxy = single(&[hole.address], "timeouts.connect = \"300ms\"");
    let mut client = Client::connect(proxy.address).await;
    let began = Instant::now();
    assert_eq!(fault(&client.get("/").await), (504, "connect-timeout"));
    assert_eq!(fault(&client.post("/", "body").await), (504, "connect-timeout"));
    assert!(began.elapsed() >= 2 * LIMIT);
}

#[tokio::test]
async fn a_head_that_does_not_come_is_504_response_timeout() {
    for bytes in ["", "HTTP/1.1 200 OK\r\ncontent-", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let node = stalling(bytes).await;
        let proxy = single(&[node.address], "timeouts.response = \"300ms\"");
        let mut client = Client::connect(proxy.address).await;
        let began = Instant::now();
        assert_eq!(fault(&client.get("/").await), (504, "response-timeout"), "{bytes:?}");
        assert_eq!(fault(&client.post("/", "body").await), (504, "response-timeout"), "{bytes:?}");
        assert!(began.elapsed() >= 2 * LIMIT);
        assert_eq!(node.requests().len(), 2, "nobody else to ask");
        until("the claims are released", || proxy.node(node.address).inflight() == 0).await;
    }
}

#[tokio::test]
async fn a_head_that_trickles_for_ever_is_504_too() {
    for piece in ["x", "HTTP/1.1 102 Processing\r\n\r\n"] {
        let node = TestNode::start(move |mut peer| async move {
            peer.request().await;
            if piece == "x" {
                peer.send("HTTP/1.1 200 OK\r\nx: ").await;
            }
            loop {
                peer.send(piece).await;
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let proxy = single(&[node.address], "timeouts.response = \"300ms\"");
        let response = Client::connect(proxy.address).await.post("/", "body").await;
        assert_eq!(fault(&response), (504, "response-timeout"), "{piece:?}");
    }
}

#[tokio::test]
async fn an_upload_that_moves_is_no_silence_of_the_node() {
    let node = TestNode::answering("thanks").await;
    let proxy = single(&[node.address], "timeouts.response = \"300ms\"");
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\n\r\n").await;
    let began = Instant::now();
    for _ in 0..12 {
        sleep(Duration::from_millis(60)).await;
        client.send("x").await;
    }
    assert!(began.elapsed() > 2 * LIMIT);
    assert_eq!(client.response("POST").await.expect("a response").text(), "thanks");
}

#[tokio::test]
async fn a_client_that_stops_its_upload_gets_408_and_the_node_is_not_blamed() {
    let node = TestNode::answering("never").await;
    let proxy = single(&[node.address], "timeouts.body = \"300ms\"");
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\n\r\nabc").await;
    let response = client.response("POST").await.expect("a response");
    assert_eq!(fault(&response), (408, "client-timeout"));
    assert_eq!(proxy.node(node.address).totals().1, 0);
    client.closed().await;
}

#[tokio::test]
async fn a_body_that_stops_truncates_the_response() {
    for head in ["content-length: 10", "transfer-encoding: chunked"] {
        for body in ["", "5\r\nhello\r\n"] {
            let text = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
            let node = TestNode::sending(text, false).await;
            let proxy = single(&[node.address], "timeouts.body = \"300ms\"");
            let mut client = Client::connect(proxy.address).await;
            let began = Instant::now();
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            // Ten bytes are exactly what `content-length: 10` promised.
            if head.starts_with("content") && !body.is_empty() {
                assert!(!client.response("GET").await.expect("a response").truncated);
                continue;
            }
            let response = client.response("GET").await.expect("a head");
            assert_eq!((response.status, response.truncated), (200, true), "{head} {body:?}");
            assert!(began.elapsed() >= LIMIT);
            until("the claim is released", || proxy.node(node.address).inflight() == 0).await;
            assert_eq!(proxy.node(node.address).totals(), (1, 1), "a stalled body is the node's failure");
        }
    }
}

#[tokio::test]
async fn a_body_that_moves_slowly_is_whole() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n").await;
        for _ in 0..12 {
            sleep(Duration::from_millis(60)).await;
            peer.send("x").await;
        }
    })
    .await;
    let proxy = single(&[node.address], "timeouts.body = \"300ms\"\ntimeouts.response = \"300ms\"");
    let response = Client::connect(proxy.address).await.get("/").await;
    assert_eq!((response.text().as_str(), response.truncated), ("xxxxxxxxxxxx", false));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_the_node_freed() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 200_000_000)).await;
        for _ in 0..200 {
            peer.send(vec![0; 1_000_000]).await;
        }
    })
    .await;
    let proxy = single(&[node.address], "timeouts.body = \"300ms\"");
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let claimed = proxy.node(node.address);
    until("the request is at the node", || claimed.inflight() == 1).await;
    until("the claim is released", || claimed.inflight() == 0).await;
    // Nor does the system go on offering what it holds.
    let mut space = vec![0; 1 << 20];
    let end = loop {
        match timeout(PATIENCE, client.stream.read(&mut space)).await.expect("an end in time") {
            Ok(1..) => {}
            end => break end,
        }
    };
    assert!(end.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset), "{end:?}");
}

#[tokio::test]
async fn a_silent_tunnel_is_closed() {
    let node = stalling("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    let proxy = single(&[node.address], "timeouts.tunnel = \"300ms\"\ntimeouts.body = \"10ms\"");
    let mut client = Client::connect(proxy.address).await;
    let began = Instant::now();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    assert_eq!(client.response("GET").await.expect("a response").status, 101);
    assert_eq!(client.closed().await, b"");
    assert!(began.elapsed() >= LIMIT);
    until("the claim is released", || proxy.node(node.address).inflight() == 0).await;
}
