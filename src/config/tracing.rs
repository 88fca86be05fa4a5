//! `[tracing]`: how requests are followed from hop to hop.

use http::HeaderName;

use super::error::Fault;
use super::file::misplaced;
use super::judges::Endpoint;
use super::reader::Table;
use super::units::shorten;
use super::words;

/// How requests are followed from hop to hop.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tracing {
    /// Whether a request without a usable `traceparent` gets one.
    pub create: bool,
    /// The header that names a request, if each shall have one.
    pub request_id: Option<HeaderName>,
    /// Who is told of requests, if anybody is.
    pub export: Option<Export>,
}

/// Who is told of requests, as spans of OpenTelemetry.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// Where a collector takes OTLP over HTTP, as JSON.
    pub endpoint: Endpoint,
    /// The part of the traces that begin here: 1 is all. What others began is told if they say so.
    pub sample: f64,
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
    let export = export(&mut t);
    t.finish(misplaced);
    Tracing { create, request_id, export }
}

#[cfg(not(feature = "otlp"))]
fn export(t: &mut Table<'_>) -> Option<Export> {
    let fault = Fault::new("this build of Sluice cannot tell spans to anybody");
    t.refuse("export", fault.hint("remove the section, or build it with `cargo build --features otlp`"));
    None
}

#[cfg(feature = "otlp")]
fn export(t: &mut Table<'_>) -> Option<Export> {
    let mut t = t.table("export", "tracing.export")?;
    let endpoint = super::judges::endpoint(&mut t, std::time::Duration::from_secs(5));
    let sample = t.percent("sample", 0.01);
    t.finish(misplaced);
    Some(Export { endpoint: endpoint?, sample })
}
