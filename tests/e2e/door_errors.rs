//! What clients see when something goes wrong.

use crate::support::client::{Client, Response};
use crate::support::control::refused;
use crate::support::node::TestNode;
use crate::support::{Proxy, app};

async fn ask(proxy: &Proxy, line: &str, more: &str) -> Response {
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("{line} HTTP/1.1\r\nhost: app.test\r\n{more}\r\n")).await;
    client.response(line.split(' ').next().expect("a method")).await.expect("an answer")
}

const BROWSER: &str = "accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";

#[tokio::test]
async fn errors_have_the_pages_of_their_service_then_the_general_ones() {
    let dead = refused();
    let proxy = Proxy::with(&format!(
        "errors.texts = {{ \"4xx\" = \"general 4xx\", \"5xx\" = \"<h1>general</h1>\" }}\n\
         [service.a]\nmatch = \"app.test/a\"\nnodes = [\"{dead}\"]\nerrors.texts = {{ \"502\" = \"<h1>a</h1>\" }}\n\
         response_headers.set.x-service = \"{{service}}\"\n\
         [service.b]\nmatch = \"app.test/b\"\nnodes = [\"{dead}\"]\n"
    ));
    for (path, status, kind, body, code) in [
        ("/a", 502, "text/html; charset=utf-8", "<h1>a</h1>", "connect"),
        ("/b", 502, "text/html; charset=utf-8", "<h1>general</h1>", "connect"),
        ("/c", 404, "text/plain; charset=utf-8", "general 4xx", "no-service"),
    ] {
        let response = ask(&proxy, &format!("GET {path}"), BROWSER).await;
        assert_eq!((response.status, response.text().as_str()), (status, body));
        assert_eq!((response.header("content-type"), response.header("x-sluice-error")), (Some(kind), Some(code)));
        assert_eq!(response.header("vary"), Some("accept"));
        assert_eq!(response.header("x-service"), (path == "/a").then_some("a"));
        let json = ask(&proxy, &format!("GET {path}"), "accept: application/json\r\n").await;
        assert_eq!((json.status, json.header("content-type")), (status, Some("application/problem+json")));
        let problem: serde_json::Value = serde_json::from_slice(&json.body).expect("JSON");
        assert_eq!((problem["status"].as_u64(), problem["code"].as_str()), (Some(u64::from(status)), Some(code)));
        let head = ask(&proxy, &format!("HEAD {path}"), BROWSER).await;
        assert_eq!((head.status, head.body.len()), (status, 0));
        assert_eq!(head.header("content-length"), Some(&*body.len().to_string()));
    }
    // Nothing is known of these but that they are none.
    for (request, status, code) in [
        ("GET / HTTP/1.2\r\nhost: app.test\r\n\r\n".to_owned(), 400, "bad-request"),
        (format!("GET / HTTP/1.1\r\nhost: app.test\r\ncookie: {}\r\n\r\n", "x".repeat(40_000)), 431, "head-size"),
        (format!("GET / HTTP/1.1\r\nhost: app.test\r\n{}\r\n", "x: y\r\n".repeat(200)), 431, "header-count"),
    ] {
        let mut client = Client::connect(proxy.address).await;
        client.send(request).await;
        let response = client.response("GET").await.expect("an answer");
        assert_eq!((response.status, response.header("x-sluice-error")), (status, Some(code)));
        assert_eq!(response.text(), "general 4xx");
    }
}

#[tokio::test]
async fn without_pages_json_is_for_those_who_ask() {
    let proxy = Proxy::with(&app(&[refused()], ""));
    let json = ask(&proxy, "GET /", "accept: application/vnd.api+json\r\n").await;
    assert_eq!(json.header("content-type"), Some("application/problem+json"));
    let plain = ask(&proxy, "GET /", "accept: */*\r\n").await;
    assert_eq!(plain.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(plain.text(), "502 Bad Gateway: the service could not be reached\n");
}

#[tokio::test]
async fn a_nodes_own_errors_are_touched_only_if_asked() {
    let node = TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let status = request.line.split(['/', ' ']).nth(2).expect("a status").to_owned();
            let kind = if request.header("grpc").is_some() { "application/grpc" } else { "text/html" };
            peer.send(format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-encoding: x\r\netag: \"1\"\r\nset-cookie: a=b\r\n\
                 transfer-encoding: chunked\r\n\r\n7\r\nsecrets\r\n"
            ))
            .await;
            peer.send("0\r\n\r\n").await;
        }
    })
    .await;
    let errors = "errors = { texts = { \"5xx\" = \"sorry\" }, intercept = [\"500-502\"] }";
    let proxy = Proxy::with(&app(&[node.address], errors));
    for status in [500, 502] {
        let response = ask(&proxy, &format!("GET /{status}"), BROWSER).await;
        assert_eq!((response.status, response.text().as_str()), (status, "sorry"));
        assert_eq!((response.header("content-encoding"), response.header("etag")), (None, None));
        assert_eq!((response.header("set-cookie"), response.header("x-sluice-error")), (Some("a=b"), None));
    }
    let json = ask(&proxy, "GET /500", "accept: application/json\r\n").await;
    assert_eq!(json.header("content-type"), Some("application/problem+json"));
    for (status, more) in [(503, ""), (404, ""), (200, ""), (500, "grpc: 1\r\n")] {
        let response = ask(&proxy, &format!("GET /{status}"), more).await;
        assert_eq!((response.status, response.text().as_str()), (status, "secrets"));
    }
}
