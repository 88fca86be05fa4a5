//! One request as a span of OpenTelemetry, in the JSON of OTLP, with the names of its semantic conventions for HTTP servers.

use std::fmt::Write as _;
use std::io::Write as _;
use std::rc::Rc;
use std::time::{Instant, UNIX_EPOCH};

use http::header::{HeaderMap, HeaderValue};

use super::book::{Book, Desk};
use super::line::json_string;
use super::{Entry, draw};
use crate::pool::Spans;
use crate::proxy::trace::{self, Parent};

/// `SPAN_KIND_SERVER`.
const SERVER: u8 = 2;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// A request that is told as a span.
#[derive(Debug)]
pub struct Span {
    pub(super) book: Rc<Book>,
    trace: u128,
    id: u64,
    parent: Option<u64>,
}

impl Span {
    /// Told if the trace that it belongs to is recorded, or if it belongs to none and is in the sample.
    pub(super) fn begin(desk: &Desk, spans: &Spans, headers: &HeaderMap, random: impl Fn() -> u64) -> Option<Self> {
        let (trace, parent) = match trace::parent(headers) {
            Some(Parent { recorded: false, .. }) => return None,
            Some(parent) => (parent.trace, Some(parent.span)),
            None if draw(random()) >= spans.sample => return None,
            // Neither id may be zero.
            None => (u128::from(random()) << 64 | u128::from(random() | 1), None),
        };
        Some(Self { book: desk.book(&spans.sink), trace, id: random() | 1, parent })
    }

    /// What the node gets, whose own spans hang on this one.
    pub fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&format!("00-{:032x}-{:016x}-01", self.trace, self.id)).ok()
    }

    /// Writes it as a line.
    pub(super) fn write(&self, out: &mut Vec<u8>, entry: &Entry, end: Instant) {
        // Writing to memory never fails.
        let _ = self.put(out, entry, end);
    }

    fn put(&self, out: &mut Vec<u8>, entry: &Entry, end: Instant) -> std::io::Result<()> {
        let begin = entry.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = |at: Instant| (begin + at.saturating_duration_since(entry.started)).as_nanos();
        write!(out, r#"{{"traceId":"{:032x}","spanId":"{:016x}""#, self.trace, self.id)?;
        if let Some(parent) = self.parent {
            write!(out, r#","parentSpanId":"{parent:016x}""#)?;
        }
        let service = entry.service.get().map(|local| local.name().as_str());
        let mut name = entry.method.as_str().to_owned();
        if let Some(service) = service {
            // Neither the path nor the host: there would be as many names as clients can think of.
            let _ = write!(name, " {service}");
        }
        out.extend_from_slice(br#","name":"#);
        json_string(out, name.as_bytes());
        write!(out, r#","kind":{SERVER},"startTimeUnixNano":"{}""#, begin.as_nanos())?;
        write!(out, r#","endTimeUnixNano":"{}","attributes":["#, nanos(end))?;
        attributes(out, entry, service)?;
        out.extend_from_slice(br#"],"events":["#);
        let moments =
            [("node chosen", &entry.chosen), ("connected", &entry.connected), ("head of the answer", &entry.answered)];
        let known = moments.into_iter().filter_map(|(name, at)| Some((name, at.get()?)));
        for (place, (name, at)) in known.enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(out, r#"{comma}{{"timeUnixNano":"{}","name":"{name}"}}"#, nanos(at))?;
        }
        let code = if entry.is_well() { 0 } else { ERROR };
        writeln!(out, r#"],"status":{{"code":{code}}}}}"#)
    }
}

fn attributes(out: &mut Vec<u8>, entry: &Entry, service: Option<&str>) -> std::io::Result<()> {
    let scheme = if entry.front.is_secure() { "https" } else { "http" };
    out.extend_from_slice(br#"{"key":"url.scheme","value":{"stringValue":""#);
    out.extend_from_slice(scheme.as_bytes());
    out.extend_from_slice(br#""}}"#);
    let node = entry.node.borrow();
    let id = node.as_ref().map(|local| &local.node.id);
    let shielded = entry.shielded.borrow();
    let failed = shielded.as_ref().map(|local| local.node.id.version.as_str().as_bytes());
    let status = entry.status.get();
    let code = status.to_string();
    let other = if status >= 500 { code.as_str() } else { entry.outcome().code() };
    let error = (!entry.is_well()).then(|| entry.error.get().unwrap_or(other));
    let client = entry.client.to_string();
    let texts: [(&str, Option<&[u8]>); 13] = [
        ("http.request.method", Some(entry.method.as_str().as_bytes())),
        // Never the query: it carries secrets.
        ("url.path", Some(entry.uri.path().as_bytes())),
        ("server.address", entry.host()),
        ("network.protocol.version", entry.protocol().strip_prefix("HTTP/").map(str::as_bytes)),
        ("client.address", Some(client.as_bytes())),
        ("error.type", error.map(str::as_bytes)),
        ("sluice.outcome", Some(entry.outcome().code().as_bytes())),
        ("sluice.service", service.map(str::as_bytes)),
        ("sluice.version", id.map(|id| id.version.as_str().as_bytes())),
        ("sluice.node", id.map(|id| id.address.as_str().as_bytes())),
        ("sluice.cohort", entry.cohort.get().map(str::as_bytes)),
        ("sluice.shielded", failed),
        ("sluice.request_id", entry.request_id.get().map(HeaderValue::as_bytes)),
    ];
    for (key, text) in texts.into_iter().filter_map(|(key, text)| Some((key, text?))) {
        write!(out, r#",{{"key":"{key}","value":{{"stringValue":"#)?;
        json_string(out, text);
        out.extend_from_slice(b"}}");
    }
    let numbers =
        [("http.response.status_code", u64::from(status)), ("sluice.attempts", u64::from(entry.attempts.get()))];
    for (key, number) in numbers.into_iter().filter(|(_, number)| *number > 0) {
        write!(out, r#",{{"key":"{key}","value":{{"intValue":"{number}"}}}}"#)?;
    }
    Ok(())
}
