//! Nodes at `https://`: who they must be, and what becomes of their idle connections.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use sluicegate::config::{ClientTls, Protocol};
use sluicegate::model::NodeAddress;
use sluicegate::net::tls::Client as NodeTls;
use sluicegate::net::{self, Dial, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::TLS12;
use tokio_rustls::rustls::{HandshakeKind, ServerConfig};
use tokio_tungstenite::tungstenite::Message;

use crate::support::client::Client;
use crate::support::node::TestNode;
use crate::support::tls::{Authority, TlsNode, connect, head, listener, quoted, read};
use crate::support::{PATIENCE, Proxy, until};
use crate::tls_reload::Stage;

fn proxy(node: &TlsNode, tls: &str) -> Proxy {
    let services = format!("[service.app]\nmatch = \"*\"\nnodes = [\"{}\"]\n[service.app.tls]\n{tls}\n", node.url());
    Proxy::with_workers(&services, 1)
}

async fn ask(proxy: &Proxy) -> (u16, Option<String>) {
    let response = Client::connect(proxy.address).await.get("/").await;
    (response.status, response.header("x-sluice-error").map(str::to_owned))
}

#[tokio::test]
async fn a_node_proves_who_it_is_or_gets_no_request() {
    let (mut ca, mut other) = (Authority::new(), Authority::new());
    let good = ca.issue("good", &["127.0.0.1", "shop.internal"]);
    let elsewhere = ca.issue("elsewhere", &["other.internal"]);
    let foreign = other.issue("foreign", &["127.0.0.1"]);
    let trusted = format!("ca = {}", quoted(&ca.path("ca.pem")));
    let refused = || (502, Some("node-tls".to_owned()));
    let node = TlsNode::answering(ca.server(&good), "ok", false).await;
    assert_eq!(ask(&proxy(&node, &trusted)).await, (200, None));
    assert_eq!(ask(&proxy(&node, &format!("{trusted}\nserver_name = \"shop.internal\""))).await, (200, None));
    assert_eq!(ask(&proxy(&node, &format!("{trusted}\nserver_name = \"wrong.internal\""))).await, refused());
    let node = TlsNode::answering(ca.server(&elsewhere), "ok", false).await;
    assert_eq!(ask(&proxy(&node, &trusted)).await, refused());
    let node = TlsNode::answering(ca.server(&foreign), "ok", false).await;
    assert_eq!(ask(&proxy(&node, &trusted)).await, refused());
    // Nor do the system's roots know it.
    assert_eq!(ask(&proxy(&node, "")).await, refused());
    assert_eq!(ask(&proxy(&node, "insecure_skip_verify = true")).await, (200, None));
}

#[tokio::test]
async fn a_node_that_speaks_no_tls_is_no_node() {
    // It takes a greeting for a bad request, and says so.
    let plain = TestNode::start(|mut peer| async move {
        peer.bytes(1).await;
        peer.respond(400, "what?").await;
    })
    .await;
    let services = format!("[service.app]\nmatch = \"*\"\nnodes = [\"https://{}\"]\n", plain.address);
    let proxy = Proxy::with_workers(&services, 1);
    assert_eq!(ask(&proxy).await, (502, Some("node-tls".to_owned())));
}

#[tokio::test]
async fn a_node_gets_the_certificate_that_it_asks_for() {
    let mut ca = Authority::new();
    let own = ca.issue("node", &["127.0.0.1"]);
    let sluice = ca.issue("sluice", &["sluice.internal"]);
    let (chain, key) = read(&own);
    let verifier = WebPkiClientVerifier::builder_with_provider(
        ca.roots(),
        Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider()),
    );
    let config =
        ServerConfig::builder_with_provider(Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(chain, key)
            .expect("a certificate");
    let node = TlsNode::answering(config, "ok", false).await;
    let trusted = format!("ca = {}", quoted(&ca.path("ca.pem")));
    let with = format!("{trusted}\ncertificate = {}\nkey = {}", quoted(&sluice.cert), quoted(&sluice.key));
    assert_eq!(ask(&proxy(&node, &with)).await, (200, None));
    assert_eq!(ask(&proxy(&node, &trusted)).await.0, 502);
}

#[tokio::test]
async fn connections_are_kept_and_sessions_resumed() {
    let mut ca = Authority::new();
    let own = ca.issue("node", &["127.0.0.1"]);
    let trusted = format!("ca = {}", quoted(&ca.path("ca.pem")));
    let kept = TlsNode::answering(ca.server(&own), "ok", false).await;
    let keeping = proxy(&kept, &trusted);
    let mut client = Client::connect(keeping.address).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(kept.kinds().len(), 1);
    let closing = TlsNode::answering(ca.server(&own), "ok", true).await;
    let reopening = proxy(&closing, &trusted);
    let mut client = Client::connect(reopening.address).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.status, 200);
    }
    let resumed = Some(HandshakeKind::Resumed);
    assert_eq!(closing.kinds(), [Some(HandshakeKind::Full), resumed, resumed]);
}

/// A connection as the workers open it.
async fn dial(ca: &Authority, node: &TlsNode) -> Stream {
    let text = format!(
        "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n[service.a]\nmatch = \"*\"\nnodes = [\"{}\"]\ntls = {{ ca = {} }}",
        node.url(),
        quoted(&ca.path("ca.pem"))
    );
    let config = sluicegate::config::load_str(&text, std::path::Path::new("test.toml")).config.expect("valid");
    let settings: &ClientTls = &config.services["a"].tls;
    let tls = NodeTls::load(settings, None).expect("TLS");
    let address = NodeAddress::new(node.url());
    let dial = Dial { address: &address, tls: Some(&tls), offer: &[Protocol::Http1], introduce: None };
    timeout(PATIENCE, net::connect(dial)).await.expect("in time").expect("a connection")
}

#[tokio::test]
async fn an_idle_connection_outlives_tickets_and_new_keys_and_no_more() {
    let mut ca = Authority::new();
    let own = ca.issue("node", &["127.0.0.1"]);
    for (what, quiet) in [("keys", true), ("data", false), ("close_notify", false), ("end", false)] {
        let node = TlsNode::start(ca.server(&own), move |mut stream| async move {
            // With the first answer come the tickets.
            head(&mut stream).await;
            let _ = stream.write_all(b"one").await;
            head(&mut stream).await;
            match what {
                "keys" => drop(stream.get_mut().1.refresh_traffic_keys()),
                "data" => drop(stream.write_all(b"unasked").await),
                "close_notify" => stream.get_mut().1.send_close_notify(),
                _ => return,
            }
            let _ = stream.flush().await;
            let _ = stream.write_all(if what == "keys" { b"" } else { b"x" }).await;
            head(&mut stream).await;
            let _ = stream.write_all(b"two").await;
            head(&mut stream).await;
        })
        .await;
        let mut stream = dial(&ca, &node).await;
        assert!(stream.is_tls());
        let mut three = [0; 3];
        stream.write_all(b"GET\r\n\r\n").await.expect("a write");
        stream.read_exact(&mut three).await.expect("an answer");
        assert!(stream.is_quiet(), "{what}: right after the answer");
        // From here on the node says something by itself.
        stream.write_all(b"go\r\n\r\n").await.expect("a write");
        if quiet {
            for _ in 0..50 {
                assert!(stream.is_quiet(), "{what}");
                sleep(Duration::from_millis(2)).await;
            }
            stream.write_all(b"GET\r\n\r\n").await.expect("a write");
            stream.read_exact(&mut three).await.expect("an answer, under the new keys");
            assert_eq!(&three, b"two");
        } else {
            until(what, || !stream.is_quiet()).await;
            assert!(!stream.is_quiet(), "{what}: and stays so");
        }
        if what == "data" {
            let mut data = [0; 7];
            stream.read_exact(&mut data).await.expect("nothing was taken");
            assert_eq!(&data, b"unasked");
        }
    }
}

#[tokio::test]
async fn a_connection_that_the_node_ended_is_not_used_for_what_cannot_go_twice() {
    let mut ca = Authority::new();
    let own = ca.issue("node", &["127.0.0.1"]);
    // Says goodbye after each answer, without a word about it in the head.
    let node = TlsNode::start(ca.server(&own), |mut stream| async move {
        if let Some(head) = head(&mut stream).await {
            if head.starts_with("POST") {
                let mut body = [0; 4];
                let _ = stream.read_exact(&mut body).await;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    let proxy = proxy(&node, &format!("ca = {}", quoted(&ca.path("ca.pem"))));
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status, 200);
        assert_eq!(client.post("/", "body").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_node_is_probed_over_tls_before_it_serves() {
    let mut ca = Authority::new();
    let own = ca.issue("node", &["127.0.0.1"]);
    let front = ca.issue("app", &["app.test"]);
    let node = TlsNode::answering(ca.server(&own), "ok", true).await;
    let more = format!("health = {{ path = \"/healthz\" }}\ntls = {{ ca = {} }}", quoted(&ca.path("ca.pem")));
    let stage = Stage::start_with(node.url(), &listener(&[&front], ""), &more).await;
    let status = stage.status();
    let probe = status.services[0].nodes[0].probe.as_ref().expect("a probe");
    assert_eq!(probe.target, format!("GET {}/healthz", node.url()));
    assert!(probe.passed && probe.status == Some(200), "{probe:?}");
    let stream = connect(&Arc::new(ca.client()), stage.address, "app.test").await.expect("a handshake");
    assert_eq!(Client::over(stream).get("/").await.text(), "ok");
}

#[tokio::test]
async fn a_websocket_runs_over_tls_on_both_sides() {
    let mut ca = Authority::new();
    let own = ca.issue("node", &["127.0.0.1"]);
    let front = ca.issue("app", &["app.test"]);
    let node = TlsNode::start(ca.server(&own), |stream| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() || socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await;
    let services = format!(
        "[service.app]\nmatch = \"*\"\nnodes = [\"{}\"]\ntls = {{ ca = {} }}\n",
        node.url(),
        quoted(&ca.path("ca.pem"))
    );
    let proxy = Proxy::listening(&services, &listener(&[&front], ""), 1);
    for versions in [tokio_rustls::rustls::ALL_VERSIONS, &[&TLS12]] {
        let config = Arc::new(ca.client_with(versions, None));
        let stream = connect(&config, proxy.address, "app.test").await.expect("a handshake");
        let (mut socket, _) = tokio_tungstenite::client_async("wss://app.test/", stream).await.expect("an upgrade");
        for size in [1, 1000, 200_000] {
            let text = "x".repeat(size);
            socket.send(Message::text(text.clone())).await.expect("a send");
            let answer =
                timeout(PATIENCE, socket.next()).await.expect("in time").expect("a message").expect("a message");
            assert_eq!(answer.into_text().expect("text").as_str(), text);
        }
        socket.close(None).await.expect("a close");
    }
}
