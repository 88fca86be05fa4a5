//! HTTP/2 over TLS: what both ends speak is agreed on in the handshake.

use std::sync::Arc;

use h2::client;
use http::Request;

use crate::support::client::Client;
use crate::support::http2::answer;
use crate::support::node::TestNode;
use crate::support::tls::{Authority, connect, listener};
use crate::support::{Proxy, app};

#[tokio::test]
async fn the_handshake_decides_which_http_is_spoken() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let node = TestNode::answering("hello").await;
    let proxy = Proxy::listening(&app(&[node.address], ""), &listener(&[&files], ""), 1);
    for (offered, spoken) in
        [(&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])), (&[b"http/1.1"], Some(b"http/1.1")), (&[], None)]
    {
        let mut config = ca.client();
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let stream = connect(&Arc::new(config), proxy.address, "app.test").await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), spoken);
        if spoken == Some(b"h2") {
            let (mut send, connection) = client::handshake(stream).await.expect("a preface");
            tokio::spawn(connection);
            for _ in 0..3 {
                send = send.ready().await.expect("a connection");
                let ask = Request::builder().uri("https://app.test/x").body(()).expect("a request");
                let (response, _) = send.send_request(ask, true).expect("a stream");
                assert_eq!(answer(response).await.text(), "hello");
            }
        } else {
            assert_eq!(Client::over(stream).get("/x").await.text(), "hello");
        }
    }
    let requests = node.requests();
    assert_eq!(requests.len(), 5);
    for request in requests {
        assert_eq!(request.header("x-forwarded-proto"), Some("https"), "{request:?}");
    }
}
