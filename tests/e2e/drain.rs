//! A node is taken out under load: nothing new reaches it once it counts nothing, and nobody notices.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::support::client::Client;
use crate::support::node::TestNode;
use crate::support::{Proxy, app};

const ROUNDS: usize = 100;

/// Answers, some after a moment, and notes when each request arrived and was answered.
async fn noting() -> (TestNode, Arc<Mutex<Vec<Instant>>>) {
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&arrivals);
    let node = TestNode::start(move |mut peer| {
        let notes = Arc::clone(&notes);
        async move {
            while let Some(request) = peer.request().await {
                notes.lock().expect("no panic while locked").push(Instant::now());
                if request.line.contains("/slow") {
                    sleep(Duration::from_millis(10)).await;
                }
                peer.respond(200, "done").await;
            }
        }
    })
    .await;
    (node, arrivals)
}

/// Asks without a pause until told to stop; how many requests went well. Panics at the first that did not.
async fn load(proxy: std::net::SocketAddr, name: usize, stop: Arc<AtomicBool>, sent: Arc<AtomicUsize>) {
    let mut client = Client::connect(proxy).await;
    for turn in 0.. {
        if stop.load(SeqCst) {
            return;
        }
        let response = match (name + turn) % 4 {
            0 => client.post("/", "body").await,
            1 => client.get("/slow").await,
            _ => client.get("/").await,
        };
        assert_eq!((response.status, response.text().as_str()), (200, "done"), "client {name}, request {turn}");
        sent.fetch_add(1, SeqCst);
    }
}

#[tokio::test]
async fn a_vacant_node_gets_nothing_more_and_no_request_fails() {
    let (first, first_notes) = noting().await;
    let (second, second_notes) = noting().await;
    let mut proxy = Proxy::with(&app(&[first.address, second.address], ""));
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = tokio::task::JoinSet::new();
    for name in 0..8 {
        clients.spawn(load(proxy.address, name, Arc::clone(&stop), Arc::clone(&sent)));
    }
    let both = [(&first, first_notes), (&second, second_notes)];
    for round in 0..ROUNDS {
        // Both serve, then one of them leaves.
        proxy.nodes.retain(|_, node| !node.is_closed());
        proxy.publish(|_| true);
        let before = sent.load(SeqCst);
        crate::support::until("some requests", || sent.load(SeqCst) >= before + 10 || clients.is_empty()).await;
        let (leaving, notes) = &both[round % 2];
        let node = proxy.retire(leaving.address);
        assert!(node.vacant(Instant::now() + Duration::from_secs(20)).await, "round {round}");
        let vacant = Instant::now();
        let so_far = sent.load(SeqCst);
        crate::support::until("requests elsewhere", || sent.load(SeqCst) >= so_far + 10).await;
        assert_eq!(node.inflight(), 0);
        let late = notes.lock().expect("no panic while locked").iter().filter(|at| **at > vacant).count();
        assert_eq!(late, 0, "round {round}: requests reached a node that was vacant");
        if let Some(failed) = clients.try_join_next() {
            failed.expect("no request fails");
        }
    }
    stop.store(true, SeqCst);
    while let Some(done) = clients.join_next().await {
        done.expect("no request fails");
    }
    let (requests, failed, _) = proxy.counts();
    assert_eq!((requests as usize, failed), (sent.load(SeqCst), 0));
}

#[tokio::test]
async fn a_node_is_vacant_when_the_last_byte_is_out_and_not_before() {
    let go = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&go);
    let node = TestNode::start(move |mut peer| {
        let told = Arc::clone(&told);
        async move {
            peer.request().await;
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
            told.notified().await;
            peer.send("there").await;
            peer.closed().await;
        }
    })
    .await;
    let mut proxy = Proxy::with(&app(&[node.address], ""));
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.head().await.expect("a head").status, 200);
    let retired = proxy.retire(node.address);
    assert!(!retired.vacant(Instant::now() + Duration::from_millis(200)).await, "a body is still on its way");
    go.notify_one();
    assert_eq!(client.bytes(10).await.expect("a whole body"), b"hellothere");
    assert!(retired.vacant(Instant::now() + Duration::from_secs(20)).await);
    // The client's connection is none of the node's.
    assert_eq!(client.get("/").await.status, 503);
}

/// A request that waits for a connection to a node that leaves is served by another.
#[tokio::test]
async fn a_request_that_never_reached_the_leaving_node_goes_elsewhere() {
    let busy = TestNode::sending("", false).await;
    let free = TestNode::answering("elsewhere").await;
    let more = "connections.max = 1\ntimeouts.connect = \"1m\"";
    let mut proxy = Proxy::with_workers(&app(&[busy.address, free.address], more), 1);
    proxy.publish(|address| address.as_str() == busy.address.to_string());
    let mut first = Client::connect(proxy.address).await;
    first.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    crate::support::until("one is at the node", || busy.requests().len() == 1).await;
    let mut second = Client::connect(proxy.address).await;
    second.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx").await;
    let claimed = Arc::clone(proxy.node(busy.address));
    crate::support::until("the other one waits", || claimed.inflight() == 2).await;
    proxy.publish(|_| true);
    proxy.retire(busy.address);
    let list = proxy.cut(busy.address, sluicegate::model::WorkKind::Request, Duration::from_secs(20)).all().await;
    assert_eq!(list, []);
    assert_eq!(second.response("POST").await.expect("a response").text(), "elsewhere");
    assert_eq!(first.response("GET").await.expect("a response").text(), "elsewhere");
    assert_eq!((claimed.inflight(), busy.requests().len()), (0, 1));
}
