//! What could be read in two ways: it never reaches a node, or reaches it in one form only (RFC 9112 §3, §5, §6, §7).

use crate::support::client::{Client, Response};
use crate::support::node::{Request, TestNode};
use crate::support::{Proxy, app};

/// Sends raw bytes, reads as many responses as `methods` names, ends, and sees to it that nothing follows and that the next
/// client is served. Returns the responses and what the node got.
async fn exchange(raw: &[u8], methods: &[&str]) -> (Vec<Response>, Vec<Request>) {
    let node = TestNode::echoing().await;
    let proxy = Proxy::with_workers(&app(&[node.address], ""), 1);
    let mut client = Client::connect(proxy.address).await;
    client.send(raw).await;
    let mut responses = Vec::new();
    for method in methods {
        let response = client.response(method).await;
        responses.push(response.unwrap_or_else(|| panic!("no response to {:?}", String::from_utf8_lossy(raw))));
    }
    client.finish().await;
    let rest = client.closed().await;
    assert!(rest.is_empty(), "{:?} also got {:?}", String::from_utf8_lossy(raw), String::from_utf8_lossy(&rest));
    let mut next = Client::connect(proxy.address).await;
    assert_eq!(next.get("/next").await.status, 200, "the next client");
    let mut requests = node.requests();
    assert_eq!(requests.pop().map(|r| r.line).as_deref(), Some("GET /next HTTP/1.1"));
    (responses, requests)
}

/// One request, one answer; at the node at most one request.
async fn one(raw: impl AsRef<[u8]>) -> (Response, Option<Request>) {
    let raw = raw.as_ref();
    let method = if raw.starts_with(b"HEAD") { "HEAD" } else { "GET" };
    let (mut responses, mut requests) = exchange(raw, &[method]).await;
    assert!(requests.len() <= 1, "{requests:?}");
    (responses.remove(0), requests.pop())
}

#[tokio::test]
async fn a_malformed_request_is_the_clients_fault_and_reaches_no_node() {
    let post = "POST / HTTP/1.1\r\nhost: app.test\r\n";
    let get = "GET / HTTP/1.1\r\nhost: app.test\r\n";
    let rows: Vec<(&str, String)> = vec![
        ("no host", "GET / HTTP/1.1\r\n\r\n".into()),
        ("an empty host", "GET / HTTP/1.1\r\nhost:\r\n\r\n".into()),
        ("a host that is only a port", "GET / HTTP/1.1\r\nhost: :80\r\n\r\n".into()),
        ("two hosts", format!("{get}host: other.test\r\n\r\n")),
        ("the same host twice", format!("{get}host: app.test\r\n\r\n")),
        ("a list of hosts", "GET / HTTP/1.1\r\nhost: app.test, other.test\r\n\r\n".into()),
        ("a host with blanks", "GET / HTTP/1.1\r\nhost: a b@c\r\n\r\n".into()),
        ("a host with userinfo", "GET / HTTP/1.1\r\nhost: user@app.test\r\n\r\n".into()),
        ("a host with a path", "GET / HTTP/1.1\r\nhost: app.test/x\r\n\r\n".into()),
        ("a port that is none", "GET / HTTP/1.1\r\nhost: app.test:8o\r\n\r\n".into()),
        ("half an IPv6 address", "GET / HTTP/1.1\r\nhost: [::1\r\n\r\n".into()),
        ("userinfo in the target", "GET http://user:pw@app.test/ HTTP/1.1\r\nhost: app.test\r\n\r\n".into()),
        ("another scheme", "GET ftp://app.test/ HTTP/1.1\r\nhost: app.test\r\n\r\n".into()),
        ("authority form", "GET app.test:80 HTTP/1.1\r\nhost: app.test\r\n\r\n".into()),
        ("a bare word", "GET index.html HTTP/1.1\r\nhost: app.test\r\n\r\n".into()),
        ("an asterisk with GET", "GET * HTTP/1.1\r\nhost: app.test\r\n\r\n".into()),
        ("a blank in the target", "GET /a b HTTP/1.1\r\nhost: app.test\r\n\r\n".into()),
        ("UTF-8 in the target", "GET /caf\u{e9} HTTP/1.1\r\nhost: app.test\r\n\r\n".into()),
        ("UTF-8 in the query", "GET /?caf\u{e9} HTTP/1.1\r\nhost: app.test\r\n\r\n".into()),
        ("HTTP/1.2", "GET / HTTP/1.2\r\nhost: app.test\r\n\r\n".into()),
        ("a folded line", format!("{get}x-test: a\r\n b\r\n\r\n")),
        ("a folded coding", format!("{post}transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n")),
        ("a blank before the colon", format!("{get}x-test : a\r\n\r\n")),
        ("a blank before the colon of a length", format!("{post}content-length : 3\r\n\r\nabc")),
        ("a line without a colon", format!("{get}nonsense\r\n\r\n")),
        ("a field without a name", format!("{get}: value\r\n\r\n")),
        ("a NUL", format!("{get}x-test: a\0b\r\n\r\n")),
        ("a bare CR", format!("{get}x-test: a\rb\r\n\r\n")),
        ("a list of lengths", format!("{post}content-length: 3, 3\r\n\r\nabc")),
        ("a length with a sign", format!("{post}content-length: +3\r\n\r\nabc")),
        ("a negative length", format!("{post}content-length: -1\r\n\r\nabc")),
        ("a length in hex", format!("{post}content-length: 0x3\r\n\r\nabc")),
        ("an empty length", format!("{post}content-length:\r\n\r\nabc")),
        ("a length beyond all bounds", format!("{post}content-length: 99999999999999999999\r\n\r\nabc")),
        ("two lengths", format!("{post}content-length: 3\r\ncontent-length: 4\r\n\r\nabcd")),
        ("an unknown coding", format!("{post}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n")),
        ("a coding after chunked", format!("{post}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n")),
        ("a coding before chunked", format!("{post}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n")),
        ("chunked twice", format!("{post}transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n")),
        (
            "chunked in two lines",
            format!("{post}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "codings in two lines",
            format!("{post}transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        ("an empty coding", format!("{post}transfer-encoding:\r\ncontent-length: 3\r\n\r\nabc")),
        ("a coding behind a comma", format!("{post}transfer-encoding: , chunked\r\n\r\n0\r\n\r\n")),
        ("a coding in HTTP/1.0", "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".into()),
        ("a chunk size that is none", format!("{post}transfer-encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n")),
        ("a chunk size with a sign", format!("{post}transfer-encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n")),
        ("a chunk size in C", format!("{post}transfer-encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n")),
        ("a chunk size beyond all bounds", format!("{post}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc")),
        ("a chunk longer than its size", format!("{post}transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n")),
        (
            "a line feed in a chunk extension",
            format!("{post}transfer-encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n"),
        ),
    ];
    let mut wrong = Vec::new();
    for (what, raw) in rows {
        let (response, request) = one(&raw).await;
        if response.status != 400 || request.is_some() {
            wrong.push(format!("{what}: {} {request:?}", response.status));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn what_is_passed_on_has_one_form() {
    // What is sent, the request line that the node gets, its host, its body.
    let rows: Vec<(&str, &str, &str, &str)> = vec![
        ("GET http://other.test:81/x?y HTTP/1.1\r\nhost: app.test\r\n\r\n", "GET /x?y HTTP/1.1", "other.test:81", ""),
        ("GET http://other.test HTTP/1.1\r\nhost: app.test\r\n\r\n", "GET / HTTP/1.1", "other.test", ""),
        ("GET http://other.test?q HTTP/1.1\r\nhost: app.test\r\n\r\n", "GET /?q HTTP/1.1", "other.test", ""),
        ("GET http://other.test//x HTTP/1.1\r\nhost: app.test\r\n\r\n", "GET //x HTTP/1.1", "other.test", ""),
        ("OPTIONS * HTTP/1.1\r\nhost: app.test\r\n\r\n", "OPTIONS * HTTP/1.1", "app.test", ""),
        (
            "GET /a/../b\\c//%2e%2e/ HTTP/1.1\r\nhost: app.test\r\n\r\n",
            "GET /a/../b\\c//%2e%2e/ HTTP/1.1",
            "app.test",
            "",
        ),
        ("GET /a#frag HTTP/1.1\r\nhost: app.test\r\n\r\n", "GET /a HTTP/1.1", "app.test", ""),
        ("GET /{|}^[]%zz HTTP/1.1\r\nhost: app.test\r\n\r\n", "GET /{|}^[]%zz HTTP/1.1", "app.test", ""),
        ("GET / HTTP/1.1\nhost: app.test\nx-test: a\n\n", "GET / HTTP/1.1", "app.test", ""),
        ("\r\n\r\nGET / HTTP/1.1\r\nhost: app.test\r\n\r\n", "GET / HTTP/1.1", "app.test", ""),
        ("get / HTTP/1.1\r\nhost: app.test\r\n\r\n", "get / HTTP/1.1", "app.test", ""),
        ("GET / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n", "GET / HTTP/1.1", "[::1]:80", ""),
        ("GET / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 3\r\n\r\nabc", "GET / HTTP/1.1", "app.test", "abc"),
        (
            "GET / HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "GET / HTTP/1.1",
            "app.test",
            "abc",
        ),
        ("POST / HTTP/1.1\r\nhost: app.test\r\n\r\n", "POST / HTTP/1.1", "app.test", ""),
        (
            "POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
            "POST / HTTP/1.1",
            "app.test",
            "abc",
        ),
        (
            "POST / HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: Chunked\r\n\r\n3;ext=1\r\nabc\r\n00\r\n\r\n",
            "POST / HTTP/1.1",
            "app.test",
            "abc",
        ),
        (
            "DELETE / HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "DELETE / HTTP/1.1",
            "app.test",
            "",
        ),
    ];
    for (raw, line, host, body) in rows {
        let (response, request) = one(raw).await;
        assert_eq!(response.status, 200, "{raw:?}");
        let request = request.unwrap_or_else(|| panic!("the node got nothing of {raw:?}"));
        assert_eq!((request.line.as_str(), request.header("host")), (line, Some(host)), "{raw:?}");
        assert_eq!(String::from_utf8_lossy(&request.body), body, "{raw:?}");
        assert_eq!(response.text(), body, "{raw:?}");
    }
}

#[tokio::test]
async fn a_length_beside_chunked_is_removed_and_ends_the_connection() {
    for fields in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
        "content-length: 44\r\ntransfer-encoding: chunked",
    ] {
        // By the length, the second request is a part of the body or half of it; by the coding it is a request of its own,
        // which is not answered: who sends both gets no second chance on this connection.
        let raw = format!(
            "POST / HTTP/1.1\r\nhost: app.test\r\n{fields}\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
             GET /smuggled HTTP/1.1\r\nhost: app.test\r\n\r\n"
        );
        let (response, request) = one(raw).await;
        assert_eq!((response.status, response.text().as_str()), (200, "abc"), "{fields}");
        let request = request.expect("one request");
        assert_eq!(request.header("transfer-encoding"), Some("chunked"), "{fields}");
    }
}

#[tokio::test]
async fn a_chunked_body_that_breaks_in_the_middle_is_no_whole_request_for_the_node() {
    // The first chunk is at the node before the second one turns out to be garbage.
    let node = TestNode::echoing().await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    crate::support::until("the request is at the node", || proxy.node(node.address).inflight() == 1).await;
    client.send("zz\r\nGET /smuggled HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
    let response = client.response("POST").await.expect("an answer");
    assert_eq!((response.status, response.header("x-sluice-error")), (400, Some("client-body")));
    assert!(client.closed().await.is_empty());
    let mut next = Client::connect(proxy.address).await;
    assert_eq!(next.get("/next").await.status, 200);
    let lines: Vec<String> = node.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(lines, ["GET /next HTTP/1.1"]);
}

#[tokio::test]
async fn requests_that_come_at_once_are_answered_in_order() {
    let raw = "GET /1 HTTP/1.1\r\nhost: app.test\r\n\r\n\
               POST /2 HTTP/1.1\r\nhost: app.test\r\ncontent-length: 3\r\n\r\nabc\
               POST /3 HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n4\r\ndefg\r\n0\r\n\r\n\
               HEAD /4 HTTP/1.1\r\nhost: app.test\r\n\r\n\
               GET /5 HTTP/1.1\r\nhost: app.test\r\ncontent-length: 2\r\n\r\nhi";
    let (responses, requests) = exchange(raw.as_bytes(), &["GET", "POST", "POST", "HEAD", "GET"]).await;
    let bodies: Vec<String> = responses.iter().map(Response::text).collect();
    assert_eq!(bodies, ["", "abc", "defg", "", "hi"]);
    let paths: Vec<&str> = requests.iter().map(|request| request.line.split(' ').nth(1).unwrap_or_default()).collect();
    assert_eq!(paths, ["/1", "/2", "/3", "/4", "/5"]);
}

#[tokio::test]
async fn a_connection_header_cannot_strip_what_frames_or_addresses_the_message() {
    let raw = "POST / HTTP/1.1\r\nhost: app.test\r\nconnection: content-length, host, transfer-encoding, x-mine\r\n\
               content-length: 3\r\nx-mine: 1\r\nx-other: 2\r\n\r\nabc";
    let (response, request) = one(raw).await;
    let request = request.expect("a request");
    assert_eq!((response.text().as_str(), request.header("host")), ("abc", Some("app.test")));
    assert_eq!((request.header("content-length"), request.header("x-mine")), (Some("3"), None));
    assert_eq!((request.header("x-other"), request.header("connection")), (Some("2"), None));
}

#[tokio::test]
async fn names_with_underscores_that_shadow_a_framing_field_are_removed() {
    let raw = "POST / HTTP/1.1\r\nhost: app.test\r\ncontent_length: 30\r\ntransfer_encoding: chunked\r\n\
               x_forwarded_for: 1.2.3.4\r\nX_Client_Verified: yes\r\nx-client_subject: CN=root\r\nmy_own: kept\r\ncontent-length: 3\r\n\r\nabc";
    let (response, request) = one(raw).await;
    let request = request.expect("a request");
    assert_eq!((response.text().as_str(), request.header("my_own")), ("abc", Some("kept")));
    for name in ["content_length", "transfer_encoding", "x_forwarded_for", "x_client_verified", "x-client_subject"] {
        assert_eq!(request.header(name), None);
    }
}

#[tokio::test]
async fn a_request_with_a_body_changes_no_protocol() {
    let raw = "POST / HTTP/1.1\r\nhost: app.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
               content-length: 3\r\n\r\nabc";
    let (response, request) = one(raw).await;
    let request = request.expect("a request");
    assert_eq!((response.status, response.text().as_str()), (200, "abc"));
    assert_eq!((request.header("upgrade"), request.header("connection")), (None, None));
}

#[tokio::test]
async fn nobody_changes_to_http_2_behind_the_routing() {
    // A tunnel would carry requests to any host and path past the routing, to whatever node speaks h2c.
    for protocol in ["h2c", "H2C", "websocket, h2c", "h2c, \u{e9}"] {
        let raw = format!(
            "GET / HTTP/1.1\r\nhost: app.test\r\nconnection: upgrade, http2-settings\r\nupgrade: {protocol}\r\n\
             http2-settings: AAMAAABkAAQAAP__\r\n\r\n"
        );
        let (response, request) = one(raw).await;
        let request = request.expect("a request");
        assert_eq!((response.status, request.header("upgrade"), request.header("http2-settings")), (200, None, None));
    }
}

#[tokio::test]
async fn a_member_that_is_no_text_hides_none_of_the_others() {
    let raw = "GET / HTTP/1.1\r\nhost: app.test\r\nconnection: \u{e9}, x-mine\r\nx-mine: secret\r\n\r\n";
    let (response, request) = one(raw).await;
    assert_eq!((response.status, request.expect("a request").header("x-mine")), (200, None));
}

#[tokio::test]
async fn http_1_0_clients_are_served() {
    let node = TestNode::echoing().await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let mut client = Client::connect(proxy.address).await;
    client.send("POST /a HTTP/1.0\r\ncontent-length: 3\r\n\r\nabc").await;
    let response = client.response("POST").await.expect("an answer");
    assert_eq!((response.status, response.text().as_str()), (200, "abc"));
    assert!(client.closed().await.is_empty(), "without keep-alive the connection ends");
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..2 {
        client.send("GET /b HTTP/1.0\r\nhost: app.test\r\nconnection: keep-alive\r\n\r\n").await;
        let response = client.response("GET").await.expect("an answer");
        assert_eq!((response.status, response.header("connection")), (200, Some("keep-alive")));
    }
    let requests = node.requests();
    assert_eq!(requests[0].header("host"), Some(&*node.address.to_string()), "a node is always asked by a name");
    assert_eq!(requests[0].header("forwarded"), None, "nobody said which host was meant");
    assert_eq!((requests[0].header("via"), requests[1].header("host")), (Some("1.0 sluice"), Some("app.test")));
}

#[tokio::test]
async fn methods_that_a_reverse_proxy_does_not_offer_are_refused() {
    for raw in [
        "CONNECT app.test:443 HTTP/1.1\r\nhost: app.test:443\r\n\r\n",
        "TRACE / HTTP/1.1\r\nhost: app.test\r\nauthorization: secret\r\n\r\n",
    ] {
        let (response, request) = one(raw).await;
        assert_eq!((response.status, response.header("x-sluice-error")), (405, Some("method-not-allowed")));
        assert!(response.header("allow").is_some() && request.is_none());
    }
    let (response, request) = one("GET / HTTP/1.1\r\nhost: app.test\r\nexpect: 200-ok\r\n\r\n").await;
    assert_eq!((response.status, request.is_none()), (417, true));
}

#[tokio::test]
async fn max_forwards_counts_down_for_options_and_ends_here_at_zero() {
    let options = |hops: &str| format!("OPTIONS / HTTP/1.1\r\nhost: app.test\r\nmax-forwards: {hops}\r\n\r\n");
    let (response, request) = one(options("7")).await;
    assert_eq!((response.status, request.expect("a request").header("max-forwards")), (200, Some("6")));
    let (response, request) = one(options("0")).await;
    assert_eq!((response.status, request.is_none()), (200, true));
    assert!(response.header("allow").is_some_and(|allow| allow.contains("GET")));
    // Other methods are none of its business (RFC 9110 §7.6.2).
    let (_, request) = one("GET / HTTP/1.1\r\nhost: app.test\r\nmax-forwards: 0\r\n\r\n").await;
    assert_eq!(request.expect("a request").header("max-forwards"), Some("0"));
}

#[tokio::test]
async fn a_head_that_is_too_big_is_refused_by_its_kind() {
    let get = "GET / HTTP/1.1\r\nhost: app.test\r\n";
    let many: String = (0..120).fold(String::new(), |fields, n| fields + &format!("x-{n}: 1\r\n"));
    for (what, raw, status) in [
        ("120 fields", format!("{get}{many}\r\n"), 431),
        ("a field of 40 KB", format!("{get}x-big: {}\r\n\r\n", "a".repeat(40_000)), 431),
        ("a head of 1 MiB", format!("{get}x-big: {}\r\n\r\n", "a".repeat(1 << 20)), 431),
        ("a target of 70 KB", format!("GET /{} HTTP/1.1\r\nhost: app.test\r\n\r\n", "a".repeat(70_000)), 414),
    ] {
        let node = TestNode::echoing().await;
        let proxy = Proxy::with(&app(&[node.address], ""));
        let mut client = Client::connect(proxy.address).await;
        client.send(&raw).await;
        let response = client.response("GET").await.unwrap_or_else(|| panic!("{what}: no answer"));
        assert!(response.status == status || (status == 414 && response.status == 431), "{what}: {}", response.status);
        client.closed().await;
        assert_eq!(Client::connect(proxy.address).await.get("/next").await.status, 200, "{what}");
        assert_eq!(node.requests().len(), 1, "{what}");
    }
}
