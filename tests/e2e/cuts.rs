//! Work that outlives its drain deadline: streams end between two events, requests are answered or go elsewhere.

use std::sync::Arc;
use std::time::Duration;

use sluicegate::model::WorkKind;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::support::client::Client;
use crate::support::control::single;
use crate::support::node::TestNode;
use crate::support::{PATIENCE, until};

const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A node that streams events in pieces that are never whole events.
async fn events() -> TestNode {
    TestNode::start(|mut peer| async move {
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
    .await
}

#[tokio::test]
async fn a_cut_stream_ends_behind_a_whole_event() {
    for _ in 0..10 {
        let node = events().await;
        let proxy = single(&[node.address], "");
        let mut client = Client::connect(proxy.address).await;
        client.send("GET /events HTTP/1.1\r\nhost: a\r\n\r\n").await;
        // Until its head has come it is a request like any other.
        let begun = async {
            while !proxy.holders(node.address).await.iter().any(|holder| holder.kind == WorkKind::Stream) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, begun).await.expect("the stream is on");
        let cut = proxy.cut(node.address, WorkKind::Stream, PATIENCE);
        let response = client.response("GET").await.expect("a response");
        assert!(!response.truncated, "the chunked body ends as it should");
        let text = response.text();
        let end = &text[text.len().saturating_sub(30)..];
        assert!(text.ends_with("data: first\n\ndata: second\n\n"), "ends with {end:?}");
        let list = cut.all().await;
        assert_eq!((list.len(), list[0].kind, list[0].path.as_str()), (1, WorkKind::Stream, "/events"));
        assert_eq!(proxy.node(node.address).inflight(), 0);
    }
}

#[tokio::test]
async fn a_quiet_stream_between_two_events_ends_at_once() {
    let node = TestNode::sending(format!("{EVENTS}{}", chunk("data: one\n\n")), false).await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    client.send("GET /events HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.head().await.expect("a head").status, 200);
    let cut = proxy.cut(node.address, WorkKind::Stream, PATIENCE);
    let body = client.bytes("b\r\ndata: one\n\n\r\n0\r\n\r\n".len()).await.expect("a whole body");
    assert!(body.ends_with(b"0\r\n\r\n"), "{body:?}");
    assert_eq!(cut.all().await.len(), 1);
}

#[tokio::test]
async fn a_stream_that_stops_inside_an_event_is_cut_after_its_grace() {
    let node = TestNode::sending(format!("{EVENTS}{}", chunk("data: on")), false).await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    client.send("GET /events HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.head().await.expect("a head").status, 200);
    let list = proxy.cut(node.address, WorkKind::Stream, Duration::from_millis(300)).all().await;
    assert_eq!(list.len(), 1);
    assert!(!client.closed().await.ends_with(b"0\r\n\r\n"), "half an event is not a whole body");
}

#[tokio::test]
async fn a_cut_post_is_answered_504_and_listed() {
    let node = TestNode::sending("", false).await;
    let mut proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    client.send("POST /slow?q=1 HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx").await;
    until("it is at the node", || node.requests().len() == 1).await;
    let retired = proxy.retire(node.address);
    let list = proxy.cut(node.address, WorkKind::Request, PATIENCE).all().await;
    assert_eq!((list.len(), list[0].method.as_str(), list[0].path.as_str()), (1, "POST", "/slow"));
    let response = client.response("POST").await.expect("a response");
    assert_eq!((response.status, response.header("x-sluice-error")), (504, Some("drain-deadline")));
    assert_eq!(retired.inflight(), 0);
}

#[tokio::test]
async fn a_cut_get_is_answered_by_another_node() {
    let slow = TestNode::sending("", false).await;
    let fast = TestNode::answering("elsewhere").await;
    let mut proxy = single(&[slow.address, fast.address], "");
    proxy.publish(|address| address.as_str() == slow.address.to_string());
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until("it is at the slow node", || slow.requests().len() == 1).await;
    proxy.publish(|_| true);
    let retired = proxy.retire(slow.address);
    let list = proxy.cut(slow.address, WorkKind::Request, PATIENCE).all().await;
    assert_eq!(list, [], "nothing was lost, so nothing is listed");
    assert_eq!(client.response("GET").await.expect("a response").text(), "elsewhere");
    assert_eq!(retired.inflight(), 0);
}

#[tokio::test]
async fn a_cut_download_is_truncated_and_one_that_ends_in_time_is_not_listed() {
    let go = Arc::new(Notify::new());
    let told = Arc::clone(&go);
    let node = TestNode::start(move |mut peer| {
        let told = Arc::clone(&told);
        async move {
            while let Some(request) = peer.request().await {
                peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
                if request.line.contains("/ends") {
                    told.notified().await;
                    peer.send("there").await;
                }
            }
        }
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut ends = Client::connect(proxy.address).await;
    ends.send("GET /ends HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(ends.head().await.expect("a head").status, 200);
    let mut hangs = Client::connect(proxy.address).await;
    hangs.send("GET /hangs HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(hangs.head().await.expect("a head").status, 200);
    let cut = proxy.cut(node.address, WorkKind::Request, Duration::from_millis(300));
    go.notify_one();
    assert_eq!(ends.bytes(10).await.expect("a body"), b"hellothere");
    let list = cut.all().await;
    let paths: Vec<_> = list.iter().map(|holder| holder.path.as_str()).collect();
    assert_eq!(paths, ["/hangs"]);
    assert_eq!(hangs.closed().await, b"hello");
}
