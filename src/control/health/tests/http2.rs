//! Probes of nodes that speak HTTP/2; tonic's health service is the gRPC node.

use bytes::Bytes;
use http::Response;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tonic::codegen::Service as _;

use super::*;
use crate::config::NodeProtocol;

fn grpc(service: &str) -> Probe {
    Probe::Grpc { service: service.to_owned(), host: None }
}

fn target(listener: &TcpListener) -> Target {
    let address = NodeAddress::new(listener.local_addr().unwrap().to_string());
    Target { version: Version::new("v7"), address, pooled: None }
}

/// A gRPC server with nothing but tonic's health service.
async fn tonic_node() -> (Target, tonic_health::server::HealthReporter) {
    let (reporter, server) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(&listener);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = server.clone();
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let mut server = server.clone();
                async move { server.call(request.map(tonic::body::Body::new)).await }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (target, reporter)
}

/// A node that answers every request with this head, body and trailers.
async fn node(head: Response<()>, body: &'static [u8], trailers: Option<http::HeaderMap>) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(&listener);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut answer))) = connection.accept().await {
                let ends = body.is_empty() && trailers.is_none();
                let mut out = answer.send_response(head.clone(), ends).unwrap();
                if !ends {
                    out.send_data(Bytes::from_static(body), trailers.is_none()).unwrap();
                }
                if let Some(trailers) = &trailers {
                    out.send_trailers(trailers.clone()).unwrap();
                }
            }
        }
    });
    target
}

async fn asked(target: &Target, probe_kind: Probe) -> ProbeReport {
    probe(target, &health(probe_kind), || Timestamp(1)).await
}

#[tokio::test]
async fn a_grpc_service_passes_while_it_says_that_it_serves() {
    let (target, reporter) = tonic_node().await;
    let whole = asked(&target, grpc("")).await;
    assert!(whole.passed, "{whole:?}");
    assert_eq!(whole.target, format!("gRPC health of {}", target.address));
    let unknown = asked(&target, grpc("shop.v1.Cart")).await;
    let error = unknown.error.unwrap();
    assert!(error.starts_with("grpc-status 5 (NOT_FOUND): the node knows no service \"shop.v1.Cart\""), "{error}");
    for (status, error) in [
        (tonic_health::ServingStatus::NotServing, Some("the node says NOT_SERVING")),
        (tonic_health::ServingStatus::Unknown, Some("the node says UNKNOWN")),
        (tonic_health::ServingStatus::Serving, None),
    ] {
        reporter.set_service_status("shop.v1.Cart", status).await;
        let report = asked(&target, grpc("shop.v1.Cart")).await;
        assert_eq!((report.passed, report.error.as_deref()), (error.is_none(), error));
        assert_eq!(report.status, Some(200));
    }
}

#[tokio::test]
async fn what_is_no_grpc_health_says_so() {
    let trailers = |code| Some(http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), code)]));
    let grpc_head = || Response::builder().header("content-type", "application/grpc");
    let value = http::HeaderValue::from_static;
    for (head, body, trailers, error) in [
        (Response::builder().status(404), &b"nothing here"[..], None, "status 404, and gRPC answers 200"),
        (Response::builder(), b"hello", None, "the answer is not gRPC"),
        (grpc_head().header("grpc-status", "12"), b"", None, "grpc-status 12 (UNIMPLEMENTED): the node has no"),
        (grpc_head(), b"", trailers(value("13")), "grpc-status 13"),
        (grpc_head(), b"garbage", trailers(value("0")), "the answer is no HealthCheckResponse"),
        (grpc_head(), &[0, 0, 0, 0, 2, 8, 1], trailers(value("14")), "grpc-status 14"),
        (grpc_head(), b"", None, "the answer is no HealthCheckResponse"),
    ] {
        let target = node(head.body(()).unwrap(), body, trailers).await;
        let report = asked(&target, grpc("")).await;
        assert!(!report.passed);
        let said = report.error.unwrap();
        assert!(said.starts_with(error), "{said:?}, not {error:?}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(&listener);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    });
    let said = asked(&target, grpc("")).await.error.unwrap();
    assert!(said.contains("HTTP/2") || said.contains("closed") || said.contains("reset"), "{said}");
}

#[tokio::test]
async fn a_get_speaks_what_requests_speak() {
    let head = Response::builder().header("x-version", "v7").body(()).unwrap();
    let target = node(head, b"all is well", None).await;
    let kind = |body: &str, header: &str| Probe::Http {
        path: "/healthz".to_owned(),
        host: None,
        status: vec![200..=299],
        body: Some(body.to_owned()),
        header: Some(("x-version".to_owned(), header.to_owned())),
    };
    for (probe_kind, error) in [
        (kind("well", "{version}"), None),
        (kind("bad", "v7"), Some("the body does not contain \"bad\"")),
        (kind("well", "v8"), Some("header x-version is \"v7\", wanted \"v8\"")),
    ] {
        let health = Health { protocol: NodeProtocol::H2c, ..health(probe_kind) };
        let report = probe(&target, &health, || Timestamp(1)).await;
        assert_eq!((report.passed, report.error.as_deref()), (error.is_none(), error));
    }
    // In HTTP/1 it would never pass.
    assert!(!probe(&target, &health(http()), || Timestamp(1)).await.passed);
}

#[tokio::test]
async fn a_node_that_answers_nothing_in_http2_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(&listener);
    let health = Health { timeout: Duration::from_millis(200), ..health(grpc("")) };
    let report = probe(&target, &health, || Timestamp(1)).await;
    assert_eq!(report.error.as_deref(), Some("no answer within 200ms"));
}
