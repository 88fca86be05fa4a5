//! Answers: JSON, text, or the one shape that every error has.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use serde::Serialize;

use crate::api::{Refusal, RefusalKind};

/// What every answer's body is: at once, or a stream.
pub(super) type Body = BoxBody<Bytes, std::convert::Infallible>;

/// Why a request gets no answer of its own.
#[derive(Debug)]
pub(super) struct Fault {
    status: StatusCode,
    kind: &'static str,
    message: String,
    /// The methods that the path has, for 405.
    allow: Option<String>,
}

impl Fault {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), allow: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn method(allow: String) -> Self {
        let message = format!("this path takes {allow}");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message) }
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// The body: also the last line of a stream that could not go on.
    pub(super) fn json(&self) -> Bytes {
        let body = serde_json::json!({"error": {"kind": self.kind, "message": self.message}});
        Bytes::from(format!("{body}\n"))
    }

    pub(super) fn response(&self) -> Response<Body> {
        let mut response = with_type(self.status, "application/json", self.json());
        if let Some(allow) = self.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            response.headers_mut().insert(ALLOW, allow);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sluice\""));
        }
        response
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let (status, kind) = match refusal.kind {
            RefusalKind::NotFound => (StatusCode::NOT_FOUND, "not-found"),
            RefusalKind::InvalidConfig => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-config"),
            RefusalKind::Superseded => (StatusCode::CONFLICT, "superseded"),
            RefusalKind::Conflict => (StatusCode::CONFLICT, "conflict"),
            RefusalKind::Changed => (StatusCode::PRECONDITION_FAILED, "changed"),
            RefusalKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        Self::new(status, kind, refusal.message)
    }
}

/// A value as a JSON document.
pub(super) fn json<T: Serialize>(value: &T) -> Result<Response<Body>, Fault> {
    let mut bytes = serde_json::to_vec(value).map_err(|error| {
        Fault::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            format!("the answer could not be written as JSON: {error}"),
        )
    })?;
    bytes.push(b'\n');
    Ok(with_type(StatusCode::OK, "application/json", Bytes::from(bytes)))
}

/// The same, with what `If-Match` takes.
pub(super) fn tagged<T: Serialize>(value: &T, tag: &str) -> Result<Response<Body>, Fault> {
    let mut response = json(value)?;
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{tag}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

/// A short text.
pub(super) fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

pub(super) fn with_type(status: StatusCode, kind: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(bytes).boxed());
    *response.status_mut() = status;
    typed(response, kind)
}

/// Sets the content type, and that no cache may keep a moment's state.
pub(super) fn typed(mut response: Response<Body>, kind: &'static str) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
