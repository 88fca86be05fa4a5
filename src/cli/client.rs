//! The verbs' side of the admin API: HTTP over a Unix socket, with a deadline on every wait.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, IF_MATCH};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::failure::{Failure, PROXY};
use crate::net::ask::encode;
use hyper_util::rt::TokioIo;

/// A socket that accepts and answers nothing is given up after this long.
const ANSWER: Duration = Duration::from_secs(5);
/// A request that makes the proxy read its files first may take this long.
const SLOW_ANSWER: Duration = Duration::from_secs(15);
/// The proxy sends at least a blank line every 5 s; after this long without one it is dead.
const SILENCE: Duration = Duration::from_secs(15);
/// Bytes of one answer, or of one line. 10,000 services take about 20 MB.
const LARGEST: usize = 256 * 1024 * 1024;

/// What there is of a service.
pub fn of_service(service: &str, rest: &str) -> String {
    format!("/v1/services/{}/{rest}", encode(service))
}

/// The status, of one service alone if one is named.
pub fn status(service: Option<&str>) -> String {
    service.map_or_else(|| "/v1/status".to_owned(), |name| format!("/v1/status?service={}", encode(name)))
}

/// Asks one proxy. Holds no connection: every request makes its own.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Asks the proxy behind this socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// GET, and the JSON of the answer.
    pub async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, Failure> {
        self.decode(&self.text(Method::GET, target, ANSWER).await?)
    }

    /// GET, and the answer as text.
    pub async fn get_text(&self, target: &str) -> Result<String, Failure> {
        self.text(Method::GET, target, ANSWER).await
    }

    /// POST, and the JSON of the answer.
    pub async fn post<T: DeserializeOwned>(&self, target: &str) -> Result<T, Failure> {
        self.decode(&self.text(Method::POST, target, SLOW_ANSWER).await?)
    }

    /// POST, and the JSON of the answer, if what it is about still has this tag; in any case if it is empty.
    #[cfg(feature = "top")]
    pub(super) async fn post_if<T: DeserializeOwned>(&self, target: &str, tag: &str) -> Result<T, Failure> {
        let response = self.send_if(Method::POST, target, SLOW_ANSWER, tag).await?;
        self.decode(&collect(response.into_body(), &self.socket).await?)
    }

    /// POST, and the lines of the answer as they come.
    pub async fn stream(&self, target: &str) -> Result<Lines, Failure> {
        // Whether anybody lives there is found out on a path that needs no control plane, so the long deadline is kept for real work.
        self.get_text("/healthz").await?;
        self.open(target).await
    }

    /// As [`Self::stream`], without asking first whether anybody lives there.
    pub(super) async fn open(&self, target: &str) -> Result<Lines, Failure> {
        let response = self.send(Method::POST, target, SLOW_ANSWER).await?;
        Ok(Lines { body: response.into_body(), buffer: Vec::new(), heard: Instant::now(), socket: self.socket.clone() })
    }

    /// Reads what the proxy answered.
    pub(super) fn decode<T: DeserializeOwned>(&self, text: &str) -> Result<T, Failure> {
        serde_json::from_str(text).map_err(|error| {
            Failure::new(
                PROXY,
                "protocol",
                format!(
                    "the answer from {} is not what this sluice understands ({error}): is the proxy of another version?",
                    self.socket.display()
                ),
            )
        })
    }

    async fn text(&self, method: Method, target: &str, wait: Duration) -> Result<String, Failure> {
        let response = self.send(method, target, wait).await?;
        let body = collect(response.into_body(), &self.socket).await?;
        Ok(body)
    }

    /// Sends a request; an error status is a failure.
    async fn send(&self, method: Method, target: &str, wait: Duration) -> Result<Response<Incoming>, Failure> {
        self.send_if(method, target, wait, "").await
    }

    /// The same, with `If-Match` unless the tag is empty.
    async fn send_if(
        &self,
        method: Method,
        target: &str,
        wait: Duration,
        tag: &str,
    ) -> Result<Response<Incoming>, Failure> {
        let sent = timeout(wait, self.exchange(method, target, tag)).await;
        let response = match sent {
            Ok(response) => response?,
            Err(_) => {
                return Err(Failure::new(
                    PROXY,
                    "unreachable",
                    format!(
                        "the socket {} accepts connections but nothing answered within {} s: the proxy hangs, or another program owns the socket",
                        self.socket.display(),
                        wait.as_secs()
                    ),
                ));
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = collect(response.into_body(), &self.socket).await?;
        Err(Failure::from_json(&text).unwrap_or_else(|| {
            Failure::new(PROXY, "protocol", format!("{} answered {status}: {}", self.socket.display(), text.trim_end()))
        }))
    }

    async fn exchange(&self, method: Method, target: &str, tag: &str) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| unreachable(&self.socket, &error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&self.socket, &error))?;
        // Lives until the body has been read or dropped.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(target).header(HOST, "sluice");
        if !tag.is_empty() {
            request = request.header(IF_MATCH, format!("\"{tag}\""));
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| Failure::usage(format!("`{target}` cannot be asked for: {error}")))?;
        sender.send_request(request).await.map_err(|error| broken(&self.socket, &error))
    }
}

/// Lines as they come.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    /// What came after the last line end; bounded by [`LARGEST`].
    buffer: Vec<u8>,
    /// When the last byte came.
    heard: Instant,
    socket: PathBuf,
}

impl Lines {
    /// The next line that is not blank; none at the end. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                if line.trim().is_empty() {
                    continue;
                }
                return Ok(Some(line.trim_end().to_owned()));
            }
            let frame = match timeout_at(self.heard + SILENCE, self.body.frame()).await {
                Ok(Some(frame)) => frame.map_err(|error| broken(&self.socket, &error))?,
                Ok(None) => return Ok(None),
                Err(_) => return Err(silent(&self.socket)),
            };
            self.heard = Instant::now();
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
            if self.buffer.len() > LARGEST {
                return Err(too_long(&self.socket));
            }
        }
    }
}

async fn collect(mut body: Incoming, socket: &Path) -> Result<String, Failure> {
    let mut text = Vec::new();
    loop {
        match timeout(SILENCE, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    text.extend_from_slice(&data);
                }
            }
            Ok(Some(Err(error))) => return Err(broken(socket, &error)),
            Ok(None) => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Err(_) => return Err(silent(socket)),
        }
        if text.len() > LARGEST {
            return Err(too_long(socket));
        }
    }
}

/// The socket cannot be opened: why, and what to do.
fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "your user may not open it: it is for the proxy's user and group; join the group, or use sudo"
        }
        io::ErrorKind::WouldBlock => "its queue is full: the proxy hangs, or is flooded with requests",
        _ => "is `sluice run` running? Name another socket with --socket (or SLUICE_SOCKET)",
    };
    Failure::new(PROXY, "unreachable", format!("cannot reach the proxy: socket {}: {error}; {hint}", socket.display()))
}

fn broken(socket: &Path, error: &dyn std::error::Error) -> Failure {
    let mut chain = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        chain = format!("{chain}: {cause}");
        source = cause.source();
    }
    Failure::new(
        PROXY,
        "unreachable",
        format!(
            "the connection to the proxy broke (socket {}): {chain}; it may have been stopped, or another program owns the socket",
            socket.display()
        ),
    )
}

fn silent(socket: &Path) -> Failure {
    Failure::new(
        PROXY,
        "unreachable",
        format!(
            "nothing was heard from the proxy for {} s (socket {}): it hangs or is gone",
            SILENCE.as_secs(),
            socket.display()
        ),
    )
}

fn too_long(socket: &Path) -> Failure {
    Failure::new(PROXY, "protocol", format!("the answer from {} has no end", socket.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_why_a_socket_cannot_be_opened_has_its_advice() {
        let message = |kind: io::ErrorKind| {
            let failure = unreachable(Path::new("/run/s.sock"), &io::Error::from(kind));
            assert_eq!(failure.code, 1);
            assert!(failure.message.contains("/run/s.sock"));
            failure.message
        };
        assert!(message(io::ErrorKind::PermissionDenied).contains("sudo"));
        assert!(message(io::ErrorKind::NotFound).contains("is `sluice run` running?"));
        assert!(message(io::ErrorKind::ConnectionRefused).contains("--socket"));
        assert!(message(io::ErrorKind::WouldBlock).contains("queue is full"));
    }
}
