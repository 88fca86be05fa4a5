//! Listening sockets: one a worker, all on the same address.
//!
//! The kernel spreads connections over the sockets of one `SO_REUSEPORT` group. The same flag would let a second process
//! of the same user join the group unseen, and take a part of the traffic. So the first socket listens *before* it gets the
//! flag: the kernel then refuses it if anybody else listens there, whatever flags they set, in one atomic step. A probe
//! that binds and lets go would leave a gap.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::pacing;

/// Connections that wait to be accepted, for each worker. The kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Opens one non-blocking listening socket for each of `workers` (at least one) on `address`. With port 0 all of them get
/// the same free port. A socket for an IPv6 address takes no IPv4 connections.
///
/// Connections wait in the sockets' queues from this moment on, so hand the sockets to the workers at once.
///
/// # Errors
/// `AddrInUse` if anybody listens there already, this process included; else what the system says.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    let first = socket(address)?;
    first.bind(&address.into())?;
    first.listen(BACKLOG)?;
    first.set_reuse_port(true)?;
    let first = TcpListener::from(first);
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        let next = socket(address)?;
        next.set_reuse_port(true)?;
        next.bind(&address.into())?;
        next.listen(BACKLOG)?;
        sockets.push(next.into());
    }
    Ok(sockets)
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Else a port whose old connections are in TIME_WAIT could not be opened after a restart.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    pacing::leave_out(&socket, address);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn accepted(socket: &TcpListener) -> usize {
        std::iter::from_fn(|| socket.accept().ok()).count()
    }

    #[test]
    fn every_worker_gets_a_socket_on_the_same_port() -> io::Result<()> {
        let sockets = bind(([127, 0, 0, 1], 0).into(), 4)?;
        let address = sockets[0].local_addr()?;
        assert_eq!(sockets.len(), 4);
        for socket in &sockets {
            assert_eq!(socket.local_addr()?, address);
        }
        let clients = (0..200).map(|_| TcpStream::connect(address)).collect::<io::Result<Vec<_>>>()?;
        let counts: Vec<usize> = sockets.iter().map(accepted).collect();
        assert_eq!(counts.iter().sum::<usize>(), clients.len());
        // 200 fair choices among 4 leave one out once in 10^24.
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        Ok(())
    }

    #[test]
    fn to_a_client_on_this_machine_nothing_is_sent_by_the_clock() -> io::Result<()> {
        for socket in bind(([127, 0, 0, 1], 0).into(), 2)? {
            assert_eq!(rustix::net::sockopt::tcp_congestion(&socket)?, "reno");
        }
        let socket = &bind(([127, 0, 0, 1], 0).into(), 1)?[0];
        let _client = TcpStream::connect(socket.local_addr()?)?;
        // Connected over loopback, it waits in the queue already.
        assert_eq!(rustix::net::sockopt::tcp_congestion(socket.accept()?.0)?, "reno");
        Ok(())
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_refused_even_if_he_shares_it() -> io::Result<()> {
        let plain = TcpListener::bind(("127.0.0.1", 0))?;
        let sharing = socket(([127, 0, 0, 1], 0).into())?;
        sharing.set_reuse_port(true)?;
        sharing.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        sharing.listen(1)?;
        for other in [plain, sharing.into()] {
            let address = other.local_addr()?;
            let refused = bind(address, 2).map(|_| ()).map_err(|error| error.kind());
            assert_eq!(refused, Err(io::ErrorKind::AddrInUse));
        }
        Ok(())
    }

    #[test]
    fn two_groups_never_share_a_port() -> io::Result<()> {
        let first = bind(([127, 0, 0, 1], 0).into(), 2)?;
        let address = first[0].local_addr()?;
        assert!(bind(address, 2).is_err());
        drop(first);
        bind(address, 2).map(|_| ())
    }
}
