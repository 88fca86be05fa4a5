//! Connections and requests: the bounds on both, and the way to `control` and back.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, IF_MATCH};
use http::request::Parts;
use http::{Request as HttpRequest, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{self, Body, Fault};
use super::audit::{Refusals, audit};
use super::endpoints::{Endpoint, Needs};
use super::http::Tls;
use super::patient::Patient;
use super::route::{Route, route};
use super::visitor::{Peer, Visitor};
use super::{credentials, dashboard, events, metrics, openapi, origin, stream};
use crate::api::{Port, Reply, Request};
use crate::config::{Role, Token};
use hyper_util::rt::{TokioIo, TokioTimer};

/// Connections at once; more wait in the listener's queue.
pub(super) const CONNECTIONS: usize = 256;
/// Of them, those that may be kept by streams, which have no end of their own: there is always room for somebody who steers.
pub(super) const STREAMS: usize = 192;
/// Bytes of a request head.
const HEAD: usize = 16 * 1024;
/// A head must be complete after this long; an idle connection is closed after this long as well.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Bytes of a request body. No request needs one; a small one is read and ignored.
const BODY: usize = 64 * 1024;
/// `control` must answer after this long. Reading and applying the files of 10,000 services is included.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// After an accept error (out of descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every request needs.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) port: Port,
    /// Written by `control`: false before shutdown drains, and while nothing is loaded.
    pub(super) ready: watch::Receiver<bool>,
    /// The most that somebody may ask for who comes through this listener.
    pub(super) may: Needs,
    /// Who may do more.
    pub(super) tokens: Arc<[Token]>,
    /// How connections become safe; plain without.
    tls: Option<Tls>,
    /// Room for streams.
    streams: Arc<Semaphore>,
    /// What was told of those who were refused.
    refusals: Arc<Refusals>,
}

impl Context {
    pub(super) fn new(
        port: Port,
        ready: watch::Receiver<bool>,
        may: Needs,
        tokens: Arc<[Token]>,
        tls: Option<Tls>,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS));
        Self { port, ready, may, tokens, tls, streams, refusals: Arc::default() }
    }

    /// A place for one more stream, kept as long as it goes on.
    fn stream(&self) -> Result<OwnedSemaphorePermit, Fault> {
        Arc::clone(&self.streams)
            .try_acquire_owned()
            .map_err(|_| Fault::unavailable(format!("{STREAMS} streams are open, which is as many as may be")))
    }
}

/// What can be accepted from: a TCP or a Unix listener.
pub(super) trait Listener: Send {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Listener for tokio::net::TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn next(&self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, address) = self.accept().await?;
        Ok((stream, Peer::Tcp(address)))
    }
}

impl Listener for tokio::net::UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn next(&self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, _) = self.accept().await?;
        let uid = stream.peer_cred().ok().map(|who| who.uid());
        Ok((stream, Peer::Unix(uid)))
    }
}

/// Accepts until dropped; dropping ends every connection too.
pub(super) async fn accept(listener: impl Listener, context: Context) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else {
            return Ok(());
        };
        let (socket, peer) = match listener.next().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the admin API cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let context = context.clone();
        let mut visitor = Visitor { peer, may: context.may, token: None, certificate: None };
        connections.spawn(async move {
            let socket = Patient::new(socket);
            match context.tls.clone() {
                None => serve(socket, context, visitor).await,
                Some(tls) => match timeout(HEAD_TIME, tls.server().accept(socket)).await {
                    Ok(Ok((session, facts))) => {
                        if let Some(subject) = facts.subject {
                            visitor.certificate = Some(String::from_utf8_lossy(subject.as_bytes()).into_owned());
                            visitor.may = visitor.may.max(may(tls.role));
                        }
                        serve(session, context, visitor).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake with the admin API failed"),
                    Err(_) => tracing::debug!("a TLS handshake with the admin API took too long"),
                },
            }
            drop(place);
        });
    }
}

/// Serves one connection to its end.
async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin, context: Context, visitor: Visitor) {
    let service = service_fn(move |request| handle(request, context.clone(), visitor.clone()));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_header_size(HEAD)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended badly");
    }
}

fn may(role: Role) -> Needs {
    match role {
        Role::Read => Needs::Reading,
        Role::Operator => Needs::Steering,
    }
}

async fn handle(request: HttpRequest<Incoming>, context: Context, visitor: Visitor) -> hyper::Result<Response<Body>> {
    Ok(answer(request, &context, &visitor).await.unwrap_or_else(|fault| fault.response()))
}

async fn answer(request: HttpRequest<Incoming>, context: &Context, visitor: &Visitor) -> Result<Response<Body>, Fault> {
    let (head, body) = request.into_parts();
    let mut visitor = visitor.clone();
    let found = identify(&head, context, &mut visitor)
        .and_then(|()| route(&head.method, head.uri.path(), head.uri.query().unwrap_or("")));
    let (endpoint, route) = match found {
        Ok(found) => found,
        Err(fault) => {
            // Whoever tries tokens, or other people's browsers, shall be seen.
            if matches!(fault.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) || !head.method.is_safe() {
                context.refusals.audit(&visitor, &head, fault.status());
            }
            return Err(fault);
        }
    };
    let answered = admitted(&head, body, endpoint, route, context, &visitor).await;
    if endpoint.needs == Needs::Steering {
        audit(&visitor, &head, answered.as_ref().map_or_else(Fault::status, Response::status));
    }
    answered
}

/// Finds out who asks, and refuses what a browser was made to ask.
fn identify(head: &Parts, context: &Context, visitor: &mut Visitor) -> Result<(), Fault> {
    match visitor.peer {
        Peer::Unix(_) => origin::check_forwarded(&head.headers)?,
        Peer::Tcp(_) => {
            if context.tls.is_some() {
                origin::check_tls(&head.headers)?;
            } else {
                origin::check(head.version, &head.uri, &head.headers)?;
            }
            match credentials::who(&context.tokens, &head.headers)? {
                Some(token) => {
                    visitor.token = Some(token.name.clone());
                    visitor.may = visitor.may.max(may(token.role));
                }
                None => origin::check_direct(&head.headers)?,
            }
        }
    }
    if !head.method.is_safe() {
        origin::check_change(&head.headers)?;
    }
    Ok(())
}

async fn admitted(
    head: &Parts,
    body: Incoming,
    endpoint: &Endpoint,
    mut route: Route,
    context: &Context,
    visitor: &Visitor,
) -> Result<Response<Body>, Fault> {
    if endpoint.needs > visitor.may && visitor.may == Needs::Nothing {
        return Err(Fault::unauthorized("show a token (`Authorization: Bearer …`) or a certificate"));
    }
    if endpoint.needs > visitor.may {
        return Err(Fault::forbidden(if visitor.token.is_some() || visitor.certificate.is_some() {
            format!("`{}` is for looking only: the role is \"read\"", visitor.name())
        } else {
            "without a token this listener is for looking only; the verbs steer through the admin socket".into()
        }));
    }
    ignore(body).await?;
    if let Route::Ask(Request::Steer { by, .. } | Request::Halt { by, .. }) = &mut route {
        *by = visitor.name();
    }
    let only_if = conditions(&head.headers)?;
    match route {
        Route::Health => Ok(answer::text(StatusCode::OK, "ok\n")),
        Route::Ready if *context.ready.borrow() => Ok(answer::text(StatusCode::OK, "ready\n")),
        Route::Ready => Ok(answer::text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")),
        Route::Page(file) => Ok(dashboard::respond(file)),
        Route::Whoami => answer::json(&visitor.whoami()),
        Route::Description => answer::json(&openapi::document()),
        Route::Metrics => match ask(context, Request::Measures).await? {
            Reply::Measures(measures) => metrics::respond(measures).await,
            other => respond(other),
        },
        Route::Events { after, service } => {
            let after = events::last_seen(&head.headers)?.or(after);
            let place = context.stream()?;
            match ask(context, Request::Events { after }).await? {
                Reply::Events(feed) => Ok(events::respond(feed, service, place)),
                other => respond(other),
            }
        }
        Route::Ask(request @ (Request::Wait { .. } | Request::Drain { .. })) => {
            let place = context.stream()?;
            match ask_if(context, request, only_if).await? {
                Reply::Progress(progress) => Ok(stream::respond(progress, place)),
                other => respond(other),
            }
        }
        Route::Ask(request) => respond(ask_if(context, request, only_if).await?),
        Route::Service(name) => {
            let request = Request::Status { service: Some(name.clone()) };
            match ask(context, request).await? {
                Reply::Status(status) => status
                    .services
                    .iter()
                    .find(|service| service.name == name)
                    .ok_or_else(|| Fault::not_found(format!("there is no service `{name}`")))
                    .and_then(|service| answer::tagged(service, &service.tag)),
                other => respond(other),
            }
        }
    }
}

/// The tags of `If-Match` (RFC 9110 §13.1.1); none if any state will do.
fn conditions(headers: &HeaderMap) -> Result<Vec<String>, Fault> {
    let mut tags = Vec::new();
    for value in headers.get_all(IF_MATCH) {
        let text = value.to_str().map_err(|_| Fault::bad_request("If-Match is not text"))?;
        for tag in text.split(',').map(str::trim) {
            if tag == "*" {
                return Ok(Vec::new());
            }
            let tag = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            tags.push(
                tag.ok_or_else(|| Fault::bad_request("a tag of If-Match stands in quotes, as in ETag"))?.to_owned(),
            );
        }
    }
    Ok(tags)
}

async fn ask(context: &Context, request: Request) -> Result<Reply, Fault> {
    ask_if(context, request, Vec::new()).await
}

async fn ask_if(context: &Context, request: Request, only_if: Vec<String>) -> Result<Reply, Fault> {
    timeout(ANSWER_TIME, context.port.ask_if(request, only_if)).await.map_err(|_| {
        Fault::unavailable(format!(
            "the control plane did not answer within {} s; traffic is not touched by that, its log may say why",
            ANSWER_TIME.as_secs()
        ))
    })
}

fn respond(reply: Reply) -> Result<Response<Body>, Fault> {
    match reply {
        Reply::Status(status) => answer::tagged(&*status, &status.generation.to_string()),
        Reply::Service(service) => answer::tagged(&*service, &service.tag),
        Reply::Outline(outline) => answer::json(&*outline),
        Reply::Config(config) => answer::json(&config),
        Reply::History(entries) => answer::json(&entries),
        Reply::Progress(_) => Err(Fault::unavailable("this has no end to wait for")),
        Reply::Events(_) => Err(Fault::unavailable("events are told by /v1/events")),
        Reply::Measures(_) => Err(Fault::unavailable("measures are told by /metrics")),
        Reply::Refused(refusal) => Err(refusal.into()),
    }
}

/// Reads a small body to its end, so that the connection can be used again.
async fn ignore(body: Incoming) -> Result<(), Fault> {
    match timeout(HEAD_TIME, Limited::new(body, BODY).collect()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Fault::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!("the body is longer than {BODY} bytes; no request needs one"),
        )),
        Ok(Err(error)) => Err(Fault::bad_request(format!("the body is broken: {error}"))),
        Err(_) => Err(Fault::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not arrive in time")),
    }
}
