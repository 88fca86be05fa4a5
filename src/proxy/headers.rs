//! What a request's head must be, what of it a node sees, and what of a response's head the client sees.
//!
//! `net/http1` and `front/h2` parse; this decides. It refuses what could be read in two ways (RFC 9112 §3.2, §6), so that nothing ambiguous
//! reaches a node, and removes what belongs to one connection only (RFC 9110 §7.6.1).

mod response;

use http::header::{
    self, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Uri, Version};

pub use self::response::rewrite_response;
use super::error::Fault;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Fields that hold for one connection, besides those that `Connection` names (RFC 9110 §7.6.1).
pub const HOP_BY_HOP: [HeaderName; 6] = [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE];

/// What the head of a request says, as far as Sluice must know.
#[derive(Debug, Default)]
pub struct Seen {
    /// The host that is asked, as the `Host` header for the node; `None` only in HTTP/1.0.
    pub host: Option<HeaderValue>,
    /// It stood in the target, and is not what the `Host` header says.
    host_replaced: bool,
    /// Which kinds of answer the client takes.
    pub accept: Option<HeaderValue>,
    /// The protocol the client wants to change to, if it may.
    pub upgrade: Option<HeaderValue>,
    /// `Expect: 100-continue`.
    pub expects_continue: bool,
    /// May be sent twice (RFC 9110 §9.2.2, or marked with `Idempotency-Key`).
    pub idempotent: bool,
    /// The client takes trailers.
    pub te_trailers: bool,
    /// How many proxies more an OPTIONS request may pass (RFC 9110 §7.6.2).
    pub max_forwards: Option<u64>,
    /// Header fields that must go: named by `Connection`, or spelt with `_` where `-` would have a meaning.
    drop: Vec<HeaderName>,
    /// Fields in which only a trusted proxy may say who the client is, but for those that are set anyway.
    pub claims: Vec<HeaderName>,
    present: Present,
}

/// Which of the fields that are always removed are there: looking up nine absent names costs more than one walk.
#[derive(Clone, Copy, Debug, Default)]
struct Present {
    connection: bool,
    keep_alive: bool,
    proxy_connection: bool,
    te: bool,
    transfer_encoding: bool,
    upgrade: bool,
    expect: bool,
    forwarding: bool,
    trace: bool,
}

/// Examines a request's head, for somebody who has seen nothing yet. `is_host_known`: whether such a `Host` was found to be in order
/// before.
pub fn examine(
    head: &Parts,
    has_body: bool,
    is_host_known: impl FnOnce(&HeaderValue) -> bool,
    seen: &mut Seen,
) -> Result<(), Fault> {
    seen.idempotent = is_idempotent(&head.method);
    let (mut hosts, mut te) = (0, false);
    for (name, value) in &head.headers {
        match name.as_str() {
            "host" => {
                hosts += 1;
                seen.host = Some(value.clone());
            }
            "connection" => seen.present.connection = true,
            "keep-alive" => seen.present.keep_alive = true,
            "proxy-connection" => seen.present.proxy_connection = true,
            "te" => {
                seen.present.te = true;
                seen.te_trailers |= lists(value, "trailers");
            }
            "transfer-encoding" => {
                if te || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                    return Err(Fault::BadRequest("only the transfer coding `chunked`, once, is understood"));
                }
                te = true;
                seen.present.transfer_encoding = true;
            }
            "upgrade" => seen.present.upgrade = true,
            "expect" => {
                seen.present.expect = true;
                if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
                    return Err(Fault::ExpectationFailed);
                }
                seen.expects_continue = head.version >= Version::HTTP_11 && has_body;
            }
            "traceparent" | "tracestate" => seen.present.trace = true,
            "accept" => seen.accept = Some(value.clone()),
            "idempotency-key" => seen.idempotent = true,
            "max-forwards" if head.method == Method::OPTIONS => {
                seen.max_forwards = value.to_str().ok().and_then(|hops| hops.parse().ok());
            }
            "forwarded" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" => {
                seen.present.forwarding = true;
            }
            other if other.starts_with("x-forwarded-") || other == "x-real-ip" => {
                seen.present.forwarding = true;
                seen.claims.push(name.clone());
            }
            other if other.contains('_') && shadows(other) => seen.drop.push(name.clone()),
            _ => {}
        }
    }
    if hosts > 1 || (hosts == 0 && head.version >= Version::HTTP_11) {
        return Err(Fault::BadRequest("one Host header is required"));
    }
    if seen.host.as_ref().is_some_and(|host| !is_host_known(host) && !is_host(host.as_bytes())) {
        return Err(Fault::BadRequest("the Host header is malformed"));
    }
    check_target(head, seen)?;
    if seen.present.connection {
        read_connection(head, has_body, seen);
    }
    Ok(())
}

fn check_target(head: &Parts, seen: &mut Seen) -> Result<(), Fault> {
    let (method, uri) = (&head.method, &head.uri);
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(Fault::MethodNotAllowed);
    }
    // The parser lets UTF-8 through. Nodes disagree on what it means; percent-encoded it is unambiguous (RFC 3986 §2.1).
    if !uri.path_and_query().is_none_or(|target| target.as_str().is_ascii()) {
        return Err(Fault::BadRequest("the request target is malformed"));
    }
    match (uri.scheme_str(), uri.authority()) {
        (None, None) => {
            let path = uri.path();
            if !(path.starts_with('/') || (path == "*" && method == Method::OPTIONS)) {
                return Err(Fault::BadRequest("the request target is malformed"));
            }
        }
        (Some("http" | "https"), Some(authority)) => {
            // Absolute form: the authority is what counts, whatever Host says (RFC 9112 §3.2.2).
            if authority.as_str().contains('@') || !is_host(authority.as_str().as_bytes()) {
                return Err(Fault::BadRequest("the request target is malformed"));
            }
            seen.host = HeaderValue::from_str(authority.as_str()).ok();
            seen.host_replaced = true;
        }
        _ => return Err(Fault::BadRequest("the request target is malformed")),
    }
    Ok(())
}

fn read_connection(head: &Parts, has_body: bool, seen: &mut Seen) {
    let mut wants_upgrade = false;
    for token in head.headers.get_all(CONNECTION).iter().flat_map(tokens) {
        if token.eq_ignore_ascii_case("upgrade") {
            wants_upgrade = true;
        } else if let Ok(name) = HeaderName::from_bytes(token.as_bytes()) {
            // Fields that frame or address the message are never hop-by-hop, whoever says so.
            if ![CONTENT_LENGTH, TRANSFER_ENCODING, HOST, TRAILER, header::CONTENT_TYPE].contains(&name) {
                seen.drop.push(name);
            }
        }
    }
    // A body and a change of protocol at once could be read in two ways.
    if wants_upgrade && !has_body && head.version == Version::HTTP_11 {
        // Nor to HTTP/2: the tunnel would carry requests past the routing.
        seen.upgrade = head.headers.get(UPGRADE).filter(|protocol| !lists(protocol, "h2c")).cloned();
    }
}

fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS | Method::TRACE)
}

/// Names that a node may take for another one: CGI and its heirs turn `-` into `_`.
fn shadows(name: &str) -> bool {
    let plain = name.replace('_', "-");
    plain.starts_with("x-forwarded-")
        || matches!(
            &*plain,
            "x-client-verified"
                | "x-client-subject"
                | "content-length"
                | "transfer-encoding"
                | "host"
                | "connection"
                | "forwarded"
                | "via"
                | "x-real-ip"
                | "upgrade"
        )
}

/// `host [":" port]` (RFC 9110 §7.2, RFC 3986 §3.2): registered names, IPv4 and bracketed IPv6. An `http` URI has a host that
/// is not empty (RFC 9110 §4.2.1).
fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host.strip_prefix(b"[") {
        Some(rest) => match rest.iter().position(|b| *b == b']') {
            Some(end) => {
                if !rest[..end].iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')) || end == 0 {
                    return false;
                }
                (&b""[..], &rest[end + 1..])
            }
            None => return false,
        },
        None => match host.iter().position(|b| *b == b':').unwrap_or(host.len()) {
            0 => return false,
            end => host.split_at(end),
        },
    };
    let port_ok = port.is_empty() || (port[0] == b':' && port[1..].iter().all(u8::is_ascii_digit) && port.len() <= 6);
    port_ok && name.iter().copied().all(is_of_name)
}

/// The bytes of a registered name. A pattern is looked up at once, a list would be searched for each byte.
fn is_of_name(byte: u8) -> bool {
    matches!(
        byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9'
            | b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'='
    )
}

/// The members of a list. One that is no text names nothing, and hides none of the others.
pub fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    let members = value.as_bytes().split(|byte| *byte == b',');
    members.filter_map(|member| std::str::from_utf8(member.trim_ascii()).ok()).filter(|token| !token.is_empty())
}

fn lists(value: &HeaderValue, wanted: &str) -> bool {
    tokens(value).any(|token| token.eq_ignore_ascii_case(wanted))
}

impl Seen {
    /// Whether forwarding headers came with the request.
    pub fn has_forwarding(&self) -> bool {
        self.present.forwarding
    }

    /// Whether the request says that it belongs to a trace.
    pub fn has_trace(&self) -> bool {
        self.present.trace
    }

    /// Removes what belongs to the client's connection, for a message of our own that repeats the rest.
    pub fn strip(&self, headers: &mut HeaderMap) {
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
        for name in &self.drop {
            headers.remove(name);
        }
    }

    /// Turns the client's header fields into the node's, but for the forwarding fields.
    pub fn rewrite(&self, headers: &mut HeaderMap, body_length: BodyLength) {
        let present = self.present;
        for (there, name) in [
            (present.connection, CONNECTION),
            (present.keep_alive, KEEP_ALIVE),
            (present.proxy_connection, PROXY_CONNECTION),
            (present.te, TE),
            (present.transfer_encoding, TRANSFER_ENCODING),
            (present.upgrade, UPGRADE),
        ] {
            if there {
                headers.remove(name);
            }
        }
        for name in &self.drop {
            headers.remove(name);
        }
        if let Some(protocol) = &self.upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, protocol.clone());
        }
        if self.te_trailers {
            // Named as what holds for this hop only (RFC 9110 §10.1.4).
            headers.append(CONNECTION, HeaderValue::from_static("te"));
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if let (true, Some(host)) = (self.host_replaced, &self.host) {
            headers.insert(HOST, host.clone());
        }
        if present.expect && !self.expects_continue {
            headers.remove(EXPECT);
        }
        if let Some(hops) = self.max_forwards {
            headers.insert(MAX_FORWARDS, HeaderValue::from(hops.saturating_sub(1)));
        }
        if body_length == BodyLength::Unknown {
            // Said here, where what becomes of the head is decided, and not left to who writes it.
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// What is known of a request body's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none, or its length is in the head.
    Known,
    /// It is chunked.
    Unknown,
}

/// What is said of us to whom a message goes: the version in which it came (RFC 9110 §7.6.3).
pub fn via(version: Version) -> HeaderValue {
    // Checked while this is compiled, not with each message.
    const VIA_10: HeaderValue = HeaderValue::from_static("1.0 sluice");
    const VIA_11: HeaderValue = HeaderValue::from_static("1.1 sluice");
    const VIA_2: HeaderValue = HeaderValue::from_static("2.0 sluice");
    match version {
        Version::HTTP_10 => VIA_10,
        Version::HTTP_2 => VIA_2,
        _ => VIA_11,
    }
}

/// The target for the node: origin form, with `stripped` in place of the path if a prefix is to go.
pub fn target(uri: &Uri, stripped: Option<&str>) -> Result<Uri, Fault> {
    let whole = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let (path, query) = whole.split_at(whole.find('?').unwrap_or(whole.len()));
    let path = stripped.unwrap_or(path);
    let slash = if path.starts_with('/') || path == "*" { "" } else { "/" };
    format!("{slash}{path}{query}").parse().map_err(|_| Fault::BadRequest("the request target is malformed"))
}
