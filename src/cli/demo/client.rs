//! The client's side of one request: kept-alive connections, and every way in which an answer can be wrong.

use std::collections::VecDeque;
use std::error::Error;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{HeaderMap, Request, Response};
use tokio::time::{Sleep, sleep, timeout};
use xxhash_rust::xxh3::Xxh3;

use super::content::{self, CHECKSUM, VERSION};
use super::lane::{Lane, Line};
use super::load::LoadOptions;
use super::tally::{Reason, Tally};

/// An idle connection is given up after this long: before the proxy closes it, so that the two never race.
const IDLE: Duration = Duration::from_secs(20);
/// A connection whose answer has ended is ready again within this, or not at all.
const READY: Duration = Duration::from_secs(5);
/// Idle connections that are kept.
const KEPT: usize = 512;
/// Bytes of a body that are kept for a look at them.
const SAMPLE: usize = 256;

/// What every request of one load shares.
pub(super) struct Client {
    pub(super) options: LoadOptions,
    pub(super) tally: Mutex<Tally>,
    /// The most recently used one is last.
    idle: Mutex<VecDeque<(Instant, Lane)>>,
}

/// What went wrong, and who had begun to answer.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    pub(super) detail: String,
    pub(super) version: Option<String>,
}

impl Fault {
    pub(super) fn new(reason: Reason, detail: impl ToString) -> Self {
        Self { reason, detail: detail.to_string(), version: None }
    }

    pub(super) fn of(mut self, version: Option<&str>) -> Self {
        self.version = version.map(str::to_owned);
        self
    }
}

/// A request that can be made again.
pub(super) struct Plan<F> {
    /// Makes it.
    pub(super) make: F,
    /// The status that belongs to it.
    pub(super) status: u16,
    /// RFC 9110 §9.2.2: whether it may be sent again without harm.
    pub(super) idempotent: bool,
}

/// A complete answer.
pub(super) struct Reply {
    /// Its first bytes.
    pub(super) sample: Vec<u8>,
}

impl Client {
    pub(super) fn new(options: LoadOptions) -> Arc<Self> {
        Arc::new(Self { options, tally: Mutex::new(Tally::new(Instant::now())), idle: Mutex::default() })
    }

    /// The tally, to count something.
    pub(super) fn count(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request, reads the whole answer and checks it.
    pub(super) async fn call<F>(self: &Arc<Self>, plan: Plan<F>) -> Result<Reply, Fault>
    where
        F: Fn() -> Result<Request<Outgoing>, hyper::http::Error>,
    {
        let (mut connection, response, version) = self.send(&plan).await?;
        let read = read(response, plan.status).await;
        if let Some(version) = &version {
            self.count().heard(version, Instant::now());
        }
        let reply = read.map_err(|fault| fault.of(version.as_deref()))?;
        // Whether the connection can be used again is known a moment later. That is not the caller's time.
        if let Lane::One(sender) = &mut connection {
            if sender.is_ready() {
                self.keep(connection);
            } else if !sender.is_closed() {
                let client = self.clone();
                tokio::spawn(async move {
                    if let Lane::One(sender) = &mut connection
                        && let Ok(Ok(())) = timeout(READY, sender.ready()).await
                    {
                        client.keep(connection);
                    }
                });
            }
        }
        Ok(reply)
    }

    /// Sends a request and waits for the answer's head; for answers without an end. The connection is not kept.
    pub(super) async fn open<F>(&self, plan: &Plan<F>) -> Result<(Response<Incoming>, Option<String>), Fault>
    where
        F: Fn() -> Result<Request<Outgoing>, hyper::http::Error>,
    {
        let (_, response, version) = self.send(plan).await?;
        Ok((response, version))
    }

    async fn send<F>(&self, plan: &Plan<F>) -> Result<(Lane, Response<Incoming>, Option<String>), Fault>
    where
        F: Fn() -> Result<Request<Outgoing>, hyper::http::Error>,
    {
        let make = || (plan.make)().map_err(|error| Fault::new(Reason::Protocol, error));
        let (mut connection, reused) = self.lane().await?;
        let response = match connection.send(make()?).await {
            Ok(response) => response,
            Err(error) => {
                let unsent = error.message().is_some();
                let error = error.into_error();
                let again = error.is_incomplete_message() || error.is_canceled() || lost(&error);
                if !(self.options.retry && reused && (unsent || plan.idempotent) && (unsent || again)) {
                    return Err(before_answer(&error, reused));
                }
                self.count().client_retries += 1;
                connection = self.connect().await?;
                connection.send(make()?).await.map_err(|error| before_answer(&error.into_error(), false))?
            }
        };
        let version = version(response.headers());
        if let Some(version) = &version {
            self.count().answered(version, Instant::now());
        }
        Ok((connection, response, version))
    }

    pub(super) async fn dial(&self) -> Result<Line, Fault> {
        let line = self.options.over.dial(self.options.target, &self.options.host).await?;
        self.count().connections += 1;
        Ok(line)
    }

    async fn connect(&self) -> Result<Lane, Fault> {
        let lane = self.options.over.begin(self.dial().await?).await?;
        if let Some(shared) = lane.shared() {
            self.keep(shared);
        }
        Ok(lane)
    }

    /// A connection for one more request, and whether it was used before.
    pub(super) async fn lane(&self) -> Result<(Lane, bool), Fault> {
        match self.take() {
            Some(lane) => Ok((lane, true)),
            None => Ok((self.connect().await?, false)),
        }
    }

    fn take(&self) -> Option<Lane> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while idle.front().is_some_and(|(since, lane)| since.elapsed() > IDLE && lane.shared().is_none()) {
            idle.pop_front();
        }
        while let Some((since, lane)) = idle.pop_back() {
            if lane.is_usable() {
                if let Some(shared) = lane.shared() {
                    // Round and round, so that a few connections carry all.
                    idle.push_front((since, shared));
                }
                return Some(lane);
            }
        }
        None
    }

    fn keep(&self, connection: Lane) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push_back((Instant::now(), connection));
        }
    }
}

/// The version that a response tells.
pub(super) fn version(headers: &HeaderMap) -> Option<String> {
    headers.get(VERSION)?.to_str().ok().map(str::to_owned)
}

async fn read(response: Response<Incoming>, status: u16) -> Result<Reply, Fault> {
    let (head, mut body) = response.into_parts();
    let (mut hash, mut bytes, mut sample) = (Xxh3::new(), 0_u64, Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let detail = format!("status {}, after {bytes} bytes: {}", head.status, chain(&error));
            Fault::new(Reason::Truncated, detail)
        })?;
        if let Some(data) = frame.data_ref() {
            bytes += data.len() as u64;
            hash.update(data);
            sample.extend_from_slice(&data[..data.len().min(SAMPLE - sample.len())]);
        }
    }
    if head.status.as_u16() != status {
        let text = String::from_utf8_lossy(&sample);
        let detail = format!("{} instead of {status}: {}", head.status, text.trim());
        return Err(Fault::new(Reason::Status, detail));
    }
    match head.headers.get(CHECKSUM) {
        Some(sent) if sent.as_bytes() == content::format(&hash).as_bytes() => Ok(Reply { sample }),
        Some(_) => Err(Fault::new(Reason::WrongBody, format!("{bytes} bytes, but not the ones that were sent"))),
        None => Err(Fault::new(Reason::WrongBody, "an answer of nobody's")),
    }
}

/// Why there was no answer.
fn before_answer(error: &hyper::Error, reused: bool) -> Fault {
    let reason = if lost(error) {
        Reason::Reset
    } else if error.is_parse() {
        Reason::Protocol
    } else {
        Reason::Closed
    };
    let connection = if reused { "reused" } else { "new" };
    Fault::new(reason, format!("on a {connection} connection: {}", chain(error)))
}

/// Whether the connection was reset.
fn lost(error: &hyper::Error) -> bool {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
            );
        }
        source = error.source();
    }
    false
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// A request's body.
pub(super) enum Outgoing {
    /// None.
    Empty,
    /// At once.
    Whole(Option<Bytes>),
    /// In pieces, with a pause before each.
    Pieces {
        /// What is still to be sent.
        rest: Box<dyn Iterator<Item = Bytes> + Send>,
        /// Bytes still to be sent; told if `declared`.
        left: u64,
        /// `Content-Length` instead of chunks.
        declared: bool,
        pause: Duration,
        waiting: Option<Pin<Box<Sleep>>>,
    },
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let data = match &mut *self {
            Self::Empty => None,
            Self::Whole(bytes) => bytes.take(),
            Self::Pieces { rest, left, pause, waiting, .. } => {
                let timer = waiting.get_or_insert_with(|| Box::pin(sleep(*pause)));
                ready!(timer.as_mut().poll(context));
                *waiting = None;
                let piece = rest.next();
                *left = left.saturating_sub(piece.as_ref().map_or(0, |piece| piece.len() as u64));
                piece
            }
        };
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_none(),
            Self::Pieces { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Pieces { left, declared: true, .. } => SizeHint::with_exact(*left),
            Self::Pieces { .. } => SizeHint::default(),
        }
    }
}
