//! A stream that both hyper and tungstenite can use, and that can be told to end with a reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::ReadBufCursor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes taken from the socket at once. They pass through the stack, because hyper's own buffer can only be filled
/// in place with unsafe code, and a test load does not need that.
const READ: usize = 8 * 1024;

/// When, and what.
type Last<S> = (Arc<AtomicBool>, fn(&S));

/// The stream.
#[derive(Debug)]
pub(super) struct Io<S = TcpStream> {
    stream: S,
    /// What to do with the socket before it is closed, if the flag (set by the origin's handle) says so.
    last: Option<Last<S>>,
}

impl<S> Io<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, last: None }
    }
}

impl Io<TcpStream> {
    /// A TCP connection that does not hold back small answers until the one before is acknowledged.
    pub(super) fn tcp(stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        Self::new(stream)
    }

    /// One that ends with a reset if `reset` is set by then.
    pub(super) fn resettable(stream: TcpStream, reset: Arc<AtomicBool>) -> Self {
        let mut io = Self::tcp(stream);
        io.last = Some((reset, |stream| {
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }));
        io
    }
}

impl<S> Drop for Io<S> {
    fn drop(&mut self) {
        if let Some((reset, last)) = &self.last
            && reset.load(Ordering::Acquire)
        {
            last(&self.stream);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Io<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Io<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> hyper::rt::Read for Io<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; READ];
        let room = cursor.remaining().min(READ);
        let mut buffer = ReadBuf::new(&mut bytes[..room]);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        cursor.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for Io<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(self, context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(self, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(self, context)
    }
}
