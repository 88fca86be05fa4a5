//! A client that sends what a test says and reads what comes.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// One connection to the proxy.
pub struct Client<S = TcpStream> {
    pub stream: S,
    buffer: Vec<u8>,
}

/// A response as the client got it.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The body ended before its end.
    pub truncated: bool,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await.expect("in time").expect("a connection");
        stream.set_nodelay(true).expect("a socket option");
        Self::over(stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        let _ = timeout(PATIENCE, sent).await.expect("the proxy reads");
    }

    /// One GET and its response.
    pub async fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: app.test\r\n\r\n")).await;
        self.response("GET").await.expect("a response")
    }

    /// One POST and its response.
    pub async fn post(&mut self, path: &str, body: &str) -> Response {
        let length = body.len();
        self.send(format!("POST {path} HTTP/1.1\r\nhost: app.test\r\ncontent-length: {length}\r\n\r\n{body}")).await;
        self.response("POST").await.expect("a response")
    }

    /// The final response to a request with this method, with its body; `None` if the connection ends before a head.
    pub async fn response(&mut self, method: &str) -> Option<Response> {
        loop {
            let response = timeout(PATIENCE, self.one(method)).await.expect("a response in time")?;
            if response.status >= 200 || response.status == 101 {
                return Some(response);
            }
        }
    }

    /// A response's head, 1xx included.
    pub async fn head(&mut self) -> Option<Response> {
        let line = self.line().await?;
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status line");
        let mut response = Response { status, ..Response::default() };
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Some(response);
            }
            let (name, value) = line.split_once(':').expect("a header field");
            response.headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
    }

    async fn one(&mut self, method: &str) -> Option<Response> {
        let mut response = self.head().await?;
        if method == "HEAD" || response.status < 200 || matches!(response.status, 204 | 304) {
            return Some(response);
        }
        if response.header("transfer-encoding").is_some() {
            response.truncated = self.chunked(&mut response).await.is_none();
        } else if let Some(length) = response.header("content-length") {
            let length: usize = length.parse().expect("a length");
            while self.buffer.len() < length && self.more().await.is_some() {}
            response.truncated = self.buffer.len() < length;
            let have = length.min(self.buffer.len());
            response.body = self.buffer.drain(..have).collect();
        } else {
            while self.more().await.is_some() {}
            response.body = std::mem::take(&mut self.buffer);
        }
        Some(response)
    }

    async fn chunked(&mut self, response: &mut Response) -> Option<()> {
        loop {
            let line = self.line().await?;
            let size = usize::from_str_radix(line.trim(), 16).expect("a chunk size");
            if size == 0 {
                loop {
                    let line = self.line().await?;
                    match line.split_once(':') {
                        Some((name, value)) => response.trailers.push((name.to_lowercase(), value.trim().to_owned())),
                        None => return Some(()),
                    }
                }
            }
            let data = self.bytes(size + 2).await?;
            response.body.extend(&data[..size]);
        }
    }

    /// The data of one chunk of a body; `None` at its end.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        // What is not whole stays in the buffer, so that this can be given up and begun again.
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                let size = usize::from_str_radix(line.trim(), 16).expect("a chunk size");
                if size == 0 {
                    return None;
                }
                if self.buffer.len() >= end + 2 + size + 2 {
                    let chunk: Vec<u8> = self.buffer.drain(..end + 2 + size + 2).collect();
                    return Some(chunk[end + 2..end + 2 + size].to_vec());
                }
            }
            self.more().await?;
        }
    }

    /// Exactly this many bytes.
    pub async fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            self.more().await?;
        }
        Some(self.buffer.drain(..count).collect())
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Some(line);
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Option<()> {
        self.buffer.reserve(16 * 1024);
        let read = self.stream.read_buf(&mut self.buffer).await.ok()?;
        (read > 0).then_some(())
    }

    /// Ends this side: the proxy sees that nothing more comes.
    pub async fn finish(&mut self) {
        // It may be closed already.
        let _ = self.stream.shutdown().await;
    }

    /// Waits until the proxy closes; what still came is the answer.
    pub async fn closed(&mut self) -> Vec<u8> {
        timeout(PATIENCE, async { while self.more().await.is_some() {} }).await.expect("the proxy closes");
        std::mem::take(&mut self.buffer)
    }
}
