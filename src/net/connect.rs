//! Connecting to a node: TCP, and TLS on it if its address says so.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::pacing;
use super::proxy_header::Introduction;
use super::stream::{Pulse, Stream};
use super::tls::Client;
use super::tls::session::Counted;
use crate::config::Protocol;
use crate::model::NodeAddress;

/// What a connection is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Dial<'a> {
    /// The node.
    pub address: &'a NodeAddress,
    /// How it is spoken to, if its address is `https://`.
    pub tls: Option<&'a Client>,
    /// What is offered in ALPN, most wanted first; [`Stream::protocol`] tells what the node chose. Without TLS, and with an
    /// empty list, nothing is.
    pub offer: &'a [Protocol],
    /// What goes ahead of everything else, if the node wants to know who the client is.
    pub introduce: Option<Introduction>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The node cannot be reached.
    #[error(transparent)]
    Unreachable(#[from] io::Error),
    /// The node was reached, and TLS with it failed: its certificate, a version, a broken connection. What to do is in the text.
    #[error("TLS with the node failed: {0}")]
    Tls(io::Error),
}

/// Opens a connection to a node. Sets no limit of time.
///
/// # Errors
/// As the system or TLS says. A connection of this machine to itself is refused: while nobody listens on a port, the kernel may
/// give that very port to the connection's own end. It then answers itself: a probe would pass, and the node could not
/// come back, because its port is taken.
pub async fn connect(dial: Dial<'_>) -> Result<Stream, ConnectError> {
    let mut tcp = match dial.address.literal() {
        Some(address) => connect_tcp(address).await?,
        None => connect_by_name(dial.address.authority()).await?,
    };
    if let Some(introduction) = dial.introduce {
        tcp.write_all(&introduction.encoded()?).await?;
    }
    if dial.address.is_tls() { Box::pin(handshake(tcp, dial)).await } else { Ok(Stream::new(tcp)) }
}

async fn handshake(tcp: TcpStream, dial: Dial<'_>) -> Result<Stream, ConnectError> {
    let Some(client) = dial.tls else {
        return Err(ConnectError::Tls(io::Error::other("nothing is known of its certificate yet")));
    };
    let _ = tcp.set_nodelay(true);
    let name = match &client.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(dial.address.host().to_owned()).map_err(|error| {
            ConnectError::Tls(io::Error::other(format!(
                "no certificate can prove its host name ({error}): write `server_name` in `[service.NAME.tls]`"
            )))
        })?,
    };
    let counted = Counted { tcp, pulse: Rc::new(Pulse::default()), forgiving: false };
    let offer = dial.offer.iter().map(|protocol| protocol.name().as_bytes().to_vec()).collect();
    let connector = TlsConnector::from(std::sync::Arc::clone(&client.config));
    let session = connector.with_alpn(offer).connect(name, counted).await.map_err(ConnectError::Tls)?;
    Ok(Stream::over_tls(session))
}

/// Tries each address that the name has.
async fn connect_by_name(authority: &str) -> io::Result<TcpStream> {
    let mut last = None;
    for address in lookup_host(authority).await?.collect::<Vec<_>>() {
        match connect_tcp(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("the name has no address")))
}

async fn connect_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    pacing::leave_out(&socket, address);
    not_itself(socket.connect(address).await?)
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
    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[tokio::test]
    async fn to_a_node_on_this_machine_nothing_is_sent_by_the_clock() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let stream = connect_tcp(listener.local_addr()?).await?;
        assert_eq!(rustix::net::sockopt::tcp_congestion(&stream)?, "reno");
        Ok(())
    }

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
        assert_eq!(connect_tcp(address).await?.peer_addr()?, address);
        Ok(())
    }
}
