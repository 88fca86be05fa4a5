//! How a request is followed from hop to hop: `traceparent` and `tracestate` (W3C Trace Context), and the request's own id.
//!
//! Where Sluice tells no span of its own, a trace that comes is passed on as it is. One that is malformed is not: nodes would begin another one
//! and keep a `tracestate` that belongs to none (Trace Context §3.2, §3.3).

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Tracing;

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");
/// What most call it. Only looked at where no name is configured.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bytes of an id that somebody else gave.
const LONGEST_ID: usize = 128;

/// The trace that a well-formed `traceparent` belongs to.
pub fn id(parent: &HeaderValue) -> Option<&str> {
    let text = parent.to_str().ok()?;
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let (known, more) = text.split_at_checked(55)?;
    let mut parts = known.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let widths = [version, trace, span, flags].map(str::len) == [2, 32, 16, 2];
    let well = widths && parts.next().is_none() && [version, trace, span, flags].into_iter().all(hex);
    // A later version may say more, behind another dash.
    let end = more.is_empty() || (version != "00" && more.starts_with('-'));
    (well && end && version != "ff" && !zero(trace) && !zero(span)).then_some(trace)
}

/// Who asked, as far as `traceparent` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The whole trace.
    pub trace: u128,
    /// The span that this request hangs on.
    pub span: u64,
    /// Whether the trace is recorded.
    pub recorded: bool,
}

/// The one well-formed `traceparent` of a request.
pub fn parent(headers: &HeaderMap) -> Option<Parent> {
    let mut all = headers.get_all(PARENT).iter();
    let value = all.next().filter(|_| all.next().is_none())?;
    let trace = u128::from_str_radix(id(value)?, 16).ok()?;
    let text = value.to_str().ok()?;
    let span = u64::from_str_radix(text.get(36..52)?, 16).ok()?;
    let flags = u8::from_str_radix(text.get(53..55)?, 16).ok()?;
    Some(Parent { trace, span, recorded: flags & 1 == 1 })
}

/// Has the node's spans hang on ours: `own` is in place of the parent, whose `tracestate` goes on if it was well formed.
pub fn join(headers: &mut HeaderMap, own: &HeaderValue) {
    if parent(headers).is_none() {
        headers.remove(STATE);
    }
    headers.insert(PARENT, own.clone());
}

/// Makes sure that what goes to the node is well formed, or nothing; and begins a trace if that is wanted. Which it is.
pub fn follow(
    headers: &mut HeaderMap,
    present: bool,
    tracing: Option<&Tracing>,
    random: impl Fn() -> u64,
) -> Option<HeaderValue> {
    if present {
        let mut all = headers.get_all(PARENT).iter();
        let parent = all.next().filter(|parent| all.next().is_none() && id(parent).is_some()).cloned();
        if parent.is_some() {
            return parent;
        }
        headers.remove(PARENT);
        headers.remove(STATE);
    }
    if !tracing.is_some_and(|tracing| tracing.create) {
        return None;
    }
    // Not sampled: nobody records a span of ours. An id must not be zero.
    let text = format!("00-{:016x}{:016x}-{:016x}-00", random(), random() | 1, random() | 1);
    let parent = HeaderValue::from_str(&text).ok()?;
    headers.insert(PARENT, parent.clone());
    Some(parent)
}

/// The id of a request: what a trusted proxy says, or a new one.
pub fn request_id(headers: &HeaderMap, name: &HeaderName, trusted: bool, random: impl Fn() -> u64) -> HeaderValue {
    let mut all = headers.get_all(name).iter();
    let given = all.next().filter(|id| trusted && all.next().is_none() && is_id(id.as_bytes()));
    given.cloned().unwrap_or_else(|| {
        let text = format!("{:016x}{:016x}", random(), random());
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
    })
}

/// What the client itself calls the request, where no id is configured.
pub fn claimed_id(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(REQUEST_ID).filter(|id| is_id(id.as_bytes())).cloned()
}

fn is_id(id: &[u8]) -> bool {
    (1..=LONGEST_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn with(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn only_a_well_formed_traceparent_names_a_trace() {
        let value = |text: &str| HeaderValue::from_str(text).expect("a value");
        assert_eq!(id(&value(GOOD)), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        let later = GOOD.replacen("00", "cc", 1);
        assert!(id(&value(&later)).is_some() && id(&value(&format!("{later}-more"))).is_some());
        for bad in [
            String::new(),
            "00".into(),
            GOOD.to_uppercase(),
            format!("{GOOD}-more"),
            format!("{later}more"),
            GOOD.replacen("00", "ff", 1),
            GOOD.replace("00f067aa0ba902b7", "0000000000000000"),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            GOOD.replace('-', "_"),
            GOOD.replace("01", "0g"),
            GOOD[..54].into(),
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01".into(),
        ] {
            assert_eq!(id(&value(&bad)), None, "{bad}");
        }
    }

    #[test]
    fn what_is_malformed_goes_and_takes_its_state_along() {
        let create = Tracing { create: true, ..Tracing::default() };
        for lines in [
            &[("traceparent", "00-nonsense"), ("tracestate", "a=b")][..],
            &[("traceparent", GOOD), ("traceparent", GOOD), ("tracestate", "a=b")],
            &[("tracestate", "a=b")],
        ] {
            let mut headers = with(lines);
            assert_eq!(follow(&mut headers, true, None, || 7), None);
            assert!(headers.is_empty(), "{headers:?}");
            let mut headers = with(lines);
            let made = follow(&mut headers, true, Some(&create), || 7).expect("a new one");
            assert!(id(&made).is_some());
            assert_eq!((headers.len(), headers.get("traceparent")), (1, Some(&made)));
        }
        let mut headers = with(&[("traceparent", GOOD), ("tracestate", "a=b")]);
        assert_eq!(follow(&mut headers, true, Some(&create), || 7).expect("it"), GOOD);
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn an_id_is_taken_from_those_who_are_trusted_only_and_only_if_it_is_one() {
        let name = HeaderName::from_static("x-request-id");
        let of = |lines: &[_], trusted| request_id(&with(lines), &name, trusted, || 7);
        assert_eq!(of(&[("x-request-id", "abc-1")], true), "abc-1");
        let new = "00000000000000070000000000000007";
        assert_eq!(of(&[("x-request-id", "abc-1")], false), new);
        assert_eq!(of(&[], true), new);
        assert_eq!(of(&[("x-request-id", "a b")], true), new);
        assert_eq!(of(&[("x-request-id", "a"), ("x-request-id", "b")], true), new);
        let long = "x".repeat(129);
        assert_eq!(of(&[("x-request-id", long.as_str())], true), new);
    }
}
