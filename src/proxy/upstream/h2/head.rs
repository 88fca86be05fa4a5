//! A request's head and trailers, said in HTTP/2 (RFC 9113 §8).

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri, Version};

use crate::net::http1::{digits, may_trail};
use crate::proxy::forwarded::Told;
use crate::proxy::headers::HOP_BY_HOP;

/// Turns the head as it is for an HTTP/1 node into that for an HTTP/2 one: `Host` becomes `:authority`, and what belongs to
/// an HTTP/1 connection goes. `TE: trailers` stays, and so do joined cookies (§8.2.3). `Err`: a part that HTTP/2 has no
/// form for.
pub(super) fn request(parts: &Parts, told: Option<&Told>, secure: bool) -> Result<Request<()>, String> {
    let mut headers = parts.headers.clone();
    if let Some(told) = told {
        told.enter(&mut headers);
    }
    let host = headers.remove(HOST).ok_or("there is no host")?;
    let authority = Authority::try_from(host.as_bytes()).map_err(|error| error.to_string())?;
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri.map_err(|error| error.to_string())?;
    *request.headers_mut() = headers;
    *request.version_mut() = Version::HTTP_2;
    Ok(request)
}

/// How long the body of a response is that says so, and announces no trailers: behind a body whose length stands in its head, HTTP/1
/// has no place for them.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    let mut told = headers.get_all(CONTENT_LENGTH).iter();
    match (told.next(), told.next()) {
        (Some(length), None) if !headers.contains_key(TRAILER) => digits(length.as_bytes()),
        _ => None,
    }
}

/// Removes from trailers what may not stand there, over HTTP/1 and HTTP/2 alike.
pub(super) fn clean(trailers: &mut HeaderMap) {
    let banned = |name: &&HeaderName| HOP_BY_HOP.contains(name) || !may_trail(name);
    while let Some(name) = trailers.keys().find(banned).cloned() {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_head_loses_what_belongs_to_http1_and_keeps_the_rest() {
        let request = http::Request::get("/a?b")
            .header("host", "shop.test:8080")
            .header("connection", "te")
            .header("te", "trailers")
            .header("transfer-encoding", "chunked")
            .header("cookie", "a=1; b=2");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let request = super::request(&parts, None, true).unwrap();
        assert_eq!(request.uri(), "https://shop.test:8080/a?b");
        assert_eq!(request.headers().len(), 2);
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(request.headers()["cookie"], "a=1; b=2");
    }

    #[test]
    fn trailers_say_nothing_of_what_the_head_has_to_say() {
        let fields = ["x-sum", "authorization", "x-forwarded-for", "te", "connection", "content-type", "grpc-status"];
        let mut trailers: http::HeaderMap =
            fields.iter().map(|name| (name.parse().unwrap(), "x".parse().unwrap())).collect();
        super::clean(&mut trailers);
        let mut left: Vec<_> = trailers.keys().map(http::HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["grpc-status", "x-sum"]);
    }

    #[test]
    fn the_asterisk_of_options_stays() {
        let (parts, ()) = http::Request::options("*").header("host", "a.test").body(()).unwrap().into_parts();
        let request = super::request(&parts, None, false).unwrap();
        assert_eq!(request.uri().path(), "*");
        assert_eq!(request.uri().scheme_str(), Some("http"));
    }
}
