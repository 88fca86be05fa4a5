//! Bounds on what clients may use: fields, bodies, requests, connections, and their pace.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::support::client::Client;
use crate::support::node::TestNode;
use crate::support::{PATIENCE, Proxy, app, until};

fn proxy(node: &TestNode, limits: &str, service: &str) -> Proxy {
    Proxy::with_workers(&format!("{limits}\n{}", app(&[node.address], service)), 1)
}

async fn freed(proxy: &Proxy, node: &TestNode) {
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
}

#[tokio::test]
async fn a_body_that_is_announced_too_large_reaches_no_node() {
    let node = TestNode::echoing().await;
    let proxy = proxy(&node, "limits = { body = \"1KiB\" }", "");
    let mut client = Client::connect(proxy.address).await;
    // What is sent anyway is read away, and the connection goes on.
    for _ in 0..2 {
        let response = client.post("/", &"x".repeat(2000)).await;
        assert_eq!((response.status, response.header("x-sluice-error")), (413, Some("body-size")));
    }
    assert_eq!(client.post("/", &"x".repeat(1024)).await.body.len(), 1024);
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9999999999\r\nexpect: 100-continue\r\n\r\n").await;
    let first = client.head().await.expect("an answer");
    assert_eq!(first.status, 413, "and no 100 before");
    assert_eq!(node.requests().len(), 1);
}

#[tokio::test]
async fn a_chunked_body_is_counted_as_it_comes() {
    let node = TestNode::echoing().await;
    let proxy = proxy(&node, "limits = { body = \"1GiB\" }", "limits = { body = \"100KiB\" }");
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for _ in 0..20 {
        client.send(format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000))).await;
    }
    let response = client.response("POST").await.expect("an answer");
    assert_eq!((response.status, response.header("x-sluice-error")), (413, Some("body-size")));
    freed(&proxy, &node).await;
    assert!(node.requests().is_empty(), "the node never had the whole");
    let (_, failures) = proxy.node(node.address).totals();
    assert_eq!(failures, 0, "it was not the node's fault");
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    assert_eq!(client.response("POST").await.expect("an answer").text(), "abc");
}

#[tokio::test]
async fn a_head_has_only_so_many_fields() {
    let node = TestNode::answering("ok").await;
    for (limit, most) in [("headers = 10", 10), ("headers = 300", 300)] {
        let proxy = proxy(&node, &format!("limits = {{ {limit} }}"), "");
        for (fields, status) in [(most, 200), (most + 1, 431)] {
            let mut client = Client::connect(proxy.address).await;
            let more = (1..fields).map(|number| format!("x-{number}: 1\r\n")).collect::<Vec<_>>().concat();
            client.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{more}\r\n")).await;
            assert_eq!(client.response("GET").await.expect("an answer").status, status, "{fields} of {most}");
        }
    }
}

#[tokio::test]
async fn a_connection_ends_in_good_order_after_its_last_request() {
    let node = TestNode::answering("ok").await;
    let proxy = proxy(&node, "limits = { requests_per_connection = 3 }", "");
    let mut client = Client::connect(proxy.address).await;
    for number in 1..=3 {
        let response = client.get("/").await;
        assert_eq!((response.status, response.header("connection")), (200, (number == 3).then_some("close")));
    }
    assert!(client.closed().await.is_empty());
}

/// Answers `/slow` when it is told to, everything else at once.
async fn patient() -> (TestNode, std::sync::Arc<tokio::sync::Semaphore>) {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let opened = std::sync::Arc::clone(&gate);
    let node = TestNode::start(move |mut peer| {
        let gate = std::sync::Arc::clone(&opened);
        async move {
            while let Some(request) = peer.request().await {
                if request.line.contains("/slow") {
                    gate.acquire().await.expect("an open gate").forget();
                }
                peer.respond(200, "ok").await;
            }
        }
    })
    .await;
    (node, gate)
}

#[tokio::test]
async fn only_so_many_requests_are_under_way() {
    for (limits, service, label) in
        [("limits = { requests = 2 }", "", "request-limit"), ("", "limits = { requests = 2 }", "service-request-limit")]
    {
        let (node, gate) = patient().await;
        let proxy = proxy(&node, limits, service);
        let mut slow = [Client::connect(proxy.address).await, Client::connect(proxy.address).await];
        for client in &mut slow {
            client.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
        }
        until("both are at the node", || node.requests().len() == 2).await;
        let mut third = Client::connect(proxy.address).await;
        for _ in 0..3 {
            let response = third.get("/").await;
            assert_eq!((response.status, response.header("x-sluice-error")), (503, Some(label)));
            assert_eq!(response.header("retry-after"), Some("1"));
        }
        gate.add_permits(1);
        let again = async { while third.get("/").await.status != 200 {} };
        timeout(PATIENCE, again).await.expect("a place comes free with the first answer");
        // A client that goes gives its place back, too.
        drop(slow);
        freed(&proxy, &node).await;
        let mut fourth = Client::connect(proxy.address).await;
        assert_eq!((third.get("/").await.status, fourth.get("/").await.status), (200, 200));
    }
}

#[tokio::test]
async fn a_services_limit_counts_over_all_workers_and_survives_an_edit() {
    let (node, gate) = patient().await;
    let service = |more: &str| app(&[node.address], &format!("limits = {{ requests = 3 }}\n{more}"));
    let mut proxy = Proxy::with_workers(&service(""), 3);
    let mut slow = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(proxy.address).await;
        client.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
        slow.push(client);
    }
    until("all are at the node", || node.requests().len() == 3).await;
    proxy.edit(&service("response_headers.set.x-a = \"b\""));
    for _ in 0..10 {
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(client.get("/").await.status, 503);
    }
    gate.add_permits(3);
    for client in &mut slow {
        assert_eq!(client.response("GET").await.expect("an answer").status, 200);
    }
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test]
async fn one_address_has_only_so_many_connections() {
    let node = TestNode::answering("ok").await;
    let text = format!("limits = {{ connections_per_address = 4 }}\n{}", app(&[node.address], ""));
    let mut proxy = Proxy::with_workers(&text, 3);
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(client.get("/").await.status, 200);
        clients.push(client);
    }
    for _ in 0..5 {
        let mut client = Client::connect(proxy.address).await;
        let response = client.response("GET").await.expect("an answer");
        assert_eq!((response.status, response.header("x-sluice-error")), (429, Some("address-limit")));
        client.closed().await;
    }
    // Another address of this machine is another client.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 2], 0).into()).expect("loopback has many addresses");
    let mut other = Client::over(socket.connect(proxy.address).await.expect("a connection"));
    assert_eq!(other.get("/").await.status, 200);
    clients.pop();
    let again = async {
        loop {
            let mut client = Client::connect(proxy.address).await;
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            if client.response("GET").await.is_some_and(|response| response.status == 200) {
                return client;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    clients.push(timeout(PATIENCE, again).await.expect("a place that is given back can be taken"));
    // A proxy in front of this one is many clients.
    proxy.edit(&format!("trusted_proxies = [\"127.0.0.1\"]\n{text}"));
    let many = async {
        while clients.len() < 10 {
            let mut client = Client::connect(proxy.address).await;
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            if client.response("GET").await.is_some_and(|response| response.status == 200) {
                clients.push(client);
            }
        }
    };
    timeout(PATIENCE, many).await.expect("no limit");
}

#[tokio::test]
async fn a_body_that_drips_is_a_408() {
    let node = TestNode::answering("ok").await;
    let limits = "limits = { body_rate = \"1KiB\" }";
    // Each byte comes well within the limit on silence.
    let proxy = proxy(&node, limits, "timeouts = { body = \"700ms\", response = \"60s\" }");
    for framing in ["content-length: 1000000", "transfer-encoding: chunked"] {
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n")).await;
        let socket = socket2::SockRef::from(&client.stream).try_clone().expect("a second handle");
        let drip = tokio::spawn(async move {
            while socket.send(b"1\r\na\r\n").is_ok() {
                sleep(Duration::from_millis(50)).await;
            }
        });
        let response = client.response("POST").await.expect("an answer");
        assert_eq!((response.status, response.header("x-sluice-error")), (408, Some("client-timeout")));
        client.closed().await;
        drip.abort();
        freed(&proxy, &node).await;
    }
    let (_, failures) = proxy.node(node.address).totals();
    assert_eq!(failures, 0, "it was not the node's fault");
}

#[tokio::test]
async fn whoever_is_not_waited_for_cannot_be_too_slow() {
    // Says nothing, then all at once; and a node that takes its time over the body.
    let node = TestNode::start(|mut peer| async move {
        while let Some(head) = peer.head().await {
            let length: usize = head.header("content-length").expect("a length").parse().expect("a number");
            for _ in 0..8 {
                sleep(Duration::from_millis(300)).await;
                peer.bytes(length / 8).await;
            }
            peer.respond(200, "taken").await;
        }
    })
    .await;
    let limits = "limits = { body_rate = \"100KiB\" }";
    let proxy = proxy(&node, limits, "timeouts = { body = \"600ms\", response = \"60s\" }");
    let mut client = Client::connect(proxy.address).await;
    let body = "x".repeat(8 << 10);
    assert_eq!(client.post("/", &body).await.text(), "taken");
    // gRPC talks at its own pace.
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 8\r\n\r\n").await;
    for byte in b"messages" {
        sleep(Duration::from_millis(200)).await;
        client.send([*byte]).await;
    }
    assert_eq!(client.response("POST").await.expect("an answer").text(), "taken");
}

#[tokio::test]
async fn a_client_that_takes_its_answer_by_drops_is_cut() {
    let node = TestNode::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 1 << 30)).await;
            let piece = vec![b'x'; 65_536];
            while tokio::io::AsyncWriteExt::write_all(&mut peer.stream, &piece).await.is_ok() {}
        }
    })
    .await;
    let limits = "limits = { body_rate = \"64MiB\" }";
    // Something moves all the time, so silence alone would never end it.
    let proxy = proxy(&node, limits, "timeouts = { body = \"1s\" }");
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let reading = async {
        while client.bytes(100_000).await.is_some() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, reading).await.expect("it is cut");
    freed(&proxy, &node).await;
    let (_, failures) = proxy.node(node.address).totals();
    assert_eq!(failures, 0, "it was not the node's fault");
}
