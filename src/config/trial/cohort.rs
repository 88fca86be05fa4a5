//! Who stays on which version.

use std::time::Duration;

use http::HeaderName;

use super::super::HashBy;
use super::super::balance::hash_by;
use super::super::error::Fault;
use super::super::file::misplaced;
use super::super::reader::{At, Table};
use super::super::units::{self, shorten};
use super::Secret;

/// `[service.NAME.cohort]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Cohort {
    /// What users are told apart by.
    pub by: CohortBy,
    /// Path prefixes on a segment border, as [`Match::prefix`](super::super::Match::prefix): a 404 for one of these from one
    /// version is asked of the other.
    pub assets: Vec<String>,
}

/// What users are told apart by.
#[derive(Clone, Debug, PartialEq)]
pub enum CohortBy {
    /// A cookie that Sluice sets.
    Own(OwnCookie),
    /// What the request has anyway. Without it, a request goes by the shares.
    Key(HashBy),
}

/// The cookie that Sluice sets.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnCookie {
    /// Its name; none: made of the service's, so that two services of one host do not overwrite each other's.
    pub name: Option<String>,
    /// How long a browser keeps it; zero: until it is closed.
    pub max_age: Duration,
    /// What it is signed with; none: the key that Sluice keeps itself.
    pub secret: Option<Secret>,
}

impl Default for OwnCookie {
    fn default() -> Self {
        // Longer than nearly all rollouts, even with steps that wait for somebody.
        Self { name: None, max_age: Duration::from_hours(30 * 24), secret: None }
    }
}

impl Cohort {
    /// Whether a 404 for this path, as it is routed, is asked of the other version.
    pub fn is_asset(&self, path: &str) -> bool {
        let on_border = |rest: &str| rest.is_empty() || rest.starts_with('/');
        self.assets.iter().any(|prefix| path.strip_prefix(&**prefix).is_some_and(on_border))
    }
}

pub(super) fn read(mut t: Table<'_>) -> Cohort {
    let by = t.string("by");
    let name = t.string("name");
    let max_age = t.string("max_age");
    let secret = t.string("secret_file");
    let d = OwnCookie::default();
    let own = OwnCookie {
        name: name.get().and_then(|at| cookie_name(at, &t)),
        max_age: max_age.get().and_then(|at| age(at, &t)).unwrap_or(d.max_age),
        secret: secret.get().map(|at| Secret::in_file(at, &t)),
    };
    let by = match by.get() {
        None => CohortBy::Own(own),
        Some(at) if at.value == "cookie" => CohortBy::Own(own),
        Some(at) => {
            let spans = [
                ("name", name.get().map(|at| &at.span)),
                ("max_age", max_age.get().map(|at| &at.span)),
                ("secret_file", secret.get().map(|at| &at.span)),
            ];
            for (key, span) in spans {
                if let Some(span) = span {
                    let fault =
                        Fault::new(format!("`{key}` is for the cookie that Sluice sets, and needs `by = \"cookie\"`"));
                    t.findings().add(span, fault.hint(format!("remove `{key}`, or write `by = \"cookie\"`")));
                }
            }
            hash_by(at, t.findings()).map_or_else(|| CohortBy::Own(OwnCookie::default()), CohortBy::Key)
        }
    };
    let assets = t.strings("assets");
    let assets = assets.get().map(|list| &list.value[..]).unwrap_or_default();
    let assets = assets.iter().filter_map(|at| prefix(at, &t)).collect();
    t.finish(misplaced);
    Cohort { by, assets }
}

fn age(at: &At<&str>, t: &Table<'_>) -> Option<Duration> {
    let parsed =
        match at.value {
            "session" => Ok(Duration::ZERO),
            text => units::duration(text).and_then(|age| match age {
                Duration::ZERO => Err(Fault::new("a cookie of no age is none")
                    .hint("write \"session\" for one that ends with the browser")),
                age => Ok(age),
            }),
        };
    parsed.map_err(|fault| t.findings().add(&at.span, fault)).ok()
}

fn cookie_name(at: &At<&str>, t: &Table<'_>) -> Option<String> {
    // RFC 6265 §4.1.1: a token, as the name of a header.
    if at.value.parse::<HeaderName>().is_err() {
        let fault = Fault::new(format!("`{}` is not the name of a cookie", shorten(at.value)));
        t.findings().add(&at.span, fault.hint("write letters, digits and `-`"));
        return None;
    }
    Some(at.value.to_owned())
}

fn prefix(at: &At<&str>, t: &Table<'_>) -> Option<String> {
    let path = at.value.strip_suffix('/').unwrap_or(at.value);
    if !at.value.starts_with('/') || at.value.contains(['?', '#', '*', ' ']) {
        let fault = Fault::new(format!("`{}` is not the beginning of a path", shorten(at.value)));
        t.findings().add(&at.span, fault.hint("write it like \"/assets\""));
        return None;
    }
    Some(path.to_owned())
}
