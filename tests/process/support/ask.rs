//! Blocking HTTP, byte by byte: so that what is not answered, or not closed, is seen as it is.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request over the admin socket.
pub fn over_unix(socket: &Path, method: &str, path: &str) -> Option<Answer> {
    let stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(WITHIN)).ok()?;
    let mut stream = stream;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").ok()?;
    read(&mut stream).ok()
}

/// One GET on a connection of its own.
pub fn get(address: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
    Client::connect(address)?.get(host, path)
}

/// A connection that is kept.
pub struct Client(pub TcpStream);

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, WITHIN)?;
        stream.set_read_timeout(Some(WITHIN))?;
        Ok(Self(stream))
    }

    pub fn send(&mut self, host: &str, path: &str) -> io::Result<()> {
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
    }

    pub fn answer(&mut self) -> io::Result<Answer> {
        read(&mut self.0)
    }

    pub fn get(&mut self, host: &str, path: &str) -> io::Result<Answer> {
        self.send(host, path)?;
        self.answer()
    }
}

/// Reads one answer with a length.
fn read(stream: &mut impl Read) -> io::Result<Answer> {
    let broken = |what: &str| io::Error::other(what.to_owned());
    let mut bytes = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        let got = stream.read(&mut piece)?;
        if got == 0 {
            return Err(broken("closed before an answer"));
        }
        bytes.extend_from_slice(&piece[..got]);
    };
    let mut body = bytes.split_off(head);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| broken("no status"))?;
    let answer = Answer { status, head, body: Vec::new() };
    let length: usize =
        answer.header("content-length").and_then(|text| text.trim().parse().ok()).ok_or_else(|| broken("no length"))?;
    while body.len() < length {
        let got = stream.read(&mut piece)?;
        if got == 0 {
            return Err(broken("closed in the middle of a body"));
        }
        body.extend_from_slice(&piece[..got]);
    }
    Ok(Answer { body, ..answer })
}
