//! Paths and queries, as what they ask for. Pure.

use std::time::Duration;

use http::Method;

use super::answer::Fault;
use super::dashboard::File;
use super::endpoints::{ENDPOINTS, Endpoint};
use crate::api::Request;
use crate::config::parse_duration;
use crate::model::{NodeAddress, ServiceName};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Does the process live?
    Health,
    /// Does it want traffic?
    Ready,
    /// A file of the dashboard.
    Page(&'static File),
    /// Who asks?
    Whoami,
    /// What can be asked?
    Description,
    /// What does it measure?
    Metrics,
    /// Something for `control`.
    Ask(Request),
    /// What happens.
    Events {
        /// The last event that the asker saw.
        after: Option<u64>,
        /// Only of this one.
        service: Option<ServiceName>,
    },
    /// One service out of the status.
    Service(ServiceName),
}

/// What path and query of a request give an endpoint.
#[derive(Debug)]
pub(super) struct Given<'a> {
    template: &'static str,
    /// Decoded.
    segments: &'a [String],
    query: &'a str,
}

impl Given<'_> {
    /// The segment that the template calls so.
    fn segment(&self, name: &str) -> Result<&str, Fault> {
        let at = self.template[1..].split('/').position(|part| part == name);
        at.and_then(|at| self.segments.get(at))
            .map(String::as_str)
            .ok_or_else(|| Fault::bad_request(format!("the path has no {name}")))
    }

    /// The service that the path names.
    pub(super) fn service(&self) -> Result<ServiceName, Fault> {
        self.segment("{service}").map(ServiceName::new)
    }

    /// The file that the path names.
    pub(super) fn file(&self) -> Result<&str, Fault> {
        self.segment("{file}")
    }

    /// The node that the path names.
    pub(super) fn node(&self) -> Result<NodeAddress, Fault> {
        self.segment("{node}").map(NodeAddress::new)
    }

    /// The one value of a parameter; none if it is not given.
    pub(super) fn parameter(&self, name: &str) -> Result<Option<String>, Fault> {
        parameter(self.query, name)
    }

    /// The same for a text, which may have several lines.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Fault> {
        once(self.query, name)?.map(|value| decode(value, true)).transpose()
    }

    /// A parameter that is a time, like `30s`.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, Fault> {
        let text = self.parameter(name)?;
        text.map(|text| parse_duration(&text).map_err(|why| Fault::bad_request(format!("{name}: {why}")))).transpose()
    }

    /// A parameter that is `true` or `false`; it is false unless it is given.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Fault> {
        match self.parameter(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Fault::bad_request(format!("{name} is true or false"))),
        }
    }
}

/// Finds what is asked for.
pub(super) fn route(method: &Method, path: &str, query: &str) -> Result<(&'static Endpoint, Route), Fault> {
    let segments = path
        .strip_prefix('/')
        .ok_or_else(|| Fault::bad_request("the path must start with /"))?
        .split('/')
        .map(|segment| decode(segment, false))
        .collect::<Result<Vec<_>, _>>()?;
    let mut here = ENDPOINTS.iter().filter(|endpoint| fits(endpoint.path, &segments)).peekable();
    if here.peek().is_none() {
        return Err(Fault::not_found("no such path; GET /v1/openapi.json describes those that there are"));
    }
    let asked = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let Some(endpoint) = here.clone().find(|endpoint| endpoint.method == asked) else {
        let allow = here.map(|endpoint| if endpoint.method == "GET" { "GET, HEAD" } else { endpoint.method });
        return Err(Fault::method(allow.collect::<Vec<_>>().join(", ")));
    };
    // A misspelt parameter must not turn `wait for v2` into `wait for anything`.
    for (key, _) in pairs(query) {
        if !endpoint.query.iter().any(|known| known.name == key) {
            let known: Vec<_> = endpoint.query.iter().map(|known| known.name).collect();
            let key = key.escape_debug();
            return Err(Fault::bad_request(if known.is_empty() {
                format!("unknown parameter `{key}`: this path takes none")
            } else {
                format!("unknown parameter `{key}`: this path takes {}", known.join(", "))
            }));
        }
    }
    let route = (endpoint.build)(&Given { template: endpoint.path, segments: &segments, query })?;
    Ok((endpoint, route))
}

/// Whether a path is one of this template. A name is never empty.
fn fits(template: &str, segments: &[String]) -> bool {
    let parts = template[1..].split('/');
    parts.clone().count() == segments.len()
        && parts
            .zip(segments)
            .all(|(part, segment)| if part.starts_with('{') { !segment.is_empty() } else { part == segment })
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The one value of a parameter; none if it is not given.
fn parameter(query: &str, name: &str) -> Result<Option<String>, Fault> {
    once(query, name)?.map(|value| decode(value, false)).transpose()
}

/// The one value of a parameter as it stands there.
fn once<'a>(query: &'a str, name: &str) -> Result<Option<&'a str>, Fault> {
    let mut values = pairs(query).filter(|(key, _)| *key == name);
    let first = values.next().map(|(_, value)| value);
    if values.next().is_some() {
        return Err(Fault::bad_request(format!("`{name}` is given twice")));
    }
    if first == Some("") {
        return Err(Fault::bad_request(format!("`{name}` is empty")));
    }
    Ok(first)
}

/// Percent-decodes (RFC 3986 §2.1). Control characters are refused, but the ends of `lines` if there may be some: no name holds them, and
/// answers repeat names.
fn decode(text: &str, lines: bool) -> Result<String, Fault> {
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
    if decoded.chars().any(|one| one.is_control() && !(lines && matches!(one, '\n' | '\r' | '\t'))) {
        let shown = decoded.escape_debug();
        return Err(Fault::bad_request(format!("`{shown}` holds a control character, which nothing here does")));
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ask::encode;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_name_comes_back_from_its_encoding(name in "[^\\p{Cc}]{1,30}") {
            let path = format!("/v1/services/{}", encode(&name));
            prop_assert_eq!(
                route(&Method::GET, &path, "").ok().map(|(_, route)| route),
                Some(Route::Service(ServiceName::new(&name)))
            );
        }

        #[test]
        fn no_path_or_query_makes_it_panic(path in ".{0,40}", query in ".{0,40}") {
            let _ = route(&Method::POST, &path, &query);
        }
    }
}
