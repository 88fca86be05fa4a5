//! Reading and writing where each instruction counts: of the runtime only what it knows of the socket is asked, and the
//! system call is made here.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop;

use super::{Session, Socket, Stream};

/// So much is sent without asking whether there is room.
const LITTLE: usize = 4096;

/// What a reader remembers, so that a task that waits for several things enters itself anew only where it was woken from. Good for
/// one task: who is polled by another begins with a new one.
#[derive(Debug, Default)]
pub struct Waiting {
    entered: bool,
}

impl Waiting {
    /// Whether the task will be woken when there is something to read.
    #[inline]
    pub fn is_entered(&self) -> bool {
        self.entered
    }

    /// Enters the task with a socket.
    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>, tcp: &TcpStream) -> Poll<io::Result<()>> {
        let readable = tcp.poll_read_ready(cx);
        // A task that had its turn is woken at once instead, and is entered nowhere.
        self.entered = readable.is_pending() && coop::has_budget_remaining();
        readable
    }
}

impl Stream {
    /// Whether a read may find something. No system call, and nobody is entered.
    #[inline]
    pub fn is_readable(&self) -> bool {
        match &self.socket {
            Socket::Plain(tcp) => tcp.try_io(Interest::READABLE, || Ok(())).is_ok(),
            // It may hold what it has decrypted already.
            Socket::Tls(_) => true,
        }
    }

    /// Reads once; zero at the end. Nobody else reads while `waiting` is in use, which tells afterwards whether there was more.
    /// Takes no part in the runtime's budget: who reads in a loop has to end it.
    #[inline]
    pub fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        waiting: &mut Waiting,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(match &mut self.socket {
            Socket::Plain(tcp) => poll_recv(tcp, cx, waiting, space),
            Socket::Tls(tls) => poll_decrypt(tls, cx, waiting, space),
        })?;
        self.pulse.read.set(self.pulse.read.get() + read as u64);
        Poll::Ready(Ok(read))
    }

    /// Reads once to the end of `bytes`, into the room that is there; zero at the end of the stream.
    pub fn poll_append(&mut self, cx: &mut Context<'_>, bytes: &mut BytesMut) -> Poll<io::Result<usize>> {
        let Socket::Plain(tcp) = &self.socket else {
            // Made, polled and dropped: it holds nothing between two polls.
            return pin!(self.read_buf(bytes)).poll(cx);
        };
        let turn = ready!(coop::poll_proceed(cx));
        let room = bytes.capacity() - bytes.len();
        let read = loop {
            let tried = attempt(tcp, Interest::READABLE, room, || {
                // Only when there is nothing is it the runtime's own error, which has no number.
                tcp.try_read_buf(bytes).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))
            });
            match tried {
                Poll::Ready(result) => break result?,
                Poll::Pending => ready!(tcp.poll_read_ready(cx))?,
            }
        };
        turn.made_progress();
        self.pulse.read.set(self.pulse.read.get() + read as u64);
        Poll::Ready(Ok(read))
    }

    /// Writes what is taken at once, by somebody whom nothing has kept waiting. As little as [`Self::poll_take`] does it look at the budget.
    #[inline]
    pub fn poll_give(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        // There is room for a little, nearly always, whatever the runtime knows; it is asked if there is none.
        if data.len() <= LITTLE
            && let Socket::Plain(tcp) = &self.socket
            && let Ok(written) = send(tcp, data)
        {
            return self.pulse.count_written(Poll::Ready(Ok(written)), self.forgiving, || data.len());
        }
        self.poll_give_asking(cx, data)
    }

    fn poll_give_asking(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let result = match &mut self.socket {
            Socket::Plain(tcp) => poll_send(tcp, cx, data),
            Socket::Tls(tls) => return Pin::new(&mut **tls).poll_write(cx, data),
        };
        self.pulse.count_written(result, self.forgiving, || data.len())
    }
}

fn poll_decrypt(
    tls: &mut Session,
    cx: &mut Context<'_>,
    waiting: &mut Waiting,
    space: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut space = ReadBuf::new(space);
    let result = Pin::new(tls).poll_read(cx, &mut space);
    waiting.entered = result.is_pending() && coop::has_budget_remaining();
    ready!(result)?;
    Poll::Ready(Ok(space.filled().len()))
}

// In one piece with the runtime's part, which is inlined only where there is one caller.
#[inline(never)]
fn poll_recv(
    tcp: &TcpStream,
    cx: &mut Context<'_>,
    waiting: &mut Waiting,
    space: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        let size = space.len();
        let tried = attempt(tcp, Interest::READABLE, size, || {
            // Whoever was entered has been woken.
            waiting.entered = false;
            rustix::net::recv(tcp, &mut *space, RecvFlags::empty()).map(|(read, _)| read)
        });
        match tried {
            Poll::Ready(Ok(read)) => {
                if is_last(read, size) {
                    // Nothing can have come since; if it had, the next read would tell.
                    let _ = waiting.poll(cx, tcp);
                }
                return Poll::Ready(Ok(read));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            Poll::Pending if waiting.is_entered() => return Poll::Pending,
            Poll::Pending => ready!(waiting.poll(cx, tcp))?,
        }
    }
}

/// Writes what the socket takes at once, if it is this task's turn.
pub(super) fn poll_write(tcp: &TcpStream, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
    let turn = ready!(coop::poll_proceed(cx));
    let result = ready!(poll_send(tcp, cx, data));
    turn.made_progress();
    Poll::Ready(result)
}

fn poll_send(tcp: &TcpStream, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        match attempt(tcp, Interest::WRITABLE, data.len(), || send(tcp, data)) {
            Poll::Ready(result) => return Poll::Ready(result.map_err(Into::into)),
            Poll::Pending => ready!(tcp.poll_write_ready(cx))?,
        }
    }
}

#[inline]
fn send(tcp: &TcpStream, data: &[u8]) -> Result<usize, Errno> {
    rustix::net::send(tcp, data, SendFlags::NOSIGNAL)
}

/// Moves bytes unless the runtime knows that none can be moved. `Pending` if so, or if the kernel says so: the runtime was told then,
/// and also when the last byte was moved that can be for now.
#[inline]
fn attempt(
    tcp: &TcpStream,
    interest: Interest,
    size: usize,
    call: impl FnOnce() -> Result<usize, Errno>,
) -> Poll<Result<usize, Errno>> {
    let mut tried = Poll::Pending;
    // Fails where the runtime knows better, or shall know now.
    let _ = tcp.try_io(interest, || {
        let result = call();
        if result != Err(Errno::AGAIN) {
            tried = Poll::Ready(result);
        }
        match result {
            Ok(moved) if !is_last(moved, size) => Ok(()),
            Ok(_) | Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
            Err(_) => Ok(()),
        }
    });
    tried
}

/// Fewer than there is room for: the socket is empty, or full, and the next event will tell of a change.
#[inline]
fn is_last(moved: usize, size: usize) -> bool {
    moved > 0 && moved < size
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::net::pair;

    async fn take(stream: &mut Stream, waiting: &mut Waiting, space: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| stream.poll_take(cx, waiting, space)).await
    }

    #[tokio::test]
    async fn who_has_read_all_is_woken_for_more_without_having_asked_again() -> io::Result<()> {
        let (mut stream, mut client) = pair().await?;
        let (mut waiting, mut space) = (Waiting::default(), [0; 64]);
        for round in 1..=20 {
            client.write_all(&[round; 40]).await?;
            assert_eq!(take(&mut stream, &mut waiting, &mut space).await?, 40);
            assert_eq!(space[..40], [round; 40]);
            poll_fn(|cx| {
                assert!(waiting.is_entered() && !stream.is_readable());
                assert!(stream.poll_take(cx, &mut waiting, &mut space).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        assert_eq!(stream.pulse().read(), 800);
        drop(client);
        assert_eq!(take(&mut stream, &mut waiting, &mut space).await?, 0);
        Ok(())
    }

    #[tokio::test]
    async fn what_does_not_fit_is_read_next_and_the_end_behind_it() -> io::Result<()> {
        let (mut stream, mut client) = pair().await?;
        client.write_all(&[7; 100]).await?;
        client.shutdown().await?;
        let (mut waiting, mut space, mut sizes) = (Waiting::default(), [0; 64], Vec::new());
        loop {
            match take(&mut stream, &mut waiting, &mut space).await? {
                0 => break,
                read => sizes.push(read),
            }
        }
        assert_eq!(sizes, [64, 36]);
        Ok(())
    }

    #[tokio::test]
    async fn a_task_that_had_its_turn_is_entered_when_it_comes_again() -> io::Result<()> {
        let (mut stream, mut client) = pair().await?;
        let (mut waiting, mut space) = (Waiting::default(), [0; 64]);
        client.write_all(b"first").await?;
        assert_eq!(take(&mut stream, &mut waiting, &mut space).await?, 5);
        waiting = Waiting::default();
        let mut looks = 0;
        poll_fn(|cx| {
            looks += 1;
            if looks == 1 {
                while let Poll::Ready(spent) = coop::poll_proceed(cx) {
                    spent.made_progress();
                }
            }
            assert!(stream.poll_take(cx, &mut waiting, &mut space).is_pending());
            assert_eq!(waiting.is_entered(), looks == 2);
            if looks == 2 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        client.write_all(b"second").await?;
        assert_eq!(take(&mut stream, &mut waiting, &mut space).await?, 6);
        Ok(())
    }

    #[tokio::test]
    async fn a_full_socket_is_waited_for_and_nothing_is_lost() -> io::Result<()> {
        const ALL: usize = 16 << 20;
        let (mut stream, mut client) = pair().await?;
        let pulse = stream.pulse();
        let sender = async {
            let (data, mut sent) = (vec![5; 100_000], 0);
            while sent < ALL {
                let piece = &data[..data.len().min(ALL - sent)];
                sent += poll_fn(|cx| stream.poll_give(cx, piece)).await?;
            }
            drop(stream);
            Ok::<_, io::Error>(())
        };
        let reader = async {
            // It begins when the other one cannot go on.
            while !pulse.is_blocked() {
                tokio::task::yield_now().await;
            }
            let mut all = Vec::new();
            client.read_to_end(&mut all).await?;
            Ok::<_, io::Error>(all.len())
        };
        let (sent, read) = tokio::join!(sender, reader);
        sent?;
        assert_eq!((read?, pulse.written()), (ALL, ALL as u64));
        Ok(())
    }
}
