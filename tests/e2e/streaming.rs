//! Bodies flow as fast as the slower side takes them, and nothing of them piles up in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::client::Client;
use crate::support::node::TestNode;
use crate::support::{PATIENCE, Proxy, app, settled, until};

const TOTAL: usize = 100 << 20;
/// What may lie between the two ends: four socket buffers at the kernel's largest, and the proxy's own few hundred KB.
const BETWEEN: usize = 40 << 20;

#[tokio::test]
async fn a_slow_reader_holds_the_node_back() {
    for chunked in [false, true] {
        let written = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&written);
        let node = TestNode::start(move |mut peer| {
            let count = Arc::clone(&count);
            async move {
                peer.request().await;
                let piece = vec![b'x'; 1 << 16];
                let framing =
                    if chunked { "transfer-encoding: chunked".into() } else { format!("content-length: {TOTAL}") };
                peer.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n")).await;
                for _ in 0..TOTAL / piece.len() {
                    if chunked {
                        peer.send("10000\r\n").await;
                    }
                    peer.send(&piece).await;
                    if chunked {
                        peer.send("\r\n").await;
                    }
                    count.fetch_add(piece.len(), Ordering::SeqCst);
                }
                peer.send(if chunked { "0\r\n\r\n" } else { "" }).await;
                peer.closed().await;
            }
        })
        .await;
        let proxy = Proxy::with_workers(&app(&[node.address], ""), 1);
        let mut slow = Client::connect(proxy.address).await;
        slow.send("GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
        let ahead = settled(&written, Duration::from_secs(1)).await;
        assert!(ahead < BETWEEN, "{ahead} bytes are on their way");
        // Meanwhile the same worker serves others.
        let mut other = Client::connect(proxy.address).await;
        other.send("GET / HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n").await;
        assert_eq!(timeout(PATIENCE, other.head()).await.expect("in time").expect("a head").status, 200);
        drop(other);
        // And when the reader reads, everything comes.
        let whole = timeout(PATIENCE, slow.response("GET")).await.expect("in time").expect("a response");
        assert_eq!((whole.status, whole.body.len(), whole.truncated), (200, TOTAL, false));
        until("the node is free", || proxy.node(node.address).inflight() == 0).await;
    }
}

#[tokio::test]
async fn a_slow_node_holds_the_uploader_back() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let open = Arc::clone(&gate);
    let node = TestNode::start(move |mut peer| {
        let open = Arc::clone(&open);
        async move {
            peer.head().await;
            open.notified().await;
            let mut read = 0;
            let mut space = vec![0; 1 << 16];
            while read < TOTAL {
                match peer.stream.read(&mut space).await {
                    Ok(0) | Err(_) => return,
                    Ok(more) => read += more,
                }
                // What came with the head is not counted; the test sends that much more.
                if read >= TOTAL - (1 << 20) {
                    break;
                }
            }
            peer.respond(200, "thanks").await;
            peer.closed().await;
        }
    })
    .await;
    let proxy = Proxy::with_workers(&app(&[node.address], ""), 1);
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: {TOTAL}\r\n\r\n")).await;
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let (mut read, mut write) = client.stream.into_split();
    let upload = tokio::spawn(async move {
        let piece = vec![b'x'; 1 << 16];
        for _ in 0..TOTAL / piece.len() {
            if write.write_all(&piece).await.is_err() {
                break;
            }
            count.fetch_add(piece.len(), Ordering::SeqCst);
        }
        // Dropped here it would end the client's side, and the proxy would take the client for gone.
        write
    });
    let ahead = settled(&written, Duration::from_secs(1)).await;
    assert!(ahead < BETWEEN, "{ahead} bytes are on their way");
    gate.notify_one();
    let mut answer = [0; 12];
    timeout(PATIENCE, read.read_exact(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop(upload.await);
    drop(read);
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
}

#[tokio::test]
async fn request_and_response_flow_at_the_same_time() {
    let node = TestNode::start(|mut peer| async move {
        while peer.head().await.is_some() {
            peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            for _ in 10..60 {
                let chunk = peer.bytes(7).await.expect("a chunk with two bytes of data");
                peer.send(&chunk).await;
            }
            let end = peer.bytes(5).await.expect("the last chunk");
            peer.send(&end).await;
        }
    })
    .await;
    let proxy = Proxy::with(&app(&[node.address], ""));
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let head = timeout(PATIENCE, client.head()).await.expect("in time").expect("a head");
    assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")));
    for round in 10..60 {
        client.send(format!("2\r\n{round}\r\n")).await;
        let echo = timeout(PATIENCE, client.bytes(7)).await.expect("each piece comes back before the next is sent");
        assert_eq!(echo.as_deref(), Some(format!("2\r\n{round}\r\n").as_bytes()));
    }
    client.send("0\r\n\r\n").await;
    let end = timeout(PATIENCE, client.bytes(5)).await.expect("in time");
    assert_eq!(end.as_deref(), Some(&b"0\r\n\r\n"[..]));
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_reaches_the_client_and_frees_the_node() {
    let node = TestNode::start(|mut peer| async move {
        peer.head().await;
        peer.respond(413, "too much").await;
        peer.closed().await;
    })
    .await;
    let proxy = Proxy::with_workers(&app(&[node.address], ""), 1);
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: {TOTAL}\r\n\r\n")).await;
    client.send(vec![b'x'; 100_000]).await;
    let response = client.response("POST").await.expect("the answer");
    assert_eq!((response.status, response.text().as_str()), (413, "too much"));
    // It goes on sending what nobody wants any more; the connection does not stay for that.
    let push = async { while client.stream.write_all(&[b'x'; 10_000]).await.is_ok() {} };
    timeout(PATIENCE, push).await.expect("the connection ends");
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
}

#[tokio::test]
async fn an_upload_that_was_refused_may_be_sent_to_its_end() {
    // A client that writes everything before it reads must not find its connection reset, and the answer lost with it.
    let node = TestNode::answering("").await;
    let config = app(&[node.address], "").replace("\"*\"", "\"app.test\"");
    let proxy = Proxy::with_workers(&config, 1);
    let size = 30 << 20;
    for _ in 0..2 {
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("POST / HTTP/1.1\r\nhost: other.test\r\ncontent-length: {size}\r\n\r\n")).await;
        let body = vec![b'x'; size];
        timeout(PATIENCE, client.stream.write_all(&body)).await.expect("in time").expect("all of it is taken");
        assert_eq!(client.response("POST").await.expect("the answer").status, 404);
    }
}

#[tokio::test]
async fn an_upload_that_was_answered_at_length_may_be_sent_to_its_end() {
    let node = TestNode::start(|mut peer| async move {
        peer.head().await;
        peer.respond(413, &"no ".repeat(100_000)).await;
        // It reads nothing of the body.
        std::future::pending::<()>().await;
    })
    .await;
    let proxy = Proxy::with_workers(&app(&[node.address], ""), 1);
    let size = 30 << 20;
    for _ in 0..3 {
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: {size}\r\n\r\n")).await;
        let body = vec![b'x'; size];
        timeout(PATIENCE, client.stream.write_all(&body)).await.expect("in time").expect("all of it is taken");
        let response = client.response("POST").await.expect("the answer");
        assert_eq!((response.status, response.body.len(), response.truncated), (413, 300_000, false));
        until("the node is free", || proxy.node(node.address).inflight() == 0).await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        for at_once in [true, false] {
            let gate = Arc::new(tokio::sync::Notify::new());
            let open = Arc::clone(&gate);
            let node = TestNode::start(move |mut peer| {
                let open = Arc::clone(&open);
                async move {
                    peer.request().await;
                    peer.send(answer).await;
                    if !at_once {
                        open.notified().await;
                    }
                }
            })
            .await;
            let proxy = Proxy::with_workers(&app(&[node.address], ""), 1);
            let mut client = Client::connect(proxy.address).await;
            client.send("GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
            let head = timeout(PATIENCE, client.head()).await.expect("in time").expect("a head");
            gate.notify_one();
            let body = String::from_utf8_lossy(&if head.status == 502 { Vec::new() } else { client.closed().await })
                .into_owned();
            // What comes at once can still be told; after that, only the end of the connection can tell.
            let told = head.status == 502 && head.header("x-sluice-error") == Some("bad-response");
            assert!(told || (body.len() < 20 && !body.ends_with("0\r\n\r\n")), "{answer:?}: {head:?} {body:?}");
            until("the node is free", || proxy.node(node.address).inflight() == 0).await;
            assert_eq!(proxy.node(node.address).totals().1, 1, "the node is blamed once");
        }
    }
}
