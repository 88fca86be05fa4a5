//! Whole exchanges: the same bytes in any pieces get the same answers, and messages come through in all their parts.

use std::time::Duration;

use futures_util::stream::{StreamExt, iter};
use tokio::io::AsyncWriteExt;

use crate::support::control::single;
use crate::support::frames::*;
use crate::support::hpack::Encoder;
use crate::support::http2::{PREFACE, frame, get};
use crate::support::node::TestNode;
use crate::support::strict::{Heard, Strict};
use crate::support::{PATIENCE, Proxy, until};

/// Answers with what it was asked.
pub(super) async fn mirror() -> TestNode {
    TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let own: Vec<String> = request
                .headers
                .iter()
                .filter(|(name, _)| name.starts_with("x-own") || name == "cookie")
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            let body = String::from_utf8_lossy(&request.body);
            let told = format!("{} | {} | {body} | {:?}", request.line, own.join(", "), request.trailers);
            peer.respond(200, &told).await;
        }
    })
    .await
}

/// What a client may send in its life, in all the forms that there are, and the streams that it opens.
pub(super) fn recorded() -> (Vec<u8>, Vec<u32>) {
    let mut encoder = Encoder::new(4_096);
    let mut packed = |method: &str, more: &[(&str, &str)]| {
        let usual = [(":method", method), (":scheme", "http"), (":authority", "app.test"), (":path", "/a?b=c")];
        usual.iter().chain(more).flat_map(|(name, value)| encoder.field(name, value)).collect::<Vec<u8>>()
    };
    let parts = [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, &settings(&[(INITIAL_WINDOW_SIZE, 100_000), (0x99, 1)])),
        window_update(0, 1_000),
        frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 9]),
        frame(HEADERS, 0x5, 1, &packed("GET", &[("x-own", "first"), ("cookie", "a=b"), ("cookie", "c=d")])),
        frame(HEADERS, 0x4, 3, &packed("POST", &[("x-own", "second"), ("content-length", "9")])),
        frame(PING, 0, 0, b"the ping"),
        frame(DATA, 0, 3, b"four"),
        frame(HEADERS, 0x24, 5, &[&[0, 0, 0, 3, 1], &packed("PUT", &[("x-own", "third")])[..]].concat()),
        frame(DATA, PADDED, 3, &[&[3], &b"five."[..], &[0; 3]].concat()),
        frame(0x77, 0x77, 0, b"who knows"),
        frame(DATA, END_STREAM, 3, &[]),
        frame(DATA, 0, 5, &[b'x'; 200]),
        frame(HEADERS, 0x5, 5, &block(&[("x-sum", "1"), ("x-more", "2")])),
    ];
    let split = packed("GET", &[("x-own", "fourth"), ("cookie", "e=f")]);
    let rest = [
        frame(HEADERS, 0x1, 7, &split[..3]),
        frame(CONTINUATION, 0, 7, &split[3..7]),
        frame(CONTINUATION, 0x4, 7, &split[7..]),
        frame(HEADERS, 0xD, 9, &[&[2], &packed("GET", &[("x-own", "first")])[..], &[0; 2]].concat()),
    ];
    ([parts.concat(), rest.concat()].concat(), vec![1, 3, 5, 7, 9])
}

/// Sends the recorded bytes, cut here, and returns what came of each stream.
async fn play(proxy: &Proxy, bytes: &[u8], ids: &[u32], cuts: &[usize]) -> Vec<(u16, String)> {
    let mut client = Strict::silent(proxy.address).await;
    client.expect_ack(&[(INITIAL_WINDOW_SIZE, 100_000)]);
    client.note_grant(0, 1_000);
    let mut from = 0;
    // Nothing is read meanwhile, for an acknowledgement in between would cut a frame in two.
    for to in cuts.iter().copied().chain([bytes.len()]) {
        client.stream.write_all(&bytes[from..to]).await.expect("the proxy takes it");
        // So that it is read by itself, more often than not.
        tokio::time::sleep(Duration::from_micros(200)).await;
        from = to;
    }
    let mut all = Vec::new();
    for id in ids {
        let Heard { reset, body, .. } = client.answer(*id).await;
        assert_eq!(reset, None, "{id}, cut at {cuts:?}");
        all.push((client.heard(*id).status(), String::from_utf8(body).expect("text")));
    }
    client.run("the answer to the PING", |client| client.pongs == [b"the ping"]).await;
    assert!(client.is_settled() && client.goodbye.is_none());
    all
}

#[tokio::test]
async fn the_same_bytes_get_the_same_answers_however_they_are_cut() {
    let node = mirror().await;
    let proxy = single(&[node.address], "");
    let (bytes, ids) = recorded();
    let wanted = play(&proxy, &bytes, &ids, &[]).await;
    assert_eq!(wanted[0], (200, "GET /a?b=c HTTP/1.1 | x-own: first, cookie: a=b; c=d |  | []".into()));
    assert_eq!(wanted[1], (200, "POST /a?b=c HTTP/1.1 | x-own: second | fourfive. | []".into()));
    assert!(wanted[2].1.ends_with("[(\"x-sum\", \"1\"), (\"x-more\", \"2\")]"), "{wanted:?}");
    assert_eq!(wanted[3].1, "GET /a?b=c HTTP/1.1 | x-own: fourth, cookie: e=f |  | []");
    // At every byte, far enough from the next cut; in many pieces at random; in single bytes once.
    let mut cuts: Vec<Vec<usize>> = (1..=17).map(|at| (at..bytes.len()).step_by(17).collect()).collect();
    let mut random = fastrand::Rng::with_seed(3);
    cuts.extend((0..40).map(|_| {
        let mut at: Vec<usize> = (0..random.usize(2..60)).map(|_| random.usize(1..bytes.len())).collect();
        at.sort_unstable();
        at
    }));
    cuts.push((1..bytes.len()).collect());
    let (proxy, bytes, ids, wanted) = (&proxy, &bytes[..], &ids[..], &wanted);
    iter(cuts)
        .for_each_concurrent(40, |cuts| async move {
            assert_eq!(&play(proxy, bytes, ids, &cuts).await, wanted, "cut at {cuts:?}");
        })
        .await;
}

#[tokio::test]
async fn heads_of_many_frames_go_both_ways() {
    let node = TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let told: Vec<String> = (0..25).map(|number| format!("x-{number}: {}\r\n", "y".repeat(800))).collect();
            let own = request.headers.iter().filter(|(name, _)| name.starts_with("x-own")).count();
            peer.send(format!("HTTP/1.1 200 OK\r\n{}content-length: 2\r\n\r\n{own:02}", told.concat())).await;
        }
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = Strict::connect(proxy.address, &[]).await;
    let names: Vec<String> = (10..36).map(|number| format!("x-own-{number}")).collect();
    let value = "z".repeat(900);
    let fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
    let whole = head("GET", "/", &fields);
    for round in 0..5 {
        let id = 4 * round + 1;
        let (first, rest) = whole.split_at([1, 500, 8_000, 16_000, 16_384][round as usize]);
        let (second, third) = rest.split_at(rest.len() / 2);
        client
            .send(
                [
                    get(id, "/"),
                    frame(HEADERS, END_STREAM, id + 2, first),
                    frame(CONTINUATION, 0, id + 2, second),
                    frame(CONTINUATION, END_HEADERS, id + 2, third),
                ]
                .concat(),
            )
            .await;
        assert_eq!(client.answer(id).await.text(), "00");
        let answer = client.answer(id + 2).await;
        assert_eq!((answer.text().as_str(), answer.header("x-24").map(str::len)), ("26", Some(800)));
    }
}

#[tokio::test]
async fn cookies_in_any_number_of_pieces_are_one_field() {
    let node = mirror().await;
    let proxy = single(&[node.address], "");
    let mut client = Strict::connect(proxy.address, &[]).await;
    let crumbs: Vec<String> = (0..90).map(|number| format!("c{number}={}", "v".repeat(number))).collect();
    let fields: Vec<(&str, &str)> = crumbs.iter().map(|crumb| ("cookie", crumb.as_str())).collect();
    client.send(frame(HEADERS, 5, 1, &head("GET", "/", &fields))).await;
    assert_eq!(client.answer(1).await.status(), 200);
    assert_eq!(node.requests()[0].all("cookie"), [crumbs.join("; ")]);
}

#[tokio::test]
async fn interim_answers_come_first_and_in_order() {
    let node = TestNode::start(|mut peer| async move {
        while let Some(head) = peer.head().await {
            let hint = |name: &str| format!("HTTP/1.1 103 Early Hints\r\nlink: <{name}>\r\n\r\n");
            peer.send(hint("one") + &hint("two")).await;
            if head.header("expect").is_some() {
                peer.send("HTTP/1.1 100 Continue\r\n\r\n").await;
                assert_eq!(peer.bytes(4).await.as_deref(), Some(&b"body"[..]));
            }
            peer.respond(200, "done").await;
        }
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = Strict::connect(proxy.address, &[]).await;
    client.send(get(1, "/")).await;
    let answer = client.answer(1).await;
    assert_eq!((answer.statuses(), answer.text().as_str()), (vec![103, 103, 200], "done"));
    assert_eq!(answer.heads[0][1..], [("link".to_owned(), "<one>".to_owned())]);
    let expects = [("expect", "100-continue"), ("content-length", "4")];
    client.send(frame(HEADERS, 4, 3, &head("POST", "/", &expects))).await;
    client.run("100", |client| client.heard(3).statuses().contains(&100)).await;
    client.send(frame(DATA, 1, 3, b"body")).await;
    let answer = client.answer(3).await;
    let mut statuses = answer.statuses();
    assert_eq!((statuses.pop(), answer.text().as_str()), (Some(200), "done"));
    assert!(statuses.iter().all(|status| [100, 103].contains(status)) && statuses.len() == 3, "{statuses:?}");
}

#[tokio::test]
async fn answers_without_a_body_bring_no_data() {
    let node = TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let (head, _) = request.line.split_once(' ').expect("a request line");
            match head {
                "HEAD" => peer.send("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n").await,
                // Which is no node's to say (RFC 9110 §8.6), and an error to clients that look.
                "DELETE" => peer.send("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n").await,
                // One field is as good as two.
                "PATCH" => peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0, 0\r\n\r\n").await,
                "OPTIONS" => peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n").await,
                _ => peer.send("HTTP/1.1 304 Not Modified\r\ncontent-length: 500\r\n\r\n").await,
            }
        }
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = Strict::connect(proxy.address, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    for (id, method, status, length) in [
        (1, "HEAD", 200, Some("500")),
        (3, "DELETE", 204, None),
        (5, "GET", 304, Some("500")),
        (7, "OPTIONS", 200, None),
        (9, "PATCH", 200, Some("0")),
    ] {
        client.send(frame(HEADERS, 5, id, &head(method, "/", &[]))).await;
        let answer = client.answer(id).await;
        assert_eq!((answer.status(), answer.body.len(), answer.reset), (status, 0, None), "{method}");
        assert_eq!(answer.header("content-length"), length, "{method}");
    }
}

#[tokio::test]
async fn a_client_that_closes_its_half_leaves_nothing_behind() {
    let node = mirror().await;
    let proxy = single(&[node.address], "");
    for whole in [true, false] {
        let mut client = Strict::connect(proxy.address, &[]).await;
        let first = if whole { get(1, "/") } else { post(1, "/") };
        client.send([first, frame(HEADERS, 5, 3, &head("GET", "/", &[]))].concat()).await;
        client.stream.shutdown().await.expect("a socket");
        // Whether it is answered is left open; what it gets is right, and then the end comes.
        assert!(client.run_for(PATIENCE, |client| client.is_over).await, "no end");
        for id in [1, 3] {
            let heard = client.heard(id);
            assert!(!heard.ended || heard.status() == 200, "{heard:?}");
        }
        until("the node is free", || proxy.node(node.address).inflight() == 0).await;
    }
}

#[tokio::test]
async fn a_connection_that_breaks_off_anywhere_leaves_nothing_behind() {
    let node = mirror().await;
    let proxy = single(&[node.address], "");
    let (bytes, ids) = recorded();
    for to in (1..bytes.len()).step_by(7) {
        let mut client = Strict::silent(proxy.address).await;
        client.send(&bytes[..to]).await;
        // Half of them with a reset.
        if to % 2 == 0 {
            let socket = socket2::SockRef::from(&client.stream);
            socket.set_linger(Some(Duration::ZERO)).expect("a socket option");
        }
    }
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
    assert_eq!(play(&proxy, &bytes, &ids, &[]).await.len(), ids.len());
    until("nothing is left", || proxy.node(node.address).inflight() == 0).await;
}
