//! The PROXY protocol in front: whom the node sees, and what becomes of those who do not introduce their clients.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::client::Client;
use crate::support::node::TestNode;
use crate::support::tls::{Authority, listener};
use crate::support::{PATIENCE, Proxy, app};
use crate::tls_reload::Stage;

const FROM: &str = "proxy_protocol = { from = [\"127.0.0.0/8\"] }";

fn v2(client: &str) -> Vec<u8> {
    let proxied = proxy_header::ProxiedAddress::stream(
        client.parse().expect("an address"),
        "10.0.0.1:443".parse().expect("an address"),
    );
    let mut bytes = Vec::new();
    proxy_header::ProxyHeader::with_address(proxied).encode_v2(&mut bytes).expect("memory");
    bytes
}

async fn introduced(address: SocketAddr, header: &[u8]) -> Client {
    let mut client = Client::connect(address).await;
    client.send(header).await;
    client
}

#[tokio::test]
async fn the_client_is_who_the_header_says() {
    let node = TestNode::answering("ok").await;
    let proxy = Proxy::listening(&app(&[node.address], ""), FROM, 1);
    let local = v2("1.2.3.4:1").into_iter().enumerate().map(|(at, byte)| if at == 12 { 0x20 } else { byte });
    for (header, client) in [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n".to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n".to_vec(), "2001:db8::7"),
        (v2("198.51.100.9:4711"), "198.51.100.9"),
        // They speak for themselves.
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (local.collect(), "127.0.0.1"),
    ] {
        let mut peer = introduced(proxy.address, &header).await;
        for _ in 0..2 {
            assert_eq!(peer.get("/").await.status, 200);
            let request = node.requests().pop().expect("a request");
            assert_eq!(request.header("x-forwarded-for"), Some(client));
        }
        // In one piece with the request, and byte by byte.
        let mut peer = Client::connect(proxy.address).await;
        peer.send([&header, &b"GET /one HTTP/1.1\r\nhost: app.test\r\n\r\n"[..]].concat()).await;
        assert_eq!(peer.response("GET").await.map(|response| response.status), Some(200));
        let mut peer = Client::connect(proxy.address).await;
        for byte in &header {
            peer.send([*byte]).await;
        }
        assert_eq!(peer.get("/slow").await.status, 200);
        assert_eq!(node.requests().pop().expect("a request").header("x-forwarded-for"), Some(client));
    }
}

#[tokio::test]
async fn who_must_introduce_a_client_and_does_not_is_closed_without_an_answer() {
    let node = TestNode::answering("ok").await;
    let services = format!("limits = {{ handshake = \"300ms\" }}\n{}", app(&[node.address], ""));
    let proxy = Proxy::listening(&services, FROM, 1);
    let long = format!("PROXY TCP4 {}", "1".repeat(200));
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost: app.test\r\n\r\n"[..],
        b"PROXY TCP4 nonsense\r\nGET / HTTP/1.1\r\nhost: app.test\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x41\x11\0\x0c............",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        long.as_bytes(),
        // Too slow.
        b"PROXY TCP4 192.0.2.7",
        b"",
    ] {
        let mut peer = introduced(proxy.address, bytes).await;
        assert_eq!(timeout(PATIENCE, peer.closed()).await.expect("in time"), b"", "{bytes:?}");
    }
    assert!(node.requests().is_empty());
}

#[tokio::test]
async fn connections_are_counted_for_the_client_that_the_header_names() {
    let node = TestNode::answering("ok").await;
    let services = format!("limits = {{ connections_per_address = 2 }}\n{}", app(&[node.address], ""));
    let proxy = Proxy::listening(&services, FROM, 2);
    let mut kept = Vec::new();
    for (client, status) in [(7, 200), (7, 200), (7, 429), (8, 200), (9, 200), (8, 200), (9, 200), (9, 429), (7, 429)] {
        let header = format!("PROXY TCP4 192.0.2.{client} 10.0.0.1 4711 80\r\n");
        let mut peer = introduced(proxy.address, header.as_bytes()).await;
        if status == 429 {
            let refused = peer.response("GET").await.expect("an answer");
            assert_eq!((refused.status, refused.header("x-sluice-error")), (429, Some("address-limit")));
            peer.closed().await;
            continue;
        }
        assert_eq!(peer.get("/").await.status, status, "{client}");
        kept.push(peer);
    }
    kept.clear();
    let again = async {
        loop {
            let mut peer = introduced(proxy.address, b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n").await;
            peer.send("GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await;
            if peer.response("GET").await.is_some_and(|response| response.status == 200) {
                return;
            }
        }
    };
    timeout(PATIENCE, again).await.expect("a place that is given back can be taken");
}

#[tokio::test]
async fn from_others_the_header_is_not_taken() {
    let node = TestNode::answering("ok").await;
    let proxy = Proxy::listening(&app(&[node.address], ""), "proxy_protocol = { from = [\"10.0.0.0/8\"] }", 1);
    assert_eq!(Client::connect(proxy.address).await.get("/").await.status, 200);
    let mut liar = introduced(proxy.address, b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n").await;
    assert_eq!(liar.get("/").await.status, 400);
    assert_eq!(node.requests().len(), 1);
}

#[tokio::test]
async fn tls_follows_the_header() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let node = TestNode::answering("ok").await;
    let proxy = Proxy::listening(&app(&[node.address], ""), &format!("{FROM}\n{}", listener(&[&files], "")), 1);
    for header in [b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n".to_vec(), v2("192.0.2.7:4711")] {
        let mut tcp = TcpStream::connect(proxy.address).await.expect("a connection");
        tcp.write_all(&header).await.expect("the proxy reads");
        let name = "app.test".try_into().expect("a name");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(ca.client()));
        let stream = timeout(PATIENCE, connector.connect(name, tcp)).await.expect("in time").expect("a handshake");
        assert_eq!(Client::over(stream).get("/").await.status, 200);
        let request = node.requests().pop().expect("a request");
        assert_eq!(request.header("x-forwarded-for"), Some("192.0.2.7"));
        assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    }
}

/// A node that wants every connection introduced, and answers with what it was told.
async fn curious() -> TestNode {
    TestNode::start(|mut peer| async move {
        let mut header = peer.bytes(6).await.unwrap_or_default();
        if header == b"PROXY " {
            while !header.ends_with(b"\r\n") {
                header.extend(peer.bytes(1).await.unwrap_or_default());
            }
        } else {
            header.extend(peer.bytes(10).await.unwrap_or_default());
            let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
            header.extend(peer.bytes(rest).await.unwrap_or_default());
        }
        let parsed = proxy_header::ProxyHeader::parse(&header, proxy_header::ParseConfig::default());
        let (header, _) = parsed.expect("a PROXY header");
        let told =
            header.proxied_address().map_or("local".to_owned(), |told| format!("{} {}", told.source, told.destination));
        while peer.request().await.is_some() {
            peer.respond(200, &format!("{} {told}", peer.number)).await;
        }
    })
    .await
}

#[tokio::test]
async fn nodes_are_told_the_client_and_a_connection_serves_one_client_alone() {
    for version in ["v1", "v2"] {
        let node = curious().await;
        let more = format!("connections = {{ proxy_protocol = \"{version}\" }}");
        let proxy = Proxy::listening(&app(&[node.address], &more), FROM, 1);
        let mut clients = Vec::new();
        for number in 1..=3 {
            let header = format!("PROXY TCP4 192.0.2.{number} 10.0.0.1 4711 80\r\n");
            clients.push(introduced(proxy.address, header.as_bytes()).await);
        }
        for _ in 0..3 {
            for (number, client) in clients.iter_mut().enumerate() {
                let response = client.get("/").await;
                // Each has its own connection, the same one each time.
                let told = format!("{number} 192.0.2.{}:4711 {}", number + 1, proxy.address);
                assert_eq!((response.status, response.text()), (200, told));
            }
        }
        let mut six = introduced(proxy.address, b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n").await;
        let told = six.get("/").await.text();
        assert!(told.starts_with("3 [2001:db8::7]:4711 [::ffff:127.0.0.1]:"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_introduce_themselves_too() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    for version in ["v1", "v2"] {
        let node = curious().await;
        let more = format!(
            "connections = {{ proxy_protocol = \"{version}\" }}\nhealth = {{ path = \"/\", body = \"local\" }}"
        );
        let stage = Stage::start_with(node.address, &listener(&[&files], ""), &more).await;
        assert!(stage.status().services[0].nodes[0].probe.as_ref().is_some_and(|probe| probe.passed));
    }
}
