//! A gRPC server of two methods, without generated code.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BufMut};
use futures_util::Stream;
use futures_util::stream::unfold;
use sluicegate::cli::demo::Ledger;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{BoxFuture, Context, Poll, Service, http};
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;

/// Messages are bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}

/// Writes an order into the ledger, and gives it back.
struct Place(Ledger);

impl UnaryService<Vec<u8>> for Place {
    type Response = Vec<u8>;
    type Future = std::future::Ready<Result<Response<Vec<u8>>, Status>>;

    fn call(&mut self, request: Request<Vec<u8>>) -> Self::Future {
        let order = request.into_inner();
        self.0.record(&String::from_utf8_lossy(&order));
        std::future::ready(Ok(Response::new(order)))
    }
}

/// Counts for ever.
struct Watch;

type Messages = std::pin::Pin<Box<dyn Stream<Item = Result<Vec<u8>, Status>> + Send>>;

impl ServerStreamingService<Vec<u8>> for Watch {
    type Response = Vec<u8>;
    type ResponseStream = Messages;
    type Future = std::future::Ready<Result<Response<Messages>, Status>>;

    fn call(&mut self, _request: Request<Vec<u8>>) -> Self::Future {
        let messages = unfold(0_u64, |number| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok(number.to_string().into_bytes()), number + 1))
        });
        std::future::ready(Ok(Response::new(Box::pin(messages))))
    }
}

#[derive(Clone)]
struct Orders(Ledger);

impl NamedService for Orders {
    const NAME: &'static str = "test.Orders";
}

impl Service<http::Request<Body>> for Orders {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let ledger = self.0.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(Raw);
            Ok(match request.uri().path() {
                "/test.Orders/Place" => grpc.unary(Place(ledger), request).await,
                _ => grpc.server_streaming(Watch, request).await,
            })
        })
    }
}

/// A node; dropping it kills it.
pub struct GrpcNode {
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl GrpcNode {
    pub fn start(ledger: &Ledger) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let orders = Orders(ledger.clone());
        runtime.spawn(async move {
            let (reporter, health) = tonic_health::server::health_reporter();
            reporter.set_service_status("", ServingStatus::Serving).await;
            let incoming = unfold(listener, |listener| async move {
                let accepted = listener.accept().await.map(|(stream, _)| stream);
                Some((accepted, listener))
            });
            Server::builder().add_service(health).add_service(orders).serve_with_incoming(incoming).await
        });
        Self { address, runtime: Some(runtime) }
    }

    /// Ends it without a word, as `kill -9` does.
    pub fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for GrpcNode {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
