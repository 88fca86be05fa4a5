//! Header fields that are set, added or removed.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::Pass;
use crate::config::{FieldRules, FieldValue, Part, Placeholder};

/// Carries out the rules for a message.
pub(super) fn carry_out(rules: &FieldRules, pass: &Pass, headers: &mut HeaderMap) {
    if rules.is_empty() {
        return;
    }
    for name in &rules.remove {
        remove_alike(headers, name);
    }
    for field in &rules.set {
        let Some(value) = value(&field.value, pass) else { continue };
        remove_alike(headers, &field.name);
        headers.insert(field.name.clone(), value);
    }
    for field in &rules.add {
        if let Some(value) = value(&field.value, pass) {
            headers.append(field.name.clone(), value);
        }
    }
}

/// Has what comes before an answer say nothing of what the answer may not, or of what is said in its place.
pub fn hide(rules: &FieldRules, headers: &mut HeaderMap) {
    for name in rules.remove.iter().chain(rules.set.iter().map(|field| &field.name)) {
        remove_alike(headers, name);
    }
}

/// Removes a field, and whatever a node may take for it: CGI and its heirs turn `-` into `_`.
pub(super) fn remove_alike(headers: &mut HeaderMap, name: &HeaderName) {
    headers.remove(name);
    if name.as_str().contains(['-', '_']) {
        let same = |other: &HeaderName| {
            let pairs = || other.as_str().bytes().zip(name.as_str().bytes());
            other.as_str().len() == name.as_str().len()
                && pairs().all(|(a, b)| a == b || (matches!(a, b'-' | b'_') && matches!(b, b'-' | b'_')))
        };
        while let Some(other) = headers.keys().find(|other| same(other)).cloned() {
            headers.remove(other);
        }
    }
}

fn value(value: &FieldValue, pass: &Pass) -> Option<HeaderValue> {
    let parts = match value {
        FieldValue::Fixed(value) => return Some(value.clone()),
        FieldValue::Made(parts) => parts,
    };
    let mut text = Vec::with_capacity(64);
    for part in parts {
        match part {
            Part::Text(part) => text.extend_from_slice(part.as_bytes()),
            Part::Placeholder(Placeholder::Client) => text.extend_from_slice(pass.client.to_string().as_bytes()),
            Part::Placeholder(Placeholder::Host) => {
                text.extend_from_slice(pass.host.as_ref().map(HeaderValue::as_bytes).unwrap_or_default());
            }
            Part::Placeholder(Placeholder::Path) => text.extend_from_slice(pass.uri.path().as_bytes()),
            Part::Placeholder(Placeholder::Scheme) => text.extend_from_slice(pass.scheme().as_bytes()),
            Part::Placeholder(Placeholder::Service) => text.extend_from_slice(pass.state.service.as_str().as_bytes()),
            Part::Placeholder(Placeholder::User) => {
                text.extend_from_slice(pass.user.as_deref().unwrap_or_default().as_bytes());
            }
            Part::Placeholder(Placeholder::RequestId) => text.extend_from_slice(pass.request_id().as_bytes()),
        }
    }
    // A name or a path has no control characters, so this is always a value.
    HeaderValue::from_bytes(&text).ok()
}

impl Pass {
    pub(super) fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    fn request_id(&self) -> &HeaderValue {
        self.request_id.get_or_init(|| {
            let [high, low] = self.random;
            HeaderValue::from_str(&format!("{high:016x}{low:016x}")).unwrap_or_else(|_| HeaderValue::from_static("0"))
        })
    }
}
