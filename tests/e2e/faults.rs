//! Nodes that break HTTP: what the client gets, and that nothing of it is left for the next request.

use std::time::Duration;

use tokio::time::sleep;

use crate::support::client::{Client, Response};
use crate::support::control::single;
use crate::support::node::TestNode;

fn fault(response: &Response) -> (u16, &str) {
    (response.status, response.header("x-sluice-error").unwrap_or_default())
}

/// Answers `/bad` with these bytes, then closes if told to; anything else as it should.
async fn node(bytes: impl Into<Vec<u8>>, close: bool) -> TestNode {
    let bytes: Vec<u8> = bytes.into();
    TestNode::start(move |mut peer| {
        let bytes = bytes.clone();
        async move {
            while let Some(request) = peer.request().await {
                if request.line.contains("/bad") {
                    peer.send(&bytes).await;
                    if close {
                        return;
                    }
                } else {
                    peer.respond(200, "fine").await;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn what_is_no_response_becomes_502_and_the_client_goes_on() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(20_000));
    let cases: &[(&str, bool, &str)] = &[
        ("\x00\x01\x02 garbage\r\n\r\n", false, "bad-response"),
        ("SSH-2.0-OpenSSH_9.6\r\n", false, "bad-response"),
        ("HTTP/2.0 200 OK\r\n\r\n", false, "bad-response"),
        ("HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n", false, "bad-response"),
        ("HTTP/1.1 1000 Odd\r\ncontent-length: 0\r\n\r\n", false, "bad-response"),
        ("HTTP/1.1 OK\r\ncontent-length: 0\r\n\r\n", false, "bad-response"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", false, "bad-response"),
        ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", false, "bad-response"),
        ("HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello", false, "bad-response"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", false, "bad-response"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n", false, "bad-response"),
        ("HTTP/1.1 200 OK\r\nx: a\x00b\r\n\r\n", false, "bad-response"),
        ("HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 0\r\n\r\n", false, "bad-response"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n", false, "bad-response"),
        ("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", false, "bad-response"),
        (&long, false, "bad-response"),
        (&many, false, "bad-response"),
        ("HTTP/1.1 200 OK\r\ncontent-le", true, "reset"),
        ("HTTP/1.1 200 OK\r\n", true, "reset"),
        ("HTTP/1.1 100 Continue\r\n\r\n", true, "reset"),
        ("", true, "reset"),
    ];
    for (bytes, close, label) in cases {
        let shown = &bytes[..bytes.len().min(60)];
        let node = node(*bytes, *close).await;
        let proxy = single(&[node.address], "");
        let mut client = Client::connect(proxy.address).await;
        for _ in 0..2 {
            assert_eq!(fault(&client.get("/bad").await), (502, *label), "GET: {shown:?}");
            assert_eq!(client.get("/").await.text(), "fine", "after {shown:?}");
            assert_eq!(fault(&client.post("/bad", "body").await), (502, *label), "POST: {shown:?}");
            assert_eq!(client.post("/", "body").await.text(), "fine", "after {shown:?}");
        }
    }
}

#[tokio::test]
async fn what_is_odd_but_clear_is_passed_on() {
    let storm =
        format!("{}HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "HTTP/1.1 102 Wait\r\n\r\n".repeat(1000));
    let cases: &[(&str, bool)] = &[
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 500\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", false),
        ("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", false),
        ("HTTP/1.0 200 OK\r\n\r\nhello", true),
        ("HTTP/1.1 200 OK\r\n\r\nhello", true),
        ("HTTP/1.1 200 \r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello", false),
        ("HTTP/1.1 200 OK\ncontent-length: 5\n\nhello", false),
        (&storm, false),
    ];
    for (bytes, close) in cases {
        let node = node(*bytes, *close).await;
        let proxy = single(&[node.address], "");
        let mut client = Client::connect(proxy.address).await;
        for _ in 0..3 {
            let response = client.get("/bad").await;
            assert_eq!(
                (response.status, response.text().as_str(), response.truncated),
                (200, "hello", false),
                "{bytes}"
            );
            let framed = [response.header("content-length"), response.header("transfer-encoding")];
            assert_eq!(framed.iter().flatten().count(), 1, "{bytes}: {response:?}");
            assert_eq!(client.post("/", "body").await.text(), "fine", "after {bytes}");
        }
    }
}

#[tokio::test]
async fn a_reset_before_the_head_is_502() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.reset();
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(fault(&client.get("/").await), (502, "reset"));
    assert_eq!(fault(&client.post("/", "body").await), (502, "reset"));
}

#[tokio::test]
async fn a_reset_after_the_head_truncates_the_response_and_ends_the_connection() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
        // Until the client has it, the reset would overtake it.
        sleep(Duration::from_millis(50)).await;
        peer.reset();
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    let response = client.get("/").await;
    assert_eq!((response.status, response.truncated), (200, true));
    assert_eq!(client.closed().await, b"");
}

/// Bytes behind a response must not become the answer to somebody's next request.
#[tokio::test]
async fn extra_bytes_behind_a_response_poison_no_other() {
    const POISON: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    for pause in [None, Some(Duration::ZERO), Some(Duration::from_micros(300)), Some(Duration::from_millis(3))] {
        let (sender, mut sent) = tokio::sync::mpsc::unbounded_channel();
        let node = TestNode::start(move |mut peer| {
            let sender = sender.clone();
            async move {
                while let Some(request) = peer.request().await {
                    let hello = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
                    if !request.line.contains("/bad") {
                        peer.respond(200, "fine").await;
                        continue;
                    }
                    if let Some(pause) = pause {
                        peer.send(hello).await;
                        if !pause.is_zero() {
                            sleep(pause).await;
                        }
                        peer.send(POISON).await;
                    } else {
                        peer.send(format!("{hello}{POISON}")).await;
                    }
                    let _ = sender.send(());
                }
            }
        })
        .await;
        let proxy = single(&[node.address], "");
        let mut client = Client::connect(proxy.address).await;
        for _ in 0..50 {
            assert_eq!(client.get("/bad").await.text(), "hello");
            // The second write has arrived: before that, any proxy would take it for the answer to a request on its way.
            sent.recv().await.expect("a node that lives");
            assert_eq!(client.get("/").await.text(), "fine", "{pause:?}");
            assert_eq!(client.post("/", "x").await.text(), "fine", "{pause:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_reaches_the_client() {
    for (close, chunked) in [(true, false), (false, false), (true, true), (false, true)] {
        let node = TestNode::start(move |mut peer| async move {
            peer.head().await;
            let connection = if close { "connection: close\r\n" } else { "" };
            peer.send(format!("HTTP/1.1 413 Too Large\r\n{connection}content-length: 3\r\n\r\nbig")).await;
            if !close {
                peer.closed().await;
            }
        })
        .await;
        for size in [1_000, 100_000, 30_000_000] {
            let proxy = single(&[node.address], "");
            let mut client = Client::connect(proxy.address).await;
            let body = "x".repeat(size);
            let upload = if chunked {
                format!(
                    "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n"
                )
            } else {
                format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n{body}")
            };
            // Many clients send everything before they read, and take a failed write for the end of it all.
            let sent = tokio::io::AsyncWriteExt::write_all(&mut client.stream, upload.as_bytes());
            let sent = tokio::time::timeout(crate::support::PATIENCE, sent).await.expect("the proxy reads");
            assert!(sent.is_ok(), "{size} bytes, close: {close}, chunked: {chunked}: {sent:?}");
            let response = client.response("POST").await.expect("the node's answer");
            let case = format!("{size} bytes, close: {close}, chunked: {chunked}");
            assert_eq!((response.status, response.text().as_str()), (413, "big"), "{case}");
        }
    }
}

#[tokio::test]
async fn a_refused_expectation_is_not_answered_with_continue() {
    let node = TestNode::start(|mut peer| async move {
        peer.head().await;
        peer.respond(413, "").await;
        peer.closed().await;
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n").await;
    assert_eq!(client.head().await.expect("a head").status, 413);
}

#[tokio::test]
async fn a_node_that_dies_inside_a_response_truncates_it() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        loop {
            peer.send(format!("1000\r\n{}\r\n", "x".repeat(0x1000))).await;
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.head().await.expect("a head").status, 200);
    client.bytes(100_000).await.expect("a part of the body");
    let claimed = proxy.node(node.address).clone();
    assert_eq!(claimed.inflight(), 1);
    drop(node);
    let rest = client.closed().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "a truncated body looks complete");
    crate::support::until("the claim is released", || claimed.inflight() == 0).await;
}

#[tokio::test]
async fn a_client_that_goes_away_frees_the_node() {
    let node = TestNode::start(|mut peer| async move {
        let request = peer.request().await.expect("a request");
        if request.line.contains("/body") {
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
        }
        peer.closed().await;
    })
    .await;
    let proxy = single(&[node.address], "");
    let claimed = proxy.node(node.address);
    for path in ["/head", "/body"] {
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        crate::support::until("it is at the node", || claimed.inflight() == 1).await;
        drop(client);
        crate::support::until("the claim is released", || claimed.inflight() == 0).await;
    }
    assert_eq!(claimed.totals().1, 0, "it is not the node's fault");
}
