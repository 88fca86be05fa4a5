//! Nodes at `https://` that speak HTTP/2, or choose.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::support::Proxy;
use crate::support::client::{Client, Response};
use crate::support::tls::{Authority, quoted};

/// Answers with the version and the scheme in which it was asked.
struct Node {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Node {
    async fn choosing(ca: &mut Authority, name: &str, protocols: &[&str]) -> Self {
        let files = ca.issue(name, &["127.0.0.1"]);
        let mut config = ca.server(&files);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let connections = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
                tasks.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    count.fetch_add(1, Ordering::SeqCst);
                    let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                        let upgrade = if request.headers().contains_key("upgrade") { " upgrade" } else { "" };
                        let scheme = request.uri().scheme_str().unwrap_or("none");
                        let text = format!("{:?} {scheme}{upgrade}", request.version());
                        Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(text))))
                    });
                    let io = TokioIo::new(stream);
                    let _ = if two {
                        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .serve_connection(io, service)
                            .await
                    } else {
                        hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
                    };
                });
            }
        });
        Self { address, connections, task }
    }

    fn proxy(&self, ca: &Authority, protocol: &str) -> Proxy {
        let tls = format!("[service.app.tls]\nca = {}\n", quoted(&ca.path("ca.pem")));
        let head = format!("[service.app]\nmatch = \"*\"\nnodes = [\"https://{}\"]\n", self.address);
        Proxy::with_workers(&format!("{head}connections.protocol = \"{protocol}\"\n{tls}"), 1)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn fault(response: &Response) -> (u16, &str) {
    (response.status, response.header("x-sluice-error").unwrap_or_default())
}

#[tokio::test]
async fn http2_over_tls_shares_one_connection() {
    let mut ca = Authority::new();
    let node = Node::choosing(&mut ca, "node", &["http/1.1", "h2"]).await;
    let proxy = node.proxy(&ca, "h2");
    for _ in 0..5 {
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(client.get("/").await.text(), "HTTP/2.0 https");
        assert_eq!(client.post("/", "body").await.text(), "HTTP/2.0 https");
    }
    assert_eq!(node.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_node_that_does_not_choose_http2_gets_no_request() {
    let mut ca = Authority::new();
    for (name, protocols, label) in [("old", &["http/1.1"][..], "node-tls"), ("mute", &[], "protocol")] {
        let node = Node::choosing(&mut ca, name, protocols).await;
        let proxy = node.proxy(&ca, "h2");
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(fault(&client.post("/", "body").await), (502, label), "{name}");
        assert!(proxy.nodes.values().all(|node| node.totals().1 > 0), "it counts as failing");
    }
}

#[tokio::test]
async fn a_node_may_choose_and_upgrades_go_over_http1() {
    let mut ca = Authority::new();
    for (name, protocols, version) in [
        ("both", &["h2", "http/1.1"][..], "HTTP/2.0 https"),
        ("new", &["h2"], "HTTP/2.0 https"),
        ("old", &["http/1.1"], "HTTP/1.1 none"),
        ("mute", &[], "HTTP/1.1 none"),
    ] {
        let node = Node::choosing(&mut ca, name, protocols).await;
        let proxy = node.proxy(&ca, "auto");
        // At once: nobody knows yet what it speaks.
        let asks = (0..5).map(|_| async {
            let mut client = Client::connect(proxy.address).await;
            let first = client.get("/").await.text();
            (first, client.post("/", "body").await.text())
        });
        for (first, second) in futures_util::future::join_all(asks).await {
            assert_eq!((first.as_str(), second.as_str()), (version, version), "{name}");
        }
        if version.starts_with("HTTP/2") {
            assert_eq!(node.connections.load(Ordering::SeqCst), 1, "{name}");
        }
        if name == "both" {
            let mut client = Client::connect(proxy.address).await;
            client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
            let response = client.response("GET").await.expect("a response");
            assert_eq!(response.text(), "HTTP/1.1 none upgrade");
            assert_eq!(client.get("/").await.text(), version, "the others go on as before");
        }
    }
}
