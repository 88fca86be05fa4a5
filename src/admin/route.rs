//! Paths and queries, as what they ask for. Pure.

use http::Method;

use super::answer::Fault;
use crate::api::Request;
use crate::model::{NodeAddress, ServiceName, Version};

/// Which listener a request came through decides what it may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// The Unix socket: everything.
    Full,
    /// Loopback TCP: anybody on the machine can connect, so nothing that steers.
    ReadOnly,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Does the process live?
    Health,
    /// Does it want traffic?
    Ready,
    /// Something for `control`.
    Ask(Request),
    /// One service out of the status.
    Service(ServiceName),
}

/// Finds what is asked for.
pub(super) fn route(method: &Method, path: &str, query: &str, access: Access) -> Result<Route, Fault> {
    let segments = path
        .strip_prefix('/')
        .ok_or_else(|| Fault::bad_request("the path must start with /"))?
        .split('/')
        .map(decode)
        .collect::<Result<Vec<_>, _>>()?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();

    let (route, takes, known): (Route, &'static str, &[&str]) = match segments[..] {
        ["healthz"] => (Route::Health, "GET", &[]),
        ["readyz"] => (Route::Ready, "GET", &[]),
        ["v1", "status"] => {
            let service = parameter(query, "service")?.map(ServiceName::new);
            (Route::Ask(Request::Status { service }), "GET", &["service"])
        }
        ["v1", "history"] => {
            check_method(method, "GET")?;
            let service = parameter(query, "service")?
                .map(ServiceName::new)
                .ok_or_else(|| Fault::bad_request("say which service: /v1/history?service=NAME"))?;
            (Route::Ask(Request::History { service }), "GET", &["service"])
        }
        _ if access == Access::ReadOnly => {
            return Err(Fault::not_found(
                "this listener has /healthz, /readyz, /v1/status and /v1/history; the rest is on the admin socket",
            ));
        }
        ["v1", "reload"] => (Route::Ask(Request::Reload), "POST", &[]),
        ["v1", "services", service] if !service.is_empty() => (Route::Service(ServiceName::new(service)), "GET", &[]),
        ["v1", "services", service, "history"] => {
            let service = ServiceName::new(service);
            (Route::Ask(Request::History { service }), "GET", &[])
        }
        ["v1", "services", service, "wait"] => {
            let request = Request::Wait {
                service: ServiceName::new(service),
                version: parameter(query, "version")?.map(Version::new),
            };
            (Route::Ask(request), "POST", &["version"])
        }
        ["v1", "services", service, "nodes", node, "drain"] => {
            let undo = match parameter(query, "undo")?.as_deref() {
                None | Some("false") => false,
                Some("true") => true,
                Some(_) => return Err(Fault::bad_request("undo is true or false")),
            };
            let request = Request::Drain { service: ServiceName::new(service), node: NodeAddress::new(node), undo };
            (Route::Ask(request), "POST", &["undo"])
        }
        _ => {
            return Err(Fault::not_found("no such path; the API is below /v1: status, history, reload, services/NAME"));
        }
    };
    check_method(method, takes)?;
    // A misspelt parameter must not turn `wait for v2` into `wait for anything`.
    for (key, _) in pairs(query) {
        if !known.contains(&key) {
            return Err(Fault::bad_request(if known.is_empty() {
                format!("unknown parameter `{key}`: this path takes none")
            } else {
                format!("unknown parameter `{key}`: this path takes {}", known.join(", "))
            }));
        }
    }
    Ok(route)
}

fn check_method(method: &Method, takes: &'static str) -> Result<(), Fault> {
    match takes {
        "GET" if *method == Method::GET || *method == Method::HEAD => Ok(()),
        "POST" if *method == Method::POST => Ok(()),
        "GET" => Err(Fault::method("GET, HEAD")),
        _ => Err(Fault::method("POST")),
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The one value of a parameter; none if it is not given.
fn parameter(query: &str, name: &str) -> Result<Option<String>, Fault> {
    let mut values = pairs(query).filter(|(key, _)| *key == name);
    let first = values.next().map(|(_, value)| decode(value)).transpose()?;
    if values.next().is_some() {
        return Err(Fault::bad_request(format!("`{name}` is given twice")));
    }
    if first.as_deref() == Some("") {
        return Err(Fault::bad_request(format!("`{name}` is empty")));
    }
    Ok(first)
}

/// Percent-decodes (RFC 3986 §2.1). Control characters are refused: no name holds them, and answers repeat names.
fn decode(text: &str) -> Result<String, Fault> {
    let bad = || Fault::bad_request(format!("`{}` is not percent-encoded UTF-8 text", text.escape_debug()));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or_else(bad);
        bytes.push((digit()? * 16 + digit()?) as u8);
    }
    let decoded = String::from_utf8(bytes).map_err(|_| bad())?;
    if decoded.chars().any(char::is_control) {
        return Err(bad());
    }
    Ok(decoded)
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3), so that any name is one segment or one value.
pub fn encode(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_name_comes_back_from_its_encoding(name in "[^\\p{Cc}]{1,30}") {
            let path = format!("/v1/services/{}", encode(&name));
            prop_assert_eq!(
                route(&Method::GET, &path, "", Access::Full).ok(),
                Some(Route::Service(ServiceName::new(&name)))
            );
        }

        #[test]
        fn no_path_or_query_makes_it_panic(path in ".{0,40}", query in ".{0,40}") {
            let _ = route(&Method::POST, &path, &query, Access::Full);
        }
    }
}
