//! An HTTP/2 client over cleartext, and one that writes frames as a test says.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::poll_fn;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::PATIENCE;

/// One connection.
pub struct Http2 {
    pub send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// An answer as the client got it.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
    /// The stream was reset before the end of the answer.
    pub reset: Option<Reason>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.get(name)?.to_str().ok()
    }
}

/// A request for the proxy without a body.
pub fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://app.test{path}")).body(()).expect("a request")
}

impl Http2 {
    pub async fn connect(address: SocketAddr) -> Self {
        let mut builder = Builder::new();
        // Until the settings come, nobody knows how many streams there may be; and what a test leaves unread on one must not
        // stop the others.
        builder.initial_max_send_streams(100).initial_connection_window_size(8 << 20);
        Self::with(address, &builder).await
    }

    /// With settings.
    pub async fn with(address: SocketAddr, builder: &Builder) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket option");
        let (send, connection) =
            timeout(PATIENCE, builder.handshake(stream)).await.expect("in time").expect("a handshake");
        Self { send, connection: tokio::spawn(connection) }
    }

    /// Begins a request.
    pub async fn begin(&mut self, request: Request<()>, end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let mut ready = timeout(PATIENCE, self.send.clone().ready()).await.expect("in time").expect("a connection");
        ready.send_request(request, end).expect("a valid request")
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        let (response, _) = self.begin(request("GET", path), true).await;
        answer(response).await
    }

    /// A request with a body that is sent at once.
    pub async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Answer {
        let (response, mut stream) = self.begin(request("POST", path), false).await;
        stream.send_data(body.into(), true).expect("an open stream");
        answer(response).await
    }

    /// How the connection ends.
    pub async fn ended(self) -> Result<(), h2::Error> {
        drop(self.send);
        timeout(PATIENCE, self.connection).await.expect("in time").expect("no panic")
    }

    /// Whether the connection has ended.
    pub fn is_ended(&self) -> bool {
        self.connection.is_finished()
    }
}

/// Waits for the whole answer, or for what becomes of it.
pub async fn answer(response: ResponseFuture) -> Answer {
    match timeout(PATIENCE, response).await.expect("an answer in time") {
        Ok(response) => {
            let (head, body) = response.into_parts();
            rest(head, body).await
        }
        Err(error) => Answer { status: StatusCode::IM_A_TEAPOT, reset: Some(reason(&error)), ..Answer::default() },
    }
}

fn reason(error: &h2::Error) -> Reason {
    error.reason().unwrap_or_else(|| panic!("the connection broke: {error}"))
}

/// Reads a body.
pub async fn rest(head: http::response::Parts, mut body: RecvStream) -> Answer {
    let mut answer = Answer { status: head.status, headers: head.headers, ..Answer::default() };
    while let Some(piece) = timeout(PATIENCE, body.data()).await.expect("a body in time") {
        match piece {
            Ok(data) => {
                let _ = body.flow_control().release_capacity(data.len());
                answer.body.extend_from_slice(&data);
            }
            Err(error) => {
                answer.reset = Some(reason(&error));
                return answer;
            }
        }
    }
    match timeout(PATIENCE, body.trailers()).await.expect("trailers in time") {
        Ok(trailers) => answer.trailers = trailers.unwrap_or_default(),
        Err(error) => answer.reset = Some(reason(&error)),
    }
    answer
}

/// A stream as a pair of directions of bytes; its first bytes must be the client's.
pub fn bytewise(mut send: SendStream<Bytes>, mut receive: RecvStream) -> tokio::io::DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut reader, mut writer) = tokio::io::split(far);
    tokio::spawn(async move {
        while let Some(Ok(data)) = receive.data().await {
            let _ = receive.flow_control().release_capacity(data.len());
            if writer.write_all(&data).await.is_err() {
                return;
            }
        }
        let _ = writer.shutdown().await;
    });
    tokio::spawn(async move {
        let mut space = vec![0; 8 * 1024];
        while let Ok(size @ 1..) = reader.read(&mut space).await {
            let mut data = Bytes::copy_from_slice(&space[..size]);
            while !data.is_empty() {
                send.reserve_capacity(data.len());
                let Some(Ok(room)) = poll_fn(|cx| send.poll_capacity(cx)).await else { return };
                let piece = data.split_to(room.min(data.len()));
                if send.send_data(piece, false).is_err() {
                    return;
                }
            }
        }
        let _ = send.send_data(Bytes::new(), true);
    });
    near
}

/// Waits until the proxy resets a stream.
pub async fn reset(stream: &mut SendStream<Bytes>) -> Reason {
    timeout(PATIENCE, poll_fn(|cx| stream.poll_reset(cx))).await.expect("in time").expect("an open connection")
}

/// A client that writes frames itself.
pub struct RawFrames {
    pub stream: TcpStream,
}

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame (RFC 9113 §4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field that is in no table (RFC 7541 §6.2.2), for texts of up to 126 bytes.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0x00, name.len() as u8];
    field.extend(name.as_bytes());
    field.push(value.len() as u8);
    field.extend(value.as_bytes());
    field
}

/// HEADERS of a GET that ends its stream.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    block.extend(field(":path", path));
    block.extend(field(":authority", "app.test"));
    frame(1, 0x5, stream, &block)
}

impl RawFrames {
    /// A connection with the preface and these settings sent.
    pub async fn connect(address: SocketAddr, settings: &[u8]) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let mut this = Self { stream };
        this.send([PREFACE, &frame(4, 0, 0, settings)].concat()).await;
        this
    }

    /// Sends; `false` once the proxy takes nothing more.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        matches!(timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await, Ok(Ok(())))
    }

    /// The next frame: its type, flags, stream and payload; `None` at the end of the connection.
    pub async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        timeout(PATIENCE, self.stream.read_exact(&mut head)).await.expect("a frame in time").ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        timeout(PATIENCE, self.stream.read_exact(&mut payload)).await.expect("a payload in time").ok()?;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], head[4], id, payload))
    }

    /// The code of the GOAWAY that ends the connection; `None` if it just ends.
    pub async fn goodbye(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some((kind, _, _, payload)) = self.frame().await {
            if kind == 7 {
                code = Some(u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]));
            }
        }
        code
    }
}
