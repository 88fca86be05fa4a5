//! From `accept` to the first request: the PROXY header, then the TLS handshake.
//!
//! A handshake costs a signature, which is as much as ten requests. So a worker computes one in each round of its loop: of
//! a burst of new clients each waits its turn, and those who are served meanwhile do not notice. Who has our answer and
//! stays silent holds memory only, and the oldest of too many makes room.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::front::Front;
use super::worker::{ADDRESS_LIMIT, Worker};
use crate::net::tls::{Accepted, Greeted, Server};
use crate::net::{Stream, proxy_header};

/// What is read and dropped of a client that speaks plain HTTP where HTTPS is spoken, so that it sees the answer.
const LINGER_BYTES: usize = 64 * 1024;

/// A worker's handshakes.
#[derive(Debug)]
pub struct Handshakes {
    /// Whose turn it is to be computed.
    turn: Semaphore,
    /// Those that were answered and have not ended, in that order.
    awaited: RefCell<BTreeMap<u64, Weak<Front>>>,
    /// Numbers them.
    next: Cell<u64>,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), awaited: RefCell::default(), next: Cell::new(0) }
    }
}

/// A place among those that are awaited.
struct Place<'a>(&'a Handshakes, u64);

impl Handshakes {
    fn enter(&self, front: &Rc<Front>, most: usize) -> Place<'_> {
        let number = self.next.replace(self.next.get() + 1);
        let mut awaited = self.awaited.borrow_mut();
        if awaited.len() >= most
            && let Some((_, oldest)) = awaited.pop_first()
            && let Some(oldest) = oldest.upgrade()
        {
            oldest.kill();
        }
        awaited.insert(number, Rc::downgrade(front));
        Place(self, number)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.awaited.borrow_mut().remove(&self.1);
    }
}

/// Brings a connection to its first request. `None` if it ended on the way; that is counted and told.
pub async fn open(worker: &Worker, front: &Rc<Front>, tcp: TcpStream) -> Option<Stream> {
    let mut work = pin!(prepare(worker, front, tcp));
    let opened = poll_fn(|cx| match front.poll_killed(cx.waker()) {
        Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        Poll::Pending => work.as_mut().poll(cx),
    });
    match opened.await {
        Ok(stream) => stream,
        Err(error) => {
            worker.stats().handshakes_failed.add_one();
            let listener = &front.entrance().name;
            tracing::debug!(client = %front.remote(), listener, %error, "no connection came about");
            None
        }
    }
}

async fn prepare(worker: &Worker, front: &Rc<Front>, mut tcp: TcpStream) -> io::Result<Option<Stream>> {
    let entrance = front.entrance();
    let peer = front.remote().ip();
    if entrance.is_introduced(peer)
        && let Some(client) = proxy_header::read(&mut tcp).await?
    {
        front.introduce(client);
        match worker.count_address(client) {
            Ok(Some(counted)) => front.keep_counted(counted),
            Ok(None) => {}
            Err(()) => {
                worker.refuse(&tcp, entrance.is_tls, ADDRESS_LIMIT);
                return Ok(None);
            }
        }
    }
    let server = match &entrance.tls {
        Some(server) => server,
        None if entrance.is_tls => return Err(io::Error::other("there is no certificate to show")),
        None => return Ok(Some(Stream::counted_by(tcp, Rc::clone(&front.pulse)))),
    };
    let mut first = [0];
    match tcp.peek(&mut first).await? {
        // It only looked whether somebody listens.
        0 => return Ok(None),
        _ if first[0].is_ascii_uppercase() => {
            explain(tcp).await?;
            return Err(io::Error::other("it speaks plain HTTP, and this port speaks HTTPS"));
        }
        _ => {}
    }
    let Accepted { stream, facts, resumed } = handshake(worker, front, server, tcp).await?;
    front.secured(facts);
    worker.stats().handshakes.add_one();
    if resumed {
        worker.stats().handshakes_resumed.add_one();
    }
    Ok(Some(stream))
}

async fn handshake(worker: &Worker, front: &Rc<Front>, server: &Server, tcp: TcpStream) -> io::Result<Accepted> {
    let handshakes = worker.handshakes();
    let greeted = Greeted::read(server, tcp, Rc::clone(&front.pulse)).await?;
    let turn = handshakes.turn.acquire().await.map_err(io::Error::other)?;
    let most = worker.part_of(worker.view().edge().limits.handshakes);
    let _place = handshakes.enter(front, most);
    let mut answer = pin!(greeted.answer());
    let first = poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await;
    if let Poll::Ready(accepted) = first {
        return accepted;
    }
    // Comes back when everybody else had a turn in the worker's loop.
    tokio::task::yield_now().await;
    drop(turn);
    answer.await
}

/// Tells a client that speaks plain HTTP what is wrong.
async fn explain(mut tcp: TcpStream) -> io::Result<()> {
    const TEXT: &str = "This port speaks HTTPS: write https:// before the address.\n";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nx-sluice-error: plain-http\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{TEXT}",
        TEXT.len()
    );
    tcp.write_all(answer.as_bytes()).await?;
    tcp.shutdown().await?;
    // To close on unread bytes is to reset the connection, which can destroy the answer.
    let (mut space, mut dropped) = ([0; 4096], 0);
    while dropped < LINGER_BYTES {
        match tcp.read(&mut space).await? {
            0 => break,
            read => dropped += read,
        }
    }
    Ok(())
}
