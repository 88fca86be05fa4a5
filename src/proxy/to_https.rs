//! A listener that does nothing but send its clients to HTTPS (`redirect_https`).

use http::{HeaderValue, Uri};

use super::error::Fault;
use super::front::Front;

/// The default port of HTTPS, which no address names.
const HTTPS: u16 = 443;

/// Refuses a request on such a listener, with the place where it is served.
pub fn check(front: &Front, uri: &Uri, host: Option<&HeaderValue>) -> Result<(), Fault> {
    match front.entrance().redirect_https {
        None => Ok(()),
        Some(port) => Err(redirect(uri, host, port)),
    }
}

fn redirect(uri: &Uri, host: Option<&HeaderValue>, port: u16) -> Fault {
    let Some(host) = host.and_then(|host| host.to_str().ok()) else {
        return Fault::BadRequest("this is served over HTTPS, and without a Host it cannot be said where");
    };
    // The port of this listener says nothing about the other one.
    let name = match host.rsplit_once(':') {
        Some((name, _)) if !host.ends_with(']') => name,
        _ => host,
    };
    let port = if port == HTTPS { String::new() } else { format!(":{port}") };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    match HeaderValue::from_str(&format!("https://{name}{port}{path}")) {
        Ok(place) => Fault::ToHttps(Box::new(place)),
        Err(_) => Fault::BadRequest("this is served over HTTPS, and its address cannot be written in a header"),
    }
}
