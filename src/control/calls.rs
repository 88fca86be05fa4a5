//! What verbs ask.

use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::info;

use super::controller::{Controller, Happened};
use super::entry::{Draining, Entry};
use super::followers::{self, ended};
use super::report;
use super::settle::DURABLE_WITHIN;
use super::words;
use crate::api::{Call, Ended, Outcome, Progress, Refusal, RefusalKind, Reply, Request, ServiceStatus, Steering};
use crate::config;
use crate::model::{NodeAddress, ServiceName, Version};
use crate::rollout::{Event, Phase};

/// Names that are less alike than this are not suggested.
const ALIKE: f64 = 0.75;

/// A verb that waits for the files to be read.
#[derive(Debug)]
pub(super) struct Caller {
    asks: Asks,
    reply: oneshot::Sender<Reply>,
}

#[derive(Debug)]
enum Asks {
    Reload,
    Wait { service: ServiceName, version: Option<Version> },
    Steer { service: ServiceName, steering: Steering, by: String, only_if: Vec<String> },
}

impl Controller {
    /// Answers at once, or gives the caller back, to be answered after the files were read.
    pub(super) fn answer(&mut self, call: Call) -> Option<Caller> {
        let Call { request, only_if, reply } = call;
        if let Err(refusal) = self.check_tags(&request, &only_if) {
            let _ = reply.send(Reply::Refused(refusal));
            return None;
        }
        let answer = match request {
            Request::Status { service } => {
                self.answer_status(service.as_ref(), reply);
                return None;
            }
            Request::Events { after } => Reply::Events(self.events.feed(after, self.clock.now())),
            Request::Config => {
                Reply::Outline(Box::new(self.config.as_ref().map(super::outline::outline).unwrap_or_default()))
            }
            Request::Measures => {
                self.scrapes.ask(reply);
                return None;
            }
            Request::Reload => return Some(Caller { asks: Asks::Reload, reply }),
            Request::Wait { service, version } => {
                return Some(Caller { asks: Asks::Wait { service, version }, reply });
            }
            Request::Steer { service, steering, by } => {
                return Some(Caller { asks: Asks::Steer { service, steering, by, only_if }, reply });
            }
            Request::Halt { service, halting, by } => {
                let status = self.halt(&service, halting, &by);
                self.answer_when_saved(status, reply);
                return None;
            }
            Request::History { service } => match self.entries.get(&service) {
                Some(entry) => Reply::History(entry.told_history().rev().cloned().collect()),
                None => Reply::Refused(self.unknown(&service)),
            },
            Request::Drain { service, node, undo } => {
                let answer = if undo { self.put_back(&service, &node) } else { self.take_out(&service, &node) };
                answer.map_or_else(Reply::Refused, Reply::Progress)
            }
        };
        // A caller that went away needs no answer.
        let _ = reply.send(answer);
        None
    }

    /// Answers one that waited for the files to be read; what was read serves by now.
    pub(super) fn answer_after_read(&mut self, caller: Caller) {
        let answer = match caller.asks {
            Asks::Reload => Reply::Config(self.config_status()),
            Asks::Wait { service, version } => {
                self.follow(&service, version.as_ref()).map_or_else(Reply::Refused, Reply::Progress)
            }
            Asks::Steer { service, steering, by, only_if } => {
                let status = self.check_tag(&service, &only_if).and_then(|()| self.steer(&service, steering, by));
                return self.answer_when_saved(status, caller.reply);
            }
        };
        let _ = caller.reply.send(answer);
    }

    /// Answers with a service as it is after what an operator decided, as soon as a crash would not forget that. A disk that fails
    /// or hangs keeps nobody from deciding, and is told.
    fn answer_when_saved(&self, status: Result<ServiceStatus, Refusal>, reply: oneshot::Sender<Reply>) {
        let writer = self.writer.clone();
        let saved = async move {
            let mut status = match status {
                Ok(status) => Box::new(status),
                Err(refusal) => return Reply::Refused(refusal),
            };
            if let Some(writer) = writer {
                let saved = writer.flush(&status.name, DURABLE_WITHIN).await;
                status.unsaved = saved.err().map(|error| error.to_string());
            }
            Reply::Service(status)
        };
        tokio::task::spawn_local(async { reply.send(saved.await) });
    }

    /// Whether what the asker saw is still so.
    fn check_tags(&self, request: &Request, only_if: &[String]) -> Result<(), Refusal> {
        match request {
            Request::Halt { service, .. } | Request::Drain { service, .. } => self.check_tag(service, only_if),
            // After the files were read.
            Request::Steer { .. } => Ok(()),
            _ if only_if.is_empty() || only_if.iter().any(|tag| *tag == self.generation_tag()) => Ok(()),
            _ => Err(changed("the proxy", &self.generation_tag())),
        }
    }

    fn check_tag(&self, name: &ServiceName, only_if: &[String]) -> Result<(), Refusal> {
        let Some(entry) = self.entries.get(name).filter(|_| !only_if.is_empty()) else {
            return Ok(());
        };
        let tag = report::tag(entry);
        let holds = only_if.iter().any(|known| *known == tag || *known == self.generation_tag());
        if holds { Ok(()) } else { Err(changed(name.as_str(), &tag)) }
    }

    fn generation_tag(&self) -> String {
        self.pool.generation().to_string()
    }

    fn answer_status(&self, only: Option<&ServiceName>, reply: oneshot::Sender<Reply>) {
        if let Some(name) = only
            && !self.entries.contains_key(name)
        {
            let _ = reply.send(Reply::Refused(self.unknown(name)));
            return;
        }
        let mut status = Box::new(self.status(only));
        let draining = self.draining(&status);
        if draining.is_empty() {
            let _ = reply.send(Reply::Status(status));
            return;
        }
        let pool = Arc::clone(&self.pool);
        tokio::task::spawn_local(async move {
            let asked = draining.iter().map(|(_, _, key)| report::holders(&pool, *key));
            let answers = futures_util::future::join_all(asked).await;
            for ((service, node, _), holders) in draining.into_iter().zip(answers) {
                let node = status.services.get_mut(service).and_then(|service| service.nodes.get_mut(node));
                if let Some(node) = node {
                    node.holders = holders;
                }
            }
            let _ = reply.send(Reply::Status(status));
        });
    }

    fn follow(
        &mut self,
        name: &ServiceName,
        version: Option<&Version>,
    ) -> Result<tokio::sync::watch::Receiver<Progress>, Refusal> {
        self.refuse_if_invalid(name)?;
        let Some(entry) = self.entries.get(name) else {
            return Err(self.unknown(name));
        };
        let release = &entry.settings.release;
        if let Some(version) = version.filter(|version| *version != release) {
            return Err(Refusal {
                kind: RefusalKind::Superseded,
                message: format!("{name}: the configuration asks for {release} now, not for {version}"),
            });
        }
        let status = report::service(entry);
        if let Some(end) = recorded_end(entry).filter(|_| entry.durable) {
            // Whoever asks after the end must learn no less than those who waited for it.
            let unsaved = self.writer.as_ref().and_then(|writer| writer.error_of(name)).map(|error| error.to_string());
            return Ok(followers::over(status, followers::warned(end, unsaved.as_deref())));
        }
        self.followed.insert(name.clone());
        let Some(entry) = self.entries.get_mut(name) else {
            return Err(self.unknown(name));
        };
        Ok(entry.followers.follow_change(status))
    }

    /// There is nothing to wait for if the file that defines the service is invalid: what it asks for is not what runs.
    pub(super) fn refuse_if_invalid(&self, name: &ServiceName) -> Result<(), Refusal> {
        if !self.files.stale {
            return Ok(());
        }
        let source = self.entries.get(name).map(|entry| &entry.settings.source);
        let main = &self.files.path;
        let main_is_bad = self.config.is_none()
            || self.held_back.is_empty()
            || self.files.problems.iter().any(|problem| problem.path == *main);
        // An unknown service may be defined in a file that cannot be read.
        if !main_is_bad && source.is_some_and(|source| !self.held_back.contains(source)) {
            return Ok(());
        }
        let concerns = |problem: &&crate::api::Problem| {
            problem.path == *main || source.is_none_or(|source| problem.path == *source)
        };
        let mut shown: Vec<_> = self.files.problems.iter().filter(concerns).collect();
        if shown.is_empty() {
            shown = self.files.problems.iter().collect();
        }
        let shown: String = shown.into_iter().map(config::render).collect();
        Err(Refusal {
            kind: RefusalKind::InvalidConfig,
            message: format!(
                "{name}: the configuration is invalid, so nothing was changed; mend it and try again\n{}",
                shown.trim_end()
            ),
        })
    }

    fn take_out(
        &mut self,
        name: &ServiceName,
        address: &NodeAddress,
    ) -> Result<tokio::sync::watch::Receiver<Progress>, Refusal> {
        let Some(entry) = self.entries.get(name) else {
            return Err(self.unknown(name));
        };
        if !entry.machine.nodes().any(|node| node.node.address == *address) {
            return Err(unknown_node(entry, address));
        }
        entry
            .machine
            .can_hold_out(address)
            .map_err(|why| Refusal { kind: RefusalKind::Conflict, message: format!("{name}: {why}") })?;
        info!(service = %name, node = %address, "an operator takes a node out");
        self.tell(name, Event::HeldOut { address: address.clone(), out: true });
        // The drain must have begun before its end is looked for.
        self.end_turn();
        let Some(status) = self.entries.get(name).map(report::service) else {
            return Err(self.unknown(name));
        };
        let receiver = match self.entries.get_mut(name) {
            Some(entry) => entry.followers.follow_drain(address.clone(), status),
            None => return Err(self.unknown(name)),
        };
        self.followed.insert(name.clone());
        self.update_followers(name);
        Ok(receiver)
    }

    fn put_back(
        &mut self,
        name: &ServiceName,
        address: &NodeAddress,
    ) -> Result<tokio::sync::watch::Receiver<Progress>, Refusal> {
        let Some(entry) = self.entries.get(name) else {
            return Err(self.unknown(name));
        };
        let nodes = || entry.machine.nodes().filter(|node| node.node.address == *address);
        if nodes().next().is_none() {
            return Err(unknown_node(entry, address));
        }
        if !nodes().any(|node| node.held_out) {
            return Err(Refusal {
                kind: RefusalKind::Conflict,
                message: format!("{name}: {address} was not taken out by hand; `sluice status {name}` says how it is"),
            });
        }
        info!(service = %name, node = %address, "an operator puts a node back");
        self.tell(name, Event::HeldOut { address: address.clone(), out: false });
        self.end_turn();
        let Some(entry) = self.entries.get(name) else {
            return Err(self.unknown(name));
        };
        let status = report::service(entry);
        if let Some(entry) = self.entries.get_mut(name) {
            let end = ended(Outcome::Superseded, format!("{name}: {address} was put back"));
            entry.followers.end_drains(&status, |drained| (drained == address).then(|| end.clone()));
        }
        let end =
            ended(Outcome::Done, format!("{name}: {address} is back; it gets requests as soon as its probes pass"));
        Ok(followers::over(status, end))
    }

    /// Every half second while somebody follows.
    pub(super) fn refresh_followers(&mut self) {
        let names: Vec<_> = self.followed.iter().cloned().collect();
        for name in names {
            self.update_followers(&name);
            let Some(entry) = self.entries.get(&name) else {
                self.followed.remove(&name);
                continue;
            };
            for (node, member) in &entry.members {
                if member.draining != Draining::Running {
                    continue;
                }
                let (service, node, key) = (name.clone(), node.clone(), member.node.key);
                let (pool, happened) = (Arc::clone(&self.pool), self.happened.clone());
                tokio::task::spawn_local(async move {
                    let holders = report::holders(&pool, key).await;
                    let _ = happened.send(Happened::Held { service, node, holders }).await;
                });
            }
        }
    }

    pub(super) fn unknown(&self, name: &ServiceName) -> Refusal {
        let alike = self
            .entries
            .keys()
            .map(|known| (strsim::jaro_winkler(known.as_str(), name.as_str()), known))
            .filter(|(alike, _)| *alike > ALIKE)
            .max_by(|(left, _), (right, _)| left.total_cmp(right));
        let hint = match alike {
            Some((_, known)) => format!("; did you mean `{known}`?"),
            None => "; `sluice status` lists the services".into(),
        };
        Refusal { kind: RefusalKind::NotFound, message: format!("there is no service `{name}`{hint}") }
    }
}

fn changed(what: &str, tag: &str) -> Refusal {
    Refusal {
        kind: RefusalKind::Changed,
        message: format!(
            "{what}: something was decided since you looked (it is at {tag} now); look again, and ask again if it is still right"
        ),
    }
}

fn unknown_node(entry: &Entry, address: &NodeAddress) -> Refusal {
    let nodes: Vec<_> = entry.machine.nodes().map(|node| node.node.address.as_str()).collect();
    Refusal {
        kind: RefusalKind::NotFound,
        message: format!(
            "{}: {address} is not a node of this service; its nodes are {}",
            entry.name(),
            nodes.join(", ")
        ),
    }
}

/// How the change that is wanted now ended, if it did.
fn recorded_end(entry: &Entry) -> Option<Ended> {
    let settled = entry.machine.phase() == Phase::Settled;
    match &entry.change.ended {
        // It came good after its end was told: a first deploy, say, whose nodes were late.
        Some(end) if end.outcome == Outcome::Unhealthy && settled => Some(Ended {
            outcome: Outcome::Done,
            message: words::ended(entry, Outcome::Done, ""),
            entry: end.entry.clone(),
        }),
        Some(end) => Some(end.clone()),
        None if settled => Some(ended(Outcome::Done, words::ended(entry, Outcome::Done, ""))),
        None => None,
    }
}
