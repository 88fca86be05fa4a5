//! gRPC, with tonic on both ends: every kind of call, errors with details, deadlines, and what a drain does to a stream.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, StreamExt, stream};
use http::uri::PathAndQuery;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sluicegate::model::WorkKind;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::server::StreamingService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::support::control::single;
use crate::support::{PATIENCE, Proxy, until};

use crate::node_h2::H2C;

/// Messages that are bytes: what is in them is nobody's business on the way.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// What the node does, by the method's name. All kinds of calls are the same on the wire.
#[derive(Clone)]
struct Methods {
    path: String,
    seen: Arc<Mutex<Vec<http::HeaderMap>>>,
}

impl StreamingService<Bytes> for Methods {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Messages>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let path = self.path.clone();
        self.seen.lock().expect("no panic while locked").push(request.metadata().clone().into_headers());
        Box::pin(async move {
            let mut messages = request.into_inner();
            let out: Messages = match path.as_str() {
                "/t.T/Echo" => Box::pin(messages),
                "/t.T/Count" => {
                    let mut count = 0;
                    while let Some(message) = messages.message().await? {
                        count += message.len();
                    }
                    Box::pin(stream::iter([Ok(Bytes::from(count.to_string()))]))
                }
                "/t.T/Many" => {
                    let many = (0..1000).map(|number| Ok(Bytes::from(vec![7; number])));
                    Box::pin(stream::iter(many))
                }
                "/t.T/Ticks" => Box::pin(stream::unfold(0u64, |number| async move {
                    sleep(Duration::from_millis(2)).await;
                    Some((Ok(Bytes::from(number.to_be_bytes().to_vec())), number + 1))
                })),
                "/t.T/FailLater" => {
                    let end =
                        Status::with_details(Code::DataLoss, "it got lost", Bytes::from_static(b"\x01details\xff"));
                    Box::pin(stream::iter([Ok(Bytes::from_static(b"one")), Ok(Bytes::from_static(b"two")), Err(end)]))
                }
                "/t.T/Fail" => {
                    let mut status =
                        Status::with_details(Code::FailedPrecondition, "not \"now\" ü", Bytes::from_static(b"why"));
                    status.metadata_mut().insert("x-more", MetadataValue::from_static("yes"));
                    return Err(status);
                }
                "/t.T/Hang" => std::future::pending().await,
                _ => return Err(Status::unimplemented("no such method")),
            };
            Ok(Response::new(out))
        })
    }
}

/// A gRPC server of tonic's. Dropped, it stops.
struct GrpcNode {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<http::HeaderMap>>>,
    task: JoinHandle<()>,
}

impl GrpcNode {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let log = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let log = Arc::clone(&log);
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let methods = Methods { path: request.uri().path().to_owned(), seen: Arc::clone(&log) };
                    async move {
                        let mut grpc = tonic::server::Grpc::new(Raw);
                        Ok::<_, Infallible>(grpc.streaming(methods, request).await)
                    }
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                connections.spawn(async move {
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, seen, task }
    }
}

impl Drop for GrpcNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn client(proxy: &Proxy) -> Grpc<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", proxy.address)).expect("an address");
    let channel = timeout(PATIENCE, endpoint.connect()).await.expect("in time").expect("a connection");
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.expect("a connection");
    grpc
}

fn path(path: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(path)
}

/// Calls with one message, for a stream.
async fn begin(grpc: &mut Grpc<Channel>, method: &'static str) -> Result<Streaming<Bytes>, Status> {
    grpc.ready().await.expect("a connection");
    let call = grpc.server_streaming(Request::new(Bytes::from_static(b"go")), path(method), Raw);
    timeout(PATIENCE, call).await.expect("an answer in time").map(Response::into_inner)
}

async fn next(stream: &mut Streaming<Bytes>) -> Result<Option<Bytes>, Status> {
    timeout(PATIENCE, stream.message()).await.expect("a message in time")
}

#[tokio::test]
async fn every_kind_of_call_works_and_all_share_a_connection() {
    let node = GrpcNode::start().await;
    let proxy = single(&[node.address], H2C);
    let mut grpc = client(&proxy).await;
    for size in [0, 1, 100_000, 3_000_000] {
        let one =
            grpc.unary(Request::new(Bytes::from(vec![1; size])), path("/t.T/Echo"), Raw).await.expect("an answer");
        assert_eq!(one.into_inner().len(), size);
        grpc.ready().await.expect("a connection");
    }
    let uploads = stream::iter((0..500).map(|number| Bytes::from(vec![2; number])));
    let sum = grpc.client_streaming(Request::new(uploads), path("/t.T/Count"), Raw).await.expect("an answer");
    assert_eq!(sum.into_inner(), (0..500).sum::<usize>().to_string());
    let mut many = begin(&mut grpc, "/t.T/Many").await.expect("an answer");
    let mut count = 0;
    while let Some(message) = next(&mut many).await.expect("no error") {
        assert_eq!(message.len(), count);
        count += 1;
    }
    assert_eq!(count, 1000);
    // Both ways: each message is asked for by the one before it.
    let (send, received) = tokio::sync::mpsc::channel::<Bytes>(1);
    let outgoing = stream::unfold(received, |mut received| async move { Some((received.recv().await?, received)) });
    send.send(Bytes::from_static(b"0")).await.expect("a call");
    grpc.ready().await.expect("a connection");
    let mut echoed =
        grpc.streaming(Request::new(outgoing), path("/t.T/Echo"), Raw).await.expect("an answer").into_inner();
    for number in 0..100 {
        let message = next(&mut echoed).await.expect("no error").expect("a message");
        assert_eq!(message, number.to_string());
        send.send(Bytes::from((number + 1).to_string())).await.expect("a call");
    }
    drop(send);
    assert_eq!(next(&mut echoed).await.expect("no error").expect("a message"), "100");
    assert_eq!(next(&mut echoed).await.expect("a clean end"), None);
    let seen = node.seen.lock().expect("no panic while locked").clone();
    assert!(seen.iter().all(|headers| headers["te"] == "trailers" && headers.contains_key("x-forwarded-for")));
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
    assert_eq!(proxy.node(node.address).totals(), (7, 0));
}

#[tokio::test]
async fn errors_keep_their_code_message_details_and_metadata() {
    let node = GrpcNode::start().await;
    let proxy = single(&[node.address], H2C);
    let mut grpc = client(&proxy).await;
    let at_once = begin(&mut grpc, "/t.T/Fail").await.expect_err("an error");
    assert_eq!((at_once.code(), at_once.message()), (Code::FailedPrecondition, "not \"now\" ü"));
    assert_eq!(at_once.details(), b"why");
    assert_eq!(at_once.metadata().get("x-more").map(|value| value.as_bytes().to_vec()), Some(b"yes".to_vec()));
    let mut later = begin(&mut grpc, "/t.T/FailLater").await.expect("an answer");
    assert_eq!(next(&mut later).await.expect("no error").expect("a message"), "one");
    assert_eq!(next(&mut later).await.expect("no error").expect("a message"), "two");
    let error = next(&mut later).await.expect_err("an error");
    assert_eq!(
        (error.code(), error.message(), error.details()),
        (Code::DataLoss, "it got lost", &b"\x01details\xff"[..])
    );
    assert_eq!(begin(&mut grpc, "/t.T/None").await.expect_err("an error").code(), Code::Unimplemented);
    assert_eq!(proxy.node(node.address).totals().1, 0, "an answer is an answer");
}

#[tokio::test]
async fn a_deadline_reaches_the_node_and_frees_it() {
    let node = GrpcNode::start().await;
    let proxy = single(&[node.address], H2C);
    let mut grpc = client(&proxy).await;
    let mut request = Request::new(Bytes::new());
    request.set_timeout(Duration::from_millis(300));
    let error = grpc.unary(request, path("/t.T/Hang"), Raw).await.expect_err("no answer");
    assert!(matches!(error.code(), Code::DeadlineExceeded | Code::Cancelled), "{error:?}");
    let seen = node.seen.lock().expect("no panic while locked").clone();
    assert!(seen[0].contains_key("grpc-timeout"));
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
    grpc.ready().await.expect("a connection");
    let after = grpc.unary(Request::new(Bytes::from_static(b"x")), path("/t.T/Echo"), Raw).await.expect("an answer");
    assert_eq!(after.into_inner(), "x");
}

#[tokio::test]
async fn a_cancelled_call_frees_the_node() {
    let node = GrpcNode::start().await;
    let proxy = single(&[node.address], H2C);
    let mut grpc = client(&proxy).await;
    let mut ticks = begin(&mut grpc, "/t.T/Ticks").await.expect("an answer");
    assert!(next(&mut ticks).await.expect("no error").is_some());
    assert_eq!(proxy.node(node.address).inflight(), 1);
    drop(ticks);
    until("the node is free", || proxy.node(node.address).inflight() == 0).await;
    assert_eq!(proxy.node(node.address).totals().1, 0, "it is not the node's fault");
}

#[tokio::test]
async fn a_stream_that_outlasts_its_drain_ends_with_unavailable_between_two_messages() {
    let node = GrpcNode::start().await;
    let other = GrpcNode::start().await;
    let mut proxy = single(&[node.address, other.address], H2C);
    proxy.publish(|address| address.as_str() == node.address.to_string());
    let mut grpc = client(&proxy).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut ticks = begin(&mut grpc, "/t.T/Ticks").await.expect("an answer");
        assert!(next(&mut ticks).await.expect("no error").is_some());
        streams.push(ticks);
    }
    let readers: Vec<_> = streams
        .into_iter()
        .map(|mut ticks| {
            tokio::spawn(async move {
                let mut expected = 1;
                loop {
                    match next(&mut ticks).await {
                        Ok(Some(message)) => {
                            assert_eq!(message, u64::to_be_bytes(expected).to_vec(), "no message is lost or broken");
                            expected += 1;
                        }
                        Ok(None) => panic!("the stream looks complete"),
                        Err(status) => return status,
                    }
                }
            })
        })
        .collect();
    sleep(Duration::from_millis(50)).await;
    proxy.publish(|_| true);
    let retired = proxy.retire(node.address);
    let cut = proxy.cut(node.address, WorkKind::Stream, Duration::from_secs(5)).all().await;
    assert_eq!(cut.len(), 20, "what was cut is told");
    for reader in readers {
        let status = reader.await.expect("no panic");
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().contains("out of service"), "{status:?}");
    }
    until("the node is free", || retired.inflight() == 0).await;
    // The same connection of the client's goes on, at the other node.
    let mut ticks = begin(&mut grpc, "/t.T/Ticks").await.expect("an answer");
    assert!(next(&mut ticks).await.expect("no error").is_some());
    assert_eq!(proxy.node(other.address).inflight(), 1);
}

#[tokio::test]
async fn hundreds_of_streams_share_few_connections() {
    let node = GrpcNode::start().await;
    let proxy = single(&[node.address], H2C);
    let mut grpc = client(&proxy).await;
    let calls = (0..300).map(|number: u32| {
        let mut grpc = grpc.clone();
        async move {
            grpc.ready().await.expect("a connection");
            let message = Bytes::from(number.to_string().repeat(100));
            let request = Request::new(message.clone());
            let answer = grpc.unary(request, path("/t.T/Echo"), Raw).await.expect("an answer");
            assert_eq!(answer.into_inner(), message);
        }
    });
    stream::iter(calls).buffer_unordered(100).collect::<Vec<_>>().await;
    grpc.ready().await.expect("a connection");
    assert_eq!(proxy.node(node.address).totals(), (300, 0));
}
