//! Carries out what the machines ask, and ends the turn.
//!
//! The order at the end of a turn is what makes a drain safe: publish, close gates, then journal. Several publications of one
//! turn become one. The journal comes last because it may be slow, and nothing of a turn is *told* to those who wait before
//! it is on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tracing::{error, info, warn};

use super::build;
use super::controller::{Controller, Happened};
use super::drain;
use super::entry::{Draining, Entry, Member};
use super::followers::ended;
use super::probing::Prober;
use super::report;
use super::words;
use crate::api::{CutNode, Ended, Outcome};
use crate::model::{Holder, NodeId, NodeState, ServiceName, Timestamp};
use crate::pool::{Command, Node};
use crate::rollout::{Action, Ending, Event, NodeRef};

/// Those who wait for a change are answered after this long even if the disk hangs; they are told so.
const DURABLE_WITHIN: Duration = Duration::from_secs(10);

/// A machine that asks for a moment that has passed is told the time again after this long, not at once.
const PATIENCE: Duration = Duration::from_millis(20);

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
    closing: Vec<(ServiceName, NodeRef)>,
    /// Nodes that never served or are drained: nobody shall claim them any more.
    retired: Vec<Arc<Node>>,
}

impl Controller {
    /// Tells a machine what happened and carries out what it asks.
    pub(super) fn tell(&mut self, name: &ServiceName, event: Event) {
        let now = self.clock.now();
        if let Some(entry) = self.entries.get_mut(name) {
            let actions = entry.machine.handle(event, now);
            self.carry_out(name, actions, now);
        }
    }

    pub(super) fn carry_out(&mut self, name: &ServiceName, actions: Vec<Action>, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        self.turn.touched.insert(name.clone());
        for action in actions {
            match action {
                Action::Join(node) => {
                    let id =
                        NodeId { service: name.clone(), version: node.version.clone(), address: node.address.clone() };
                    info!(service = %name, version = %node.version, node = %node.address, "node joins");
                    let pooled = Node::new(id, self.pool.workers());
                    // A node that came back from the journal is as healthy as it was, until its probes say otherwise.
                    let known = entry.machine.nodes().find(|known| known.node == node);
                    let known = known.filter(|known| known.state != NodeState::Joining);
                    let prober = Prober::start(
                        name,
                        &node,
                        &pooled,
                        known.map(|known| known.healthy),
                        entry.tuning.subscribe(),
                        Rc::clone(&self.mailbox),
                    );
                    let member = Member {
                        node: pooled,
                        prober,
                        told: known.map_or(NodeState::Joining, |known| known.state),
                        draining: Draining::No,
                        holders: Vec::new(),
                    };
                    entry.members.insert(node, member);
                }
                Action::Publish(_) => {
                    self.turn.views.insert(name.clone());
                }
                Action::Drain(node) => self.turn.closing.push((name.clone(), node)),
                Action::Forget(node) => {
                    if let Some(member) = entry.bury(&node) {
                        info!(service = %name, version = %node.version, node = %node.address,
                            from = %member.told, "node forgotten");
                        self.turn.retired.push(member.node);
                    }
                }
                Action::Began { from, to } => {
                    let was = from.as_ref().map_or("nothing", |version| version.as_str());
                    info!(service = %name, from = was, to = %to, change = entry.number, "rollout began");
                    entry.change.began = Some((now, from));
                }
                // `apply` ends an overtaken change itself, before it tells the machine of the next one.
                Action::Ended { ending: Ending::Superseded, .. } => {}
                Action::Ended { ending, reason } => {
                    info!(service = %name, change = entry.number, ?ending, reason, "change ended");
                    entry.end(ending, &reason, now);
                }
            }
        }
    }

    /// Publishes, closes gates, opens and closes listeners, journals, tells followers: in this order.
    pub(super) fn end_turn(&mut self) {
        let turn = std::mem::take(&mut self.turn);
        self.publish(&turn);
        self.close_gates(turn.closing, turn.retired);
        if turn.listeners
            && let Some(config) = &self.config
        {
            self.listeners.apply(&config.listeners);
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
            let view =
                build::view(&entry.settings, &split, |node| members.get(node).map(|member| Arc::clone(&member.node)));
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
            let happened = self.happened.clone();
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
                let _ = happened.send(Happened::Drained { service, node, cut }).await;
            });
        }
        // The one that came with the publication may have been handled before the gates closed.
        self.pool.tell(|| Command::Refresh);
    }

    /// After anything changed in a service: log, deadline, journal, followers.
    fn settle(&mut self, name: &ServiceName) {
        let now = self.clock.now();
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        log_states(entry);
        let deadline = entry.machine.deadline().map(|at| at.max(now.plus(PATIENCE)));
        if deadline != entry.deadline {
            if let Some(old) = entry.deadline {
                self.deadlines.remove(&(old, name.clone()));
            }
            if let Some(new) = deadline {
                self.deadlines.insert((new, name.clone()));
            }
            entry.deadline = deadline;
        }
        if entry.machine.is_empty() {
            self.forget_service(name);
            return;
        }
        self.save(name);
        self.update_followers(name);
    }

    /// A removed service of which nothing is left.
    fn forget_service(&mut self, name: &ServiceName) {
        info!(service = %name, "service forgotten");
        self.update_followers(name);
        if let Some(mut entry) = self.entries.remove(name) {
            if let Some(old) = entry.deadline {
                self.deadlines.remove(&(old, name.clone()));
            }
            let status = report::service(&entry);
            let end = ended(Outcome::Superseded, format!("{name}: the service was removed"));
            entry.followers.end_change(&status, entry.change.ended.as_ref().unwrap_or(&end));
            entry.followers.end_drains(&status, |_| Some(end.clone()));
        }
        self.followed.remove(name);
        if let Some(writer) = &self.writer {
            writer.remove(name);
        }
    }

    fn save(&mut self, name: &ServiceName) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let Some(writer) = &self.writer else {
            entry.durable = true;
            return;
        };
        match entry.record().encode() {
            Ok(record) => writer.save(record),
            Err(error) => error!(service = %name, "{error}"),
        }
        if entry.change.ended.is_some() && !entry.durable {
            let (service, change) = (name.clone(), entry.number);
            let (writer, happened) = (Rc::clone(writer), self.happened.clone());
            tokio::task::spawn_local(async move {
                let saved = writer.flush(&service, DURABLE_WITHIN).await;
                let error = saved.err().map(|error| error.to_string());
                let _ = happened.send(Happened::Durable { service, change, error }).await;
            });
        }
    }

    pub(super) fn note_durable(&mut self, name: &ServiceName, change: u64, error: Option<String>) {
        let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.number == change) else {
            return;
        };
        if entry.durable {
            return;
        }
        entry.durable = true;
        if let (Some(error), Some(ended)) = (error, &mut entry.change.ended) {
            warn!(service = %name, "{error}");
            ended.message.push_str("\nwarning: ");
            ended.message.push_str(&error);
        }
        self.update_followers(name);
    }

    /// A node holds no work any more.
    pub(super) fn note_drained(&mut self, name: &ServiceName, node: NodeRef, cut: Vec<Holder>) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        if let Some(member) = entry.members.get_mut(&node) {
            member.draining = Draining::Over;
            member.holders.clone_from(&cut);
        }
        if !cut.is_empty() {
            warn!(service = %name, version = %node.version, node = %node.address, pieces = cut.len(),
                "work was cut when its drain deadline came");
        }
        let by_hand = entry.machine.nodes().any(|known| known.node == node && known.held_out);
        if !by_hand {
            entry.change.note_drained(&node, cut);
        }
        self.tell(name, Event::Drained { node });
    }

    /// Tells followers how the service is, and lets those go whose wait is over.
    pub(super) fn update_followers(&mut self, name: &ServiceName) {
        let Some(mut followers) = self.entries.get_mut(name).map(|entry| std::mem::take(&mut entry.followers)) else {
            return;
        };
        followers.prune();
        if !followers.is_empty()
            && let Some(entry) = self.entries.get(name)
        {
            let status = report::service(entry);
            followers.update(&status);
            if let Some(end) = entry.change.ended.as_ref().filter(|_| entry.durable) {
                followers.end_change(&status, end);
            }
            followers.end_drains(&status, |address| drain_end(entry, address));
        }
        if followers.is_empty() {
            self.followed.remove(name);
        }
        if let Some(entry) = self.entries.get_mut(name) {
            entry.followers = followers;
        }
    }
}

/// How a drain by hand ended, if it did.
fn drain_end(entry: &Entry, address: &crate::model::NodeAddress) -> Option<Ended> {
    let mut members = entry.members.iter().filter(|(node, _)| node.address == *address);
    if !members.all(|(_, member)| member.draining == Draining::Over) {
        return None;
    }
    let cut: Vec<_> = entry
        .members
        .iter()
        .filter(|(node, member)| node.address == *address && !member.holders.is_empty())
        .map(|(node, member)| CutNode {
            address: node.address.clone(),
            version: node.version.clone(),
            work: member.holders.clone(),
        })
        .collect();
    let outcome = if cut.is_empty() { Outcome::Done } else { Outcome::DoneWithCuts };
    let name = entry.name();
    let message = format!(
        "{name}: {address} holds no work and may be stopped; `sluice drain {name} {address} --undo` puts it back{}",
        words::cuts(&cut)
    );
    Some(ended(outcome, message))
}

/// One line a change of state.
fn log_states(entry: &mut Entry) {
    for node in entry.machine.nodes() {
        let Some(member) = entry.members.get_mut(&node.node) else {
            continue;
        };
        if member.told != node.state {
            info!(service = %member.node.id.service, version = %node.node.version, node = %node.node.address,
                from = %member.told, to = %node.state, reason = node.reason, "node changed its state");
            member.told = node.state;
        }
    }
}
