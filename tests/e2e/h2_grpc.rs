//! gRPC as its clients see it when it is Sluice that answers or ends a call.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use sluicegate::model::WorkKind;

use crate::support::control::{refused, single};
use crate::support::h2node::{H2Node, write};
use crate::support::http2::{Answer, Http2, answer, request, rest};
use crate::support::node::TestNode;
use crate::support::{PATIENCE, Proxy, until};

const H2C: &str = "[service.app.connections]\nprotocol = \"h2c\"";

fn call(path: &str, timeout: Option<&'static str>) -> Request<()> {
    let mut call = request("POST", path);
    call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc+proto"));
    call.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    if let Some(timeout) = timeout {
        call.headers_mut().insert("grpc-timeout", HeaderValue::from_static(timeout));
    }
    call
}

async fn ask(client: &mut Http2, call: Request<()>) -> Answer {
    let (response, mut stream) = client.begin(call, false).await;
    let _ = stream.send_data(Bytes::from_static(&[0, 0, 0, 0, 0]), true);
    answer(response).await
}

fn is_told(answer: &Answer, status: &str, label: &str) {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/grpc"), "{answer:?}");
    assert_eq!((answer.header("grpc-status"), answer.header("x-sluice-error")), (Some(status), Some(label)));
    assert!(answer.header("grpc-message").is_some_and(|text| !text.is_empty()), "{answer:?}");
    assert!(answer.body.is_empty() && answer.trailers.is_empty(), "trailers only: {answer:?}");
}

#[tokio::test]
async fn faults_are_told_in_trailers_only() {
    let silent = TestNode::start(|mut peer| async move { peer.closed().await }).await;
    let services = format!(
        "[service.gone]\nmatch = \"app.test/gone\"\nnodes = [\"{}\"]\n\
         [service.silent]\nmatch = \"app.test/silent\"\nnodes = [\"{}\"]\ntimeouts = {{ response = \"300ms\" }}\n",
        refused(),
        silent.address
    );
    let proxy = Proxy::with(&services);
    let mut client = Http2::connect(proxy.address).await;
    for (path, status, label) in [
        ("/gone/Call", "14", "connect"),
        ("/silent/Call", "4", "response-timeout"),
        ("/nowhere/Call", "12", "no-service"),
    ] {
        is_told(&ask(&mut client, call(path, None)).await, status, label);
    }
    let plain = client.get("/nowhere/page").await;
    assert_eq!((plain.status.as_u16(), plain.header("grpc-status")), (404, None), "others are told in HTTP");
}

#[tokio::test]
async fn a_deadline_bounds_the_call() {
    let silent = TestNode::start(|mut peer| async move { peer.closed().await }).await;
    let proxy = single(&[silent.address], "[service.app.timeouts]\nresponse = \"200ms\"");
    let mut client = Http2::connect(proxy.address).await;
    let began = Instant::now();
    is_told(&ask(&mut client, call("/Call", Some("900m"))).await, "4", "deadline");
    assert!(began.elapsed() >= Duration::from_millis(900), "no limit of ours is shorter than the client's own");
    assert!(began.elapsed() < PATIENCE / 2);
    until("the node is free", || proxy.node(silent.address).inflight() == 0).await;
    let node = proxy.node(silent.address);
    assert_eq!(
        (0..proxy.pool.workers()).map(|worker| node.stats(worker).failures.get()).sum::<u64>(),
        0,
        "not its fault"
    );
}

/// Sends whole messages and then, half a second apart or never, the rest of one that it begins.
async fn streaming(finishes: bool) -> H2Node {
    H2Node::start(move |mut exchange| async move {
        let head = http::Response::builder().header("content-type", "application/grpc").body(()).expect("a head");
        let Ok(mut out) = exchange.answer.send_response(head, false) else { return };
        let _ = write(&mut out, Bytes::from_static(b"\0\0\0\0\x03one\0\0\0\0\x03t")).await;
        if finishes {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let _ = write(&mut out, Bytes::from_static(b"wo\0\0\0\0\x05thr")).await;
        }
        std::future::pending::<()>().await;
    })
    .await
}

#[tokio::test]
async fn a_stream_that_outlasts_its_drain_ends_unavailable_behind_a_whole_message() {
    let node = streaming(true).await;
    let proxy = single(&[node.address], H2C);
    let mut client = Http2::connect(proxy.address).await;
    let (response, _stream) = client.begin(call("/Watch", None), false).await;
    let (head, body) = response.await.expect("a head").into_parts();
    assert_eq!(proxy.holders(node.address).await[0].kind, WorkKind::Stream);
    let cut = proxy.cut(node.address, WorkKind::Stream, PATIENCE);
    let answer = rest(head, body).await;
    assert_eq!(answer.body, b"\0\0\0\0\x03one\0\0\0\0\x03two");
    assert_eq!((answer.reset, answer.trailer("grpc-status")), (None, Some("14")), "{answer:?}");
    assert_eq!(cut.all().await.len(), 1);
    assert_eq!(proxy.node(node.address).inflight(), 0);
}

#[tokio::test]
async fn a_message_that_never_ends_is_a_reset_after_the_grace() {
    let node = streaming(false).await;
    let proxy = single(&[node.address], H2C);
    let mut client = Http2::connect(proxy.address).await;
    let (response, _stream) = client.begin(call("/Watch", None), false).await;
    let (head, body) = response.await.expect("a head").into_parts();
    let cut = proxy.cut(node.address, WorkKind::Stream, Duration::from_millis(300));
    let answer = rest(head, body).await;
    assert_eq!((answer.reset, answer.trailer("grpc-status")), (Some(h2::Reason::CANCEL), None));
    assert_eq!(cut.all().await.len(), 1);
}

#[tokio::test]
async fn a_deadline_in_the_middle_of_a_stream_is_told_in_trailers() {
    let node = streaming(true).await;
    let proxy = single(&[node.address], H2C);
    let mut client = Http2::connect(proxy.address).await;
    let answer = ask(&mut client, call("/Watch", Some("300m"))).await;
    assert_eq!((answer.reset, answer.trailer("grpc-status")), (None, Some("4")), "{answer:?}");
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
}

#[tokio::test]
async fn a_call_without_an_answer_is_unavailable_when_its_node_goes() {
    let silent = TestNode::start(|mut peer| async move { peer.closed().await }).await;
    let proxy = single(&[silent.address], "");
    let mut client = Http2::connect(proxy.address).await;
    let (response, mut stream) = client.begin(call("/Call", None), false).await;
    stream.send_data(Bytes::from_static(&[0, 0, 0, 0, 0]), true).expect("an open stream");
    until("it is at the node", || proxy.node(silent.address).inflight() == 1).await;
    let cut = proxy.cut(silent.address, WorkKind::Stream, PATIENCE);
    is_told(&answer(response).await, "14", "drain-deadline");
    assert_eq!(cut.all().await.len(), 1);
}
