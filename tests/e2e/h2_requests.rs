//! HTTP/2 clients over cleartext, with nodes of HTTP/1.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use tokio::process::Command;
use tokio::sync::Notify;

use crate::support::client::Client;
use crate::support::control::single;
use crate::support::frames::{CONTINUATION, HEADERS, head};
use crate::support::http2::{Http2, answer, frame, request, reset};
use crate::support::node::TestNode;
use crate::support::strict::Strict;
use crate::support::{Proxy, app, until};

#[tokio::test]
async fn many_requests_share_one_connection_and_none_gets_anothers_answer() {
    let node = TestNode::echoing().await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let client = Http2::connect(proxy.address).await;
    let calls = (0..200).map(|number| {
        let mut send = client.send.clone();
        async move {
            let body = format!("{number} ").repeat(number * 10 + 1);
            let mut ready = {
                send = send.ready().await.expect("a connection");
                send
            };
            let (response, mut stream) = ready.send_request(request("POST", "/echo"), false).expect("a stream");
            stream.send_data(Bytes::from(body.clone()), true).expect("an open stream");
            let answer = answer(response).await;
            assert_eq!((answer.status, answer.text() == body), (StatusCode::OK, true), "{number}");
            assert!(answer.headers.contains_key("date") && answer.headers.contains_key("via"));
        }
    });
    join_all(calls).await;
    assert_eq!(proxy.pool.stats().iter().map(|stats| stats.abusive.get()).sum::<u64>(), 0);
    assert_eq!(proxy.counts(), (200, 0, 0));
    assert_eq!(proxy.pool.stats().iter().map(|stats| stats.accepted.get()).sum::<u64>(), 1);
}

#[tokio::test]
async fn curl_and_nghttp_are_served_with_prior_knowledge() {
    let node = TestNode::answering("hello").await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let url = format!("http://{}/x", proxy.address);
    let run = |program: &'static str, arguments: &'static [&'static str]| {
        let url = url.clone();
        async move {
            let Ok(output) = Command::new(program).args(arguments).arg(url).output().await else {
                eprintln!("skipped: {program} is not installed");
                return None;
            };
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
    };
    let curl = run("curl", &["-s", "--http2-prior-knowledge", "-w", " over %{http_version}"]).await;
    assert!(curl.as_ref().is_none_or(|text| text == "hello over 2"), "{curl:?}");
    let nghttp = run("nghttp", &[]).await;
    assert!(nghttp.as_ref().is_none_or(|text| text == "hello"), "{nghttp:?}");
    let load = run("h2load", &["-n2000", "-c4", "-m32"]).await;
    assert!(load.as_ref().is_none_or(|text| text.contains("2000 succeeded, 0 failed, 0 errored")), "{load:?}");
}

#[tokio::test]
async fn a_node_sees_a_request_of_http_1() {
    let node = TestNode::answering("ok").await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let mut client = Http2::connect(proxy.address).await;
    let ask = Request::builder()
        .uri("http://App.test:80/a/b?c=d&e")
        .header("cookie", "a=1")
        .header("x-other", "1")
        .header("cookie", "b=2")
        .header("cookie", "c=3; d=4")
        .header("te", "trailers")
        .header("x-forwarded-for", "6.6.6.6")
        .body(())
        .expect("a request");
    let (response, _) = client.begin(ask, true).await;
    assert_eq!(answer(response).await.status, StatusCode::OK);
    let seen = &node.requests()[0];
    assert_eq!(seen.line, "GET /a/b?c=d&e HTTP/1.1");
    assert_eq!(seen.all("host"), ["App.test:80"]);
    assert_eq!(seen.all("cookie"), ["a=1; b=2; c=3; d=4"]);
    assert_eq!((seen.header("te"), seen.header("connection")), (Some("trailers"), Some("te")));
    assert_eq!(seen.header("via"), Some("2.0 sluice"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-host"), Some("App.test:80"));
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused_and_the_connection_goes_on() {
    let node = TestNode::answering("ok").await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let mut client = Http2::connect(proxy.address).await;
    let build = |uri: &str, name: &str, value: &str| {
        Request::builder().uri(uri).header(name, value).body(()).expect("a request")
    };
    for (ask, status) in [
        (build("http://app.test/", "host", "other.test"), 400),
        (build("http://app.test/", "expect", "miracles"), 417),
        (build("http://user@app.test/", "x", "y"), 400),
        (build("ftp://app.test/", "x", "y"), 400),
        (build("http://app.test/", "host", "APP.test"), 200),
        (request("TRACE", "/"), 405),
        (Request::builder().method("CONNECT").uri("app.test:80").body(()).expect("a request"), 405),
    ] {
        let text = format!("{ask:?}");
        let (response, _) = client.begin(ask, true).await;
        let answer = answer(response).await;
        assert_eq!(answer.status.as_u16(), status, "{text}: {answer:?}");
        assert!(!answer.headers.contains_key("connection"));
    }
    assert_eq!(client.get("/").await.status, StatusCode::OK);
    assert!(node.requests().iter().all(|request| request.all("host").len() == 1));
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let node = TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            assert_eq!(request.trailers, [("checksum".to_owned(), "abc".to_owned())]);
            peer.send("HTTP/1.1 200 OK\r\ntrailer: digest\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n")
                .await;
            peer.send("digest: xyz\r\n\r\n").await;
        }
    })
    .await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let mut client = Http2::connect(proxy.address).await;
    for _ in 0..2 {
        let mut ask = request("POST", "/");
        ask.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        ask.headers_mut().insert("trailer", HeaderValue::from_static("checksum"));
        let (response, mut stream) = client.begin(ask, false).await;
        stream.send_data(Bytes::from_static(b"data"), false).expect("an open stream");
        let mut trailers = HeaderMap::new();
        trailers.insert("checksum", HeaderValue::from_static("abc"));
        stream.send_trailers(trailers).expect("an open stream");
        let answer = answer(response).await;
        assert_eq!((answer.text().as_str(), answer.trailer("digest"), answer.reset), ("body", Some("xyz"), None));
    }
    assert_eq!(node.requests().len(), 2);
}

#[tokio::test]
async fn a_truncated_answer_is_a_reset_stream_and_never_a_whole_one() {
    for cut in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly a part",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n",
    ] {
        let go_on = Arc::new(Notify::new());
        let wait = Arc::clone(&go_on);
        let node = TestNode::start(move |mut peer| {
            let wait = Arc::clone(&wait);
            async move {
                while let Some(request) = peer.request().await {
                    if request.line.contains("/cut") {
                        peer.send(cut).await;
                        wait.notified().await;
                        return;
                    }
                    peer.respond(200, "whole").await;
                }
            }
        })
        .await;
        let proxy = Proxy::with(&app(&[node.address], ""));
        let mut client = Http2::connect(proxy.address).await;
        let (response, _) = client.begin(request("GET", "/cut"), true).await;
        let (head, body) = response.await.expect("a head").into_parts();
        // The head is out, so there is no other way to tell.
        go_on.notify_one();
        let answer = crate::support::http2::rest(head, body).await;
        assert_eq!(answer.reset, Some(Reason::INTERNAL_ERROR), "{cut:?}: {answer:?}");
        assert_eq!(client.get("/next").await.text(), "whole", "the connection goes on");
        assert_eq!(node.requests().len(), 2);
    }
}

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    let node = TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let (_, path) = request.line.split_once(' ').expect("a request line");
            peer.send(match path.split(' ').next() {
                Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n",
                Some("/304") => "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\netag: \"x\"\r\n\r\n",
                Some("/empty") => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                Some("/chunked") => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
            })
            .await;
        }
    })
    .await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let mut client = Http2::connect(proxy.address).await;
    for (method, path, status, length) in [
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, Some("7")),
        ("GET", "/empty", 200, Some("0")),
        ("GET", "/chunked", 200, None),
        ("HEAD", "/head", 200, Some("5")),
    ] {
        let (response, _) = client.begin(request(method, path), true).await;
        let answer = answer(response).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-length")), (status, length), "{path}");
        assert!(answer.body.is_empty() && answer.reset.is_none(), "{path}");
    }
    drop(node);
    let (response, _) = client.begin(request("HEAD", "/gone"), true).await;
    let answer = answer(response).await;
    assert_eq!((answer.status.as_u16(), answer.body.len(), answer.reset), (502, 0, None));
}

#[tokio::test]
async fn curl_gets_an_answer_that_comes_before_its_upload_is_through() {
    let node = TestNode::answering("ok").await;
    let proxy = Proxy::with_workers(&app(&[node.address], "limits = { body = \"1KiB\" }"), 1);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("upload");
    std::fs::write(&file, vec![b'x'; 2_000_000]).expect("a file");
    for _ in 0..10 {
        let Ok(curl) = Command::new("curl")
            .args(["-s", "--http2-prior-knowledge", "-w", "%{http_code} %{header_json}", "--data-binary"])
            .arg(format!("@{}", file.display()))
            .arg(format!("http://{}/", proxy.address))
            .output()
            .await
        else {
            println!("there is no curl here");
            return;
        };
        let said = String::from_utf8_lossy(&curl.stdout);
        assert!(
            curl.status.success() && said.contains("413 ") && said.contains("body-size"),
            "{}: {said}",
            curl.status
        );
    }
}

#[tokio::test]
async fn an_early_answer_ends_the_upload_and_nothing_else() {
    let node = TestNode::start(|mut peer| async move {
        while let Some(request) = peer.head().await {
            if request.line.contains("/upload") {
                peer.send("HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig").await;
                peer.closed().await;
                return;
            }
            peer.respond(200, "ok").await;
        }
    })
    .await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let mut client = Http2::connect(proxy.address).await;
    for _ in 0..3 {
        let (response, mut stream) = client.begin(request("POST", "/upload"), false).await;
        stream.send_data(Bytes::from(vec![0; 10_000]), false).expect("an open stream");
        let answer = answer(response).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str(), answer.reset), (413, "big", None));
        // RFC 9113 §8.1: a complete answer, then a reset without an error.
        assert_eq!(reset(&mut stream).await, Reason::NO_ERROR);
        assert_eq!(client.get("/next").await.text(), "ok");
    }
    until("nothing is left at the node", || proxy.node(node.address).inflight() == 0).await;
}

#[tokio::test]
async fn a_stream_that_the_client_resets_leaves_its_node_and_the_others_alone() {
    let node = TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            if request.line.contains("/slow") {
                peer.closed().await;
            } else {
                peer.respond(200, "ok").await;
            }
        }
    })
    .await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let mut client = Http2::connect(proxy.address).await;
    let (response, mut stream) = client.begin(request("GET", "/slow"), true).await;
    until("the node works", || proxy.node(node.address).inflight() == 1).await;
    stream.send_reset(Reason::CANCEL);
    drop(response);
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
    assert_eq!(client.get("/next").await.text(), "ok");
    assert_eq!(node.connections.load(Ordering::SeqCst), 2, "a connection that was left is not used again");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let node = TestNode::answering("ok").await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let mut client = Http2::connect(proxy.address).await;
    let mut ask = request("GET", "/");
    for number in 0..70 {
        let name = http::HeaderName::from_bytes(format!("x-{number}").as_bytes()).expect("a name");
        ask.headers_mut().insert(name, HeaderValue::from_str(&"v".repeat(1000)).expect("a value"));
    }
    let (response, _) = client.begin(ask, true).await;
    assert_eq!(answer(response).await.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(client.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_first_bytes_decide_however_they_come() {
    let node = TestNode::answering("ok").await;
    let proxy = Proxy::with(&format!("{}\n[limits]\nhead = \"400ms\"", app(&[node.address], "")));
    let mut slow = Client::connect(proxy.address).await;
    for piece in ["P", "O", "ST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"] {
        slow.send(piece).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(slow.response("POST").await.expect("a response").status, 200);
    let mut preface = Client::connect(proxy.address).await;
    for byte in crate::support::http2::PREFACE.chunks(1) {
        preface.send(byte).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    preface.send(crate::support::http2::frame(4, 0, 0, &[])).await;
    assert_eq!(preface.bytes(9).await.expect("settings")[3], 4);
    for part in ["P", "PR", "PRI * HT"] {
        let mut stuck = Client::connect(proxy.address).await;
        stuck.send(part).await;
        assert!(stuck.closed().await.len() < 100, "no more than a goodbye to {part:?}");
    }
}

#[tokio::test]
async fn a_head_may_be_as_large_as_over_http_1_and_what_is_larger_is_told_by_its_kind() {
    let node = TestNode::answering("ok").await;
    let proxy = single(&[node.address], "[limits]\nhead_size = \"8KiB\"");
    let mut client = Strict::connect(proxy.address, &[]).await;
    let path = |length: usize| format!("/{}", "x".repeat(length));
    let field = |length: usize| "y".repeat(length);
    for (id, path, field, status, code) in [
        (1, path(1), field(7_900), 200, None),
        (3, path(7_900), field(1), 200, None),
        (5, path(1), field(8_300), 431, Some("head-size")),
        (7, path(8_300), field(1), 414, Some("target-size")),
        (9, path(16_000), field(1), 414, Some("target-size")),
        (11, path(4_500), field(4_500), 431, Some("head-size")),
    ] {
        let block = head("GET", &path, &[("x-field", &field)]);
        let (first, rest) = block.split_at(block.len().min(16_000));
        client.send([frame(HEADERS, 1, id, first), frame(CONTINUATION, 4, id, rest)].concat()).await;
        let answer = client.answer(id).await;
        assert_eq!((answer.status(), answer.header("x-sluice-error")), (status, code), "{id}");
    }
}
