//! How the load reaches its target: plain or over TLS, in HTTP/1.1 or HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::ext::Protocol;
use hyper::header::{HOST, HeaderValue};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, Uri, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::client::{Fault, Outgoing};
use super::io::Io;
use super::tally::Reason;

/// What a connection to the target is.
#[derive(Clone, Debug, Default)]
pub struct Over {
    /// Who is trusted, and what is shown; plain without.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// HTTP/2, as browsers speak it: many requests on one connection, WebSockets as streams (RFC 8441). Else HTTP/1.1.
    pub http2: bool,
}

/// A byte stream, plain or not.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection to the target, or a stream on one.
pub(super) type Line = Box<dyn Duplex>;

impl Over {
    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Connects; the certificate must be `host`'s.
    pub(super) async fn dial(&self, target: SocketAddr, host: &str) -> Result<Line, Fault> {
        let failed = |error| Fault::new(Reason::Connect, error);
        let stream = TcpStream::connect(target).await.map_err(failed)?;
        let Some(config) = &self.tls else {
            return Ok(Box::new(Io::tcp(stream)));
        };
        let _ = stream.set_nodelay(true);
        let mut config = rustls::ClientConfig::clone(config);
        config.alpn_protocols = vec![if self.http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let name = ServerName::try_from(host.to_owned()).map_err(|error| Fault::new(Reason::Connect, error))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(failed)?;
        Ok(Box::new(stream))
    }

    /// Begins HTTP on a connection.
    pub(super) async fn begin(&self, line: Line) -> Result<Lane, Fault> {
        let failed = |error| Fault::new(Reason::Connect, error);
        if self.http2 {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(line)).await.map_err(failed)?;
            // Its errors come to the requests that it carries as well.
            tokio::spawn(async move { drop(connection.await) });
            return Ok(Lane::Many(sender, self.scheme()));
        }
        let (sender, connection) = http1::handshake(TokioIo::new(line)).await.map_err(failed)?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Lane::One(sender))
    }
}

/// A connection that takes requests.
pub(super) enum Lane {
    /// One after the other.
    One(http1::SendRequest<Outgoing>),
    /// Many at once; with the scheme.
    Many(http2::SendRequest<Outgoing>, &'static str),
}

impl Lane {
    /// Another handle to a connection that many requests share.
    pub(super) fn shared(&self) -> Option<Self> {
        match self {
            Self::One(_) => None,
            Self::Many(sender, scheme) => Some(Self::Many(sender.clone(), scheme)),
        }
    }

    pub(super) fn is_usable(&self) -> bool {
        match self {
            Self::One(sender) => sender.is_ready() && !sender.is_closed(),
            Self::Many(sender, _) => sender.is_ready() && !sender.is_closed(),
        }
    }

    pub(super) async fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Outgoing>>> {
        match self {
            Self::One(sender) => sender.try_send_request(request).await,
            Self::Many(sender, scheme) => sender.try_send_request(absolute(request, scheme)).await,
        }
    }

    /// Opens a WebSocket as a stream; None if this is HTTP/1, where it takes a connection.
    pub(super) async fn websocket(
        &mut self,
        host: &str,
        path: &str,
    ) -> Option<Result<(TokioIo<Upgraded>, Response<()>), Fault>> {
        let Self::Many(sender, scheme) = self else { return None };
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri(format!("{scheme}://{host}{path}"))
            .version(Version::HTTP_2)
            .header("sec-websocket-version", "13")
            .extension(Protocol::from_static("websocket"))
            .body(Outgoing::Empty);
        let open = async {
            let request = request.map_err(|error| Fault::new(Reason::Protocol, error))?;
            let response = sender.send_request(request).await.map_err(|error| Fault::new(Reason::Closed, error))?;
            if response.status() != 200 {
                return Err(Fault::new(Reason::Status, format!("no WebSocket: {}", response.status())));
            }
            let mut head = Response::new(());
            *head.headers_mut() = response.headers().clone();
            let upgraded = hyper::upgrade::on(response).await.map_err(|error| Fault::new(Reason::Closed, error))?;
            Ok((TokioIo::new(upgraded), head))
        };
        Some(open.await)
    }
}

/// HTTP/2 has the host in the target (RFC 9113 §8.3.1).
fn absolute(mut request: Request<Outgoing>, scheme: &str) -> Request<Outgoing> {
    let host = request.headers_mut().remove(HOST);
    let host = host.as_ref().and_then(|host: &HeaderValue| host.to_str().ok()).unwrap_or_default();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    // A host that does not fit leaves the target as it is, and the request fails as it should.
    if let Ok(uri) = format!("{scheme}://{host}{path}").parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request
}
