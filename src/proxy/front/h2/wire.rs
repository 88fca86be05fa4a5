//! Frames that are written in one turn of a connection leave together: one system call, and one record of TLS, for all of its
//! small answers.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use crate::net::Stream;
use crate::net::http1::Inbox;

/// Room for what most turns gather: what one record of TLS can hold (RFC 8446 §5.1).
const ROOM: usize = 16 * 1024;
/// What is longer would fill the better part of a record, and is not copied if nothing waits before it.
const LONG: usize = ROOM / 2;
/// Data waits once this much is gathered.
const MOST: usize = 64 * 1024;
/// Answers to frames (of PING, of SETTINGS) that wait for a client that sends and does not take; then it is not read either.
const TOO_MUCH: usize = 2 * MOST;

thread_local! {
    /// Where a worker's connections gather, one after the other: what the client takes at once, which is nearly everything,
    /// is gone at the end of the turn, and an idle connection holds nothing.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A connection's transport, written to by turns.
#[derive(Debug)]
pub struct Wire {
    /// None when the connection is over.
    stream: Option<Stream>,
    /// What was written and not sent yet, and how much of it was sent.
    held: Vec<u8>,
    sent: usize,
}

impl Wire {
    /// Over a stream.
    pub fn new(stream: Stream) -> Self {
        Self { stream: Some(stream), held: Vec::new(), sent: 0 }
    }

    /// Where frames are appended.
    #[inline]
    pub fn back(&mut self) -> &mut Vec<u8> {
        if self.held.capacity() == 0 {
            self.held = SPARE.take();
            self.held.reserve(ROOM);
        }
        &mut self.held
    }

    /// Whether data may be appended.
    pub fn has_room(&self) -> bool {
        self.held.len() - self.sent < MOST
    }

    /// Whether the client takes too little to be read from.
    pub fn is_stuffed(&self) -> bool {
        self.held.len() - self.sent >= TOO_MUCH
    }

    /// Appends a frame of data; a long one is sent at once if nothing waits before it. A failure shows at the end of the turn.
    pub fn put(&mut self, cx: &mut Context<'_>, header: &[u8], data: &[u8]) {
        let mut sent = 0;
        if data.len() > LONG
            && self.held.is_empty()
            && let Some(stream) = &mut self.stream
            && let Poll::Ready(Ok(written)) =
                Pin::new(stream).poll_write_vectored(cx, &[IoSlice::new(header), IoSlice::new(data)])
        {
            sent = written;
        }
        let whole = header.len() + data.len();
        if sent < whole {
            let held = self.back();
            held.extend_from_slice(header.get(sent..).unwrap_or_default());
            held.extend_from_slice(&data[sent.saturating_sub(header.len())..]);
        }
    }

    /// Sends what was gathered. To be called at the end of each turn; `Pending` if the client does not take it all yet.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        while self.sent < self.held.len() {
            let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(cx, &self.held[self.sent..]) else {
                self.compact();
                return Poll::Pending;
            };
            let written = written?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        if self.sent > 0 {
            self.sent = 0;
            self.held.clear();
            let held = std::mem::take(&mut self.held);
            if held.capacity() <= 2 * TOO_MUCH {
                SPARE.set(held);
            }
        }
        // What TLS could not write at once waits there.
        Pin::new(stream).poll_flush(cx)
    }

    /// Lets go of what was sent, once that is half of it: a client for which there is always more than it takes would have all
    /// kept that it ever got. No byte is moved more than once on average.
    fn compact(&mut self) {
        if self.sent > 0 && 2 * self.sent >= self.held.len() {
            self.held.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Reads once. Zero at the end.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, inbox: &mut Inbox) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Some(stream) => inbox.poll_read(cx, stream),
            None => Poll::Ready(Ok(0)),
        }
    }

    /// Says that nothing follows.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Has the connection's end be a reset.
    pub fn reset_at_end(&self) {
        if let Some(stream) = &self.stream {
            stream.reset_at_end();
        }
    }

    /// Closes the connection, whatever waits.
    pub fn close(&mut self) {
        self.stream = None;
        self.held = Vec::new();
        self.sent = 0;
    }
}

#[cfg(test)]
impl Wire {
    /// One whose end nobody has.
    pub fn nowhere() -> Self {
        Self { stream: None, held: Vec::new(), sent: 0 }
    }

    /// All that was written.
    pub fn take_all(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> io::Result<(Wire, TcpStream, std::rc::Rc<crate::net::Pulse>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        let stream = Stream::new(listener.accept().await?.0);
        let pulse = stream.pulse();
        Ok((Wire::new(stream), client, pulse))
    }

    /// Far less finds room in the kernel than waits here, so that it never leaves whole.
    async fn narrow_pair() -> io::Result<(Wire, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let client = tokio::net::TcpSocket::new_v4()?;
        client.set_recv_buffer_size(4096)?;
        let client = client.connect(listener.local_addr()?).await?;
        let accepted = listener.accept().await?.0;
        socket2::SockRef::from(&accepted).set_send_buffer_size(4096)?;
        Ok((Wire::new(Stream::new(accepted)), client))
    }

    async fn put(wire: &mut Wire, header: &[u8], data: &[u8]) {
        poll_fn(|cx| {
            wire.put(cx, header, data);
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_written_leaves_at_the_end_of_the_turn_and_in_order() -> io::Result<()> {
        let (mut wire, mut client, pulse) = pair().await?;
        let mut all = Vec::new();
        for (at, size) in [1, 300, LONG, LONG + 1].into_iter().enumerate() {
            let data = vec![at as u8; size];
            put(&mut wire, b"header", &data).await;
            all.extend([b"header", &data[..]].concat());
        }
        assert_eq!(pulse.written(), 0, "sent before the turn was over");
        poll_fn(|cx| wire.poll_send(cx)).await?;
        assert_eq!((pulse.written(), wire.held.capacity()), (all.len() as u64, 0));
        // Nothing waits before it, and it is long.
        put(&mut wire, b"header", &[9; LONG + 1]).await;
        all.extend([b"header", &[9; LONG + 1][..]].concat());
        assert_eq!((pulse.written(), wire.held.capacity()), (all.len() as u64, 0));
        let mut received = vec![0; all.len()];
        client.read_exact(&mut received).await?;
        assert!(received == all);
        Ok(())
    }

    #[tokio::test]
    async fn what_was_sent_is_not_kept_while_there_is_always_more() -> io::Result<()> {
        let (mut wire, mut client) = narrow_pair().await?;
        let (mut most, mut taken, mut room) = (0, 0, vec![0; 16 * 1024]);
        while taken < 2 * 1024 * 1024 {
            // More is there before all of it was taken.
            while wire.has_room() {
                put(&mut wire, b"12345", &[7; LONG]).await;
            }
            let _ = poll_fn(|cx| Poll::Ready(wire.poll_send(cx))).await;
            most = most.max(wire.held.len());
            taken += client.read(&mut room).await?;
        }
        assert!(most <= 2 * (MOST + LONG + 5), "{most} bytes were kept of {taken}");
        Ok(())
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_holds_back_and_the_end_sends_the_rest() -> io::Result<()> {
        let (mut wire, mut client, _) = pair().await?;
        let (mut given, data) = (0, [7; LONG + 1]);
        while wire.has_room() {
            put(&mut wire, b"12345", &data).await;
            given += 5 + data.len();
            let _ = poll_fn(|cx| Poll::Ready(wire.poll_send(cx))).await;
        }
        assert!(!wire.is_stuffed() && wire.held.len() < MOST + 2 * LONG, "{}", wire.held.len());
        let ended = tokio::join!(poll_fn(|cx| wire.poll_shutdown(cx)), async {
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.map(|_| received.len())
        });
        assert_eq!(ended.1?, given);
        ended.0
    }
}
