//! Carries out what the machines ask. What must happen in order with the other services' wishes is left to the end of the turn.

use std::rc::Rc;
use std::sync::Arc;

use tracing::{info, warn};

use super::controller::Controller;
use super::entry::{Draining, Member};
use super::probing::Prober;
use crate::api::What;
use crate::model::{Holder, NodeId, NodeState, ServiceName, Timestamp};
use crate::pool::Node;
use crate::rollout::outliers::Tally;
use crate::rollout::{Action, Ending, Event, NodeRef};

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
                    pooled.set_tls(self.held.certificates.client(name));
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
                        Arc::clone(&entry.hold),
                    );
                    let member = Member {
                        weight: entry.settings.weight(&node.version, &node.address).unwrap_or(1),
                        tally: Tally::default(),
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
                Action::Stepped { version, share } => {
                    info!(service = %name, version = %version, share = %share, "the version on trial has another share");
                    let evidence = super::trial::evidence(entry);
                    entry.change.step(share, evidence, now);
                    entry.announce(What::Stepped { version, share: share.percent() }, now);
                }
                Action::Began { from, to } => {
                    let was = from.as_ref().map_or("nothing", |version| version.as_str());
                    info!(service = %name, from = was, to = %to, change = entry.number, "rollout began");
                    entry.change.began = Some((now, from.clone()));
                    entry.announce(What::Began { from, version: to }, now);
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
        entry.counted.drained(cut.iter().map(|work| work.kind));
        let by_hand = entry.machine.nodes().any(|known| known.node == node && known.held_out);
        if !by_hand {
            entry.change.note_drained(&node, cut);
        }
        self.tell(name, Event::Drained { node });
    }
}
