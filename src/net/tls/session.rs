//! TLS on a socket: what [`Stream`](crate::net::Stream) does with a connection that is not plain.

use std::io::{self, IoSlice, Read};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::net::stream::Pulse;

/// A connection that speaks TLS.
pub(in crate::net) type Session = TlsStream<Counted>;

/// The socket below TLS. What is written is counted here, where it reaches the kernel: TLS takes plain text long before
/// the peer does. What is read is counted above: tickets and alerts are no answer.
#[derive(Debug)]
pub(in crate::net) struct Counted {
    pub(in crate::net) tcp: TcpStream,
    pub(in crate::net) pulse: Rc<Pulse>,
    /// See [`Stream::forgiving`](crate::net::Stream::forgiving).
    pub(in crate::net) forgiving: bool,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.pulse.count_written(result, self.forgiving, || buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.pulse.count_written(result, self.forgiving, || bufs.iter().map(|buf| buf.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Whether a socket has nothing to read and is open. One system call; takes nothing.
pub(in crate::net) fn is_silent(tcp: &TcpStream) -> bool {
    let mut byte = [0u8; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(rustix::net::recv(tcp, &mut byte[..], flags), Err(rustix::io::Errno::AGAIN))
}

/// So many times what waits in the socket is taken for tickets; a peer that sends more has something else to say.
const ROUNDS: usize = 4;

/// Whether the peer has sent nothing that matters and has not closed.
///
/// Bytes alone prove nothing: a server sends session tickets after the handshake whenever it likes, and new keys (RFC 8446
/// §4.6). They are taken in here, tickets kept for the next handshake; what follows is read by whoever uses the connection.
pub(in crate::net) fn is_quiet(session: &mut Session) -> bool {
    let TlsStream::Client(stream) = session else {
        return is_silent(&session.get_ref().0.tcp);
    };
    let (counted, tls) = stream.get_mut();
    for _ in 0..ROUNDS {
        match tls.process_new_packets() {
            Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
            _ => return false,
        }
        if is_silent(&counted.tcp) {
            return true;
        }
        // Zero is the end, without a word.
        if !tls.read_tls(&mut Waiting(&counted.tcp)).is_ok_and(|read| read > 0) {
            return false;
        }
    }
    false
}

/// Reads what waits in a socket, past the runtime's own record of whether there is anything.
struct Waiting<'a>(&'a TcpStream);

impl Read for Waiting<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        rustix::net::recv(self.0, buf, RecvFlags::DONTWAIT).map(|(read, _)| read).map_err(Into::into)
    }
}
