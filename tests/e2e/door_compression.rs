//! Compression on the way out: what is compressed, what never is, and that nothing waits for it.

use std::time::Duration;

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZstdDecoder};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::support::client::{Client, Response};
use crate::support::node::TestNode;
use crate::support::{Proxy, app, until};

async fn decoded(response: &Response) -> Vec<u8> {
    let body = &response.body[..];
    let mut decoder: Box<dyn AsyncRead + Unpin> = match response.header("content-encoding") {
        Some("gzip") => Box::new(GzipDecoder::new(body)),
        Some("br") => Box::new(BrotliDecoder::new(body)),
        Some("zstd") => Box::new(ZstdDecoder::new(body)),
        other => panic!("{other:?}"),
    };
    let mut out = Vec::new();
    decoder.read_to_end(&mut out).await.expect("a whole body");
    out
}

/// Text that is worth the work, and not all the same.
fn text(bytes: usize) -> String {
    let mut out = String::new();
    let mut number = 0u64;
    while out.len() < bytes {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        out.extend(["line ", &(number >> 40).to_string(), " of the text\n"]);
    }
    out.truncate(bytes);
    out
}

/// Answers as the request's header `answer` says, with `\n` for line ends; the body is `text` of the size in the path.
async fn node() -> TestNode {
    TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let size: usize = request.line.split(['/', ' ']).nth(2).expect("a size").parse().expect("a number");
            let more = request.header("answer").unwrap_or("content-type: text/html").replace(';', "\r\n");
            let status = request.header("status").unwrap_or("200").to_owned();
            if request.header("chunked").is_some() {
                peer.send(format!("HTTP/1.1 {status} X\r\n{more}\r\ntransfer-encoding: chunked\r\n\r\n")).await;
                for piece in text(size).as_bytes().chunks(10_000) {
                    peer.send(format!("{:x}\r\n", piece.len())).await;
                    peer.send(piece).await;
                    peer.send("\r\n").await;
                }
                peer.send("0\r\n\r\n").await;
            } else {
                let body = if request.line.starts_with("HEAD") || status == "304" || status == "204" {
                    String::new()
                } else {
                    text(size)
                };
                let length = if status == "204" { String::new() } else { format!("content-length: {size}\r\n") };
                peer.send(format!("HTTP/1.1 {status} X\r\n{more}\r\n{length}\r\n{body}")).await;
            }
        }
    })
    .await
}

async fn ask(client: &mut Client, line: &str, more: &str) -> Response {
    client.send(format!("{line} HTTP/1.1\r\nhost: a\r\n{more}\r\n")).await;
    client.response(line.split(' ').next().expect("a method")).await.expect("an answer")
}

#[tokio::test]
async fn every_coding_gives_back_what_the_node_sent() {
    let node = node().await;
    let proxy = Proxy::with(&app(&[node.address], "compression = {}"));
    let mut client = Client::connect(proxy.address).await;
    for coding in ["gzip", "br", "zstd"] {
        for size in [1024, 5000, 60_000, 3_000_000] {
            for chunked in ["", "chunked: 1\r\n"] {
                let more = format!("accept-encoding: {coding}\r\n{chunked}");
                let response = ask(&mut client, &format!("GET /{size}"), &more).await;
                assert_eq!((response.status, response.header("content-encoding")), (200, Some(coding)));
                assert!(response.body.len() < size / 2, "{coding} {size}: {}", response.body.len());
                assert_eq!(decoded(&response).await, text(size).as_bytes(), "{coding} {size} {chunked}");
                assert_eq!(response.header("vary"), Some("accept-encoding"));
            }
        }
    }
}

#[tokio::test]
async fn a_compressed_answer_is_another_one_to_caches() {
    let node = node().await;
    let proxy = Proxy::with(&app(&[node.address], "compression = {}"));
    let mut client = Client::connect(proxy.address).await;
    let fields = "answer: content-type: Text/HTML ; charset=utf-8;etag: \"v1\";accept-ranges: bytes;vary: Cookie\r\n";
    let fields = fields.replace(" ; charset=utf-8", "");
    let gzip = ask(&mut client, "GET /5000", &format!("{fields}accept-encoding: gzip\r\n")).await;
    assert_eq!((gzip.header("etag"), gzip.header("accept-ranges")), (Some("W/\"v1\""), None));
    assert_eq!(gzip.headers.iter().filter(|(name, _)| name == "vary").count(), 2);
    let plain = ask(&mut client, "GET /5000", &fields).await;
    assert_eq!((plain.header("content-encoding"), plain.header("etag")), (None, Some("\"v1\"")));
    assert!(plain.headers.contains(&("vary".into(), "accept-encoding".into())));
    assert_eq!(plain.body.len(), 5000);
    // HEAD tells what GET would, and 304 which of its answers a cache may go on using.
    let head = ask(&mut client, "HEAD /5000", &format!("{fields}accept-encoding: gzip, identity\r\n")).await;
    assert_eq!((head.header("etag"), head.header("content-encoding")), (Some("W/\"v1\""), Some("gzip")));
    assert_eq!((head.header("content-length"), head.header("accept-ranges")), (None, None));
    assert!(head.headers.contains(&("vary".into(), "accept-encoding".into())));
    let same = ask(&mut client, "GET /5000", "status: 304\r\nanswer: etag: \"v1\"\r\naccept-encoding: gzip\r\n").await;
    assert_eq!(
        (same.status, same.header("etag"), same.header("vary")),
        (304, Some("W/\"v1\""), Some("accept-encoding"))
    );
    assert_eq!((same.header("content-encoding"), same.body.len()), (None, 0));
    let plain = ask(&mut client, "GET /5000", "status: 304\r\nanswer: etag: \"v1\"\r\n").await;
    assert_eq!((plain.header("etag"), plain.header("vary")), (Some("\"v1\""), Some("accept-encoding")));
}

#[tokio::test]
async fn what_must_not_be_compressed_goes_as_it_is() {
    let node = node().await;
    let proxy = Proxy::with(&app(&[node.address], "compression = { least = \"2KiB\" }"));
    let mut client = Client::connect(proxy.address).await;
    for (line, more) in [
        ("GET /2000", ""),
        ("GET /5000", "answer: content-type: image/png\r\n"),
        ("GET /5000", "answer: content-type: application/grpc\r\n"),
        ("GET /5000", "answer: content-type: text/event-stream\r\n"),
        ("GET /5000", "answer: content-type: text/html;content-encoding: br\r\n"),
        ("GET /5000", "answer: content-type: text/html;cache-control: public, no-transform\r\n"),
        ("GET /5000", "cache-control: no-transform\r\n"),
        ("GET /5000", "status: 206\r\nanswer: content-type: text/html;content-range: bytes 0-4999/9999\r\n"),
        ("HEAD /2000", ""),
        ("GET /5000", "status: 304\r\n"),
        ("GET /0", "status: 204\r\n"),
        ("GET /5000", "answer: x-no: type\r\n"),
        ("GET /5000", "accept-encoding: gzip;q=0\r\n"),
        ("GET /5000", "accept-encoding: gzip;q=0.5, identity\r\n"),
    ] {
        let accept = if more.contains("accept-encoding") { "" } else { "accept-encoding: gzip, br, zstd\r\n" };
        let response = ask(&mut client, line, &format!("{accept}{more}")).await;
        let coding = response.header("content-encoding").filter(|coding| *coding != "br" || !more.contains("br"));
        assert_eq!(coding, None, "{line} {more}");
        if line.starts_with("GET") && !more.contains("status: 304") {
            let size: usize = line.split('/').nth(1).expect("a size").parse().expect("a number");
            assert_eq!(response.body.len(), size, "{line} {more}");
        }
    }
}

#[tokio::test]
async fn what_has_come_so_far_leaves_at_once() {
    let (sender, receiver) = tokio::sync::watch::channel(0);
    let node = TestNode::start(move |mut peer| {
        let mut turn = receiver.clone();
        async move {
            peer.request().await;
            peer.send(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntrailer: x-end\r\ntransfer-encoding: chunked\r\n\r\n",
            )
            .await;
            for number in 1..=3 {
                turn.wait_for(|turn| *turn >= number).await.expect("a turn");
                peer.send(format!("7\r\npiece {number}\r\n")).await;
            }
            turn.wait_for(|turn| *turn >= 4).await.expect("a turn");
            peer.send("0\r\nx-end: yes\r\n\r\n").await;
        }
    })
    .await;
    let proxy = Proxy::with(&app(&[node.address], "compression = { least = \"0B\" }"));
    for coding in ["gzip", "br", "zstd"] {
        sender.send_replace(0);
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\naccept-encoding: {coding}\r\n\r\n")).await;
        let head = client.head().await.expect("a head");
        assert_eq!(head.header("content-encoding"), Some(coding));
        let (feed, fed) = tokio::io::duplex(1 << 16);
        let mut feed = feed;
        let fed = tokio::io::BufReader::new(fed);
        let mut decoder: Box<dyn AsyncRead + Unpin + Send> = match coding {
            "gzip" => Box::new(GzipDecoder::new(fed)),
            "br" => Box::new(BrotliDecoder::new(fed)),
            _ => Box::new(ZstdDecoder::new(fed)),
        };
        // Each piece can be read before the next one is sent.
        for number in 1..=3 {
            sender.send_replace(number);
            let mut piece = [0; 7];
            let mut read = std::pin::pin!(decoder.read_exact(&mut piece));
            loop {
                tokio::select! {
                    biased;
                    result = &mut read => {
                        result.expect("a piece");
                        break;
                    }
                    chunk = client.chunk() => {
                        tokio::io::AsyncWriteExt::write_all(&mut feed, &chunk.expect("a chunk")).await.expect("space");
                    }
                }
            }
            assert_eq!(piece, *format!("piece {number}").as_bytes());
        }
        sender.send_replace(4);
        while client.chunk().await.is_some() {}
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_taken_for_the_whole() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000000\r\n\r\n").await;
        peer.send(text(300_000)).await;
    })
    .await;
    let proxy = Proxy::with(&app(&[node.address], "compression = {}"));
    for coding in ["gzip", "br", "zstd"] {
        let mut client = Client::connect(proxy.address).await;
        let response = ask(&mut client, "GET /", &format!("accept-encoding: {coding}\r\n")).await;
        assert!(response.truncated, "{coding}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_node_back() {
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&sent);
    let node = TestNode::start(move |mut peer| {
        let count = std::sync::Arc::clone(&count);
        async move {
            peer.request().await;
            peer.send("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000000000\r\n\r\n").await;
            let mut noise = vec![0u8; 1 << 20];
            loop {
                // Hardly to be compressed.
                for byte in &mut noise {
                    *byte = fastrand::u8(b'!'..b'~');
                }
                if tokio::io::AsyncWriteExt::write_all(&mut peer.stream, &noise).await.is_err() {
                    return;
                }
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
    })
    .await;
    let proxy =
        Proxy::with_workers(&app(&[node.address], "compression = { codings = [\"gzip\"] }\ntimeouts.body = \"2s\""), 1);
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n").await;
    until("the node is cut off", || proxy.node(node.address).inflight() == 0 && !node.requests().is_empty()).await;
    let megabytes = sent.load(std::sync::atomic::Ordering::SeqCst);
    assert!(megabytes < 100, "{megabytes} MiB were taken although nobody read");
    tokio::time::sleep(Duration::ZERO).await;
}
