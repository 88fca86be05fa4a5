//! Nodes that do exactly what a test says: each connection is a script over raw bytes.

use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A node of a test. Dropped, it stops accepting and drops its connections.
pub struct TestNode {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    /// The heads (and what came with them) of all requests that were read with [`Peer::request`].
    pub seen: Arc<Mutex<Vec<Request>>>,
    /// What scripts panicked over: requests that no proxy may send.
    offences: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// A request as a node got it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub line: String,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }

    /// Panics unless the head can be read in one way only (RFC 9112 §2.2, §3, §5, §6).
    fn check(&self) {
        let parts: Vec<&str> = self.line.split(' ').collect();
        assert!(parts.len() == 3 && parts.iter().all(|part| !part.is_empty()), "{self:?}");
        assert_eq!(parts[2], "HTTP/1.1", "{self:?}");
        assert!(parts[1].starts_with('/') || parts[1] == "*", "origin form: {self:?}");
        for (name, value) in &self.headers {
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            assert!(!name.is_empty() && name.bytes().all(token), "{self:?}");
            assert!(!value.contains(['\r', '\n', '\0']), "{self:?}");
        }
        assert_eq!(self.all("host").len(), 1, "{self:?}");
        let (codings, lengths) = (self.all("transfer-encoding"), self.all("content-length"));
        assert!(codings.is_empty() || (codings == ["chunked"] && lengths.is_empty()), "{self:?}");
        assert!(lengths.len() <= 1 && lengths.iter().all(|l| l.bytes().all(|b| b.is_ascii_digit())), "{self:?}");
        for hop in ["keep-alive", "proxy-connection"] {
            assert!(self.header(hop).is_none(), "{self:?}");
        }
    }
}

/// The node's end of one connection.
pub struct Peer {
    pub stream: TcpStream,
    /// Which connection of the node this is, from 0.
    pub number: usize,
    buffer: Vec<u8>,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl TestNode {
    /// Runs `script` for each connection.
    pub async fn start<F>(script: impl Fn(Peer) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::on(([127, 0, 0, 1], 0).into(), script).await
    }

    /// The same at this address, once another node has left it.
    pub async fn on<F>(address: SocketAddr, script: impl Fn(Peer) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let connections = Arc::new(AtomicUsize::new(0));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let offences = Arc::new(Mutex::new(Vec::new()));
        let (count, log, faults) = (Arc::clone(&connections), Arc::clone(&seen), Arc::clone(&offences));
        let task = tokio::spawn(async move {
            let mut scripts = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // Each write of a script leaves at once, as it stands.
                let _ = stream.set_nodelay(true);
                let number = count.fetch_add(1, Ordering::SeqCst);
                let peer = Peer { stream, number, buffer: Vec::new(), seen: Arc::clone(&log) };
                let run = AssertUnwindSafe(script(peer)).catch_unwind();
                let faults = Arc::clone(&faults);
                scripts.spawn(async move {
                    if let Err(panic) = run.await {
                        let text = panic.downcast_ref::<String>().cloned();
                        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                        faults.lock().expect("no panic while locked").push(text.unwrap_or_default());
                    }
                });
                while scripts.try_join_next().is_some() {}
            }
        });
        Self { address, connections, seen, offences, task }
    }

    /// Answers every request with 200 and this body, and keeps connections open.
    pub async fn answering(body: &'static str) -> Self {
        Self::start(move |mut peer| async move {
            while peer.request().await.is_some() {
                peer.respond(200, body).await;
            }
        })
        .await
    }

    /// Answers with the body of the request, in the same framing.
    pub async fn echoing() -> Self {
        Self::start(|mut peer| async move {
            while let Some(request) = peer.request().await {
                let mut answer =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len()).into_bytes();
                answer.extend(&request.body);
                peer.send(answer).await;
            }
        })
        .await
    }

    /// What arrived so far. Panics if a request was not in the one form that RFC 9112 gives it.
    pub fn requests(&self) -> Vec<Request> {
        let offences = self.offences.lock().expect("no panic while locked").clone();
        assert!(offences.is_empty(), "{offences:#?}");
        self.seen.lock().expect("no panic while locked").clone()
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    /// Reads a request with its body, strictly; `None` at the end of the connection. Panics on what no proxy may send.
    pub async fn request(&mut self) -> Option<Request> {
        let mut request = self.head().await?;
        request.check();
        if request.header("transfer-encoding").is_some() {
            loop {
                let line = self.line().await?;
                assert!(line.bytes().all(|b| b.is_ascii_hexdigit()), "a chunk size: {line:?}");
                let size = usize::from_str_radix(&line, 16).expect("a chunk size");
                if size == 0 {
                    loop {
                        let line = self.line().await?;
                        match line.split_once(':') {
                            Some((name, value)) => {
                                request.trailers.push((name.to_lowercase(), value.trim().to_owned()));
                            }
                            None => break,
                        }
                    }
                    break;
                }
                let data = self.bytes(size).await?;
                request.body.extend(data);
                assert_eq!(self.bytes(2).await?, b"\r\n");
            }
        } else if let Some(length) = request.header("content-length") {
            let length: usize = length.parse().expect("a length");
            request.body = self.bytes(length).await?;
        }
        self.seen.lock().expect("no panic while locked").push(request.clone());
        Some(request)
    }

    /// Reads a head only.
    pub async fn head(&mut self) -> Option<Request> {
        let mut request = Request { line: self.line().await?, ..Request::default() };
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Some(request);
            }
            let (name, value) = line.split_once(':').expect("a header field");
            request.headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Some(line);
            }
            self.more().await?;
        }
    }

    /// Exactly this many bytes.
    pub async fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            self.more().await?;
        }
        Some(self.buffer.drain(..count).collect())
    }

    async fn more(&mut self) -> Option<()> {
        self.buffer.reserve(16 * 1024);
        let read = self.stream.read_buf(&mut self.buffer).await.ok()?;
        (read > 0).then_some(())
    }

    /// Sends raw bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The proxy may have gone; the test sees that on its own side.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Sends a small response.
    pub async fn respond(&mut self, status: u16, body: &str) {
        self.send(format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
    }

    /// Waits until the proxy closes the connection.
    pub async fn closed(&mut self) {
        while self.more().await.is_some() {}
    }
}
