//! TLS in front: which certificate is shown to whom, who is let in, and what a node learns of it.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, HandshakeKind};

use crate::support::client::Client;
use crate::support::node::TestNode;
use crate::support::tls::{Authority, Files, TlsClient, connect, listener, serial};
use crate::support::{PATIENCE, Proxy, app, until};

pub fn proxy(node: &TestNode, certificates: &[&Files], more: &str) -> Proxy {
    Proxy::listening(&app(&[node.address], ""), &listener(certificates, more), 1)
}

/// One GET and its answer: status and body.
async fn get(stream: TlsClient, path: &str) -> (u16, String) {
    let response = Client::over(stream).get(path).await;
    (response.status, response.text())
}

#[tokio::test]
async fn requests_are_served_over_tls_and_the_node_is_told_so() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let node = TestNode::answering("hello").await;
    let proxy = proxy(&node, &[&files], "");
    for versions in [[&TLS12], [&TLS13]] {
        let config = Arc::new(ca.client_with(&versions, None));
        let stream = connect(&config, proxy.address, "app.test").await.expect("a handshake");
        let mut client = Client::over(stream);
        for _ in 0..3 {
            let response = client.get("/").await;
            assert_eq!((response.status, response.text().as_str()), (200, "hello"));
        }
    }
    for request in node.requests() {
        assert_eq!(request.header("x-forwarded-proto"), Some("https"));
        assert!(request.header("forwarded").is_some_and(|value| value.ends_with("proto=https")), "{request:?}");
    }
    assert_eq!(node.requests().len(), 6);
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name_the_exact_one_first() {
    let mut ca = Authority::new();
    let first = ca.issue("first", &["first.test"]);
    let exact = ca.issue("exact", &["a.example.test", "UPPER.test"]);
    let wild = ca.issue("wild", &["*.example.test"]);
    let node = TestNode::answering("ok").await;
    let config = Arc::new(ca.client());
    let proxy = proxy(&node, &[&first, &wild, &exact], "");
    let cases = [("a.example.test", &exact), ("upper.test", &exact), ("b.example.test", &wild), ("first.test", &first)];
    for (name, files) in cases {
        let stream = connect(&config, proxy.address, name).await.expect(name);
        assert_eq!(serial(&stream), files.serial, "{name}");
    }
    // A wildcard stands for one label; who asks for nothing that is there gets the first, and finds it wrong.
    let mut careless = ca.client();
    careless.dangerous().set_certificate_verifier(Arc::new(Anything));
    let careless = Arc::new(careless);
    for name in ["x.b.example.test", "example.test", "other.test", "127.0.0.1"] {
        let stream = connect(&careless, proxy.address, name).await.expect(name);
        assert_eq!(serial(&stream), first.serial, "{name}");
    }
}

#[tokio::test]
async fn the_default_can_be_named() {
    let mut ca = Authority::new();
    let (first, second) = (ca.issue("first", &["first.test"]), ca.issue("second", &["*.second.test"]));
    let node = TestNode::answering("ok").await;
    let proxy = proxy(&node, &[&first, &second], "default = \"www.second.test\"");
    let mut careless = ca.client();
    careless.dangerous().set_certificate_verifier(Arc::new(Anything));
    let stream = connect(&Arc::new(careless), proxy.address, "other.test").await.expect("a handshake");
    assert_eq!(serial(&stream), second.serial);
}

#[tokio::test]
async fn a_strict_listener_refuses_unknown_names_in_the_words_of_tls() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let node = TestNode::answering("ok").await;
    let proxy = proxy(&node, &[&files], "strict = true");
    let config = Arc::new(ca.client());
    for name in ["other.test", "127.0.0.1"] {
        let error = connect(&config, proxy.address, name).await.expect_err("refused").to_string();
        assert!(error.contains("UnrecognisedName"), "{name}: {error}");
    }
    let stream = connect(&config, proxy.address, "app.test").await.expect("a handshake");
    assert_eq!(get(stream, "/").await.0, 200);
    until("both are counted", || proxy.pool.stats()[0].handshakes_failed.get() == 2).await;
    assert_eq!(proxy.pool.stats()[0].handshakes.get(), 1);
}

#[tokio::test]
async fn the_oldest_version_and_the_suites_are_as_configured() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let node = TestNode::answering("ok").await;
    let only13 = proxy(&node, &[&files], "min_version = \"1.3\"");
    let old = Arc::new(ca.client_with(&[&TLS12], None));
    let error = connect(&old, only13.address, "app.test").await.expect_err("too old").to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
    let suites = "suites = [\"TLS_CHACHA20_POLY1305_SHA256\", \"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\"]";
    let few = proxy(&node, &[&files], suites);
    for (versions, suite) in [
        ([&TLS13], rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
        ([&TLS12], rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ] {
        let config = Arc::new(ca.client_with(&versions, None));
        let stream = connect(&config, few.address, "app.test").await.expect("a handshake");
        assert_eq!(stream.get_ref().1.negotiated_cipher_suite().map(|agreed| agreed.suite()), Some(suite));
        assert_eq!(get(stream, "/").await.0, 200);
    }
}

#[tokio::test]
async fn a_client_that_comes_back_goes_on_with_its_session() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let node = TestNode::answering("ok").await;
    for (more, versions, resumes) in [
        ("", [&TLS13], true),
        ("", [&TLS12], true),
        ("tickets = false", [&TLS13], true),
        ("tickets = false", [&TLS12], true),
        ("tickets = false\nsession_cache = 0", [&TLS13], false),
        ("tickets = false\nsession_cache = 0", [&TLS12], false),
    ] {
        let proxy = proxy(&node, &[&files], more);
        let config = Arc::new(ca.client_with(&versions, None));
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let stream = connect(&config, proxy.address, "app.test").await.expect("a handshake");
            kinds.push(stream.get_ref().1.handshake_kind());
            // With the answer comes the ticket.
            assert_eq!(get(stream, "/").await.0, 200);
        }
        let second = if resumes { HandshakeKind::Resumed } else { HandshakeKind::Full };
        assert_eq!(kinds, [Some(HandshakeKind::Full), Some(second)], "{more} {versions:?}");
        assert_eq!(proxy.pool.stats()[0].handshakes_resumed.get(), u64::from(resumes));
    }
}

#[tokio::test]
async fn who_speaks_plain_http_to_a_tls_port_is_told() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let node = TestNode::answering("ok").await;
    let proxy = proxy(&node, &[&files], "");
    let response = Client::connect(proxy.address).await.get("/").await;
    assert_eq!((response.status, response.header("x-sluice-error")), (400, Some("plain-http")));
    assert!(response.text().contains("https://"), "{}", response.text());
    assert!(node.requests().is_empty());
}

#[tokio::test]
async fn garbage_gets_an_alert_and_harms_nobody() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let node = TestNode::answering("ok").await;
    let proxy = proxy(&node, &[&files], "");
    for bytes in [&b"\x16\x03\x01\x00\x05hello"[..], b"\x80\x2e\x01\x03\x01", b"\x00\xff\x00", &[0x16; 10_000]] {
        let mut client = Client::connect(proxy.address).await;
        client.send(bytes).await;
        client.finish().await;
        let answer = client.closed().await;
        assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    }
    let stream = connect(&Arc::new(ca.client()), proxy.address, "app.test").await.expect("a handshake");
    assert_eq!(get(stream, "/").await.0, 200);
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_ended() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let node = TestNode::answering("ok").await;
    let services = format!("limits = {{ handshake = \"300ms\" }}\n{}", app(&[node.address], ""));
    let proxy = Proxy::listening(&services, &listener(&[&files], ""), 1);
    // Silent, in the middle of its greeting, and with our answer in hand.
    for bytes in [&b""[..], b"\x16\x03\x01\x02\x00\x01", &hello()] {
        let mut client = Client::connect(proxy.address).await;
        client.send(bytes).await;
        timeout(PATIENCE, client.closed()).await.expect("closed in time");
    }
    until("all are counted", || proxy.pool.stats()[0].handshakes_failed.get() == 3).await;
}

/// What a client says first.
fn hello() -> Vec<u8> {
    let ca = Authority::new();
    let name = "app.test".try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(ca.client()), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("memory");
    bytes
}

#[tokio::test]
async fn of_too_many_half_done_handshakes_the_oldest_makes_room() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let node = TestNode::answering("ok").await;
    let services = format!("limits = {{ handshakes = 10, handshake = \"60s\" }}\n{}", app(&[node.address], ""));
    let proxy = Proxy::listening(&services, &listener(&[&files], ""), 1);
    let hello = hello();
    let mut half = Vec::new();
    for _ in 0..50 {
        let mut client = TcpStream::connect(proxy.address).await.expect("a connection");
        client.write_all(&hello).await.expect("the proxy reads");
        half.push(client);
    }
    until("forty had to go", || proxy.pool.stats()[0].handshakes_failed.get() == 40).await;
    let stream = connect(&Arc::new(ca.client()), proxy.address, "app.test").await.expect("a handshake");
    assert_eq!(get(stream, "/").await.0, 200);
}

#[tokio::test]
async fn a_burst_of_clients_is_served_whole() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let node = TestNode::answering("ok").await;
    let proxy = proxy(&node, &[&files], "");
    let config = Arc::new(ca.client_with(&[&TLS13], None));
    let one = || async {
        let stream = connect(&config, proxy.address, "app.test").await.expect("a handshake");
        get(stream, "/").await.0
    };
    let answers = futures_util::future::join_all((0..100).map(|_| one())).await;
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
}

#[tokio::test]
async fn an_answer_ends_with_close_notify_and_a_cut_one_does_not() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let node = TestNode::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            if request.line.contains("/cut") {
                // More than anybody holds back: the head is out when it breaks off.
                peer.send("HTTP/1.1 200 OK\r\ncontent-length: 4000000\r\n\r\n").await;
                peer.send(vec![b'x'; 2_000_000]).await;
                return;
            }
            peer.respond(200, "whole").await;
        }
    })
    .await;
    let proxy = proxy(&node, &[&files], "");
    let config = Arc::new(ca.client());
    for (path, clean) in [("/", true), ("/cut", false)] {
        let mut stream = connect(&config, proxy.address, "app.test").await.expect("a handshake");
        let request = format!("GET {path} HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("the proxy reads");
        let mut all = Vec::new();
        let end = timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("in time");
        assert_eq!(end.is_ok(), clean, "{path} {end:?}");
    }
}

#[tokio::test]
async fn a_large_body_arrives_whole_in_both_directions() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let node = TestNode::echoing().await;
    let proxy = proxy(&node, &[&files], "");
    let mut client =
        Client::over(connect(&Arc::new(ca.client()), proxy.address, "app.test").await.expect("a handshake"));
    let body: String = (0..300_000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    for _ in 0..3 {
        let response = client.post("/", &body).await;
        assert!(response.status == 200 && response.text() == body);
    }
}

#[tokio::test]
async fn plain_and_tls_listeners_redirect_as_configured() {
    let node = TestNode::answering("ok").await;
    for (port, suffix) in [(443, ""), (8443, ":8443")] {
        let proxy = Proxy::listening(&app(&[node.address], ""), &format!("redirect_https = {port}"), 1);
        let mut client = Client::connect(proxy.address).await;
        for (host, target, expected) in [
            ("app.test", "/a/b?c=d&e", format!("https://app.test{suffix}/a/b?c=d&e")),
            ("app.test:8080", "/", format!("https://app.test{suffix}/")),
            ("[::1]:8080", "/x", format!("https://[::1]{suffix}/x")),
        ] {
            client.send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
            let response = client.response("GET").await.expect("an answer");
            assert_eq!((response.status, response.header("location")), (308, Some(expected.as_str())));
        }
        // An upload is not lost silently, and the connection serves on.
        let response = client.post("/up", "some body").await;
        assert_eq!(response.status, 308);
        // Without a host there is nowhere to send anybody.
        client.send("GET / HTTP/1.0\r\n\r\n").await;
        assert_eq!(client.response("GET").await.map(|response| response.status), Some(400));
    }
    assert!(node.requests().is_empty());
}

/// Takes any certificate.
#[derive(Debug)]
struct Anything;

impl rustls::client::danger::ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn an_idle_tls_connection_is_closed_with_a_word_and_a_slow_head_is_answered() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let node = TestNode::answering("ok").await;
    let services = format!("limits = {{ head = \"300ms\", idle = \"300ms\" }}\n{}", app(&[node.address], ""));
    let proxy = Proxy::listening(&services, &listener(&[&files], ""), 1);
    let config = Arc::new(ca.client());
    let mut idle = connect(&config, proxy.address, "app.test").await.expect("a handshake");
    let mut all = Vec::new();
    timeout(PATIENCE, idle.read_to_end(&mut all)).await.expect("in time").expect("close_notify");
    assert!(all.is_empty());
    let mut slow = connect(&config, proxy.address, "app.test").await.expect("a handshake");
    slow.write_all(b"GET / HT").await.expect("the proxy reads");
    timeout(PATIENCE, slow.read_to_end(&mut all)).await.expect("in time").expect("close_notify");
    assert!(all.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&all));
}

#[tokio::test]
async fn both_ends_agree_on_what_is_spoken() {
    let mut ca = Authority::new();
    let files = ca.issue("app", &["app.test"]);
    let node = TestNode::answering("ok").await;
    let tls = listener(&[&files], "");
    for (spoken, offered, agreed) in [
        ("[\"http/1.1\"]", &["h2", "http/1.1"][..], Some("http/1.1")),
        ("[\"h2\", \"http/1.1\"]", &["http/1.1", "h2"], Some("h2")),
        ("[\"h2\", \"http/1.1\"]", &["http/1.1"], Some("http/1.1")),
        ("[\"h2\", \"http/1.1\"]", &[], None),
    ] {
        let proxy = Proxy::listening(&app(&[node.address], ""), &format!("protocols = {spoken}\n{tls}"), 1);
        let mut config = ca.client();
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = connect(&Arc::new(config), proxy.address, "app.test").await.expect("a handshake");
        let protocol = stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        assert_eq!(protocol.as_deref(), agreed, "{spoken} {offered:?}");
        if agreed != Some("h2") {
            assert_eq!(get(stream, "/").await.0, 200);
        }
    }
    let proxy = Proxy::listening(&app(&[node.address], ""), &format!("protocols = [\"http/1.1\"]\n{tls}"), 1);
    let mut config = ca.client();
    config.alpn_protocols = vec![b"h3".to_vec()];
    let error = connect(&Arc::new(config), proxy.address, "app.test").await.expect_err("nothing in common");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}
