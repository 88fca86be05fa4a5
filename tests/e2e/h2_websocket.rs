//! WebSockets over HTTP/2 (RFC 8441): an extended CONNECT in front, an upgrade of HTTP/1 at the node.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use h2::ext::Protocol;
use http::{Request, StatusCode};
use sluicegate::model::WorkKind;
use tokio::io::DuplexStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::support::control::single;
use crate::support::frames::{DATA, END_HEADERS, HEADERS, block};
use crate::support::http2::{Http2, answer, bytewise, frame};
use crate::support::node::TestNode;
use crate::support::strict::Strict;
use crate::support::{PATIENCE, until};
use crate::tunnel::websocket_node;

fn connect(protocol: &'static str) -> Request<()> {
    Request::builder()
        .method("CONNECT")
        .uri("http://app.test/chat?x=y")
        .header("sec-websocket-version", "13")
        .header("origin", "http://app.test")
        .extension(Protocol::from_static(protocol))
        .body(())
        .expect("a request")
}

async fn client(address: std::net::SocketAddr) -> Http2 {
    let client = Http2::connect(address).await;
    until("the settings came", || client.send.is_extended_connect_protocol_enabled()).await;
    client
}

async fn open(client: &mut Http2) -> WebSocketStream<DuplexStream> {
    let (response, send) = client.begin(connect("websocket"), false).await;
    let response = timeout(PATIENCE, response).await.expect("in time").expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    for name in ["upgrade", "connection", "sec-websocket-accept"] {
        assert!(!response.headers().contains_key(name), "{name} has no place here");
    }
    WebSocketStream::from_raw_socket(bytewise(send, response.into_body()), Role::Client, None).await
}

async fn next(socket: &mut WebSocketStream<DuplexStream>) -> Option<Message> {
    timeout(PATIENCE, socket.next()).await.expect("a message in time").and_then(Result::ok)
}

#[tokio::test]
async fn messages_of_every_size_go_both_ways_on_many_streams_of_one_connection() {
    let node = websocket_node().await;
    let proxy = single(&[node.0], "");
    let mut client = client(proxy.address).await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(open(&mut client).await);
    }
    assert_eq!(proxy.node(node.0).inflight(), 10);
    for size in [0, 1, 125, 126, 5_000, 65_536, 300_000] {
        for socket in &mut sockets {
            socket.send(Message::text("x".repeat(size))).await.expect("sent");
        }
        for socket in &mut sockets {
            assert_eq!(next(socket).await, Some(Message::text("x".repeat(size))));
        }
    }
    let holders = proxy.holders(node.0).await;
    assert_eq!((holders.len(), holders[0].kind, holders[0].path.as_str()), (10, WorkKind::WebSocket, "/chat"));
    for mut socket in sockets {
        socket.close(None).await.expect("sent");
        assert_eq!(next(&mut socket).await, Some(Message::Close(None)));
    }
    until("the claims are released", || proxy.node(node.0).inflight() == 0).await;
}

#[tokio::test]
async fn the_node_sees_an_upgrade_with_a_key_of_ours() {
    let node = TestNode::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.send(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: bm90IHRoZSByaWdodCBvbmU=\r\n\r\n",
            )
            .await;
            peer.closed().await;
        }
    })
    .await;
    let proxy = single(&[node.address], "");
    let mut client = client(proxy.address).await;
    let (response, _send) = client.begin(connect("websocket"), false).await;
    assert_eq!(answer(response).await.status, StatusCode::BAD_GATEWAY, "a wrong answer to the key");
    let seen = &node.requests()[0];
    assert_eq!(seen.line, "GET /chat?x=y HTTP/1.1");
    assert_eq!((seen.header("connection"), seen.header("upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!((seen.header("origin"), seen.header("sec-websocket-version")), (Some("http://app.test"), Some("13")));
    assert!(seen.header("sec-websocket-key").is_some_and(|key| key.len() == 24), "{seen:?}");
    assert!(seen.header("content-length").is_none() && seen.header("transfer-encoding").is_none());
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
}

#[tokio::test]
async fn other_answers_and_other_protocols_open_nothing() {
    let node = TestNode::start(|mut peer| async move {
        while let Some(_request) = peer.request().await {
            peer.respond(403, "no").await;
        }
    })
    .await;
    let plain = TestNode::answering("a page").await;
    let proxy = single(&[node.address], "");
    let mut client = client(proxy.address).await;
    let (response, _send) = client.begin(connect("websocket"), false).await;
    let refused = answer(response).await;
    assert_eq!((refused.status.as_u16(), refused.text().as_str()), (403, "no"));
    let (response, _send) = client.begin(connect("connect-udp"), false).await;
    let unknown = answer(response).await;
    assert_eq!((unknown.status.as_u16(), unknown.header("x-sluice-error")), (501, Some("unknown-protocol")));
    let proxy = single(&[plain.address], "");
    let mut client = self::client(proxy.address).await;
    let (response, _send) = client.begin(connect("websocket"), false).await;
    assert_eq!(answer(response).await.status, StatusCode::BAD_GATEWAY, "200 would mean an open WebSocket");
}

#[tokio::test]
async fn a_cut_websocket_gets_a_close_frame_between_two_messages() {
    let node = websocket_node().await;
    let proxy = single(&[node.0], "");
    let mut client = client(proxy.address).await;
    let mut quiet = open(&mut client).await;
    let mut busy = open(&mut client).await;
    busy.send(Message::text("stream")).await.expect("sent");
    next(&mut busy).await;
    let cut = proxy.cut(node.0, WorkKind::WebSocket, PATIENCE);
    for socket in [&mut quiet, &mut busy] {
        let code = loop {
            match next(socket).await {
                Some(Message::Close(frame)) => break frame.expect("a reason").code,
                Some(_) => {}
                None => panic!("no Close before the end"),
            }
        };
        assert_eq!(code, CloseCode::Restart);
        while timeout(PATIENCE, socket.next()).await.expect("an end in time").is_some_and(|next| next.is_ok()) {}
    }
    assert_eq!(cut.all().await.len(), 2);
    assert_eq!(proxy.node(node.0).inflight(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_and_a_silent_tunnel_free_the_node() {
    let node = websocket_node().await;
    let proxy = single(&[node.0], "[service.app.timeouts]\ntunnel = \"400ms\"");
    let mut client = client(proxy.address).await;
    let socket = open(&mut client).await;
    assert_eq!(proxy.node(node.0).inflight(), 1);
    drop(socket);
    until("the claim is released", || proxy.node(node.0).inflight() == 0).await;
    let mut silent = open(&mut client).await;
    while timeout(PATIENCE, silent.next()).await.expect("an end in time").is_some_and(|next| next.is_ok()) {}
    until("the claim is released", || proxy.node(node.0).inflight() == 0).await;
}

#[tokio::test]
async fn a_client_that_thanks_for_each_message_of_a_tunnel_is_no_flood() {
    let node = websocket_node().await;
    let proxy = single(&[node.0], "");
    let mut client = Strict::connect(proxy.address, &[]).await;
    let websocket = [(":protocol", "websocket"), ("sec-websocket-version", "13")];
    let usual = [(":method", "CONNECT"), (":scheme", "http"), (":authority", "app.test"), (":path", "/chat")];
    client.send(frame(HEADERS, END_HEADERS, 1, &[block(&usual), block(&websocket)].concat())).await;
    client.run("the tunnel", |client| client.heard(1).status() == 200).await;
    // "stream", as a client has to mask it.
    client.send(frame(DATA, 0, 1, b"\x81\x86\0\0\0\0stream")).await;
    let mut thanked = 0;
    // Much more than anybody may send that is of no use.
    while thanked < 4_000 && !client.is_over {
        client.step().await;
        let pieces = client.streams.get(&1).map_or(&[][..], |stream| &stream.pieces).to_vec();
        for size in &pieces[thanked..] {
            client.grant(1, *size as u32).await;
            client.grant(0, *size as u32).await;
        }
        thanked = pieces.len();
    }
    assert_eq!(client.goodbye, None);
    client.fence().await;
}

#[tokio::test]
async fn a_client_that_ended_its_half_and_leaves_frees_the_node() {
    // A node that does not mind that its client has ended.
    let node = TestNode::start(|mut peer| async move {
        let request = peer.request().await.expect("a request");
        let key = derive_accept_key(request.header("sec-websocket-key").expect("a key").as_bytes());
        peer.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {key}\r\n\r\n"
        ))
        .await;
        while peer.bytes(1).await.is_some() {}
        peer.send("\x01\x01x").await;
        std::future::pending::<()>().await;
    })
    .await;
    let proxy = single(&[node.address], "");
    for leaves in ["a reset", "the end of the connection"] {
        let mut client = client(proxy.address).await;
        let (response, mut send) = client.begin(connect("websocket"), false).await;
        let response = timeout(PATIENCE, response).await.expect("in time").expect("an answer");
        send.send_data(Bytes::new(), true).expect("an open stream");
        let mut body = response.into_body();
        assert_eq!(body.data().await.expect("an answer").expect("no reset").len(), 3, "the node has seen it");
        if leaves == "a reset" {
            send.send_reset(h2::Reason::CANCEL);
        } else {
            drop((client, send, body));
        }
        until(leaves, || proxy.node(node.address).inflight() == 0).await;
    }
}
