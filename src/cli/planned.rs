//! What a configuration would do to what runs: the difference of two outlines, with what serves now. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::words::{clean, colored, duration, percent};
use crate::api::{ListenerOutline, Outline, Problem, ServiceOutline, ServiceStatus, Settings};
use crate::config::{self, Strategy};
use crate::model::{NodeAddress, NodeState, ServiceName, Version};

/// What `sluice plan --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Version of this document's shape.
    pub schema: u32,
    /// Whether anything would change.
    pub changes: bool,
    /// The snapshot that served when this was made.
    pub generation: u64,
    /// Errors in the files; what has some is not in the rest of the plan.
    pub problems: Vec<Problem>,
    /// Sections that change for the whole proxy.
    pub settings: Vec<String>,
    /// Sections that change, but only count from the next start of the proxy.
    pub restart: Vec<String>,
    /// Listeners that open, close, or change.
    pub listeners: Vec<ListenerPlan>,
    /// Services that come, go, or change.
    pub services: Vec<ServicePlan>,
}

/// What happens to a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerPlan {
    /// Its name.
    pub name: String,
    /// Where it listens now.
    pub from: Option<String>,
    /// Where it shall listen.
    pub to: Option<String>,
    /// Whether its other settings change.
    pub settings: bool,
}

/// What happens to a service.
#[derive(Clone, Debug, Serialize)]
pub struct ServicePlan {
    /// Its name.
    pub name: ServiceName,
    /// `add`, `remove`, or `edit`.
    pub change: &'static str,
    /// The release, if another one shall serve or its nodes differ.
    pub rollout: Option<RolloutPlan>,
    /// Versions that the file names, or no longer, without a node moving.
    pub versions: Vec<String>,
    /// Routes that come.
    pub routes_added: Vec<String>,
    /// Routes that go.
    pub routes_removed: Vec<String>,
    /// Sections that change.
    pub settings: Vec<String>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// How nodes change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RolloutPlan {
    /// The release that is asked for now; none for a new service.
    pub from: Option<Version>,
    /// The one that shall serve; none if the service goes.
    pub to: Option<Version>,
    /// The way.
    pub strategy: Option<&'static str>,
    /// How it goes, in words.
    pub how: String,
    /// Nodes that join.
    pub join: Vec<Moving>,
    /// Nodes that drain.
    pub drain: Vec<Moving>,
}

/// A node that comes or goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moving {
    /// Its version.
    pub version: Version,
    /// Its address.
    pub address: NodeAddress,
    /// Requests that it works on now.
    pub in_flight: usize,
}

/// The other side of the comparison.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// In outline.
    pub outline: &'a Outline,
    /// In full.
    pub services: &'a BTreeMap<ServiceName, std::sync::Arc<config::Service>>,
}

impl Plan {
    /// Compares; `serving` is how the services are now.
    pub fn new(running: &Outline, serving: &[ServiceStatus], wanted: Wanted<'_>, generation: u64) -> Self {
        let mut plan = Self {
            schema: 1,
            changes: false,
            generation,
            problems: Vec::new(),
            settings: differ(&running.settings, &wanted.outline.settings),
            restart: differ(&running.fixed, &wanted.outline.fixed),
            listeners: listeners(&running.listeners, &wanted.outline.listeners),
            services: Vec::new(),
        };
        let names: BTreeSet<_> = running.services.keys().chain(wanted.outline.services.keys()).collect();
        for name in names {
            let status = serving.iter().find(|status| status.name == *name);
            let both = (running.services.get(name), wanted.outline.services.get(name));
            plan.services.extend(service(name, both, status, wanted.services.get(name).map(|service| &**service)));
        }
        plan.changes = !(plan.settings.is_empty()
            && plan.restart.is_empty()
            && plan.listeners.is_empty()
            && plan.services.is_empty());
        plan
    }

    /// A line for each thing that changes, for people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(self.settings.iter().map(|section| edit(format!("{section} of the proxy change"))));
        for listener in &self.listeners {
            let name = &listener.name;
            lines.push(match (&listener.from, &listener.to) {
                (None, Some(to)) => add(format!("listener {name} opens on {to}")),
                (Some(from), None) => remove(format!("listener {name} closes ({from})")),
                (Some(from), Some(to)) if from != to => edit(format!("listener {name} moves from {from} to {to}")),
                _ => edit(format!("listener {name}: its settings change")),
            });
        }
        for service in &self.services {
            lines.extend(service.lines());
        }
        lines.extend(
            self.restart
                .iter()
                .map(|section| edit(format!("{section} changes, but only counts from the next start of the proxy"))),
        );
        lines
    }
}

impl ServicePlan {
    fn lines(&self) -> Vec<String> {
        let head = format!("service {}", self.name);
        let mut lines = vec![match self.change {
            "add" => add(format!("{head} is added")),
            "remove" => remove(format!("{head} is removed")),
            _ => edit(head),
        }];
        if let Some(rollout) = &self.rollout {
            lines.push(format!("    {}", rollout.how));
            let node = |node: &Moving| {
                if node.version.is_unnamed() {
                    return node.address.to_string();
                }
                format!("{} ({})", node.address, node.version)
            };
            lines.extend(rollout.join.iter().map(|joining| format!("  {}", add(format!("{} joins", node(joining))))));
            lines.extend(rollout.drain.iter().map(|leaving| {
                format!("  {}", remove(format!("{} drains; {} in flight now", node(leaving), leaving.in_flight)))
            }));
        }
        lines.extend(self.routes_added.iter().map(|route| format!("  {}", add(format!("answers for {route}")))));
        lines.extend(self.routes_removed.iter().map(|route| format!("  {}", remove(format!("answers for {route}")))));
        lines.extend(self.versions.iter().map(|text| format!("  {}", edit(text))));
        if !self.settings.is_empty() {
            lines.push(format!("  {}", edit(format!("settings: {}", self.settings.join(", ")))));
        }
        lines.extend(self.notes.iter().map(|note| format!("    note: {}", clean(note))));
        lines
    }
}

fn add(text: impl std::fmt::Display) -> String {
    format!("{} {text}", colored(anstyle::AnsiColor::Green, "+"))
}

fn remove(text: impl std::fmt::Display) -> String {
    format!("{} {text}", colored(anstyle::AnsiColor::Red, "-"))
}

fn edit(text: impl std::fmt::Display) -> String {
    format!("{} {text}", colored(anstyle::AnsiColor::Yellow, "~"))
}

/// Sections that are not alike.
fn differ(from: &Settings, to: &Settings) -> Vec<String> {
    let names: BTreeSet<_> = from.keys().chain(to.keys()).collect();
    names.into_iter().filter(|name| from.get(*name) != to.get(*name)).cloned().collect()
}

fn listeners(from: &BTreeMap<String, ListenerOutline>, to: &BTreeMap<String, ListenerOutline>) -> Vec<ListenerPlan> {
    let names: BTreeSet<_> = from.keys().chain(to.keys()).collect();
    names
        .into_iter()
        .filter(|name| from.get(*name) != to.get(*name))
        .map(|name| {
            let (from, to) = (from.get(name), to.get(name));
            ListenerPlan {
                name: name.clone(),
                settings: from.zip(to).is_some_and(|(from, to)| from.settings != to.settings),
                from: from.map(|listener| listener.bind.clone()),
                to: to.map(|listener| listener.bind.clone()),
            }
        })
        .collect()
}

/// What happens to one service; none if nothing does.
fn service(
    name: &ServiceName,
    (from, to): (Option<&ServiceOutline>, Option<&ServiceOutline>),
    status: Option<&ServiceStatus>,
    settings: Option<&config::Service>,
) -> Option<ServicePlan> {
    let mut plan = ServicePlan {
        name: name.clone(),
        change: match (from, to) {
            (None, _) => "add",
            (_, None) => "remove",
            _ => "edit",
        },
        rollout: rollout(from, to, status, settings),
        versions: Vec::new(),
        routes_added: only(to, from),
        routes_removed: only(from, to),
        settings: from.zip(to).map(|(from, to)| differ(&from.settings, &to.settings)).unwrap_or_default(),
        notes: Vec::new(),
    };
    if let (Some(from), Some(to)) = (from, to) {
        plan.versions = versions(from, to);
    }
    if plan.rollout.is_some() {
        plan.notes.extend(warnings(to, status));
    }
    let unchanged = plan.rollout.is_none()
        && plan.versions.is_empty()
        && plan.routes_added.is_empty()
        && plan.routes_removed.is_empty()
        && plan.settings.is_empty();
    // Whoever plans a copy has files of other names: that alone changes nothing.
    (!(unchanged && plan.change == "edit")).then_some(plan)
}

/// Routes of one that the other does not have.
fn only(one: Option<&ServiceOutline>, other: Option<&ServiceOutline>) -> Vec<String> {
    let there = |route: &&String| other.is_some_and(|other| other.matches.contains(route));
    one.iter().flat_map(|one| &one.matches).filter(|route| !there(route)).cloned().collect()
}

fn sorted(nodes: Option<&Vec<NodeAddress>>) -> BTreeSet<&NodeAddress> {
    nodes.into_iter().flatten().collect()
}

/// Versions that are written differently, but for the ones that a rollout tells of.
fn versions(from: &ServiceOutline, to: &ServiceOutline) -> Vec<String> {
    let names: BTreeSet<_> = from.versions.keys().chain(to.versions.keys()).collect();
    names
        .into_iter()
        .filter(|name| **name != to.release && **name != from.release)
        .filter_map(|name| match (from.versions.get(name), to.versions.get(name)) {
            (None, Some(_)) => Some(format!("{name} is known; it gets no traffic while it is not the release")),
            (Some(_), None) => Some(format!("{name} is forgotten")),
            (old, new) => {
                (sorted(old) != sorted(new)).then(|| format!("{name} has other nodes; it is not the release"))
            }
        })
        .collect()
}

fn rollout(
    from: Option<&ServiceOutline>,
    to: Option<&ServiceOutline>,
    status: Option<&ServiceStatus>,
    settings: Option<&config::Service>,
) -> Option<RolloutPlan> {
    let release = |outline: &ServiceOutline| -> (Version, BTreeSet<NodeAddress>) {
        let nodes = sorted(outline.versions.get(&outline.release)).into_iter().cloned().collect();
        (outline.release.clone(), nodes)
    };
    let (old, new) = (from.map(release), to.map(release));
    if old == new {
        return None;
    }
    let present: Vec<_> = status
        .iter()
        .flat_map(|status| &status.nodes)
        .filter(|node| !matches!(node.state, NodeState::Draining | NodeState::Drained))
        .collect();
    let stays = |version: &Version, address: &NodeAddress| {
        new.as_ref().is_some_and(|(release, nodes)| release == version && nodes.contains(address))
    };
    let drain: Vec<_> = present
        .iter()
        .filter(|node| !stays(&node.version, &node.address))
        .map(|node| Moving { version: node.version.clone(), address: node.address.clone(), in_flight: node.in_flight })
        .collect();
    let join: Vec<_> = new
        .iter()
        .flat_map(|(release, nodes)| nodes.iter().map(move |address| (release, address)))
        .filter(|(release, address)| !present.iter().any(|node| node.version == **release && node.address == **address))
        .map(|(version, address)| Moving { version: version.clone(), address: address.clone(), in_flight: 0 })
        .collect();
    let strategy = settings.map(|settings| settings.rollout.strategy);
    Some(RolloutPlan {
        how: how(old.as_ref().map(|(version, _)| version), settings, &join, &drain),
        from: old.map(|(version, _)| version),
        to: new.map(|(version, _)| version),
        strategy: strategy.map(Strategy::as_str),
        join,
        drain,
    })
}

fn named(version: &Version) -> String {
    if version.is_unnamed() { "the new list of nodes".into() } else { version.to_string() }
}

/// How the nodes change, in a sentence.
fn how(from: Option<&Version>, settings: Option<&config::Service>, join: &[Moving], drain: &[Moving]) -> String {
    let Some(settings) = settings else {
        return "its nodes drain".into();
    };
    let to = named(&settings.release);
    let Some(from) = from else {
        return format!("{to} serves as soon as its nodes are healthy");
    };
    if drain.is_empty() {
        return format!("{to} grows; each node gets traffic when it is healthy");
    }
    if join.is_empty() && *from == settings.release {
        return format!("{to} shrinks");
    }
    let limits = format!(
        "; old work has {} to end (streams {}, WebSockets {})",
        duration(settings.drain.requests),
        duration(settings.drain.streams),
        duration(settings.drain.websockets)
    );
    let rollout = &settings.rollout;
    let way = match rollout.strategy {
        Strategy::Rolling => "each new node that becomes healthy takes the place of an old one".to_owned(),
        Strategy::BlueGreen => {
            let keep = duration(rollout.keep);
            format!(
                "all its nodes become healthy, then everything moves at once, and what served stays warm for {keep}"
            )
        }
        Strategy::Canary => {
            let steps = rollout.steps.iter().map(|step| match step.hold {
                Some(hold) => format!("{} for {}", percent(step.share.percent()), duration(hold)),
                None => format!("{} until it is promoted", percent(step.share.percent())),
            });
            let steps = steps.collect::<Vec<_>>().join(", ");
            let guard = if rollout.guard.is_on() { "judged by the guard" } else { "not judged: the guard is off" };
            format!("{steps}, then all; {guard}")
        }
    };
    let takes = if *from == settings.release {
        format!("{to} changes its nodes")
    } else {
        format!("{to} takes over from {}", named(from))
    };
    format!("{takes} ({}): {way}{limits}", rollout.strategy.as_str())
}

/// What stands in the way, or is overtaken.
fn warnings(to: Option<&ServiceOutline>, status: Option<&ServiceStatus>) -> Vec<String> {
    let (Some(status), mut notes) = (status, Vec::new()) else {
        return Vec::new();
    };
    if let Some(rollout) = &status.rollout {
        notes.push(format!(
            "the rollout to {} that is in progress is overtaken; whoever waits for it gets exit code 5",
            named(&rollout.to)
        ));
    }
    let refused = to.and_then(|to| {
        let nodes = sorted(to.versions.get(&to.release));
        status
            .refused
            .iter()
            .find(|refused| refused.version == to.release && refused.nodes.iter().collect::<BTreeSet<_>>() == nodes)
    });
    if let Some(refused) = refused {
        notes.push(format!(
            "{} was refused ({}): nothing moves before `sluice retry {}`",
            refused.version, refused.reason, status.name
        ));
    }
    notes
}
