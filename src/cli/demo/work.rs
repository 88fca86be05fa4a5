//! The kinds of work that the load is made of, each from its beginning to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use hyper::header::HOST;
use hyper::{HeaderMap, Request};
use tokio::time::{sleep, sleep_until, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::client::{self, Client, Fault, Outgoing, Plan, Reply};
use super::content::{self, CHECKSUM, ORDER};
use super::lane::Line;
use super::tally::{Kind, Reason};

/// An upload is sent in pieces of this size, with a pause before each.
const PIECE: usize = 16 * 1024;
const PAUSE: Duration = Duration::from_millis(10);
/// A session that must begin again more often than this goes in circles.
const RESTARTS: u32 = 20;
/// The longest event that is read.
const EVENT: usize = 64 * 1024;

/// One piece of work.
pub(super) struct Job {
    pub(super) client: Arc<Client>,
    /// Unique in its load.
    pub(super) serial: u64,
    pub(super) random: fastrand::Rng,
}

/// How a session ended, if it did not fail.
enum Session {
    /// Its time was over.
    Over,
    /// The other side asked to come back.
    Restart,
}

impl Job {
    /// Does it.
    pub(super) async fn run(mut self, kind: Kind) -> Result<(), Fault> {
        let options = &self.client.options;
        let own = match kind {
            Kind::Get | Kind::Post | Kind::Upload => Duration::ZERO,
            Kind::Slow => options.slow,
            Kind::WebSocket | Kind::Events => options.session,
        };
        let limit = own + options.timeout;
        let work = async {
            match kind {
                Kind::Get => self.get().await,
                Kind::Post => self.post().await,
                Kind::Slow => self.slow().await,
                Kind::Upload => self.upload().await,
                Kind::WebSocket => self.websocket().await,
                Kind::Events => self.events().await,
            }
        };
        timeout(limit, work).await.unwrap_or_else(|_| {
            let detail = format!("not complete after {limit:?}");
            Err(Fault::new(Reason::Timeout, detail))
        })
    }

    fn request(&self, method: &str, path: &str) -> hyper::http::request::Builder {
        Request::builder().method(method).uri(path).header(HOST, self.client.options.host.as_str())
    }

    async fn get(&mut self) -> Result<(), Fault> {
        let plan = Plan { make: || self.request("GET", "/").body(Outgoing::Empty), status: 200, idempotent: true };
        let reply = self.client.call(plan).await?;
        expect(&reply, "{\"version\":")
    }

    async fn post(&mut self) -> Result<(), Fault> {
        let order = format!("{:x}-{}", self.client.options.seed, self.serial);
        let body = content::piece(self.random.usize(..1 << 16), self.random.usize(100..=4_000));
        let checksum = content::checksum([&body[..]]);
        let plan = Plan {
            make: || {
                self.request("POST", "/orders")
                    .header(ORDER, &order)
                    .header(CHECKSUM, &checksum)
                    .body(Outgoing::Whole(Some(body.clone())))
            },
            status: 201,
            idempotent: false,
        };
        let reply = self.client.call(plan).await?;
        expect(&reply, &format!("{{\"order\":\"{order}\"}}"))
    }

    async fn slow(&mut self) -> Result<(), Fault> {
        let options = &self.client.options;
        let path = format!(
            "/slow?ms={}&bytes={}&from={}&chunked={}",
            options.slow.as_millis(),
            options.slow_bytes,
            self.random.u16(..),
            self.random.u8(..2),
        );
        let plan = Plan { make: || self.request("GET", &path).body(Outgoing::Empty), status: 200, idempotent: true };
        self.client.call(plan).await.map(drop)
    }

    async fn upload(&mut self) -> Result<(), Fault> {
        let bytes = self.client.options.upload_bytes;
        let from = self.random.usize(..1 << 16);
        let declared = self.random.bool();
        let checksum = content::checksum_of(from, bytes, PIECE);
        let path = format!("/upload?size={bytes}");
        let plan = Plan {
            make: || {
                self.request("PUT", &path).header(CHECKSUM, &checksum).body(Outgoing::Pieces {
                    rest: Box::new(content::pieces(from, bytes, PIECE)),
                    left: bytes as u64,
                    declared,
                    pause: PAUSE,
                    waiting: None,
                })
            },
            status: 200,
            idempotent: true,
        };
        let reply = self.client.call(plan).await?;
        expect(&reply, &format!("{{\"bytes\":{bytes}}}"))
    }

    async fn websocket(&mut self) -> Result<(), Fault> {
        let until = Instant::now() + self.client.options.session;
        for _ in 0..RESTARTS {
            match self.talk(until).await? {
                Session::Over => return Ok(()),
                Session::Restart => self.client.count().restarts += 1,
            }
        }
        Err(circles())
    }

    /// One connection of a WebSocket session, or one stream.
    async fn talk(&mut self, until: Instant) -> Result<Session, Fault> {
        let (mut socket, headers) = self.socket().await?;
        let version = client::version(&headers);
        if let Some(version) = &version {
            self.client.count().answered(version, Instant::now());
        }
        let ended = self.echoes(&mut socket, until, version.as_deref()).await;
        if let Some(version) = &version {
            self.client.count().heard(version, Instant::now());
        }
        ended.map_err(|fault| fault.of(version.as_deref()))
    }

    async fn socket(&self) -> Result<(WebSocketStream<Line>, HeaderMap), Fault> {
        let options = &self.client.options;
        if options.over.http2 {
            let (mut lane, used) = self.client.lane().await?;
            if !used {
                // Whether the other side takes WebSockets as streams is told at the beginning: any answer comes after that.
                let request = self.request("GET", "/").body(Outgoing::Empty);
                let request = request.map_err(|error| Fault::new(Reason::Protocol, error))?;
                lane.send(request).await.map_err(|error| Fault::new(Reason::Closed, error.into_error()))?;
            }
            if let Some(opened) = lane.websocket(&options.host, "/ws").await {
                let (stream, head) = opened?;
                let socket = WebSocketStream::from_raw_socket(Box::new(stream) as Line, Role::Client, None).await;
                return Ok((socket, head.headers().clone()));
            }
        }
        let abnormal = |error: tungstenite::Error| Fault::new(Reason::Abnormal, error);
        let request = format!("ws://{}/ws", options.host).into_client_request().map_err(abnormal)?;
        let line = self.client.dial().await?;
        let (socket, response) = client_async(request, line).await.map_err(|error| {
            let reason = match &error {
                tungstenite::Error::Http(_) => Reason::Status,
                _ => Reason::Closed,
            };
            Fault::new(reason, format!("no WebSocket: {error}"))
        })?;
        Ok((socket, response.headers().clone()))
    }

    async fn echoes(
        &mut self,
        socket: &mut WebSocketStream<Line>,
        until: Instant,
        version: Option<&str>,
    ) -> Result<Session, Fault> {
        let options = &self.client.options;
        for number in 0_u64.. {
            let text = format!("{}-{number}", self.serial);
            let beat = Instant::now() + options.beat;
            // An error of this tells less than the Close frame that may be waiting to be read.
            let _ = socket.send(Message::text(text.clone())).await;
            match timeout(options.timeout, socket.next()).await {
                Err(_) => return Err(Fault::new(Reason::Timeout, "no echo")),
                Ok(Some(Ok(Message::Text(echo)))) if echo.as_str() == text => {}
                Ok(other) => return closed(socket, other).await,
            }
            {
                let mut tally = self.client.count();
                tally.messages += 1;
                if let Some(version) = version {
                    tally.heard(version, Instant::now());
                }
            }
            tokio::select! {
                () = sleep_until(beat.into()) => {}
                message = socket.next() => return closed(socket, message).await,
            }
            if Instant::now() >= until {
                break;
            }
        }
        let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let closing = async {
            socket.close(Some(normal)).await?;
            while let Some(message) = socket.next().await {
                if let Message::Close(_) = message? {
                    return Ok(());
                }
            }
            Ok(())
        };
        match timeout(options.timeout, closing).await {
            Ok(Ok(()) | Err(tungstenite::Error::ConnectionClosed)) => Ok(Session::Over),
            Ok(Err(error)) => Err(Fault::new(Reason::Abnormal, format!("at the end: {error}"))),
            Err(_) => Err(Fault::new(Reason::Timeout, "no answer to a Close frame")),
        }
    }

    async fn events(&mut self) -> Result<(), Fault> {
        let until = Instant::now() + self.client.options.session;
        let mut next = None;
        for _ in 0..RESTARTS {
            match self.listen(until, &mut next).await? {
                Session::Over => return Ok(()),
                Session::Restart => self.client.count().restarts += 1,
            }
            sleep(PAUSE).await;
        }
        Err(circles())
    }

    /// One connection of an event stream. `next` is the id that must come.
    async fn listen(&mut self, until: Instant, next: &mut Option<u64>) -> Result<Session, Fault> {
        let options = &self.client.options;
        let path = format!("/events?ms={}", options.beat.as_millis());
        let last = next.and_then(|next| next.checked_sub(1));
        let plan = Plan {
            make: || {
                let mut request = self.request("GET", &path);
                if let Some(last) = last {
                    request = request.header("last-event-id", last);
                }
                request.body(Outgoing::Empty)
            },
            status: 200,
            idempotent: true,
        };
        let (response, version) = self.client.open(&plan).await?;
        let version = version.as_deref();
        if response.status() != 200 {
            let detail = response.status().to_string();
            return Err(Fault::new(Reason::Status, detail).of(version));
        }
        let mut body = response.into_body();
        let mut text = String::new();
        loop {
            let Ok(frame) = timeout_at(until.into(), body.frame()).await else {
                return Ok(Session::Over);
            };
            match frame {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        text.push_str(&String::from_utf8_lossy(data));
                    }
                }
                Some(Err(error)) => {
                    return Err(Fault::new(Reason::Truncated, error).of(version));
                }
                None if text.is_empty() => return Ok(Session::Restart),
                None => {
                    let detail = format!("in the middle of an event: {text:?}");
                    return Err(Fault::new(Reason::Truncated, detail).of(version));
                }
            }
            while let Some(end) = text.find("\n\n") {
                let event: String = text.drain(..end + 2).collect();
                self.event(&event, next).map_err(|fault| fault.of(version))?;
                if let Some(version) = version {
                    self.client.count().heard(version, Instant::now());
                }
            }
            if text.len() > EVENT {
                return Err(Fault::new(Reason::WrongBody, "an event without an end").of(version));
            }
        }
    }

    fn event(&self, event: &str, next: &mut Option<u64>) -> Result<(), Fault> {
        if event.starts_with("event: going-away") {
            let detail = "the node was stopped under an open stream";
            return Err(Fault::new(Reason::Abnormal, detail));
        }
        let id = event.strip_prefix("id: ").and_then(|rest| rest.lines().next()?.parse::<u64>().ok());
        match id {
            Some(id) if next.is_none_or(|next| next == id) => {
                *next = Some(id + 1);
                self.client.count().events += 1;
                Ok(())
            }
            _ => Err(Fault::new(Reason::WrongBody, format!("{next:?} should follow, got {event:?}"))),
        }
    }
}

fn expect(reply: &Reply, start: &str) -> Result<(), Fault> {
    if reply.sample.starts_with(start.as_bytes()) {
        return Ok(());
    }
    let sample = String::from_utf8_lossy(&reply.sample);
    let detail = format!("`{}` instead of `{start}`", sample.trim());
    Err(Fault::new(Reason::WrongBody, detail))
}

/// A WebSocket told something else than an echo.
async fn closed(
    socket: &mut WebSocketStream<Line>,
    message: Option<Result<Message, tungstenite::Error>>,
) -> Result<Session, Fault> {
    match message {
        Some(Ok(Message::Close(Some(frame)))) if frame.code == CloseCode::Restart => {
            // Sends the Close frame back.
            let _ = timeout(Duration::from_secs(1), async { while let Some(Ok(_)) = socket.next().await {} }).await;
            Ok(Session::Restart)
        }
        Some(Ok(message)) => Err(Fault::new(Reason::Abnormal, format!("{message:?} instead of an echo"))),
        Some(Err(error)) => Err(Fault::new(Reason::Abnormal, error)),
        None => Err(Fault::new(Reason::Abnormal, "ended without a Close frame")),
    }
}

fn circles() -> Fault {
    let detail = format!("had to begin again {RESTARTS} times");
    Fault::new(Reason::Abnormal, detail)
}
