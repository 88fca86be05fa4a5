//! Nodes that speak HTTP/2 and end a stream, a connection or a client's patience: what is replayed, what is truncated, and
//! that nobody else notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Response;
use tokio::time::{sleep, timeout};

use crate::node_h2::{H2C, fault};
use crate::support::client::Client;
use crate::support::control::single;
use crate::support::h2node::{H2Node, write};
use crate::support::http2::frame;
use crate::support::node::TestNode;
use crate::support::{PATIENCE, until};

#[tokio::test]
async fn what_a_node_refused_goes_again_even_a_post() {
    for method in ["GET", "POST"] {
        let first = Arc::new(AtomicBool::new(true));
        let node = H2Node::start(move |mut exchange| {
            let first = Arc::clone(&first);
            async move {
                if first.swap(false, Ordering::SeqCst) {
                    exchange.answer.send_reset(Reason::REFUSED_STREAM);
                    return;
                }
                let (body, _) = exchange.whole().await.expect("a body");
                exchange.respond(200, if body == b"body" { "right" } else { "wrong" });
            }
        })
        .await;
        let proxy = single(&[node.address], H2C);
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("{method} / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 4\r\n\r\nbody")).await;
        let response = client.response(method).await.expect("a response");
        assert_eq!((response.status, response.text().as_str()), (200, "right"), "{method}");
        assert_eq!(node.heads().len(), 2);
    }
}

/// What was sent of it is not held any more, so there is nothing to send again.
#[tokio::test]
async fn what_was_refused_with_more_body_than_is_held_does_not_go_again() {
    let node = H2Node::start(|mut exchange| async move {
        let mut read = 0;
        while read < 200_000
            && let Some(Ok(data)) = exchange.body.data().await
        {
            let _ = exchange.body.flow_control().release_capacity(data.len());
            read += data.len();
        }
        exchange.answer.send_reset(Reason::REFUSED_STREAM);
    })
    .await;
    let proxy = single(&[node.address], H2C);
    let mut client = Client::connect(proxy.address).await;
    let body = "x".repeat(300_000);
    assert_eq!(fault(&client.post("/", &body).await), (502, "reset"));
    assert_eq!(node.heads().len(), 1);
}

#[tokio::test]
async fn a_node_that_always_refuses_is_given_up() {
    let node = H2Node::start(|mut exchange| async move { exchange.answer.send_reset(Reason::REFUSED_STREAM) }).await;
    let proxy = single(&[node.address], H2C);
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(fault(&client.get("/").await), (502, "reset"));
    assert_eq!(fault(&client.post("/", "body").await), (502, "reset"));
    assert!(node.heads().len() < 40);
}

#[tokio::test]
async fn a_reset_is_not_a_refusal_a_post_goes_once() {
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::ENHANCE_YOUR_CALM, Reason::NO_ERROR] {
        let node = H2Node::start(move |mut exchange| async move { exchange.answer.send_reset(reason) }).await;
        let proxy = single(&[node.address], H2C);
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(fault(&client.post("/", "body").await), (502, "reset"), "{reason}");
        assert_eq!(node.heads().len(), 1, "{reason}");
    }
}

#[tokio::test]
async fn a_goodbye_loses_nothing() {
    let node = H2Node::start(|mut exchange| async move {
        let _ = exchange.whole().await;
        exchange.respond(200, "done");
    })
    .await;
    let proxy = single(&[node.address], H2C);
    let stop = AtomicBool::new(false);
    let clients = (0..8).map(|_| async {
        let mut client = Client::connect(proxy.address).await;
        let mut sent = 0;
        while !stop.load(Ordering::SeqCst) {
            let response = client.post("/", "body").await;
            assert_eq!((response.status, response.text().as_str()), (200, "done"));
            sent += 1;
        }
        sent
    });
    let goodbyes = async {
        for _ in 0..20 {
            sleep(Duration::from_millis(20)).await;
            node.say_goodbye();
        }
        stop.store(true, Ordering::SeqCst);
    };
    let (sent, ()) = tokio::join!(futures_util::future::join_all(clients), goodbyes);
    let sent: usize = sent.into_iter().sum();
    assert_eq!(node.heads().len(), sent, "each request ran once");
    assert!(node.accepted() > 5, "{} connections", node.accepted());
}

#[tokio::test]
async fn a_stream_that_breaks_off_truncates_the_response() {
    for (reason, length) in [
        (Reason::INTERNAL_ERROR, true),
        (Reason::CANCEL, false),
        (Reason::NO_ERROR, false),
        (Reason::NO_ERROR, true),
        (Reason::REFUSED_STREAM, false),
    ] {
        let node = H2Node::start(move |mut exchange| async move {
            if exchange.path() != "/bad" {
                return exchange.respond(200, "fine");
            }
            let mut head = Response::builder();
            if length {
                head = head.header("content-length", "10");
            }
            let mut out = exchange.answer.send_response(head.body(()).expect("a head"), false).expect("a stream");
            let _ = write(&mut out, Bytes::from_static(b"hello")).await;
            sleep(Duration::from_millis(50)).await;
            out.send_reset(reason);
        })
        .await;
        let proxy = single(&[node.address], H2C);
        let mut client = Client::connect(proxy.address).await;
        client.send("GET /bad HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
        assert_eq!(client.head().await.expect("a head").status, 200);
        let rest = client.closed().await;
        assert!(!rest.ends_with(b"0\r\n\r\n") && rest.len() < 15, "{reason}: a part looks whole: {rest:?}");
        // The connection to the node lives on.
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(client.get("/").await.text(), "fine");
        assert_eq!(node.accepted(), 1);
        until("the node is free", || proxy.node(node.address).inflight() == 0).await;
        assert_eq!(proxy.node(node.address).totals().1, 1, "the node is blamed once");
    }
}

#[tokio::test]
async fn an_early_answer_is_whole_although_the_upload_is_reset() {
    let node = H2Node::start(|mut exchange| async move {
        // What is dropped unread is reset with NO_ERROR, behind the answer.
        exchange.respond(413, "big");
    })
    .await;
    for size in [100, 100_000, 20_000_000] {
        let proxy = single(&[node.address], H2C);
        let mut client = Client::connect(proxy.address).await;
        let upload = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n{}", "x".repeat(size));
        let sent = tokio::io::AsyncWriteExt::write_all(&mut client.stream, upload.as_bytes());
        assert!(timeout(PATIENCE, sent).await.expect("the proxy reads").is_ok());
        let response = client.response("POST").await.expect("the node's answer");
        assert_eq!((response.status, response.text().as_str()), (413, "big"), "{size}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_resets_its_stream_only() {
    let (sender, mut resets) = tokio::sync::mpsc::unbounded_channel();
    let node = H2Node::start(move |mut exchange| {
        let sender = sender.clone();
        async move {
            if exchange.path() == "/fine" {
                return exchange.respond(200, "fine");
            }
            let reset = if exchange.path() == "/body" {
                let mut out = exchange.begin(200);
                let _ = write(&mut out, Bytes::from_static(b"hello")).await;
                std::future::poll_fn(|cx| out.poll_reset(cx)).await
            } else {
                std::future::poll_fn(|cx| exchange.answer.poll_reset(cx)).await
            };
            let _ = sender.send(reset.ok());
        }
    })
    .await;
    let proxy = single(&[node.address], H2C);
    let claimed = proxy.node(node.address);
    for (number, path) in ["/head", "/body"].into_iter().enumerate() {
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        until("it is at the node", || node.heads().len() > number).await;
        if path == "/body" {
            assert_eq!(client.head().await.expect("a head").status, 200);
        }
        drop(client);
        let reset = timeout(PATIENCE, resets.recv()).await.expect("a reset in time");
        assert_eq!(reset, Some(Some(Reason::CANCEL)), "{path}");
        until("the claim is released", || claimed.inflight() == 0).await;
    }
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.get("/fine").await.text(), "fine");
    assert_eq!(node.accepted(), 1);
    assert_eq!(claimed.totals().1, 0, "it is not the node's fault");
}

#[tokio::test]
async fn a_node_of_http1_is_told_apart_and_gets_no_request() {
    let other = H2Node::answering("fine").await;
    for node in [
        TestNode::answering("HTTP/1").await,
        TestNode::sending("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", true).await,
        TestNode::start(|mut peer| async move {
            peer.head().await;
            peer.respond(400, "").await;
        })
        .await,
    ] {
        let proxy = single(&[node.address], &format!("{H2C}[service.app.timeouts]\nconnect = \"500ms\"\n"));
        let mut client = Client::connect(proxy.address).await;
        let response = client.post("/", "body").await;
        assert!([(502, "protocol"), (504, "connect-timeout")].contains(&fault(&response)), "{:?}", fault(&response));
        assert!(proxy.node(node.address).totals().1 > 0, "it counts as failing");
        let proxy =
            single(&[node.address, other.address], &format!("{H2C}[service.app.timeouts]\nconnect = \"500ms\"\n"));
        for _ in 0..10 {
            let mut client = Client::connect(proxy.address).await;
            assert_eq!(client.post("/", "body").await.text(), "fine");
        }
    }
}

#[tokio::test]
async fn a_node_that_never_answers_the_preface_hangs_nobody() {
    let node = TestNode::start(|mut peer| async move { peer.closed().await }).await;
    let proxy = single(&[node.address], &format!("{H2C}[service.app.timeouts]\nconnect = \"300ms\"\n"));
    let clients = (0..5).map(|_| async {
        let mut client = Client::connect(proxy.address).await;
        fault(&client.post("/", "body").await).0
    });
    let answers = timeout(Duration::from_secs(10), futures_util::future::join_all(clients)).await;
    assert_eq!(answers.expect("in time"), [504; 5]);
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_is_not_used_again() {
    let node = H2Node::start(|mut exchange| async move {
        if exchange.connection == 0 && exchange.path() == "/hang" {
            std::future::pending::<()>().await;
        }
        exchange.respond(200, "fine");
    })
    .await;
    let proxy = single(&[node.address], &format!("{H2C}[service.app.timeouts]\nresponse = \"300ms\"\n"));
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(fault(&client.post("/hang", "").await), (504, "response-timeout"));
    assert_eq!(client.get("/").await.text(), "fine");
    // Whether a byte came is a matter of when the node acknowledged what; the connection may have been kept for that.
    assert!(node.accepted() <= 2);
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_costs_a_post_nothing() {
    let node = H2Node::answering("fine").await;
    let proxy = single(&[node.address], H2C);
    for _ in 0..20 {
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(client.post("/", "body").await.text(), "fine");
        node.say_goodbye();
        assert_eq!(client.post("/", "body").await.text(), "fine");
    }
    assert!(node.accepted() > 10);
}

#[tokio::test]
async fn a_retired_node_finishes_its_streams_and_loses_its_connection() {
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&go);
    let node = H2Node::start(move |mut exchange| {
        let gate = Arc::clone(&gate);
        async move {
            let mut out = exchange.begin(200);
            let _ = write(&mut out, Bytes::from_static(b"first ")).await;
            let _ = gate.acquire().await;
            let _ = out.send_data(Bytes::from_static(b"second"), true);
        }
    })
    .await;
    let other = H2Node::answering("other").await;
    let mut proxy = single(&[node.address, other.address], H2C);
    proxy.publish(|address| address.as_str() == node.address.to_string());
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until("it is at the node", || proxy.node(node.address).inflight() == 1).await;
    proxy.publish(|_| true);
    let retired = proxy.retire(node.address);
    let mut late = Client::connect(proxy.address).await;
    assert_eq!(late.get("/").await.text(), "other");
    assert_eq!(retired.inflight(), 1);
    go.add_permits(1);
    let response = client.response("GET").await.expect("a response");
    assert_eq!((response.text().as_str(), response.truncated), ("first second", false));
    until("the node is free", || retired.inflight() == 0).await;
}

/// A node that dies without a word: the kernel of its machine answers nothing, and here nobody reads.
#[tokio::test]
async fn a_connection_that_answers_no_ping_is_given_up() {
    let node = TestNode::start(|mut peer| async move {
        peer.bytes(24).await;
        peer.send([frame(4, 0, 0, &[]), frame(4, 1, 0, &[])].concat()).await;
        // Frames up to the request's own.
        loop {
            let Some(head) = peer.bytes(9).await else { return };
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            peer.bytes(length).await;
            if head[3] == 1 {
                break;
            }
        }
        peer.send([frame(1, 4, 1, &[0x88]), frame(0, 0, 1, b"hello")].concat()).await;
        peer.closed().await;
    })
    .await;
    let more = format!("{H2C}ping = \"200ms\"\n[service.app.timeouts]\nbody = \"5m\"\n");
    let proxy = single(&[node.address], &more);
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.head().await.expect("a head").status, 200);
    let began = std::time::Instant::now();
    let rest = client.closed().await;
    assert!(began.elapsed() > Duration::from_secs(5), "not before the deadline of the answer");
    assert!(!rest.ends_with(b"0\r\n\r\n"), "a part looks whole: {rest:?}");
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
}

#[tokio::test]
async fn a_node_that_says_goodbye_on_a_new_connection_speaks_http2_all_the_same() {
    let node = H2Node::start(|mut exchange| async move { exchange.respond(200, "done") }).await;
    let proxy = single(&[node.address], H2C);
    let mut client = Client::connect(proxy.address).await;
    // Each with a connection that was just accepted, or is being accepted.
    for _ in 0..200 {
        node.say_goodbye();
        let response = client.post("/", "body").await;
        assert_eq!((response.status, response.text().as_str()), (200, "done"));
    }
}
