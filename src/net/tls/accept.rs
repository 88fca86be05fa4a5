//! A client's handshake, in two parts: its greeting costs nothing, our answer costs a signature.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rustls::HandshakeKind;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::Server;
use super::facts::ClientFacts;
use super::session::Counted;
use crate::net::stream::{Pulse, Stream};

/// `unrecognized_name`, fatal, as a record of its own (RFC 6066 §3, RFC 8446 §6). rustls would say `access_denied`.
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];

/// A client whose handshake is done.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: Stream,
    /// Who it is by its certificate, if nodes shall be told.
    pub facts: Option<ClientFacts>,
    /// Whether it came back to an earlier session.
    pub resumed: bool,
}

impl Server {
    /// A whole handshake over any kind of stream, for a listener that is not the data plane's. Says who the client is, if it showed a
    /// certificate. Sets no limit of time.
    ///
    /// # Errors
    /// What the client did wrong, or how the connection broke.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, ClientFacts)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let session = TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await?;
        let facts = ClientFacts::of(session.get_ref().1.peer_certificates());
        Ok((session, facts))
    }
}

/// A client that has greeted and waits for our answer. Its first poll computes the answer and sends it.
pub struct Greeted {
    handshake: tokio_rustls::Accept<Counted>,
    forwards_client: bool,
}

impl std::fmt::Debug for Greeted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Greeted").finish_non_exhaustive()
    }
}

impl Greeted {
    /// Reads a client's greeting. Sets no limit of time.
    ///
    /// # Errors
    /// What the client did wrong, or how the connection broke. It was told, as far as TLS has a word for it: so also here
    /// if it asks for a name that `server` has no certificate for.
    pub async fn read(server: &Server, tcp: TcpStream, pulse: Rc<Pulse>) -> io::Result<Self> {
        let _ = tcp.set_nodelay(true);
        let counted = Counted { tcp, pulse, forgiving: false };
        let mut hello = LazyConfigAcceptor::new(Acceptor::default(), counted).await?;
        let name = hello.client_hello().server_name().map(str::to_owned);
        if !server.store.serves(name.as_deref()) {
            hello.io.write_all(&UNRECOGNIZED_NAME).await?;
            hello.io.shutdown().await?;
            let name = name.as_deref().unwrap_or("none");
            return Err(io::Error::other(format!("no certificate for the name it asked for: {name}")));
        }
        let handshake = hello.into_stream(Arc::clone(&server.config));
        Ok(Self { handshake, forwards_client: server.forwards_client() })
    }

    /// Answers, and waits for the end of the handshake. Sets no limit of time.
    ///
    /// # Errors
    /// As in [`Self::read`].
    pub async fn answer(self) -> io::Result<Accepted> {
        let session: TlsStream<Counted> = self.handshake.await?;
        let tls = session.get_ref().1;
        let facts = self.forwards_client.then(|| ClientFacts::of(tls.peer_certificates()));
        let resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
        Ok(Accepted { stream: Stream::over_tls(session), facts, resumed })
    }
}
