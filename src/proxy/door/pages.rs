//! What clients see when something goes wrong: a page if there is one, JSON for those who ask for it, else a line of text.

use bytes::Bytes;
use http::header::{self, ACCEPT, CONTENT_TYPE, HeaderValue, VARY};
use http::{Response, StatusCode};

use super::super::body::RespBody;
use super::super::error::Fault;
use crate::config::{Errors, Page};

/// Whose pages there are; the service's own go first.
#[derive(Clone, Copy)]
pub(super) struct Pages<'a> {
    pub(super) own: Option<&'a Errors>,
    pub(super) general: Option<&'a Errors>,
    /// What the request is called, if it is.
    pub(super) request_id: Option<&'a HeaderValue>,
}

impl Pages<'_> {
    fn page(&self, status: StatusCode) -> Option<&Page> {
        [self.own, self.general].into_iter().flatten().find_map(|errors| errors.page(status.as_u16()))
    }

    /// Whether a node's answer is to be replaced.
    pub(super) fn intercept(&self, response: &Response<RespBody>) -> bool {
        let status = response.status();
        if !(status.is_client_error() || status.is_server_error()) {
            return false;
        }
        let wanted = [self.own, self.general].into_iter().flatten();
        wanted.flat_map(|errors| &errors.intercept).any(|statuses| statuses.contains(status.as_u16()))
            // gRPC has no pages.
            && !is_grpc(response)
    }

    /// A node's answer with a body of ours.
    pub(super) fn replace(&self, response: &mut Response<RespBody>, accept: Option<&HeaderValue>) {
        let status = response.status();
        let text = Bytes::from(format!("{status}\n"));
        // What describes the body that goes.
        for name in [
            header::CONTENT_LENGTH,
            header::CONTENT_ENCODING,
            header::CONTENT_LANGUAGE,
            header::CONTENT_LOCATION,
            header::CONTENT_RANGE,
            header::CONTENT_DISPOSITION,
            header::ETAG,
            header::LAST_MODIFIED,
            header::TRAILER,
        ] {
            response.headers_mut().remove(name);
        }
        self.fill(response, accept, "service", text);
    }

    /// Sluice's own answer.
    pub(super) fn tell(&self, fault: &Fault, accept: Option<&HeaderValue>) -> Response<RespBody> {
        let mut response = fault.response();
        let text = fault.line();
        // What an operator wrote for this very hour goes before the page.
        let told = Pages { own: None, general: None, request_id: self.request_id };
        let written = matches!(fault, Fault::Maintenance(what) if what.message.is_some());
        let pages = if written { &told } else { self };
        pages.fill(&mut response, accept, fault.label(), text.into());
        response
    }

    fn fill(&self, response: &mut Response<RespBody>, accept: Option<&HeaderValue>, code: &str, text: Bytes) {
        let status = response.status();
        let (kind, body) = if accept.is_some_and(prefers_json) {
            let mut problem = serde_json::json!({
                "status": status.as_u16(),
                "title": status.canonical_reason().unwrap_or_default(),
                "detail": String::from_utf8_lossy(&text).trim(),
                "code": code,
            });
            if let Some(id) = self.request_id {
                problem["request_id"] = String::from_utf8_lossy(id.as_bytes()).into();
            }
            (HeaderValue::from_static("application/problem+json"), Bytes::from(problem.to_string()))
        } else if let Some(page) = self.page(status) {
            (page.kind.clone(), page.body.clone())
        } else {
            let text = match self.request_id {
                Some(id) => Bytes::from([&text[..], b"request ", id.as_bytes(), b"\n"].concat()),
                None => text,
            };
            (HeaderValue::from_static("text/plain; charset=utf-8"), text)
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, kind);
        // A cache must not give one client's JSON to another's browser.
        headers.append(VARY, HeaderValue::from_name(ACCEPT));
        *response.body_mut() = RespBody::Full(body);
    }
}

fn is_grpc(response: &Response<RespBody>) -> bool {
    response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Whether JSON is named, and as good as HTML (RFC 9110 §12.5.1). A bare `*/*` is no wish for JSON.
fn prefers_json(accept: &HeaderValue) -> bool {
    let (mut json, mut html) = (0.0f32, 0.0f32);
    for range in accept.to_str().unwrap_or_default().split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let quality = quality.map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
        if kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json")) {
            json = json.max(quality);
        } else if kind == "text/html" || kind == "application/xhtml+xml" {
            html = html.max(quality);
        }
    }
    json > 0.0 && json >= html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_goes_to_those_who_prefer_it() {
        for (accept, json) in [
            ("application/json", true),
            ("application/json, text/plain, */*", true),
            ("application/problem+json", true),
            ("*/*", false),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
            ("text/html, application/json;q=0.5", false),
            ("text/html;q=0.5, application/json; q=0.6", true),
            ("application/json;q=0", false),
            ("", false),
            ("application/grpc", false),
        ] {
            assert_eq!(prefers_json(&HeaderValue::from_static(accept)), json, "{accept}");
        }
    }
}
