//! What of a message belongs to one connection, and what to both ends (RFC 9110 §7.6, RFC 9112 §6, RFC 7239).

use std::time::Duration;

use crate::support::client::{Client, Response};
use crate::support::node::{Request, TestNode};
use crate::support::{Proxy, app};

/// A node that answers every request with these bytes, then closes if `close`.
async fn saying(answer: &'static str, close: bool) -> TestNode {
    TestNode::start(move |mut peer| async move {
        while let Some(request) = peer.request().await {
            match request.line.as_str() {
                "GET /2 HTTP/1.1" => peer.respond(200, "second").await,
                _ => peer.send(answer).await,
            }
            if close {
                return;
            }
        }
    })
    .await
}

/// What a client gets when a node answers so.
async fn answered(answer: &'static str, close: bool, request: &str) -> Response {
    let node = saying(answer, close).await;
    let proxy = Proxy::with_workers(&app(&[node.address], ""), 1);
    let mut client = Client::connect(proxy.address).await;
    client.send(request).await;
    let method = request.split(' ').next().unwrap_or_default();
    let response = client.response(method).await.expect("an answer");
    // Whatever it was, it left the connection, if it is still open, in step.
    if request.contains("HTTP/1.1") && response.header("connection") != Some("close") {
        client.send("GET /2 HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
        let second = client.response("GET").await.map(|response| response.text());
        assert_eq!(second.as_deref(), Some("second"), "after {answer:?}");
    }
    node.requests();
    response
}

const GET: &str = "GET / HTTP/1.1\r\nhost: app.test\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nhost: app.test\r\n\r\n";

/// The request as a node gets it, with this configuration before the service and these fields.
async fn forwarded(config: &str, fields: &str) -> Request {
    let node = TestNode::answering("").await;
    let proxy = Proxy::with_workers(&format!("{config}\n{}", app(&[node.address], "")), 1);
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("GET / HTTP/1.1\r\nhost: App.test:80\r\n{fields}\r\n")).await;
    assert_eq!(client.response("GET").await.expect("an answer").status, 200);
    node.requests().remove(0)
}

#[tokio::test]
async fn what_belongs_to_one_connection_ends_there() {
    let request = forwarded(
        "",
        "connection: keep-alive, X-Mine, te\r\nkeep-alive: timeout=5\r\nproxy-connection: keep-alive\r\n\
         te: gzip\r\nupgrade: h2c\r\nx-mine: 1\r\nx-kept: 2\r\nvia: 1.1 edge\r\nexpect: 100-continue\r\n",
    )
    .await;
    for gone in ["connection", "keep-alive", "proxy-connection", "te", "upgrade", "x-mine", "expect"] {
        assert_eq!(request.header(gone), None, "{gone}");
    }
    assert_eq!((request.header("x-kept"), request.all("via")), (Some("2"), vec!["1.1 edge", "1.1 sluice"]));
    assert_eq!(request.header("host"), Some("App.test:80"), "the host is kept as it was written");
    let response = answered(
        "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-mine\r\nkeep-alive: timeout=5\r\nproxy-connection: keep-alive\r\n\
         upgrade: h2c\r\nx-mine: 1\r\nx-kept: 2\r\nvia: 1.0 inner\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         set-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 2\r\n\r\nok",
        false,
        GET,
    )
    .await;
    for gone in ["connection", "keep-alive", "proxy-connection", "upgrade", "x-mine"] {
        assert_eq!(response.header(gone), None, "{gone}");
    }
    let all = |name: &str| response.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| &**v).collect::<Vec<_>>();
    assert_eq!((all("via"), all("x-kept")), (vec!["1.0 inner", "1.1 sluice"], vec!["2"]));
    assert_eq!(all("date"), ["Sun, 06 Nov 1994 08:49:37 GMT"], "the origin's own");
    assert_eq!(all("set-cookie"), ["a=1", "b=2"]);
    let response = answered("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false, GET).await;
    assert!(response.header("date").is_some_and(|date| date.ends_with(" GMT")), "a date is added");
}

#[tokio::test]
async fn what_an_untrusted_client_says_about_itself_is_dropped() {
    let claims = "x-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\nx-forwarded-host: evil.test\r\n\
                  x-forwarded-port: 443\r\nx-real-ip: 1.2.3.4\r\nforwarded: for=1.2.3.4\r\nx-forwarded-for: 5.6.7.8\r\n";
    for trusted in ["", "trusted_proxies = [\"10.0.0.0/8\", \"::1/128\"]"] {
        for fields in [claims, ""] {
            let request = forwarded(trusted, fields).await;
            assert_eq!(request.all("x-forwarded-for"), ["127.0.0.1"]);
            assert_eq!(request.all("x-forwarded-proto"), ["http"]);
            assert_eq!(request.all("x-forwarded-host"), ["App.test:80"]);
            assert_eq!(request.all("forwarded"), ["for=127.0.0.1;host=\"App.test:80\";proto=http"]);
            assert_eq!((request.header("x-real-ip"), request.header("x-forwarded-port")), (None, None));
        }
    }
}

#[tokio::test]
async fn what_a_trusted_proxy_says_is_kept_and_continued() {
    let trusted = "trusted_proxies = [\"127.0.0.0/8\"]";
    let request = forwarded(
        trusted,
        "x-forwarded-for: 1.2.3.4\r\nx-forwarded-for: 5.6.7.8\r\nx-forwarded-proto: https\r\nx-forwarded-host: shop.test\r\n\
         x-forwarded-port: 443\r\nx-real-ip: 1.2.3.4\r\nforwarded: for=1.2.3.4;proto=https\r\n",
    )
    .await;
    assert_eq!(request.all("x-forwarded-for"), ["1.2.3.4, 5.6.7.8, 127.0.0.1"]);
    assert_eq!((request.all("x-forwarded-proto"), request.all("x-forwarded-host")), (vec!["https"], vec!["shop.test"]));
    assert_eq!((request.all("x-forwarded-port"), request.all("x-real-ip")), (vec!["443"], vec!["1.2.3.4"]));
    let chain = "for=1.2.3.4;proto=https, for=127.0.0.1;host=\"App.test:80\";proto=http";
    assert_eq!(request.all("forwarded"), [chain]);
    // A proxy that knows only the older fields is understood in the newer one too.
    let request = forwarded(trusted, "x-forwarded-for: 1.2.3.4, 2001:db8::1\r\n").await;
    let chain = "for=1.2.3.4, for=\"[2001:db8::1]\", for=127.0.0.1;host=\"App.test:80\";proto=http";
    assert_eq!(request.all("forwarded"), [chain]);
    let request = forwarded(trusted, "x-forwarded-for: 1.2.3.4, someone\r\n").await;
    assert_eq!(request.all("forwarded"), ["for=1.2.3.4, for=unknown, for=127.0.0.1;host=\"App.test:80\";proto=http"]);
    let request = forwarded(trusted, "").await;
    assert_eq!((request.all("x-forwarded-for"), request.all("x-forwarded-proto")), (vec!["127.0.0.1"], vec!["http"]));
}

#[tokio::test]
async fn an_answer_without_a_body_keeps_what_it_says_about_one() {
    let length = |response: &Response| response.header("content-length").map(str::to_owned);
    let response = answered("HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n", false, HEAD).await;
    assert_eq!((response.status, length(&response).as_deref()), (200, Some("5000")));
    let response = answered("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", false, HEAD).await;
    assert_eq!((response.status, length(&response)), (200, None), "a length of 0 would be a lie");
    let response = answered("HTTP/1.1 200 OK\r\n\r\n", true, HEAD).await;
    assert_eq!((response.status, length(&response)), (200, None));
    let response =
        answered("HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\ncontent-length: 5000\r\n\r\n", false, GET).await;
    assert_eq!((response.status, response.header("etag")), (304, Some("\"x\"")));
    assert!(matches!(length(&response).as_deref(), None | Some("5000")));
    let response = answered("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", false, GET).await;
    assert_eq!((response.status, length(&response), response.header("transfer-encoding")), (204, None, None));
}

#[tokio::test]
async fn interim_answers_of_a_node_do_no_harm() {
    let response = answered(
        "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        false,
        GET,
    )
    .await;
    assert_eq!((response.status, response.text().as_str(), response.header("link")), (200, "ok", None));
    let response =
        answered("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", true, GET).await;
    assert_eq!((response.status, response.header("x-sluice-error")), (502, Some("bad-response")));
}

#[tokio::test]
async fn bodies_of_every_framing_arrive_whole() {
    let close = "HTTP/1.1 200 OK\r\n\r\nall of it";
    let http_1_0 = "HTTP/1.0 200 OK\r\n\r\nall of it";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nall\r\n6;x=y\r\n of it\r\n0\r\n\r\n";
    let length = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nall of it";
    // Of a length and a coding the coding counts, and the length must go (RFC 9112 §6.3).
    let both = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n9\r\nall of it\r\n0\r\n\r\n";
    for (answer, ends) in [(close, true), (http_1_0, true), (chunked, false), (length, false), (both, false)] {
        for request in
            [GET, "GET / HTTP/1.0\r\nhost: app.test\r\n\r\n", "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"]
        {
            let response = answered(answer, ends, request).await;
            assert_eq!((response.status, response.text().as_str()), (200, "all of it"), "{answer:?} {request:?}");
            assert!(!response.truncated);
            let framings = ["content-length", "transfer-encoding"].map(|name| response.header(name));
            assert!(framings.contains(&None), "{framings:?}");
            if request != GET {
                assert_eq!(framings[1], None, "HTTP/1.0 knows no coding");
            }
        }
    }
    let empty = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let response = answered(empty, false, GET).await;
    assert_eq!((response.status, response.body.len(), response.truncated), (200, 0, false));
}

#[tokio::test]
async fn a_node_that_answers_in_http_1_0_is_asked_in_http_1_1() {
    let answer = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok";
    let node = saying(answer, false).await;
    let proxy = Proxy::with_workers(&app(&[node.address], ""), 1);
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..2 {
        client
            .send("POST / HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
            .await;
        let response = client.response("POST").await.expect("an answer");
        assert_eq!(
            (response.status, response.text().as_str(), response.header("via")),
            (200, "ok", Some("1.0 sluice"))
        );
    }
    assert!(node.requests().iter().all(|request| request.body == b"abc"));
}

#[tokio::test]
async fn an_answer_that_could_be_read_in_two_ways_is_a_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nabc",
        "SSH-2.0-OpenSSH_9.2p1\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
    ] {
        let response = answered(answer, true, GET).await;
        assert_eq!((response.status, response.header("x-sluice-error")), (502, Some("bad-response")), "{answer:?}");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let node = saying(
        "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n",
        false,
    )
    .await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let mut client = Client::connect(proxy.address).await;
    let fields = "host: app.test\r\nte: trailers\r\nconnection: te\r\ntrailer: x-sum\r\ntransfer-encoding: chunked";
    client.send(format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 5\r\nhost: evil\r\n\r\n")).await;
    let response = client.response("POST").await.expect("an answer");
    assert_eq!((response.text().as_str(), response.header("trailer")), ("abc", Some("x-sum")));
    assert_eq!(response.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    let request = &node.requests()[0];
    assert_eq!((request.header("te"), request.header("connection")), (Some("trailers"), Some("te")));
    assert_eq!((request.header("trailer"), request.body.as_slice()), (Some("x-sum"), &b"hi"[..]));
    assert_eq!(request.trailers, [("x-sum".to_owned(), "5".to_owned())], "what was not named is not passed on");
    // A client that does not ask for trailers gets the body without them.
    let response = client.get("/").await;
    assert_eq!((response.text().as_str(), response.trailers.len(), response.truncated), ("abc", 0, false));
}

#[tokio::test]
async fn trailers_that_no_head_announced_reach_a_client_who_takes_them() {
    let node = saying(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\nhost: evil\r\n\r\n",
        false,
    )
    .await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let mut client = Client::connect(proxy.address).await;
    for (te, trailers) in [("te: trailers\r\n", 1), ("", 0)] {
        client.send(format!("GET / HTTP/1.1\r\nhost: app.test\r\n{te}\r\n")).await;
        let response = client.response("GET").await.expect("an answer");
        assert_eq!((response.text().as_str(), response.trailers.len(), response.truncated), ("abc", trailers, false));
    }
}

#[tokio::test]
async fn a_prefix_is_stripped_if_the_service_wants_it() {
    let node = TestNode::answering("").await;
    let nodes = format!("nodes = [\"{}\"]", node.address);
    let proxy =
        Proxy::with(&format!("[service.app]\nmatch = [\"*/shop\", \"*.test\"]\nstrip_prefix = true\n{nodes}\n"));
    let mut client = Client::connect(proxy.address).await;
    for (target, at_node) in [
        ("/shop", "/"),
        ("/shop?q=/shop", "/?q=/shop"),
        ("/shop/", "/"),
        ("/shop/a/b?x", "/a/b?x"),
        ("/x/../shop//a", "/a"),
        ("/shop//evil.test/x", "/evil.test/x"),
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\nhost: any\r\n\r\n")).await;
        assert_eq!(client.response("GET").await.expect("an answer").status, 200, "{target}");
        let line = node.requests().pop().expect("a request").line;
        assert_eq!(line, format!("GET {at_node} HTTP/1.1"), "{target}");
    }
    client.send("OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    assert_eq!(client.response("OPTIONS").await.expect("an answer").status, 200);
    assert_eq!(node.requests().pop().expect("a request").line, "OPTIONS * HTTP/1.1");
}

/// What a client gets, heads only, that asks before it sends its body of three bytes, and sends it if it may.
async fn asking(node: &TestNode) -> (Vec<u16>, Duration) {
    let proxy = Proxy::with_workers(&app(&[node.address], ""), 1);
    let mut client = Client::connect(proxy.address).await;
    let began = std::time::Instant::now();
    client.send("POST / HTTP/1.1\r\nhost: app.test\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n").await;
    let mut statuses = vec![client.head().await.expect("an answer").status];
    let first = began.elapsed();
    if statuses[0] == 100 {
        client.send("abc").await;
        let response = client.response("POST").await.expect("an answer");
        assert_eq!(response.text(), "abc");
        statuses.push(response.status);
    }
    node.requests();
    (statuses, first)
}

#[tokio::test]
async fn a_client_that_asks_first_hears_what_the_node_says() {
    let willing = TestNode::start(|mut peer| async move {
        let head = peer.head().await.expect("a head");
        assert_eq!(head.header("expect"), Some("100-continue"));
        peer.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        let body = peer.bytes(3).await.expect("the body");
        peer.respond(200, &String::from_utf8_lossy(&body)).await;
        peer.closed().await;
    })
    .await;
    let (statuses, _) = asking(&willing).await;
    assert_eq!(statuses, [100, 200]);
    for status in [413, 417] {
        let unwilling = TestNode::start(move |mut peer| async move {
            peer.head().await.expect("a head");
            peer.respond(status, "no").await;
            peer.closed().await;
        })
        .await;
        let (statuses, _) = asking(&unwilling).await;
        assert_eq!(statuses, [status], "no 100 before the refusal, and no wait for a body that does not come");
    }
    let silent = TestNode::echoing().await;
    let (statuses, first) = asking(&silent).await;
    assert_eq!(statuses, [100, 200]);
    assert!(first >= Duration::from_millis(800), "a node that says nothing is given a second: {first:?}");
}
