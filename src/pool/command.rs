//! What the control plane may ask of a worker.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::Entrance;
use crate::model::{Holder, WorkKind};

/// Which listening socket; the controller numbers them.
pub type SocketId = u64;

/// A command; each worker carries it out for its own part.
#[derive(Debug)]
pub enum Command {
    /// A new snapshot is there: let go of idle connections to closed nodes.
    Refresh,
    /// Accept on this socket too. It is this worker's own, bound with `SO_REUSEPORT`, non-blocking.
    Listen {
        /// Its number.
        id: SocketId,
        /// The socket.
        socket: TcpListener,
        /// What becomes of its connections; swapped when the listener's settings change.
        entrance: Arc<ArcSwap<Entrance>>,
    },
    /// Accept what waits in this socket's queue, then close it. Connections already accepted live on.
    Unlisten {
        /// Its number.
        id: SocketId,
    },
    /// Tell what is going on at a node, oldest first.
    Holders {
        /// [`super::Node::key`].
        node: u64,
        /// At most this many.
        limit: usize,
        /// The answer.
        reply: oneshot::Sender<Vec<Holder>>,
    },
    /// End work at a closed node.
    Cut(CutSpec),
    /// Let clients go, then end. The reply comes when the last connection is closed.
    Shutdown(ShutdownSpec),
}

/// Which work to end, and how.
#[derive(Debug)]
pub struct CutSpec {
    /// [`super::Node::key`].
    pub node: u64,
    /// Only work of this kind.
    pub kind: WorkKind,
    /// Each piece is ended at a random moment within this.
    pub spread: Duration,
    /// A piece that cannot be ended at a clean border (a message, an event) is cut this long after its moment.
    pub grace: Duration,
    /// What was ended, told when the last of it has ended.
    pub reply: oneshot::Sender<Vec<Holder>>,
}

/// Why work is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// The drain deadline of its node.
    Drain,
    /// The process ends.
    Shutdown,
    /// The time that its client gave it (gRPC).
    Deadline,
}

/// How a worker ends.
#[derive(Debug)]
pub struct ShutdownSpec {
    /// An idle client connection is still served this long, and closed after its next response or then.
    pub linger: Duration,
    /// What is still running after this long is cut.
    pub deadline: Duration,
    /// What was cut.
    pub reply: oneshot::Sender<Vec<Holder>>,
}
