//! Nodes that speak HTTP/2, with clients that speak HTTP/1.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::Builder;
use http::{HeaderMap, Response};
use tokio::time::sleep;

use crate::support::client::{self, Client};
use crate::support::control::{refused, single};
use crate::support::h2node::{H2Node, write};
use crate::support::http2::get;
use crate::support::strict::Strict;
use crate::support::until;

/// What makes nodes HTTP/2 ones.
pub const H2C: &str = "[service.app.connections]\nprotocol = \"h2c\"\n";

pub fn fault(response: &client::Response) -> (u16, &str) {
    (response.status, response.header("x-sluice-error").unwrap_or_default())
}

#[tokio::test]
async fn requests_of_many_clients_share_one_connection() {
    let node = H2Node::answering("hello").await;
    let proxy = single(&[node.address], H2C);
    for _ in 0..3 {
        let mut client = Client::connect(proxy.address).await;
        for _ in 0..3 {
            let response = client.get("/path?query").await;
            assert_eq!((response.status, response.text().as_str()), (200, "hello"));
            assert_eq!(client.post("/", "body").await.text(), "hello");
        }
    }
    assert_eq!(node.accepted(), 1);
    let heads = node.heads();
    assert_eq!(heads.len(), 18);
    let head = &heads[0];
    assert_eq!(head.uri(), "http://app.test/path?query");
    let names: Vec<_> = head.headers().keys().map(http::HeaderName::as_str).collect();
    assert!(!names.contains(&"host") && !names.contains(&"connection") && !names.contains(&"transfer-encoding"));
    assert_eq!(head.headers()["x-forwarded-for"], "127.0.0.1");
    assert_eq!(heads[1].headers()["content-length"], "4");
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways() {
    let node = H2Node::echoing().await;
    let proxy = single(&[node.address], H2C);
    let mut client = Client::connect(proxy.address).await;
    for size in [0, 1, 1000, 300_000, 3_000_000] {
        let body = "x".repeat(size);
        let response = client.post("/", &body).await;
        assert_eq!((response.status, response.body.len(), response.truncated), (200, size, false));
    }
    client
        .send(
            "POST / HTTP/1.1\r\nhost: app.test\r\nte: trailers\r\nconnection: te\r\ntrailer: x-sum\r\n\
             transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n",
        )
        .await;
    let response = client.response("POST").await.expect("a response");
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    assert_eq!(node.heads().last().expect("a request").headers()["te"], "trailers");
}

#[tokio::test]
async fn a_further_connection_is_opened_when_streams_run_out() {
    let open = Arc::new(AtomicUsize::new(0));
    let (count, go) = (Arc::clone(&open), Arc::new(tokio::sync::Semaphore::new(0)));
    let gate = Arc::clone(&go);
    let mut settings = Builder::new();
    settings.max_concurrent_streams(4);
    let node = H2Node::with(settings, move |mut exchange| {
        let (count, gate) = (Arc::clone(&count), Arc::clone(&gate));
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = gate.acquire().await;
            exchange.respond(200, "done");
        }
    })
    .await;
    let proxy = single(&[node.address], H2C);
    let mut clients = Vec::new();
    for _ in 0..12 {
        let mut client = Client::connect(proxy.address).await;
        client.send("GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
        clients.push(client);
    }
    until("all are at the node", || open.load(Ordering::SeqCst) == 12).await;
    assert_eq!(node.accepted(), 3);
    go.add_permits(100);
    for mut client in clients {
        assert_eq!(client.response("GET").await.expect("a response").text(), "done");
    }
    // What was enough for twelve is enough for the next ones.
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.get("/").await.text(), "done");
    assert_eq!(node.accepted(), 3);
}

#[tokio::test]
async fn at_the_limit_of_connections_a_request_waits_for_a_stream() {
    let node = H2Node::start(|mut exchange| async move {
        sleep(Duration::from_millis(20)).await;
        exchange.respond(200, "done");
    })
    .await;
    let more = format!("{H2C}max = 1\nidle = 1\nstreams = 2\n");
    let proxy = single(&[node.address], &more);
    let clients = (0..20).map(|_| async {
        let mut client = Client::connect(proxy.address).await;
        client.get("/").await
    });
    for response in futures_util::future::join_all(clients).await {
        assert_eq!((response.status, response.text().as_str()), (200, "done"));
    }
    assert_eq!(node.accepted(), 1);
}

#[tokio::test]
async fn an_upgrade_is_refused_in_words() {
    let node = H2Node::answering("fine").await;
    let proxy = single(&[node.address], H2C);
    let mut client = Client::connect(proxy.address).await;
    client
        .send(
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        )
        .await;
    assert_eq!(fault(&client.response("GET").await.expect("a response")), (501, "no-upgrade"));
    assert_eq!(client.get("/").await.text(), "fine");
}

#[tokio::test]
async fn a_continue_of_the_node_lets_the_body_go() {
    let node = H2Node::start(|mut exchange| async move {
        if exchange.path() == "/no" {
            return exchange.respond(417, "no");
        }
        let interim = Response::builder().status(100).body(()).expect("a head");
        exchange.answer.send_informational(interim).expect("a stream");
        let (body, _) = exchange.whole().await.expect("a body");
        exchange.respond(200, if body == b"hello" { "right" } else { "wrong" });
    })
    .await;
    let proxy = single(&[node.address], H2C);
    let mut client = Client::connect(proxy.address).await;
    let head = |path| format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n");
    let began = std::time::Instant::now();
    client.send(head("/")).await;
    assert_eq!(client.head().await.expect("a head").status, 100);
    assert!(began.elapsed() < Duration::from_millis(900), "the node's word counts, not the second that passed");
    client.send("hello").await;
    assert_eq!(client.response("POST").await.expect("a response").text(), "right");
    let mut client = Client::connect(proxy.address).await;
    client.send(head("/no")).await;
    assert_eq!(client.head().await.expect("a head").status, 417);
}

#[tokio::test]
async fn heads_without_a_body_stay_without_one() {
    let node = H2Node::start(|mut exchange| async move {
        let status: u16 = exchange.path()[1..].parse().expect("a status");
        let mut head = Response::builder().status(status);
        if status != 204 {
            head = head.header("content-length", "1000");
        }
        let _ = exchange.answer.send_response(head.body(()).expect("a head"), true);
    })
    .await;
    let proxy = single(&[node.address], H2C);
    let mut client = Client::connect(proxy.address).await;
    for (method, status, length) in [("HEAD", 200, true), ("GET", 204, false), ("GET", 304, true), ("HEAD", 404, true)]
    {
        client.send(format!("{method} /{status} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let response = client.response(method).await.expect("a response");
        assert_eq!((response.status, response.body.len()), (status, 0), "{method}");
        assert_eq!(response.header("content-length").is_some(), length, "{method} {status}");
        assert_eq!(response.header("transfer-encoding"), None);
    }
}

#[tokio::test]
async fn bytes_behind_a_status_that_has_none_reach_nobody() {
    let node = H2Node::start(|mut exchange| async move {
        let status: u16 = exchange.path()[1..].parse().expect("a status");
        let head = Response::builder().status(status).body(()).expect("a head");
        let Ok(mut out) = exchange.answer.send_response(head, false) else { return };
        let _ = out.send_data(Bytes::from_static(b"abc"), true);
    })
    .await;
    let proxy = single(&[node.address], H2C);
    let (mut client, mut strict) = (Client::connect(proxy.address).await, Strict::connect(proxy.address, &[]).await);
    for (status, id) in [(204, 1), (304, 3), (200, 5)] {
        let body = if status == 200 { "abc" } else { "" };
        client.send(format!("GET /{status} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let response = client.response("GET").await.expect("a response");
        assert_eq!((response.status, &*response.text()), (status, body));
        assert_eq!(response.header("content-length").is_none(), status != 200);
        strict.send(get(id, &format!("/{status}"))).await;
        let answer = strict.answer(id).await;
        assert_eq!((answer.status(), &*answer.text(), answer.ended), (status, body, true));
    }
}

#[tokio::test]
async fn a_length_that_the_node_tells_is_told_unless_trailers_follow() {
    let node = H2Node::start(|mut exchange| async move {
        let trailers = exchange.path() == "/trailers";
        let mut head = Response::builder().header("content-length", "6");
        if trailers {
            head = head.header("trailer", "x-sum");
        }
        let head = head.body(()).expect("a head");
        let Ok(mut out) = exchange.answer.send_response(head, false) else { return };
        let _ = write(&mut out, Bytes::from_static(b"abc")).await;
        sleep(Duration::from_millis(50)).await;
        let _ = out.send_data(Bytes::from_static(b"def"), !trailers);
        if trailers {
            let _ = out.send_trailers(
                [("x-sum".parse().expect("a name"), "7".parse().expect("a value"))].into_iter().collect(),
            );
        }
    })
    .await;
    let proxy = single(&[node.address], H2C);
    let mut client = Client::connect(proxy.address).await;
    for (path, length, trailers) in [("/", Some("6"), 0), ("/trailers", None, 1)] {
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\n\r\n")).await;
        let response = client.response("GET").await.expect("a response");
        assert_eq!((&*response.text(), response.header("content-length")), ("abcdef", length), "{path}");
        assert_eq!(response.trailers.len(), trailers, "{path}");
    }
}

#[tokio::test]
async fn a_length_that_is_not_the_bodys_is_no_answer() {
    for (declared, sent) in [("3", "hello"), ("10", "hello"), ("5, 6", "hello"), ("x", "hello")] {
        let node = H2Node::start(move |mut exchange| async move {
            let head = Response::builder().header("content-length", declared).body(()).expect("a head");
            let Ok(mut out) = exchange.answer.send_response(head, false) else { return };
            let _ = out.send_data(Bytes::from_static(sent.as_bytes()), true);
        })
        .await;
        let proxy = single(&[node.address], H2C);
        let mut client = Client::connect(proxy.address).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        if let Some(head) = client.head().await
            && head.status != 502
        {
            let rest = client.closed().await;
            assert!(rest.len() < declared.parse().unwrap_or(usize::MAX) || declared == "3", "{declared}: {rest:?}");
            assert_ne!(declared, "3", "{rest:?}");
        }
    }
}

#[tokio::test]
async fn nobody_listening_is_told_as_ever() {
    let proxy = single(&[refused()], H2C);
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(fault(&client.get("/").await), (502, "connect"));
}

#[tokio::test]
async fn slow_clients_hold_their_own_streams_back_and_no_others() {
    let node = H2Node::start(|mut exchange| async move {
        if exchange.path() == "/" {
            return exchange.respond(200, "fine");
        }
        let mut out = exchange.begin(200);
        let piece = Bytes::from(vec![b'x'; 1 << 16]);
        for _ in 0..64 << 4 {
            if write(&mut out, piece.clone()).await.is_err() {
                return;
            }
        }
        let _ = out.send_trailers(HeaderMap::new());
    })
    .await;
    let proxy = single(&[node.address], H2C);
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(proxy.address).await;
        client.send("GET /huge HTTP/1.1\r\nhost: a\r\n\r\n").await;
        slow.push(client);
    }
    until("all are at the node", || node.heads().len() == 20).await;
    // Long enough for each to have filled what there is to fill.
    sleep(Duration::from_millis(300)).await;
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "fine");
    }
    assert_eq!(node.accepted(), 1);
    let whole = slow.pop().expect("a client").response("GET").await.expect("a response");
    assert_eq!((whole.body.len(), whole.truncated), (64 << 20, false));
}

#[tokio::test]
async fn a_storm_of_interim_answers_changes_nothing() {
    let node = H2Node::start(|mut exchange| async move {
        for number in 0..2000 {
            let status = if number % 2 == 0 { 102 } else { 103 };
            let interim = Response::builder().status(status).header("link", "</x>").body(()).expect("a head");
            if exchange.answer.send_informational(interim).is_err() {
                return;
            }
        }
        exchange.respond(200, "fine");
    })
    .await;
    let proxy = single(&[node.address], H2C);
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "fine");
    }
}
