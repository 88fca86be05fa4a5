//! One edit: from what was read to what must change. Whatever the edit does not touch is not touched here.

use std::sync::Arc;

use tracing::{info, warn};

use super::controller::Controller;
use super::entry::{Change, Entry, is_new_change, wanted};
use super::followers::ended;
use super::report;
use crate::api::Outcome;
use crate::config::{self, Config, Loaded};
use crate::model::ServiceName;
use crate::rollout::Event;

/// The names that only the first has; both are in order.
fn beyond<'a>(
    ours: impl Iterator<Item = &'a ServiceName>,
    theirs: impl Iterator<Item = &'a ServiceName>,
) -> Vec<ServiceName> {
    let mut theirs = theirs.peekable();
    ours.filter(|name| {
        while theirs.next_if(|other| other < name).is_some() {}
        theirs.next_if(|other| other == name).is_none()
    })
    .cloned()
    .collect()
}

impl Controller {
    /// Takes over what was read. The end of the turn makes it serve.
    pub(super) fn apply(&mut self, loaded: Loaded) {
        if self.digest == Some(loaded.digest) {
            return;
        }
        let first = self.digest.replace(loaded.digest).is_none();
        let Loaded { config, problems, files, held_back, .. } = loaded;
        for problem in &problems {
            warn!("{}", config::render(problem).trim_end());
        }
        self.files.path = files.first().cloned().unwrap_or_default();
        self.files.files = files;
        self.files.stale = config.is_none() || !held_back.is_empty();
        self.files.problems = problems;
        self.held_back = held_back;
        let Some(mut config) = config else {
            warn!("the configuration is invalid: nothing changes until it is mended");
            return;
        };
        self.files.loaded = self.clock.now();
        if let Some(running) = &self.config {
            config.keep(running, &self.held_back);
        }
        if !self.files.stale && !first {
            info!("configuration applied");
        }
        self.take_over(config);
    }

    fn take_over(&mut self, mut config: Config) {
        self.access_log.follow(config.access_log.as_ref());
        self.spans.follow(config.tracing.export.as_ref());
        self.turn.edge |= self.assembler.set_edge(&config, self.access_log.shared(), self.spans.shared());
        self.turn.routes |= self.assembler.routes_differ(&config.services);
        for name in beyond(self.entries.keys(), config.services.keys()) {
            self.remove_service(&name);
        }
        let running = self.config.take();
        let mut before = running.iter().flat_map(|running| &running.services).peekable();
        let mut changed = Vec::new();
        for (name, service) in &mut config.services {
            // Both are in the order of their names. Ten thousand look-ups would be felt in the time that an edit takes.
            while before.next_if(|(other, _)| *other < name).is_some() {}
            match before.next_if(|(other, _)| *other == name) {
                // The same pointer again, so that what was built from it stays what it is.
                Some((_, running)) if Arc::ptr_eq(running, service) => {}
                Some((_, running)) if running == service => *service = Arc::clone(running),
                _ => changed.push((name.clone(), Arc::clone(service))),
            }
        }
        drop(before);
        self.config = running;
        for (name, service) in changed {
            self.change_service(&name, service);
        }
        self.forget_dormant(&config);
        self.warn_of_fixed(&config);
        self.turn.listeners |= self.config.as_ref().is_none_or(|running| running.listeners != config.listeners);
        self.config = Some(config);
    }

    /// Services that the journal knows and nobody configures any more. While a file cannot be read, it may be the one that does.
    fn forget_dormant(&mut self, config: &Config) {
        if !self.held_back.is_empty() {
            return;
        }
        for name in std::mem::take(&mut self.dormant).into_keys() {
            if config.services.contains_key(&name) {
                continue;
            }
            info!(service = %name, "is not configured any more; it is forgotten");
            if let Some(writer) = &self.writer {
                writer.remove(&name);
            }
        }
    }

    /// What a running process cannot change.
    fn warn_of_fixed(&self, config: &Config) {
        let Some(running) = &self.config else {
            return;
        };
        for (key, differs) in [
            ("workers", running.workers != config.workers),
            ("state_dir", running.state_dir != config.state_dir),
            ("admin", running.admin != config.admin),
        ] {
            if differs {
                warn!("`{key}` changed in the configuration; it counts from the next start of the proxy");
            }
        }
    }

    fn change_service(&mut self, name: &ServiceName, service: Arc<config::Service>) {
        let next = wanted(&service);
        if !self.entries.contains_key(name) {
            let entry = match self.dormant.remove(name) {
                Some(record) => {
                    let mut entry = Entry::kept(Arc::clone(&service), record, self.pool.workers());
                    let now = self.clock.now();
                    let actions = entry.machine.resume(now);
                    self.entries.insert(name.clone(), entry);
                    self.carry_out(name, actions, now);
                    None
                }
                None => Some(Entry::new(Arc::clone(&service), self.pool.workers())),
            };
            self.entries.extend(entry.map(|entry| (name.clone(), entry)));
        }
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        for (node, member) in &mut entry.members {
            // A node that is on its way out keeps what it had.
            member.weight = service.weight(&node.version, &node.address).unwrap_or(member.weight);
        }
        entry.settings = Arc::clone(&service);
        entry.tuning.send_replace(service);
        self.turn.views.insert(name.clone());
        self.turn.touched.insert(name.clone());
        if is_new_change(entry.machine.wanted(), &next) {
            info!(service = %name, release = %next.release, nodes = next.nodes.len(), "another change is wanted");
            let release = next.release.to_string();
            self.supersede(name, &format!("a newer change took over: {release}"));
        }
        let known = self.entries.get(name).and_then(|entry| entry.machine.wanted());
        if known != Some(&next) {
            self.tell(name, Event::Wanted(next));
        }
    }

    fn remove_service(&mut self, name: &ServiceName) {
        if self.entries.get(name).is_some_and(|entry| entry.machine.wanted().is_none()) {
            return;
        }
        info!(service = %name, "service removed");
        self.supersede(name, "the service was removed from the configuration");
        self.tell(name, Event::Removed);
    }

    /// Ends the change in progress, and begins to count the next one.
    pub(super) fn supersede(&mut self, name: &ServiceName, reason: &str) {
        let now = self.clock.now();
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        if entry.machine.wanted().is_some() && entry.change.ended.is_none() {
            entry.end(crate::rollout::Ending::Superseded, reason, now);
        }
        entry.announce_end(now);
        // Followers of a change whose end is on its way to the disk learn that end; the others, that it was overtaken.
        let end = entry.change.ended.take().unwrap_or_else(|| ended(Outcome::Superseded, format!("{name}: {reason}")));
        entry.number += 1;
        // What an overtaken change drained may be stopped too, and nobody was told yet.
        let drained =
            if end.outcome == Outcome::Superseded { std::mem::take(&mut entry.change.drained) } else { Vec::new() };
        entry.change = Change { drained, ..Change::default() };
        entry.durable = true;
        let mut followers = std::mem::take(&mut entry.followers);
        if followers.is_empty() {
            return;
        }
        if let Some(entry) = self.entries.get(name) {
            let status = report::service(entry);
            followers.end_change(&status, &end);
        }
        if let Some(entry) = self.entries.get_mut(name) {
            entry.followers = followers;
        }
    }
}
