//! One question over HTTP/1.1, on a connection of its own: for what the control plane asks now and then. And what it takes to ask a node
//! how it is, in the same words for people.

use std::error::Error as _;
use std::io;
use std::pin::pin;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::tls::Client;
use super::{ConnectError, Dial, connect};
use crate::model::NodeAddress;

/// A larger response head is refused.
pub const MAX_HEAD: usize = 64 * 1024;

/// A longer answer is refused.
const MAX_BODY: usize = 256 * 1024;

/// Asks, and reads the whole answer. Sets no limit of time.
///
/// # Errors
/// In words for people: no connection, or no answer that can be read.
pub async fn ask(
    address: &NodeAddress,
    tls: Option<&Client>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), String> {
    let stream = connect(Dial { address, tls, offer: &[], introduce: None }).await.map_err(|error| match error {
        ConnectError::Unreachable(error) => in_words(&error),
        ConnectError::Tls(error) => format!("TLS failed: {error}"),
    })?;
    let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| http_in_words(&error))?;
    let asked = async {
        let response = sender.send_request(request).await.map_err(|error| http_in_words(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body =
            body.map_err(|error| format!("the answer broke off, or is longer than {MAX_BODY} bytes: {error}"))?;
        Ok((head.status, body.to_bytes()))
    };
    driving(connection, asked).await
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3), so that any name is one segment or one value.
pub fn encode(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// Drives a connection until what was asked over it is there.
pub async fn driving<T>(connection: impl Future, asked: impl Future<Output = T>) -> T {
    let (mut asked, mut connection) = (pin!(asked), pin!(connection));
    tokio::select! {
        // The answer first: what comes with it counts, even if the connection broke behind it.
        biased;
        result = &mut asked => return result,
        // It gave everything away, or it is broken; the other side knows which.
        _ = &mut connection => {}
    }
    asked.await
}

/// What the system said, without its error number.
pub fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            "connection closed before the answer was complete".to_owned()
        }
        io::ErrorKind::HostUnreachable => "no route to the host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "no route to its network".to_owned(),
        io::ErrorKind::TimedOut => "no connection: the system gave up".to_owned(),
        _ => error.to_string(),
    }
}

/// What went wrong with an exchange in HTTP/1, for people.
pub fn http_in_words(error: &hyper::Error) -> String {
    // The connection broke before the request was on it; the cause tells more.
    if error.is_canceled()
        && let Some(cause) = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>())
    {
        return http_in_words(cause);
    }
    if error.is_parse_too_large() {
        return format!("the head of the answer is too large (limit {} KiB)", MAX_HEAD / 1024);
    }
    if error.is_parse() {
        return format!("the answer is not HTTP/1.1 ({error})");
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return "connection closed before the answer was complete".to_owned();
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            return in_words(cause);
        }
        source = cause.source();
    }
    // hyper has no predicate for this one.
    let text = error.to_string();
    if text.contains("unexpected message") {
        "the node spoke before it was asked: this is not HTTP/1.1".to_owned()
    } else {
        text
    }
}
