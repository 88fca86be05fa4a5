//! Clients that are slow, silent, greedy or gone: each is ended in time, frees what it held, and harms nobody else.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::support::client::Client;
use crate::support::node::TestNode;
use crate::support::{PATIENCE, Proxy, app, until};

/// A proxy with one worker, so that limits are exact.
fn proxy(node: &TestNode, limits: &str, service: &str) -> Proxy {
    Proxy::with_workers(&format!("{limits}\n{}", app(&[node.address], service)), 1)
}

/// A node that answers with this many bytes without end, as fast as they are taken.
async fn flooding(bytes: usize) -> TestNode {
    TestNode::start(move |mut peer| async move {
        while let Some(request) = peer.request().await {
            if request.line.starts_with("GET /small ") {
                peer.respond(200, "small").await;
                continue;
            }
            peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n")).await;
            peer.send(vec![b'x'; bytes]).await;
        }
    })
    .await
}

async fn freed(proxy: &Proxy, node: &TestNode) {
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
}

#[tokio::test]
async fn a_slow_head_is_a_408() {
    let node = TestNode::answering("ok").await;
    let proxy = proxy(&node, "limits = { head = \"300ms\", idle = \"60s\" }", "");
    // One that stalls, one that sends byte after byte, one that does so after a first request.
    for (first, dribbles) in [(false, false), (false, true), (true, true), (true, false)] {
        let mut client = Client::connect(proxy.address).await;
        if first {
            assert_eq!(client.get("/").await.status, 200);
        }
        client.send("GET / HTTP/1.1\r\nhost: app").await;
        let Client { stream, .. } = &client;
        let socket = socket2::SockRef::from(stream).try_clone().expect("a second handle");
        let dribble = tokio::spawn(async move {
            while dribbles && socket.send(b"a").is_ok() {
                sleep(Duration::from_millis(50)).await;
            }
        });
        let response = client.response("GET").await.expect("an answer");
        assert_eq!((response.status, response.header("x-sluice-error")), (408, Some("head-timeout")));
        client.closed().await;
        dribble.abort();
    }
    assert_eq!(node.requests().len(), 2);
}

#[tokio::test]
async fn a_silent_connection_is_closed_without_a_word() {
    let node = TestNode::answering("ok").await;
    let proxy = proxy(&node, "limits = { idle = \"300ms\" }", "");
    let mut client = Client::connect(proxy.address).await;
    assert!(client.closed().await.is_empty());
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.get("/").await.status, 200);
    assert!(client.closed().await.is_empty());
}

#[tokio::test]
async fn a_body_that_stops_arriving_is_a_408_and_frees_the_node() {
    let node = TestNode::answering("ok").await;
    let proxy = proxy(&node, "", "timeouts = { body = \"300ms\", response = \"60s\" }");
    for body in ["content-length: 10\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("POST / HTTP/1.1\r\nhost: app.test\r\n{body}")).await;
        let response = client.response("POST").await.expect("an answer");
        assert_eq!((response.status, response.header("x-sluice-error")), (408, Some("client-timeout")));
        client.closed().await;
        freed(&proxy, &node).await;
    }
    assert!(node.requests().is_empty());
    let (_, failures) = proxy.node(node.address).totals();
    assert_eq!(failures, 0, "it was not the node's fault");
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_and_the_node_freed() {
    let node = flooding(100 << 20).await;
    let proxy = proxy(&node, "", "timeouts = { body = \"500ms\" }");
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
    until("the request is at the node", || !node.requests().is_empty()).await;
    freed(&proxy, &node).await;
    let response = client.response("GET").await.expect("a head");
    assert!(response.truncated && response.body.len() < 100 << 20);
}

#[tokio::test]
async fn a_client_that_never_reads_its_answers_does_not_stay_for_ever() {
    // The answers are whole and the node is free, but they cannot be delivered.
    let node = TestNode::start(|mut peer| async move {
        let body = "x".repeat(60_000);
        while peer.request().await.is_some() {
            peer.respond(200, &body).await;
        }
    })
    .await;
    let limits = "limits = { idle = \"300ms\", head = \"300ms\", connections = 1 }";
    let proxy = proxy(&node, limits, "timeouts = { body = \"60s\" }");
    let mut greedy = Client::connect(proxy.address).await;
    let asking = "GET / HTTP/1.1\r\nhost: app.test\r\n\r\n".repeat(3000);
    let _ = timeout(Duration::from_secs(1), tokio::io::AsyncWriteExt::write_all(&mut greedy.stream, asking.as_bytes()))
        .await;
    until("answers pile up", || node.requests().len() > 10).await;
    let patient = async {
        loop {
            let mut client = Client::connect(proxy.address).await;
            client.send("GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
            match client.response("GET").await {
                Some(response) if response.status == 200 => return,
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    timeout(PATIENCE, patient).await.expect("its place comes free");
}

#[tokio::test]
async fn over_the_connection_limit_new_clients_are_refused_and_old_ones_served() {
    let node = TestNode::answering("ok").await;
    let proxy = proxy(&node, "limits = { connections = 2 }", "");
    let mut clients = [Client::connect(proxy.address).await, Client::connect(proxy.address).await];
    for client in &mut clients {
        assert_eq!(client.get("/").await.status, 200);
    }
    let mut third = Client::connect(proxy.address).await;
    let response = third.response("GET").await.expect("an answer");
    assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
    assert_eq!(response.header("x-sluice-error"), Some("connection-limit"));
    third.closed().await;
    for client in &mut clients {
        assert_eq!(client.get("/").await.status, 200);
    }
    let [first, _second] = clients;
    drop(first);
    let again = async {
        loop {
            let mut client = Client::connect(proxy.address).await;
            client.send("GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
            if client.response("GET").await.is_some_and(|response| response.status == 200) {
                return;
            }
        }
    };
    timeout(PATIENCE, again).await.expect("a free place is given again");
}

#[tokio::test]
async fn the_connection_limit_is_one_for_all_workers() {
    let node = TestNode::answering("ok").await;
    let text = format!("limits = {{ connections = 9 }}\n{}", app(&[node.address], ""));
    let proxy = Proxy::with_workers(&text, 4);
    let mut clients = Vec::new();
    for number in 0..9 {
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(client.get("/").await.status, 200, "{number}");
        clients.push(client);
    }
    for _ in 0..5 {
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(client.response("GET").await.expect("an answer").status, 503);
    }
}

#[tokio::test]
async fn a_burst_does_not_get_past_the_connection_limit() {
    let node = TestNode::answering("ok").await;
    let proxy = proxy(&node, "limits = { connections = 5 }", "");
    let clients = futures_util::future::join_all((0..60).map(|_| Client::connect(proxy.address))).await;
    let mut served = 0;
    let mut kept = Vec::new();
    for mut client in clients {
        client.send("GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
        let response = client.response("GET").await;
        served += usize::from(response.is_some_and(|response| response.status == 200));
        kept.push(client);
    }
    assert_eq!(served, 5);
}

/// Starts something that holds the node, and is gone.
async fn abuse(proxy: &Proxy, kind: usize) {
    let mut client = Client::connect(proxy.address).await;
    let upload = "POST / HTTP/1.1\r\nhost: app.test\r\n";
    match kind % 6 {
        0 => client.send(format!("{upload}content-length: 1000000\r\n\r\nabc")).await,
        1 => client.send(format!("{upload}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")).await,
        2 => client.send("GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await,
        3 => {
            client.send("GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
            client.head().await.expect("the beginning of a download");
        }
        4 => client.send(format!("{upload}content-length: 10\r\nexpect: 100-continue\r\n\r\n")).await,
        _ => client.send("GET / HTTP/1.1\r\nhost: ap").await,
    }
    if kind.is_multiple_of(2) {
        // A reset, not an end.
        let _ = socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO));
    }
}

#[tokio::test]
async fn a_client_that_goes_in_the_middle_frees_the_node_at_once() {
    // No limit of time is short enough to help.
    let node = flooding(100 << 20).await;
    let proxy = proxy(&node, "", "");
    for kind in 0..12 {
        abuse(&proxy, kind).await;
        timeout(Duration::from_secs(10), freed(&proxy, &node)).await.unwrap_or_else(|_| panic!("kind {kind}"));
    }
    let (_, failures) = proxy.node(node.address).totals();
    assert_eq!(failures, 0, "it was not the node's fault");
}

#[tokio::test]
async fn two_hundred_abusers_leave_nothing_behind() {
    let node = flooding(8 << 20).await;
    let proxy = proxy(&node, "limits = { connections = 210 }", "");
    for kind in 0..200 {
        abuse(&proxy, kind).await;
    }
    freed(&proxy, &node).await;
    // Every place is free again: so many clients fit beside each other.
    let mut clients = Vec::new();
    let all = async {
        while clients.len() < 210 {
            let mut client = Client::connect(proxy.address).await;
            client.send("GET /small HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
            match client.response("GET").await {
                Some(response) if response.status == 200 => clients.push(client),
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, all).await.expect("a place for everybody");
    assert_eq!(proxy.node(node.address).inflight(), 0);
}
