//! An HTTP/2 request (RFC 9113 §8.3): checked, and turned into what the handler knows from HTTP/1: the target in origin form, one
//! `Host`, one `Cookie`; and an extended CONNECT (RFC 8441) as a request to upgrade.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, TE, UPGRADE,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Uri, Version, uri};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use super::super::super::error::Fault;
use super::super::super::headers::HOP_BY_HOP;
use crate::net::http1::request::blank;
use crate::net::http1::{digits, spare};
use crate::net::http2::hpack::Name;

/// The longest target that the `http` crate has room for.
const MOST_TARGET: usize = u16::MAX as usize - 1;

/// Of the 32 bytes that HTTP/2 counts for a field beyond its text (RFC 9113 §6.5.2), HTTP/1 has four: `: ` and an end of line.
const LIGHTER: usize = 28;

/// The target that a connection asked for last: to ask for the same again, as every call of a gRPC method does, costs no reading.
#[derive(Debug, Default)]
pub struct Known(Option<Uri>);

/// A request for the handler.
pub struct Prepared {
    /// In the form of HTTP/1, or why it cannot be answered by anybody.
    pub request: Result<Parts, Fault>,
    /// For an extended CONNECT: the key that the node has to answer to.
    pub websocket: Option<HeaderValue>,
    /// Bytes of its body, as its head says.
    pub length: Option<u64>,
    /// Whether the answer has no body, whatever it says.
    pub is_head: bool,
}

/// A head as its fields come.
#[derive(Default)]
pub struct Fields {
    method: Option<Method>,
    scheme: Option<HeaderValue>,
    authority: Option<HeaderValue>,
    path: Option<HeaderValue>,
    protocol: Option<HeaderValue>,
    headers: HeaderMap,
    host: Option<HeaderValue>,
    cookies: usize,
    length: Option<u64>,
    /// Whether a field came that is no pseudo-header: none of those may follow.
    regular: bool,
    /// What there may still be of bytes, as HTTP/1 would write them, and of fields.
    bytes_left: usize,
    count_left: usize,
    fault: Option<Fault>,
}

const TWICE: Fault = Fault::BadRequest("a pseudo-header stands twice");

impl Fields {
    /// None yet; of so many bytes and fields at most.
    pub fn new(most_bytes: usize, most_fields: usize) -> Self {
        Self { headers: spare(), bytes_left: most_bytes, count_left: most_fields, ..Self::default() }
    }

    /// The next one. What is wrong first is what the client hears of.
    #[inline]
    pub fn take(&mut self, name: Name, value: Option<HeaderValue>, size: usize) {
        if self.fault.is_none() {
            self.fault = self.keep(name, value, size).err();
        }
    }

    fn keep(&mut self, name: Name, value: Option<HeaderValue>, size: usize) -> Result<(), Fault> {
        self.bytes_left = self
            .bytes_left
            .checked_sub(size.saturating_sub(LIGHTER))
            .ok_or_else(|| if matches!(name, Name::Path) { Fault::TargetTooLong } else { Fault::HeadTooLarge })?;
        let value = value.ok_or(Fault::BadRequest("a field's value is malformed"))?;
        let place = match name {
            Name::Regular(name) => return self.keep_regular(name, value),
            _ if self.regular => return Err(Fault::BadRequest("a pseudo-header behind a field")),
            Name::Method => {
                let method =
                    Method::from_bytes(value.as_bytes()).map_err(|_| Fault::BadRequest("the method is malformed"))?;
                return if self.method.replace(method).is_none() { Ok(()) } else { Err(TWICE) };
            }
            Name::Scheme => &mut self.scheme,
            Name::Authority => &mut self.authority,
            Name::Path => &mut self.path,
            Name::Protocol => &mut self.protocol,
            Name::Status => return Err(Fault::BadRequest("a pseudo-header of answers")),
            Name::Malformed => return Err(Fault::BadRequest("a field's name is malformed")),
        };
        if place.replace(value).is_none() { Ok(()) } else { Err(TWICE) }
    }

    fn keep_regular(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Fault> {
        self.regular = true;
        // The crumbs of a cookie become one field (§8.2.3).
        let counts = u8::from(name != COOKIE || self.cookies == 0);
        self.count_left = self.count_left.checked_sub(counts.into()).ok_or(Fault::TooManyFields)?;
        match name {
            HOST if self.host.is_some() => return Err(Fault::BadRequest("one Host header is required")),
            HOST => self.host = Some(value.clone()),
            COOKIE => self.cookies += 1,
            CONTENT_LENGTH => {
                let length = digits(value.as_bytes()).ok_or(Fault::BadRequest("the content length is no number"))?;
                match self.length.replace(length) {
                    None => {}
                    Some(same) if same == length => return Ok(()),
                    Some(_) => return Err(Fault::BadRequest("two content lengths")),
                }
            }
            TE if value.as_bytes().eq_ignore_ascii_case(b"trailers") => {}
            _ if HOP_BY_HOP.contains(&name) => {
                return Err(Fault::BadRequest("a field that belongs to connections of HTTP/1"));
            }
            _ => {}
        }
        self.headers.try_append(name, value).map(drop).map_err(|_| Fault::TooManyFields)
    }

    /// A request of these. `ends`: there is no body.
    pub fn prepare(self, ends: bool, known: &mut Known) -> Prepared {
        let is_head = self.method == Some(Method::HEAD);
        let length = self.length;
        let mut websocket = None;
        let request = self.parts(ends, known, &mut websocket);
        Prepared { request, websocket, length: length.filter(|_| !ends), is_head }
    }

    fn parts(mut self, ends: bool, known: &mut Known, websocket: &mut Option<HeaderValue>) -> Result<Parts, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let method = self.method.ok_or(Fault::BadRequest("`:method` is missing"))?;
        if method == Method::CONNECT && self.protocol.is_none() {
            return Err(Fault::MethodNotAllowed);
        }
        if self.protocol.is_some() && method != Method::CONNECT {
            return Err(Fault::BadRequest("`:protocol` without CONNECT"));
        }
        // Absolute form in the target would go past this; `http` and `https` are what is served.
        let scheme = self.scheme.ok_or(Fault::BadRequest("`:scheme` is missing"))?;
        if ![&b"https"[..], b"http"].iter().any(|known| scheme.as_bytes().eq_ignore_ascii_case(known)) {
            return Err(Fault::BadRequest("the scheme is neither `http` nor `https`"));
        }
        if ends && self.length.is_some_and(|length| length > 0) {
            return Err(Fault::BadRequest("there is no body, whatever the content length says"));
        }
        let uri = target(&method, self.path, known)?;
        // `:authority` is what counts. A `Host` beside it must say the same, or nodes and the routing could disagree (§8.3.1).
        if let Some(authority) = self.authority {
            match self.host {
                Some(host) if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
                    return Err(Fault::BadRequest("`Host` and `:authority` differ"));
                }
                _ => self.headers.insert(HOST, authority),
            };
        }
        if self.cookies > 1 {
            join_cookies(&mut self.headers);
        }
        let mut head = blank();
        (head.method, head.uri, head.version, head.headers) = (method, uri, Version::HTTP_2, self.headers);
        if let Some(protocol) = self.protocol {
            if !protocol.as_bytes().eq_ignore_ascii_case(b"websocket") {
                return Err(Fault::UnknownProtocol);
            }
            let key = HeaderValue::from_str(&generate_key());
            let key = key.map_err(|_| Fault::BadRequest("no WebSocket key could be made"))?;
            head.method = Method::GET;
            head.version = Version::HTTP_11;
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            head.headers.insert(SEC_WEBSOCKET_KEY, key.clone());
            head.headers.remove(CONTENT_LENGTH);
            *websocket = Some(key);
        }
        Ok(head)
    }
}

/// Trailers of these fields. `None`: they are none.
pub fn trailers(fields: Fields) -> Option<HeaderMap> {
    let Fields { method, scheme, authority, path, protocol, headers, fault, .. } = fields;
    let pseudo = method.is_some() || [scheme, authority, path, protocol].iter().any(Option::is_some);
    (fault.is_none() && !pseudo).then_some(headers)
}

/// The target in origin form, or `*` for OPTIONS.
fn target(method: &Method, path: Option<HeaderValue>, known: &mut Known) -> Result<Uri, Fault> {
    const MALFORMED: Fault = Fault::BadRequest("the request target is malformed");
    let path = path.ok_or(Fault::BadRequest("`:path` is missing"))?;
    let text = path.as_bytes();
    if let Some(uri) = &known.0
        && uri.path_and_query().is_some_and(|same| same.as_str().as_bytes() == text)
    {
        return Ok(uri.clone());
    }
    if text.len() > MOST_TARGET {
        return Err(Fault::TargetTooLong);
    }
    if text.first() != Some(&b'/') && !(text == b"*" && *method == Method::OPTIONS) {
        return Err(MALFORMED);
    }
    let mut parts = uri::Parts::default();
    parts.path_and_query = Some(PathAndQuery::try_from(text).map_err(|_| MALFORMED)?);
    let uri = Uri::from_parts(parts).map_err(|_| MALFORMED)?;
    // The asterisk is no target of other methods. What is kept is a copy: the field lies in the memory of all of its head.
    if *method != Method::OPTIONS {
        known.0 = Some(uri.clone());
    }
    Ok(uri)
}

/// HTTP/2 splits cookies for its compression; HTTP/1 has one header (§8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(cookie) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        headers.insert(COOKIE, cookie);
    }
}

/// Fields of a response that belong to a connection of HTTP/1 (§8.2.2).
pub const CONNECTION_FIELDS: [HeaderName; 2] = [CONNECTION, UPGRADE];
