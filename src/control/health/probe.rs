//! One probe of one node, on a connection of its own: a kept one would tell that the connection lives, not that the node
//! accepts new ones.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use super::{Target, http2};
use crate::api::ProbeReport;
use crate::config::{Health, NodeProtocol, Probe, Protocol};
use crate::model::Timestamp;
use crate::net::ask::{MAX_HEAD, driving, http_in_words, in_words};
use crate::net::{self, ConnectError, Dial, Introduction};
use hyper_util::rt::TokioIo;

/// No more of a body is looked at.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// So much of a failed probe's body is reported.
pub(super) const EXCERPT: usize = 200;

/// How far a probe came; what it says if time runs out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Connecting,
    Waiting,
    Reading,
}

/// What was seen so far. Outside of the future that is cut by the timeout, so that it outlives it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) stage: Stage,
    pub(super) status: Option<u16>,
    /// The verdict on the head, while an excerpt of the body is still being read for the report.
    pub(super) failure: Option<String>,
    pub(super) body: Vec<u8>,
}

/// What an answer must be, with `{version}` filled in.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    pub(super) path: &'a str,
    pub(super) host: &'a str,
    pub(super) status: &'a [RangeInclusive<u16>],
    pub(super) body: Option<String>,
    pub(super) header: Option<(&'a str, String)>,
}

/// Asks the node once. Never fails: the report says what happened. Ends within `health.timeout`.
pub async fn probe(target: &Target, health: &Health, now: impl Fn() -> Timestamp) -> ProbeReport {
    let address = target.address.as_str();
    let what = match &health.probe {
        Probe::Tcp => format!("connect {address}"),
        Probe::Http { path, .. } => {
            let scheme = if target.address.is_tls() { "" } else { "http://" };
            format!("GET {scheme}{address}{path}")
        }
        Probe::Grpc { service, .. } if service.is_empty() => format!("gRPC health of {address}"),
        Probe::Grpc { service, .. } => format!("gRPC health of {service} at {address}"),
    };
    let began = Instant::now();
    let mut seen = Seen::default();
    let asked = timeout(health.timeout, ask(target, health, &mut seen)).await;
    let took = began.elapsed();
    let outcome = asked.unwrap_or_else(|_| Err(seen.out_of_time(health.timeout)));
    report(what, outcome, seen, took, now())
}

fn report(target: String, outcome: Result<(), String>, seen: Seen, took: Duration, at: Timestamp) -> ProbeReport {
    ProbeReport {
        at,
        target,
        passed: outcome.is_ok(),
        status: seen.status,
        body: if outcome.is_err() { excerpt(&seen.body) } else { None },
        error: outcome.err(),
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}

impl Seen {
    pub(super) fn out_of_time(&mut self, limit: Duration) -> String {
        self.failure.take().unwrap_or_else(|| match self.stage {
            Stage::Connecting => format!("no connection within {limit:?}"),
            Stage::Waiting => format!("no answer within {limit:?}"),
            Stage::Reading => format!("the body did not end within {limit:?}, and what came does not match"),
        })
    }
}

async fn ask(target: &Target, health: &Health, seen: &mut Seen) -> Result<(), String> {
    let tls = target.pooled.as_ref().and_then(|node| node.tls());
    let introduce = health.proxy_protocol.map(|version| Introduction { version, client: None });
    let dial = Dial { address: &target.address, tls: tls.as_deref(), offer: offer(health), introduce };
    let stream = net::connect(dial).await.map_err(|error| match error {
        ConnectError::Unreachable(error) => in_words(&error),
        ConnectError::Tls(_) => error.to_string(),
    })?;
    let scheme = if stream.is_tls() { "https" } else { "http" };
    let (path, host, status, body, header) = match &health.probe {
        Probe::Tcp => return Ok(()),
        Probe::Grpc { service, host } => {
            let host = host.as_deref().unwrap_or(target.address.authority());
            return Box::pin(http2::check(stream, scheme, host, service, seen)).await;
        }
        Probe::Http { path, host, status, body, header } => (path, host, status, body, header),
    };
    let fill = |text: &str| text.replace("{version}", target.version.as_str());
    let expected = Expected {
        path,
        host: host.as_deref().unwrap_or(target.address.authority()),
        status,
        body: body.as_deref().map(fill),
        header: header.as_ref().map(|(name, value)| (name.as_str(), fill(value))),
    };
    let prior = matches!(health.protocol, NodeProtocol::H2 | NodeProtocol::H2c);
    if prior || stream.protocol() == Some(Protocol::Http2) {
        return Box::pin(http2::get(stream, scheme, &expected, seen)).await;
    }
    exchange(stream, &expected, seen).await
}

/// What a probe offers in ALPN: what requests offer.
fn offer(health: &Health) -> &'static [Protocol] {
    match (&health.probe, health.protocol) {
        (Probe::Grpc { .. }, _) | (_, NodeProtocol::H2 | NodeProtocol::H2c) => &[Protocol::Http2],
        (_, NodeProtocol::Auto) => &[Protocol::Http2, Protocol::Http1],
        (_, NodeProtocol::Http1) => &[Protocol::Http1],
    }
}

/// Sends the request and judges the answer.
pub(super) async fn exchange<S>(stream: S, expected: &Expected<'_>, seen: &mut Seen) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    seen.stage = Stage::Waiting;
    let request = Request::get(expected.path)
        .header(header::HOST, expected.host)
        .header(header::USER_AGENT, concat!("sluice-probe/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("cannot ask for {:?}: {error}", expected.path))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| http_in_words(&error))?;
    let judged = async {
        let response = sender.send_request(request).await.map_err(|error| http_in_words(&error))?;
        judge(response, expected, seen).await
    };
    driving(connection, judged).await
}

async fn judge(response: http::Response<Incoming>, expected: &Expected<'_>, seen: &mut Seen) -> Result<(), String> {
    seen.stage = Stage::Reading;
    let status = response.status().as_u16();
    seen.status = Some(status);
    let failure = wrong_head(status, response.headers(), expected);
    let mut body = response.into_body();
    if let Some(failure) = failure {
        seen.failure = Some(failure.clone());
        // For the report only: it changes nothing if it does not come.
        let _ = read(&mut body, &mut seen.body, EXCERPT, None).await;
        return Err(failure);
    }
    let Some(wanted) = &expected.body else { return Ok(()) };
    if read(&mut body, &mut seen.body, MAX_BODY, Some(wanted.as_bytes())).await? {
        return Ok(());
    }
    Err(format!("the body does not contain {wanted:?}"))
}

/// Reads until `wanted` was found (true), or until the body or `limit` ends.
async fn read(body: &mut Incoming, into: &mut Vec<u8>, limit: usize, wanted: Option<&[u8]>) -> Result<bool, String> {
    let found = |bytes: &[u8], from: usize| {
        wanted.is_some_and(|wanted| {
            // Only what is new, and what a match could have begun in: a body that comes byte by byte is not searched
            // from its beginning each time.
            let from = from.saturating_sub(wanted.len());
            wanted.is_empty() || bytes[from..].windows(wanted.len()).any(|window| window == wanted)
        })
    };
    if found(into, 0) {
        return Ok(true);
    }
    while into.len() < limit {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|error| http_in_words(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        let from = into.len();
        into.extend_from_slice(&data[..data.len().min(limit - from)]);
        if found(into, from) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is wrong with the head of an answer, if anything is.
pub(super) fn wrong_head(status: u16, headers: &HeaderMap, expected: &Expected<'_>) -> Option<String> {
    if expected.status.iter().any(|range| range.contains(&status)) {
        wrong_header(headers, expected.header.as_ref())
    } else {
        Some(format!("status {status}, wanted {}", ranges(expected.status)))
    }
}

fn wrong_header(headers: &HeaderMap, wanted: Option<&(&str, String)>) -> Option<String> {
    let (name, wanted) = wanted?;
    let mut values = headers.get_all(*name).iter();
    let first = values.next();
    if first.into_iter().chain(values).any(|value| value.as_bytes() == wanted.as_bytes()) {
        return None;
    }
    Some(match first {
        Some(value) => format!("header {name} is {value:?}, wanted {wanted:?}"),
        None => format!("no header {name}, wanted {wanted:?}"),
    })
}

/// `200-299, 304`
fn ranges(ranges: &[RangeInclusive<u16>]) -> String {
    let words = ranges.iter().map(|range| {
        let (first, last) = (range.start(), range.end());
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The first bytes as one line of printable text; none if there are none.
fn excerpt(body: &[u8]) -> Option<String> {
    if body.is_empty() {
        return None;
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(EXCERPT)]);
    Some(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}
