//! HTTP/1 and HTTP/2 on either side of the proxy: each test runs in all four combinations, with hyper on both ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::support::any::{Alive, AnyClient, AnyNode, Body, COMBINATIONS, before, empty, full, streamed, whole};
use crate::support::{PATIENCE, settled, until};

/// Bytes that may lie between two ends: socket buffers, windows, and what the proxy holds of one message.
const BETWEEN: usize = 40 << 20;

fn answer(status: u16, body: Body) -> Response<Body> {
    Response::builder().status(status).body(body).expect("a response")
}

/// Sends back what comes, as it comes, with its trailers.
fn echo(request: Request<Incoming>) -> Response<Body> {
    let (mut sender, out) = streamed();
    tokio::spawn(async move {
        let mut body = request.into_body();
        let mut trailers = HeaderMap::new();
        while let Some(frame) = body.frame().await {
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(data)) => {
                    if sender.send_data(data).await.is_err() {
                        return;
                    }
                }
                Ok(Err(frame)) => trailers = frame.into_trailers().expect("trailers"),
                Err(error) => return sender.abort(error.into()),
            }
        }
        trailers.insert("x-end", HeaderValue::from_static("here"));
        let _ = sender.send_trailers(trailers).await;
    });
    let mut response = answer(200, out);
    response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum, x-end"));
    response
}

#[tokio::test]
async fn each_piece_goes_there_and_back_before_the_next_is_sent() {
    for (front, speaks) in COMBINATIONS {
        let node = AnyNode::start(speaks, |request| async { echo(request) }).await;
        let proxy = before(&node, speaks, "");
        let mut client = AnyClient::connect(front, proxy.address).await;
        for _ in 0..2 {
            let headers = [("te", "trailers"), ("trailer", "x-sum"), ("connection", "te")];
            // The Trailer field is what lets them onto an HTTP/1 connection.
            let headers = if matches!(client, AnyClient::One(_)) { &headers[..] } else { &headers[..2] };
            let (mut up, response) = client.begin("POST", "/", headers);
            up.send_data(Bytes::from_static(b"piece 0")).await.expect("the proxy reads");
            let response = response.await.expect("an answer before the end of the upload");
            let mut down = response.into_body();
            for number in 1..20 {
                let frame = timeout(PATIENCE, down.frame()).await.expect("a piece in time");
                let data = frame.expect("a piece").expect("no error").into_data().expect("data");
                assert_eq!(data, format!("piece {}", number - 1), "{front:?} {speaks:?}");
                up.send_data(Bytes::from(format!("piece {number}"))).await.expect("the proxy reads");
            }
            up.send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("20"))]))
                .await
                .expect("the proxy reads");
            drop(up);
            let last = down.collect().await.expect("the rest");
            let trailers = last.trailers().cloned().unwrap_or_default();
            assert_eq!(last.to_bytes(), "piece 19");
            assert_eq!(trailers.get("x-sum"), Some(&HeaderValue::from_static("20")), "{front:?} {speaks:?}");
            assert_eq!(trailers.get("x-end"), Some(&HeaderValue::from_static("here")), "{front:?} {speaks:?}");
            if !client.is_ready().await {
                // hyper's client may close an HTTP/1 connection whose answer came early.
                client = AnyClient::connect(front, proxy.address).await;
            }
        }
        until("the node is free", || proxy.node(node.address).inflight() == 0).await;
        assert_eq!(proxy.node(node.address).totals().1, 0, "nobody is to blame");
    }
}

#[tokio::test]
async fn huge_bodies_go_both_ways_at_once() {
    const PIECE: usize = 64 << 10;
    const PIECES: usize = 512;
    for (front, speaks) in COMBINATIONS {
        let node = AnyNode::start(speaks, |request| async { echo(request) }).await;
        let proxy = before(&node, speaks, "");
        let mut client = AnyClient::connect(front, proxy.address).await;
        let (mut up, response) = client.begin("POST", "/", &[]);
        let upload = async move {
            for number in 0..PIECES {
                up.send_data(Bytes::from(vec![number as u8; PIECE])).await.expect("the proxy reads");
            }
        };
        let download = async {
            let mut body = response.await.expect("an answer").into_body();
            let mut at = 0;
            while let Some(frame) = timeout(PATIENCE, body.frame()).await.expect("in time") {
                if let Ok(data) = frame.expect("no error").into_data() {
                    for (offset, byte) in data.iter().enumerate().step_by(1000) {
                        assert_eq!(usize::from(*byte), (at + offset) / PIECE % 256);
                    }
                    at += data.len();
                }
            }
            at
        };
        let ((), received) = tokio::join!(upload, download);
        assert_eq!(received, PIECE * PIECES, "{front:?} {speaks:?}");
    }
}

#[tokio::test]
async fn a_slow_reader_holds_the_other_end_back_in_both_directions() {
    const TOTAL: usize = 64 << 20;
    for (front, speaks) in COMBINATIONS {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let node = AnyNode::start(speaks, move |request| {
            let count = Arc::clone(&count);
            async move {
                if request.method() == Method::POST {
                    // Takes nothing of the upload before its time.
                    sleep(Duration::from_millis(1500)).await;
                    let taken = request.into_body().collect().await.expect("the upload").to_bytes().len();
                    return answer(200, full(taken.to_string()));
                }
                let (mut sender, out) = streamed();
                tokio::spawn(async move {
                    for _ in 0..TOTAL >> 16 {
                        if sender.send_data(Bytes::from(vec![7; 1 << 16])).await.is_err() {
                            return;
                        }
                        count.fetch_add(1 << 16, Ordering::SeqCst);
                    }
                });
                answer(200, out)
            }
        })
        .await;
        let proxy = before(&node, speaks, "");
        let mut client = AnyClient::connect(front, proxy.address).await;
        let (up, response) = client.begin("GET", "/", &[]);
        drop(up);
        let response = response.await.expect("an answer");
        let ahead = settled(&sent, Duration::from_millis(700)).await;
        assert!(ahead < BETWEEN, "{front:?} {speaks:?}: {ahead} bytes are on their way");
        drop(response);
        until("the node is free", || proxy.node(node.address).inflight() == 0).await;
        let mut client = AnyClient::connect(front, proxy.address).await;
        let uploaded = AtomicUsize::new(0);
        let (mut up, response) = client.begin("POST", "/", &[]);
        let upload = async {
            for _ in 0..TOTAL >> 16 {
                up.send_data(Bytes::from(vec![7; 1 << 16])).await.expect("the proxy reads");
                uploaded.fetch_add(1 << 16, Ordering::SeqCst);
            }
            drop(up);
        };
        let watch = async {
            sleep(Duration::from_secs(1)).await;
            let ahead = uploaded.load(Ordering::SeqCst);
            assert!(ahead < BETWEEN, "{front:?} {speaks:?}: {ahead} bytes are on their way up");
        };
        let ((), (), response) = tokio::join!(upload, watch, response);
        assert_eq!(whole(response.expect("an answer")).await.text(), TOTAL.to_string());
    }
}

#[tokio::test]
async fn an_abort_by_the_node_is_never_a_whole_answer() {
    for (front, speaks) in COMBINATIONS {
        let node = AnyNode::start(speaks, |request: Request<Incoming>| async move {
            let (mut sender, out) = streamed();
            let path = request.uri().path().to_owned();
            if path == "/fine" {
                return answer(200, full("fine"));
            }
            tokio::spawn(async move {
                let _ = sender.send_data(Bytes::from_static(b"hello")).await;
                sleep(Duration::from_millis(30)).await;
                sender.abort("the node's own trouble".into());
            });
            let mut response = answer(200, out);
            if path == "/length" {
                response.headers_mut().insert("content-length", HeaderValue::from_static("10"));
            }
            response
        })
        .await;
        let proxy = before(&node, speaks, "");
        for path in ["/length", "/chunked"] {
            let mut client = AnyClient::connect(front, proxy.address).await;
            let broken = client.ask("GET", path, None).await;
            assert!(broken.broken && broken.body.len() <= 5, "{front:?} {speaks:?} {path}: {broken:?}");
            if matches!(client, AnyClient::Two(_)) {
                assert_eq!(client.ask("GET", "/fine", None).await.text(), "fine", "the connection lives on");
            }
        }
        until("the node is free", || proxy.node(node.address).inflight() == 0).await;
        assert_eq!(proxy.node(node.address).totals().1, 2, "{front:?} {speaks:?}: the node is blamed, once each");
    }
}

#[tokio::test]
async fn an_abort_by_the_client_reaches_the_node() {
    for (front, speaks) in COMBINATIONS {
        let alive = Alive::default();
        let (told, mut heard) = mpsc::unbounded_channel();
        let node = AnyNode::start(speaks, {
            let alive = alive.clone();
            move |request: Request<Incoming>| {
                let (alive, told) = (alive.clone(), told.clone());
                async move {
                    let life = alive.begin();
                    let (mut sender, out) = streamed();
                    let path = request.uri().path().to_owned();
                    if path == "/up" {
                        let mut body = request.into_body();
                        let first = body.frame().await;
                        assert!(first.is_some_and(|frame| frame.is_ok()));
                        let _ = told.send(None);
                        let rest = body.collect().await;
                        let _ = told.send(Some(rest.is_ok()));
                        drop(life);
                        return answer(200, empty());
                    }
                    tokio::spawn(async move {
                        let _life = life;
                        while sender.send_data(Bytes::from_static(b"hello")).await.is_ok() {
                            sleep(Duration::from_millis(5)).await;
                        }
                    });
                    answer(200, out)
                }
            }
        })
        .await;
        let proxy = before(&node, speaks, "");
        // While the answer flows.
        let mut client = AnyClient::connect(front, proxy.address).await;
        let (up, response) = client.begin("GET", "/down", &[]);
        drop(up);
        let response = response.await.expect("an answer");
        assert_eq!(alive.count(), 1);
        drop(response);
        if matches!(client, AnyClient::One(_)) {
            drop(client);
        }
        until("the node's answer was given up", || alive.count() == 0).await;
        // In the middle of an upload.
        let mut client = AnyClient::connect(front, proxy.address).await;
        let (mut up, response) = client.begin("POST", "/up", &[]);
        let response = tokio::spawn(response);
        up.send_data(Bytes::from_static(b"a part")).await.expect("the proxy reads");
        assert_eq!(timeout(PATIENCE, heard.recv()).await.expect("in time"), Some(None));
        up.abort("the client's own trouble".into());
        let whole = timeout(PATIENCE, heard.recv()).await.expect("in time");
        // A node that is reset may not even run to the end of its body.
        assert_ne!(whole, Some(Some(true)), "{front:?} {speaks:?}: a part of an upload looked whole");
        let _ = response.await;
        until("the node is free", || proxy.node(node.address).inflight() == 0).await;
        assert_eq!(proxy.node(node.address).totals().1, 0, "{front:?} {speaks:?}: it is not the node's fault");
    }
}

#[tokio::test]
async fn an_early_answer_comes_although_the_upload_goes_on() {
    for (front, speaks) in COMBINATIONS {
        let node = AnyNode::start(speaks, |request: Request<Incoming>| async move {
            drop(request);
            answer(413, full("too much"))
        })
        .await;
        let proxy = before(&node, speaks, "");
        for length in [true, false] {
            let mut client = AnyClient::connect(front, proxy.address).await;
            let headers = if length { &[("content-length", "10000000")][..] } else { &[] };
            let (mut up, response) = client.begin("POST", "/", headers);
            let upload = async move {
                // As long as somebody takes it.
                for _ in 0..100 {
                    if up.send_data(Bytes::from(vec![b'x'; 100_000])).await.is_err() {
                        break;
                    }
                }
            };
            let ((), response) = tokio::join!(upload, response);
            let all = whole(response.expect("the node's answer")).await;
            let case = format!("{front:?} {speaks:?} with length: {length}");
            assert_eq!((all.status, all.text(), all.broken), (413, "too much", false), "{case}");
        }
        until("the node is free", || proxy.node(node.address).inflight() == 0).await;
    }
}

#[tokio::test]
async fn answers_without_a_body_have_none_and_the_connection_goes_on() {
    for (front, speaks) in COMBINATIONS {
        let node = AnyNode::start(speaks, |request: Request<Incoming>| async move {
            match request.uri().path() {
                "/204" => answer(204, empty()),
                "/304" => answer(304, empty()),
                "/empty" => answer(200, empty()),
                // Not every server leaves out by itself what HEAD does not want.
                _ if request.method() == Method::HEAD => {
                    let mut response = answer(200, empty());
                    response.headers_mut().insert("content-length", HeaderValue::from_static("5"));
                    response
                }
                _ => answer(200, full("hello")),
            }
        })
        .await;
        let proxy = before(&node, speaks, "");
        let mut client = AnyClient::connect(front, proxy.address).await;
        for _ in 0..3 {
            for (method, path, status, body) in [
                ("GET", "/204", 204, ""),
                ("GET", "/304", 304, ""),
                ("GET", "/empty", 200, ""),
                ("HEAD", "/", 200, ""),
                ("HEAD", "/empty", 200, ""),
                ("GET", "/", 200, "hello"),
                ("POST", "/empty", 200, ""),
                ("DELETE", "/204", 204, ""),
            ] {
                let all = client.ask(method, path, (method == "POST").then_some(b"body")).await;
                let case = format!("{front:?} {speaks:?} {method} {path}");
                assert_eq!((all.status, all.text(), all.broken), (status, body, false), "{case}");
                if (method, path) == ("HEAD", "/") {
                    assert_eq!(all.headers.get("content-length"), Some(&HeaderValue::from_static("5")), "{case}");
                }
                if status == 204 {
                    assert_eq!(all.headers.get("content-length"), None, "{case}");
                }
                assert_eq!(all.headers.get("transfer-encoding"), None, "{case}");
            }
        }
        assert_eq!(proxy.node(node.address).totals(), (24, 0));
    }
}

#[tokio::test]
async fn every_event_of_a_source_leaves_at_once() {
    for (front, speaks) in COMBINATIONS {
        let (ask, asked) = mpsc::channel::<()>(1);
        let asked = Arc::new(tokio::sync::Mutex::new(asked));
        let node = AnyNode::start(speaks, move |_| {
            let asked = Arc::clone(&asked);
            async move {
                let (mut sender, out) = streamed();
                tokio::spawn(async move {
                    let mut asked = asked.lock().await;
                    let mut number = 0;
                    while asked.recv().await.is_some() {
                        number += 1;
                        if sender.send_data(Bytes::from(format!("data: {number}\n\n"))).await.is_err() {
                            return;
                        }
                    }
                });
                let mut response = answer(200, out);
                response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
                response
            }
        })
        .await;
        let proxy = before(&node, speaks, "");
        let mut client = AnyClient::connect(front, proxy.address).await;
        let (up, response) = client.begin("GET", "/", &[("accept", "text/event-stream")]);
        drop(up);
        let mut body = response.await.expect("an answer").into_body();
        for number in 1..50 {
            ask.send(()).await.expect("a source");
            let frame = timeout(PATIENCE, body.frame()).await.expect("an event before the next is asked for");
            let data = frame.expect("an event").expect("no error").into_data().expect("data");
            assert_eq!(data, format!("data: {number}\n\n"), "{front:?} {speaks:?}");
        }
        drop(ask);
        let rest = timeout(PATIENCE, body.collect()).await.expect("in time").expect("a clean end");
        assert!(rest.to_bytes().is_empty(), "the end of the source is the end of the answer");
    }
}
