//! What an edit changes: `diff(serving, wanted)`, such that `apply(diff(a, b), a) == b`.
//!
//! The controller decides by it whom an edit concerns: who is not in [`Changes`] is not touched. Its lines are for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use super::nodes::named;
pub use super::spec::{Global, Routes, ServiceSpec, Settings, Spec};
use crate::config::{HostPattern, Match};
use crate::model::{NodeAddress, ServiceName, Version};

/// What differs between two configurations. `Display` gives one line a change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// New settings of the whole proxy.
    pub global: Option<Global>,
    /// Listeners to close; one that changes its address is in `opened` too.
    pub closed: BTreeMap<String, SocketAddr>,
    /// Listeners to open.
    pub opened: BTreeMap<String, SocketAddr>,
    /// Services that go.
    pub removed: BTreeSet<ServiceName>,
    /// Services that come.
    pub added: BTreeMap<ServiceName, ServiceSpec>,
    /// Services that change.
    pub changed: BTreeMap<ServiceName, ServiceChange>,
}

/// What differs in one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceChange {
    /// New timeouts or policies.
    pub settings: Option<Settings>,
    /// New routes.
    pub routes: Option<Routes>,
    /// The version that shall serve, from and to.
    pub release: Option<(Version, Version)>,
    /// Versions whose nodes change.
    pub versions: BTreeMap<Version, VersionChange>,
}

/// What differs in the nodes of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionChange {
    /// It is new, with these nodes.
    Added(BTreeSet<NodeAddress>),
    /// It is gone.
    Removed,
    /// Its nodes differ.
    Edited {
        /// Nodes that come.
        added: BTreeSet<NodeAddress>,
        /// Nodes that go.
        removed: BTreeSet<NodeAddress>,
    },
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// One line a change, for people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.global.is_some() {
            lines.push("the settings of the proxy change".into());
        }
        lines.extend(self.closed.iter().map(|(name, bind)| format!("listener {name} closes ({bind})")));
        lines.extend(self.opened.iter().map(|(name, bind)| format!("listener {name} opens on {bind}")));
        lines.extend(self.removed.iter().map(|name| format!("service {name} is removed; its nodes drain")));
        for (name, service) in &self.added {
            let nodes = service.versions.get(&service.release).map_or_else(String::new, list);
            lines.push(format!("service {name} is added: {} on {nodes}", named(&service.release)));
        }
        for (name, change) in &self.changed {
            lines.extend(change.lines().into_iter().map(|line| format!("service {name}: {line}")));
        }
        lines
    }
}

impl ServiceChange {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some((from, to)) = &self.release {
            lines.push(format!("{} takes over from {}", named(to), named(from)));
        }
        for (version, change) in &self.versions {
            let version = named(version);
            match change {
                VersionChange::Added(nodes) => {
                    lines.push(format!("{version} is new, with {}", list(nodes)));
                }
                VersionChange::Removed => lines.push(format!("{version} is gone")),
                VersionChange::Edited { added, removed } => {
                    lines.extend(added.iter().map(|node| format!("{node} joins {version}")));
                    lines.extend(removed.iter().map(|node| format!("{node} leaves {version}")));
                }
            }
        }
        if let Some(routes) = &self.routes {
            let matches: Vec<String> = routes.matches.iter().map(show_match).collect();
            lines.push(format!("it now answers for {}", matches.join(", ")));
        }
        if self.settings.is_some() {
            lines.push("its settings change".into());
        }
        lines
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// What must change so that `serving` becomes `wanted`.
pub fn diff(serving: &Spec, wanted: &Spec) -> Changes {
    let missing = |from: &BTreeMap<String, SocketAddr>, other: &BTreeMap<String, SocketAddr>| {
        from.iter()
            .filter(|(name, bind)| other.get(*name) != Some(bind))
            .map(|(name, bind)| (name.clone(), *bind))
            .collect()
    };
    let mut changes = Changes {
        global: (serving.global != wanted.global).then(|| wanted.global.clone()),
        closed: missing(&serving.listeners, &wanted.listeners),
        opened: missing(&wanted.listeners, &serving.listeners),
        ..Changes::default()
    };
    changes.removed = serving.services.keys().filter(|name| !wanted.services.contains_key(*name)).cloned().collect();
    for (name, service) in &wanted.services {
        match serving.services.get(name) {
            None => {
                changes.added.insert(name.clone(), service.clone());
            }
            Some(before) => {
                let change = diff_service(before, service);
                if !change.is_empty() {
                    changes.changed.insert(name.clone(), change);
                }
            }
        }
    }
    changes
}

fn diff_service(serving: &ServiceSpec, wanted: &ServiceSpec) -> ServiceChange {
    let mut versions = BTreeMap::new();
    for (version, nodes) in &wanted.versions {
        let change = match serving.versions.get(version) {
            None => VersionChange::Added(nodes.clone()),
            Some(before) if before == nodes => continue,
            Some(before) => VersionChange::Edited {
                added: nodes.difference(before).cloned().collect(),
                removed: before.difference(nodes).cloned().collect(),
            },
        };
        versions.insert(version.clone(), change);
    }
    for version in serving.versions.keys().filter(|version| !wanted.versions.contains_key(*version)) {
        versions.insert(version.clone(), VersionChange::Removed);
    }
    ServiceChange {
        settings: (serving.settings != wanted.settings).then(|| wanted.settings.clone()),
        routes: (serving.routes != wanted.routes).then(|| wanted.routes.clone()),
        release: (serving.release != wanted.release).then(|| (serving.release.clone(), wanted.release.clone())),
        versions,
    }
}

/// `serving` with the changes made.
pub fn apply(changes: &Changes, serving: &Spec) -> Spec {
    let mut spec = serving.clone();
    if let Some(global) = &changes.global {
        spec.global = global.clone();
    }
    spec.listeners.retain(|name, _| !changes.closed.contains_key(name));
    spec.listeners.extend(changes.opened.iter().map(|(name, bind)| (name.clone(), *bind)));
    spec.services.retain(|name, _| !changes.removed.contains(name));
    spec.services.extend(changes.added.iter().map(|(name, service)| (name.clone(), service.clone())));
    for (name, change) in &changes.changed {
        if let Some(service) = spec.services.get_mut(name) {
            apply_service(change, service);
        }
    }
    spec
}

fn apply_service(change: &ServiceChange, service: &mut ServiceSpec) {
    if let Some(settings) = &change.settings {
        service.settings = settings.clone();
    }
    if let Some(routes) = &change.routes {
        service.routes = routes.clone();
    }
    if let Some((_, to)) = &change.release {
        service.release = to.clone();
    }
    for (version, change) in &change.versions {
        match change {
            VersionChange::Added(nodes) => {
                service.versions.insert(version.clone(), nodes.clone());
            }
            VersionChange::Removed => {
                service.versions.remove(version);
            }
            VersionChange::Edited { added, removed } => {
                let nodes = service.versions.entry(version.clone()).or_default();
                nodes.retain(|node| !removed.contains(node));
                nodes.extend(added.iter().cloned());
            }
        }
    }
}

fn list(nodes: &BTreeSet<NodeAddress>) -> String {
    let nodes: Vec<&str> = nodes.iter().map(NodeAddress::as_str).collect();
    nodes.join(", ")
}

fn show_match(pattern: &Match) -> String {
    match &pattern.host {
        HostPattern::Exact(host) => format!("{host}{}", pattern.prefix),
        HostPattern::Wildcard(host) => format!("*.{host}{}", pattern.prefix),
        HostPattern::Any => format!("*{}", pattern.prefix),
    }
}
