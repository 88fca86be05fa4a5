//! Connecting to a node.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpStream, ToSocketAddrs};

/// Opens a connection to a node.
///
/// # Errors
/// As the system says. A connection of this machine to itself is refused: while nobody listens on a port, the kernel may
/// give that very port to the connection's own end. It then answers itself: a probe would pass, and the node could not
/// come back, because its port is taken.
pub async fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    not_itself(TcpStream::connect(address).await?)
}

fn not_itself(stream: TcpStream) -> io::Result<TcpStream> {
    if stream.local_addr()? != stream.peer_addr()? {
        return Ok(stream);
    }
    // Ended with a reset, the port is free at once.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Err(io::ErrorKind::ConnectionRefused.into())
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[tokio::test]
    async fn a_connection_to_itself_is_refused_and_leaves_the_port_free() -> io::Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        let own = socket.local_addr()?;
        socket.connect(&own)?;
        socket.set_nonblocking(true)?;
        let refused = not_itself(TcpStream::from_std(socket.into())?);
        assert_eq!(refused.err().map(|error| error.kind()), Some(io::ErrorKind::ConnectionRefused));
        let address = own.as_socket().ok_or(io::ErrorKind::InvalidData)?;
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        assert_eq!(connect(address).await?.peer_addr()?, address);
        Ok(())
    }
}
