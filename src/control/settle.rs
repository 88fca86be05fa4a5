//! After anything changed in one service: log, deadline, journal, followers.
//!
//! The journal comes after the publication because it may be slow. Those who wait for the end of a change come after the
//! journal: what they were told must survive a crash.

use std::rc::Rc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::controller::{Controller, Happened};
use super::entry::{Draining, Entry};
use super::followers::ended;
use super::report;
use super::words;
use crate::api::{CutNode, Ended, Outcome};
use crate::model::{NodeAddress, ServiceName};

/// Those who wait for a change are answered after this long even if the disk hangs; they are told so.
pub(super) const DURABLE_WITHIN: Duration = Duration::from_secs(10);

/// A machine that asks for a moment that has passed is told the time again after this long, not at once.
const PATIENCE: Duration = Duration::from_millis(20);

impl Controller {
    /// Puts a service's affairs in order.
    pub(super) fn settle(&mut self, name: &ServiceName) {
        let now = self.clock.now();
        self.tell_news(name);
        self.follow_trial(name);
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let held = entry.halt.as_ref().and_then(|halt| halt.until);
        let deadline = entry.machine.deadline().into_iter().chain(held).min().map(|at| at.max(now.plus(PATIENCE)));
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
        self.on_trial.remove(name);
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
            // Ten thousand services that go on as they were after a restart are not ten thousand writes.
            Ok(record) if entry.saved == Some(record.digest()) => {}
            Ok(record) => {
                entry.saved = Some(record.digest());
                writer.save(record);
            }
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
        if let Some(error) = error
            && entry.followers.follows_change()
        {
            warn!(service = %name, "{error}");
            entry.followers.warn(error);
        }
        self.update_followers(name);
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
        let now = self.clock.now();
        if let Some(entry) = self.entries.get_mut(name) {
            entry.followers = followers;
            if entry.durable {
                entry.announce_end(now);
            }
        }
    }
}

/// How a drain by hand ended, if it did.
fn drain_end(entry: &Entry, address: &NodeAddress) -> Option<Ended> {
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
