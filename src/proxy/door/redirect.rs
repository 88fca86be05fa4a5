//! Paths and hosts that are elsewhere: told to the client, or only to the node.

use http::header::{HeaderValue, LOCATION};
use http::uri::PathAndQuery;
use http::{Response, StatusCode, Uri};

use super::super::body::RespBody;
use super::super::error::Fault;
use super::super::headers;
use super::Pass;
use crate::config::{Door, PathRule};
use crate::pool::router::{bare_host, normalised};

/// Where the client is sent instead, if it is.
pub(super) fn answer(pass: &Pass, door: &Door) -> Option<Response<RespBody>> {
    // An asterisk asks about the server as a whole: it is nowhere else.
    if pass.uri.path() == "*" {
        return None;
    }
    if let (Some(canonical), Some(host)) = (&door.canonical_host, &pass.host)
        && bare_host(host.to_str().unwrap_or_default()) != bare_host(canonical)
    {
        let target = pass.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        return to(StatusCode::PERMANENT_REDIRECT, &format!("{}://{canonical}{target}", pass.scheme()));
    }
    if door.redirects.is_empty() {
        return None;
    }
    let path = normalised(pass.uri.path());
    let (rule, rest) = door.redirects.iter().find_map(|rule| Some((rule, rule.from.rest(&path)?)))?;
    let mut target = rule.to.with(rest);
    if let (Some(query), false) = (pass.uri.query(), target.contains('?')) {
        let at = target.find('#').unwrap_or(target.len());
        target.insert_str(at, &format!("?{query}"));
    }
    to(rule.status, &target)
}

fn to(status: StatusCode, target: &str) -> Option<Response<RespBody>> {
    let mut response = Response::new(RespBody::Empty);
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, HeaderValue::from_str(target).ok()?);
    Some(response)
}

/// What the node is asked for instead, if it is.
pub(super) fn rewrite(rules: &[PathRule], uri: &Uri) -> Result<Option<Uri>, Fault> {
    if rules.is_empty() || uri.path() == "*" {
        return Ok(None);
    }
    let path = normalised(uri.path());
    let found = rules.iter().find_map(|rule| Some((rule, rule.from.rest(&path)?)));
    found.map(|(rule, rest)| headers::target(uri, Some(&rule.to.with(rest)))).transpose()
}
