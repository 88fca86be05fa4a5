//! From settings, split and nodes to what the workers see.
//!
//! The [`Assembler`] keeps what it built: an edit to one of ten thousand services builds that one view and copies a list of
//! pointers. Routes are built again only if a route or the order of the services changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{self, Config};
use crate::model::ServiceName;
use crate::pool::balance;
use crate::pool::{
    AccessLog, CohortKey, Edge, Halt, Hold, Node, Router, ServiceStats, ServiceView, Slice, Snapshot, Spans,
};
use crate::rollout::{self, NodeRef, Split};

/// One service as the workers shall see it. `find` gives a node and its weight now, in units of [`balance::ONE`]; a node that it does not
/// know is left out, and so is a version without any.
///
/// A version's share is what the split says, as far as its nodes have their full weight and no other: heavy nodes raise
/// it, nodes that warm up lower it.
pub(super) fn view(
    settings: &Arc<config::Service>,
    split: &Split,
    (hold, stats): (&Arc<Hold>, &Arc<ServiceStats>),
    halt: Option<Arc<Halt>>,
    find: impl Fn(&NodeRef) -> Option<(Arc<Node>, u32)>,
) -> Arc<ServiceView> {
    let mut found: Vec<_> = split
        .slices
        .iter()
        .filter_map(|slice| {
            let nodes: Vec<_> = slice.nodes.iter().filter_map(&find).collect();
            (!nodes.is_empty()).then_some((slice, nodes))
        })
        .collect();
    // What grows comes last, so that a user whose place it reaches moves once.
    found.sort_by_key(|(slice, _)| match &split.trial {
        Some(trial) => slice.version == *trial,
        None => slice.version == settings.release,
    });
    let trial = split.trial.as_ref().and_then(|trial| found.iter().position(|(slice, _)| slice.version == *trial));
    let weighed: Vec<u64> = found
        .iter()
        .map(|(slice, nodes)| {
            let sum: u64 = nodes.iter().map(|(_, weight)| u64::from(*weight)).sum();
            // What is judged gets exactly its share.
            if trial.is_some() { u64::from(slice.share.0) } else { u64::from(slice.share.0) * sum / nodes.len() as u64 }
        })
        .collect();
    let shares = balance::divide(&weighed);
    let slice = |((slice, nodes), share): ((&rollout::Slice, _), _)| {
        Slice::new(slice.version.clone(), share, nodes, &settings.balance.policy)
    };
    let slices = found.into_iter().zip(shares).map(slice).collect();
    let (settings, hold, stats) = (Arc::clone(settings), Arc::clone(hold), Arc::clone(stats));
    Arc::new(ServiceView { settings, slices, all_down: split.all_down, trial, halt, hold, stats })
}

/// Holds the parts of the next snapshot.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// Where each service stands in `views`: by name, so it is stable while no service comes or goes.
    index: BTreeMap<ServiceName, usize>,
    views: Vec<Arc<ServiceView>>,
    router: Arc<Router>,
    edge: Arc<Edge>,
}

impl Assembler {
    /// Whether these services need other routes than there are.
    pub(super) fn routes_differ(&self, services: &BTreeMap<ServiceName, Arc<config::Service>>) -> bool {
        self.index.len() != services.len()
            || self.index.iter().zip(services).any(|((ours, index), (theirs, service))| {
                let running = &self.views[*index].settings;
                ours != theirs || (!Arc::ptr_eq(running, service) && running.matches != service.matches)
            })
    }

    /// Replaces services and routes.
    pub(super) fn set_views(&mut self, views: BTreeMap<ServiceName, Arc<ServiceView>>) {
        self.router = Arc::new(Router::new(
            views
                .values()
                .enumerate()
                .flat_map(|(index, view)| view.settings.matches.iter().map(move |pattern| (pattern, index))),
        ));
        self.index = views.keys().cloned().zip(0..).collect();
        self.views = views.into_values().collect();
    }

    /// Replaces one service whose routes are what they were. `false` if it is not served.
    pub(super) fn set_view(&mut self, name: &ServiceName, view: Arc<ServiceView>) -> bool {
        let Some(index) = self.index.get(name) else {
            return false;
        };
        self.views[*index] = view;
        true
    }

    /// A service as it is in the next snapshot.
    pub(super) fn view(&self, name: &ServiceName) -> Option<Arc<ServiceView>> {
        self.index.get(name).map(|index| Arc::clone(&self.views[*index]))
    }

    /// What cookies are signed with. Told once, before the first edge.
    pub(super) fn set_cohort_key(&mut self, key: Option<CohortKey>) {
        self.edge = Arc::new(Edge { cohort_key: key.map(Arc::new), ..Edge::default() });
    }

    /// Takes over what holds for every request. Whether anything differs.
    pub(super) fn set_edge(
        &mut self,
        config: &Config,
        access_log: Option<&Arc<AccessLog>>,
        spans: Option<&Arc<Spans>>,
    ) -> bool {
        let forwards_clients = config.listeners.iter().any(|listener| listener.accepting.forwards_clients());
        let tracing = (config.tracing != config::Tracing::default()).then(|| Box::new(config.tracing.clone()));
        let same = self.edge.trusted_proxies == config.trusted_proxies
            && self.edge.limits == config.limits
            && self.edge.errors == config.errors
            && self.edge.forwards_clients == forwards_clients
            && self.edge.access_log.as_ref().map(Arc::as_ptr) == access_log.map(Arc::as_ptr)
            && self.edge.spans.as_ref().map(Arc::as_ptr) == spans.map(Arc::as_ptr)
            && self.edge.tracing == tracing;
        if !same {
            self.edge = Arc::new(Edge {
                trusted_proxies: config.trusted_proxies.clone(),
                limits: config.limits.clone(),
                errors: config.errors.clone(),
                cohort_key: self.edge.cohort_key.clone(),
                forwards_clients,
                access_log: access_log.cloned(),
                spans: spans.cloned(),
                tracing,
            });
        }
        !same
    }

    /// The next snapshot; the pool numbers it.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            generation: 0,
            router: Arc::clone(&self.router),
            services: self.views.clone(),
            edge: Arc::clone(&self.edge),
        }
    }
}
