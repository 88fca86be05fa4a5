//! Which node gets a request: by weight, in turn, by key; and that a node which fails in a row is told of.

use std::collections::BTreeMap;

use crate::support::client::Client;
use crate::support::control::single;
use crate::support::node::TestNode;
use crate::support::{Proxy, app, until};

async fn answering(count: usize) -> Vec<TestNode> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(TestNode::answering("ok").await);
    }
    nodes
}

fn counts(nodes: &[TestNode]) -> Vec<usize> {
    nodes.iter().map(|node| node.requests().len()).collect()
}

/// A service over these nodes, each with its weight.
fn weighted(nodes: &[TestNode], weights: &[u32], more: &str) -> String {
    let node = |(node, weight): (&TestNode, &u32)| format!("{{ address = \"{}\", weight = {weight} }}", node.address);
    let nodes: Vec<_> = nodes.iter().zip(weights).map(node).collect();
    format!("[service.app]\nmatch = \"*\"\nnodes = [{}]\n{more}\n", nodes.join(", "))
}

async fn gets(proxy: &Proxy, count: usize) {
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..count {
        assert_eq!(client.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn nodes_get_their_part_by_weight() {
    let nodes = answering(2).await;
    let proxy = Proxy::with_workers(&weighted(&nodes, &[3, 1], ""), 1);
    gets(&proxy, 400).await;
    let heavy = counts(&nodes)[0];
    assert!((250..350).contains(&heavy), "{heavy} of 400 where 300 are fair");
}

#[tokio::test]
async fn round_robin_gives_each_node_exactly_its_part_of_a_round() {
    let nodes = answering(3).await;
    let policy = "balance.policy = \"round-robin\"";
    let proxy = single(&[nodes[0].address, nodes[1].address, nodes[2].address], policy);
    gets(&proxy, 30).await;
    assert_eq!(counts(&nodes), [10, 10, 10]);
    let proxy = Proxy::with_workers(&weighted(&nodes, &[5, 1, 2], policy), 1);
    gets(&proxy, 24).await;
    assert_eq!(counts(&nodes), [10 + 15, 10 + 3, 10 + 6]);
}

#[tokio::test]
async fn round_robin_passes_over_a_node_that_cannot_be_reached() {
    let mut nodes = answering(3).await;
    let policy = "balance.policy = \"round-robin\"";
    let proxy = single(&[nodes[0].address, nodes[1].address, nodes[2].address], policy);
    drop(nodes.remove(1));
    gets(&proxy, 40).await;
    let counts = counts(&nodes);
    assert_eq!(counts.iter().sum::<usize>(), 40);
    assert!(counts.iter().all(|count| *count > 5), "{counts:?}");
}

/// Asks with each key on a connection of its own, so that both workers are asked. Which node answered each.
async fn homes(
    proxy: &Proxy,
    nodes: &[TestNode],
    keys: usize,
    head: impl Fn(usize) -> String,
) -> BTreeMap<usize, usize> {
    let mut homes = BTreeMap::new();
    for key in 0..keys {
        let before = counts(nodes);
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("GET / HTTP/1.1\r\nhost: app.test\r\n{}\r\n\r\n", head(key))).await;
        assert_eq!(client.response("GET").await.expect("a response").status, 200);
        let after = counts(nodes);
        homes.extend((0..nodes.len()).find(|index| after[*index] > before[*index]).map(|home| (key, home)));
    }
    assert_eq!(homes.len(), keys);
    homes
}

#[tokio::test]
async fn a_key_stays_with_its_node_on_every_worker_and_moves_only_when_that_leaves() {
    let nodes = answering(4).await;
    let addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
    let policy = "balance = { policy = \"hash\", by = \"header X-User\" }";
    let mut proxy = Proxy::with(&app(&addresses, policy));
    let head = |key: usize| format!("X-User: user-{key}");
    let first = homes(&proxy, &nodes, 60, head).await;
    assert_eq!(homes(&proxy, &nodes, 60, head).await, first);
    let used: std::collections::BTreeSet<_> = first.values().collect();
    assert_eq!(used.len(), 4, "every node has keys");

    let another = Proxy::with(&app(&addresses, policy));
    assert_eq!(homes(&another, &nodes, 60, head).await, first, "another process agrees");

    proxy.retire(addresses[2]);
    let after = homes(&proxy, &nodes, 60, head).await;
    for (key, home) in &after {
        assert!(first[key] == *home || first[key] == 2, "key {key} moved from {} to {home}", first[key]);
        assert_ne!(*home, 2);
    }
}

#[tokio::test]
async fn a_cookie_or_the_clients_address_can_be_the_key() {
    let nodes = answering(3).await;
    let addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
    let proxy = Proxy::with(&app(&addresses, "balance = { policy = \"hash\", by = \"cookie sid\" }"));
    let cookie = |key: usize| format!("Cookie: other={key}; sid=one");
    let homes_of_one = homes(&proxy, &nodes, 20, cookie).await;
    assert!(homes_of_one.values().all(|home| *home == homes_of_one[&0]), "{homes_of_one:?}");

    let proxy = Proxy::with(&app(&addresses, "balance.policy = \"hash\""));
    let homes_of_us = homes(&proxy, &nodes, 20, |key| format!("X-User: {key}")).await;
    assert!(homes_of_us.values().all(|home| *home == homes_of_us[&0]), "{homes_of_us:?}");
}

#[tokio::test]
async fn a_request_without_the_key_goes_to_any_node() {
    let nodes = answering(2).await;
    let addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
    let proxy = single(&addresses, "balance = { policy = \"hash\", by = \"header X-User\" }");
    gets(&proxy, 40).await;
    assert!(counts(&nodes).iter().all(|count| *count > 5), "{:?}", counts(&nodes));
}

#[tokio::test]
async fn a_key_whose_node_cannot_be_reached_is_answered_by_the_next_one() {
    let mut nodes = answering(3).await;
    let addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
    let policy = "balance = { policy = \"hash\", by = \"header X-User\" }\neject.failures = 0";
    let proxy = single(&addresses, policy);
    let head = |_| "X-User: one".to_owned();
    let home = homes(&proxy, &nodes, 1, head).await[&0];
    drop(nodes.remove(home));
    let next = homes(&proxy, &nodes, 5, head).await;
    assert!(next.values().all(|node| *node == next[&0]), "{next:?}");
}

#[tokio::test]
async fn a_node_that_fails_in_a_row_is_told_of_and_avoided_at_once() {
    let bad = TestNode::dropping().await;
    let good = TestNode::answering("ok").await;
    let proxy = single(&[bad.address, good.address], "eject.failures = 3");
    let mut suspects = proxy.pool.take_suspects().expect("nobody else took them");
    let mut sent = 0;
    while bad.requests().len() < 3 {
        // Not replayed, so that each failure is one request.
        Client::connect(proxy.address).await.post("/", "x").await;
        sent += 1;
        assert!(sent < 200, "the bad node is hardly asked");
    }
    let told = suspects.try_recv().expect("it is told of");
    assert_eq!(told.key, proxy.node(bad.address).key);
    for _ in 0..20 {
        assert_eq!(Client::connect(proxy.address).await.post("/", "x").await.status, 200);
    }
    assert!(suspects.try_recv().is_err(), "once is enough");
}

#[tokio::test]
async fn an_answer_ends_a_row_of_failures_and_a_5xx_is_an_answer_unless_it_is_named() {
    let node = || {
        TestNode::start(|mut peer| async move {
            while let Some(request) = peer.request().await {
                match request.line.split(' ').nth(1) {
                    Some("/drop") => return,
                    Some("/error") => peer.respond(500, "sorry").await,
                    _ => peer.respond(200, "ok").await,
                }
            }
        })
    };
    for (settings, path, tells) in [
        ("eject.failures = 3", "/ok", false),
        ("eject.failures = 3", "/error", false),
        ("eject = { failures = 3, on = [\"5xx\", \"reset\"] }", "/error", true),
        ("eject.failures = 0", "/drop", false),
        ("eject.failures = 3", "/drop", true),
    ] {
        let node = node().await;
        let proxy = single(&[node.address], settings);
        let mut suspects = proxy.pool.take_suspects().expect("nobody else took them");
        for _ in 0..3 {
            for path in ["/drop", path] {
                Client::connect(proxy.address).await.post(path, "x").await;
            }
        }
        assert_eq!(suspects.try_recv().is_ok(), tells, "{settings}, {path}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_is_not_the_nodes_failure() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await;
    let proxy =
        single(&[node.address], "eject = { failures = 1, on = [\"connect\", \"reset\", \"timeout\", \"5xx\"] }");
    let mut suspects = proxy.pool.take_suspects().expect("nobody else took them");
    for number in 1..4 {
        let mut client = Client::connect(proxy.address).await;
        client.send("GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
        until("the request is at the node", || node.requests().len() == number).await;
        drop(client);
        until("the node is free", || proxy.node(node.address).inflight() == 0).await;
    }
    assert!(suspects.try_recv().is_err());
    assert_eq!(proxy.node(node.address).totals().1, 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_the_nodes_failure_either() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        let body = vec![b'x'; 64 << 20];
        peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len())).await;
        peer.send(body).await;
    })
    .await;
    let settings = "timeouts.body = \"300ms\"\neject = { failures = 1, on = [\"connect\", \"reset\", \"timeout\"] }";
    let proxy = single(&[node.address], settings);
    let mut suspects = proxy.pool.take_suspects().expect("nobody else took them");
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
    until("the request is at the node", || node.requests().len() == 1).await;
    until("it was cut", || proxy.node(node.address).inflight() == 0).await;
    assert!(suspects.try_recv().is_err());
    assert_eq!(proxy.node(node.address).outcomes(), (1, 0, 0));
}
