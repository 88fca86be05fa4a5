//! How the data plane ends: clients are let go without losing a request, and what cannot end in time is cut and listed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate::model::WorkKind;
use sluicegate::pool::Command;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::client::Client;
use crate::support::control::single;
use crate::support::node::TestNode;
use crate::support::{PATIENCE, Proxy, app, until};

const LONG: Duration = Duration::from_mins(1);

/// Answers when told to.
async fn waiting(go: &Arc<Notify>) -> TestNode {
    let go = Arc::clone(go);
    TestNode::start(move |mut peer| {
        let go = Arc::clone(&go);
        async move {
            while peer.request().await.is_some() {
                go.notified().await;
                peer.respond(200, "done").await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn what_is_under_way_finishes_and_closes_its_connection() {
    let go = Arc::new(Notify::new());
    let node = waiting(&go).await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until("it is at the node", || node.requests().len() == 1).await;
    let replies = proxy.shut_down(LONG, LONG);
    until("nobody listens", || std::net::TcpStream::connect(proxy.address).is_err()).await;
    go.notify_one();
    let response = client.response("GET").await.expect("a response");
    assert_eq!((response.status, response.text().as_str()), (200, "done"));
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(client.closed().await, b"");
    assert_eq!(replies.all().await, []);
}

#[tokio::test]
async fn an_idle_connection_is_served_once_more_and_then_closed() {
    let node = TestNode::answering("done").await;
    let proxy = single(&[node.address], "");
    let mut used = Client::connect(proxy.address).await;
    assert_eq!(used.get("/").await.header("connection"), None);
    let mut silent = Client::connect(proxy.address).await;
    until("both are accepted", || proxy.pool.stats()[0].accepted.get() == 2).await;
    let began = Instant::now();
    let linger = Duration::from_secs(2);
    let replies = proxy.shut_down(linger, LONG);
    let response = used.get("/").await;
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert_eq!(used.closed().await, b"");
    assert_eq!(silent.closed().await, b"");
    assert!(began.elapsed() >= linger, "the silent one had {:?} left", began.elapsed());
    assert_eq!(replies.all().await, []);
}

/// The request is written at the moment of the command: it is answered, whoever is first.
#[tokio::test]
async fn a_request_written_at_the_moment_of_shutdown_is_answered() {
    let node = TestNode::answering("done").await;
    for round in 0..10 {
        let proxy = Proxy::with(&app(&[node.address], ""));
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = Client::connect(proxy.address).await;
            assert_eq!(client.get("/").await.status, 200);
            clients.push(client);
        }
        let mut replies = None;
        for (index, client) in clients.iter_mut().enumerate() {
            if index == round * 2 {
                replies = Some(proxy.shut_down(LONG, LONG));
            }
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        }
        for client in &mut clients {
            let response = client.response("GET").await.expect("an answer");
            assert_eq!(response.text(), "done");
            if response.header("connection") != Some("close") {
                // Answered before the command: the next one is the last.
                assert_eq!(client.get("/").await.header("connection"), Some("close"));
            }
            assert_eq!(client.closed().await, b"");
        }
        assert_eq!(replies.expect("a command in each round").all().await, []);
    }
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_and_listed() {
    let node = TestNode::start(|mut peer| async move {
        let request = peer.request().await.expect("a request");
        if request.line.contains("/body") {
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
        } else if request.line.contains("/tunnel") {
            peer.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
        }
        peer.closed().await;
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut clients = Vec::new();
    for path in ["/head", "/body", "/tunnel"] {
        let mut client = Client::connect(proxy.address).await;
        let upgrade = if path == "/tunnel" { "connection: upgrade\r\nupgrade: x\r\n" } else { "" };
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n{upgrade}\r\n")).await;
        clients.push(client);
    }
    assert_eq!(clients[1].head().await.expect("a head").status, 200);
    assert_eq!(clients[2].head().await.expect("a head").status, 101);
    until("all are at the node", || node.requests().len() == 3).await;
    let list = proxy.shut_down(Duration::ZERO, Duration::from_millis(500)).all().await;
    let mut paths: Vec<_> = list.iter().map(|holder| (holder.path.as_str(), holder.kind)).collect();
    paths.sort_by_key(|(path, _)| *path);
    assert_eq!(paths, [("/body", WorkKind::Request), ("/head", WorkKind::Request), ("/tunnel", WorkKind::Tunnel)]);
    let response = clients[0].response("GET").await.expect("a response");
    assert_eq!((response.status, response.header("x-sluice-error")), (503, Some("shutdown")));
    assert_eq!(clients[1].closed().await, b"hello");
    assert_eq!(clients[2].closed().await, b"");
}

/// A request that came after the command is as much work as one that came before.
#[tokio::test]
async fn a_request_of_the_last_moment_is_cut_and_listed_too() {
    let go = Arc::new(Notify::new());
    let node = waiting(&go).await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    go.notify_one();
    assert_eq!(client.get("/").await.status, 200);
    let replies = proxy.shut_down(LONG, Duration::from_millis(1500));
    until("nobody listens", || std::net::TcpStream::connect(proxy.address).is_err()).await;
    client.send("GET /late HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until("it is at the node", || node.requests().len() == 2).await;
    let list = replies.all().await;
    let paths: Vec<_> = list.iter().map(|holder| holder.path.as_str()).collect();
    assert_eq!(paths, ["/late"]);
}

#[tokio::test]
async fn connections_in_the_accept_queue_are_served_when_a_listener_ends() {
    let node = TestNode::answering("done").await;
    for _ in 0..10 {
        let proxy = single(&[node.address], "");
        // Nothing yields to the worker's thread but time: some of these are accepted, some wait.
        let mut streams: Vec<_> =
            (0..50).map(|_| std::net::TcpStream::connect(proxy.address).expect("a connection")).collect();
        proxy.pool.tell(|| Command::Unlisten { id: 1 });
        let mut clients = Vec::new();
        for stream in streams.drain(..) {
            stream.set_nonblocking(true).expect("a socket option");
            clients.push(Client::over(TcpStream::from_std(stream).expect("a socket")));
        }
        for client in &mut clients {
            assert_eq!(client.get("/").await.text(), "done");
        }
        until("nobody listens", || std::net::TcpStream::connect(proxy.address).is_err()).await;
        assert_eq!(clients[0].get("/").await.text(), "done", "connections live on");
    }
}

#[tokio::test]
async fn workers_end_even_if_nothing_ever_came() {
    let proxy = Proxy::with(&app(&["127.0.0.1:1".parse().expect("an address")], ""));
    let replies = proxy.shut_down(Duration::ZERO, PATIENCE);
    assert_eq!(replies.all().await, []);
    until("the workers are gone", || {
        !proxy.pool.tell_one(0, Command::Refresh) && !proxy.pool.tell_one(1, Command::Refresh)
    })
    .await;
}
