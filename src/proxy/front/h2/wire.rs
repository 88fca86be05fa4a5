//! Frames that are written in one turn of a connection leave together.
//!
//! `h2` writes each DATA frame of more than 255 bytes by itself, which is a system call and a record of TLS for every small
//! answer. Here they are gathered, and sent when the turn is over: [`Wire::poll_send`].

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Stream;

/// No more than this is gathered: what one record of TLS can hold (RFC 8446 §5.1).
const MOST: usize = 16 * 1024;
/// What is longer would fill the better part of a record, and is not copied if nothing waits before it.
const LONG: usize = MOST / 2;

thread_local! {
    /// Where a worker's connections gather, one after the other: what the client takes at once, which is nearly everything,
    /// is gone at the end of the turn, and an idle connection holds nothing.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A stream that is written to by turns. `h2` has one end, and the connection, which knows when a turn is over, the other.
#[derive(Clone, Debug)]
pub struct Wire(Rc<RefCell<Gathered>>);

#[derive(Debug)]
struct Gathered {
    stream: Stream,
    /// What was written and not sent yet, and how much of it was sent.
    held: Vec<u8>,
    sent: usize,
}

impl Gathered {
    fn hold(&mut self, bufs: &[IoSlice<'_>]) {
        if self.held.capacity() == 0 {
            self.held = SPARE.take();
            self.held.reserve_exact(MOST);
        }
        for buf in bufs {
            self.held.extend_from_slice(buf);
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.held.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.held[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        if self.sent > 0 {
            self.sent = 0;
            self.held.clear();
            SPARE.set(std::mem::take(&mut self.held));
        }
        Poll::Ready(Ok(()))
    }
}

impl Wire {
    /// Over a stream.
    pub fn new(stream: Stream) -> Self {
        Self(Rc::new(RefCell::new(Gathered { stream, held: Vec::new(), sent: 0 })))
    }

    /// Sends what was gathered. To be called at the end of each turn; `Pending` if the client does not take it all yet.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.borrow_mut();
        ready!(wire.poll_send(cx))?;
        // What TLS could not write at once waits there.
        Pin::new(&mut wire.stream).poll_flush(cx)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.0.borrow_mut();
        let size = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if wire.held.len() + size > MOST {
            ready!(wire.poll_send(cx))?;
        }
        if size > LONG && wire.held.is_empty() {
            return Pin::new(&mut wire.stream).poll_write_vectored(cx, bufs);
        }
        wire.hold(bufs);
        Poll::Ready(Ok(size))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // `h2` flushes after each frame: that is no end of a turn.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.borrow_mut();
        ready!(wire.poll_send(cx))?;
        Pin::new(&mut wire.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> io::Result<(Wire, TcpStream, Rc<crate::net::Pulse>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        let stream = Stream::new(listener.accept().await?.0);
        let pulse = stream.pulse();
        Ok((Wire::new(stream), client, pulse))
    }

    #[tokio::test]
    async fn what_is_written_leaves_at_the_end_of_the_turn_and_in_order() -> io::Result<()> {
        let (mut wire, mut client, pulse) = pair().await?;
        let pieces: Vec<Vec<u8>> = [1, 300, LONG, LONG + 1, 5, MOST, MOST + 1, 2 * MOST, 7]
            .iter()
            .enumerate()
            .map(|(at, size)| vec![at as u8; *size])
            .collect();
        let all = pieces.concat();
        wire.write_all(&pieces[0]).await?;
        wire.write_all(&pieces[1]).await?;
        wire.flush().await?;
        assert_eq!(pulse.written(), 0, "sent before the turn was over");
        poll_fn(|cx| wire.poll_send(cx)).await?;
        assert_eq!(pulse.written(), 301);
        for piece in &pieces[2..] {
            wire.write_all(piece).await?;
        }
        poll_fn(|cx| wire.poll_send(cx)).await?;
        assert_eq!((pulse.written(), wire.0.borrow().held.capacity()), (all.len() as u64, 0));
        let mut received = vec![0; all.len()];
        client.read_exact(&mut received).await?;
        assert!(received == all);
        Ok(())
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_holds_back_and_the_end_sends_the_rest() -> io::Result<()> {
        let (mut wire, mut client, _) = pair().await?;
        let mut given = 0;
        let piece = [7; 1000];
        // Until not even what may be gathered finds a place.
        while poll_fn(|cx| {
            let written = Pin::new(&mut wire).poll_write(cx, &piece);
            Poll::Ready(written.is_ready())
        })
        .await
        {
            given += piece.len();
        }
        let held = wire.0.borrow().held.len();
        assert!(held > 0 && held <= MOST, "{held}");
        let ended = tokio::join!(wire.shutdown(), async {
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.map(|_| received.len())
        });
        assert_eq!(ended.1?, given);
        ended.0
    }
}
