//! What Sluice has to know of gRPC (its "PROTOCOL-HTTP2" document): what a call is, how long its client waits,
//! and how a fault or an early end is told.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::body::RespBody;
use super::error::{FAULT, Fault};
use crate::pool::CutReason;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Status codes, as far as they are used here.
mod code {
    pub const CANCELLED: u16 = 1;
    pub const UNKNOWN: u16 = 2;
    pub const DEADLINE_EXCEEDED: u16 = 4;
    pub const PERMISSION_DENIED: u16 = 7;
    pub const RESOURCE_EXHAUSTED: u16 = 8;
    pub const UNIMPLEMENTED: u16 = 12;
    pub const INTERNAL: u16 = 13;
    pub const UNAVAILABLE: u16 = 14;
    pub const UNAUTHENTICATED: u16 = 16;
}

/// Whether these are the fields of a gRPC call or of its answer; gRPC-Web is not meant.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) else { return false };
    let Some((start, rest)) = kind.split_at_checked("application/grpc".len()) else { return false };
    start.eq_ignore_ascii_case(b"application/grpc") && is_grpc_suffix(rest)
}

/// Whether what follows `application/grpc` in a content type leaves it gRPC.
pub fn is_grpc_suffix(rest: &[u8]) -> bool {
    matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// How long the client waits for the whole call, if it said so: at most eight digits and a unit.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// A fault as an answer that is trailers only: clients of gRPC look at nothing else.
pub fn refusal(fault: &Fault) -> Response<RespBody> {
    let mut response = Response::new(RespBody::Empty);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(STATUS, HeaderValue::from(code_of(fault)));
    headers.insert(MESSAGE, message(fault.text()));
    headers.insert(FAULT, HeaderValue::from_static(fault.label()));
    response
}

fn code_of(fault: &Fault) -> u16 {
    match fault {
        // Nothing says that the node failed: the same call may go well elsewhere.
        Fault::Connect | Fault::ConnectTimeout | Fault::Reset | Fault::DrainDeadline | Fault::Shutdown => {
            code::UNAVAILABLE
        }
        Fault::ResponseTimeout | Fault::Deadline => code::DEADLINE_EXCEEDED,
        Fault::ClientTimeout => code::CANCELLED,
        _ => of_status(fault.status()),
    }
}

/// What gRPC takes an HTTP status for ("http-grpc-status-mapping"), but that a limit is not an outage.
fn of_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => code::INTERNAL,
        401 => code::UNAUTHENTICATED,
        403 => code::PERMISSION_DENIED,
        404 | 405 | 501 => code::UNIMPLEMENTED,
        413 | 429 | 431 => code::RESOURCE_EXHAUSTED,
        502..=504 => code::UNAVAILABLE,
        _ => code::UNKNOWN,
    }
}

/// `grpc-message`: percent-encoded. What is said here is plain ASCII but for the percent sign.
fn message(text: &str) -> HeaderValue {
    HeaderValue::from_str(&text.replace('%', "%25")).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The trailers of a call that is ended between two messages.
pub fn farewell(reason: CutReason) -> HeaderMap {
    let (status, text) = match reason {
        CutReason::Drain => (code::UNAVAILABLE, "the node that worked on this was taken out of service"),
        CutReason::Shutdown => (code::UNAVAILABLE, "the proxy is shutting down"),
        CutReason::Deadline => (code::DEADLINE_EXCEEDED, "the time that the client gave has passed"),
    };
    HeaderMap::from_iter([(STATUS, HeaderValue::from(status)), (MESSAGE, message(text))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_grpc_is_taken_for_it() {
        let headers = |kind| HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        for kind in ["application/grpc", "application/grpc+proto", "Application/gRPC; x=y"] {
            assert!(is_grpc(&headers(kind)), "{kind}");
        }
        for kind in ["application/grpc-web", "application/grpcish", "text/plain", "application/gr"] {
            assert!(!is_grpc(&headers(kind)), "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_timeout_has_digits_and_a_unit() {
        let parse = |text| timeout(&HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_static(text))]));
        assert_eq!(parse("3H"), Some(Duration::from_hours(3)));
        assert_eq!(parse("99999999M"), Some(Duration::from_mins(99_999_999)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("1u"), Some(Duration::from_micros(1)));
        for text in ["", "S", "5", "999999999S", "-1S", "1.5S", "1x", "1 S"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
