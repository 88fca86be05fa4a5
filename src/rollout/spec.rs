//! A configuration as a plain summary: the parts that an edit can change independently, and that `diff` compares.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{AccessLog, Admin, Config, Errors, Limits, Match, Metrics, Service, Shutdown, Tracing};
use crate::model::{NodeAddress, ServiceName, Version};

/// A configuration, in the parts that change independently.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// What concerns the whole proxy.
    pub global: Global,
    /// Listeners by name.
    pub listeners: BTreeMap<String, SocketAddr>,
    /// Services by name.
    pub services: BTreeMap<ServiceName, ServiceSpec>,
}

/// What concerns the whole proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Global {
    /// How verbs reach the proxy.
    pub admin: Admin,
    /// Whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Bounds on what clients may use.
    pub limits: Limits,
    /// What clients see when something goes wrong.
    pub errors: Option<Arc<Errors>>,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// How much `/metrics` tells.
    pub metrics: Metrics,
    /// A line for each request.
    pub access_log: Option<Arc<AccessLog>>,
    /// How requests are followed from hop to hop.
    pub tracing: Tracing,
}

/// One service, in the parts that change independently.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSpec {
    /// The version that shall serve.
    pub release: Version,
    /// The nodes of each version; their order means nothing.
    pub versions: BTreeMap<Version, BTreeSet<NodeAddress>>,
    /// Which requests are its own, and what a node sees of their path.
    pub routes: Routes,
    /// Everything else.
    pub settings: Settings,
}

/// Which requests belong to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// Hosts and path prefixes.
    pub matches: Vec<Match>,
    /// Whether the matched prefix is removed.
    pub strip_prefix: bool,
}

/// The timeouts and policies of a service. Equal if those are, whatever its nodes and routes: shares the service instead of
/// copying it, so that comparing ten thousand untouched ones costs nothing.
#[derive(Clone, Debug)]
pub struct Settings(pub Arc<Service>);

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        if Arc::ptr_eq(&self.0, &other.0) {
            return true;
        }
        // Every field is named, so that a new one cannot be forgotten here.
        let Service {
            name,
            source,
            matches: _,
            strip_prefix: _,
            release: _,
            versions: _,
            health,
            rollout,
            drain,
            timeouts,
            retry,
            connections,
            weights,
            balance,
            eject,
            hold,
            tls,
            door,
            trial,
        } = &*self.0;
        let other = &*other.0;
        (name, source, health, rollout) == (&other.name, &other.source, &other.health, &other.rollout)
            && (drain, timeouts) == (&other.drain, &other.timeouts)
            && (retry, connections) == (&other.retry, &other.connections)
            && (weights, balance, eject, hold) == (&other.weights, &other.balance, &other.eject, &other.hold)
            && (tls, door, trial) == (&other.tls, &other.door, &other.trial)
    }
}

impl Spec {
    /// The summary of a configuration. `state_dir` and `workers` are not in it: they are fixed for the life of the process.
    pub fn of(config: &Config) -> Self {
        let Config {
            listeners,
            services,
            admin,
            state_dir: _,
            workers: _,
            trusted_proxies,
            limits,
            errors,
            shutdown,
            metrics,
            access_log,
            tracing,
        } = config;
        Self {
            global: Global {
                admin: admin.clone(),
                trusted_proxies: trusted_proxies.clone(),
                limits: limits.clone(),
                errors: errors.clone(),
                shutdown: shutdown.clone(),
                metrics: metrics.clone(),
                access_log: access_log.clone(),
                tracing: tracing.clone(),
            },
            listeners: listeners.iter().map(|listener| (listener.name.clone(), listener.bind)).collect(),
            services: services.iter().map(|(name, service)| (name.clone(), ServiceSpec::of(service))).collect(),
        }
    }
}

impl ServiceSpec {
    /// The summary of one service.
    pub fn of(service: &Arc<Service>) -> Self {
        let nodes =
            |(version, nodes): (&Version, &Vec<NodeAddress>)| (version.clone(), nodes.iter().cloned().collect());
        Self {
            release: service.release.clone(),
            versions: service.versions.iter().map(nodes).collect(),
            routes: Routes { matches: service.matches.clone(), strip_prefix: service.strip_prefix },
            settings: Settings(Arc::clone(service)),
        }
    }
}
