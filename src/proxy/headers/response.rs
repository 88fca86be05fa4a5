//! What of a response's head the client sees.

use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{StatusCode, Version};

use super::super::error::Fault;
use super::{KEEP_ALIVE, PROXY_CONNECTION, Present, tokens, via};

/// Turns a node's response head into the client's. `Err`: it frames its body in a way that cannot be passed on.
pub fn rewrite_response(
    headers: &mut HeaderMap,
    status: StatusCode,
    version: Version,
) -> Result<Option<Duration>, Fault> {
    let mut present = Present::default();
    for (name, _) in headers.iter() {
        match name.as_str() {
            "connection" => present.connection = true,
            "keep-alive" => present.keep_alive = true,
            "proxy-connection" => present.proxy_connection = true,
            "te" => present.te = true,
            "transfer-encoding" => present.transfer_encoding = true,
            "upgrade" => present.upgrade = true,
            _ => {}
        }
    }
    let mut keep_alive = None;
    let switching = status == StatusCode::SWITCHING_PROTOCOLS;
    if present.connection && !switching {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(tokens)
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            .filter(|name| ![CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, CONNECTION].contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    if present.keep_alive {
        keep_alive = headers.remove(KEEP_ALIVE).and_then(|value| parse_keep_alive(&value));
    }
    if present.proxy_connection {
        headers.remove(PROXY_CONNECTION);
    }
    if present.te {
        headers.remove(TE);
    }
    if present.transfer_encoding {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let plain = codings.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
        if !plain || codings.next().is_some() {
            return Err(Fault::BadResponse);
        }
        headers.remove(TRANSFER_ENCODING);
        // Beside the chunked coding a length is not the truth (RFC 9112 §6.3).
        headers.remove(CONTENT_LENGTH);
    }
    if present.upgrade && !switching {
        if status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        } else {
            headers.remove(UPGRADE);
        }
    }
    headers.append(VIA, via(version));
    if version == Version::HTTP_10 {
        // Such a connection is not used again.
        keep_alive = Some(Duration::ZERO);
    }
    Ok(keep_alive)
}

fn parse_keep_alive(value: &HeaderValue) -> Option<Duration> {
    let timeout = tokens(value).find_map(|token| token.strip_prefix("timeout="))?;
    timeout.trim().parse().ok().map(Duration::from_secs)
}
