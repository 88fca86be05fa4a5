//! The PROXY protocol, versions 1 and 2: who the client is, said by a load balancer before the client's first byte.

use std::io;
use std::net::{IpAddr, SocketAddr};

use proxy_header::{ParseConfig, Protocol, ProxiedAddress, ProxyHeader};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::config::ProxyVersion;

/// A longer header is refused. The addresses take 52 bytes; what else load balancers say there has some hundred.
const LONGEST: usize = 4096;

/// What a connection to a node begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Which form.
    pub version: ProxyVersion,
    /// The client, and what it is connected to; none if Sluice speaks for itself, as a probe does.
    pub client: Option<(SocketAddr, SocketAddr)>,
}

impl Introduction {
    /// The bytes.
    pub(super) fn encoded(&self) -> io::Result<Vec<u8>> {
        let header = match self.client {
            // Both ends in one family: an IPv4 address has a form in IPv6 (RFC 4291 §2.5.5.2), not the other way round.
            Some((client, own)) => ProxyHeader::with_address(if client.is_ipv4() == own.is_ipv4() {
                ProxiedAddress::stream(client, own)
            } else {
                ProxiedAddress::stream(six(client), six(own))
            }),
            None => ProxyHeader::with_local(),
        };
        let mut bytes = Vec::new();
        let encoded = match self.version {
            ProxyVersion::V1 => header.encode_v1(&mut bytes),
            ProxyVersion::V2 => header.encode_v2(&mut bytes),
        };
        encoded.map_err(io::Error::other)?;
        Ok(bytes)
    }
}

fn six(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => (ip.to_ipv6_mapped(), address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

/// What was found at the beginning of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A header of this many bytes, and the client that it names; none if the sender speaks for itself (`LOCAL`, `UNKNOWN`).
    Header(usize, Option<SocketAddr>),
    /// The beginning of a header.
    Part,
    /// No header, and it never will be one.
    Nothing,
}

/// Looks for a PROXY header at the beginning of `bytes`. Nothing behind a header is looked at, and of a [`Found::Part`] every byte
/// belongs to the header.
pub fn find(bytes: &[u8]) -> Found {
    const V1: &[u8] = b"PROXY ";
    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let config = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };
    // Judged here, so that a wrong byte is found at once and not behind the end that a wrong length promises.
    let starts = |greeting: &[u8]| bytes.iter().zip(greeting).all(|(byte, wanted)| byte == wanted);
    if bytes.len() >= LONGEST || !(starts(V1) || starts(V2)) {
        return Found::Nothing;
    }
    let (end, is_text) = if starts(V1) && !bytes.is_empty() {
        (bytes.iter().take(107).position(|byte| *byte == b'\n').map(|at| at + 1), true)
    } else {
        let length = bytes.get(14..16).map(|length| 16 + usize::from(u16::from_be_bytes([length[0], length[1]])));
        if length.is_some_and(|length| length > LONGEST) {
            return Found::Nothing;
        }
        (length.filter(|length| bytes.len() >= *length), false)
    };
    let Some(end) = end else {
        return if is_text && bytes.len() >= 107 { Found::Nothing } else { Found::Part };
    };
    match ProxyHeader::parse(&bytes[..end], config) {
        Ok((header, length)) if length == end => {
            let stream = header.proxied_address().filter(|address| address.protocol == Protocol::Stream);
            Found::Header(end, stream.map(|address| address.source))
        }
        _ => Found::Nothing,
    }
}

/// Reads a PROXY header, and not a byte more. Sets no limit of time.
///
/// # Errors
/// There is none, or the connection ended.
pub async fn read(tcp: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut bytes = Vec::new();
    let mut ahead = [0; LONGEST];
    loop {
        let seen = tcp.peek(&mut ahead[..LONGEST - bytes.len()]).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = bytes.len();
        bytes.extend_from_slice(&ahead[..seen]);
        let (taken, client) = match find(&bytes) {
            Found::Header(length, client) => (length - before, Some(client)),
            Found::Part => (seen, None),
            Found::Nothing => return Err(io::Error::other("it did not begin with a PROXY header")),
        };
        tcp.read_exact(&mut ahead[..taken]).await?;
        if let Some(client) = client {
            return Ok(client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn both_versions_are_found_and_end_where_they_end() {
        let client: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        let six: SocketAddr = "[2001:db8::7]:4711".parse().unwrap();
        let addresses = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 0x01, 0xbb, 4, 0, 1, 0];
        let cases: [(Vec<u8>, Option<SocketAddr>); 6] = [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n".to_vec(), Some(client)),
            (b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\n".to_vec(), Some(six)),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, &addresses), Some(client)),
            (v2(0x20, 0x00, &[]), None),
        ];
        for (mut bytes, client) in cases {
            let length = bytes.len();
            for end in 0..length {
                assert_eq!(find(&bytes[..end]), Found::Part, "{end} of {bytes:?}");
            }
            bytes.extend(b"\x16\x03\x01GET / \r\n");
            assert_eq!(find(&bytes), Found::Header(length, client), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused_at_once() {
        let long = format!("PROXY TCP4 {}", "1".repeat(120)).into_bytes();
        let cases: [&[u8]; 8] = [
            b"GET / HTTP/1.1\r\n",
            b"\x16\x03\x01",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 99999\r\n",
            b"PROXY TCP4 2001:db8::7 ::1 4711 443\r\n",
            &long,
            &v2(0x21, 0x11, &[1, 2, 3]),
            &[v2(0x21, 0x11, &[]).as_slice(), &[0; 5000]].concat(),
        ];
        for bytes in cases {
            assert_eq!(find(bytes), Found::Nothing, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
