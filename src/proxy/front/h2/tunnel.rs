//! A stream as the two directions of bytes that a tunnel runs on.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::super::upgrade::Readable;
use super::handle::{Sender, StreamBody};
use super::meter::Meter;

/// Both halves of a stream.
pub struct Bytewise {
    send: Sender,
    /// The connection's: what its client takes is paid for with its window updates.
    meter: Rc<Meter>,
    /// None: the client has ended its half.
    receive: Option<StreamBody>,
    /// What was received and not read yet.
    ahead: Bytes,
}

impl Bytewise {
    /// Over a stream whose head has been sent.
    pub fn new(send: Sender, receive: Option<StreamBody>, meter: Rc<Meter>) -> Self {
        Self { send, meter, receive, ahead: Bytes::new() }
    }
}

impl AsyncRead for Bytewise {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.ahead.is_empty() {
            let Some(body) = &mut self.receive else { return Poll::Ready(Ok(())) };
            match ready!(body.poll_frame(cx)) {
                // Trailers say nothing here.
                Some(Ok(frame)) => self.ahead = frame.into_data().unwrap_or_default(),
                Some(Err(_)) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                None => self.receive = None,
            }
        }
        let size = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..size]);
        self.ahead.advance(size);
        Poll::Ready(Ok(()))
    }
}

// What came of it lies in memory: to read in vain costs little.
impl Readable for Bytewise {
    fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        self.send.poll_gone(cx)
    }
}

impl AsyncWrite for Bytewise {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let sent = ready!(self.send.poll_data(cx, buf, false)).map_err(|_| io::ErrorKind::ConnectionReset)?;
        self.meter.taken(sent, sent == buf.len());
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection writes as soon as it can.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send.send_end().map_err(|_| io::ErrorKind::ConnectionReset.into()))
    }
}
