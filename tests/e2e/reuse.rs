//! Connections to nodes: which one is taken, how long it is kept, how many there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use crate::support::client::Client;
use crate::support::control::single;
use crate::support::node::{Peer, TestNode};
use crate::support::{PATIENCE, until};

/// Answers each request with the number of its connection.
async fn numbering(head: &'static str) -> TestNode {
    TestNode::start(move |mut peer| async move {
        while peer.request().await.is_some() {
            let number = peer.number.to_string();
            peer.send(format!("HTTP/1.1 200 OK\r\n{head}content-length: {}\r\n\r\n{number}", number.len())).await;
        }
    })
    .await
}

/// Opens several connections to the node by holding the answers to the path `/hold` back until `count` of them wait.
async fn holding(count: usize) -> TestNode {
    let (waiting, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    TestNode::start(move |mut peer| {
        let (waiting, go) = (Arc::clone(&waiting), Arc::clone(&go));
        async move {
            while let Some(request) = peer.request().await {
                if request.line.contains("/hold") {
                    let told = go.notified();
                    tokio::pin!(told);
                    told.as_mut().enable();
                    if waiting.fetch_add(1, SeqCst) + 1 == count {
                        go.notify_waiters();
                    }
                    told.await;
                }
                let number = peer.number.to_string();
                peer.respond(200, &number).await;
            }
        }
    })
    .await
}

async fn open_several(proxy: std::net::SocketAddr, count: usize) {
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..count {
        clients.spawn(async move { Client::connect(proxy).await.get("/hold").await.status });
    }
    while let Some(status) = clients.join_next().await {
        assert_eq!(status.expect("a client without a panic"), 200);
    }
}

#[tokio::test]
async fn the_connection_that_was_used_last_is_taken() {
    let node = holding(5).await;
    let proxy = single(&[node.address], "");
    open_several(proxy.address, 5).await;
    let mut client = Client::connect(proxy.address).await;
    let first = client.get("/").await.text();
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), first);
    }
    assert_eq!(node.accepted(), 5);
}

#[tokio::test]
async fn only_so_many_idle_connections_are_kept() {
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    let (waiting, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Barrier::new(4)));
    let node = TestNode::start(move |mut peer| {
        let (count, waiting, go) = (Arc::clone(&count), Arc::clone(&waiting), Arc::clone(&go));
        async move {
            while peer.request().await.is_some() {
                if waiting.fetch_add(1, SeqCst) < 4 {
                    go.wait().await;
                }
                peer.respond(200, "").await;
            }
            count.fetch_add(1, SeqCst);
        }
    })
    .await;
    let proxy = single(&[node.address], "connections.idle = 2");
    open_several(proxy.address, 4).await;
    until("two of four are closed", || closed.load(SeqCst) == 2).await;
    assert_eq!(Client::connect(proxy.address).await.get("/").await.status, 200);
    assert_eq!((node.accepted(), closed.load(SeqCst)), (4, 2));
}

/// A node that closes idle connections after 50 ms meets clients that come back after about 50 ms.
#[tokio::test]
async fn a_node_that_closes_idle_connections_loses_no_request_and_gets_none_twice() {
    let node = TestNode::start(|mut peer: Peer| async move {
        loop {
            if timeout(Duration::from_millis(50), peer.stream.readable()).await.is_err() {
                return;
            }
            let Some(request) = peer.request().await else { return };
            peer.respond(200, request.line.split(' ').nth(1).expect("a target")).await;
        }
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut clients = tokio::task::JoinSet::new();
    for name in 0..20u64 {
        let address = proxy.address;
        clients.spawn(async move {
            let mut random = fastrand::Rng::with_seed(name);
            let mut client = Client::connect(address).await;
            for turn in 0..25 {
                let path = format!("/{name}/{turn}");
                let post = random.bool();
                let response = if post { client.post(&path, "body").await } else { client.get(&path).await };
                assert_eq!((response.status, response.text()), (200, path), "post: {post}");
                sleep(Duration::from_micros(random.u64(46_000..54_000))).await;
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.expect("every request was answered");
    }
    let mut posts: Vec<_> =
        node.requests().into_iter().filter(|r| r.line.starts_with("POST")).map(|r| r.line).collect();
    let all = posts.len();
    posts.sort();
    posts.dedup();
    assert_eq!(posts.len(), all, "a POST came twice");
}

/// The classic race with a single node: the request was on its way when the node closed. Nobody else could take it.
#[tokio::test]
async fn a_get_lost_on_a_used_connection_goes_to_the_same_node_again() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.respond(200, "first").await;
        peer.request().await;
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text(), "first");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_when_its_time_is_over() {
    for (more, head, least) in [
        ("connections.idle_timeout = \"300ms\"", "", 300),
        ("", "keep-alive: timeout=1\r\n", 700),
        ("connections.idle_timeout = \"300ms\"", "keep-alive: timeout=60, max=5\r\n", 300),
    ] {
        let (sender, mut ends) = mpsc::unbounded_channel();
        let node = TestNode::start(move |mut peer| {
            let sender = sender.clone();
            async move {
                peer.request().await;
                peer.send(format!("HTTP/1.1 200 OK\r\n{head}content-length: 0\r\n\r\n")).await;
                let answered = Instant::now();
                peer.closed().await;
                let _ = sender.send(answered.elapsed());
            }
        })
        .await;
        let proxy = single(&[node.address], more);
        assert_eq!(Client::connect(proxy.address).await.get("/").await.status, 200);
        let idle = timeout(PATIENCE, ends.recv()).await.expect("it is closed").expect("a time");
        assert!(idle >= Duration::from_millis(least), "{idle:?} with {more} {head}");
    }
}

#[tokio::test]
async fn a_post_takes_only_a_connection_that_was_just_used() {
    let node = numbering("").await;
    let proxy = single(&[node.address], "connections.fresh = \"20ms\"");
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.get("/").await.text(), "0");
    sleep(Duration::from_millis(40)).await;
    assert_eq!(client.post("/", "").await.text(), "1", "the idle one is too old for a POST");
    sleep(Duration::from_millis(40)).await;
    assert_eq!(client.get("/").await.text(), "1", "and good enough for a GET");
    let patient = single(&[node.address], "connections.fresh = \"1m\"");
    let mut client = Client::connect(patient.address).await;
    let first = client.get("/").await.text();
    sleep(Duration::from_millis(40)).await;
    assert_eq!(client.post("/", "").await.text(), first);
}

#[tokio::test]
async fn a_node_gets_no_more_connections_than_it_may() {
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (Arc::clone(&open), Arc::clone(&most));
    let node = TestNode::start(move |mut peer| {
        let (open, most) = (Arc::clone(&open), Arc::clone(&most));
        async move {
            let count = open.fetch_add(1, SeqCst) + 1;
            most.fetch_max(count, SeqCst);
            while peer.request().await.is_some() {
                sleep(Duration::from_millis(5)).await;
                peer.respond(200, "").await;
            }
            open.fetch_sub(1, SeqCst);
        }
    })
    .await;
    let more = "connections.max = 2\ntimeouts.connect = \"20s\"";
    let proxy = single(&[node.address], more);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let address = proxy.address;
        clients.spawn(async move {
            let mut client = Client::connect(address).await;
            for _ in 0..5 {
                assert_eq!(client.get("/").await.status, 200);
                assert_eq!(client.post("/", "").await.status, 200);
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.expect("every request was answered");
    }
    // The proxy counts a connection as gone when it closes it, the node when it reads the end.
    assert!(peak.load(SeqCst) <= 3, "{} connections at once, {} now", peak.load(SeqCst), now.load(SeqCst));
    assert_eq!(node.requests().len(), 100);
}

#[tokio::test]
async fn a_request_that_gets_no_connection_in_time_is_answered_503() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await;
    let proxy = single(&[node.address], "connections.max = 1\ntimeouts.connect = \"300ms\"");
    let mut first = Client::connect(proxy.address).await;
    first.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until("the first is at the node", || node.requests().len() == 1).await;
    let began = Instant::now();
    let mut second = Client::connect(proxy.address).await;
    let response = second.post("/", "").await;
    assert_eq!((response.status, response.header("x-sluice-error")), (503, Some("node-busy")));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(node.accepted(), 1);
}

#[tokio::test]
async fn a_closed_nodes_idle_connections_are_closed_at_once() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let node = TestNode::start(move |mut peer| {
        let count = Arc::clone(&count);
        async move {
            while peer.request().await.is_some() {
                peer.respond(200, "").await;
            }
            count.fetch_add(1, SeqCst);
        }
    })
    .await;
    let mut proxy = single(&[node.address], "");
    for _ in 0..5 {
        assert_eq!(Client::connect(proxy.address).await.get("/").await.status, 200);
    }
    let (before, began) = (node.accepted(), Instant::now());
    let retired = proxy.retire(node.address);
    until("they are closed", || ended.load(SeqCst) == before).await;
    // The sweep that closes expired connections would take half a second, and only after 30 s.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(retired.inflight(), 0);
    assert_eq!(Client::connect(proxy.address).await.get("/").await.status, 503);
}

#[tokio::test]
async fn a_node_that_closes_after_each_response_is_served_over_new_connections() {
    let node = numbering("connection: close\r\n").await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    for turn in 0..10 {
        let response = if turn % 2 == 0 { client.get("/").await } else { client.post("/", "x").await };
        assert_eq!((response.status, response.text()), (200, turn.to_string()));
        assert_eq!(response.header("connection"), None, "the client's connection is another one");
    }
}
