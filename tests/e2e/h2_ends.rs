//! Drains and ends with HTTP/2 clients: streams finish or end at a clean border, and clients are told to leave.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use sluicegate::model::WorkKind;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::support::control::single;
use crate::support::http2::{Http2, PREFACE, RawFrames, answer, frame, get, request, rest};
use crate::support::node::TestNode;
use crate::support::{PATIENCE, Proxy, app, until};

const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Sends the first half of an answer, and the second when told.
async fn gated(gate: &Arc<Semaphore>) -> TestNode {
    let gate = Arc::clone(gate);
    TestNode::start(move |mut peer| {
        let gate = Arc::clone(&gate);
        async move {
            while let Some(request) = peer.request().await {
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n";
                if request.line.contains("/late") {
                    gate.acquire().await.expect("an open gate").forget();
                    peer.send(format!("{head}0123456789abcdefghij")).await;
                } else {
                    peer.send(format!("{head}0123456789")).await;
                    gate.acquire().await.expect("an open gate").forget();
                    peer.send("abcdefghij").await;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn sixty_streams_finish_while_the_process_ends() {
    let gate = Arc::new(Semaphore::new(0));
    let node = gated(&gate).await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let mut client = Http2::connect(proxy.address).await;
    let mut answers = Vec::new();
    for number in 0..60 {
        let path = if number % 2 == 0 { "/late" } else { "/body" };
        answers.push(tokio::spawn(answer(client.begin(request("GET", path), true).await.0)));
    }
    until("all are on", || proxy.node(node.address).inflight() == 60).await;
    let end = proxy.shut_down(Duration::from_secs(1), PATIENCE);
    // GOAWAY comes at once, and the streams go on.
    let gone = async {
        loop {
            match client.send.clone().ready().await {
                Ok(_) => sleep(Duration::from_millis(5)).await,
                Err(error) => return error,
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, gone).await.expect("told to leave in time");
    assert!(error.is_go_away() || error.reason() == Some(h2::Reason::NO_ERROR), "{error:?}");
    gate.add_permits(60);
    for answer in join_all(answers).await {
        let answer = answer.expect("no panic");
        assert_eq!((answer.text().as_str(), answer.reset), ("0123456789abcdefghij", None));
        assert!(!answer.headers.contains_key("connection"));
    }
    client.ended().await.expect("a clean end");
    assert_eq!(end.all().await, [], "nothing was cut");
}

#[tokio::test]
async fn a_request_on_its_way_to_an_ending_process_is_served() {
    let node = TestNode::answering("ok").await;
    for _ in 0..10 {
        let proxy = single(&[node.address], "");
        let client = Http2::connect(proxy.address).await;
        let mut calls = Vec::new();
        for _ in 0..20 {
            let mut send = client.send.clone().ready().await.expect("a connection");
            calls.push(tokio::spawn(answer(send.send_request(request("GET", "/"), true).expect("a stream").0)));
        }
        drop(proxy.shut_down(Duration::from_secs(2), PATIENCE));
        for call in calls {
            assert_eq!(call.await.expect("no panic").status, StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn a_cut_event_stream_ends_behind_a_whole_event() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.send(EVENTS).await;
        peer.send(chunk("data: fi")).await;
        loop {
            sleep(Duration::from_millis(2)).await;
            peer.send(chunk("rst\n\ndata: second\n\nda")).await;
            sleep(Duration::from_millis(2)).await;
            peer.send(chunk("ta: fi")).await;
        }
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = Http2::connect(proxy.address).await;
    for _ in 0..5 {
        let (response, _) = client.begin(request("GET", "/events"), true).await;
        let (head, body) = response.await.expect("a head").into_parts();
        until("the stream is on", || proxy.node(node.address).inflight() == 1).await;
        sleep(Duration::from_millis(20)).await;
        let cut = proxy.cut(node.address, WorkKind::Stream, PATIENCE);
        let answer = rest(head, body).await;
        assert_eq!(answer.reset, None, "END_STREAM, not a reset");
        assert!(answer.text().ends_with("data: first\n\ndata: second\n\n"));
        let list = cut.all().await;
        assert_eq!((list.len(), list[0].kind, list[0].path.as_str()), (1, WorkKind::Stream, "/events"));
    }
}

#[tokio::test]
async fn a_cut_ends_its_stream_and_leaves_the_others() {
    let gate = Arc::new(Semaphore::new(0));
    let (cut_node, other) = (gated(&gate).await, gated(&gate).await);
    let services = format!(
        "[service.a]\nmatch = \"*/a\"\nnodes = [\"{}\"]\n[service.b]\nmatch = \"*/b\"\nnodes = [\"{}\"]\n",
        cut_node.address, other.address
    );
    let proxy = Proxy::with_workers(&services, 1);
    let mut client = Http2::connect(proxy.address).await;
    let late = tokio::spawn(answer(client.begin(request("GET", "/a/late"), true).await.0));
    let body = tokio::spawn(answer(client.begin(request("GET", "/a/body"), true).await.0));
    let spared = tokio::spawn(answer(client.begin(request("GET", "/b/late"), true).await.0));
    until("all are on", || proxy.node(cut_node.address).inflight() == 2 && proxy.node(other.address).inflight() == 1)
        .await;
    let list = proxy.cut(cut_node.address, WorkKind::Request, Duration::from_millis(200)).all().await;
    assert_eq!(list.len(), 2);
    let late = late.await.expect("no panic");
    assert_eq!((late.status.as_u16(), late.header("x-sluice-error")), (504, Some("drain-deadline")));
    assert_eq!(body.await.expect("no panic").reset, Some(h2::Reason::CANCEL));
    gate.add_permits(10);
    assert_eq!(spared.await.expect("no panic").text(), "0123456789abcdefghij");
}

#[tokio::test]
async fn a_slow_client_of_a_connection_that_ends_gets_all_of_its_answer() {
    const SIZE: usize = 400_000;
    let node = TestNode::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n{}", "x".repeat(SIZE))).await;
        }
    })
    .await;
    let proxy = single(&[node.address], "[limits]\nrequests_per_connection = 1");
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a size");
    let mut client = RawFrames { stream: socket.connect(proxy.address).await.expect("a connection") };
    // All the windows that it may want, so that the answer waits in the kernel alone.
    let most = [0x7F, 0xFF, 0xFF, 0xFF];
    let settings = frame(4, 0, 0, &[&[0, 4][..], &most].concat());
    let window = frame(8, 0, 0, &(0x7FFF_FFFF_u32 - 65_535).to_be_bytes());
    client.send([PREFACE, &settings, &window, &get(1, "/")].concat()).await;
    let mut taken = 0;
    loop {
        let (kind, flags, stream, payload) =
            client.frame().await.unwrap_or_else(|| panic!("cut off behind {taken} bytes"));
        if kind == 6 && flags == 0 {
            client.send(frame(6, 1, 0, &payload)).await;
        }
        if (kind, stream) == (0, 1) {
            taken += payload.len();
            if flags & 1 != 0 {
                break;
            }
            // It speaks meanwhile, as clients do; to a socket that is closed, that would be the end.
            client.send(frame(6, 0, 0, &[7; 8])).await;
            sleep(Duration::from_millis(2)).await;
        }
    }
    assert_eq!(taken, SIZE);
}
