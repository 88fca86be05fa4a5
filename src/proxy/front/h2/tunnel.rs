//! A stream as the two directions of bytes that a tunnel runs on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::super::upgrade::Readable;

/// Both halves of a stream.
pub struct Bytewise {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// What was received and not read yet.
    ahead: Bytes,
    /// Our end was sent, perhaps behind what the client has not taken yet.
    shut: bool,
}

impl Bytewise {
    /// Over a stream whose head has been sent.
    pub fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Self { send, receive, ahead: Bytes::new(), shut: false }
    }
}

impl AsyncRead for Bytewise {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.ahead.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(data)) => self.ahead = data,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let size = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..size]);
        self.ahead.advance(size);
        // Fails only for a stream that has ended.
        let _ = self.receive.flow_control().release_capacity(size);
        Poll::Ready(Ok(()))
    }
}

// What came of it lies in memory: to read in vain costs little.
impl Readable for Bytewise {}

impl AsyncWrite for Bytewise {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.send.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.send.reserve_capacity(buf.len());
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let size = self.send.capacity().min(buf.len());
        self.send.send_data(Bytes::copy_from_slice(&buf[..size]), false).map_err(io::Error::other)?;
        Poll::Ready(Ok(size))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection writes as soon as it can.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut = true;
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}

impl Drop for Bytewise {
    fn drop(&mut self) {
        // The peer must not wait for more (RFC 8441 §5). A reset drops what is on its way, so there is none behind an end.
        if !self.shut {
            self.send.send_reset(Reason::CANCEL);
        }
    }
}
