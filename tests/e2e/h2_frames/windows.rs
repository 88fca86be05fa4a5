//! Answers under flow control (§5.2, §6.9): the client's windows are one byte wide, negative, shut, or change in the middle. That no
//! byte comes too many is `Strict`'s business.

use std::time::Duration;

use fastrand::Rng;

use crate::support::control::single;
use crate::support::frames::{
    CANCEL, DATA, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, block, post, reset,
};
use crate::support::http2::{frame, get};
use crate::support::node::TestNode;
use crate::support::strict::Strict;
use crate::support::{PATIENCE, Proxy, until};

/// Bytes that are not like those before them.
pub(super) fn text(size: usize) -> String {
    (0..size).map(|at| char::from(b'a' + (at * 7 / 3 % 26) as u8)).collect()
}

/// Answers with as many bytes as the path says, `/slow` never, and `/trailers` with ten bytes and trailers.
async fn node() -> TestNode {
    TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let path = request.line.split(' ').nth(1).unwrap_or_default();
            match path {
                "/slow" => return peer.closed().await,
                "/trailers" => {
                    peer.send(
                        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
                    )
                    .await;
                }
                _ => peer.respond(200, &text(path[1..].parse().expect("a size"))).await,
            }
        }
    })
    .await
}

/// That no more than this has come, and none is on its way.
async fn stays_at(client: &mut Strict, stream: u32, size: usize) {
    client
        .run(&format!("{size} bytes"), |client| client.streams.get(&stream).is_some_and(|s| s.body.len() >= size))
        .await;
    client.fence().await;
    client.fence().await;
    let heard = client.heard(stream);
    assert_eq!((heard.body.len(), heard.reset), (size, None));
}

#[tokio::test]
async fn a_window_of_one_byte_lets_one_byte_through() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let mut client = Strict::connect(proxy.address, &[(INITIAL_WINDOW_SIZE, 1)]).await;
    client.send(get(1, "/300")).await;
    for came in 1..=300 {
        stays_at(&mut client, 1, came).await;
        if came < 300 {
            assert!(!client.ended(1));
            client.grant(1, 1).await;
        }
    }
    let answer = client.answer(1).await;
    assert_eq!((answer.text(), answer.reset), (text(300), None));
    assert!(answer.pieces.iter().all(|piece| *piece <= 1));
}

#[tokio::test]
async fn the_window_of_the_connection_counts_over_all_streams() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let mut client = Strict::connect(proxy.address, &[(INITIAL_WINDOW_SIZE, 1_000_000)]).await;
    client.send([get(1, "/40000"), get(3, "/40000")].concat()).await;
    let both = |client: &Strict| client.heard(1).body.len() + client.heard(3).body.len();
    client.run("all that may come", |client| both(client) == 65_535).await;
    client.fence().await;
    for more in [1, 2, 100] {
        let before = both(&client);
        client.grant(0, more).await;
        client.run("a little more", |client| both(client) == before + more as usize).await;
        client.fence().await;
        assert_eq!(both(&client), before + more as usize);
    }
    // What needs no window is not held back by it: a head, and an end.
    client.send(get(5, "/0")).await;
    assert_eq!(client.answer(5).await.status(), 200);
    client.grant(0, 100_000).await;
    assert_eq!(client.answer(1).await.text(), text(40_000));
    assert_eq!(client.answer(3).await.text(), text(40_000));
}

#[tokio::test]
async fn a_stream_whose_window_is_shut_holds_up_no_other() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let mut client = Strict::connect(proxy.address, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    for id in [1, 3, 5] {
        client.send(get(id, "/200000")).await;
    }
    client.send(get(7, "/60000")).await;
    client.grant(7, 60_000).await;
    assert_eq!(client.answer(7).await.text(), text(60_000));
    // Heads come without a window, and so does what has no body.
    client.run("the heads", |client| [1, 3, 5].iter().all(|id| client.heard(*id).status() == 200)).await;
    assert!([1, 3, 5].iter().all(|id| client.heard(*id).body.is_empty()));
    // Trailers need none.
    client.send(get(9, "/trailers")).await;
    client.grant(9, 10).await;
    let answer = client.answer(9).await;
    assert_eq!((answer.text().as_str(), answer.trailers), ("0123456789", Some(vec![("x".into(), "y".into())])));
}

#[tokio::test]
async fn a_stream_that_is_reset_gives_its_part_of_the_window_to_the_others() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let mut client = Strict::connect(proxy.address, &[(INITIAL_WINDOW_SIZE, 1_000_000)]).await;
    for round in 0..10 {
        let (first, second) = (4 * round + 1, 4 * round + 3);
        client.send([get(first, "/300000"), get(second, "/50000")].concat()).await;
        let size = |client: &Strict, id| client.streams.get(&id).map_or(0, |stream| stream.body.len());
        client.run("a full window", |client| size(client, first) + size(client, second) == 65_535).await;
        client.send(reset(first, CANCEL)).await;
        client.fence().await;
        // As much as was taken, whoever took it: the stream that is gone must not have a claim on it.
        client.grant(0, 65_535).await;
        let answer = client.answer(second).await;
        assert_eq!((answer.text() == text(50_000), answer.reset), (true, None));
        let left = 65_535 - (50_000 - (65_535 - size(&client, first)));
        client.fence().await;
        client.grant(0, (65_535 - left) as u32).await;
    }
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
}

#[tokio::test]
async fn settings_move_the_windows_of_open_streams_below_nothing_and_up_again() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let mut client = Strict::connect(proxy.address, &[(INITIAL_WINDOW_SIZE, 100)]).await;
    client.send(get(1, "/400")).await;
    stays_at(&mut client, 1, 100).await;
    client.set(&[(INITIAL_WINDOW_SIZE, 30)]).await;
    client.run("the acknowledgement", Strict::is_settled).await;
    // 70 below nothing: up to nothing, and not yet to something (§6.9.2).
    client.grant(1, 69).await;
    client.grant(1, 1).await;
    stays_at(&mut client, 1, 100).await;
    client.grant(1, 1).await;
    stays_at(&mut client, 1, 101).await;
    // Larger again by 30, and a new stream has the new size.
    client.set(&[(INITIAL_WINDOW_SIZE, 60)]).await;
    stays_at(&mut client, 1, 131).await;
    client.send(get(3, "/61")).await;
    stays_at(&mut client, 3, 60).await;
    // Below nothing and up again by settings alone.
    client.set(&[(INITIAL_WINDOW_SIZE, 0)]).await;
    client.grant(1, 59).await;
    stays_at(&mut client, 1, 131).await;
    client.set(&[(INITIAL_WINDOW_SIZE, 61)]).await;
    assert_eq!(client.answer(3).await.text(), text(61));
    stays_at(&mut client, 1, 191).await;
    client.set(&[(INITIAL_WINDOW_SIZE, 5_000)]).await;
    let answer = client.answer(1).await;
    assert_eq!((answer.text(), answer.reset), (text(400), None));
}

#[tokio::test]
async fn answers_arrive_whole_whatever_becomes_of_the_windows_meanwhile() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let rounds = (0..6).map(|seed| {
        let address = proxy.address;
        async move {
            let mut random = Rng::with_seed(seed);
            let mut client = Strict::connect(address, &[(INITIAL_WINDOW_SIZE, random.u32(0..3_000))]).await;
            let sizes = [70_000, random.usize(0..90_000), random.usize(0..500)];
            let ids = [1, 3, 5];
            for (id, size) in ids.into_iter().zip(sizes) {
                client.send(get(id, &format!("/{size}"))).await;
            }
            // The connection's window is opened for all of it, piece by piece.
            let mut changes = 0;
            while !ids.iter().all(|id| client.ended(*id)) {
                client.fence().await;
                match random.u8(..10) {
                    0 if changes < 30 => {
                        changes += 1;
                        client.set(&[(INITIAL_WINDOW_SIZE, random.u32(0..6_000))]).await;
                    }
                    1..4 => client.grant(0, random.u32(1..20_000)).await,
                    _ => {
                        let id = ids[random.usize(..3)];
                        client.grant(id, random.u32(1..9_000)).await;
                    }
                }
            }
            for (id, size) in ids.into_iter().zip(sizes) {
                let answer = client.answer(id).await;
                assert_eq!((answer.body == text(size).as_bytes(), answer.reset), (true, None), "{seed}: {id}");
            }
        }
    });
    futures_util::future::join_all(rounds).await;
}

#[tokio::test]
async fn a_client_that_takes_larger_frames_gets_none_that_is_larger_still() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    for most in [16_384, 20_000, (1 << 24) - 1] {
        let window = (INITIAL_WINDOW_SIZE, 1 << 20);
        let mut client = Strict::connect(proxy.address, &[(MAX_FRAME_SIZE, most), window]).await;
        client.grant(0, 1 << 20).await;
        client.send(get(1, "/900000")).await;
        let answer = client.answer(1).await;
        assert!(answer.body == text(900_000).as_bytes());
        assert!(answer.pieces.iter().all(|piece| *piece <= most as usize), "{most}: {:?}", answer.pieces);
    }
}

/// A service whose node has something else to do: a request waits, and nobody reads its body.
async fn busy(node: &TestNode) -> (Proxy, Strict) {
    let proxy = single(&[node.address], "balance.max_requests = 1\nhold = { wait = \"20s\", most = 100 }");
    let mut client = Strict::connect(proxy.address, &[]).await;
    client.send(get(1, "/slow")).await;
    until("the node is busy", || proxy.node(node.address).inflight() == 1).await;
    (proxy, client)
}

#[tokio::test]
async fn data_beyond_the_window_is_an_error_of_flow_control() {
    let node = node().await;
    let (_proxy, mut client) = busy(&node).await;
    client.send(post(3, "/0")).await;
    let piece = vec![0; 16_384];
    while client.credit(3) > 0 {
        let size = client.credit(3).min(piece.len());
        client.spend(3, size);
        client.send(frame(DATA, 0, 3, &piece[..size])).await;
        client.fence().await;
    }
    // Not a byte of window is given for what nobody reads; an empty frame needs none.
    client.send(frame(DATA, 0, 3, &[])).await;
    client.fence().await;
    assert_eq!((client.credit(3), client.heard(3).reset, client.goodbye), (0, None, None));
    client.send(frame(DATA, 0, 3, &[0])).await;
    assert!(client.run_for(PATIENCE, |client| client.ended(3) || client.is_over).await, "it took it");
    let code = client.goodbye.map(|(_, code)| code).or(client.heard(3).reset);
    assert_eq!(code, Some(crate::support::frames::FLOW_CONTROL_ERROR));
}

#[tokio::test]
async fn data_beyond_the_connections_window_ends_it() {
    let node = node().await;
    let (_proxy, mut client) = busy(&node).await;
    let piece = vec![0; 16_384];
    // No stream has more than its own window; together they have more than the connection.
    let own = client.settings.get(&INITIAL_WINDOW_SIZE).map_or(65_535, |size| *size as usize);
    for id in (3..).step_by(2).take(90) {
        client.send(post(id, "/0")).await;
        let mut left = own;
        while left > 0 && !client.is_over {
            let size = left.min(piece.len());
            client.send(frame(DATA, 0, id, &piece[..size])).await;
            left -= size;
        }
        if client.run_for(Duration::from_millis(20), |client| client.is_over).await {
            break;
        }
    }
    client.run_for(PATIENCE, |client| client.is_over).await;
    assert_eq!(client.goodbye.map(|(_, code)| code), Some(crate::support::frames::FLOW_CONTROL_ERROR));
}

#[tokio::test]
async fn a_head_of_an_answer_is_not_held_up_by_a_body_that_comes_in() {
    let node = node().await;
    let proxy = single(&[node.address], "");
    let mut client = Strict::connect(proxy.address, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    client
        .send([post(1, "/5"), frame(DATA, 0, 1, b"more"), frame(HEADERS, 0x5, 1, &block(&[("x", "y")]))].concat())
        .await;
    client.send([post(3, "/5"), frame(DATA, END_STREAM, 3, b"all")].concat()).await;
    client.run("both heads", |client| client.heard(1).status() == 200 && client.heard(3).status() == 200).await;
    client.set(&[(INITIAL_WINDOW_SIZE, 5)]).await;
    assert_eq!(client.answer(1).await.text(), text(5));
    assert_eq!(client.answer(3).await.text(), text(5));
}
