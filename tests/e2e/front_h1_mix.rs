//! Clients of every kind at once on one worker, each with requests of every frame behind one another, cut at any byte: each gets
//! the answers to what it asked, in order, and nothing of another's.

use std::fmt::Write as _;
use std::time::Duration;

use std::net::SocketAddr;
use std::sync::Arc;

use fastrand::Rng;
use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;

use crate::support::client::Client;
use crate::support::node::TestNode;
use crate::support::tls::{self, Authority, listener};
use crate::support::{PATIENCE, Proxy, app, until};

/// What is sent, the method, and what is to come back.
struct Asked {
    text: Vec<u8>,
    method: &'static str,
    status: u16,
    body: String,
}

fn ask(random: &mut Rng, name: &str) -> Asked {
    let most = if random.u8(..20) == 0 { 90_000 } else { 300 };
    let body: String = (0..random.usize(..most)).map(|_| random.alphanumeric()).collect();
    // Nobody serves the other one: its answer may come before its body.
    let served = random.u8(..8) > 0;
    let host = if served { "app.test" } else { "other.test" };
    // Rarely: nobody asks for it before a second is over.
    let expect = if random.u8(..40) == 0 { "expect: 100-continue\r\n" } else { "" };
    let head = |method: &str, fields: &str| format!("{method} /{name} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n");
    let (method, text, body) = match random.u8(..4) {
        0 => ("GET", head("GET", ""), String::new()),
        1 => ("HEAD", head("HEAD", ""), String::new()),
        2 => ("POST", head("POST", &format!("{expect}content-length: {}\r\n", body.len())) + &body, body),
        _ => {
            let mut text = head("PUT", &format!("transfer-encoding: chunked\r\n{expect}"));
            let mut rest = &body[..];
            while !rest.is_empty() {
                let (chunk, more) = rest.split_at(random.usize(1..=rest.len()));
                let extension = ["", ";a", " ; a = \"\\\"b\\\"\""][random.usize(..3)];
                write!(text, "{:x}{extension}\r\n{chunk}\r\n", chunk.len()).expect("room");
                rest = more;
            }
            text += ["0\r\n\r\n", "00\r\nx-sum: 1\r\n\r\n"][random.usize(..2)];
            ("PUT", text, body)
        }
    };
    let status = if served { 200 } else { 404 };
    let body = if method == "HEAD" { String::new() } else { format!("{method} /{name} {body}") };
    Asked { text: text.into_bytes(), method, status, body }
}

trait Both: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Both for T {}

/// A connection, over TLS if it has something to do that with, and its socket.
async fn connect(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> (Client<Box<dyn Both>>, Socket) {
    let socket = |tcp: &TcpStream| SockRef::from(tcp).try_clone().expect("a second handle");
    if let Some(config) = tls {
        let stream = tls::connect(config, address, "app.test").await.expect("a handshake");
        let socket = socket(stream.get_ref().0);
        return (Client::over(Box::new(stream)), socket);
    }
    let stream = Client::connect(address).await.stream;
    let socket = socket(&stream);
    (Client::over(Box::new(stream)), socket)
}

/// One client: how many answers it got.
async fn converse(address: SocketAddr, tls: Option<Arc<ClientConfig>>, name: String, mut random: Rng) -> usize {
    let (mut client, mut socket) = connect(address, tls.as_ref()).await;
    let mut answers = 0;
    for turn in 0..15 {
        // Several behind one another, unless one of them may end the connection.
        let mut asked = Vec::new();
        for n in 0..random.usize(1..5) {
            asked.push(ask(&mut random, &format!("{name}-{turn}-{n}")));
            if asked.last().is_some_and(|last| last.status != 200) {
                break;
            }
        }
        let text = asked.iter().flat_map(|one| one.text.clone()).collect::<Vec<u8>>();
        let mut cuts: Vec<usize> = (0..random.usize(..4)).map(|_| random.usize(..=text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        if random.u8(..60) == 0 {
            // It goes in the middle.
            let _ = client.stream.write_all(&text[..random.usize(..text.len())]).await;
            if random.bool() {
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
            return answers;
        }
        for pair in cuts.windows(2) {
            client.send(&text[pair[0]..pair[1]]).await;
            if random.bool() {
                tokio::task::yield_now().await;
            }
        }
        for one in &asked {
            let response = timeout(PATIENCE, client.response(one.method)).await.expect("in time").expect("an answer");
            assert_eq!((response.status, response.truncated), (one.status, false));
            if one.status == 200 {
                assert_eq!(response.text(), one.body);
            }
            answers += 1;
            if response.header("connection") == Some("close") {
                assert_eq!(one.status, 404, "for no reason");
                assert!(client.closed().await.is_empty());
                (client, socket) = connect(address, tls.as_ref()).await;
            }
        }
    }
    answers
}

#[tokio::test]
async fn every_client_over_tls_gets_the_answers_to_what_it_asked_and_nothing_else() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    mix(&listener(&[&files], ""), Some(Arc::new(ca.client()))).await;
}

#[tokio::test]
async fn every_client_gets_the_answers_to_what_it_asked_and_nothing_else() {
    mix("", None).await;
}

async fn mix(listener: &str, tls: Option<Arc<ClientConfig>>) {
    let seed =
        std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SLUICE_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let node = TestNode::start(|mut peer| async move {
        let mut random = Rng::new();
        while let Some(request) = peer.request().await {
            let mut words = request.line.split(' ');
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let body = format!("{method} {path} {}", String::from_utf8_lossy(&request.body));
            if method == "HEAD" {
                peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len())).await;
            } else if random.bool() {
                peer.respond(200, &body).await;
            } else {
                let (one, two) = body.split_at(random.usize(1..4));
                peer.send(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n", one.len()))
                    .await;
                tokio::task::yield_now().await;
                peer.send(format!("{:x}\r\n{two}\r\n0\r\n\r\n", two.len())).await;
            }
        }
    })
    .await;
    let proxy = Proxy::listening(&app(&[node.address], "").replace("\"*\"", "\"app.test\""), listener, 1);
    let mut clients = tokio::task::JoinSet::new();
    for name in 0..30 {
        clients.spawn(converse(proxy.address, tls.clone(), name.to_string(), random.fork()));
    }
    let answers: usize = clients.join_all().await.into_iter().sum();
    assert!(answers > 300, "{answers} answers");
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
    let (accepted, ended) = (|| proxy.pool.stats()[0].accepted.get(), || proxy.pool.stats()[0].ended.get());
    until("every connection has ended", || accepted() == ended()).await;
}

#[tokio::test]
async fn what_is_sent_behind_an_upload_whose_answer_began_early_is_the_next_request() {
    let node = TestNode::start(|mut peer| async move {
        while let Some(head) = peer.head().await {
            if head.line.starts_with("GET") {
                peer.respond(200, "next").await;
                continue;
            }
            peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n").await;
            let Some(body) = peer.bytes(70_000).await else { return };
            let text = if body.iter().all(|byte| *byte == b'x') { "whole" } else { "other" };
            peer.send(format!("5\r\n{text}\r\n0\r\n\r\n")).await;
        }
    })
    .await;
    let proxy = Proxy::with_workers(&app(&[node.address], ""), 1);
    let upload = format!("POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 70000\r\n\r\n{}", "x".repeat(70_000));
    let get = "GET / HTTP/1.1\r\nhost: app.test\r\n\r\n";
    let mut client = Client::connect(proxy.address).await;
    for cut in [60, 100, 30_000, upload.len() - 1, upload.len(), upload.len() + 5, upload.len() + get.len()] {
        let all = format!("{upload}{get}{get}");
        client.send(&all[..cut]).await;
        assert_eq!(timeout(PATIENCE, client.head()).await.expect("in time").expect("a head").status, 200);
        assert_eq!(client.chunk().await.as_deref(), Some(&b"early"[..]), "cut at {cut}");
        client.send(&all[cut..]).await;
        assert_eq!(client.chunk().await.as_deref(), Some(&b"whole"[..]), "cut at {cut}");
        assert_eq!(client.bytes(5).await.as_deref(), Some(&b"0\r\n\r\n"[..]));
        for _ in 0..2 {
            assert_eq!(client.response("GET").await.expect("an answer").text(), "next", "cut at {cut}");
        }
    }
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
}
