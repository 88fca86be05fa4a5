//! The same policies for clients that speak HTTP/2.

use bytes::Bytes;
use http::{Request, StatusCode};

use crate::support::http2::{Http2, answer, request};
use crate::support::node::TestNode;
use crate::support::{Proxy, app, until};

#[tokio::test]
async fn no_policy_is_weaker_over_http_2() {
    let node = TestNode::answering("ok").await;
    let hash = bcrypt::hash("right", 4).expect("a hash");
    let rules = format!(
        "basic_auth.users = [\"anna:{hash}\"]\nrequest_headers.set.x-user = \"{{user}}\"\n\
         response_headers = {{ set = {{ x-frame-options = \"DENY\" }}, remove = [\"x-gone\"] }}\n\
         redirect = [{{ from = \"/old/*\", to = \"/*\" }}]\nlimits.body = \"10B\"\n"
    );
    let proxy = Proxy::with(&app(&[node.address], &rules));
    let mut client = Http2::connect(proxy.address).await;
    let refused = client.get("/").await;
    assert_eq!((refused.status, refused.header("x-sluice-error")), (StatusCode::UNAUTHORIZED, Some("auth-required")));
    assert_eq!(refused.header("x-frame-options"), Some("DENY"));
    // A WebSocket is no way round (RFC 8441).
    let mut connect = Request::builder().method("CONNECT").uri("http://app.test/").body(()).expect("a request");
    connect.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (response, _stream) = client.begin(connect, false).await;
    assert_eq!(answer(response).await.status, StatusCode::UNAUTHORIZED);
    assert!(node.requests().is_empty());
    let right = |method: &str, path: &str| {
        let mut ask = request(method, path);
        // anna:right
        ask.headers_mut().insert("authorization", "Basic YW5uYTpyaWdodA==".parse().expect("a value"));
        ask
    };
    let (response, _) = client.begin(right("GET", "/"), true).await;
    let served = answer(response).await;
    assert_eq!((served.status, served.text().as_str()), (StatusCode::OK, "ok"));
    let seen = node.requests().pop().expect("a request");
    assert_eq!((seen.header("x-user"), seen.header("authorization")), (Some("anna"), None));
    let (response, _) = client.begin(right("GET", "/old//%2e%2e/old/a?b"), true).await;
    assert_eq!(answer(response).await.header("location"), Some("/a?b"));
    for length in ["", "12"] {
        let mut ask = right("POST", "/");
        if !length.is_empty() {
            ask.headers_mut().insert("content-length", length.parse().expect("a value"));
        }
        let (response, mut stream) = client.begin(ask, false).await;
        let _ = stream.send_data(Bytes::from_static(b"far too long"), true);
        assert_eq!(answer(response).await.status, StatusCode::PAYLOAD_TOO_LARGE, "length {length:?}");
    }
    let (response, _) = client.begin(right("GET", "/"), true).await;
    assert_eq!(answer(response).await.status, StatusCode::OK, "the connection goes on");
}

#[tokio::test]
async fn a_connection_is_given_up_after_its_last_request() {
    let node = TestNode::answering("ok").await;
    let proxy = Proxy::with(&format!("limits = {{ requests_per_connection = 5 }}\n{}", app(&[node.address], "")));
    let mut client = Http2::connect(proxy.address).await;
    for _ in 0..5 {
        let served = client.get("/").await;
        assert_eq!((served.status, served.header("connection")), (StatusCode::OK, None));
    }
    until("it is over", || client.is_ended()).await;
    client.ended().await.expect("in good order");
}

#[tokio::test]
async fn many_streams_of_one_connection_count_as_many_requests() {
    let node = TestNode::start(|mut peer| async move {
        while peer.request().await.is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            peer.respond(200, "ok").await;
        }
    })
    .await;
    // One connection is one worker's, which may have what the others leave.
    for (limits, workers) in [("limits = { requests = 7 }\n", 1), ("limits = { requests = 7 }\n", 4), ("", 1), ("", 4)]
    {
        let service = if limits.is_empty() { "limits = { requests = 7 }" } else { "" };
        let proxy = Proxy::with_workers(&format!("{limits}{}", app(&[node.address], service)), workers);
        let mut client = Http2::connect(proxy.address).await;
        let mut begun = Vec::new();
        for _ in 0..20 {
            begun.push(client.begin(request("GET", "/"), true).await.0);
        }
        let mut served = 0;
        for response in begun {
            let answer = answer(response).await;
            assert!([StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE].contains(&answer.status));
            served += usize::from(answer.status == StatusCode::OK);
        }
        assert_eq!(served, 7);
    }
}
