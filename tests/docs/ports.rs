//! Documentation names ports; tests must not. So each page gets its own, in what it says and in the files it uses.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};

/// The ports that pages name.
const NAMED: [u16; 14] = [8080, 8443, 9901, 5001, 5002, 5003, 5004, 5005, 5006, 5011, 5012, 8000, 8081, 9100];

/// Other numbers in their places.
pub struct Ports {
    others: Vec<(u16, u16)>,
    _kept: Vec<OwnedFd>,
}

impl Ports {
    /// Ports that are free, and kept for this page until it has ended: nobody gets one by chance, be it another page or a connection.
    pub fn free() -> Self {
        let kept: Vec<OwnedFd> = NAMED.iter().map(|_| keep(0).expect("a free port")).collect();
        let others = NAMED.into_iter().zip(kept.iter().map(port)).collect();
        Self { others, _kept: kept }
    }

    /// The port in the place of the named one.
    pub fn of(&self, named: u16) -> u16 {
        self.others.iter().find(|(from, _)| *from == named).expect("a port that pages name").1
    }

    /// The text with every named port replaced.
    pub fn replace(&self, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
            let (before, from) = rest.split_at(start);
            let end = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
            let (digits, after) = from.split_at(end);
            replaced.push_str(before);
            let other =
                digits.parse::<u16>().ok().and_then(|port| self.others.iter().find(|(named, _)| *named == port));
            match other {
                Some((_, port)) => replaced.push_str(&port.to_string()),
                None => replaced.push_str(digits),
            }
            rest = after;
        }
        replaced.push_str(rest);
        replaced
    }
}

/// Neighbours, for those who look for free ports by counting on from the first; kept as those of a page.
pub fn row(length: u16) -> (u16, Vec<OwnedFd>) {
    loop {
        let first = fastrand::u16(15_000..32_000);
        if let Ok(kept) = (first..first + length).map(keep).collect() {
            return (first, kept);
        }
    }
}

/// Binds a port (0: any that is free) and does not listen. Whoever names it may listen there, as servers do, with `SO_REUSEADDR`;
/// the system itself gives it to nobody.
fn keep(port: u16) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    // Only now: before, it could have been a port that somebody else keeps.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}

fn port(socket: &OwnedFd) -> u16 {
    SocketAddr::try_from(getsockname(socket).expect("its address")).expect("an IP address").port()
}

#[test]
fn only_whole_numbers_are_replaced() {
    let ports = Ports { others: vec![(5001, 20_000), (8080, 30_000)], _kept: Vec::new() };
    assert_eq!(ports.replace("127.0.0.1:5001 5001x 15001 8080"), "127.0.0.1:20000 20000x 15001 30000");
}

#[test]
fn a_port_of_a_page_is_open_to_who_names_it_and_given_to_nobody_else() {
    let pages: Vec<Ports> = (0..20).map(|_| Ports::free()).collect();
    let mut given: Vec<u16> = pages.iter().flat_map(|page| page.others.iter().map(|(_, port)| *port)).collect();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), pages.len() * NAMED.len());
    for _ in 0..2 {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, pages[0].of(8080))).expect("a server starts");
        let client = std::net::TcpStream::connect(listener.local_addr().expect("its address")).expect("it is reached");
        assert!(!given.contains(&client.local_addr().expect("an address").port()));
    }
}
