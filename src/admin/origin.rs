//! Who may ask over TCP: only somebody who meant this machine.
//!
//! A loopback port is open to every web page that the operator's browser shows: a page's name can be re-bound to 127.0.0.1
//! (then `Host` gives it away) or the page can simply ask across origins (then `Origin` does).

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Uri, Version};

use super::answer::Fault;

/// Refuses what a browser sends on behalf of somebody else.
pub(super) fn check(version: Version, target: &Uri, headers: &HeaderMap) -> Result<(), Fault> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            if !host.to_str().is_ok_and(is_loopback_authority) {
                return Err(Fault::forbidden("the Host header names another machine: ask for localhost or 127.0.0.1"));
            }
        }
        // No browser speaks HTTP/1.0, simple health checkers do.
        (None, _) if version == Version::HTTP_10 => {}
        _ => return Err(Fault::bad_request("exactly one Host header is needed")),
    }
    if let Some(authority) = target.authority()
        && !is_loopback_authority(authority.as_str())
    {
        return Err(Fault::forbidden("the request names another machine"));
    }
    for origin in headers.get_all(ORIGIN) {
        let here = origin.to_str().ok().and_then(|origin| {
            let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))?;
            is_loopback_authority(authority).then_some(())
        });
        if here.is_none() {
            return Err(Fault::forbidden("a page from elsewhere may not ask (Origin header)"));
        }
    }
    Ok(())
}

/// Over the Unix socket anybody may ask who can open it; but an SSH client can forward it to a loopback port, where a browser is.
/// `curl` and the verbs name some machine without a dot or a port (`http://sluice/`), which no page's name can be. A page may only
/// ask the very port that it came from: others on this machine serve other people's pages.
pub(super) fn check_forwarded(headers: &HeaderMap) -> Result<(), Fault> {
    let mut here = None;
    for host in headers.get_all(HOST) {
        here = host.to_str().ok().filter(|host| is_loopback_authority(host) || !host.contains(['.', ':']));
        if here.is_none() {
            return Err(Fault::forbidden("the Host header names another machine: ask for http://localhost/"));
        }
    }
    for origin in headers.get_all(ORIGIN) {
        let page = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
        if page.is_none() || page != here {
            return Err(Fault::forbidden("a page from elsewhere may not ask (Origin header)"));
        }
    }
    Ok(())
}

/// Over TLS no page's name can be re-bound to this address: the browser would not accept the certificate. But it shows the operator's
/// own certificate to whomever it is sent, so that a page may only ask the very address that it came from.
pub(super) fn check_tls(headers: &HeaderMap) -> Result<(), Fault> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Fault::bad_request("exactly one Host header is needed"));
    };
    for origin in headers.get_all(ORIGIN) {
        let page = origin.as_bytes().strip_prefix(b"https://");
        if page.is_none_or(|page| !page.eq_ignore_ascii_case(host.as_bytes())) {
            return Err(Fault::forbidden("a page from elsewhere may not ask (Origin header)"));
        }
    }
    Ok(())
}

/// Refuses a change that a page asks for which did not come from this very address: another program's port on this machine may
/// show anybody's page.
pub(super) fn check_change(headers: &HeaderMap) -> Result<(), Fault> {
    let elsewhere = || Fault::forbidden("a page from elsewhere may not change anything (Origin, Sec-Fetch-Site)");
    let site = headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return Err(elsewhere());
    }
    let host = headers.get(HOST).map(http::HeaderValue::as_bytes).unwrap_or_default();
    for origin in headers.get_all(ORIGIN) {
        let origin = origin.as_bytes();
        let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        if authority.is_none_or(|authority| !authority.eq_ignore_ascii_case(host)) {
            return Err(elsewhere());
        }
    }
    Ok(())
}

/// Refuses what a proxy passed on, be it ourselves: a service whose node is this listener would open it to the world.
pub(super) fn check_direct(headers: &HeaderMap) -> Result<(), Fault> {
    let passed_on = ["x-forwarded-for", "forwarded", "via"].into_iter().find(|name| headers.contains_key(*name));
    match passed_on {
        Some(name) => Err(Fault::forbidden(format!(
            "this came through a proxy (`{name}`), which may stand open to anybody: show a token"
        ))),
        None => Ok(()),
    }
}

/// Whether `host[:port]` can only mean this machine. RFC 6761 §6.3 keeps `localhost` and all below it for loopback.
fn is_loopback_authority(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) if port.is_empty() || is_port(port) => host,
            _ => return false,
        },
        None => match authority.split_once(':') {
            Some((host, port)) if is_port(&format!(":{port}")) => host,
            Some(_) => return false,
            None => authority,
        },
    };
    if let Ok(address) = host.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    host == "localhost" || host.ends_with(".localhost")
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for yes in [
            "localhost",
            "LOCALHOST:80",
            "localhost.",
            "a.localhost:1",
            "127.0.0.1",
            "127.9.9.9:65535",
            "[::1]",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(is_loopback_authority(yes), "{yes}");
        }
        for no in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]:80",
            "[::1",
            "[::1]x",
            "localhost:x",
            "localhost:99999",
            "user@localhost",
        ] {
            assert!(!is_loopback_authority(no), "{no}");
        }
    }
}
