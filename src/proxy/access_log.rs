//! The access log: a line for each request, when all of it is over.
//!
//! A request that is to be told has an [`Entry`], shared by all who know something of it: the handler, the call, the body. When the last of
//! them lets go, whatever the reason, the line is written to the worker's buffer (`book`), which is handed to the writer's thread when it is full or at
//! the watchdog's next look. Nothing waits; what there is no room for is lost, and counted. The same entry is told as a `span`, if its trace is
//! recorded.

mod book;
mod line;
mod outcome;
mod span;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::{HOST, HeaderName, HeaderValue, REFERER, USER_AGENT};
use http::request::Parts;
use http::{Method, Uri, Version};

use self::book::Book;
pub use self::book::Desk;
use self::line::Value;
pub use self::outcome::Outcome;
use self::span::Span;
use super::call::{Call, Stage};
use super::door;
use super::error::Fault;
use super::front::Front;
use super::trace;
use super::view::{LocalNode, ServiceLocal};
use super::worker::Worker;
use crate::config::{self, LogField};
use crate::model::WorkKind;
use crate::pool::{AccessLog, Edge};

/// One request. Its line is written when the last reference goes.
#[derive(Debug)]
pub struct Entry {
    /// None if it is told as a span alone.
    log: Option<(Rc<Book>, Arc<AccessLog>)>,
    span: Option<Span>,
    front: Rc<Front>,
    started: Instant,
    at: SystemTime,
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    protocol: Version,
    client: std::net::IpAddr,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    /// Between 0 and 1: whether it is in the sample.
    draw: f64,
    request_id: OnceCell<HeaderValue>,
    trace: OnceCell<HeaderValue>,
    status: Cell<u16>,
    service: OnceCell<Rc<ServiceLocal>>,
    cohort: Cell<Option<&'static str>>,
    shielded: RefCell<Option<Rc<LocalNode>>>,
    node: RefCell<Option<Rc<LocalNode>>>,
    attempts: Cell<u32>,
    chosen: Cell<Option<Instant>>,
    connected: Cell<Option<Instant>>,
    answered: Cell<Option<Instant>>,
    kind: Cell<WorkKind>,
    outcome: Cell<Option<Outcome>>,
    error: Cell<Option<&'static str>>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
}

/// Begins to note a request, if it is to be told.
pub fn begin(worker: &Worker, edge: &Edge, call: &Call, head: &Parts) -> Option<Rc<Entry>> {
    let headers = &head.headers;
    let span = edge.spans.as_deref().and_then(|spans| Span::begin(&worker.spans, spans, headers, || worker.random()));
    let log = edge.access_log.as_ref().map(|log| (worker.desk.book(&log.sink), Arc::clone(log)));
    if log.is_none() && span.is_none() {
        return None;
    }
    let wanted = |field, name: HeaderName| {
        let holds = log.as_ref().is_some_and(|(_, log)| log.settings.format.holds(field));
        holds.then(|| headers.get(name).cloned()).flatten()
    };
    let peer = call.front.remote().ip().to_canonical();
    let entry = Rc::new(Entry {
        front: Rc::clone(&call.front),
        started: call.started,
        at: SystemTime::now(),
        method: head.method.clone(),
        uri: head.uri.clone(),
        host: headers.get(HOST).cloned(),
        protocol: if call.is_stream() { Version::HTTP_2 } else { head.version },
        client: door::client_address(peer, headers, &edge.trusted_proxies),
        user_agent: wanted(LogField::UserAgent, USER_AGENT),
        referer: wanted(LogField::Referer, REFERER),
        log,
        span,
        draw: draw(worker.random()),
        request_id: OnceCell::new(),
        trace: OnceCell::new(),
        status: Cell::new(0),
        service: OnceCell::new(),
        cohort: Cell::new(None),
        shielded: RefCell::new(None),
        node: RefCell::new(None),
        attempts: Cell::new(0),
        chosen: Cell::new(None),
        connected: Cell::new(None),
        answered: Cell::new(None),
        kind: Cell::new(WorkKind::Request),
        outcome: Cell::new(None),
        error: Cell::new(None),
        bytes_in: Cell::new(0),
        bytes_out: Cell::new(0),
    });
    call.set_entry(&entry);
    Some(entry)
}

/// Between 0 and 1, from all there is.
fn draw(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

impl Entry {
    /// Told by the handler when both are known.
    pub fn name(&self, request_id: Option<&HeaderValue>, trace: Option<&HeaderValue>) {
        if let Some(id) = request_id {
            let _ = self.request_id.set(id.clone());
        }
        if let Some(trace) = trace {
            let _ = self.trace.set(trace.clone());
        }
    }

    /// Told by the handler when its service is known.
    pub fn set_service(&self, local: &Rc<ServiceLocal>) {
        let _ = self.service.set(Rc::clone(local));
    }

    /// Told by the handler: why it went to this version, if not by its turn.
    pub fn set_cohort(&self, cohort: &'static str) {
        self.cohort.set(Some(cohort));
    }

    /// Told by the call when the version on trial failed it, and the old one is asked.
    pub(super) fn note_shielded(&self, failed: &Rc<LocalNode>) {
        self.shielded.replace(Some(Rc::clone(failed)));
    }

    /// The span that it is told as.
    pub fn span(&self) -> Option<&Span> {
        self.span.as_ref()
    }

    /// Told by the call when a node is claimed.
    pub(super) fn chose(&self, node: &Rc<LocalNode>) {
        *self.node.borrow_mut() = Some(Rc::clone(node));
        self.chosen.set(Some(Instant::now()));
        self.connected.set(None);
    }

    /// Told by the handler when the request goes to a node.
    pub(super) fn count_attempt(&self) {
        self.attempts.set(self.attempts.get() + 1);
    }

    /// Told by the call at each stage.
    pub(super) fn enter(&self, stage: Stage) {
        if stage == Stage::Response {
            self.connected.set(Some(Instant::now()));
        }
    }

    /// Told by the handler when the answer's head came from the node.
    pub(super) fn note_head(&self) {
        self.answered.set(Some(Instant::now()));
    }

    /// How it ended; the first to tell is right.
    pub(super) fn end(&self, outcome: Outcome) {
        if self.outcome.get().is_none() {
            self.outcome.set(Some(outcome));
        }
    }

    /// Told by the call at its end.
    pub(super) fn leave(&self, kind: WorkKind, bytes_in: u64, bytes_out: u64) {
        self.kind.set(kind);
        self.bytes_in.set(bytes_in);
        self.bytes_out.set(self.bytes_out.get() + bytes_out);
    }

    /// Told by the handler: what the client gets. `whole`: bytes of a body that is at hand, after which nothing comes.
    pub fn finish(&self, status: u16, fault: Option<(Outcome, &'static str)>, whole: Option<u64>) {
        self.status.set(status);
        if let Some((outcome, label)) = fault {
            self.outcome.set(Some(outcome));
            self.error.set(Some(label));
        }
        if let Some(bytes) = whole {
            self.bytes_out.set(bytes);
            if fault.is_none() {
                // Whatever a body told that was replaced: this is what the client gets.
                self.outcome.set(Some(if self.answered.get().is_some() { Outcome::Done } else { Outcome::Answered }));
            }
        }
    }

    /// If nobody told, the client went away.
    fn outcome(&self) -> Outcome {
        self.outcome.get().unwrap_or_else(|| {
            if self.answered.get().is_some() {
                Outcome::ClientBody
            } else if self.attempts.get() > 0 {
                Outcome::ClientHead
            } else {
                Outcome::ClientWait
            }
        })
    }

    fn protocol(&self) -> &'static str {
        match self.protocol {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        }
    }

    /// As the client asked for it.
    fn host(&self) -> Option<&[u8]> {
        match self.uri.authority() {
            Some(authority) => Some(authority.as_str().as_bytes()),
            None => self.host.as_ref().map(HeaderValue::as_bytes),
        }
    }

    fn is_well(&self) -> bool {
        self.outcome().is_good() && self.status.get() < 500
    }

    fn value<'a>(&'a self, settings: &config::AccessLog, field: LogField, end: Instant, made: &'a Made) -> Value<'a> {
        let text = |value: Option<&'a HeaderValue>| value.map_or(Value::None, |value| Value::Text(value.as_bytes()));
        let time = |time: Option<Duration>| time.map_or(Value::None, Value::Time);
        let chosen = self.chosen.get();
        let connected = self.connected.get();
        let between = |from: Option<Instant>, to: Option<Instant>| {
            from.map(|from| to.unwrap_or(end).saturating_duration_since(from))
        };
        match field {
            LogField::Time => Value::Word(&made.time),
            LogField::TimeCommon => Value::Word(&made.common),
            LogField::RequestId => text(self.request_id.get()),
            LogField::TraceId => {
                self.trace.get().and_then(trace::id).map_or(Value::None, |id| Value::Text(id.as_bytes()))
            }
            LogField::Client => Value::Word(&made.client),
            LogField::Peer => Value::Word(&made.peer),
            LogField::Listener => Value::Text(self.front.entrance().name.as_bytes()),
            LogField::Tls => Value::Flag(self.front.is_secure()),
            LogField::Protocol => Value::Word(self.protocol().as_bytes()),
            LogField::Method => Value::Text(self.method.as_str().as_bytes()),
            LogField::Host => self.host().map_or(Value::None, Value::Text),
            LogField::Path => {
                let whole = self.uri.path_and_query().filter(|_| settings.query);
                Value::Text(whole.map_or(self.uri.path(), |whole| whole.as_str()).as_bytes())
            }
            LogField::Status => Value::Number(u64::from(self.status.get())),
            LogField::BytesIn => Value::Number(self.bytes_in.get()),
            LogField::BytesOut => Value::Number(self.bytes_out.get()),
            LogField::Duration => Value::Time(end.saturating_duration_since(self.started)),
            LogField::Wait => time(between(Some(self.started), chosen)),
            LogField::Connect => time(between(chosen, connected)),
            LogField::Head => time(between(connected, self.answered.get())),
            LogField::Body => time(between(self.answered.get(), None)),
            LogField::Service => {
                self.service.get().map_or(Value::None, |local| Value::Text(local.name().as_str().as_bytes()))
            }
            LogField::Version => {
                made.node.as_ref().map_or(Value::None, |local| Value::Text(local.node.id.version.as_str().as_bytes()))
            }
            LogField::Node => {
                made.node.as_ref().map_or(Value::None, |local| Value::Text(local.node.id.address.as_str().as_bytes()))
            }
            LogField::Cohort => self.cohort.get().map_or(Value::None, |cohort| Value::Word(cohort.as_bytes())),
            LogField::Shielded => match &made.shielded {
                Some(local) => Value::Text(local.node.id.version.as_str().as_bytes()),
                None => Value::None,
            },
            LogField::Attempts => Value::Number(u64::from(self.attempts.get())),
            LogField::Kind => Value::Word(self.kind.get().as_str().as_bytes()),
            LogField::Outcome => Value::Word(self.outcome().code().as_bytes()),
            LogField::Error => self.error.get().map_or(Value::None, |label| Value::Word(label.as_bytes())),
            LogField::UserAgent => text(self.user_agent.as_ref()),
            LogField::Referer => text(self.referer.as_ref()),
        }
    }
}

/// What has to be made before it can be written.
struct Made {
    time: Vec<u8>,
    common: Vec<u8>,
    client: Vec<u8>,
    peer: Vec<u8>,
    node: Option<Rc<LocalNode>>,
    shielded: Option<Rc<LocalNode>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let log = self.log.as_ref().filter(|(_, log)| !self.is_well() || self.draw < log.settings.sample);
        if self.span.is_none() && log.is_none() {
            return;
        }
        let end = Instant::now();
        if let Some(span) = &self.span {
            span.book.write(|out| span.write(out, self, end));
        }
        let Some((book, log)) = log else { return };
        let settings = &log.settings;
        let format = &settings.format;
        let wanted = |field, make: &dyn Fn() -> Vec<u8>| if format.holds(field) { make() } else { Vec::new() };
        let made = Made {
            time: wanted(LogField::Time, &|| line::rfc3339(self.at)),
            common: wanted(LogField::TimeCommon, &|| line::common(self.at)),
            client: wanted(LogField::Client, &|| line::address(self.client)),
            peer: wanted(LogField::Peer, &|| self.front.remote().to_string().into_bytes()),
            node: self.node.take(),
            shielded: self.shielded.take(),
        };
        book.write(|out| line::write(out, format, |field| self.value(settings, field, end, &made)));
    }
}

/// How a fault is told.
pub fn told(fault: &Fault) -> (Outcome, &'static str) {
    (Outcome::of(fault), fault.label())
}
