//! What tells requests apart, for those who keep some of them together: a node, a version, a preview.

use std::net::IpAddr;

use http::header::{COOKIE, HeaderMap};

use crate::config::{self, HashBy};
use crate::pool::ring;

/// The hash of what the service tells requests by, if it does, and if the request has it.
pub fn of(settings: &config::Service, headers: &HeaderMap, client: impl FnOnce() -> IpAddr) -> Option<u64> {
    let config::Policy::Hash { by, .. } = &settings.balance.policy else {
        return None;
    };
    hash_of(by, headers, client)
}

/// The hash of what tells requests apart, if the request has it.
pub fn hash_of(by: &HashBy, headers: &HeaderMap, client: impl FnOnce() -> IpAddr) -> Option<u64> {
    match by {
        HashBy::Client => Some(match client() {
            IpAddr::V4(ip) => ring::hash(&ip.octets()),
            IpAddr::V6(ip) => ring::hash(&ip.octets()),
        }),
        HashBy::Header(name) => headers.get(name).map(|value| ring::hash(value.as_bytes())),
        HashBy::Cookie(name) => cookie(headers, name).map(ring::hash),
    }
}

/// The value of a cookie.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    cookies(headers, name).next()
}

/// The values of all cookies of a name (RFC 6265 §4.2.1): there is one for each path and domain that it was set for. In HTTP/2 each
/// may stand in a field of its own.
pub fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = headers.get_all(COOKIE).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).filter_map(move |pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "xid=1; id=2;sid=3".parse().expect("a value"));
        headers.append(COOKIE, "late=4=5; empty=".parse().expect("a value"));
        for (name, value) in [
            ("id", Some("2")),
            ("sid", Some("3")),
            ("xid", Some("1")),
            ("late", Some("4=5")),
            ("empty", Some("")),
            ("i", None),
            ("d", None),
        ] {
            assert_eq!(cookie(&headers, name), value.map(str::as_bytes), "{name}");
        }
    }
}
