//! What an origin answers: one function a path.

use std::convert::Infallible;
use std::fmt;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use hyper::http::response;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use xxhash_rust::xxh3::Xxh3;

use super::content::{self, CHECKSUM, ORDER, VERSION};
use super::io::Io;
use super::meter::Work;
use super::origin::{Phase, Shared};

/// The longest body that is read.
const BODY_LIMIT: u64 = 64 * 1024 * 1024;
/// A download's bytes are sent in about this many pieces.
const PIECES: usize = 30;
/// The other side of a WebSocket has this long to answer a Close frame.
const CLOSE: Duration = Duration::from_secs(1);

/// The body of an answer. Holds its request open until it has been sent.
pub(super) struct Answer {
    body: Either<Full<Bytes>, Channel<Bytes, Broken>>,
    /// Declared length of a streamed body; none is chunked.
    length: Option<u64>,
    /// None if something else holds the request open.
    _work: Option<Work>,
}

/// Breaks a connection off in the middle of a body.
#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken off on purpose")
    }
}

impl std::error::Error for Broken {}

impl Body for Answer {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length),
            None => self.body.size_hint(),
        }
    }
}

/// Answers one request.
pub(super) async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    work: Work,
    phase: watch::Receiver<Phase>,
) -> Result<Response<Answer>, Infallible> {
    let path = request.uri().path().to_owned();
    shared.count(path == "/healthz");
    let head = Response::builder().header(VERSION, shared.options.version.as_str());
    if !shared.is_ready() {
        return Ok(full(head.status(503), "not ready\n".into(), work));
    }
    if !shared.options.delay.is_zero() && path != "/healthz" {
        sleep(shared.options.delay).await;
    }
    if path != "/healthz"
        && let Some(failure) = fail(&shared).await
    {
        return Ok(full(head.status(500), failure.into(), work));
    }
    Ok(match (request.method(), path.as_str()) {
        (&Method::GET, "/") => {
            let port = shared.address.port();
            let body = format!("{{\"version\":\"{}\",\"port\":{port}}}\n", shared.options.version);
            full(head, body, work)
        }
        (&Method::GET, "/healthz") => full(head, "ok\n".into(), work),
        (&Method::POST, "/orders") => order(request, &shared, head, work).await,
        (&Method::PUT, "/upload") => match receive(request).await {
            Ok((bytes, _)) => full(head, format!("{{\"bytes\":{bytes}}}\n"), work),
            Err(problem) => full(head.status(StatusCode::BAD_REQUEST), problem, work),
        },
        (&Method::GET, "/slow") => download(&request, &shared, head, work),
        (&Method::GET, "/events") => events(&request, head, work, phase),
        (&Method::GET, "/ws") => websocket(request, &shared, head, work, phase),
        _ => full(head.status(StatusCode::NOT_FOUND), "no such page\n".into(), work),
    })
}

/// What an origin does wrong on purpose, before it looks at the request.
async fn fail(shared: &Shared) -> Option<&'static str> {
    let faults = &shared.options.faults;
    if faults.silent {
        std::future::pending::<()>().await;
    }
    if let Some((part, time)) = faults.late
        && fastrand::f64() < part
    {
        sleep(time).await;
    }
    if faults.capacity.is_some_and(|limit| shared.counters.active.load(Ordering::Relaxed) > limit) {
        return Some("too much to do\n");
    }
    (fastrand::f64() < faults.fail).then_some("broken on purpose\n")
}

/// A whole body with its checksum.
fn full(head: response::Builder, body: String, work: Work) -> Response<Answer> {
    let checksum = content::checksum([body.as_bytes()]);
    let mut response =
        Response::new(Answer { body: Either::Left(Full::new(body.into())), length: None, _work: Some(work) });
    if let Ok((parts, ())) = head.header(CHECKSUM, checksum).body(()).map(Response::into_parts) {
        *response.status_mut() = parts.status;
        *response.headers_mut() = parts.headers;
    }
    response
}

/// Reads a body to its end and checks it. Answers its length and checksum, or what is wrong with it.
async fn receive(request: Request<Incoming>) -> Result<(u64, String), String> {
    let (head, mut body) = request.into_parts();
    let (mut bytes, mut hash) = (0, Xxh3::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the body broke off: {error}\n"))?;
        if let Some(data) = frame.data_ref() {
            bytes += data.len() as u64;
            hash.update(data);
        }
        if bytes > BODY_LIMIT {
            return Err("the body is too long\n".into());
        }
    }
    let checksum = content::format(&hash);
    match head.headers.get(CHECKSUM) {
        Some(sent) if sent.as_bytes() != checksum.as_bytes() => Err("the body is not the one that was sent\n".into()),
        _ => Ok((bytes, checksum)),
    }
}

/// Executes an order: from here on it has happened, whether the answer arrives or not.
async fn order(request: Request<Incoming>, shared: &Shared, head: response::Builder, work: Work) -> Response<Answer> {
    let id = request.headers().get(ORDER).cloned();
    let Some(id) = id.as_ref().and_then(|id| id.to_str().ok()) else {
        let problem = "an order needs an X-Order header\n".into();
        return full(head.status(StatusCode::BAD_REQUEST), problem, work);
    };
    if let Err(problem) = receive(request).await {
        return full(head.status(StatusCode::BAD_REQUEST), problem, work);
    }
    for _ in 0..=usize::from(shared.options.faults.twice) {
        shared.options.ledger.record(id);
        if let Some(file) = &shared.options.ledger_file {
            let line = format!("{id}\n");
            let written = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(file)
                .and_then(|mut file| file.write_all(line.as_bytes()));
            if let Err(error) = written {
                let problem = format!("the ledger cannot be written: {error}\n");
                return full(head.status(500), problem, work);
            }
        }
    }
    full(head.status(201), format!("{{\"order\":\"{id}\"}}\n"), work)
}

/// A number from the query.
fn number<B>(request: &Request<B>, name: &str) -> Option<usize> {
    request.uri().query()?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| value.parse().ok())?
    })
}

/// Sends `bytes` over `ms` milliseconds; `from` determines them, `chunked=1` leaves the length out.
fn download(request: &Request<Incoming>, shared: &Shared, head: response::Builder, work: Work) -> Response<Answer> {
    let bytes = number(request, "bytes").unwrap_or(60_000).min(1 << 24);
    let from = number(request, "from").unwrap_or(0) % (1 << 24);
    let ms = number(request, "ms").unwrap_or(3_000).min(600_000);
    let size = bytes.div_ceil(PIECES).clamp(1, 16 * 1024);
    let pause = Duration::from_millis(ms as u64) / bytes.div_ceil(size).max(1) as u32;
    let faults = shared.options.faults;
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        let mut sent = 0;
        for mut piece in content::pieces(from, bytes, size) {
            if faults.truncate && sent >= bytes / 2 {
                sender.abort(Broken);
                return;
            }
            if faults.corrupt && sent == 0 {
                let mut copy = piece.to_vec();
                copy[0] ^= 1;
                piece = copy.into();
            }
            sent += piece.len();
            if sender.send_data(piece).await.is_err() {
                return;
            }
            sleep(pause).await;
        }
    });
    let chunked = number(request, "chunked") == Some(1);
    let mut head =
        head.header(CHECKSUM, content::checksum_of(from, bytes, size)).header(CONTENT_TYPE, "application/octet-stream");
    if !chunked {
        head = head.header(CONTENT_LENGTH, bytes);
    }
    streamed(head, body, (!chunked).then_some(bytes as u64), work)
}

/// Server-sent events without an end, one every `ms` milliseconds; ids go on after `Last-Event-ID`.
fn events(
    request: &Request<Incoming>,
    head: response::Builder,
    work: Work,
    mut phase: watch::Receiver<Phase>,
) -> Response<Answer> {
    let ms = number(request, "ms").unwrap_or(100).clamp(1, 60_000);
    let last = request.headers().get("last-event-id").and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        let mut id = last.map_or(0, |id| id + 1);
        loop {
            let event = format!("id: {id}\ndata: tick {id}\n\n");
            if sender.send_data(event.into()).await.is_err() {
                return;
            }
            id += 1;
            tokio::select! {
                () = sleep(Duration::from_millis(ms as u64)) => {}
                () = stopping(&mut phase) => break,
            }
        }
        // Said aloud, so that a client can tell a node's own end from one that the proxy arranged.
        let leave = "event: going-away\ndata: the node stops\n\n";
        let _ = sender.send_data(leave.into()).await;
    });
    let head = head.header(CONTENT_TYPE, "text/event-stream");
    streamed(head, body, None, work)
}

fn streamed(
    head: response::Builder,
    body: Channel<Bytes, Broken>,
    length: Option<u64>,
    work: Work,
) -> Response<Answer> {
    let mut response = Response::new(Answer { body: Either::Right(body), length, _work: Some(work) });
    if let Ok((parts, ())) = head.body(()).map(Response::into_parts) {
        *response.headers_mut() = parts.headers;
    }
    response
}

/// Upgrades, and then sends every message back.
fn websocket(
    mut request: Request<Incoming>,
    shared: &Arc<Shared>,
    head: response::Builder,
    work: Work,
    phase: watch::Receiver<Phase>,
) -> Response<Answer> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        let problem = "this page speaks WebSocket only\n".into();
        return full(head.status(StatusCode::UPGRADE_REQUIRED), problem, work);
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    let faults = shared.options.faults;
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else {
            return;
        };
        if let Ok(parts) = upgraded.downcast::<Io>() {
            let before = parts.read_buf.to_vec();
            let socket = WebSocketStream::from_partially_read(parts.io, before, Role::Server, None).await;
            echo(socket, faults.restart_after, phase).await;
        }
        drop(work);
    });
    let mut response = Response::new(Answer {
        body: Either::Left(Full::default()),
        length: None,
        // The upgrade holds the request open, not this empty body.
        _work: None,
    });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    if let Ok((parts, ())) = head.body(()).map(Response::into_parts) {
        *response.headers_mut() = parts.headers;
    }
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// Waits until the origin is told to stop.
async fn stopping(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase > Phase::Serving).await;
}

async fn echo(mut socket: WebSocketStream<Io>, restart_after: Option<u32>, mut phase: watch::Receiver<Phase>) {
    let mut echoed = 0;
    let code = loop {
        if restart_after.is_some_and(|limit| echoed >= limit) {
            break CloseCode::Restart;
        }
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                    echoed += 1;
                }
                // Pings and Close frames are answered by the library while it is polled.
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            () = stopping(&mut phase) => break CloseCode::Away,
        }
    };
    let close = CloseFrame { code, reason: "".into() };
    if socket.close(Some(close)).await.is_ok() {
        let _ = timeout(CLOSE, async { while let Some(Ok(_)) = socket.next().await {} }).await;
    }
}
