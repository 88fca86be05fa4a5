//! Those who follow a service: `wait`, and `drain` for one node.
//!
//! Each gets the newest state and never a queue of old ones, so a slow reader costs nothing.

use tokio::sync::watch;

use crate::api::{Ended, Outcome, Progress, ServiceStatus};
use crate::model::NodeAddress;

/// The followers of one service. Dropping it ends them without a last line, which tells them that the proxy ends.
#[derive(Debug, Default)]
pub(super) struct Followers {
    /// Of the change in progress.
    change: Option<watch::Sender<Progress>>,
    /// Of a node that is taken out by hand.
    drains: Vec<(NodeAddress, watch::Sender<Progress>)>,
    /// What those of the change must be told beside its end.
    warning: Option<String>,
}

impl Followers {
    pub(super) fn is_empty(&self) -> bool {
        self.change.is_none() && self.drains.is_empty()
    }

    /// Forgets those that nobody listens to any more.
    pub(super) fn prune(&mut self) {
        self.change.take_if(|sender| sender.receiver_count() == 0);
        self.drains.retain(|(_, sender)| sender.receiver_count() > 0);
    }

    /// Follows the change in progress.
    pub(super) fn follow_change(&mut self, service: ServiceStatus) -> watch::Receiver<Progress> {
        let sender = self.change.get_or_insert_with(|| running(service).0);
        unread(sender.subscribe())
    }

    /// Follows one node until it is drained.
    pub(super) fn follow_drain(&mut self, address: NodeAddress, service: ServiceStatus) -> watch::Receiver<Progress> {
        let (sender, receiver) = running(service);
        self.drains.push((address, sender));
        unread(receiver)
    }

    /// Tells all of them how things are.
    pub(super) fn update(&self, service: &ServiceStatus) {
        let all = self.change.iter().chain(self.drains.iter().map(|(_, sender)| sender));
        for sender in all {
            sender.send_modify(|progress| progress.service.clone_from(service));
        }
    }

    pub(super) fn follows_change(&self) -> bool {
        self.change.is_some()
    }

    /// What those of the change must be told beside its end.
    pub(super) fn warn(&mut self, warning: String) {
        self.warning = Some(warning);
    }

    /// Tells those of the change how it ended, and lets them go.
    pub(super) fn end_change(&mut self, service: &ServiceStatus, ended: &Ended) {
        let ended = warned(ended.clone(), self.warning.take().as_deref());
        if let Some(sender) = self.change.take() {
            sender.send_replace(last(service.clone(), ended));
        }
    }

    /// Tells those of the nodes for which `ended` has an answer, and lets them go.
    pub(super) fn end_drains(&mut self, service: &ServiceStatus, ended: impl Fn(&NodeAddress) -> Option<Ended>) {
        self.drains.retain(|(address, sender)| match ended(address) {
            Some(ended) => {
                sender.send_replace(last(service.clone(), ended));
                false
            }
            None => true,
        });
    }
}

fn running(service: ServiceStatus) -> (watch::Sender<Progress>, watch::Receiver<Progress>) {
    watch::channel(Progress { service, ended: None })
}

fn last(service: ServiceStatus, ended: Ended) -> Progress {
    Progress { service, ended: Some(ended) }
}

fn unread(mut receiver: watch::Receiver<Progress>) -> watch::Receiver<Progress> {
    receiver.mark_changed();
    receiver
}

/// A follower of something that is over already.
pub(super) fn over(service: ServiceStatus, ended: Ended) -> watch::Receiver<Progress> {
    unread(watch::channel(last(service, ended)).1)
}

/// An end with something that must be told beside it.
pub(super) fn warned(mut ended: Ended, warning: Option<&str>) -> Ended {
    if let Some(warning) = warning {
        ended.message.push_str("\nwarning: ");
        ended.message.push_str(warning);
    }
    ended
}

/// An end without a history entry.
pub(super) fn ended(outcome: Outcome, message: impl Into<String>) -> Ended {
    Ended { outcome, message: message.into(), entry: None }
}
