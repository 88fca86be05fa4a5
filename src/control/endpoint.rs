//! Asks somebody outside, as the configuration names him: judges, whoever is told of events, collectors of spans.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use tokio::time::timeout;

use crate::config::{ClientTls, Endpoint};
use crate::net;
use crate::net::tls::Client;

/// Bytes of an answer that refuses which are told.
const SAID: usize = 500;

/// A request to an endpoint.
///
/// # Errors
/// In words for people, if the configuration cannot be said in HTTP.
pub(super) fn request(
    endpoint: &Endpoint,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|_| format!("{path:?} is no path"))?;
    let headers = request.headers_mut();
    let host = HeaderValue::from_str(&endpoint.host).map_err(|_| format!("{:?} is no host", endpoint.host))?;
    headers.insert(HOST, host);
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("sluice/", env!("CARGO_PKG_VERSION"))));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if request.method() == Method::POST {
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, value) in &endpoint.headers {
        request.headers_mut().insert(name.clone(), value.clone());
    }
    Ok(request)
}

/// Why there is no good answer, in words for people.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct Unanswered {
    status: Option<StatusCode>,
    why: String,
}

impl From<String> for Unanswered {
    fn from(why: String) -> Self {
        Self { status: None, why }
    }
}

impl Unanswered {
    /// Whether asking again would bring the same.
    pub(super) fn is_final(&self) -> bool {
        let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
        self.status.is_some_and(|status| status.is_client_error() && !later.contains(&status))
    }
}

/// Asks within the endpoint's time; a good answer's body.
///
/// # Errors
/// Nobody answered in time, or with another status than 2xx.
pub(super) async fn ask(endpoint: &Endpoint, request: Request<Full<Bytes>>) -> Result<Bytes, Unanswered> {
    let exchange = async {
        let tls = if endpoint.address.is_tls() { Some(system_trust().await?) } else { None };
        net::ask::ask(&endpoint.address, tls.as_deref(), request).await
    };
    let (status, body) =
        timeout(endpoint.timeout, exchange).await.map_err(|_| format!("no answer within {:?}", endpoint.timeout))??;
    if status.is_success() {
        return Ok(body);
    }
    let said = String::from_utf8_lossy(&body[..body.len().min(SAID)]).trim().to_owned();
    let between = if said.is_empty() { "" } else { ": " };
    Err(Unanswered { status: Some(status), why: format!("status {}{between}{said}", status.as_u16()) })
}

/// TLS with the system's roots, which are read from files the first time.
async fn system_trust() -> Result<Arc<Client>, String> {
    let loaded = tokio::task::spawn_blocking(|| Client::load(&ClientTls::default(), None)).await;
    loaded.map_err(|error| error.to_string())?.map_err(|problem| problem.message)
}
