//! Bodies of requests: what a client is given of the windows comes back for every byte, however it was spent.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::support::control::single;
use crate::support::frames::{CANCEL, DATA, END_STREAM, NO_ERROR, REFUSED_STREAM, post, reset};
use crate::support::http2::{frame, get};
use crate::support::node::TestNode;
use crate::support::strict::Strict;
use crate::support::{Proxy, until};

/// Answers with the size and the sum of a body; `/early` before it has read it, and `/slow` never.
async fn node() -> TestNode {
    TestNode::start(|mut peer| async move {
        while let Some(head) = peer.head().await {
            if head.line.contains("/early") {
                peer.send("HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig").await;
                return;
            }
            if head.line.contains("/slow") {
                return peer.closed().await;
            }
            let Some((size, sum)) = body(&mut peer, &head).await else { return };
            peer.respond(200, &format!("{size} {sum}")).await;
        }
    })
    .await
}

/// Reads a body, and keeps its size and its sum.
pub(super) async fn body(
    peer: &mut crate::support::node::Peer,
    head: &crate::support::node::Request,
) -> Option<(usize, u64)> {
    let add = |(size, sum): (usize, u64), data: &[u8]| {
        (size + data.len(), data.iter().fold(sum, |sum, byte| sum * 31 % 1_000_003 + u64::from(*byte)))
    };
    if let Some(length) = head.header("content-length") {
        let data = peer.bytes(length.parse().expect("a length")).await?;
        return Some(add((0, 0), &data));
    }
    if head.header("transfer-encoding").is_none() {
        // It was known to be empty before the head went out.
        return Some((0, 0));
    }
    let mut so_far = (0, 0);
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(peer.bytes(1).await?);
        }
        let size = std::str::from_utf8(&line).expect("a size").trim();
        let size = usize::from_str_radix(size, 16).expect("a size");
        so_far = add(so_far, &peer.bytes(size).await?);
        assert_eq!(peer.bytes(2).await?, b"\r\n");
        if size == 0 {
            return Some(so_far);
        }
    }
}

pub(super) fn told(data: &[u8]) -> String {
    let sum = data.iter().fold(0, |sum, byte| sum * 31 % 1_000_003 + u64::from(*byte));
    format!("{} {sum}", data.len())
}

fn data(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 11 / 5 % 251) as u8).collect()
}

async fn setup(more: &str) -> (TestNode, Proxy, Strict) {
    let node = node().await;
    let proxy = single(&[node.address], more);
    let client = Strict::connect(proxy.address, &[]).await;
    (node, proxy, client)
}

#[tokio::test]
async fn every_byte_of_a_window_comes_back_padding_too() {
    let (_node, _proxy, mut client) = setup("").await;
    // Most are more than the windows of a stream and of a connection together. Small frames are few: many at once are abuse.
    for (number, (size, piece, padding)) in
        [(3_000_000, 16_384, 0), (90, 1, 0), (700_000, 256, 255), (2_000_000, 16_000, 200), (0, 1, 255)]
            .into_iter()
            .enumerate()
    {
        let id = 2 * number as u32 + 1;
        let body = data(size);
        client.send(post(id, "/sum")).await;
        client.upload(id, &body, (piece, padding), false).await;
        let answer = client.answer(id).await;
        assert_eq!((answer.status(), answer.text()), (200, told(&body)), "{size} by {piece} and {padding}");
    }
    // With an end of its own, which brings nothing.
    client.send(post(101, "/sum")).await;
    for _ in 0..1_200 {
        client.run("a window", |client| client.credit(101) >= 1_001).await;
        client.spend(101, 1_001);
        let payload = [&[200][..], &[b'x'; 800], &[0; 200]].concat();
        client.send(frame(DATA, 0x8, 101, &payload)).await;
    }
    client.send(frame(DATA, END_STREAM, 101, &[])).await;
    assert_eq!(client.answer(101).await.text(), told(&vec![b'x'; 800 * 1_200]));
}

/// Sends this much of a body as one who has not heard yet what became of the stream: only the connection's window counts.
async fn send_regardless(client: &mut Strict, id: u32, size: usize) {
    let piece = vec![b'x'; 16_384];
    let mut left = size;
    while left > 0 {
        let now = left.min(piece.len());
        client.run("the connection's window", |client| client.credit(0) >= now).await;
        client.spend(0, now);
        let end = if left == now { END_STREAM } else { 0 };
        assert!(client.send(frame(DATA, end, id, &piece[..now])).await);
        left -= now;
    }
}

/// A good upload that is larger than the connection's window can be if some of it was lost.
pub(super) async fn passes<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Strict<S>, id: u32) {
    let body = data(1_300_000);
    client.send(post(id, "/sum")).await;
    client.upload(id, &body, (16_384, 0), false).await;
    assert_eq!(client.answer(id).await.text(), told(&body));
    assert_eq!(client.goodbye, None);
}

#[tokio::test]
async fn uploads_that_were_answered_early_cost_the_connection_nothing() {
    let (_node, proxy, mut client) = setup("").await;
    for number in 0..20 {
        let id = 2 * number + 1;
        client.send(post(id, "/early")).await;
        send_regardless(&mut client, id, 200 * 1024).await;
        let answer = client.answer(id).await;
        // The whole answer, and then perhaps that the rest is not wanted (§8.1).
        assert_eq!((answer.status(), answer.text().as_str()), (413, "big"), "{answer:?}");
        assert!(answer.reset.is_none_or(|code| code == NO_ERROR), "{answer:?}");
    }
    // The same once it is known to be over.
    for number in 20..40 {
        let id = 2 * number + 1;
        client.send(post(id, "/early")).await;
        client.answer(id).await;
        send_regardless(&mut client, id, 200 * 1024).await;
    }
    passes(&mut client, 101).await;
    assert_eq!(proxy.pool.stats().iter().map(|stats| stats.abusive.get()).sum::<u64>(), 0);
}

#[tokio::test]
async fn uploads_that_the_client_gives_up_cost_the_connection_nothing() {
    let (node, proxy, mut client) = setup("").await;
    for number in 0..20 {
        let id = 2 * number + 1;
        // A node that reads, one that does not, and nobody at all.
        client.send(post(id, ["/sum", "/slow", "/early"][number as usize % 3])).await;
        let piece = vec![b'x'; 16_384];
        for _ in 0..12 {
            client.run("the connection's window", |client| client.credit(0) >= piece.len()).await;
            client.spend(0, piece.len());
            client.send(frame(DATA, 0, id, &piece)).await;
        }
        client.send(reset(id, CANCEL)).await;
    }
    passes(&mut client, 101).await;
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
}

#[tokio::test]
async fn uploads_that_were_refused_cost_the_connection_nothing() {
    let (_node, _proxy, mut client) = setup("[limits]\nstreams = 1").await;
    client.send(get(1, "/slow")).await;
    for number in 1..=20 {
        let id = 2 * number + 1;
        client.send(post(id, "/sum")).await;
        send_regardless(&mut client, id, 200 * 1024).await;
        assert_eq!(client.answer(id).await.reset, Some(REFUSED_STREAM));
    }
    client.send(reset(1, CANCEL)).await;
    client.fence().await;
    passes(&mut client, 101).await;
}

#[tokio::test]
async fn uploads_to_nobody_cost_the_connection_nothing() {
    let node = node().await;
    let services = format!("[service.app]\nmatch = \"*/sum\"\nnodes = [\"{}\"]\n", node.address);
    let proxy = Proxy::with_workers(&services, 1);
    let mut client = Strict::connect(proxy.address, &[]).await;
    for number in 0..20 {
        let id = 2 * number + 1;
        client.send(post(id, "/nobody")).await;
        send_regardless(&mut client, id, 200 * 1024).await;
        assert_eq!(client.answer(id).await.status(), 404);
    }
    passes(&mut client, 101).await;
}

#[tokio::test]
async fn many_uploads_at_once_each_come_through_as_they_are() {
    let (_node, _proxy, mut client) = setup("").await;
    let mut random = fastrand::Rng::with_seed(11);
    let bodies: Vec<Vec<u8>> = (0..40).map(|_| (0..random.usize(0..9_000)).map(|_| random.u8(..)).collect()).collect();
    for number in 0..bodies.len() {
        client.send(post(2 * number as u32 + 1, "/sum")).await;
    }
    let mut sent = vec![Some(0); bodies.len()];
    while sent.iter().any(Option::is_some) {
        let which = random.usize(..bodies.len());
        let Some(from) = sent[which] else { continue };
        let id = 2 * which as u32 + 1;
        let rest = &bodies[which][from..];
        let (now, left) = rest.split_at(random.usize(..=rest.len().min(1_500)));
        client.run("a window", |client| client.credit(id) >= now.len()).await;
        client.spend(id, now.len());
        client.send(frame(DATA, u8::from(left.is_empty()), id, now)).await;
        sent[which] = if left.is_empty() { None } else { Some(from + now.len()) };
    }
    for (number, body) in bodies.iter().enumerate() {
        let answer = client.answer(2 * number as u32 + 1).await;
        assert_eq!(answer.text(), told(body), "{number}");
    }
}
