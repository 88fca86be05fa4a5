//! Probes of nodes that speak HTTP/2: the same GET, and the health protocol of gRPC (`grpc.health.v1.Health/Check`), whose
//! messages are a few bytes each.

use bytes::{Buf, Bytes};
use h2::RecvStream;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, TE, USER_AGENT};
use http::{Method, Request, Response, Version};
use tokio::io::{AsyncRead, AsyncWrite};

use super::probe::{EXCERPT, Expected, MAX_BODY, Seen, Stage, wrong_head};
use crate::net::ask::{MAX_HEAD, driving};

const AGENT: HeaderValue = HeaderValue::from_static(concat!("sluice-probe/", env!("CARGO_PKG_VERSION")));

/// Asks with GET and judges the answer.
pub(super) async fn get<S>(stream: S, scheme: &str, expected: &Expected<'_>, seen: &mut Seen) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = request(Method::GET, scheme, expected.host, expected.path)?;
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("*/*"));
    exchange(stream, request, Bytes::new(), seen, async |response, seen| judge(response, expected, seen).await).await
}

/// Asks whether a gRPC service serves; an empty name asks for the server as a whole.
pub(super) async fn check<S>(stream: S, scheme: &str, host: &str, service: &str, seen: &mut Seen) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = request(Method::POST, scheme, host, "/grpc.health.v1.Health/Check")?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    let question = message(service);
    exchange(stream, request, question, seen, async |response, seen| judge_check(response, service, seen).await).await
}

fn request(method: Method, scheme: &str, host: &str, path: &str) -> Result<Request<()>, String> {
    let request = Request::builder().method(method).uri(format!("{scheme}://{host}{path}")).version(Version::HTTP_2);
    request.header(USER_AGENT, AGENT).body(()).map_err(|error| format!("cannot ask for {path:?}: {error}"))
}

/// Sends a request and has the answer judged, driving the connection meanwhile.
async fn exchange<S>(
    stream: S,
    request: Request<()>,
    body: Bytes,
    seen: &mut Seen,
    judge: impl AsyncFnOnce(Response<RecvStream>, &mut Seen) -> Result<(), String>,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    seen.stage = Stage::Waiting;
    let builder = h2::client::Builder::new().enable_push(false).max_header_list_size(MAX_HEAD as u32).to_owned();
    let (mut sender, connection) = builder.handshake::<_, Bytes>(stream).await.map_err(|error| in_words(&error))?;
    let judged = async {
        let sent = sender.send_request(request, body.is_empty());
        let (response, mut upload) = sent.map_err(|error| in_words(&error))?;
        if !body.is_empty() {
            upload.send_data(body, true).map_err(|error| in_words(&error))?;
        }
        let response = response.await.map_err(|error| in_words(&error))?;
        seen.stage = Stage::Reading;
        seen.status = Some(response.status().as_u16());
        judge(response, seen).await
    };
    driving(connection, judged).await
}

async fn judge(response: Response<RecvStream>, expected: &Expected<'_>, seen: &mut Seen) -> Result<(), String> {
    let status = response.status().as_u16();
    let failure = wrong_head(status, response.headers(), expected);
    let mut body = response.into_body();
    if let Some(failure) = failure {
        seen.failure = Some(failure.clone());
        let _ = read(&mut body, &mut seen.body, EXCERPT).await;
        return Err(failure);
    }
    let Some(wanted) = &expected.body else { return Ok(()) };
    read(&mut body, &mut seen.body, MAX_BODY).await?;
    let wanted_bytes = wanted.as_bytes();
    if wanted_bytes.is_empty() || seen.body.windows(wanted_bytes.len()).any(|window| window == wanted_bytes) {
        return Ok(());
    }
    Err(format!("the body does not contain {wanted:?}"))
}

async fn judge_check(response: Response<RecvStream>, service: &str, seen: &mut Seen) -> Result<(), String> {
    let (head, mut body) = response.into_parts();
    if head.status != http::StatusCode::OK {
        let _ = read(&mut body, &mut seen.body, EXCERPT).await;
        return Err(format!("status {}, and gRPC answers 200: this may be no gRPC server", head.status.as_u16()));
    }
    let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !kind.starts_with(b"application/grpc") {
        let _ = read(&mut body, &mut seen.body, EXCERPT).await;
        return Err("the answer is not gRPC: its content type is another".to_owned());
    }
    // Without a message, the head is the trailers.
    status(&head.headers, service)?;
    read(&mut body, &mut seen.body, MAX_BODY).await?;
    let trailers = body.trailers().await.map_err(|error| in_words(&error))?.unwrap_or_default();
    status(&trailers, service)?;
    let answer = std::mem::take(&mut seen.body);
    match serving(&answer) {
        Some(1) => Ok(()),
        Some(0) => Err("the node says UNKNOWN".to_owned()),
        Some(2) => Err("the node says NOT_SERVING".to_owned()),
        Some(3) => Err("the node says SERVICE_UNKNOWN".to_owned()),
        Some(other) => Err(format!("the node says {other}, which means nothing here")),
        None => Err("the answer is no HealthCheckResponse".to_owned()),
    }
}

/// An error, if the status that is there, if one is there, says one.
fn status(headers: &HeaderMap, service: &str) -> Result<(), String> {
    let Some(code) = headers.get("grpc-status").and_then(|value| value.to_str().ok()) else { return Ok(()) };
    if code == "0" {
        return Ok(());
    }
    let why = match code {
        "5" if service.is_empty() => " (NOT_FOUND)".to_owned(),
        "5" => format!(" (NOT_FOUND): the node knows no service {service:?}"),
        "12" => " (UNIMPLEMENTED): the node has no grpc.health.v1.Health".to_owned(),
        _ => String::new(),
    };
    let said = headers.get("grpc-message").and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let said = said.map(|text| format!(", saying {:?}", text.chars().take(EXCERPT).collect::<String>()));
    Err(format!("grpc-status {code}{why}{}", said.unwrap_or_default()))
}

/// Reads until the body or `limit` ends.
async fn read(body: &mut RecvStream, into: &mut Vec<u8>, limit: usize) -> Result<(), String> {
    while into.len() < limit {
        let Some(data) = body.data().await else { break };
        let data = data.map_err(|error| in_words(&error))?;
        let _ = body.flow_control().release_capacity(data.len());
        into.extend_from_slice(&data[..data.len().min(limit - into.len())]);
    }
    Ok(())
}

/// `HealthCheckRequest { service }` in gRPC's framing: one field, number 1, of type string.
fn message(service: &str) -> Bytes {
    let mut fields = Vec::new();
    if !service.is_empty() {
        fields.push(0x0A);
        let mut length = service.len();
        while length >= 0x80 {
            fields.push(length as u8 | 0x80);
            length >>= 7;
        }
        fields.push(length as u8);
        fields.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend((fields.len() as u32).to_be_bytes());
    framed.extend(fields);
    framed.into()
}

/// The `status` of a framed `HealthCheckResponse`: field 1, an enumeration; none if it is something else.
fn serving(answer: &[u8]) -> Option<u64> {
    let (prefix, mut fields) = answer.split_at_checked(5)?;
    if prefix[0] != 0 || (&prefix[1..]).get_u32() as usize != fields.len() {
        return None;
    }
    // What is not sent has its first value, UNKNOWN.
    let mut status = 0;
    while !fields.is_empty() {
        let key = varint(&mut fields)?;
        match key & 7 {
            0 if key >> 3 == 1 => status = varint(&mut fields)?,
            0 => drop(varint(&mut fields)?),
            1 => fields = fields.get(8..)?,
            2 => {
                let length = varint(&mut fields)?;
                fields = fields.get(usize::try_from(length).ok()?..)?;
            }
            5 => fields = fields.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(fields: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = fields.split_first()?;
        *fields = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn in_words(error: &h2::Error) -> String {
    if let Some(error) = error.get_io() {
        return crate::net::ask::in_words(error);
    }
    if error.is_library() {
        return format!("the node does not speak HTTP/2 ({error})");
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_what_protoc_would_write() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("a.B")[..], [0, 0, 0, 0, 5, 0x0A, 3, b'a', b'.', b'B']);
        assert_eq!(&message(&"x".repeat(200))[..8], [0, 0, 0, 0, 203, 0x0A, 0xC8, 1]);
    }

    #[test]
    fn the_answer_is_read_whatever_else_is_in_it() {
        for (answer, status) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[0, 0, 0, 0, 7, 0x12, 3, 1, 2, 3, 8, 1], Some(1)),
            (&[0, 0, 0, 0, 11, 0x19, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1], Some(1)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[0, 0, 0, 0, 2, 8, 0x80], None),
            (&[0, 0, 0, 0, 2, 0x12, 9], None),
            (&[0, 0], None),
            (&[], None),
        ] {
            assert_eq!(serving(answer), status, "{answer:?}");
        }
    }
}
