//! The one transport type. Everything above reads and writes a [`Stream`] and never learns what is below it, so that TLS
//! or another kernel interface can take its place here.

mod direct;

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

pub use self::direct::Waiting;
use super::tls::session::{self, Counted, Session};
use crate::config::Protocol;

/// How much went over a stream. Counting is all that the request path does for its time limits: a watchdog compares the
/// counts from time to time, so no timer is armed or moved for a request.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Bytes read; written by the stream.
    read: Cell<u64>,
    /// Bytes written; written by the stream.
    written: Cell<u64>,
    /// Whether the last write had to wait; written by the stream.
    blocked: Cell<bool>,
}

impl Pulse {
    /// Bytes read so far.
    pub fn read(&self) -> u64 {
        self.read.get()
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written.get()
    }

    /// Whether the peer has not taken yet what was to be written last.
    pub fn is_blocked(&self) -> bool {
        self.blocked.get()
    }

    /// Changes whenever a byte moved in either direction.
    pub fn beat(&self) -> u64 {
        self.read.get().wrapping_add(self.written.get())
    }

    pub(super) fn count_written(
        &self,
        result: Poll<io::Result<usize>>,
        forgiving: bool,
        all: impl Fn() -> usize,
    ) -> Poll<io::Result<usize>> {
        self.blocked.set(result.is_pending());
        if let Poll::Ready(Err(error)) = &result
            && forgiving
            && matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
        {
            return Poll::Ready(Ok(all()));
        }
        if let Poll::Ready(Ok(written)) = result {
            self.written.set(self.written.get() + written as u64);
        }
        result
    }
}

/// Buffers that are together no longer than this are written as one.
const JOINED: usize = 1024;

/// A connection to a client or to a node.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    pulse: Rc<Pulse>,
    /// What is written to a peer that has closed is dropped without an error.
    forgiving: bool,
}

/// What is below a [`Stream`].
#[derive(Debug)]
enum Socket {
    Plain(TcpStream),
    Tls(Box<Session>),
}

impl Stream {
    /// Wraps a connected socket. Small writes leave at once.
    pub fn new(tcp: TcpStream) -> Self {
        Self::counted_by(tcp, Rc::default())
    }

    /// [`Self::new`], with counts that somebody watches already.
    pub fn counted_by(tcp: TcpStream, pulse: Rc<Pulse>) -> Self {
        // A socket that is gone already will say so at the first read.
        let _ = tcp.set_nodelay(true);
        Self { socket: Socket::Plain(tcp), pulse, forgiving: false }
    }

    /// Wraps a connection whose TLS handshake is done.
    pub(super) fn over_tls(session: impl Into<Session>) -> Self {
        let session = session.into();
        let pulse = Rc::clone(&session.get_ref().0.pulse);
        Self { socket: Socket::Tls(Box::new(session)), pulse, forgiving: false }
    }

    /// Leaves it to the reading side to find that the peer has closed. A peer that answers early and hangs up makes our
    /// next write fail while its answer lies in our buffer; whoever stops at the first error never reads it.
    pub fn forgiving(mut self, forgiving: bool) -> Self {
        self.forgiving = forgiving;
        if let Socket::Tls(session) = &mut self.socket {
            let counted: &mut Counted = match &mut **session {
                TlsStream::Client(stream) => stream.get_mut().0,
                TlsStream::Server(stream) => stream.get_mut().0,
            };
            counted.forgiving = forgiving;
        }
        self
    }

    /// The counts of this stream.
    pub fn pulse(&self) -> Rc<Pulse> {
        Rc::clone(&self.pulse)
    }

    /// Whether there may be something to read: less work than to try. Who waits is woken when there is.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.socket {
            Socket::Plain(tcp) => tcp.poll_read_ready(cx).map(drop),
            // It may hold what it has decrypted already.
            Socket::Tls(_) => Poll::Ready(()),
        }
    }

    /// Looks at the first bytes without taking them; none at the end of the stream, and none of what TLS hides.
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        match &self.socket {
            Socket::Plain(tcp) => tcp.poll_peek(cx, buf),
            Socket::Tls(_) => Poll::Ready(Ok(0)),
        }
    }

    /// Whether the peer has sent nothing that matters and not closed: only then may an idle connection be used again. Takes
    /// no data. One system call.
    pub fn is_quiet(&mut self) -> bool {
        match &mut self.socket {
            Socket::Plain(tcp) => session::is_silent(tcp),
            Socket::Tls(tls) => session::is_quiet(tls),
        }
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        matches!(&self.socket, Socket::Tls(_))
    }

    /// Has its end be a reset, for a peer who would take anything else for the end of what is being said.
    pub fn reset_at_end(&self) {
        let tcp = match &self.socket {
            Socket::Plain(tcp) => tcp,
            Socket::Tls(session) => &session.get_ref().0.tcp,
        };
        // A socket that is gone already is beyond being taken for anything.
        let _ = tcp.set_zero_linger();
    }

    /// What both ends agreed to speak (ALPN, RFC 7301); none without TLS, or if the peer did not take part.
    pub fn protocol(&self) -> Option<Protocol> {
        match &self.socket {
            Socket::Plain(_) => None,
            Socket::Tls(session) => session.get_ref().1.alpn_protocol().and_then(Protocol::from_alpn),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = match &mut self.socket {
            Socket::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Socket::Tls(tls) => Pin::new(&mut **tls).poll_read(cx, buf),
        };
        let read = buf.filled().len() - before;
        if read > 0 {
            self.pulse.read.set(self.pulse.read.get() + read as u64);
        }
        result
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = match &mut self.socket {
            Socket::Plain(tcp) => direct::poll_write(tcp, cx, buf),
            Socket::Tls(tls) => return Pin::new(&mut **tls).poll_write(cx, buf),
        };
        self.pulse.count_written(result, self.forgiving, || buf.len())
    }

    // Head and body leave in one system call; over TLS, in one record.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let tcp = match &mut this.socket {
            Socket::Plain(tcp) => tcp,
            // Joins them in one record.
            Socket::Tls(tls) => return Pin::new(&mut **tls).poll_write_vectored(cx, bufs),
        };
        let total = || bufs.iter().map(|buf| buf.len()).sum();
        // The kernel takes one buffer faster than a list of them, and copying a small answer costs less than the difference.
        let result = match bufs {
            [only] => direct::poll_write(tcp, cx, only),
            _ if total() <= JOINED => {
                let mut joined = [0; JOINED];
                let mut rest = &mut joined[..];
                for buf in bufs {
                    let (head, tail) = rest.split_at_mut(buf.len());
                    head.copy_from_slice(buf);
                    rest = tail;
                }
                direct::poll_write(tcp, cx, &joined[..total()])
            }
            _ => Pin::new(tcp).poll_write_vectored(cx, bufs),
        };
        this.pulse.count_written(result, this.forgiving, total)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Socket::Tls(tls) => Pin::new(&mut **tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Socket::Tls(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A stream and its peer.
    pub async fn pair() -> io::Result<(Stream, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        Ok((Stream::new(listener.accept().await?.0), client))
    }

    #[tokio::test]
    async fn a_stream_writes_vectored_and_counts_what_moves() -> io::Result<()> {
        let (mut stream, mut client) = pair().await?;
        assert!(stream.is_write_vectored() && hyper_util::rt::TokioIo::new(&mut stream).inner().is_write_vectored());
        let pulse = stream.pulse();
        let parts = [IoSlice::new(b"he"), IoSlice::new(b"llo")];
        assert_eq!(stream.write_vectored(&parts).await?, 5);
        let mut five = [0; 5];
        client.read_exact(&mut five).await?;
        client.write_all(b"abc").await?;
        assert_eq!(stream.read(&mut five).await?, 3);
        assert_eq!((pulse.written(), pulse.read(), pulse.beat()), (5, 3, 8));
        Ok(())
    }

    #[tokio::test]
    async fn an_answer_is_read_although_its_sender_hung_up_on_us() -> io::Result<()> {
        for forgiving in [true, false] {
            let (stream, mut peer) = pair().await?;
            let mut stream = stream.forgiving(forgiving);
            stream.write_all(b"unread").await?;
            peer.readable().await?;
            peer.write_all(b"answer").await?;
            // Closed with unread bytes: a reset follows the answer.
            drop(peer);
            let mut written = Ok(());
            for _ in 0..3 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                written = written.and(stream.write_all(b"more").await);
            }
            assert_eq!(written.is_ok(), forgiving, "{written:?}");
            if forgiving {
                let mut answer = [0; 6];
                stream.read_exact(&mut answer).await?;
                assert_eq!(&answer, b"answer");
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn an_idle_stream_tells_data_and_the_end_and_takes_nothing() -> io::Result<()> {
        let (mut stream, mut client) = pair().await?;
        assert!(stream.is_quiet());
        client.write_all(b"x").await?;
        if let Socket::Plain(tcp) = &stream.socket {
            tcp.readable().await?;
        }
        assert!(!stream.is_quiet() && !stream.is_quiet());
        assert_eq!(stream.read_u8().await?, b'x');
        assert!(stream.is_quiet());
        drop(client);
        assert_eq!(stream.read(&mut [0]).await?, 0);
        assert!(!stream.is_quiet());
        Ok(())
    }
}
