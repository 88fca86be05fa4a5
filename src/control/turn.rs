//! The end of a turn: publish, close gates, open and close listeners, and then each service's own affairs.
//!
//! The order is what makes a drain safe, and an answer true: no gate closes before the snapshot without its node is out, and
//! nothing of a turn is told to those who wait before it serves and is on disk. Several publications of one turn become one.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tracing::{error, info};

use super::build;
use super::controller::{Controller, Happened};
use super::drain;
use super::entry::Draining;
use super::settle::DURABLE_WITHIN;
use crate::model::ServiceName;
use crate::pool::balance::ONE;
use crate::pool::{Command, Node};
use crate::rollout::NodeRef;

/// After a drain broke down, it begins again after this long.
const RESTART: Duration = Duration::from_secs(1);

/// What the end of a turn must do.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Services came, went, or changed their routes.
    pub(super) routes: bool,
    /// Something that holds for every request changed.
    pub(super) edge: bool,
    /// Other listeners are wanted.
    pub(super) listeners: bool,
    /// Services whose view must be built again.
    pub(super) views: BTreeSet<ServiceName>,
    /// Services of which anything changed.
    pub(super) touched: BTreeSet<ServiceName>,
    /// Nodes to drain.
    pub(super) closing: Vec<(ServiceName, NodeRef)>,
    /// Nodes that never served or are drained: nobody shall claim them any more.
    pub(super) retired: Vec<Arc<Node>>,
}

impl Controller {
    /// Publishes, closes gates, opens and closes listeners, journals, tells followers: in this order.
    pub(super) fn end_turn(&mut self) {
        let turn = std::mem::take(&mut self.turn);
        self.publish(&turn);
        self.close_gates(turn.closing, turn.retired);
        if turn.listeners
            && let Some(config) = &self.config
        {
            let certificates = &self.held.certificates;
            self.listeners.apply(&config.listeners, |listener| certificates.server(listener));
            self.set_ready();
        }
        for name in turn.touched {
            self.settle(&name);
        }
    }

    /// Requests are welcome once something serves and every listener is open; a listener that an edit could not open
    /// later on takes nothing back.
    pub(super) fn set_ready(&mut self) {
        if !self.closing && self.config.is_some() && self.listeners.all_open() {
            self.ready.send_replace(true);
        }
    }

    fn publish(&mut self, turn: &Turn) {
        let mut changed = turn.edge;
        let mut fresh = BTreeMap::new();
        for name in &turn.views {
            let warming = self.warming_weights(name);
            let Some(entry) = self.entries.get_mut(name) else {
                continue;
            };
            let split = entry.machine.split();
            if split.all_down && !entry.told_all_down {
                error!(service = %name, "every node is unhealthy; traffic goes to all of them regardless");
            } else if entry.told_all_down && !split.all_down {
                info!(service = %name, "not every node is unhealthy any more");
            }
            entry.told_all_down = split.all_down;
            let members = &entry.members;
            let halt = entry.halt.as_ref().and_then(|halt| super::halt::halt(halt, &self.clock));
            let view = build::view(&entry.settings, &split, (&entry.hold, &entry.stats), halt, |node| {
                let warm = warming.get(node).copied();
                members.get(node).map(|member| (Arc::clone(&member.node), warm.unwrap_or(member.weight * ONE)))
            });
            entry.shares = view.slices.iter().map(|slice| (slice.version.clone(), slice.share)).collect();
            if turn.routes {
                fresh.insert(name.clone(), view);
            } else {
                changed |= self.assembler.set_view(name, view);
            }
        }
        if turn.routes {
            let config = self.config.as_ref();
            let names = config.into_iter().flat_map(|config| config.services.keys());
            let views = names.filter_map(|name| {
                let view = fresh.remove(name).or_else(|| self.assembler.view(name))?;
                Some((name.clone(), view))
            });
            let views = views.collect();
            self.assembler.set_views(views);
            changed = true;
        }
        if changed {
            self.pool.publish(self.assembler.snapshot());
        }
    }

    fn close_gates(&mut self, closing: Vec<(ServiceName, NodeRef)>, retired: Vec<Arc<Node>>) {
        if closing.is_empty() && retired.is_empty() {
            return;
        }
        for node in retired {
            node.close();
        }
        for (name, node) in closing {
            let Some(entry) = self.entries.get_mut(&name) else {
                continue;
            };
            let Some(member) = entry.members.get_mut(&node) else {
                continue;
            };
            member.node.close();
            if member.draining != Draining::No {
                continue;
            }
            member.draining = Draining::Running;
            let (pool, pooled) = (Arc::clone(&self.pool), Arc::clone(&member.node));
            let limits = entry.settings.drain.clone();
            let (happened, writer) = (self.happened.clone(), self.writer.clone());
            tokio::task::spawn_local(async move {
                let cut = loop {
                    // A bug must not leave a node draining for ever, nor call it drained while it works.
                    let drained = drain::drain(&pool, &pooled, &limits);
                    if let Ok(cut) = AssertUnwindSafe(drained).catch_unwind().await {
                        break cut;
                    }
                    error!(node = %pooled.id, "draining broke down; it begins again");
                    tokio::time::sleep(RESTART).await;
                };
                let service = name;
                // Whoever reads `drained` may stop the node: a crash after that must not bring it back. A disk that fails or
                // hangs does not keep it open for ever.
                if let Some(writer) = writer {
                    let _ = writer.flush(&service, DURABLE_WITHIN).await;
                }
                let _ = happened.send(Happened::Drained { service, node, cut }).await;
            });
        }
        // The one that came with the publication may have been handled before the gates closed.
        self.pool.tell(|| Command::Refresh);
    }
}
