//! From what is written to what is valid: names, addresses, one key against another.
//!
//! Pure: no files, no clock, no environment. Goes on after an error, with a value that makes no second one; the caller
//! uses the result only if nothing was found.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Fault, Findings, Span, listed, nearest};
use super::file::{File, RawHealth, RawListener, RawService};
use super::reader::{At, Field};
use super::{
    Admin, Config, Health, Listener, NodeProtocol, Probe, Service, Strategy, admin, defaults, nodes, protocol, words,
};
use crate::model::{NodeAddress, ServiceName, Version};

/// A Unix socket's path must fit into the kernel's address structure.
const SOCKET_PATH: usize = 107;

/// A checked service, and where its name and its matches stand.
pub(super) struct Checked {
    pub(super) service: Service,
    pub(super) name_at: Span,
    pub(super) matches_at: Vec<Span>,
}

/// Everything but the services.
pub(super) fn settings(file: &File<'_>, findings: &Findings<'_>) -> Config {
    let listeners = listeners(file, findings);
    let http = file
        .admin_http
        .get()
        .and_then(|at| admin::http(at, file.admin_tls.as_ref(), &file.admin_tokens, &listeners, findings));
    Config {
        services: BTreeMap::new(),
        admin: Admin {
            socket: file.admin_socket.get().map(|at| {
                if at.value.len() > SOCKET_PATH {
                    findings.add(&at.span, Fault::new(format!("the path of a socket has at most {SOCKET_PATH} bytes")));
                }
                path(at, findings)
            }),
            http,
            tls: file.admin_tls.clone(),
            tokens: file.admin_tokens.clone(),
        },
        state_dir: file.state_dir.get().map(|at| path(at, findings)),
        workers: file.workers,
        trusted_proxies: file.trusted_proxies.iter().filter_map(|at| parsed(at, findings, words::network)).collect(),
        limits: file.limits.clone(),
        errors: file.errors.clone().map(Arc::new),
        shutdown: file.shutdown.clone(),
        metrics: file.metrics.clone(),
        access_log: file.access_log.clone().map(Arc::new),
        tracing: file.tracing.clone(),
        listeners,
    }
}

fn parsed<T>(at: &At<&str>, findings: &Findings<'_>, parse: impl Fn(&str) -> Result<T, Fault>) -> Option<T> {
    parse(at.value).map_err(|fault| findings.add(&at.span, fault)).ok()
}

fn path(at: &At<&str>, findings: &Findings<'_>) -> PathBuf {
    if at.value.is_empty() || at.value.contains('\0') {
        findings.add(&at.span, Fault::new("this is not a path"));
    }
    PathBuf::from(at.value)
}

fn listeners(file: &File<'_>, findings: &Findings<'_>) -> Vec<Listener> {
    if file.lacks_listener {
        // An editor that writes in place shows an empty file for a moment. That must not close every listener.
        let fault = Fault::new("there is no listener, so nothing can be served");
        findings.add_whole(fault.hint("add `[[listener]]` with `name = \"http\"` and `bind = \"0.0.0.0:8080\"`"));
    }
    let mut names = Firsts::default();
    let mut binds = Firsts::default();
    let read = |raw: &RawListener<'_>| {
        for (key, missing) in [("name", raw.name.is_missing()), ("bind", raw.bind.is_missing())] {
            if missing {
                findings.add(&raw.span, Fault::new(format!("this listener has no `{key}`")));
            }
        }
        if let Some(at) = raw.name.get() {
            parsed(at, findings, |text| words::name(text, "listener"));
            if let Some(line) = names.second(at.value.to_owned(), &at.span, findings) {
                findings
                    .add(&at.span, Fault::new(format!("there is already a listener `{}`, in line {line}", at.value)));
            }
        }
        let bind = raw.bind.get().and_then(|at| parsed(at, findings, words::bind));
        if let (Some(bind), Some(at)) = (bind, raw.bind.get())
            // Port 0 takes another port each time.
            && bind.port() != 0
            && let Some(line) = binds.second(bind, &at.span, findings)
        {
            findings.add(&at.span, Fault::new(format!("there is already a listener on {bind}, in line {line}")));
        }
        Some(Listener { name: raw.name.get()?.value.to_owned(), bind: bind?, accepting: raw.accepting.clone() })
    };
    file.listeners.iter().filter_map(read).collect()
}

/// Checks every service of a file by itself.
pub(super) fn services(raw: &[RawService<'_>], source: &Path, findings: &Findings<'_>) -> Vec<Checked> {
    raw.iter().map(|raw| service(raw, source, findings)).collect()
}

fn service(raw: &RawService<'_>, source: &Path, findings: &Findings<'_>) -> Checked {
    parsed(&raw.name, findings, |text| words::name(text, "service"));
    if raw.matches.is_missing() {
        let fault = Fault::new(format!("service `{}` has no `match`", raw.name.value));
        findings.add(
            &raw.name.span,
            fault.hint("write `match = [\"shop.example.com\"]`, or `match = \"*\"` for every request"),
        );
    }
    let written = raw.matches.get().map(|at| &at.value[..]).unwrap_or_default();
    let read = |at: &At<&str>| Some((parsed(at, findings, words::pattern)?, at.span.clone()));
    let (matches, matches_at) = written.iter().filter_map(read).unzip();
    let mut weights = BTreeMap::new();
    let versions = versions(raw, &mut weights, findings);
    let release = release(raw, &versions, findings);
    let service = Service {
        name: ServiceName::new(raw.name.value),
        source: source.to_owned(),
        matches,
        strip_prefix: raw.strip_prefix,
        release,
        versions,
        weights,
        health: Health {
            proxy_protocol: raw.connections.proxy_protocol,
            ..health(&raw.health, raw.connections.protocol, findings)
        },
        rollout: raw.rollout.clone(),
        drain: raw.drain.clone(),
        timeouts: raw.timeouts.clone(),
        retry: raw.retry.clone(),
        connections: raw.connections.clone(),
        balance: raw.balance.clone(),
        eject: raw.eject.clone(),
        hold: raw.hold.clone(),
        tls: raw.tls.clone(),
        door: raw.door.clone().map(Arc::new),
        trial: raw.trial.clone().map(Arc::new),
    };
    Checked { service, name_at: raw.name.span.clone(), matches_at }
}

fn versions(
    raw: &RawService<'_>,
    weights: &mut BTreeMap<Version, BTreeMap<NodeAddress, u32>>,
    findings: &Findings<'_>,
) -> BTreeMap<Version, Vec<NodeAddress>> {
    let mut versions = BTreeMap::new();
    let mut take = |version: Version, list: nodes::Checked| {
        if !list.weights.is_empty() {
            weights.insert(version.clone(), list.weights);
        }
        versions.insert(version, list.addresses);
    };
    let name = raw.name.value;
    if let Some(nodes_at) = raw.nodes.get() {
        if !raw.versions.is_missing() || !raw.release.is_missing() {
            let fault = Fault::new("`nodes` cannot stand beside `release` and `versions`");
            findings.add(
                &nodes_at.span,
                fault.hint("keep `nodes` for a service without named versions, or move the nodes to a version"),
            );
        }
        if raw.rollout.strategy == Strategy::Canary {
            let fault =
                Fault::new("a canary needs named versions: with a plain list there is none to judge against another");
            findings.add(&nodes_at.span, fault.hint("write `release` and `versions`, or use the strategy \"rolling\""));
        }
        take(Version::unnamed(), nodes::check(&nodes_at.value, raw.connections.protocol, findings));
    } else if raw.nodes.is_missing() && raw.versions.is_missing() {
        let fault = Fault::new(format!("service `{name}` has no nodes"));
        let hint = match raw.release.get() {
            Some(release) => {
                format!("write `[service.{name}.versions]` and in it `{} = [\"127.0.0.1:5001\"]`", release.value)
            }
            None => "write `nodes = [\"127.0.0.1:5001\"]`, or `release` and `versions`".into(),
        };
        findings.add(&raw.name.span, fault.hint(hint));
    }
    if let Some(at) = raw.versions.get() {
        if at.value.is_empty() {
            findings.add(&at.span, Fault::new(format!("service `{name}` has no version")));
        }
        for (version, list) in &at.value {
            parsed(version, findings, words::version);
            let list = list.get().map(|at| nodes::check(&at.value, raw.connections.protocol, findings));
            take(Version::new(version.value), list.unwrap_or_default());
        }
    }
    versions
}

fn release(raw: &RawService<'_>, versions: &BTreeMap<Version, Vec<NodeAddress>>, findings: &Findings<'_>) -> Version {
    let (true, Some(written)) = (raw.nodes.is_missing(), raw.versions.get()) else {
        return Version::unnamed();
    };
    let names = || versions.keys().map(Version::as_str);
    match &raw.release {
        Field::Is(at) => {
            if !versions.contains_key(at.value) && !versions.is_empty() {
                let fault = Fault::new(format!(
                    "`release` is `{}`, which is not among the versions",
                    super::units::shorten(at.value)
                ));
                findings.add(
                    &at.span,
                    fault.hint(match nearest(at.value, names()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("the versions are {}", listed(names())),
                    }),
                );
            }
            Version::new(at.value)
        }
        Field::Broken => Version::unnamed(),
        Field::Missing => match versions.keys().next() {
            Some(only) if versions.len() == 1 => only.clone(),
            None => Version::unnamed(),
            Some(_) => {
                let fault = Fault::new(format!("`release` is missing: which of {} shall serve?", listed(names())));
                findings.add(&written.span, fault.hint(format!("write `release` in `[service.{}]`", raw.name.value)));
                Version::unnamed()
            }
        },
    }
}

fn health(raw: &RawHealth<'_>, protocol: NodeProtocol, findings: &Findings<'_>) -> Health {
    let host = raw.host.get().and_then(|at| parsed(at, findings, words::probe_host).map(|()| at.value.to_owned()));
    let body = raw.body.get().map(|at| {
        if at.value.is_empty() || at.value.len() > 1024 {
            findings.add(&at.span, Fault::new("`body` must have from 1 to 1024 bytes"));
        }
        at.value.to_owned()
    });
    let header = raw.header.get().and_then(|at| parsed(at, findings, words::header));
    let status = match raw.status.get() {
        Some(list) => list.value.iter().filter_map(|at| parsed(at, findings, words::status)).collect(),
        None => vec![defaults::STATUS],
    };
    if raw.path.is_missing() && raw.grpc.is_missing() {
        let http_only = [
            ("host", raw.host.get().map(|at| &at.span)),
            ("status", raw.status.get().map(|at| &at.span)),
            ("body", raw.body.get().map(|at| &at.span)),
            ("header", raw.header.get().map(|at| &at.span)),
        ];
        for (key, span) in http_only {
            if let Some(span) = span {
                let message = format!("`{key}` needs a `path`: without one, a probe only connects");
                let fault = Fault::new(message).hint("write `path = \"/healthz\"`");
                findings.add(span, fault);
            }
        }
    }
    if let Some(probe) = protocol::grpc_probe(raw, host.as_deref(), findings) {
        return Health { probe, protocol, ..raw.rest.clone() };
    }
    let probe = raw.path.get().map_or(Probe::Tcp, |at| {
        parsed(at, findings, words::probe_path);
        let path = at.value.to_owned();
        Probe::Http { path, host, status, body, header }
    });
    Health { probe, protocol, ..raw.rest.clone() }
}

/// Finds what is there a second time.
struct Firsts<K>(HashMap<K, Span>);

impl<K> Default for Firsts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Firsts<K> {
    /// The line of the first one, if this is not it.
    fn second(&mut self, key: K, span: &Span, findings: &Findings<'_>) -> Option<usize> {
        let first = self.0.entry(key).or_insert_with(|| span.clone());
        (first != span).then(|| findings.line(first.start))
    }
}
