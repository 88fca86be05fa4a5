//! How a request is followed from hop to hop: its trace, and its id.

use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::control::single;
use crate::support::node::TestNode;
use crate::support::until;

const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn a_trace_is_passed_on_and_a_malformed_one_is_not() {
    let node = TestNode::answering("hello").await;
    for (more, parent, state, seen) in [
        ("", Some(GOOD), true, true),
        ("", Some("00-bad"), false, false),
        ("", None, false, false),
        ("[tracing]\ntraceparent = \"create\"", Some(GOOD), true, true),
        ("[tracing]\ntraceparent = \"create\"", Some("00-bad"), false, true),
        ("[tracing]\ntraceparent = \"create\"", None, false, true),
    ] {
        let proxy = single(&[node.address], more);
        let mut client = Client::connect(proxy.address).await;
        let line = parent.map(|parent| format!("traceparent: {parent}\r\n")).unwrap_or_default();
        client.send(format!("GET / HTTP/1.1\r\nhost: a\r\ntracestate: a=b\r\n{line}\r\n")).await;
        assert_eq!(client.response("GET").await.expect("a response").status, 200);
        let request = node.requests().pop().expect("a request");
        assert_eq!(request.header("tracestate").is_some(), state, "{more} {parent:?}");
        assert_eq!(request.header("traceparent").is_some(), seen, "{more} {parent:?}");
        if parent == Some(GOOD) {
            assert_eq!(request.header("traceparent"), Some(GOOD));
        }
    }
}

#[tokio::test]
async fn a_request_has_one_id_for_its_node_its_client_and_the_log() {
    let node = TestNode::answering("hello").await;
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("log");
    for (trusted, kept) in [(false, false), (true, true)] {
        let _ = std::fs::remove_file(&path);
        let more = format!(
            "[tracing]\nrequest_id = \"x-request-id\"\n[log.access]\npath = \"{}\"\nformat = \"{{request_id}} {{trace_id}}\"\n",
            path.display()
        );
        // Top-level keys go above the tables.
        let top = if trusted { "trusted_proxies = [\"127.0.0.0/8\"]\n" } else { "" };
        let text = format!("{top}{}", crate::support::app(&[node.address], &more));
        let proxy = crate::support::Proxy::with_workers(&text, 1);
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx-request-id: given\r\ntraceparent: {GOOD}\r\n\r\n")).await;
        let response = client.response("GET").await.expect("a response");
        let id = response.header("x-request-id").expect("an id").to_owned();
        assert_eq!(id == "given", kept);
        assert_eq!(node.requests().pop().expect("a request").header("x-request-id"), Some(&*id));
        let wanted = format!("{id} 4bf92f3577b34da6a3ce929d0e0e4736\n");
        until("it is in the log", || std::fs::read_to_string(&path).is_ok_and(|text| text == wanted)).await;
    }
}

#[tokio::test]
async fn an_error_of_ours_names_the_request() {
    let more = "[tracing]\nrequest_id = \"x-request-id\"";
    let proxy = single(&[crate::support::control::refused()], more);
    let mut client = Client::connect(proxy.address).await;
    let response = client.get("/").await;
    let id = response.header("x-request-id").expect("an id").to_owned();
    assert!(response.text().ends_with(&format!("request {id}\n")), "{}", response.text());
    client.send("GET / HTTP/1.1\r\nhost: a\r\naccept: application/json\r\n\r\n").await;
    let response = client.response("GET").await.expect("a response");
    let problem: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!(problem["request_id"], response.header("x-request-id").expect("an id"));
}
