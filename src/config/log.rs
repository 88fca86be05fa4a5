//! `[log.access]`: a line for each request, in a form of one's own choice.

use std::path::{Path, PathBuf};

use super::error::Fault;
use super::file::misplaced;
use super::reader::Table;
use super::template::{self, Piece};
use super::units::shorten;

/// A line for each request.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Where lines go.
    pub target: LogTarget,
    /// How they look.
    pub format: LogFormat,
    /// The part of requests that is told, of those that came out well: 1 is all.
    pub sample: f64,
    /// Whether the query is told with the path.
    pub query: bool,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file; a relative path was resolved against the folder of the file that names it.
    File(PathBuf),
}

/// How lines look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// An object with all of [`LogField::JSON`].
    Json,
    /// These, one behind the other.
    Pieces(Vec<LogPiece>),
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPiece {
    /// As it stands.
    Text(String),
    /// What this is for the request.
    Field(LogField),
}

macro_rules! fields {
    ($($(#[$doc:meta])* $id:ident $name:literal $help:literal;)*) => {
        /// What is known of a request at its end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum LogField {
            $(#[doc = $help] $id,)*
        }

        impl LogField {
            /// All of them, in the order in which they are described.
            pub const ALL: &'static [Self] = &[$(Self::$id),*];

            /// The name in formats and in JSON.
            pub fn name(self) -> &'static str {
                match self { $(Self::$id => $name),* }
            }

            /// For people.
            pub fn help(self) -> &'static str {
                match self { $(Self::$id => $help),* }
            }
        }
    };
}

fields! {
    Time "time" "when the request arrived: RFC 3339 in UTC, with milliseconds";
    TimeCommon "time_common" "the same as the Common Log Format writes it, without its brackets";
    RequestId "request_id" "the request's id, if it has one: what nodes see as `tracing.request_id`, or as `X-Request-Id`";
    TraceId "trace_id" "the trace that its `traceparent` belongs to";
    Client "client" "the client's address, as trusted proxies tell it";
    Peer "peer" "address and port of the connection's other end, or of whom its PROXY header names";
    Listener "listener" "the listener that it came to";
    Tls "tls" "`true` if the client's connection speaks TLS";
    Protocol "protocol" "`HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`";
    Method "method" "the method";
    Host "host" "the host that was asked for";
    Path "path" "the path as the client wrote it; with its query only if `query` is on, because queries carry secrets";
    Status "status" "the status that the client got; 0 if it went away before it could get one";
    BytesIn "bytes_in" "bytes of the request's body that came, or that came through the tunnel from the client";
    BytesOut "bytes_out" "bytes of the answer's body that were passed on, before compression, or through the tunnel to the client";
    Duration "duration_ms" "from the head of the request to the end of the answer, in milliseconds";
    Wait "wait_ms" "of it, until the node that got the request last was chosen: policies, waiting, tries before that one";
    Connect "connect_ms" "of it, until there was a connection to that node";
    Head "head_ms" "of it, from there to the head of the node's answer";
    Body "body_ms" "of it, from there to the end";
    Service "service" "the service";
    Version "version" "the version of the node that got it last";
    Node "node" "the address of that node";
    Cohort "cohort" "why it went to this version while two served: `pinned` by its user's place, or `preview`; nothing if by its turn";
    Shielded "shielded" "the version on trial that failed it before the old one answered";
    Attempts "attempts" "how often it was given to a node";
    Kind "kind" "`request`, `stream`, `websocket` or `tunnel`";
    Outcome "outcome" "who ended it, and at which stage: see below";
    Error "error" "the error that Sluice answered with, as in `x-sluice-error`";
    UserAgent "user_agent" "the header `User-Agent`. Not in JSON";
    Referer "referer" "the header `Referer`, which may carry secrets. Not in JSON";
}

impl LogField {
    /// Those of the JSON form.
    pub const JSON: &'static [Self] = &[
        Self::Time,
        Self::RequestId,
        Self::TraceId,
        Self::Client,
        Self::Listener,
        Self::Tls,
        Self::Protocol,
        Self::Method,
        Self::Host,
        Self::Path,
        Self::Status,
        Self::BytesIn,
        Self::BytesOut,
        Self::Duration,
        Self::Wait,
        Self::Connect,
        Self::Head,
        Self::Body,
        Self::Service,
        Self::Version,
        Self::Node,
        Self::Cohort,
        Self::Shielded,
        Self::Attempts,
        Self::Kind,
        Self::Outcome,
        Self::Error,
    ];

    /// A bit for each of them.
    const IN_JSON: u64 = {
        let (mut bits, mut place) = (0, 0);
        while place < Self::JSON.len() {
            bits |= 1 << Self::JSON[place] as u32;
            place += 1;
        }
        bits
    };
}

impl LogFormat {
    /// Whether lines hold this.
    pub fn holds(&self, field: LogField) -> bool {
        match self {
            Self::Json => LogField::IN_JSON & (1 << field as u32) != 0,
            Self::Pieces(pieces) => pieces.contains(&LogPiece::Field(field)),
        }
    }
}

const COMMON: &str = "{client} - - [{time_common}] \"{method} {path} {protocol}\" {status} {bytes_out}";
const COMBINED: &str =
    "{client} - - [{time_common}] \"{method} {path} {protocol}\" {status} {bytes_out} \"{referer}\" \"{user_agent}\"";

/// `[log]`. `source`: the file, which relative paths start from.
pub(super) fn read(mut t: Table<'_>, source: &Path) -> Option<AccessLog> {
    let access = t.table("access", "log.access").and_then(|table| access(table, source));
    t.finish(misplaced);
    access
}

fn access(mut t: Table<'_>, source: &Path) -> Option<AccessLog> {
    let path = t.string("path");
    if path.is_missing() {
        let fault = Fault::new("`[log.access]` has no `path`, so lines would go nowhere");
        t.findings().add(&t.span.clone(), fault.hint("write `path = \"stdout\"`, or the path of a file"));
    }
    let target = path.get().and_then(|at| match at.value {
        "stdout" | "-" => Some(LogTarget::Stdout),
        "" => {
            t.findings().add(&at.span, Fault::new("this is not a path"));
            None
        }
        text if text.contains('\0') || text.ends_with('/') => {
            t.findings().add(&at.span, Fault::new("this is not the path of a file"));
            None
        }
        text => Some(LogTarget::File(source.parent().unwrap_or(Path::new("")).join(text))),
    });
    let format = match t.string("format").get() {
        None => Some(LogFormat::Json),
        Some(at) => format(at.value).map_err(|fault| t.findings().add(&at.span, fault)).ok(),
    };
    let sample = t.percent("sample", 1.0);
    let query = t.flag("query", false);
    t.finish(misplaced);
    Some(AccessLog { target: target?, format: format?, sample, query })
}

fn format(text: &str) -> Result<LogFormat, Fault> {
    match text {
        "json" => Ok(LogFormat::Json),
        "common" => pieces(COMMON).map(LogFormat::Pieces),
        "combined" => pieces(COMBINED).map(LogFormat::Pieces),
        _ if !text.contains('{') => {
            let fault = Fault::new(format!("`{}` is no format", shorten(text)));
            Err(fault.hint("one of \"json\", \"common\" and \"combined\", or a line of your own with fields in braces: \"{client} {status}\""))
        }
        _ if text.contains(['\n', '\r']) => Err(Fault::new("a format is one line")),
        _ => pieces(text).map(LogFormat::Pieces),
    }
}

fn pieces(text: &str) -> Result<Vec<LogPiece>, Fault> {
    let known = LogField::ALL.iter().map(|field| (field.name(), *field));
    let pieces = template::pieces(text).into_iter().map(|piece| match piece {
        Piece::Text(text) => Ok(LogPiece::Text(text.into())),
        Piece::Word(word) => {
            template::meaning(word, known.clone(), "is no field of the access log").map(LogPiece::Field)
        }
    });
    pieces.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_field_is_refused() {
        assert!(pieces("{statu}").is_err());
        assert!(format("jsonn").is_err());
        assert!(format("a\n{status}").is_err());
    }
}
