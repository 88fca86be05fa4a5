//! Which service answers, by host and path, through the whole proxy.

use crate::support::client::Client;
use crate::support::node::TestNode;
use crate::support::{Proxy, app};

/// A node for each name, and a service of that name with these matches.
async fn services(matches: &[(&'static str, &str)]) -> (Vec<TestNode>, Proxy) {
    let mut nodes = Vec::new();
    let mut config = String::new();
    for (name, patterns) in matches {
        let node = TestNode::answering(name).await;
        let service = format!("[service.{name}]\nmatch = [{patterns}]\nnodes = [\"{}\"]\n", node.address);
        config.push_str(&service);
        nodes.push(node);
    }
    let proxy = Proxy::with(&config);
    (nodes, proxy)
}

#[tokio::test]
async fn the_most_specific_host_and_the_longest_prefix_answer() {
    let (_nodes, proxy) = services(&[
        ("shop", r#""shop.test""#),
        ("admin", r#""shop.test/admin""#),
        ("wild", r#""*.shop.test""#),
        ("deep", r#""*.eu.shop.test""#),
        ("health", r#""*/health""#),
    ])
    .await;
    let mut client = Client::connect(proxy.address).await;
    for (target, host, service) in [
        ("/", "shop.test", "shop"),
        ("/", "SHOP.Test", "shop"),
        ("/", "shop.test:8080", "shop"),
        ("/", "shop.test.", "shop"),
        ("/admin", "shop.test", "admin"),
        ("/admin/x?y", "shop.test", "admin"),
        ("/administration", "shop.test", "shop"),
        ("/Admin", "shop.test", "shop"),
        ("/x/../admin", "shop.test", "admin"),
        ("/x/%2e%2E/admin", "shop.test", "admin"),
        ("//admin", "shop.test", "admin"),
        ("/x\\..\\admin", "shop.test", "admin"),
        ("/admin/..", "shop.test", "shop"),
        ("/?a=/../admin", "shop.test", "shop"),
        ("/", "a.shop.test", "wild"),
        ("/", "a.b.shop.test:1", "wild"),
        ("/", "a.eu.shop.test", "deep"),
        ("/health", "other.test", "health"),
        ("/health/x", "[::1]:80", "health"),
        // The target's host counts, whatever the header says.
        ("http://shop.test/admin", "other.test", "admin"),
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        let response = client.response("GET").await.expect("an answer");
        assert_eq!((response.status, response.text().as_str()), (200, service), "{host} {target}");
    }
}

#[tokio::test]
async fn what_no_service_takes_is_a_404_that_says_so_and_keeps_the_connection() {
    let (nodes, proxy) = services(&[("shop", r#""shop.test""#), ("api", r#""api.test/v1""#)]).await;
    let mut client = Client::connect(proxy.address).await;
    for (target, host) in [("/", "other.test"), ("/v2", "api.test"), ("/v1x", "api.test"), ("/", "shop.test.evil.test")]
    {
        client.send(format!("POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 3\r\n\r\nabc")).await;
        let response = client.response("POST").await.expect("an answer");
        assert_eq!((response.status, response.header("x-sluice-error")), (404, Some("no-service")), "{host} {target}");
    }
    client.send("GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").await;
    assert_eq!(client.response("GET").await.expect("an answer").text(), "shop");
    assert!(nodes[1].requests().is_empty());
    // HTTP/1.0 without a host can only be meant for whoever takes any.
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.response("GET").await.expect("an answer").status, 404);
}

#[tokio::test]
async fn an_upload_that_is_refused_sees_why() {
    let (_nodes, proxy) = services(&[("shop", r#""shop.test""#)]).await;
    for _ in 0..20 {
        let mut client = Client::connect(proxy.address).await;
        let body = "x".repeat(200_000);
        client.send(format!("POST / HTTP/1.1\r\nhost: x.test\r\ncontent-length: {}\r\n\r\n", body.len())).await;
        for part in body.as_bytes().chunks(10_000) {
            client.send(part).await;
        }
        assert_eq!(client.response("POST").await.expect("an answer").status, 404);
    }
}

#[tokio::test]
async fn a_service_without_nodes_is_a_503_of_its_own() {
    let node = TestNode::answering("").await;
    let mut proxy = Proxy::with(&app(&[node.address], ""));
    proxy.publish(|_| false);
    let response = Client::connect(proxy.address).await.get("/").await;
    assert_eq!((response.status, response.header("x-sluice-error")), (503, Some("no-node")));
    assert_eq!(response.header("retry-after"), Some("1"));
}
