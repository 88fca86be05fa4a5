//! One node's probes, for as long as the node is a member of its service.
//!
//! Verdicts reach the loop through a [`Mailbox`] that holds the newest one of each node: it is bounded by the number of nodes, and
//! no verdict is lost however slow the loop is.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tracing::error;

use super::health::{Target, watch_node};
use super::words;
use crate::api::ProbeReport;
use crate::config;
use crate::model::ServiceName;
use crate::pool::{Hold, Node};
use crate::rollout::NodeRef;

/// After a prober broke down, it is started again after this long.
const RESTART: Duration = Duration::from_secs(1);

/// A verdict: whether the node is healthy, and what the last probe said.
pub(super) type Verdict = (bool, String);

/// Verdicts that the loop has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    newest: RefCell<BTreeMap<(ServiceName, NodeRef), Verdict>>,
    arrived: Notify,
}

impl Mailbox {
    fn put(&self, service: &ServiceName, node: &NodeRef, verdict: Verdict) {
        self.newest.borrow_mut().insert((service.clone(), node.clone()), verdict);
        self.arrived.notify_one();
    }

    /// Waits until there is something. Nothing is lost if the future is dropped.
    pub(super) async fn arrived(&self) {
        while self.newest.borrow().is_empty() {
            self.arrived.notified().await;
        }
    }

    /// Takes at most so many.
    pub(super) fn take(&self, limit: usize) -> Vec<((ServiceName, NodeRef), Verdict)> {
        let mut newest = self.newest.borrow_mut();
        std::iter::from_fn(|| newest.pop_first()).take(limit).collect()
    }
}

/// Probes one node until dropped.
#[derive(Debug)]
pub(super) struct Prober {
    task: AbortHandle,
    /// Written by the task, at every probe.
    last: Rc<RefCell<Option<ProbeReport>>>,
    /// Written by the task: probes that passed, and that failed.
    counts: Rc<Cell<(u64, u64)>>,
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Prober {
    /// Begins to probe, and calls those who wait at `hold` when a probe passes. `initially` is what is known of the node: nothing if it is new.
    pub(super) fn start(
        service: &ServiceName,
        node: &NodeRef,
        pooled: &Arc<Node>,
        initially: Option<bool>,
        settings: watch::Receiver<Arc<config::Service>>,
        mailbox: Rc<Mailbox>,
        hold: Arc<Hold>,
    ) -> Self {
        let last = Rc::new(RefCell::new(None));
        let counts = Rc::new(Cell::new((0, 0)));
        let (service, node, ours, counted) = (service.clone(), node.clone(), Rc::clone(&last), Rc::clone(&counts));
        let alarm = Arc::clone(pooled.alarm());
        let pooled = Some(Arc::clone(pooled));
        let task = tokio::task::spawn_local(async move {
            let target = Target { version: node.version.clone(), address: node.address.clone(), pooled };
            loop {
                let report = |report: ProbeReport, verdict: Option<bool>| {
                    let (passed, failed) = counted.get();
                    counted.set((passed + u64::from(report.passed), failed + u64::from(!report.passed)));
                    if report.passed {
                        // Requests that could not reach it may try again, long before `rise` or `fall` is reached.
                        hold.wake_all();
                    }
                    if let Some(healthy) = verdict {
                        mailbox.put(&service, &node, (healthy, words::finding(&report)));
                    }
                    ours.replace(Some(report));
                };
                let watched = watch_node(target.clone(), initially, settings.clone(), Arc::clone(&alarm), report);
                // A bug in a probe must not leave a node unwatched.
                if AssertUnwindSafe(watched).catch_unwind().await.is_ok() {
                    return;
                }
                error!(%service, node = %node, "probing broke down; it is started again");
                tokio::time::sleep(RESTART).await;
            }
        });
        Self { task: task.abort_handle(), last, counts }
    }

    /// Probes that passed, and that failed.
    pub(super) fn counts(&self) -> (u64, u64) {
        self.counts.get()
    }

    /// The last probe's result.
    pub(super) fn report(&self) -> Option<ProbeReport> {
        self.last.borrow().clone()
    }
}
