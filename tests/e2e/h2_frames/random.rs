//! Clients that do anything that they may, in any order, and some that do what nobody may: each gets what is its own.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::{join, join_all};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::Secure;
use super::pieces::{mirror, recorded};
use super::uploads::{body, passes, told};
use super::windows::text;
use crate::support::control::single;
use crate::support::frames::*;
use crate::support::hpack::Encoder;
use crate::support::http2::{frame, get};
use crate::support::node::TestNode;
use crate::support::strict::Strict;
use crate::support::{PATIENCE, until};

/// `/sum` tells of a body, `/early` answers before it, `/slow` never, and every other path is a size.
async fn node() -> TestNode {
    TestNode::start(|mut peer| async move {
        while let Some(head) = peer.head().await {
            match head.line.split(' ').nth(1).unwrap_or_default() {
                "/slow" => return peer.closed().await,
                "/early" => {
                    peer.send("HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig").await;
                    return;
                }
                "/sum" => {
                    let Some((size, sum)) = body(&mut peer, &head).await else { return };
                    peer.respond(200, &format!("{size} {sum}")).await;
                }
                path => peer.respond(200, &text(path[1..].parse().expect("a size"))).await,
            }
        }
    })
    .await
}

/// A client, what it has to get on which stream, and what it has to send.
struct Player<S> {
    client: Strict<S>,
    random: Rng,
    encoder: Encoder,
    next: u32,
    /// The status and the body of each answer; none if the client has given it up.
    expected: BTreeMap<u32, Option<(u16, String)>>,
    /// What is to be sent still.
    uploads: BTreeMap<u32, Vec<u8>>,
    slow: Vec<u32>,
    dear: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Player<S> {
    /// On a connection on which nothing was said.
    async fn new(client: Strict<S>, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let client = client.greeted(&[(INITIAL_WINDOW_SIZE, random.u32(0..100_000))]).await;
        Self {
            client,
            random,
            encoder: Encoder::new(4_096),
            next: 1,
            expected: BTreeMap::new(),
            uploads: BTreeMap::new(),
            slow: Vec::new(),
            dear: 0,
        }
    }

    async fn begin(&mut self) {
        let id = self.next;
        self.next += 2 * self.random.u32(1..4);
        let size = if self.random.u8(..8) == 0 { self.random.usize(..60_000) } else { self.random.usize(..2_000) };
        let (method, path, answer, upload) = match self.random.u8(..10) {
            0 => ("GET", "/slow".into(), None, None),
            1..4 => {
                let data: Vec<u8> = (0..size).map(|_| self.random.u8(..)).collect();
                ("POST", "/sum".into(), Some((200, told(&data))), Some(data))
            }
            4 => ("POST", "/early".into(), Some((413, "big".into())), Some(vec![b'x'; size])),
            _ => ("GET", format!("/{size}"), Some((200, text(size))), None),
        };
        if path == "/slow" {
            self.slow.push(id);
        }
        self.expected.insert(id, answer);
        let number = self.random.u8(..40).to_string();
        let fields = [
            (":method", method),
            (":scheme", "http"),
            (":authority", "app.test"),
            (":path", &*path),
            ("x-number", &number),
            ("cookie", "a=b"),
        ];
        let head: Vec<u8> = fields.iter().flat_map(|(name, value)| self.encoder.field(name, value)).collect();
        let end = if upload.is_none() { END_STREAM } else { 0 };
        let at = self.random.usize(..=head.len());
        let (first, rest) = head.split_at(at);
        let sent = if self.random.bool() {
            frame(HEADERS, end | END_HEADERS, id, &head)
        } else {
            [frame(HEADERS, end, id, first), frame(CONTINUATION, END_HEADERS, id, rest)].concat()
        };
        self.client.send(sent).await;
        self.uploads.extend(upload.map(|data| (id, data)));
    }

    /// Sends a part of a body, if its windows allow.
    async fn go_on(&mut self, id: u32, most: usize) {
        let Some(data) = self.uploads.get_mut(&id) else { return };
        let padding = if self.random.u8(..4) == 0 { self.random.u8(..) } else { 0 };
        let extra = if padding > 0 { 1 + usize::from(padding) } else { 0 };
        let credit = self.client.credit(id).saturating_sub(extra);
        let size = data.len().min(most).min(credit);
        if size == 0 && !data.is_empty() {
            return;
        }
        let rest = data.split_off(size);
        let now = std::mem::replace(data, rest);
        let end = if data.is_empty() { END_STREAM } else { 0 };
        let payload = if padding > 0 { [vec![padding], now, vec![0; usize::from(padding)]].concat() } else { now };
        let padded = if padding > 0 { PADDED } else { 0 };
        self.client.spend(id, payload.len());
        self.client.send(frame(DATA, end | padded, id, &payload)).await;
        if end > 0 {
            self.uploads.remove(&id);
        }
    }

    async fn give_up(&mut self, id: u32) {
        if !self.client.ended(id) {
            self.expected.insert(id, None);
        }
        self.uploads.remove(&id);
        self.slow.retain(|slow| *slow != id);
        self.client.send(reset(id, CANCEL)).await;
    }

    async fn step(&mut self) {
        let ids: Vec<u32> = self.expected.keys().copied().collect();
        let some = *self.random.choice(&ids).unwrap_or(&1);
        match self.random.u8(..24) {
            0..6 => self.begin().await,
            6..14 => {
                let open: Vec<u32> = self.uploads.keys().copied().collect();
                if let Some(id) = self.random.choice(&open).copied() {
                    let most = self.random.usize(1_000..16_000);
                    self.go_on(id, most).await;
                }
            }
            14 if self.dear < 30 && !ids.is_empty() => {
                self.dear += 1;
                self.give_up(some).await;
            }
            15 if self.dear < 30 => {
                self.dear += 1;
                let what = if self.random.bool() {
                    (INITIAL_WINDOW_SIZE, self.random.u32(0..70_000))
                } else {
                    (HEADER_TABLE_SIZE, self.random.u32(0..5_000))
                };
                self.client.set(&[what]).await;
            }
            16..18 => {
                let more = self.random.u32(1..40_000);
                self.client.grant(0, more).await;
            }
            18..20 if !ids.is_empty() => {
                let more = self.random.u32(1..20_000);
                self.client.grant(some, more).await;
            }
            20 => {
                self.client.send(frame(PRIORITY, 0, self.next, &[0, 0, 0, 0, 7])).await;
            }
            21 => {
                self.client.send(frame(0x99, 0xFF, 0, b"whatever this is")).await;
            }
            22 => self.client.fence().await,
            _ => {
                self.client.run_for(Duration::from_millis(1), |_| false).await;
            }
        }
    }

    /// Sends what is left, opens every window, and looks at what came.
    async fn finish(mut self, seed: u64) {
        for id in std::mem::take(&mut self.slow) {
            self.give_up(id).await;
        }
        self.client.set(&[(INITIAL_WINDOW_SIZE, 200_000)]).await;
        self.client.grant(0, 40_000_000).await;
        while let Some(id) = self.uploads.keys().next().copied() {
            if self.client.heard(id).reset.is_some() {
                self.uploads.remove(&id);
                continue;
            }
            self.client.run("a window", |client| client.credit(id) > 300 || client.ended(id)).await;
            self.go_on(id, 16_000).await;
        }
        for (id, answer) in std::mem::take(&mut self.expected) {
            let Some((status, text)) = answer else { continue };
            let heard = self.client.answer(id).await;
            assert!(heard.ended, "{seed}: {id} was reset: {:?}", heard.reset);
            assert_eq!((heard.status(), heard.text() == text), (status, true), "{seed}: {id}");
        }
        passes(&mut self.client, self.next).await;
    }
}

async fn play(client: Strict<impl AsyncRead + AsyncWrite + Unpin>, seed: u64) {
    let mut player = Player::new(client, seed).await;
    for _ in 0..250 {
        player.step().await;
    }
    player.finish(seed).await;
}

#[tokio::test]
async fn clients_that_do_anything_they_may_get_their_answers_and_lose_no_window() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let secure = Secure::new(&node, "");
    let in_clear = join_all((0..10).map(async |seed| play(Strict::silent(proxy.address).await, seed).await));
    let over_tls = join_all((10..20).map(async |seed| play(secure.silent().await, seed).await));
    join(in_clear, over_tls).await;
    for proxy in [&proxy, &secure.proxy] {
        until("the node is free", || proxy.node(node.address).inflight() == 0).await;
        assert_eq!(proxy.pool.stats().iter().map(|stats| stats.abusive.get()).sum::<u64>(), 0);
    }
}

async fn offend(mut client: Strict<impl AsyncRead + AsyncWrite + Unpin>, wrong: &[u8]) {
    client.note_grant(0, 1 << 30);
    client.send(wrong).await;
    let _ = client.stream.shutdown().await;
    // Whatever it says is in good order, and then it ends: the strict client sees to the one, the deadline to the other.
    client.allow_windows();
    assert!(client.run_for(PATIENCE, |client| client.is_over).await, "{wrong:02X?}");
}

#[tokio::test]
async fn frames_that_are_wrong_anywhere_harm_nobody_else() {
    let node = mirror().await;
    let proxy = single(&[node.address], "");
    let secure = Secure::new(&node, "");
    let (bytes, _) = recorded();
    let mut bystander = Strict::connect(proxy.address, &[]).await;
    let mut random = Rng::with_seed(5);
    for round in 0..20_u32 {
        let wrong: Vec<Vec<u8>> = (0..20)
            .map(|_| {
                let mut wrong = bytes.clone();
                for _ in 0..random.usize(1..4) {
                    // Behind the preface, so that it is HTTP/2 at all.
                    let at = random.usize(24..wrong.len());
                    match random.u8(..4) {
                        0 => wrong[at] = random.u8(..),
                        1 => wrong[at] ^= 1 << random.u8(..8),
                        2 => drop(wrong.remove(at)),
                        _ => wrong.insert(at, random.u8(..)),
                    }
                }
                wrong
            })
            .collect();
        let (in_clear, over_tls) = wrong.split_at(wrong.len() / 2);
        let in_clear =
            join_all(in_clear.iter().map(async |wrong| offend(Strict::silent(proxy.address).await, wrong).await));
        let over_tls = join_all(over_tls.iter().map(async |wrong| offend(secure.silent().await, wrong).await));
        join(in_clear, over_tls).await;
        bystander.send(get(2 * round + 1, "/fine")).await;
        assert_eq!(bystander.answer(2 * round + 1).await.status(), 200);
    }
    for proxy in [&proxy, &secure.proxy] {
        until("the node is free", || proxy.node(node.address).inflight() == 0).await;
    }
}
