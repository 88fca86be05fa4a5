//! Who the client is: the peer of the connection, or whoever a trusted proxy says.

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::super::front::Front;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whether this peer is believed.
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// The client's address. Each proxy appends whom it saw to `X-Forwarded-For`, so the list is read from its end, for as long
/// as trusted proxies speak: what stands before the first address that is not trusted can be anybody's invention.
pub fn address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer;
    if !is_trusted(peer, trusted) {
        return client;
    }
    let lines: Vec<_> = headers.get_all(FOR).iter().collect();
    for hop in lines.iter().rev().flat_map(|line| line.to_str().unwrap_or("?").rsplit(',')) {
        // What cannot be read was said by the last proxy that is trusted: it is the last that is known.
        let Some(hop) = parse(hop.trim()) else { break };
        client = hop;
        if !is_trusted(hop, trusted) {
            break;
        }
    }
    client
}

/// An address as proxies write it: with or without brackets and port.
fn parse(text: &str) -> Option<IpAddr> {
    let ip = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0.parse().ok()?,
        None => match text.parse() {
            Ok(ip) => ip,
            Err(_) => text.parse::<std::net::SocketAddr>().ok()?.ip(),
        },
    };
    Some(ip.to_canonical())
}

/// Whether the client speaks TLS: to us, or to the trusted proxy before us.
pub fn is_https(front: &Front, peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> bool {
    match headers.get(PROTO) {
        Some(proto) if is_trusted(peer, trusted) => proto.as_bytes().eq_ignore_ascii_case(b"https"),
        _ => front.is_secure(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_last_address_that_is_not_trusted() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].iter().map(|net| net.parse().expect("a net")).collect();
        for (peer, lines, client) in [
            ("192.0.2.1", &["203.0.113.9"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
            ("10.0.0.1", &["203.0.113.9, nonsense"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, nonsense, 10.0.0.3"], "10.0.0.3"),
            ("10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            ("fd00::1", &["[2001:db8::1]:80"], "2001:db8::1"),
            ("fd00::1", &["\"[2001:db8::1]\""], "fd00::1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FOR, line.parse().expect("a value"));
            }
            let found = address(peer.parse().expect("an address"), &headers, &trusted);
            assert_eq!(found.to_string(), client, "{peer} {lines:?}");
        }
    }
}
