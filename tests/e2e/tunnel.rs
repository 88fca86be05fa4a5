//! After a 101: bytes both ways, and a WebSocket that ends between two messages.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use sluicegate::model::WorkKind;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::support::client::Client;
use crate::support::control::single;
use crate::support::node::TestNode;
use crate::support::{PATIENCE, Proxy, until};

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const ASK: &str = "GET /chat?token=secret HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";

pub struct WebSocketNode(pub SocketAddr, JoinHandle<()>);

impl Drop for WebSocketNode {
    fn drop(&mut self) {
        self.1.abort();
    }
}

/// A node that echoes messages, closes when told "close", and sends numbers without end when told "stream".
pub async fn websocket_node() -> WebSocketNode {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let task = tokio::spawn(async move {
        let mut peers = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            peers.spawn(async move {
                let mut socket = accept_async(stream).await.expect("a handshake");
                while let Some(Ok(message)) = socket.next().await {
                    match message {
                        Message::Text(text) if text.as_str() == "close" => {
                            let _ = socket.close(None).await;
                        }
                        Message::Text(text) if text.as_str() == "stream" => {
                            let mut number = 0u64;
                            while socket.send(Message::text(format!("{number} {}", "x".repeat(3_000)))).await.is_ok() {
                                number += 1;
                                tokio::task::yield_now().await;
                            }
                        }
                        Message::Text(_) | Message::Binary(_) => {
                            let _ = socket.send(message).await;
                        }
                        _ => {}
                    }
                }
            });
        }
    });
    WebSocketNode(address, task)
}

async fn open(proxy: &Proxy) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(proxy.address).await.expect("a connection");
    let url = format!("ws://{}/chat", proxy.address);
    timeout(PATIENCE, client_async(url, stream)).await.expect("in time").expect("a handshake").0
}

async fn next(socket: &mut WebSocketStream<TcpStream>) -> Option<Message> {
    timeout(PATIENCE, socket.next()).await.expect("a message in time").map(|message| message.expect("a whole message"))
}

/// Reads up to the Close frame; how many messages came before, and its code.
async fn to_close(socket: &mut WebSocketStream<TcpStream>) -> (usize, CloseCode) {
    let mut messages = 0;
    loop {
        match next(socket).await.expect("a Close frame before the end") {
            Message::Close(frame) => return (messages, frame.expect("a code").code),
            _ => messages += 1,
        }
    }
}

#[tokio::test]
async fn messages_of_every_kind_and_size_go_both_ways() {
    let node = websocket_node().await;
    let proxy = single(&[node.0], "");
    let mut socket = open(&proxy).await;
    for size in [0, 1, 125, 126, 65_535, 65_536, 2_000_000] {
        socket.send(Message::text("x".repeat(size))).await.expect("sent");
        assert_eq!(next(&mut socket).await.expect("an echo").len(), size);
        socket.send(Message::binary(vec![0xFF; size])).await.expect("sent");
        assert_eq!(next(&mut socket).await, Some(Message::binary(vec![0xFF; size])));
    }
    socket.send(Message::Ping("beat".into())).await.expect("sent");
    assert_eq!(next(&mut socket).await, Some(Message::Pong("beat".into())));
}

#[tokio::test]
async fn a_tunnel_holds_its_node_until_either_side_closes() {
    let node = websocket_node().await;
    let proxy = single(&[node.0], "");
    let claimed = proxy.node(node.0);
    for by_node in [true, false] {
        let mut socket = open(&proxy).await;
        assert_eq!(claimed.inflight(), 1);
        let holders = proxy.holders(node.0).await;
        assert_eq!((holders.len(), holders[0].kind, holders[0].path.as_str()), (1, WorkKind::WebSocket, "/chat"));
        if by_node {
            socket.send(Message::text("close")).await.expect("sent");
            assert_eq!(next(&mut socket).await, Some(Message::Close(None)));
        } else {
            socket.close(None).await.expect("sent");
            assert_eq!(next(&mut socket).await, Some(Message::Close(None)));
        }
        while timeout(PATIENCE, socket.next()).await.expect("an end in time").is_some() {}
        drop(socket);
        until("the claim is released", || claimed.inflight() == 0).await;
        assert_eq!(proxy.holders(node.0).await, []);
    }
}

#[tokio::test]
async fn a_dead_client_frees_the_node() {
    let node = websocket_node().await;
    let proxy = single(&[node.0], "");
    let socket = open(&proxy).await;
    assert_eq!(proxy.node(node.0).inflight(), 1);
    drop(socket);
    until("the claim is released", || proxy.node(node.0).inflight() == 0).await;
}

#[tokio::test]
async fn any_other_answer_to_an_upgrade_passes_through() {
    let node = TestNode::answering("no sockets here").await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..2 {
        client.send(ASK).await;
        let response = client.response("GET").await.expect("a response");
        assert_eq!((response.status, response.text().as_str()), (200, "no sockets here"));
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(node.requests()[0].header("upgrade"), Some("echo"));
    assert_eq!(node.requests()[1].header("upgrade"), None);
}

#[tokio::test]
async fn what_is_sent_right_behind_the_heads_is_not_lost() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.send(format!("{SWITCH}hello")).await;
        let said = peer.bytes(5).await.expect("five bytes");
        peer.send(said).await;
        peer.closed().await;
    })
    .await;
    let proxy = single(&[node.address], "");
    for _ in 0..20 {
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("{ASK}early")).await;
        assert_eq!(client.response("GET").await.expect("a response").status, 101);
        assert_eq!(client.bytes(10).await.expect("ten bytes"), b"helloearly");
    }
    let kinds: Vec<_> = proxy.holders(node.address).await.iter().map(|holder| holder.kind).collect();
    assert!(kinds.iter().all(|kind| *kind == WorkKind::Tunnel), "{kinds:?}");
}

#[tokio::test]
async fn a_node_changes_to_a_protocol_that_was_asked_for_or_to_none() {
    for (asked, told, status) in
        [("websocket", "echo", 502), ("websocket", "WebSocket", 101), ("a/2, Echo", "echo/1", 101), ("echo", "", 101)]
    {
        let told = if told.is_empty() { String::new() } else { format!("upgrade: {told}\r\n") };
        let node =
            TestNode::sending(format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n{told}\r\n"), false)
                .await;
        let proxy = single(&[node.address], "");
        let mut client = Client::connect(proxy.address).await;
        client.send(ASK.replace("echo", asked)).await;
        assert_eq!(client.response("GET").await.expect("a response").status, status, "{asked}, {told}");
    }
}

#[tokio::test]
async fn half_a_tunnel_may_end_before_the_other() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        peer.send(SWITCH).await;
        let mut said = Vec::new();
        while let Some(byte) = peer.bytes(1).await {
            said.extend(byte);
        }
        peer.send(said).await;
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    client.send(ASK).await;
    assert_eq!(client.response("GET").await.expect("a response").status, 101);
    client.send("all I have").await;
    tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.expect("half closed");
    assert_eq!(client.closed().await, b"all I have");
}

#[tokio::test]
async fn a_websocket_whose_client_has_ended_does_not_wait_for_its_node_as_long_as_an_open_one() {
    for (protocol, waits) in [("websocket", false), ("echo", true)] {
        let node = TestNode::start(move |mut peer| async move {
            peer.request().await;
            peer.send(SWITCH.replace("echo", protocol)).await;
            // It is told of its client's end, and keeps its own side open.
            while peer.bytes(1).await.is_some() {}
            std::future::pending::<()>().await;
        })
        .await;
        let proxy = single(&[node.address], "timeouts = { body = \"200ms\", tunnel = \"1h\" }");
        let mut client = Client::connect(proxy.address).await;
        client.send(ASK.replace("echo", protocol)).await;
        assert_eq!(client.response("GET").await.expect("a response").status, 101);
        tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.expect("half closed");
        let closed = timeout(Duration::from_secs(if waits { 2 } else { 30 }), client.closed()).await;
        assert_eq!(closed.is_err(), waits, "{protocol}");
    }
}

#[tokio::test]
async fn a_cut_websocket_gets_a_close_frame_and_is_listed() {
    let node = websocket_node().await;
    let proxy = single(&[node.0], "");
    let mut socket = open(&proxy).await;
    let cut = proxy.cut(node.0, WorkKind::WebSocket, PATIENCE);
    assert_eq!(to_close(&mut socket).await, (0, CloseCode::Restart));
    // The library answers the Close by itself.
    while timeout(PATIENCE, socket.next()).await.expect("an end in time").is_some() {}
    let list = cut.all().await;
    assert_eq!((list.len(), list[0].kind, list[0].path.as_str()), (1, WorkKind::WebSocket, "/chat"));
    assert_eq!(proxy.node(node.0).inflight(), 0);
}

#[tokio::test]
async fn a_busy_websocket_is_cut_between_two_messages() {
    let node = websocket_node().await;
    let proxy = single(&[node.0], "");
    let mut sockets = Vec::new();
    for _ in 0..10 {
        let mut socket = open(&proxy).await;
        socket.send(Message::text("stream")).await.expect("sent");
        next(&mut socket).await;
        sockets.push(socket);
    }
    let cut = proxy.cut(node.0, WorkKind::WebSocket, PATIENCE);
    for mut socket in sockets {
        let reader = async move {
            let (messages, code) = to_close(&mut socket).await;
            assert_eq!(code, CloseCode::Restart, "after {messages} messages");
            while socket.next().await.is_some() {}
        };
        timeout(PATIENCE, reader).await.expect("a Close frame in time");
    }
    assert_eq!(cut.all().await.len(), 10);
}

#[tokio::test]
async fn a_fragmented_message_in_flight_is_not_broken() {
    let accept = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let told = std::sync::Arc::clone(&go);
    let node = TestNode::start(move |mut peer| {
        let told = std::sync::Arc::clone(&told);
        async move {
            peer.request().await;
            peer.send(accept).await;
            peer.send([0x01, 3, b'a', b'b', b'c']).await;
            told.notified().await;
            // A ping inside the message, its last fragment in two pieces, and the beginning of another message.
            peer.send([0x89, 0, 0x80, 4, b'd']).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            peer.send([b'e', b'f', b'g', 0x81, 5, b'n', b'o']).await;
            peer.closed().await;
        }
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: WebSocket\r\n\r\n").await;
    assert_eq!(client.response("GET").await.expect("a response").status, 101);
    assert_eq!(client.bytes(5).await.expect("a fragment"), [0x01, 3, b'a', b'b', b'c']);
    let cut = proxy.cut(node.address, WorkKind::WebSocket, PATIENCE);
    // Two looks of the watchdog: the cut has taken hold, and waits.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(proxy.node(node.address).inflight(), 1);
    go.notify_one();
    let rest = client.bytes(2 + 6 + 4).await.expect("the rest and a Close");
    assert_eq!(rest, [0x89, 0, 0x80, 4, b'd', b'e', b'f', b'g', 0x88, 2, 0x03, 0xF4]);
    client.send([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xF4]).await;
    assert_eq!(client.closed().await, b"");
    assert_eq!(cut.all().await.len(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_answer_the_close_is_cut_after_its_grace() {
    let node = websocket_node().await;
    let proxy = single(&[node.0], "");
    let socket = open(&proxy).await;
    let cut = proxy.cut(node.0, WorkKind::WebSocket, Duration::from_millis(300));
    assert_eq!(cut.all().await.len(), 1);
    assert_eq!(proxy.node(node.0).inflight(), 0);
    drop(socket);
}

#[tokio::test]
async fn a_tunnel_of_another_protocol_is_just_closed() {
    let node = TestNode::sending(SWITCH, false).await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    client.send(ASK).await;
    assert_eq!(client.response("GET").await.expect("a response").status, 101);
    let none = proxy.cut(node.address, WorkKind::WebSocket, Duration::ZERO).all().await;
    assert_eq!(none, [], "it is no WebSocket");
    let list = proxy.cut(node.address, WorkKind::Tunnel, Duration::ZERO).all().await;
    assert_eq!((list.len(), list[0].path.as_str()), (1, "/chat"));
    assert_eq!(client.closed().await, b"");
}

#[tokio::test]
async fn nothing_follows_the_nodes_own_close_frame() {
    let accept =
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x88\x02\x03\xE8";
    let node = TestNode::sending(*accept, false).await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    assert_eq!(client.response("GET").await.expect("a response").status, 101);
    assert_eq!(client.bytes(4).await.expect("a Close frame"), [0x88, 2, 0x03, 0xE8]);
    let cut = proxy.cut(node.address, WorkKind::WebSocket, Duration::from_millis(300));
    assert_eq!(client.closed().await, b"");
    assert_eq!(cut.all().await.len(), 1);
}

#[tokio::test]
async fn nothing_follows_the_nodes_own_close_frame_that_came_with_the_end_of_a_message() {
    let node = TestNode::start(|mut peer| async move {
        peer.request().await;
        // Half a message.
        peer.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x01\x02he")
            .await;
        // The other half when the client says so, and a Close, and what nobody may send.
        peer.bytes(1).await;
        peer.send(b"\x80\x02re\x88\x02\x03\xE9\x81".to_vec()).await;
        std::future::pending::<()>().await;
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    assert_eq!(client.response("GET").await.expect("a response").status, 101);
    assert_eq!(client.bytes(4).await.expect("half a message"), b"\x01\x02he");
    let cut = proxy.cut(node.address, WorkKind::WebSocket, PATIENCE);
    // The watchdog looks twice a second; if it is late, this shows less, and still the right thing.
    tokio::time::sleep(Duration::from_millis(700)).await;
    client.send("!").await;
    assert_eq!(client.bytes(8).await.expect("the rest"), b"\x80\x02re\x88\x02\x03\xE9");
    // A Close of its own, to which the proxy adds nothing.
    client.send(b"\x88\x82\0\0\0\0\x03\xE9").await;
    assert_eq!(client.closed().await, b"");
    assert_eq!(cut.all().await.len(), 1);
}
