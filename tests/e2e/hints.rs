//! What nodes say before their answers (RFC 8297, RFC 9110 §15.2): clients hear it at once, whichever HTTP either of them speaks.

use std::sync::Arc;

use http::Response;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::support::any::{COMBINATIONS, Http};
use crate::support::client::Client;
use crate::support::control::single;
use crate::support::h2node::H2Node;
use crate::support::hints::{Asker, Heard, Node, early, many, open, said};
use crate::support::http2::{RawFrames, frame, get};
use crate::support::node::TestNode;
use crate::support::tls::{Authority, connect, listener};
use crate::support::trial::on_trial;
use crate::support::{PATIENCE, Proxy, app, until};

#[tokio::test]
async fn a_hint_is_heard_while_the_node_still_works_on_its_answer() {
    for (front, speaks) in COMBINATIONS {
        let gate = Arc::new(Semaphore::new(0));
        let hints = vec![early("</a.css>; rel=preload"), (102, vec![]), (199, vec![("x-step", "2".into())])];
        let node = Node::hinting(speaks, hints, Arc::clone(&gate)).await;
        let proxy = node.behind("");
        let mut client = Asker::connect(front, proxy.address).await;
        for _ in 0..2 {
            client.ask().await;
            let first = client.hint().await;
            assert_eq!((first.status, first.link()), (103, "</a.css>; rel=preload"), "{front:?} {speaks:?}");
            assert_eq!(client.hint().await, Heard { status: 102, fields: vec![] });
            assert_eq!(client.hint().await, Heard { status: 199, fields: vec![("x-step".into(), "2".into())] });
            gate.add_permits(1);
            assert_eq!(client.rest().await, (vec![], 200, "done".into()), "{front:?} {speaks:?}");
        }
    }
}

#[tokio::test]
async fn over_tls_they_leave_at_once_too() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let gate = Arc::new(Semaphore::new(0));
    let Node::One(node) = Node::hinting(Http::One, many(1), Arc::clone(&gate)).await else { unreachable!("it is one") };
    let proxy = Proxy::listening(&app(&[node.address], ""), &listener(&[&files], ""), 1);
    let stream = connect(&Arc::new(ca.client()), proxy.address, "app.test").await.expect("a handshake");
    let mut client = Client::over(stream);
    client.send("GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
    let hint = timeout(PATIENCE, client.head()).await.expect("a hint in time").expect("a hint");
    assert_eq!((hint.status, hint.header("link")), (103, Some("</0>")));
    gate.add_permits(1);
    assert_eq!(client.response("GET").await.expect("an answer").text(), "done");
}

#[tokio::test]
async fn hints_that_come_with_the_answer_are_heard_before_it() {
    let both =
        format!("{}{}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone", said(&early("</a>")), said(&early("</b>")));
    let node = TestNode::sending(both, false).await;
    let proxy = single(&[node.address], "");
    for front in [Http::One, Http::Two] {
        let mut client = Asker::connect(front, proxy.address).await;
        for _ in 0..2 {
            client.ask().await;
            let (hints, status, text) = client.rest().await;
            assert_eq!(hints.iter().map(Heard::link).collect::<Vec<_>>(), ["</a>", "</b>"], "{front:?}");
            assert_eq!((status, text.as_str()), (200, "done"));
        }
    }
}

#[tokio::test]
async fn what_holds_for_one_connection_or_is_not_to_be_seen_is_removed() {
    let fields = [
        ("link", "</a>"),
        ("Connection", "x-hop, keep-alive"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("content-length", "5"),
        ("x-secret", "1"),
        ("x_secret", "1"),
        ("server", "the node's"),
        ("link", "</b>"),
    ];
    let hint = (103, fields.map(|(name, value)| (name, value.to_owned())).to_vec());
    let node = Node::hinting(Http::One, vec![hint], open()).await;
    let proxy = node.behind("response_headers = { remove = [\"x-secret\"], set.server = \"ours\" }");
    for front in [Http::One, Http::Two] {
        let mut client = Asker::connect(front, proxy.address).await;
        client.ask().await;
        let link = |value: &str| ("link".to_owned(), value.to_owned());
        assert_eq!(client.hint().await.fields, [link("</a>"), link("</b>")], "{front:?}");
        assert_eq!(client.rest().await, (vec![], 200, "done".into()), "{front:?}");
    }
}

#[tokio::test]
async fn what_is_no_hint_is_not_passed_on() {
    for (front, speaks) in COMBINATIONS {
        let mut hints = vec![(100, vec![]), early("</a>"), (100, vec![])];
        if speaks == Http::Two {
            // There is nothing to switch to (RFC 9113 §8.6).
            hints.insert(0, (101, vec![]));
        }
        let node = Node::hinting(speaks, hints, open()).await;
        let proxy = node.behind("");
        let mut client = Asker::connect(front, proxy.address).await;
        client.ask().await;
        assert_eq!(client.hint().await.link(), "</a>");
        assert_eq!(client.rest().await, (vec![], 200, "done".into()), "{front:?} {speaks:?}");
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_hears_none() {
    for speaks in [Http::One, Http::Two] {
        let node = Node::hinting(speaks, many(3), open()).await;
        let proxy = node.behind("");
        let mut client = Client::connect(proxy.address).await;
        client.send("GET / HTTP/1.0\r\nhost: app.test\r\nconnection: keep-alive\r\n\r\n").await;
        assert_eq!(client.head().await.expect("a head").status, 200, "{speaks:?}");
        assert_eq!(client.bytes(4).await.as_deref(), Some(&b"done"[..]));
        // What it did not hear is not kept for the next one on its connection.
        let mut client = Asker::One(client);
        client.ask().await;
        assert_eq!(client.rest().await.0.len(), 3, "{speaks:?}");
    }
}

#[tokio::test]
async fn of_a_storm_the_first_eight_are_heard() {
    for (front, speaks) in COMBINATIONS {
        let node = Node::hinting(speaks, many(2000), open()).await;
        let proxy = node.behind("");
        let mut client = Asker::connect(front, proxy.address).await;
        for _ in 0..2 {
            client.ask().await;
            let (hints, status, text) = client.rest().await;
            let links: Vec<_> = hints.iter().map(Heard::link).collect();
            assert_eq!(links, ["</0>", "</1>", "</2>", "</3>", "</4>", "</5>", "</6>", "</7>"], "{front:?} {speaks:?}");
            assert_eq!((status, text.as_str()), (200, "done"));
        }
    }
}

#[tokio::test]
async fn all_hints_of_a_request_have_a_size_together() {
    let large = |name: char, size: usize| early(name.to_string().repeat(size));
    for (front, speaks) in COMBINATIONS {
        let hints = vec![large('a', 7000), large('b', 17_000), large('c', 7000), large('d', 7000), large('e', 10)];
        let node = Node::hinting(speaks, hints, open()).await;
        let proxy = node.behind("");
        let mut client = Asker::connect(front, proxy.address).await;
        client.ask().await;
        let (hints, status, _) = client.rest().await;
        let heard: String = hints.iter().map(|hint| &hint.link()[..1]).collect();
        assert_eq!((heard.as_str(), status), ("ace", 200), "{front:?} {speaks:?}");
    }
}

/// Hints and answers go out behind each other, and what a client does not read holds up no node.
#[tokio::test]
async fn a_client_that_reads_late_hears_them_in_order() {
    let requests = 300;
    let gate = Arc::new(Semaphore::new(requests));
    let node = Node::hinting(Http::One, (0..8).map(|n| early(n.to_string().repeat(1900))).collect(), gate).await;
    let proxy = node.behind("");
    let Node::One(seen) = &node else { unreachable!("it was made so") };
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: app.test\r\n\r\n".repeat(requests)).await;
    until("a few have been answered", || seen.requests().len() > 3).await;
    let mut client = Asker::One(client);
    for number in 0..requests {
        let (hints, status, text) = client.rest().await;
        let heard: String = hints.iter().map(|hint| &hint.link()[..1]).collect();
        assert_eq!((heard.as_str(), status, text.as_str()), ("01234567", 200, "done"), "{number}");
    }
}

#[tokio::test]
async fn a_request_that_goes_again_is_answered_whatever_was_hinted() {
    let bad = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.send(said(&early("</bad>"))).await;
    })
    .await;
    let good = TestNode::sending(
        format!("{}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhere", said(&early("</good>"))),
        false,
    )
    .await;
    let proxy = single(&[bad.address, good.address], "retry.budget = \"100%\"");
    for front in [Http::One, Http::Two] {
        let mut client = Asker::connect(front, proxy.address).await;
        for _ in 0..20 {
            client.ask().await;
            let (hints, status, text) = client.rest().await;
            assert_eq!((status, text.as_str()), (200, "here"), "{front:?} {hints:?}");
            // Those of a try that failed may have left before it did.
            let links: Vec<_> = hints.iter().map(Heard::link).collect();
            assert!(matches!(links[..], ["</good>"] | ["</bad>", "</good>"]), "{links:?}");
        }
    }
    assert!(proxy.counts().2 > 0, "the bad node was tried");
}

#[tokio::test]
async fn a_node_that_fails_behind_its_hints_is_told_as_any_other() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.send(said(&early("</bad>"))).await;
        peer.send("HTTP/1.1 nonsense\r\n\r\n").await;
        peer.closed().await;
    })
    .await;
    let proxy = single(&[node.address], "");
    for front in [Http::One, Http::Two] {
        let mut client = Asker::connect(front, proxy.address).await;
        client.ask().await;
        let (hints, status, _) = client.rest().await;
        assert!(hints.iter().all(|hint| hint.link() == "</bad>"), "{hints:?}");
        assert_eq!(status, 502, "{front:?}");
    }
}

/// A client may have forgotten a stream that it has reset, and would end the connection for what comes on it later.
#[tokio::test]
async fn nothing_is_hinted_on_a_stream_that_was_reset() {
    const STREAMS: usize = 60;
    let gate = Arc::new(Semaphore::new(0));
    let go = Arc::clone(&gate);
    let node = TestNode::start(move |mut peer| {
        let go = Arc::clone(&go);
        async move {
            peer.request().await;
            go.acquire().await.expect("a gate").forget();
            peer.send(said(&early("</late>"))).await;
            peer.closed().await;
        }
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = RawFrames::connect(proxy.address, &[]).await;
    let streams = || (0..STREAMS as u32).map(|number| 2 * number + 1);
    client.send(streams().flat_map(|stream| get(stream, "/")).collect::<Vec<_>>()).await;
    until("all are at the node", || node.requests().len() == STREAMS).await;
    let cancel = 8_u32.to_be_bytes();
    let resets = streams().flat_map(|stream| frame(3, 0, stream, &cancel));
    gate.add_permits(STREAMS);
    client.send(resets.chain(frame(6, 0, 0, b"allreset")).collect::<Vec<_>>()).await;
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
    client.send(frame(6, 0, 0, b"the end.")).await;
    let (mut reset, mut late) = (false, 0);
    while let Some((kind, flags, _, payload)) = client.frame().await {
        match kind {
            1 => late += usize::from(reset),
            6 if flags == 1 && payload == b"the end." => break,
            6 if flags == 1 => reset = true,
            _ => {}
        }
    }
    assert_eq!((reset, late), (true, 0));
}

#[tokio::test]
async fn a_continue_and_hints_do_not_stand_in_each_others_way() {
    for (front, speaks) in COMBINATIONS {
        let steps = [early("</first>"), (100, vec![]), early("</second>")];
        let node = match speaks {
            Http::One => Node::One(
                TestNode::start(move |mut peer| {
                    let steps = steps.clone();
                    async move {
                        let head = peer.head().await.expect("a head");
                        assert_eq!(head.header("expect"), Some("100-continue"));
                        peer.send(steps.iter().map(said).collect::<String>()).await;
                        assert_eq!(peer.bytes(4).await.as_deref(), Some(&b"data"[..]));
                        peer.send(said(&early("</third>"))).await;
                        peer.respond(200, "got it").await;
                        peer.closed().await;
                    }
                })
                .await,
            ),
            Http::Two => Node::Two(
                H2Node::start(move |mut exchange| {
                    let steps = steps.clone();
                    async move {
                        for (status, fields) in steps.into_iter().chain([early("</third>")]) {
                            if fields.iter().any(|(_, value)| value == "</third>") {
                                assert_eq!(exchange.whole().await.expect("a body").0, b"data");
                            }
                            let mut hint = Response::builder().status(status);
                            for (name, value) in fields {
                                hint = hint.header(name, value);
                            }
                            exchange.answer.send_informational(hint.body(()).expect("a head")).expect("a stream");
                        }
                        exchange.respond(200, "got it");
                    }
                })
                .await,
            ),
        };
        let proxy = node.behind("");
        let mut client = Asker::connect(front, proxy.address).await;
        client.offer().await;
        let mut first = [client.hint().await, client.hint().await, client.hint().await];
        // The body is asked for by whoever wants it, at a time of its own.
        first.sort_by_key(|hint| hint.status);
        assert_eq!(first[0], Heard { status: 100, fields: vec![] }, "{front:?} {speaks:?}");
        assert_eq!((first[1].link(), first[2].link()), ("</first>", "</second>"), "{front:?} {speaks:?}");
        client.give().await;
        let (hints, status, text) = client.rest().await;
        assert_eq!(hints.iter().map(Heard::link).collect::<Vec<_>>(), ["</third>"], "{front:?} {speaks:?}");
        assert_eq!((status, text.as_str()), (200, "got it"), "{front:?} {speaks:?}");
    }
}

#[tokio::test]
async fn a_hint_may_come_before_a_tunnel_opens() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        peer.send(format!("{}{switch}hello", said(&early("</a>")))).await;
        let heard = peer.bytes(4).await.expect("what the client says");
        peer.send(heard).await;
        peer.closed().await;
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: app.test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    assert_eq!(client.head().await.expect("a hint").status, 103);
    assert_eq!(client.head().await.expect("an answer").status, 101);
    client.send("ping").await;
    assert_eq!(client.bytes(9).await.as_deref(), Some(&b"helloping"[..]));
}

#[tokio::test]
async fn nobody_hears_what_a_copy_is_told() {
    let hinting = |name: &str| {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
        TestNode::sending(format!("{}{answer}", said(&early(name))), false)
    };
    let (old, new) = (hinting("</old>").await, hinting("</new>").await);
    let proxy = on_trial(&[old.address], &[new.address], 0, "shadow.share = \"100%\"\n");
    for front in [Http::One, Http::Two] {
        let mut client = Asker::connect(front, proxy.address).await;
        for _ in 0..5 {
            client.ask().await;
            let (hints, ..) = client.rest().await;
            assert_eq!(hints.iter().map(Heard::link).collect::<Vec<_>>(), ["</old>"], "{front:?}");
        }
    }
    until("the copies are there", || new.requests().len() == 10).await;
}
