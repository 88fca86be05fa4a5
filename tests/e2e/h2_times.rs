//! Time limits of HTTP/2 clients: each ends one stream, or a connection on which nothing goes on.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::Builder;
use http::StatusCode;

use crate::support::client::Client;
use crate::support::control::single;
use crate::support::http2::{Http2, RawFrames, answer, frame, get, request, rest};
use crate::support::node::TestNode;
use crate::support::until;

const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// Answers `/x`, and for other paths sends `start` and nothing more.
async fn stalling(start: &'static str) -> TestNode {
    TestNode::start(move |mut peer| async move {
        while let Some(request) = peer.request().await {
            if request.line.contains(" /x ") {
                peer.respond(200, "ok").await;
            } else {
                peer.send(start).await;
                peer.closed().await;
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_node_that_stalls_costs_its_own_stream_only() {
    let times = "[service.app.timeouts]\nbody = \"400ms\"\nresponse = \"400ms\"";
    for (start, outcome) in [("", Err(504)), ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", Ok(Reason::CANCEL))] {
        let node = stalling(start).await;
        let proxy = single(&[node.address], times);
        let mut client = Http2::connect(proxy.address).await;
        let (stalled, _) = client.begin(request("GET", "/stall"), true).await;
        let mut others = 0;
        let stalled = tokio::spawn(answer(stalled));
        while !stalled.is_finished() {
            assert_eq!(client.get("/x").await.text(), "ok");
            others += 1;
        }
        let stalled = stalled.await.expect("no panic");
        match outcome {
            Ok(reason) => assert_eq!((stalled.status, stalled.reset), (StatusCode::OK, Some(reason))),
            Err(status) => assert_eq!((stalled.status.as_u16(), stalled.reset), (status, None)),
        }
        assert!(others > 3, "the others went on meanwhile: {others}");
        until("the node is free", || proxy.node(node.address).inflight() == 0).await;
        assert_eq!(client.get("/x").await.text(), "ok");
    }
}

#[tokio::test]
async fn a_client_that_keeps_its_window_shut_loses_that_stream() {
    let node = TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            match request.line.split(' ').nth(1) {
                Some("/large") => {
                    let body = "x".repeat(300_000);
                    peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
                }
                Some("/small") => peer.respond(200, "small").await,
                _ => peer.send("HTTP/1.1 204 No Content\r\n\r\n").await,
            }
        }
    })
    .await;
    let proxy = single(&[node.address], "[service.app.timeouts]\nbody = \"400ms\"\nresponse = \"400ms\"");
    let mut client = Http2::with(proxy.address, Builder::new().initial_window_size(0)).await;
    for path in ["/large", "/small"] {
        let (response, _) = client.begin(request("GET", path), true).await;
        let (head, body) = response.await.expect("a head").into_parts();
        let answer = rest(head, body).await;
        assert_eq!((answer.reset, answer.body.len()), (Some(Reason::CANCEL), 0), "{path}");
        until("the node is free", || proxy.node(node.address).inflight() == 0).await;
        assert_eq!(client.get("/204").await.status, StatusCode::NO_CONTENT, "the connection goes on");
    }
}

#[tokio::test]
async fn a_client_that_reads_slowly_but_steadily_gets_it_all() {
    let node = TestNode::start(|mut peer| async move {
        while peer.request().await.is_some() {
            let body = "x".repeat(200_000);
            peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
        }
    })
    .await;
    let proxy = single(&[node.address], "[service.app.timeouts]\nbody = \"500ms\"");
    let mut client = Http2::with(proxy.address, Builder::new().initial_window_size(4096)).await;
    let (response, _) = client.begin(request("GET", "/"), true).await;
    let mut body = response.await.expect("a head").into_body();
    let mut size = 0;
    while let Some(data) = body.data().await {
        let data = data.expect("no reset");
        size += data.len();
        tokio::time::sleep(Duration::from_millis(20)).await;
        body.flow_control().release_capacity(data.len()).expect("an open stream");
    }
    assert_eq!(size, 200_000);
}

#[tokio::test]
async fn a_client_that_reads_a_byte_now_and_then_loses_that_stream() {
    let node = TestNode::answering("a body of more than a few bytes").await;
    let proxy = single(&[node.address], "[service.app.timeouts]\nbody = \"400ms\"\nresponse = \"400ms\"");
    let mut client = RawFrames::connect(proxy.address, &[0, 4, 0, 0, 0, 0]).await;
    client.send(get(1, "/")).await;
    for _ in 0..12 {
        client.send(frame(8, 0, 1, &[0, 0, 0, 1])).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut taken = 0;
    loop {
        match client.frame().await.expect("the connection goes on") {
            (0, _, 1, data) => taken += data.len(),
            (3, _, 1, code) => break assert_eq!(code, [0, 0, 0, 8], "CANCEL"),
            _ => {}
        }
    }
    assert!(taken <= 12, "{taken} bytes, one at a time");
}

#[tokio::test]
async fn a_client_that_stops_its_upload_gets_408_on_that_stream() {
    let node = stalling("").await;
    let proxy = single(&[node.address], "[service.app.timeouts]\nbody = \"300ms\"");
    let mut client = Http2::connect(proxy.address).await;
    let (response, mut stream) = client.begin(request("POST", "/upload"), false).await;
    stream.send_data(Bytes::from_static(b"some"), false).expect("an open stream");
    let answer = answer(response).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-sluice-error")), (408, Some("client-timeout")));
    assert_eq!(client.get("/x").await.text(), "ok");
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_with_goaway() {
    let node = TestNode::answering("ok").await;
    let proxy = single(&[node.address], "[limits]\nidle = \"300ms\"");
    let mut client = Http2::connect(proxy.address).await;
    assert_eq!(client.get("/").await.text(), "ok");
    client.ended().await.expect("a clean end");
    let mut silent = RawFrames::connect(proxy.address, &[]).await;
    assert_eq!(silent.goodbye().await, Some(0));
}

#[tokio::test]
async fn a_client_that_ignores_that_it_should_begin_no_more_streams_is_served_no_more_after_a_time() {
    let node = stalling(EVENTS).await;
    let proxy = single(&[node.address], "[limits]\nidle = \"300ms\"\nhead = \"300ms\"");
    // Answers no PING.
    let mut client = RawFrames::connect(proxy.address, &[]).await;
    let mut goodbyes = Vec::new();
    while goodbyes.len() < 2 {
        let Some((kind, _, _, payload)) = client.frame().await else { break };
        if kind == 7 {
            goodbyes.push(payload);
            // The first one it may not have seen: what keeps the connection up, or is on its way to.
            client.send(if goodbyes.len() == 1 { get(1, "/events") } else { get(3, "/x") }).await;
        }
    }
    assert_eq!(goodbyes, [[0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0]]);
    client.send(frame(3, 0, 1, &[0, 0, 0, 8])).await;
    while let Some((_, _, id, _)) = client.frame().await {
        assert_ne!(id, 3, "nothing is answered there");
    }
    assert_eq!(node.requests().len(), 1);
}

#[tokio::test]
async fn a_client_that_is_gone_is_noticed_and_one_that_only_listens_is_not() {
    let node = stalling(EVENTS).await;
    let proxy = single(&[node.address], "[limits]\nping = \"300ms\"\nidle = \"300ms\"");
    // Answers every PING by itself.
    let mut alive = Http2::connect(proxy.address).await;
    let (response, _stream) = alive.begin(request("GET", "/events"), true).await;
    let body = response.await.expect("a head").into_body();
    let mut gone = RawFrames::connect(proxy.address, &[]).await;
    gone.send(get(1, "/events")).await;
    until("both streams are on", || proxy.node(node.address).inflight() == 2).await;
    let mut asked = false;
    while let Some((kind, flags, ..)) = gone.frame().await {
        asked |= kind == 6 && flags == 0;
    }
    assert!(asked, "it was asked for a sign of life first");
    until("the node has one stream less", || proxy.node(node.address).inflight() == 1).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(proxy.node(node.address).inflight(), 1, "who answers is not gone");
    drop(body);
}

#[tokio::test]
async fn a_head_that_does_not_end_ends_the_connection() {
    let node = TestNode::answering("ok").await;
    let proxy = single(&[node.address], "[limits]\nhead = \"300ms\"");
    let mut slow = RawFrames::connect(proxy.address, &[]).await;
    // Other requests on the connection do not give it more time.
    let whole = get(3, "/");
    slow.send(frame(1, 0x1, 1, &[0x82])).await;
    assert_eq!(slow.goodbye().await, Some(11), "ENHANCE_YOUR_CALM");
    let mut half = RawFrames::connect(proxy.address, &[]).await;
    half.send(&whole[..whole.len() - 1]).await;
    assert_eq!(half.goodbye().await, Some(11));
    let mut fine = Client::connect(proxy.address).await;
    assert_eq!(fine.get("/").await.status, 200);
}

#[tokio::test]
async fn a_body_is_awaited_by_the_node_and_asked_for_by_the_proxy() {
    let node = TestNode::start(|mut peer| async move {
        while let Some(head) = peer.head().await {
            if head.line.contains("/no") {
                peer.send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n").await;
                continue;
            }
            assert_eq!(head.header("expect"), Some("100-continue"));
            if head.line.contains("/asks") {
                peer.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            }
            assert_eq!(peer.bytes(4).await.as_deref(), Some(&b"data"[..]));
            peer.respond(200, "got it").await;
        }
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = Http2::connect(proxy.address).await;
    for (path, status) in [("/asks", 200), ("/silent", 200), ("/no", 417)] {
        let mut ask = request("POST", path);
        ask.headers_mut().insert("expect", http::HeaderValue::from_static("100-continue"));
        ask.headers_mut().insert("content-length", http::HeaderValue::from_static("4"));
        let (mut response, mut stream) = client.begin(ask, false).await;
        if status == 200 {
            let said = std::future::poll_fn(|cx| response.poll_informational(cx));
            let said = tokio::time::timeout(crate::support::PATIENCE, said).await.expect("in time");
            assert_eq!(said.expect("an answer").expect("a 100").status(), StatusCode::CONTINUE, "{path}");
            stream.send_data(Bytes::from_static(b"data"), true).expect("an open stream");
        }
        assert_eq!(answer(response).await.status.as_u16(), status, "{path}");
    }
}
