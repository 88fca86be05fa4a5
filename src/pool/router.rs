//! From host and path to a service: pure, no allocation for a request in the usual spelling.
//!
//! The most specific host wins (exact, then the longest wildcard, then `*`), then the longest path prefix. If the chosen
//! host has no prefix that fits, the next less specific host is asked.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::config::{HostPattern, Match};

/// The table. Values are indexes into [`super::Snapshot::services`].
#[derive(Debug, Default)]
pub struct Router {
    exact: HashMap<Box<str>, Prefixes, HostHash>,
    /// By the part after `*.`.
    wildcard: HashMap<Box<str>, Prefixes, HostHash>,
    any: Prefixes,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Index of the service.
    pub service: usize,
    /// Length in bytes of the path prefix that matched, in the normalised path.
    pub prefix: usize,
}

type HostHash = BuildHasherDefault<HostHasher>;

/// xxh3: host names are short and the table is the operator's, so no keyed hash is needed.
#[derive(Default)]
struct HostHasher(u64);

impl Hasher for HostHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u8(&mut self, byte: u8) {
        // Only the end mark of a string comes this way.
        self.0 = self.0.wrapping_add(u64::from(byte));
    }
}

/// The prefixes of one host, longest first.
#[derive(Debug, Default)]
struct Prefixes(Vec<(Box<str>, usize)>);

impl Prefixes {
    fn insert(&mut self, prefix: &str, service: usize) {
        let at = self.0.partition_point(|(other, _)| other.len() >= prefix.len());
        self.0.insert(at, (prefix.into(), service));
    }

    fn find(&self, path: &str) -> Option<Route> {
        self.0
            .iter()
            .find(|(prefix, _)| {
                path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
            .map(|(prefix, service)| Route { service: *service, prefix: prefix.len() })
    }
}

impl Router {
    /// A table of these matches. The configuration has made sure that no two are the same.
    pub fn new<'a>(matches: impl IntoIterator<Item = (&'a Match, usize)>) -> Self {
        let mut router = Self::default();
        for (pattern, service) in matches {
            let prefixes = match &pattern.host {
                HostPattern::Exact(host) => router.exact.entry(host.as_str().into()).or_default(),
                HostPattern::Wildcard(host) => router.wildcard.entry(host.as_str().into()).or_default(),
                HostPattern::Any => &mut router.any,
            };
            prefixes.insert(&pattern.prefix, service);
        }
        router
    }

    /// Finds the service. `host` may carry a port and any case; `path` must be [`normalised`].
    pub fn find(&self, host: &str, path: &str) -> Option<Route> {
        self.find_bare(&bare_host(host), path)
    }

    /// [`Self::find`], for a host that is [bare](bare_host) already.
    pub fn find_bare(&self, host: &str, path: &str) -> Option<Route> {
        if let Some(route) = self.exact.get(host).and_then(|prefixes| prefixes.find(path)) {
            return Some(route);
        }
        if !self.wildcard.is_empty() {
            let mut rest = host;
            while let Some((_, parent)) = rest.split_once('.') {
                if let Some(route) = self.wildcard.get(parent).and_then(|prefixes| prefixes.find(path)) {
                    return Some(route);
                }
                rest = parent;
            }
        }
        self.any.find(path)
    }
}

/// The host in lower case, without port and without the root's trailing dot.
pub fn bare_host(host: &str) -> Cow<'_, str> {
    let host = match host.rsplit_once(':') {
        // The last colon of `[::1]` stands inside the brackets.
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// The path as routing and the door understand it: dot segments resolved (RFC 3986 §5.2.4), also if their dots are
/// percent-encoded, runs of slashes taken as one, and letters, digits and `-._~` not percent-encoded (RFC 3986 §6.2.2.2). A node
/// gets the path as the client wrote it.
///
/// Without this, `/public/../admin` and `/%61dmin` would be routed as `/public` and `/` and answered by the node as `/admin`.
pub fn normalised(path: &str) -> Cow<'_, str> {
    let plain = is_plain(path.as_bytes());
    if plain {
        return Cow::Borrowed(path);
    }
    let decoded = decoded(path);
    let path = &*decoded;
    let mut kept: Vec<&str> = Vec::new();
    let mut directory = true;
    for segment in path.split(['/', '\\']).filter(|segment| !segment.is_empty()) {
        let dots = dots_of(segment);
        match dots {
            Some(1) => {}
            Some(_) => {
                kept.pop();
            }
            None => kept.push(segment),
        }
        directory = dots.is_some();
    }
    let mut out = String::with_capacity(path.len() + 1);
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() || ((directory || path.ends_with(['/', '\\'])) && !out.ends_with('/')) {
        out.push('/');
    }
    Cow::Owned(out)
}

/// Whether nothing in the path could be a dot segment, an empty one, or encoded without need; a few paths too many are
/// looked at closely.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    for (at, byte) in path.iter().enumerate() {
        if *byte == b'\\' || (before == b'/' && matches!(*byte, b'/' | b'.' | b'%')) {
            return false;
        }
        if *byte == b'%' && unreserved(&path[at..]).is_some() {
            return false;
        }
        before = *byte;
    }
    path.first() == Some(&b'/')
}

/// The character that is percent-encoded here without need.
fn unreserved(escape: &[u8]) -> Option<char> {
    let digits = std::str::from_utf8(escape.get(1..3)?).ok()?;
    // The sign that a number may have is no digit.
    let byte = u8::from_str_radix(digits, 16).ok().filter(|_| escape[1] != b'+')?;
    (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)).then(|| char::from(byte))
}

/// The path without needless percent-encoding.
fn decoded(path: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = path;
    let mut from = 0;
    while let Some(at) = rest[from..].find('%').map(|at| from + at) {
        // Behind the beginning of another escape it would complete that one, to be decoded by the node.
        let before = &rest.as_bytes()[..at];
        let begun = matches!(before, [.., b'%'] | [.., b'%', b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F']);
        match unreserved(&rest.as_bytes()[at..]) {
            Some(plain) if !begun => {
                out.push_str(&rest[..at]);
                out.push(plain);
                rest = &rest[at + 3..];
                from = 0;
            }
            _ => from = at + 1,
        }
    }
    if out.is_empty() {
        return Cow::Borrowed(path);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// 1 for `.`, 2 for `..`, in any encoding.
fn dots_of(segment: &str) -> Option<usize> {
    let mut rest = segment;
    let mut dots = 0;
    while !rest.is_empty() {
        rest = match rest.strip_prefix('.') {
            Some(rest) => rest,
            None => rest.get(..3).filter(|dot| dot.eq_ignore_ascii_case("%2e")).map(|_| &rest[3..])?,
        };
        dots += 1;
    }
    (dots == 1 || dots == 2).then_some(dots)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(host: &str, prefix: &str) -> Match {
        let host = match host {
            "*" => HostPattern::Any,
            _ => match host.strip_prefix("*.") {
                Some(rest) => HostPattern::Wildcard(rest.into()),
                None => HostPattern::Exact(host.into()),
            },
        };
        Match { host, prefix: prefix.into() }
    }

    fn find(host: &str, path: &str) -> Option<usize> {
        let patterns = [
            pattern("example.com", ""),
            pattern("example.com", "/shop"),
            pattern("example.com", "/shop/admin"),
            pattern("*.example.com", ""),
            pattern("*.eu.example.com", ""),
            pattern("only.example.org", "/here"),
            pattern("*", "/health"),
            pattern("[::1]", ""),
        ];
        let router = Router::new(patterns.iter().enumerate().map(|(index, pattern)| (pattern, index)));
        router.find(host, &normalised(path)).map(|route| route.service)
    }

    #[test]
    fn the_most_specific_host_and_the_longest_prefix_win() {
        for (host, path, service) in [
            ("example.com", "/", Some(0)),
            ("EXAMPLE.com:8080", "/", Some(0)),
            ("example.com.", "/", Some(0)),
            ("example.com", "/shop", Some(1)),
            ("example.com", "/shop/", Some(1)),
            ("example.com", "/shopping", Some(0)),
            ("example.com", "/shop/admin/x", Some(2)),
            ("a.example.com", "/", Some(3)),
            ("a.b.example.com", "/", Some(3)),
            ("a.eu.example.com", "/", Some(4)),
            ("only.example.org", "/here/x", Some(5)),
            ("only.example.org", "/there", None),
            ("only.example.org", "/health", Some(6)),
            ("anything", "/health/x", Some(6)),
            ("anything", "/", None),
            ("[::1]:8080", "/", Some(7)),
            ("[::1]", "/", Some(7)),
            ("", "/health", Some(6)),
        ] {
            assert_eq!(find(host, path), service, "{host} {path}");
        }
    }

    #[test]
    fn dot_segments_do_not_escape_a_prefix() {
        for (path, service) in [
            ("/public/../shop/admin", 2),
            ("/shop/%2e%2E/x", 0),
            ("/shop/./admin", 2),
            ("//shop//admin", 2),
            ("/shop/admin/..", 1),
            ("/../../shop", 1),
            ("/shop/.%2e/shop\\admin", 2),
            ("/%73hop/%61dmin", 2),
            ("/sho%70/%2E%2e/shop/adm%69n/x", 2),
            ("/shop%2Fadmin", 0),
        ] {
            assert_eq!(find("example.com", path), Some(service), "{path}");
        }
    }

    #[test]
    fn a_usual_path_is_not_copied() {
        for path in ["/", "/a/b", "/a.b/c..d/", "/a%20", "/a%2fb%zz%+1%"] {
            assert!(matches!(normalised(path), Cow::Borrowed(_)), "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_normalised_path_is_absolute_and_stays_as_it_is(path in "[/.a%23465eE\\\\]{0,20}") {
            let once = normalised(&path).into_owned();
            prop_assert!(once.starts_with('/'), "{once}");
            prop_assert!(!once.split('/').any(|s| dots_of(s).is_some()), "{once}");
            prop_assert_eq!(normalised(&once).into_owned(), once.clone());
        }

        #[test]
        fn no_host_and_no_path_panics(host in ".{0,30}", path in ".{0,30}") {
            find(&host, &path);
        }
    }
}
