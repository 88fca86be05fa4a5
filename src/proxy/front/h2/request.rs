//! An HTTP/2 request, turned into what the handler knows from HTTP/1 (RFC 9113 §8.3): the target in origin form, one `Host`,
//! one `Cookie`; and an extended CONNECT (RFC 8441) as a request to upgrade.

use bytes::Bytes;
use h2::RecvStream;
use h2::ext::Protocol;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::uri::{Authority, Parts, Scheme};
use http::{Method, Request, Uri, Version};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use super::super::super::client_body::ClientBody;
use super::super::super::error::Fault;

/// The authority that a connection asked for last, as a `Host` header: most requests of a connection ask for the same.
#[derive(Debug, Default)]
pub struct KnownHost(Option<(Authority, HeaderValue)>);

/// A request for the handler.
pub struct Prepared {
    /// In the form of HTTP/1, or why it cannot be answered by anybody.
    pub request: Result<Request<ClientBody>, Fault>,
    /// For an extended CONNECT: the key that the node has to answer to, and the client's side of the tunnel.
    pub websocket: Option<(HeaderValue, RecvStream)>,
    /// Whether the answer has no body, whatever it says.
    pub is_head: bool,
}

/// Prepares a request.
pub fn prepare(request: Request<RecvStream>, known: &mut KnownHost) -> Prepared {
    let is_head = request.method() == Method::HEAD;
    let (mut head, body) = request.into_parts();
    let prepared = |request| Prepared { request, websocket: None, is_head };
    let Parts { scheme, authority, path_and_query, .. } = std::mem::take(&mut head.uri).into_parts();
    let protocol = head.extensions.remove::<Protocol>();
    if head.method == Method::CONNECT && protocol.is_none() {
        return prepared(Err(Fault::MethodNotAllowed));
    }
    let seen = Seen::of(&head.headers);
    if let Err(fault) = set_host(&mut head.headers, scheme.as_ref(), (authority, seen.host), known) {
        return prepared(Err(fault));
    }
    let mut target = Parts::default();
    target.path_and_query = path_and_query;
    match Uri::from_parts(target) {
        Ok(uri) => head.uri = uri,
        Err(_) => return prepared(Err(Fault::BadRequest("the request target is malformed"))),
    }
    if seen.cookies > 1 {
        join_cookies(&mut head.headers);
    }
    let Some(protocol) = protocol else {
        return prepared(Ok(Request::from_parts(head, ClientBody::http2(body, seen.length))));
    };
    if !protocol.as_str().eq_ignore_ascii_case("websocket") {
        return prepared(Err(Fault::UnknownProtocol));
    }
    let Ok(key) = HeaderValue::from_str(&generate_key()) else {
        return prepared(Err(Fault::BadRequest("no WebSocket key could be made")));
    };
    head.method = Method::GET;
    head.version = Version::HTTP_11;
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    head.headers.insert(SEC_WEBSOCKET_KEY, key.clone());
    head.headers.remove(CONTENT_LENGTH);
    let request = Ok(Request::from_parts(head, ClientBody::Http2(None)));
    Prepared { request, websocket: Some((key, body)), is_head: false }
}

/// What is looked for in a head: one walk over it costs less than to look three names up.
#[derive(Clone, Copy, Default)]
struct Seen {
    host: bool,
    cookies: usize,
    length: Option<u64>,
}

impl Seen {
    fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            match *name {
                HOST => seen.host = true,
                COOKIE => seen.cookies += 1,
                CONTENT_LENGTH => seen.length = value.to_str().ok().and_then(|length| length.parse().ok()),
                _ => {}
            }
        }
        seen
    }
}

/// `:authority` is what counts. A `Host` beside it must say the same, or nodes and the routing could disagree (§8.3.1).
fn set_host(
    headers: &mut HeaderMap,
    scheme: Option<&Scheme>,
    (authority, beside): (Option<Authority>, bool),
    known: &mut KnownHost,
) -> Result<(), Fault> {
    let Some(authority) = authority else { return Ok(()) };
    // Absolute form in the target would go past this; `http` and `https` are what is served.
    if !scheme.is_some_and(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS) {
        return Err(Fault::BadRequest("the request target is malformed"));
    }
    if let Some(host) = beside.then(|| headers.get(HOST)).flatten()
        && !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
    {
        return Err(Fault::BadRequest("`Host` and `:authority` differ"));
    }
    let host = match &known.0 {
        Some((same, host)) if same.as_str() == authority.as_str() => host.clone(),
        _ => {
            let host = HeaderValue::from_str(authority.as_str())
                .map_err(|_| Fault::BadRequest("the authority is malformed"))?;
            known.0 = Some((authority, host.clone()));
            host
        }
    };
    headers.insert(HOST, host);
    Ok(())
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
