//! A client and a node that speak either HTTP, with hyper on both ends: what a test says holds for all four combinations.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{PATIENCE, Proxy, app};

/// Which HTTP one side speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    One,
    Two,
}

/// Front and node, in every combination.
pub const COMBINATIONS: [(Http, Http); 4] =
    [(Http::One, Http::One), (Http::One, Http::Two), (Http::Two, Http::One), (Http::Two, Http::Two)];

pub type AnyError = Box<dyn Error + Send + Sync>;
pub type Body = BoxBody<Bytes, AnyError>;
pub type Upload = Channel<Bytes, AnyError>;

/// A node of a test. Dropped, it stops accepting and drops its connections.
pub struct AnyNode {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl AnyNode {
    /// Answers each request with what `handler` makes of it.
    pub async fn start<F>(
        speaks: Http,
        handler: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let handler = handler.clone();
                let service = service_fn(move |request| {
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let io = TokioIo::new(stream);
                connections.spawn(async move {
                    // A connection that breaks is seen by the test on its own side.
                    let _ = match speaks {
                        Http::One => {
                            hyper::server::conn::http1::Builder::new()
                                .half_close(true)
                                .serve_connection(io, service)
                                .await
                        }
                        Http::Two => {
                            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                            builder.serve_connection(io, service).await
                        }
                    };
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for AnyNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A proxy with one worker before a node.
pub fn before(node: &AnyNode, speaks: Http, more: &str) -> Proxy {
    let protocol = if speaks == Http::Two { "h2c" } else { "http1" };
    let more = format!("connections.protocol = \"{protocol}\"\n{more}");
    Proxy::with_workers(&app(&[node.address], &more), 1)
}

/// One connection to the proxy.
pub enum AnyClient {
    One(http1::SendRequest<Upload>),
    Two(http2::SendRequest<Upload>),
}

impl AnyClient {
    pub async fn connect(speaks: Http, address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket option");
        let io = TokioIo::new(stream);
        match speaks {
            Http::One => {
                let (send, connection) = http1::handshake(io).await.expect("a handshake");
                tokio::spawn(connection);
                Self::One(send)
            }
            Http::Two => {
                let (send, connection) = http2::handshake(TokioExecutor::new(), io).await.expect("a handshake");
                tokio::spawn(connection);
                Self::Two(send)
            }
        }
    }

    /// Sends a request; the sender brings its body.
    pub fn begin(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (Sender<Bytes, AnyError>, impl Future<Output = Result<Response<Incoming>, hyper::Error>> + Send + use<>) {
        let (sender, body) = Channel::new(1);
        (sender, self.send(method, path, headers, body))
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Upload,
    ) -> impl Future<Output = Result<Response<Incoming>, hyper::Error>> + Send + use<> {
        let uri = match self {
            Self::One(_) => path.to_owned(),
            Self::Two(_) => format!("http://app.test{path}"),
        };
        let mut request = Request::builder().method(method).uri(uri);
        if matches!(self, Self::One(_)) {
            request = request.header("host", "app.test");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("a request");
        let sent = match self {
            Self::One(send) => futures_util::future::Either::Left(send.send_request(request)),
            Self::Two(send) => futures_util::future::Either::Right(send.send_request(request)),
        };
        async move { timeout(PATIENCE, sent).await.expect("an answer in time") }
    }

    /// Whether the connection takes a further request; waits until it is ready.
    pub async fn is_ready(&mut self) -> bool {
        let ready = async {
            match self {
                Self::One(send) => send.ready().await,
                Self::Two(send) => send.ready().await,
            }
        };
        timeout(PATIENCE, ready).await.expect("in time").is_ok()
    }

    /// A request with no body or a small one, and the whole answer.
    pub async fn ask(&mut self, method: &str, path: &str, body: Option<&'static [u8]>) -> Whole {
        assert!(self.is_ready().await, "the connection was closed");
        let length = body.map(|body| body.len().to_string());
        let headers: Vec<_> = length.iter().map(|length| ("content-length", length.as_str())).collect();
        let (mut sender, response) = if body.is_some() {
            self.begin(method, path, &headers)
        } else {
            // A channel whose sender is gone is not known to be empty before it is asked.
            let (sender, response) = self.begin(method, path, &[("content-length", "0")]);
            (sender, response)
        };
        if let Some(body) = body {
            sender.send_data(Bytes::from_static(body)).await.expect("the proxy reads");
        }
        drop(sender);
        whole(response.await.expect("an answer")).await
    }
}

/// An answer as the client got it.
#[derive(Debug)]
pub struct Whole {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    /// It ended before its end.
    pub broken: bool,
}

impl Whole {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

/// Reads all of an answer.
pub async fn whole(response: Response<Incoming>) -> Whole {
    let (head, mut body) = response.into_parts();
    let mut all =
        Whole { status: head.status.as_u16(), headers: head.headers, body: Vec::new(), trailers: None, broken: false };
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.expect("a body in time") {
        let Ok(frame) = frame else {
            all.broken = true;
            break;
        };
        match frame.into_data() {
            Ok(data) => all.body.extend(&data),
            Err(frame) => all.trailers = frame.into_trailers().ok(),
        }
    }
    all
}

/// A body that is at hand.
pub fn full(body: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(body.into()).map_err(|never| match never {}).boxed()
}

/// No body.
pub fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed()
}

/// A body that comes from a sender.
pub fn streamed() -> (Sender<Bytes, AnyError>, Body) {
    let (sender, body) = Channel::new(1);
    (sender, body.boxed())
}

/// Counts what is alive: made with it, and dropped.
#[derive(Clone, Default)]
pub struct Alive(Arc<AtomicUsize>);

pub struct Life(Arc<AtomicUsize>);

impl Alive {
    pub fn begin(&self) -> Life {
        self.0.fetch_add(1, Ordering::SeqCst);
        Life(Arc::clone(&self.0))
    }

    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
