//! What a proxy does with well-behaved peers.

use crate::support::client::Client;
use crate::support::node::TestNode;
use crate::support::{Proxy, app};

#[tokio::test]
async fn a_request_reaches_a_node_and_its_answer_the_client() {
    let node = TestNode::answering("hello").await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..3 {
        let response = client.get("/path?query").await;
        assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    }
    let seen = node.requests();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].line, "GET /path?query HTTP/1.1");
    assert_eq!(seen[0].header("host"), Some("app.test"));
    assert_eq!(seen[0].header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen[0].header("via"), Some("1.1 sluice"));
    assert_eq!(seen[0].header("forwarded"), Some("for=127.0.0.1;host=\"app.test\";proto=http"));
    assert_eq!(node.connections.load(std::sync::atomic::Ordering::SeqCst), 1, "the connection is used again");
}

#[tokio::test]
async fn bodies_go_both_ways() {
    let node = TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let body = String::from_utf8(request.body).expect("text");
            peer.respond(200, &body).await;
        }
    })
    .await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let mut client = Client::connect(proxy.address).await;
    let body = "x".repeat(300_000);
    for _ in 0..2 {
        let response = client.post("/", &body).await;
        assert_eq!(response.status, 200);
        assert!(response.text() == body, "{} bytes", response.body.len());
    }
}
