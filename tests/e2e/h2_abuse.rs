//! Clients that use HTTP/2 to do harm (CVE-2023-44487, CVE-2025-8671, CVE-2024-27316, CVE-2019-9511 to 9518): each is ended
//! within a bound, and a client on the same worker does not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::control::single;
use crate::support::http2::{Http2, PREFACE, RawFrames, field, frame, get};
use crate::support::node::TestNode;
use crate::support::{Proxy, until};

const ENHANCE_YOUR_CALM: u32 = 11;

/// A client that makes requests one after another until it is stopped.
struct Bystander(tokio::task::JoinHandle<usize>, Arc<AtomicBool>);

impl Bystander {
    async fn start(proxy: &Proxy) -> Self {
        let mut client = Http2::connect(proxy.address).await;
        assert_eq!(client.get("/fine").await.text(), "fine");
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut answers = 0;
            while !told.load(Ordering::Relaxed) {
                let answer = client.get("/fine").await;
                assert_eq!((answer.text().as_str(), answer.reset), ("fine", None));
                answers += 1;
            }
            answers
        });
        Self(task, stop)
    }

    /// It got every answer, and some.
    async fn stays_fine(self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.1.store(true, Ordering::Relaxed);
        assert!(self.0.await.expect("every answer was right") > 0);
    }
}

/// `/fine` is answered at once, `/slow` never, everything else with a large body.
async fn node() -> TestNode {
    TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            match request.line.split(' ').nth(1) {
                Some("/fine") => peer.respond(200, "fine").await,
                Some("/slow") => return peer.closed().await,
                _ => {
                    let body = "x".repeat(200_000);
                    peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
                }
            }
        }
    })
    .await
}

fn abusive(proxy: &Proxy) -> u64 {
    proxy.pool.stats().iter().map(|stats| stats.abusive.get()).sum()
}

/// Sends this for as long as the proxy takes it, and returns how many times that was.
async fn flood(client: &mut RawFrames, most: usize, mut next: impl FnMut(u32) -> Vec<u8>) -> usize {
    for number in 0..most {
        if !client.send(next(number as u32)).await {
            return number;
        }
    }
    most
}

#[tokio::test]
async fn frames_without_a_use_end_their_sender() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let bystander = Bystander::start(&proxy).await;
    let block = [0x82, 0x86, 0x84];
    let floods: [(&str, Vec<u8>); 8] = [
        ("ping", frame(6, 0, 0, &[7; 8])),
        ("settings", frame(4, 0, 0, &[0, 4, 0, 0, 0xFF, 0xFF])),
        ("empty settings", frame(4, 0, 0, &[])),
        ("priority", frame(2, 0, 5, &[0, 0, 0, 3, 9])),
        ("window update", frame(8, 0, 0, &[0, 0, 0, 1])),
        ("unknown", frame(0x42, 0, 0, &[1])),
        ("empty data", frame(0, 0, 1, &[])),
        ("continuation", frame(9, 0, 1, &[])),
    ];
    for (what, one) in floods {
        let mut client = RawFrames::connect(proxy.address, &[]).await;
        match what {
            // On a stream that stays open, whose node never answers.
            "empty data" => {
                let open = [&block[..], &field(":authority", "app.test")].concat();
                client.send(frame(1, 0x4, 1, &open)).await;
            }
            "continuation" => {
                client.send(frame(1, 0, 1, &block)).await;
            }
            _ => {}
        }
        let pieces = one.repeat(100);
        // A megabyte at most is taken, of which most lies in the kernel's buffers.
        let sent = flood(&mut client, 20_000, |_| pieces.clone()).await;
        assert!(sent < 20_000, "{what}: never ended");
    }
    // One of a head's frames never ends is over by its size.
    assert!(abusive(&proxy) >= 7, "{}", abusive(&proxy));
    bystander.stays_fine().await;
    assert_eq!(proxy.node(node.address).inflight(), 0);
}

#[tokio::test]
async fn streams_that_are_reset_at_once_end_their_client() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let bystander = Bystander::start(&proxy).await;
    // In one piece, so that the reset is there before the request is looked at; and each for itself.
    for together in [true, false] {
        let mut client = RawFrames::connect(proxy.address, &[]).await;
        for number in 0..3_000u32 {
            let id = 2 * number + 1;
            let reset = frame(3, 0, id, &[0, 0, 0, 8]);
            let fine = if together {
                client.send([get(id, "/slow"), reset].concat()).await
            } else {
                let fine = client.send(get(id, "/slow")).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                fine && client.send(reset).await
            };
            if !fine {
                break;
            }
        }
        // All of it may lie in the kernel's buffers before the proxy has its turn.
        assert!([None, Some(11)].contains(&client.goodbye().await), "together: {together}");
        until("the node is free", || proxy.node(node.address).inflight() == 0).await;
    }
    bystander.stays_fine().await;
    assert!(node.accepted() < 1_000, "most of it never reached the node: {}", node.accepted());
}

#[tokio::test]
async fn a_client_that_provokes_resets_ends_itself() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let bystander = Bystander::start(&proxy).await;
    let mut client = RawFrames::connect(proxy.address, &[]).await;
    // A window update of nothing is a stream error: the proxy resets, and the stream no longer counts (MadeYouReset).
    let sent = flood(&mut client, 20_000, |number| {
        let id = 2 * number + 1;
        [get(id, "/slow"), frame(8, 0, id, &[0, 0, 0, 0])].concat()
    })
    .await;
    assert!(sent < 20_000, "never ended");
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
    bystander.stays_fine().await;
}

#[tokio::test]
async fn heads_that_blow_up_are_refused_and_end_their_client() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let bystander = Bystander::start(&proxy).await;
    let mut client = RawFrames::connect(proxy.address, &[]).await;
    client.send(frame(4, 1, 0, &[])).await;
    // One large field goes into the table once, and is then named by one byte, four thousand times (an HPACK bomb).
    let mut first = vec![0x82, 0x86, 0x84, 0x40, 1, b'x', 0x7F, 0xA1, 0x1E];
    first.extend(std::iter::repeat_n(b'y', 4_000));
    client.send(frame(1, 0x5, 1, &first)).await;
    let mut bomb = vec![0x82, 0x86, 0x84];
    bomb.extend(std::iter::repeat_n(0xBE, 4_000));
    let sent = flood(&mut client, 5_000, |number| frame(1, 0x5, 2 * number + 3, &bomb)).await;
    assert!(sent < 5_000, "never ended");
    let mut endless = RawFrames::connect(proxy.address, &[]).await;
    endless.send(frame(1, 0, 1, &[0x82, 0x86, 0x84])).await;
    let more = frame(9, 0, 1, &field("a", &"b".repeat(100)).repeat(150));
    let sent = flood(&mut endless, 5_000, |_| more.clone()).await;
    assert!(sent < 5_000, "never ended");
    bystander.stays_fine().await;
}

#[tokio::test]
async fn windows_that_hardly_open_cost_little_and_end_their_client() {
    let node = node().await;
    let proxy = single(&[node.address], "[service.app.timeouts]\nbody = \"500ms\"\nresponse = \"500ms\"");
    let bystander = Bystander::start(&proxy).await;
    // SETTINGS_INITIAL_WINDOW_SIZE = 0, a hundred large answers.
    let mut shut = RawFrames::connect(proxy.address, &[0, 4, 0, 0, 0, 0]).await;
    for number in 0..100 {
        shut.send(get(2 * number + 1, "/large")).await;
    }
    until("all are at work", || proxy.node(node.address).inflight() >= 100).await;
    assert_eq!(shut.goodbye().await, Some(ENHANCE_YOUR_CALM));
    until("the node is free", || proxy.node(node.address).inflight() <= 1).await;
    // One byte at a time.
    let mut trickle = RawFrames::connect(proxy.address, &[0, 4, 0, 0, 0, 1]).await;
    trickle.send(get(1, "/large")).await;
    let one = [frame(8, 0, 0, &[0, 0, 0, 1]), frame(8, 0, 1, &[0, 0, 0, 1])].concat();
    let sent = flood(&mut trickle, 100_000, |_| one.clone()).await;
    assert!(sent < 100_000, "never ended");
    bystander.stays_fine().await;
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_and_hold_no_node() {
    let node = node().await;
    let proxy = single(&[node.address], "[limits]\nstreams = 10");
    let mut client = RawFrames::connect(proxy.address, &[]).await;
    for number in 0..40 {
        client.send(get(2 * number + 1, "/slow")).await;
    }
    let mut refused = 0;
    while refused < 30 {
        let (kind, _, _, payload) = client.frame().await.expect("the connection goes on");
        refused += usize::from(kind == 3 && payload == [0, 0, 0, 7]);
    }
    until("those within the limit are at the node", || proxy.node(node.address).inflight() == 10).await;
    drop(client);
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
}

#[tokio::test]
async fn prefaces_that_are_wrong_or_alone_end_quickly() {
    let node = node().await;
    let proxy = single(&[node.address], "[limits]\nhead = \"300ms\"\nidle = \"500ms\"");
    for start in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"[..],
        &PREFACE[..20],
        PREFACE,
        &[PREFACE, &frame(6, 0, 0, &[0; 8])].concat(),
        &[PREFACE, &frame(4, 0, 0, &[0; 5])].concat(),
        &[PREFACE, &frame(4, 0, 7, &[])].concat(),
        &[PREFACE, &frame(1, 0x5, 2, &[0x82])].concat(),
        &[PREFACE, &[0xFF; 100]].concat(),
    ] {
        let stream = tokio::net::TcpStream::connect(proxy.address).await.expect("a connection");
        let mut client = RawFrames { stream };
        client.send(start).await;
        let _ = client.goodbye().await;
    }
    let mut client = Http2::connect(proxy.address).await;
    assert_eq!(client.get("/fine").await.text(), "fine");
}
