//! The dashboard: one page that looks at the proxy through this API, and steers it if its visitor may. It holds nothing secret itself.
//!
//! Everything is in the binary and nothing comes from elsewhere, which its Content-Security-Policy makes the browser enforce.

use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use http::{HeaderValue, Response, StatusCode};

use super::answer::{self, Body, Fault};

/// No inline code or style, nothing from other origins, no forms, in no frame: a name or a probe's body that found its way into
/// the page as markup could do nothing.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// One file of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    /// In the path, below `/dashboard/`.
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($name:literal $kind:literal)*) => {
        &[$(File { name: $name, kind: $kind, text: include_str!(concat!("dashboard/", $name)) }),*]
    };
}

/// The page comes first.
static FILES: &[File] = files! {
    "index.html" "text/html; charset=utf-8"
    "dashboard.css" "text/css; charset=utf-8"
    "dashboard.js" "text/javascript; charset=utf-8"
    "api.js" "text/javascript; charset=utf-8"
    "charts.js" "text/javascript; charset=utf-8"
    "draw.js" "text/javascript; charset=utf-8"
    "history.js" "text/javascript; charset=utf-8"
    "log.js" "text/javascript; charset=utf-8"
    "series.js" "text/javascript; charset=utf-8"
    "service.js" "text/javascript; charset=utf-8"
    "steer.js" "text/javascript; charset=utf-8"
    "words.js" "text/javascript; charset=utf-8"
};

/// The page itself.
pub(super) fn page() -> &'static File {
    &FILES[0]
}

/// What the page loads.
pub(super) fn file(name: &str) -> Result<&'static File, Fault> {
    FILES
        .iter()
        .find(|file| file.name == name)
        .ok_or_else(|| Fault::not_found("the dashboard has no such file; it is at /"))
}

/// A file with all that keeps the page apart from others.
pub(super) fn respond(file: &File) -> Response<Body> {
    let mut response = answer::with_type(StatusCode::OK, file.kind, Bytes::from_static(file.text.as_bytes()));
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
