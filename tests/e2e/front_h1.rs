//! A client's HTTP/1 connection: what is told of a head that is none, what becomes of bytes that came early, and how it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::node_h2::H2C;
use crate::support::client::{Client, Response};
use crate::support::control::{BlackHole, single};
use crate::support::h2node::H2Node;
use crate::support::node::TestNode;
use crate::support::{PATIENCE, Proxy, app, settled, until};

const GET: &str = "GET / HTTP/1.1\r\nhost: app.test\r\n\r\n";

/// A proxy with one worker, so that limits are exact.
fn proxy(node: &TestNode, limits: &str, service: &str) -> Proxy {
    Proxy::with_workers(&format!("{limits}\n{}", app(&[node.address], service)), 1)
}

fn told(response: &Response) -> (u16, Option<&str>, Option<&str>) {
    (response.status, response.header("x-sluice-error"), response.header("connection"))
}

/// A node that answers when told to, in two parts if it is told twice.
async fn two_parts(go: &Arc<Notify>, first: &'static str, second: &'static str) -> TestNode {
    let go = Arc::clone(go);
    TestNode::start(move |mut peer| {
        let go = Arc::clone(&go);
        async move {
            while peer.head().await.is_some() {
                peer.send(first).await;
                go.notified().await;
                peer.send(second).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_head_that_is_none_is_told_by_its_kind_and_ends_the_connection() {
    let node = TestNode::answering("ok").await;
    let proxy = proxy(&node, "limits = { head_size = \"8KiB\", headers = 20 }", "");
    let many: String = (0..21).fold(String::new(), |fields, n| fields + &format!("x-{n}: 1\r\n"));
    let long = "a".repeat(10_000);
    let rows = [
        ("bad-request", 400, "nonsense\r\n\r\n".to_owned()),
        ("bad-request", 400, "\u{16}\u{3}\u{1}\u{2}\0".to_owned()),
        ("bad-request", 400, "GET / HTTP/1.1\r\nhost : app.test\r\n\r\n".to_owned()),
        ("bad-request", 400, format!("{long} / HTTP/1.1\r\nhost: app.test\r\n\r\n")),
        ("head-size", 431, format!("GET / HTTP/1.1\r\nhost: app.test\r\nx: {long}\r\n\r\n")),
        ("head-size", 431, format!("\r\n\r\nGET / HTTP/1.1\r\nhost: app.test\r\nx: {long}")),
        ("target-size", 414, format!("GET /{long} HTTP/1.1\r\nhost: app.test\r\n\r\n")),
        ("target-size", 414, format!("\r\nGET /{long} HTTP/1.1\r\nhost: app.test\r\n\r\n")),
        ("header-count", 431, format!("GET / HTTP/1.1\r\nhost: app.test\r\n{many}\r\n")),
    ];
    for first in [false, true] {
        for (label, status, raw) in &rows {
            let mut client = Client::connect(proxy.address).await;
            if first {
                assert_eq!(client.get("/").await.status, 200);
            }
            let before = proxy.counts();
            // What follows is nobody's request.
            client.send(format!("{raw}{GET}")).await;
            let response = client.response("GET").await.unwrap_or_else(|| panic!("{label}: no answer"));
            assert_eq!(told(&response), (*status, Some(*label), Some("close")), "{:?}", &raw[..raw.len().min(40)]);
            assert!(!response.truncated && client.closed().await.is_empty(), "{label}");
            let after = proxy.counts();
            assert_eq!((after.0 - before.0, after.1 - before.1), (1, 1), "{label} is counted");
        }
    }
    assert_eq!(node.requests().len(), rows.len());
}

#[tokio::test]
async fn a_head_may_come_byte_by_byte() {
    let node = TestNode::echoing().await;
    let proxy = proxy(&node, "", "");
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..2 {
        for byte in b"\r\n\nPOST / HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n2;a=\"b\"\r\nhi\r\n0\r\nx: y\r\n\r\n" {
            client.send([*byte]).await;
        }
        let response = client.response("POST").await.expect("an answer");
        assert_eq!((response.status, response.text().as_str()), (200, "hi"));
    }
}

#[tokio::test]
async fn requests_that_come_early_and_in_pieces_are_answered_in_order() {
    let go = Arc::new(Notify::new());
    let open = Arc::clone(&go);
    let node = TestNode::start(move |mut peer| {
        let open = Arc::clone(&open);
        async move {
            while let Some(request) = peer.request().await {
                open.notified().await;
                peer.respond(200, &format!("{} {}", request.line, String::from_utf8_lossy(&request.body))).await;
            }
        }
    })
    .await;
    let proxy = proxy(&node, "", "");
    let mut client = Client::connect(proxy.address).await;
    let get = |n: usize| format!("GET /{n} HTTP/1.1\r\nhost: app.test\r\n\r\n");
    let post = "POST /2 HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let all = format!("{}{post}{}{}", get(1), get(3), get(4));
    // The next piece is sent while the request before it is at the node.
    for cut in [10, 60, 130, all.len() - 3] {
        let (one, two) = all.split_at(cut);
        let seen = node.requests().len();
        client.send(one).await;
        if cut > 45 {
            until("the first is at the node", || node.requests().len() > seen).await;
        }
        client.send(two).await;
        for expected in ["GET /1 HTTP/1.1 ", "POST /2 HTTP/1.1 abc", "GET /3 HTTP/1.1 ", "GET /4 HTTP/1.1 "] {
            go.notify_one();
            assert_eq!(client.response("GET").await.expect("an answer").text(), expected, "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn the_rest_of_a_head_that_came_early_has_the_time_of_a_head() {
    let node = TestNode::answering("ok").await;
    let proxy = proxy(&node, "limits = { head = \"300ms\", idle = \"60s\" }", "");
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("{GET}GET / HT")).await;
    assert_eq!(client.response("GET").await.expect("an answer").status, 200);
    assert_eq!(told(&client.response("GET").await.expect("an answer")), (408, Some("head-timeout"), Some("close")));
    assert!(client.closed().await.is_empty());
}

#[tokio::test]
async fn an_empty_line_behind_a_body_is_no_head() {
    let node = TestNode::answering("ok").await;
    let proxy = proxy(&node, "limits = { head = \"300ms\", idle = \"800ms\" }", "");
    let mut clients = Vec::new();
    for line in ["\r\n", ""] {
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 2\r\n\r\nhi{line}")).await;
        assert_eq!(client.response("POST").await.expect("an answer").status, 200);
        client.send("\r\n").await;
        clients.push(client);
    }
    for mut client in clients {
        assert_eq!(String::from_utf8_lossy(&client.closed().await), "", "it is idle, and ends without a word");
    }
}

/// A proxy that answers every request for another host itself.
fn for_app_test(node: &TestNode, limits: &str) -> Proxy {
    Proxy::with_workers(&format!("{limits}\n{}", app(&[node.address], "")).replace("\"*\"", "\"app.test\""), 1)
}

#[tokio::test]
async fn the_rest_of_an_answered_upload_is_passed_over_and_is_no_head() {
    let node = TestNode::answering("ok").await;
    let proxy = for_app_test(&node, "limits = { head = \"300ms\", idle = \"800ms\" }");
    // As many bytes as are read before the answer, and a few more.
    let mut upload = b"POST / HTTP/1.1\r\nhost: other.test\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..256 {
        upload.extend(b"400\r\n");
        upload.extend([b'x'; 1024]);
        upload.extend(b"\r\n");
    }
    upload.extend(b"1\r\nx\r\n0\r\n\r\n");
    for _ in 0..20 {
        let mut client = Client::connect(proxy.address).await;
        client.send(&upload).await;
        let response = client.response("POST").await.expect("an answer");
        assert_eq!(response.status, 404);
        if response.header("connection").is_some() {
            // Its last bytes had not come yet.
            continue;
        }
        assert_eq!(String::from_utf8_lossy(&client.closed().await), "", "it is idle, and ends without a word");
        return;
    }
    panic!("no connection goes on");
}

#[tokio::test]
async fn an_answer_before_the_end_of_an_upload_ends_the_connection_unless_the_rest_is_there() {
    let node = TestNode::answering("ok").await;
    let proxy = for_app_test(&node, "");
    let head = "POST / HTTP/1.1\r\nhost: other.test\r\ncontent-length: 100000\r\n\r\n";
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("{head}{}", "x".repeat(100_000))).await;
    let response = client.response("POST").await.expect("an answer");
    assert_eq!((response.status, response.header("connection")), (404, None));
    assert_eq!(client.get("/").await.status, 200, "the connection goes on");
    client.send(format!("{head}{}", "x".repeat(50_000))).await;
    let response = client.response("POST").await.expect("an answer");
    assert_eq!((response.status, response.header("connection")), (404, Some("close")));
    // It may go on for a while all the same; its answer is not destroyed by that.
    for _ in 0..5 {
        client.stream.write_all(&[b'x'; 10_000]).await.expect("it is taken");
    }
    assert!(client.closed().await.is_empty());
    assert_eq!(node.requests().len(), 1);
}

/// Sends each request, then has the proxy end its idle connections at once.
#[tokio::test]
async fn a_request_that_came_before_the_end_of_its_idle_connection_is_answered_as_the_last() {
    let node = TestNode::answering("ok").await;
    for _ in 0..5 {
        let proxy = proxy(&node, "", "");
        let mut clients = Vec::new();
        for _ in 0..30 {
            let mut client = Client::connect(proxy.address).await;
            assert_eq!(client.get("/").await.status, 200);
            clients.push(client);
        }
        for client in &mut clients {
            client.send(GET).await;
        }
        let replies = proxy.shut_down(Duration::ZERO, PATIENCE);
        for client in &mut clients {
            let response = client.response("GET").await.expect("an answer");
            assert!(response.status == 200 && matches!(response.header("connection"), None | Some("close")));
            assert!(client.closed().await.is_empty());
        }
        assert_eq!(replies.all().await, []);
    }
}

#[tokio::test]
async fn a_request_at_the_end_of_its_connections_idle_time_is_answered_or_never_taken() {
    let node = TestNode::answering("ok").await;
    let proxy = proxy(&node, "limits = { idle = \"100ms\" }", "");
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..80_u64 {
        let mut client = Client::connect(proxy.address).await;
        clients.spawn(async move {
            assert_eq!(client.get("/").await.status, 200);
            // The watchdog looks each half second.
            tokio::time::sleep(Duration::from_millis(400 + 8 * n)).await;
            client.send(GET).await;
            let answer = client.response("GET").await;
            if let Some(answer) = &answer {
                assert_eq!((answer.status, answer.truncated), (200, false));
            }
            assert!(client.closed().await.is_empty(), "nothing else is said");
            answer.is_some()
        });
    }
    let answered = clients.join_all().await.into_iter().filter(|answered| *answered).count();
    assert_eq!(node.requests().len(), 80 + answered, "what a node gets is answered");
}

#[tokio::test]
async fn an_answer_to_http_1_0_that_breaks_off_ends_in_a_reset() {
    let go = Arc::new(Notify::new());
    for whole in [true, false] {
        let open = Arc::clone(&go);
        let node = TestNode::start(move |mut peer| {
            let open = Arc::clone(&open);
            async move {
                peer.request().await;
                peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
                open.notified().await;
                peer.send(if whole { "0\r\n\r\n" } else { "" }).await;
            }
        })
        .await;
        let proxy = proxy(&node, "", "");
        let mut client = Client::connect(proxy.address).await;
        client.send("GET / HTTP/1.0\r\nhost: app.test\r\n\r\n").await;
        let head = timeout(PATIENCE, client.head()).await.expect("in time").expect("a head");
        assert_eq!((head.status, head.header("transfer-encoding"), head.header("content-length")), (200, None, None));
        assert_eq!(client.bytes(4).await.as_deref(), Some(&b"half"[..]));
        go.notify_one();
        let end = timeout(PATIENCE, client.stream.read(&mut [0; 8])).await.expect("in time");
        match end {
            Ok(read) => assert!(whole && read == 0, "{read} bytes, and it looks whole"),
            Err(error) => assert!(!whole && error.kind() == std::io::ErrorKind::ConnectionReset, "{error}"),
        }
    }
}

#[tokio::test]
async fn a_node_is_free_while_a_client_takes_nothing_of_a_small_answer() {
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counts = Arc::clone(&count);
    let node = TestNode::start(move |mut peer| {
        let counts = Arc::clone(&counts);
        async move {
            while peer.head().await.is_some() {
                counts.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                // In parts, so that it cannot be taken over in one piece with its head.
                peer.send("HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n").await;
                for _ in 0..3 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    peer.send(vec![b'x'; 20_000]).await;
                }
            }
        }
    })
    .await;
    let proxy = proxy(&node, "", "timeouts = { body = \"60s\" }");
    let mut client = Client::connect(proxy.address).await;
    socket2::SockRef::from(&client.stream).set_recv_buffer_size(256 * 1024).expect("a socket option");
    let requests = 130;
    client.send(GET.repeat(requests)).await;
    let asked = settled(&count, Duration::from_millis(500)).await;
    assert!(asked < requests, "its buffers hold everything");
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
    for n in 0..requests {
        let response = client.response("GET").await.expect("an answer");
        assert_eq!((response.body.len(), response.truncated), (60_000, false), "answer {n}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_wait_for_its_expectation_is_served() {
    let node = TestNode::echoing().await;
    let proxy = proxy(&node, "", "");
    let length = "POST / HTTP/1.1\r\nhost: app.test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let chunked = "POST / HTTP/1.1\r\nhost: app.test\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut clients = tokio::task::JoinSet::new();
    for (head, body) in [(length, "hello"), (chunked, "5\r\nhello\r\n0\r\n\r\n")] {
        // With its head, behind it, and in the middle.
        for cut in [head.len() + body.len(), head.len(), head.len() + 2] {
            let mut client = Client::connect(proxy.address).await;
            let all = format!("{head}{body}");
            clients.spawn(async move {
                client.send(&all[..cut]).await;
                client.send(&all[cut..]).await;
                assert_eq!(client.response("POST").await.expect("an answer").text(), "hello");
                assert_eq!(client.get("/").await.status, 200, "the connection goes on");
            });
        }
    }
    clients.join_all().await;
    let mut client = Client::connect(proxy.address).await;
    // Whoever speaks HTTP/1.0 knows no interim answer (RFC 9110 §10.1.1).
    client.send(length.replace("HTTP/1.1", "HTTP/1.0") + "hello").await;
    let head = timeout(PATIENCE, client.head()).await.expect("in time").expect("a head");
    assert_eq!(head.status, 200);
}

#[tokio::test]
async fn what_follows_a_refused_expectation_is_nobodys_request() {
    let node = TestNode::start(|mut peer| async move {
        while peer.head().await.is_some() {
            peer.respond(417, "no").await;
        }
    })
    .await;
    let proxy = proxy(&node, "", "");
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nhost: app.test\r\nexpect: 100-continue\r\ncontent-length: 40\r\n\r\n").await;
    let head = timeout(PATIENCE, client.head()).await.expect("in time").expect("a head");
    assert_eq!((head.status, head.header("connection")), (417, Some("close")), "not told to go on");
    assert_eq!(client.bytes(2).await.as_deref(), Some(&b"no"[..]));
    // The body, or another request: nobody can know.
    client.send(GET).await;
    assert!(client.closed().await.is_empty());
    assert_eq!(proxy.counts().0, 1);
}

#[tokio::test]
async fn a_client_that_is_refused_is_not_told_to_send_its_body_first() {
    let hole = BlackHole::new();
    // Longer than a node may keep a client waiting for the word.
    let proxy = single(&[hole.address], "timeouts.connect = \"1300ms\"\nretry.attempts = 1");
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nhost: app.test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n").await;
    let head = timeout(PATIENCE, client.head()).await.expect("in time").expect("a head");
    assert_eq!(told(&head), (504, Some("connect-timeout"), Some("close")));
}

#[tokio::test]
async fn a_client_that_goes_while_its_request_and_its_answer_flow_frees_the_node() {
    let go = Arc::new(Notify::new());
    let node = two_parts(&go, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n", "").await;
    let proxy = proxy(&node, "", "timeouts = { body = \"60s\", tunnel = \"60s\" }");
    for end in ["", "0\r\n\r\n"] {
        let mut client = Client::connect(proxy.address).await;
        client.send("POST / HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n").await;
        assert_eq!(timeout(PATIENCE, client.head()).await.expect("in time").expect("a head").status, 200);
        assert_eq!(client.chunk().await.as_deref(), Some(&b"hi"[..]));
        client.send(end).await;
        // The end of the request, if there is one, is there before that of the connection.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        drop(client);
        until("the node is free", || proxy.node(node.address).inflight() == 0).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{end:?}: after {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn an_upload_that_a_node_of_http_2_answers_early_ends_the_connection_too() {
    // Whatever it is sent, it does not want it: the stream is reset behind the answer.
    let node = H2Node::start(|mut exchange| async move { exchange.respond(413, "") }).await;
    let proxy = single(&[node.address], H2C);
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n{}", "x".repeat(50_000))).await;
    let response = client.response("POST").await.expect("an answer");
    assert_eq!((response.status, response.header("connection")), (413, Some("close")));
    assert!(client.closed().await.is_empty());
}
