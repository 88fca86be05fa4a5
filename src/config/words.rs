//! Values without a unit: names, addresses, patterns. Each function takes one value as written and says what is wrong with it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use http::header::{HeaderName, HeaderValue};
use ipnet::{IpNet, Ipv4Net};

use super::error::Fault;
use super::units::shorten;
use super::{HostPattern, Match};

/// The name of a service or a listener: it appears in paths, labels and on command lines.
pub(super) fn name(text: &str, what: &str) -> Result<(), Fault> {
    limited(text, what, 64, "-_.", "letters, digits, `-`, `_` and `.`")
}

/// The name of a version: a tag, a hash, a build number.
pub(super) fn version(text: &str) -> Result<(), Fault> {
    limited(text, "version", 128, "-_.+:@~", "letters, digits, `-`, `_`, `.`, `+`, `:`, `@` and `~`")
}

fn limited(text: &str, what: &str, longest: usize, marks: &str, words: &str) -> Result<(), Fault> {
    if text.is_empty() {
        return Err(Fault::new(format!("the name of a {what} is empty")));
    }
    if text.len() > longest {
        return Err(Fault::new(format!("the name of a {what} is longer than {longest} characters")));
    }
    if let Some(c) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !marks.contains(*c)) {
        return Err(Fault::new(format!("the name of a {what} cannot have {c:?} in it")).hint(format!("use {words}")));
    }
    // `-x` reads as a flag, `-` is the version of the short form, and `.` and `..` are folders.
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Fault::new(format!("the name of a {what} must begin with a letter or a digit")));
    }
    Ok(())
}

/// An address to accept on: an IP address and a port.
pub(super) fn bind(text: &str) -> Result<SocketAddr, Fault> {
    text.parse().map_err(|_| {
        let fault = Fault::new(format!("`{}` is not an IP address and a port", shorten(text)));
        match text.rsplit_once(':') {
            Some(("" | "*", port)) if port_number(port).is_some() => {
                fault.hint(format!("for every address write \"0.0.0.0:{port}\", or \"[::]:{port}\" with IPv6"))
            }
            Some(("localhost", port)) if port_number(port).is_some() => {
                fault.hint(format!("write \"127.0.0.1:{port}\""))
            }
            _ => fault.hint("write it like \"0.0.0.0:8080\" or \"[::]:8080\""),
        }
    })
}

/// Checks a node's address, and gives the form by which doubles are found.
pub(super) fn node(text: &str) -> Result<String, Fault> {
    let fault = |why: &str| Fault::new(format!("`{}` is not a node address: {why}", shorten(text)));
    if text.is_empty() {
        return Err(fault("it is empty").hint("write it like \"10.0.0.5:5001\""));
    }
    if let Some((scheme, after)) = text.split_once("://") {
        let (host, path) = after.split_at(after.find('/').unwrap_or(after.len()));
        if scheme == "https" && path.is_empty() {
            return node(host);
        }
        let scheme = if scheme.eq_ignore_ascii_case("https") { "https://" } else { "" };
        return Err(fault("it is a URL").hint(format!("write \"{scheme}{}\"", shorten(host))));
    }
    if let Ok(ip) = text.parse::<Ipv6Addr>() {
        return Err(fault("the port is missing").hint(format!("write it like \"[{ip}]:5001\"")));
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) else {
        let hint = format!("write it like \"{}:5001\"", shorten(text));
        return Err(fault("the port is missing").hint(hint));
    };
    if host.is_empty() {
        let hint = format!("write \"127.0.0.1{}\" for this machine", shorten(text));
        return Err(fault("the host is missing").hint(hint));
    }
    let number =
        port_number(port).ok_or_else(|| fault(&format!("`{}` is not a port from 1 to 65535", shorten(port))))?;
    if let Some(inner) = host.strip_prefix('[') {
        let ip = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        let ip = ip.ok_or_else(|| fault("what is in brackets is not an IPv6 address"))?;
        return Ok(format!("[{ip}]:{number}"));
    }
    if host.contains(':') {
        return Err(fault("an IPv6 address stands in brackets").hint("write it like \"[2001:db8::1]:5001\""));
    }
    host_name(host).map_err(|why| fault(&why))?;
    Ok(format!("{}:{number}", host.to_ascii_lowercase()))
}

fn port_number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| digits)
}

/// Says why a text is no host name or IPv4 address.
fn host_name(text: &str) -> Result<(), String> {
    if !text.is_ascii() {
        return Err("a name with other than ASCII letters is written in its `xn--` form".into());
    }
    if text.len() > 253 {
        return Err("a host name has at most 253 characters".into());
    }
    for label in text.split('.') {
        if label.is_empty() {
            return Err("a part of the host name is empty".into());
        }
        if label.len() > 63 {
            return Err("a part of the host name is longer than 63 characters".into());
        }
        if let Some(c) = label.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_".contains(*c)) {
            return Err(format!("a host name cannot have {c:?} in it"));
        }
    }
    // A name whose last part is a number is meant to be an IPv4 address (RFC 3696 §2: no top-level domain is one).
    let number = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if number && text.parse::<IpAddr>().is_err() {
        return Err("it is neither an IPv4 address nor a host name".into());
    }
    Ok(())
}

/// `shop.example.com`, `example.com/shop`, `*.example.com`, `*`, `*/shop`.
pub(super) fn pattern(text: &str) -> Result<Match, Fault> {
    let fault = |why: &str| Fault::new(format!("`{}` cannot be matched: {why}", shorten(text)));
    if let Some((_, after)) = text.split_once("://") {
        return Err(fault("a match has no scheme").hint(format!("write \"{}\"", shorten(after))));
    }
    let (host, below) = text.split_at(text.find('/').unwrap_or(text.len()));
    if host.is_empty() {
        return Err(if below.is_empty() {
            fault("it is empty").hint("write \"*\" for every host")
        } else {
            fault("the host is missing").hint(format!("write \"*{}\" for every host", shorten(below)))
        });
    }
    path(below).map_err(|why| fault(&why))?;
    let prefix = below.strip_suffix('/').unwrap_or(below);
    let host = if host == "*" {
        HostPattern::Any
    } else if host.starts_with('[') {
        let ip = host.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')?.parse::<Ipv6Addr>().ok());
        HostPattern::Exact(format!("[{}]", ip.ok_or_else(|| fault("what is in brackets is not an IPv6 address"))?))
    } else if host.contains(':') {
        return Err(
            fault("a match has no port").hint("requests are chosen by host and path, whatever port they came to")
        );
    } else {
        let lower = host.to_ascii_lowercase();
        let bare = lower.strip_suffix('.').unwrap_or(&lower);
        let (wild, name) = bare.strip_prefix("*.").map_or((false, bare), |name| (true, name));
        if name.contains('*') {
            return Err(fault("`*` stands alone or before the first dot").hint("write it like \"*.example.com\""));
        }
        host_name(name).map_err(|why| fault(&why))?;
        if wild { HostPattern::Wildcard(name.into()) } else { HostPattern::Exact(name.into()) }
    };
    Ok(Match { host, prefix: prefix.to_owned() })
}

/// A network or one address. Of IPv4 addresses, however they are written: what clients are compared by is canonical.
pub(super) fn network(text: &str) -> Result<IpNet, Fault> {
    let one = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    one.or_else(|_| text.parse::<IpNet>().map(|net| canonical(net.trunc()))).map_err(|_| {
        Fault::new(format!("`{}` is neither an IP address nor a network", shorten(text)))
            .hint("write it like \"10.0.0.0/8\" or \"192.0.2.7\"")
    })
}

/// Of a network within `::ffff:0:0/96` the one that it maps (RFC 4291 §2.5.5.2).
fn canonical(net: IpNet) -> IpNet {
    let bits = net.prefix_len().checked_sub(96);
    match (net.addr().to_canonical(), bits) {
        (IpAddr::V4(address), Some(bits)) if net.addr().is_ipv6() => {
            Ipv4Net::new(address, bits).map_or(net, IpNet::from)
        }
        _ => net,
    }
}

/// `204` or `200-399`. Informational statuses are never final, so they are out.
pub(super) fn status(text: &str) -> Result<RangeInclusive<u16>, Fault> {
    let fault = || {
        Fault::new(format!("`{}` is not a status or a range of statuses from 200 to 599", shorten(text)))
            .hint("write it like 200, \"200-399\" or [200, \"301-308\"]")
    };
    let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (200..=599).contains(code));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(fault()),
    }
}

/// The path and query of a probe.
pub(super) fn probe_path(text: &str) -> Result<(), Fault> {
    if !text.starts_with('/') {
        return Err(Fault::new(format!("`{}` is not a path: it must begin with `/`", shorten(text))));
    }
    if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        return Err(Fault::new(format!("a path cannot have {c:?} in it")).hint("write it percent-encoded"));
    }
    let parsed = text.parse::<http::uri::PathAndQuery>();
    parsed.map(drop).map_err(|_| Fault::new(format!("`{}` is not a path", shorten(text))))
}

/// The `Host` of a probe.
pub(super) fn probe_host(text: &str) -> Result<(), Fault> {
    let parsed = text.parse::<http::uri::Authority>().ok().filter(|_| !text.contains('@'));
    parsed.map(drop).ok_or_else(|| {
        Fault::new(format!("`{}` is not a host", shorten(text))).hint("write it like \"shop.example.com\"")
    })
}

/// `Name: value`.
pub(super) fn header(text: &str) -> Result<(String, String), Fault> {
    let fault =
        || Fault::new(format!("`{}` is not a header", shorten(text))).hint("write it like \"X-Version: {version}\"");
    let (name, value) = text.split_once(':').ok_or_else(fault)?;
    let name: HeaderName = name.parse().map_err(|_| fault())?;
    let value = value.trim();
    if value.is_empty() || HeaderValue::from_str(value).is_err() {
        return Err(fault());
    }
    Ok((name.as_str().to_owned(), value.to_owned()))
}

/// Whether a field belongs to one connection or frames a body: whoever changes it makes two readings of one message.
pub(super) fn frames(name: &HeaderName) -> bool {
    const FRAMING: [&str; 12] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "content-encoding",
        "content-range",
        "expect",
        "http2-settings",
    ];
    FRAMING.contains(&name.as_str())
}

/// Says why a path, or a prefix of one, is not in the form in which paths are compared.
pub(super) fn path(text: &str) -> Result<(), String> {
    if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic() || "?#*\"<>\\^`{|}".contains(*c)) {
        return Err(format!("a path cannot have {c:?} in it"));
    }
    if text.split('/').skip(1).any(|segment| matches!(segment, "." | "..")) || text.contains("//") {
        return Err("a part of it is empty, `.` or `..`".into());
    }
    for (at, _) in text.match_indices('%') {
        let digits = text.get(at + 1..at + 3).unwrap_or_default();
        let Ok(byte) = u8::from_str_radix(digits, 16) else {
            return Err("`%` stands before two hexadecimal digits".into());
        };
        let byte = char::from(byte);
        if byte.is_ascii_alphanumeric() || "-._~".contains(byte) {
            return Err(format!("write {byte:?} for `%{digits}`: paths are compared in that form"));
        }
    }
    Ok(())
}
