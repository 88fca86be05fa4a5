//! How clients come to a worker: its listeners, and who of those that connect may stay.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::Worker;
use crate::pool::{Entrance, SocketId, meters};
use crate::proxy::front::{self, Front};

/// What a client gets whose address has as many connections as it may have.
pub const ADDRESS_LIMIT: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nx-sluice-error: address-limit\r\nretry-after: 1\r\n\
    content-length: 0\r\nconnection: close\r\n\r\n";

impl Worker {
    pub(super) fn listen(
        self: &Rc<Self>,
        id: SocketId,
        socket: std::net::TcpListener,
        entrance: Arc<ArcSwap<Entrance>>,
    ) {
        let stop = Rc::new(Notify::new());
        self.sockets.borrow_mut().insert(id, Rc::clone(&stop));
        let worker = Rc::clone(self);
        tokio::task::spawn_local(async move {
            if let Err(error) = worker.accept(socket, &entrance, &stop).await {
                tracing::error!(%error, "a listener failed");
            }
            worker.sockets.borrow_mut().remove(&id);
        });
    }

    async fn accept(
        self: &Rc<Self>,
        socket: std::net::TcpListener,
        entrance: &ArcSwap<Entrance>,
        stop: &Notify,
    ) -> io::Result<()> {
        let listener = TcpListener::from_std(socket)?;
        loop {
            tokio::select! {
                biased;
                () = stop.notified() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, remote)) => self.admit(stream, remote, entrance),
                    // No descriptors left, or the client is gone already. The first needs a pause, or this spins.
                    Err(error) => {
                        tracing::warn!(%error, "accept failed");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                },
            }
        }
        // What the kernel has queued belongs to clients that think they are connected; closing now would reset them.
        let socket = listener.into_std()?;
        while let Ok((stream, remote)) = socket.accept() {
            stream.set_nonblocking(true)?;
            self.admit(TcpStream::from_std(stream)?, remote, entrance);
        }
        Ok(())
    }

    fn admit(self: &Rc<Self>, stream: TcpStream, remote: SocketAddr, entrance: &ArcSwap<Entrance>) {
        let limit = self.view().edge().limits.connections;
        let refuse = |answer: &[u8]| self.refuse(&stream, entrance.load().is_tls, answer);
        let Some(place) = self.meters.connections.enter(limit) else {
            return refuse(
                b"HTTP/1.1 503 Service Unavailable\r\nx-sluice-error: connection-limit\r\nretry-after: 1\r\n\
                content-length: 0\r\nconnection: close\r\n\r\n",
            );
        };
        let entrance = entrance.load_full();
        let counted = if entrance.is_introduced(remote.ip()) {
            // Whom to count it for, its PROXY header tells.
            None
        } else if let Ok(counted) = self.count_address(remote) {
            counted
        } else {
            return refuse(ADDRESS_LIMIT);
        };
        self.stats.accepted.add_one();
        let served = front::serve(Rc::clone(self), stream, remote, entrance);
        tokio::task::spawn_local(async move {
            served.await;
            drop((place, counted));
        });
    }

    /// Counts a connection from this client, if that is limited. `Err`: it has too many.
    pub fn count_address(&self, remote: SocketAddr) -> Result<Option<meters::Connected>, ()> {
        let view = self.view();
        let edge = view.edge();
        let Some(most) = edge.limits.connections_per_address else {
            return Ok(None);
        };
        let ip = remote.ip().to_canonical();
        if edge.trusted_proxies.iter().any(|net| net.contains(&ip)) {
            return Ok(None);
        }
        self.meters.connect(ip, most).map(Some).ok_or(())
    }

    /// Tells a client that there is no place for it. Best effort: over a limit nobody is waited for, and over TLS this is no answer.
    pub fn refuse(&self, stream: &TcpStream, is_tls: bool, answer: &[u8]) {
        self.stats.refused.add_one();
        if !is_tls {
            let _ = stream.try_write(answer);
        }
    }

    /// Enters a client connection.
    pub fn register(self: &Rc<Self>, front: &Rc<Front>) -> Connected {
        let place = self.fronts.borrow_mut().insert(Rc::clone(front));
        Connected { worker: Rc::clone(self), place }
    }
}

/// A client connection's place in the worker's table.
#[derive(Debug)]
pub struct Connected {
    worker: Rc<Worker>,
    place: usize,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.worker.stats.ended.add_one();
        self.worker.fronts.borrow_mut().try_remove(self.place);
    }
}
