//! Who the client is, told to the node: `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded` (RFC 7239).
//!
//! What an untrusted client says about itself is dropped; what a trusted proxy says is kept and continued.

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::front::Front;
use super::headers::Seen;
use crate::pool::Edge;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");
const VERIFIED: HeaderName = HeaderName::from_static("x-client-verified");
const SUBJECT: HeaderName = HeaderName::from_static("x-client-subject");

/// Sets the forwarding fields for the node.
pub fn set(headers: &mut HeaderMap, front: &Front, seen: &Seen, trusted: &[IpNet]) {
    let client = front.remote().ip().to_canonical();
    let address = address(front, client);
    let element = seen.host.as_ref().map(|host| element(front, client, host));
    let proto = if front.is_secure() { HTTPS } else { HTTP };
    if !seen.has_forwarding() || !is_trusted(client, trusted) {
        for name in &seen.claims {
            headers.remove(name);
        }
        headers.insert(FOR, address);
        headers.insert(PROTO, proto);
        if let (Some(host), Some(element)) = (&seen.host, element) {
            headers.insert(HOST, host.clone());
            headers.insert(FORWARDED, element);
        } else {
            headers.remove(HOST);
            headers.remove(FORWARDED);
        }
        return;
    }
    if !headers.contains_key(FORWARDED) {
        translate(headers);
    }
    let chain = continued(headers, &FOR, &address);
    headers.insert(FOR, chain);
    headers.entry(PROTO).or_insert(proto);
    if let Some(host) = &seen.host {
        headers.entry(HOST).or_insert_with(|| host.clone());
    }
    if let Some(element) = element {
        let chain = continued(headers, &FORWARDED, &element);
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

/// The client's address as a value; made once a connection.
fn address(front: &Front, client: IpAddr) -> HeaderValue {
    let mut cached = front.forwarded.address.borrow_mut();
    cached
        .get_or_insert_with(|| {
            HeaderValue::from_str(&client.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
        })
        .clone()
}

/// `for=…;host=…;proto=…`; made anew only when the connection asks for another host than before.
fn element(front: &Front, client: IpAddr, host: &HeaderValue) -> HeaderValue {
    let mut cached = front.forwarded.element.borrow_mut();
    if let Some((known, element)) = &*cached
        && known == host
    {
        return element.clone();
    }
    let element = write_element(client, host, front.is_secure());
    *cached = Some((host.clone(), element.clone()));
    element
}

/// An address as RFC 7239 §6 writes it.
fn node(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        // A colon or bracket must be quoted.
        IpAddr::V6(ip) => format!("\"[{ip}]\""),
    }
}

fn write_element(client: IpAddr, host: &HeaderValue, secure: bool) -> HeaderValue {
    let node = node(client);
    let scheme = if secure { "https" } else { "http" };
    // A host was checked to hold no quote and no backslash.
    let host = host.to_str().unwrap_or_default();
    HeaderValue::from_str(&format!("for={node};host=\"{host}\";proto={scheme}"))
        .unwrap_or_else(|_| HeaderValue::from_static("for=unknown"))
}
