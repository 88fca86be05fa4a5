//! Waits until a closed node holds no work, and ends what outlives its deadline.
//!
//! Each kind of work has its own deadline. Requests are cut at theirs; streams and WebSockets are ended one by one over the last
//! `spread` of their time, so that their clients do not all come back in the same moment.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::error;

use crate::config;
use crate::model::{Holder, WorkKind};
use crate::pool::{Command, CutSpec, Node, Pool};

/// A stream or WebSocket that finds no clean border (an event's end, a message's end) is cut this long after its moment.
const GRACE: Duration = Duration::from_secs(2);

/// The last look comes this long after the grace of the last cut, so as not to cut what is just being ended.
const SWEEP: Duration = Duration::from_millis(500);

/// After everything was cut a node is empty at once. This is how long we look for what should not be there.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// How long a worker may take to say what it cut, once the node is empty.
const REPORT_WAIT: Duration = Duration::from_secs(1);

/// Which work is ended when, counted from the start of the drain, in the order of time.
fn stages(limits: &config::Drain) -> Vec<(Duration, WorkKind, Duration)> {
    let early = |limit: Duration| {
        let spread = limits.spread.min(limit);
        (limit.saturating_sub(spread), spread)
    };
    let (streams, stream_spread) = early(limits.streams);
    let (sockets, socket_spread) = early(limits.websockets);
    // A request that was waiting for its response when the others of its new kind were ended is found by the last four.
    let end = limits.requests.max(limits.streams).max(limits.websockets) + GRACE + SWEEP;
    let mut stages = vec![
        (limits.requests, WorkKind::Request, Duration::ZERO),
        (streams, WorkKind::Stream, stream_spread),
        (sockets, WorkKind::WebSocket, socket_spread),
        (sockets, WorkKind::Tunnel, socket_spread),
        (end, WorkKind::Request, Duration::ZERO),
        (end, WorkKind::Stream, Duration::ZERO),
        (end, WorkKind::WebSocket, Duration::ZERO),
        (end, WorkKind::Tunnel, Duration::ZERO),
    ];
    stages.sort_by_key(|(at, ..)| *at);
    stages
}

/// Waits until `node`, which is closed and in no snapshot, is vacant. What was cut on the way is returned.
///
/// Always ends: at the latest some seconds after the last deadline, with an error in the log if work is left even then.
pub(super) async fn drain(pool: &Pool, node: &Node, limits: &config::Drain) -> Vec<Holder> {
    let start = Instant::now();
    let mut replies = Vec::new();
    for (after, kind, spread) in stages(limits) {
        if node.vacant((start + after).into_std()).await {
            return gather(replies).await;
        }
        replies.extend(cut(pool, node.key, kind, spread));
    }
    if !node.vacant((Instant::now() + LAST_WAIT).into_std()).await {
        error!(
            node = %node.id,
            left = node.inflight(),
            "work is left on a node after all of it was cut; the node is called drained nevertheless"
        );
    }
    gather(replies).await
}

fn cut(
    pool: &Pool,
    node: u64,
    kind: WorkKind,
    spread: Duration,
) -> impl Iterator<Item = oneshot::Receiver<Vec<Holder>>> {
    (0..pool.workers()).filter_map(move |worker| {
        let (reply, answer) = oneshot::channel();
        let spec = CutSpec { node, kind, spread, grace: GRACE, reply };
        pool.tell_one(worker, Command::Cut(spec)).then_some(answer)
    })
}

async fn gather(replies: Vec<oneshot::Receiver<Vec<Holder>>>) -> Vec<Holder> {
    let end = Instant::now() + REPORT_WAIT;
    let answers = replies.into_iter().map(|answer| timeout_at(end, answer));
    let mut cut: Vec<Holder> = join_all(answers).await.into_iter().flatten().flatten().flatten().collect();
    cut.sort_by_key(|holder| std::cmp::Reverse(holder.age_ms));
    cut
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::NodeId;

    fn limits() -> config::Drain {
        config::Drain {
            requests: Duration::from_secs(30),
            streams: Duration::from_mins(5),
            websockets: Duration::from_mins(10),
            spread: Duration::from_secs(20),
        }
    }

    fn node() -> Arc<Node> {
        let id = NodeId { service: "shop".into(), version: "v1".into(), address: "127.0.0.1:1".into() };
        Node::new(id, 1)
    }

    fn holder(kind: WorkKind) -> Holder {
        Holder { kind, method: "GET".into(), path: "/".into(), client: "127.0.0.1:9".into(), age_ms: 1 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_without_work_is_drained_at_once() {
        let (pool, mut workers) = Pool::new(1);
        let node = node();
        node.close();
        let start = Instant::now();
        assert!(drain(&pool, &node, &limits()).await.is_empty());
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(workers[0].commands.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_in_time_is_waited_for_and_not_cut() {
        let (pool, mut workers) = Pool::new(1);
        let node = node();
        assert!(node.claim(0));
        node.close();
        let start = Instant::now();
        let release = async {
            tokio::time::sleep(Duration::from_secs(29)).await;
            node.release(0);
        };
        let limits = limits();
        let (cut, ()) = tokio::join!(drain(&pool, &node, &limits), release);
        assert!(cut.is_empty());
        assert_eq!(start.elapsed().as_secs(), 29);
        assert!(workers[0].commands.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_is_cut_at_its_own_deadline() {
        let (pool, mut workers) = Pool::new(1);
        let node = node();
        for _ in 0..3 {
            assert!(node.claim(0));
        }
        node.close();
        let start = Instant::now();
        let mut told = Vec::new();
        let worker = async {
            while let Some(command) = workers[0].commands.recv().await {
                let Command::Cut(spec) = command else {
                    continue;
                };
                told.push((start.elapsed().as_secs(), spec.kind, spec.spread.as_secs()));
                tokio::time::sleep(spec.spread).await;
                if spec.kind != WorkKind::Tunnel {
                    node.release(0);
                    let _ = spec.reply.send(vec![holder(spec.kind)]);
                }
                if node.inflight() == 0 {
                    break;
                }
            }
            // What came in the same moment is not carried out any more.
            while workers[0].commands.try_recv().is_ok() {}
        };
        let limits = limits();
        let (cut, ()) = tokio::join!(drain(&pool, &node, &limits), worker);
        assert_eq!(told, [(30, WorkKind::Request, 0), (280, WorkKind::Stream, 20), (580, WorkKind::WebSocket, 20),]);
        assert_eq!(cut.len(), 3);
        assert_eq!(start.elapsed().as_secs(), 600);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_cuts_nothing_cannot_hold_a_drain_for_ever() {
        let (pool, _workers) = Pool::new(1);
        let node = node();
        assert!(node.claim(0));
        node.close();
        let start = Instant::now();
        assert!(drain(&pool, &node, &limits()).await.is_empty());
        assert!(start.elapsed() < Duration::from_secs(610), "{:?}", start.elapsed());
    }
}
