//! Somebody else decides: each request is shown to a service of its own before it goes on. Whatever goes wrong on that way
//! keeps the request out.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;

use super::super::body::RespBody;
use super::super::call::Call;
use super::super::error::Fault;
use super::super::forwarded::{self, Told};
use super::super::headers::{self, Seen};
use super::fields::remove_alike;
use crate::config::ForwardAuth;
use crate::model::NodeAddress;
use crate::net;
use crate::pool::Edge;

/// Idle connections that are kept for one address.
const IDLE: usize = 16;
/// For how long: below what common servers allow.
const IDLE_TIME: Duration = Duration::from_secs(20);
/// Questions that may be open at once on one worker. With more, who decides is not keeping up, and gets no more of them.
const MOST: usize = 256;
/// Bytes of an answer that a client can get.
const LARGEST: usize = 256 * 1024;

const METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

type Sender = SendRequest<Empty<Bytes>>;

/// This worker's idle connections to those who decide; the most recently used last.
#[derive(Debug, Default)]
pub(super) struct Deciders {
    idle: RefCell<HashMap<String, Vec<(Sender, Instant)>>>,
    /// Questions that are open; counted by [`Open`].
    open: Cell<usize>,
}

/// A question that is counted as long as this lives.
struct Open<'a>(&'a Cell<usize>);

impl<'a> Open<'a> {
    fn new(count: &'a Cell<usize>) -> Option<Self> {
        if count.get() >= MOST {
            return None;
        }
        count.set(count.get() + 1);
        Some(Self(count))
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Deciders {
    /// Lets go of what has been idle for too long.
    pub(super) fn sweep(&self, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() {
            return;
        }
        idle.retain(|_, senders| {
            senders.retain(|(sender, since)| !sender.is_closed() && now.duration_since(*since) < IDLE_TIME);
            !senders.is_empty()
        });
    }

    /// Asks. `Some`: the answer that the client gets; `None`: the request goes on, with what it was given.
    pub(super) async fn ask(
        &self,
        auth: &ForwardAuth,
        call: &Call,
        seen: &Seen,
        edge: &Edge,
        asking: &mut Parts,
    ) -> Result<Option<Response<RespBody>>, Fault> {
        // Nobody but the one who is asked may say these; not even to that one.
        for name in &auth.copy {
            remove_alike(&mut asking.headers, name);
        }
        let question = question(auth, call, seen, edge, asking)?;
        let _open = Open::new(&self.open).ok_or(Fault::AuthBusy)?;
        let exchange = tokio::time::timeout(auth.timeout, self.exchange(auth, question));
        let answer = match call.unless_judged(exchange).await {
            Err(_) => return Err(Fault::Shutdown),
            Ok(Ok(Ok(answer))) => answer,
            Ok(Ok(Err(error))) => {
                tracing::debug!(address = auth.address, %error, "forward_auth failed");
                return Err(Fault::AuthUnavailable);
            }
            Ok(Err(_)) => {
                tracing::debug!(address = auth.address, "forward_auth did not answer in time");
                return Err(Fault::AuthUnavailable);
            }
        };
        let (mut head, body) = answer.into_parts();
        if head.status.is_success() {
            for name in &auth.copy {
                for value in head.headers.get_all(name) {
                    asking.headers.append(name.clone(), value.clone());
                }
            }
            return Ok(None);
        }
        let usable = head.status.as_u16() >= 300 && head.status.as_u16() <= 599;
        if !usable || headers::rewrite_response(&mut head.headers, head.status, head.version).is_err() {
            return Err(Fault::AuthUnavailable);
        }
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.remove(header::TRAILER);
        head.version = http::Version::HTTP_11;
        head.extensions.clear();
        let body = if body.is_empty() { RespBody::Empty } else { RespBody::Full(body) };
        Ok(Some(Response::from_parts(head, body)))
    }

    /// Sends the question over an idle connection or a new one, and reads the answer whole.
    async fn exchange(&self, auth: &ForwardAuth, question: Request<Empty<Bytes>>) -> io::Result<Response<Bytes>> {
        let again = question.clone();
        let (response, sender) = match self.take(&auth.address) {
            Some(mut sender) => match sender.send_request(question).await {
                Ok(response) => (response, sender),
                // It may have been given up just now. A question can be put twice.
                Err(_) => fresh(&auth.address, again).await?,
            },
            None => fresh(&auth.address, question).await?,
        };
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LARGEST).collect().await.map_err(io::Error::other)?.to_bytes();
        self.keep(&auth.address, sender).await;
        Ok(Response::from_parts(head, body))
    }

    fn take(&self, address: &str) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        let senders = idle.get_mut(address)?;
        while let Some((sender, since)) = senders.pop() {
            if sender.is_ready() && since.elapsed() < IDLE_TIME {
                return Some(sender);
            }
        }
        None
    }

    async fn keep(&self, address: &str, mut sender: Sender) {
        // At once if the answer allows another question; the deadline of this one ends it otherwise.
        if sender.ready().await.is_err() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if !idle.contains_key(address) {
            idle.insert(address.to_owned(), Vec::new());
        }
        if let Some(senders) = idle.get_mut(address).filter(|senders| senders.len() < IDLE) {
            senders.push((sender, Instant::now()));
        }
    }
}

async fn fresh(address: &str, question: Request<Empty<Bytes>>) -> io::Result<(Response<Incoming>, Sender)> {
    let address = NodeAddress::new(address);
    let dial = net::Dial { address: &address, tls: None, offer: &[], introduce: None };
    let stream = net::connect(dial).await.map_err(io::Error::other)?.forgiving(true);
    let (mut sender, connection) = Builder::new().handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Ends with its sender, or when the other side closes.
    tokio::task::spawn_local(connection);
    let response = sender.send_request(question).await.map_err(io::Error::other)?;
    Ok((response, sender))
}

/// The request as it is shown: its own fields, but for those that belong to its connection or its body.
fn question(
    auth: &ForwardAuth,
    call: &Call,
    seen: &Seen,
    edge: &Edge,
    asking: &Parts,
) -> Result<Request<Empty<Bytes>>, Fault> {
    let broken = |_| Fault::AuthUnavailable;
    let mut fields: HeaderMap = asking.headers.clone();
    seen.strip(&mut fields);
    for name in [
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::EXPECT,
        header::RANGE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
        header::IF_RANGE,
        header::ACCEPT_ENCODING,
        header::TRAILER,
    ] {
        fields.remove(name);
    }
    let told = Told::of(&call.front, seen.host.as_ref(), asking.version);
    forwarded::set(&mut fields, &call.front, seen, &told, &edge.trusted_proxies);
    forwarded::set_client(&mut fields, &call.front, edge);
    let target = asking.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    fields.insert(URI, HeaderValue::from_str(target).map_err(|_| Fault::AuthUnavailable)?);
    fields.insert(METHOD, HeaderValue::from_str(asking.method.as_str()).map_err(|_| Fault::AuthUnavailable)?);
    fields.insert(header::HOST, HeaderValue::from_str(&auth.address).map_err(|_| Fault::AuthUnavailable)?);
    let mut question = Request::new(Empty::new());
    *question.uri_mut() = auth.path.parse().map_err(broken)?;
    *question.headers_mut() = fields;
    Ok(question)
}
