//! `[tracing]`: how requests are followed from hop to hop.

use http::HeaderName;

use super::error::Fault;
use super::file::misplaced;
use super::reader::Table;
use super::units::shorten;
use super::words;

/// How requests are followed from hop to hop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracing {
    /// Whether a request without a usable `traceparent` gets one.
    pub create: bool,
    /// The header that names a request, if each shall have one.
    pub request_id: Option<HeaderName>,
}

pub(super) fn read(mut t: Table<'_>) -> Tracing {
    let create = t.choice("traceparent", false, &[("pass", false), ("create", true)], |_| None);
    let request_id = t.string("request_id");
    let request_id = request_id.get().and_then(|at| {
        let Ok(name) = at.value.parse::<HeaderName>() else {
            let fault = Fault::new(format!("`{}` is not the name of a header", shorten(at.value)));
            t.findings().add(&at.span, fault.hint("write \"x-request-id\""));
            return None;
        };
        let taken = words::frames(&name)
            || ["host", "traceparent", "tracestate", "forwarded", "x-sluice-error"].contains(&name.as_str())
            || name.as_str().starts_with("x-forwarded-");
        if taken {
            t.findings()
                .add(&at.span, Fault::new(format!("`{name}` has a meaning of its own")).hint("write \"x-request-id\""));
            return None;
        }
        Some(name)
    });
    t.finish(misplaced);
    Tracing { create, request_id }
}
