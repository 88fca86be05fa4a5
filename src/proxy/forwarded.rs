//! Who the client is, told to the node: `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded` (RFC 7239).
//!
//! What an untrusted client says about itself is dropped; what a trusted proxy says is kept and continued.

use std::net::IpAddr;
use std::rc::Rc;

use http::Version;
use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue, VIA};
use ipnet::IpNet;

use super::front::Front;
use super::headers::{self, Seen};
use crate::net::http1::fields;
use crate::pool::Edge;
use crate::pool::router::bare_host;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");
const VERIFIED: HeaderName = HeaderName::from_static("x-client-verified");
const SUBJECT: HeaderName = HeaderName::from_static("x-client-subject");

/// What a node is told of a client and of the host that it asks: the same for many requests of a connection.
#[derive(Debug)]
pub struct Told {
    host: Option<HeaderValue>,
    /// The host as it is routed.
    bare: Box<str>,
    /// `X-Forwarded-For`, `-Proto`, and an element of `Forwarded`.
    address: HeaderValue,
    proto: HeaderValue,
    element: HeaderValue,
    via: HeaderValue,
    /// All of it, as the fields of an HTTP/1 head, for a client who has said nothing himself.
    lines: Vec<u8>,
}

impl Told {
    /// What is told of this client; made anew only when the connection asks for another host than before.
    pub fn of(front: &Front, host: Option<&HeaderValue>, version: Version) -> Rc<Self> {
        let mut kept = front.told.borrow_mut();
        let via = headers::via(version);
        if let Some(told) = &*kept
            && told.host.as_ref() == host
            && told.via == via
        {
            return Rc::clone(told);
        }
        let client = front.remote().ip().to_canonical();
        let address = HeaderValue::from_str(&client.to_string());
        let address = address.unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        let proto = if front.is_secure() { HTTPS } else { HTTP };
        let element = write_element(client, host, front.is_secure());
        // A copy: the value itself would keep all that was read with it.
        let host = host.and_then(|host| HeaderValue::from_bytes(host.as_bytes()).ok());
        let mut lines = Vec::new();
        let fields = [(&FOR, Some(&address)), (&PROTO, Some(&proto)), (&HOST, host.as_ref())];
        for (name, value) in fields.into_iter().chain([(&FORWARDED, Some(&element)), (&VIA, Some(&via))]) {
            if let Some(value) = value {
                fields::write(&mut lines, name, value.as_bytes());
            }
        }
        let bare = host.as_ref().and_then(|host| host.to_str().ok()).map(bare_host).unwrap_or_default().into();
        let told = Rc::new(Self { host, bare, address, proto, element, via, lines });
        *kept = Some(Rc::clone(&told));
        told
    }

    /// Whether this is the host, which was found to be one then.
    pub fn is_of(&self, host: &HeaderValue) -> bool {
        self.host.as_ref() == Some(host)
    }

    /// The host as it is routed; empty if there is none.
    pub fn bare_host(&self) -> &str {
        &self.bare
    }

    /// Its [lines](Self::lines), if they say all that is to be said: the client has said nothing himself.
    pub fn ready_made(self: &Rc<Self>, seen: &Seen) -> Option<Rc<Self>> {
        (!seen.has_forwarding() && self.host.is_some()).then(|| Rc::clone(self))
    }

    /// All of it as lines of an HTTP/1 head, in place of what is [`set`].
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// The same, for whoever needs it as fields.
    pub fn enter(&self, headers: &mut HeaderMap) {
        headers.insert(FOR, self.address.clone());
        headers.insert(PROTO, self.proto.clone());
        if let Some(host) = &self.host {
            headers.insert(HOST, host.clone());
            headers.insert(FORWARDED, self.element.clone());
        } else {
            headers.remove(HOST);
            headers.remove(FORWARDED);
        }
        headers.append(VIA, self.via.clone());
    }
}

/// Sets the forwarding fields for the node, and `Via`.
pub fn set(headers: &mut HeaderMap, front: &Front, seen: &Seen, told: &Told, trusted: &[IpNet]) {
    if !seen.has_forwarding() || !is_trusted(front.remote().ip().to_canonical(), trusted) {
        for name in &seen.claims {
            headers.remove(name);
        }
        return told.enter(headers);
    }
    headers.append(VIA, told.via.clone());
    if !headers.contains_key(FORWARDED) {
        translate(headers);
    }
    let chain = continued(headers, &FOR, &told.address);
    headers.insert(FOR, chain);
    headers.entry(PROTO).or_insert_with(|| told.proto.clone());
    if let Some(host) = &told.host {
        headers.entry(HOST).or_insert_with(|| host.clone());
        let chain = continued(headers, &FORWARDED, &told.element);
        headers.insert(FORWARDED, chain);
    }
}

/// Tells the node who the client is by its certificate. Whatever the client itself said there goes, whichever listener it came to.
pub fn set_client(headers: &mut HeaderMap, front: &Front, edge: &Edge) {
    if !edge.forwards_clients {
        return;
    }
    headers.remove(VERIFIED);
    headers.remove(SUBJECT);
    if let Some(facts) = front.facts() {
        headers.insert(VERIFIED, HeaderValue::from_static(if facts.subject.is_some() { "yes" } else { "no" }));
        if let Some(subject) = &facts.subject {
            headers.insert(SUBJECT, subject.clone());
        }
    }
}

fn is_trusted(client: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&client))
}

/// Says in `Forwarded` what came in `X-Forwarded-For` only (RFC 7239 §7.4); else the last proxy would look like the client.
fn translate(headers: &mut HeaderMap) {
    let hops = headers.get_all(FOR).iter().flat_map(|value| value.to_str().unwrap_or("unknown").split(','));
    let list: Vec<String> =
        hops.map(|hop| format!("for={}", hop.trim().parse().map_or("unknown".into(), node))).collect();
    if let (false, Ok(value)) = (list.is_empty(), HeaderValue::from_str(&list.join(", "))) {
        headers.insert(FORWARDED, value);
    }
}

/// All values of a list field, and one more.
fn continued(headers: &HeaderMap, name: &HeaderName, last: &HeaderValue) -> HeaderValue {
    let mut list = Vec::new();
    for value in headers.get_all(name).iter().chain([last]) {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(value.as_bytes());
    }
    HeaderValue::from_bytes(&list).unwrap_or_else(|_| last.clone())
}

/// An address as RFC 7239 §6 writes it.
fn node(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        // A colon or bracket must be quoted.
        IpAddr::V6(ip) => format!("\"[{ip}]\""),
    }
}

fn write_element(client: IpAddr, host: Option<&HeaderValue>, secure: bool) -> HeaderValue {
    let node = node(client);
    let scheme = if secure { "https" } else { "http" };
    // A host was checked to hold no quote and no backslash.
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    HeaderValue::from_str(&format!("for={node};host=\"{host}\";proto={scheme}"))
        .unwrap_or_else(|_| HeaderValue::from_static("for=unknown"))
}
