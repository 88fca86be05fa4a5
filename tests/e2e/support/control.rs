//! The control plane's part, played by the test: retire a node, cut work, end the process. And nodes that are worse than
//! a script can say.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use sluicegate::model::{Holder, WorkKind};
use sluicegate::pool::{Command, CutSpec, Node, ShutdownSpec};
use socket2::{Domain, Socket, Type};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::node::{Peer, TestNode};
use super::{PATIENCE, Proxy, app};

/// What each worker will answer.
pub struct Replies(Vec<oneshot::Receiver<Vec<Holder>>>);

impl Replies {
    /// All answers, once the last worker gave its own.
    pub async fn all(self) -> Vec<Holder> {
        let mut all = Vec::new();
        for reply in self.0 {
            all.extend(timeout(PATIENCE, reply).await.expect("an answer in time").expect("an answer"));
        }
        all
    }
}

impl Proxy {
    fn ask(&self, command: impl Fn(oneshot::Sender<Vec<Holder>>) -> Command) -> Replies {
        let ask = |worker| {
            let (sender, receiver) = oneshot::channel();
            assert!(self.pool.tell_one(worker, command(sender)), "worker {worker} is gone");
            receiver
        };
        Replies((0..self.pool.workers()).map(ask).collect())
    }

    /// Ends work at a node, all at once.
    pub fn cut(&self, node: SocketAddr, kind: WorkKind, grace: Duration) -> Replies {
        let node = self.node(node).key;
        self.ask(|reply| Command::Cut(CutSpec { node, kind, spread: Duration::ZERO, grace, reply }))
    }

    /// What is going on at a node.
    pub async fn holders(&self, node: SocketAddr) -> Vec<Holder> {
        let node = self.node(node).key;
        self.ask(|reply| Command::Holders { node, limit: 100, reply }).all().await
    }

    /// Takes a node out as the controller does: first the snapshot, then the gate.
    pub fn retire(&mut self, address: SocketAddr) -> Arc<Node> {
        let node = Arc::clone(self.node(address));
        self.publish(|other| other.as_str() != address.to_string());
        node.close();
        self.pool.tell(|| Command::Refresh);
        node
    }

    /// Has the workers end.
    pub fn shut_down(&self, linger: Duration, deadline: Duration) -> Replies {
        self.ask(|reply| Command::Shutdown(ShutdownSpec { linger, deadline, reply }))
    }
}

/// A port that nobody listens on.
pub fn refused() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("a bound socket")
}

/// A port that answers no connection: its queue is full and nobody accepts.
pub struct BlackHole {
    pub address: SocketAddr,
    _queue: (Socket, Vec<TcpStream>),
}

impl BlackHole {
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        socket.listen(0).expect("a listening socket");
        let address = socket.local_addr().expect("a bound socket").as_socket().expect("an internet address");
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            queue.push(stream);
            assert!(queue.len() < 100, "the queue never fills");
        }
        Self { address, _queue: (socket, queue) }
    }
}

impl TestNode {
    /// Reads each request whole and closes without an answer.
    pub async fn dropping() -> Self {
        Self::start(|mut peer| async move {
            peer.request().await;
        })
        .await
    }

    /// Reads each request and sends these bytes, then closes if `close`.
    pub async fn sending(bytes: impl Into<Vec<u8>>, close: bool) -> Self {
        let bytes: Arc<Vec<u8>> = Arc::new(bytes.into());
        Self::start(move |mut peer| {
            let bytes = Arc::clone(&bytes);
            async move {
                while peer.request().await.is_some() {
                    peer.send(&*bytes).await;
                    if close {
                        return;
                    }
                }
            }
        })
        .await
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.connections.load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl Peer {
    /// Ends the connection with a reset.
    pub fn reset(self) {
        let socket = self.stream.into_std().expect("a socket");
        Socket::from(socket).set_linger(Some(Duration::ZERO)).expect("a socket option");
    }
}

/// A data plane with one worker over these nodes.
pub fn single(nodes: &[SocketAddr], more: &str) -> Proxy {
    Proxy::with_workers(&app(nodes, more), 1)
}
