//! WebSocket messages for `benches/suite/run`, from and to programs that cost less than the proxies between them:
//!
//! `messages echo PORT` sends every message back; `messages load PORT CONNECTIONS SECONDS` has one on its way on each connection, checks
//! what comes back, and prints how many did.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

const SIZE: u8 = 128;
/// The example of RFC 6455 §1.3: a key and what it asks for.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// How long a proxy may take to say anything.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().map_err(io::Error::other);
    match words[..] {
        ["echo", port] => echo(number(port)?),
        ["load", port, connections, seconds] => {
            let back = load(number(port)?, number(connections)?, Duration::from_secs(number(seconds)?.into()))?;
            println!("{back}");
            Ok(())
        }
        // `cargo bench` runs whatever there is.
        _ => {
            println!("messages: a part of benches/suite/run");
            Ok(())
        }
    }
}

/// A binary message as a client says it, with a mask of zeros, and as it comes back.
fn message() -> (Vec<u8>, Vec<u8>) {
    let payload = [b'x'; SIZE as usize];
    ([&[0x82, 0xFE, 0, SIZE, 0, 0, 0, 0], &payload[..]].concat(), [&[0x82, 0x7E, 0, SIZE], &payload[..]].concat())
}

/// A connection, and what came of a message that is not whole yet.
struct Peer {
    stream: TcpStream,
    came: Vec<u8>,
    open: bool,
}

struct Peers {
    epoll: OwnedFd,
    all: Vec<Option<Peer>>,
}

/// The place of a listener among the peers: none.
const LISTENER: u64 = u64::MAX;

impl Peers {
    fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, all: Vec::new() })
    }

    fn add(&mut self, stream: TcpStream, open: bool) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let place = epoll::EventData::new_u64(self.all.len() as u64);
        epoll::add(&self.epoll, &stream, place, epoll::EventFlags::IN)?;
        self.all.push(Some(Peer { stream, came: Vec::new(), open }));
        Ok(())
    }

    /// Waits for those that have something to read.
    fn wait(&self, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        events.clear();
        let timeout = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn echo(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let mut peers = Peers::new()?;
    epoll::add(&peers.epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let (mut events, (ask, answer)) = (Vec::with_capacity(1024), message());
    let mut space = [0; 4096];
    loop {
        peers.wait(&mut events)?;
        for event in &events {
            if event.data.u64() == LISTENER {
                peers.add(listener.accept()?.0, false)?;
                continue;
            }
            let place = &mut peers.all[usize::try_from(event.data.u64()).expect("a place")];
            let Some(peer) = place else { continue };
            let kept = match peer.stream.read(&mut space) {
                Ok(0) | Err(_) => false,
                Ok(read) => answer_peer(peer, &space[..read], &ask, &answer).is_ok(),
            };
            if !kept {
                *place = None;
            }
        }
    }
}

fn answer_peer(peer: &mut Peer, data: &[u8], ask: &[u8], answer: &[u8]) -> io::Result<()> {
    peer.came.extend_from_slice(data);
    if !peer.open {
        let Some(end) = peer.came.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(()) };
        let head = String::from_utf8_lossy(&peer.came[..end]).to_ascii_lowercase();
        peer.came.drain(..end + 4);
        if !head.contains("upgrade: websocket") {
            // A health check.
            return peer.stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
        peer.open = true;
        let opened = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        );
        return peer.stream.write_all(opened.as_bytes());
    }
    while peer.came.len() >= ask.len() {
        peer.came.drain(..ask.len());
        peer.stream.write_all(answer)?;
    }
    Ok(())
}

fn load(port: u16, connections: u16, time: Duration) -> io::Result<u64> {
    let (ask, answer) = message();
    let mut peers = Peers::new()?;
    for _ in 0..connections {
        peers.add(open(port)?, true)?;
    }
    let (end, mut back) = (Instant::now() + time, 0);
    for peer in peers.all.iter_mut().flatten() {
        peer.stream.write_all(&ask)?;
    }
    let (mut events, mut space) = (Vec::with_capacity(1024), [0; 4096]);
    while Instant::now() < end {
        peers.wait(&mut events)?;
        for event in &events {
            let place = usize::try_from(event.data.u64()).expect("a place");
            let Some(peer) = &mut peers.all[place] else { continue };
            let read = peer.stream.read(&mut space)?;
            peer.came.extend_from_slice(&space[..read]);
            if read == 0 || !answer.starts_with(&peer.came) {
                return Err(io::Error::other("a message did not come back as it was"));
            }
            if peer.came.len() == answer.len() {
                peer.came.clear();
                back += 1;
                peer.stream.write_all(&ask)?;
            }
        }
    }
    Ok(back)
}

fn open(port: u16) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if head.starts_with(b"HTTP/1.1 101 ") {
        Ok(stream)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&head).into_owned()))
    }
}
