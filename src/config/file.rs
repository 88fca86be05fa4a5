//! The TOML as it is written: which keys there are, of which type, and where each stands.
//!
//! Sections whose values do not depend on each other are read into their valid form at once; what takes a second look
//! (names, addresses, one key against another) is left as written for `validate`.

use std::path::Path;

use toml::de::DeTable;

use super::admin::{self, AdminTls};
use super::balance;
use super::error::{Fault, Findings};
use super::log;
use super::metrics;
use super::nodes::Nodes;
use super::protocol;
use super::reader::{At, Field, Table};
use super::rollout;
use super::tls::{self, Accepting, ClientTls};
use super::tokens::{self, Token};
use super::tracing;
use super::{
    AccessLog, AllDown, Balance, Connections, Door, Drain, Eject, Errors, Hold, Limits, Metrics, Retry, Rollout,
    Shutdown, Timeouts, Tracing, Trial, door, trial,
};

pub(super) type Strings<'t> = Vec<At<&'t str>>;

/// A file.
pub(super) struct File<'t> {
    pub(super) include: Strings<'t>,
    pub(super) listeners: Vec<RawListener<'t>>,
    pub(super) admin_socket: Field<&'t str>,
    pub(super) admin_http: Field<&'t str>,
    pub(super) admin_tls: Option<AdminTls>,
    pub(super) admin_tokens: Vec<Token>,
    pub(super) state_dir: Field<&'t str>,
    pub(super) workers: Option<usize>,
    pub(super) trusted_proxies: Strings<'t>,
    pub(super) limits: Limits,
    pub(super) errors: Option<Errors>,
    pub(super) shutdown: Shutdown,
    pub(super) metrics: Metrics,
    pub(super) access_log: Option<AccessLog>,
    pub(super) tracing: Tracing,
    pub(super) services: Vec<RawService<'t>>,
    /// Whether nothing is written that might be a listener.
    pub(super) lacks_listener: bool,
}

/// `[[listener]]`.
pub(super) struct RawListener<'t> {
    pub(super) name: Field<&'t str>,
    pub(super) bind: Field<&'t str>,
    pub(super) accepting: Accepting,
    pub(super) span: super::error::Span,
}

/// `[service.NAME]`.
pub(super) struct RawService<'t> {
    pub(super) name: At<&'t str>,
    pub(super) matches: Field<Strings<'t>>,
    pub(super) strip_prefix: bool,
    pub(super) release: Field<&'t str>,
    pub(super) versions: Field<Vec<(At<&'t str>, Field<Nodes<'t>>)>>,
    pub(super) nodes: Field<Nodes<'t>>,
    pub(super) health: RawHealth<'t>,
    pub(super) rollout: Rollout,
    pub(super) drain: Drain,
    pub(super) timeouts: Timeouts,
    pub(super) retry: Retry,
    pub(super) connections: Connections,
    pub(super) balance: Balance,
    pub(super) eject: Eject,
    pub(super) hold: Hold,
    pub(super) tls: ClientTls,
    pub(super) door: Option<Door>,
    pub(super) trial: Option<Trial>,
}

/// `[service.NAME.health]`; without the section, all is missing and the rest is the default.
pub(super) struct RawHealth<'t> {
    pub(super) path: Field<&'t str>,
    pub(super) grpc: Field<&'t str>,
    pub(super) host: Field<&'t str>,
    pub(super) status: Field<Strings<'t>>,
    pub(super) body: Field<&'t str>,
    pub(super) header: Field<&'t str>,
    /// Everything but the probe.
    pub(super) rest: super::Health,
}

/// Reads the main file.
pub(super) fn read<'t>(table: &'t toml::Spanned<DeTable<'t>>, source: &Path, findings: &'t Findings<'t>) -> File<'t> {
    let mut root = Table::new(table.get_ref(), 0..0, "", findings);
    let lacks_listener = root.lacks("listener");
    let include = list(root.strings("include"));
    let state_dir = root.string("state_dir");
    let workers = root.count("workers", 1..=1024).get().map(|at| at.value);
    let trusted_proxies = list(root.strings("trusted_proxies"));
    let listeners = root.tables("listener", "listener").into_iter().map(|table| listener(table, source)).collect();
    let (mut admin_socket, mut admin_http) = (Field::Missing, Field::Missing);
    let (mut admin_tls, mut admin_tokens) = (None, Vec::new());
    if let Some(mut t) = root.table("admin", "admin") {
        admin_socket = t.string("socket");
        admin_http = t.string("http");
        admin_tls = t.table("tls", "admin.tls").and_then(|table| admin::tls(table, source));
        admin_tokens = tokens::read(t.tables("token", "admin.token"), findings);
        t.finish(misplaced);
    }
    let limits = root.table("limits", "limits").map(limits).unwrap_or_default();
    let errors = root.table("errors", "errors").and_then(door::errors);
    let shutdown = root.table("shutdown", "shutdown").map(shutdown).unwrap_or_default();
    let metrics = root.table("metrics", "metrics").map(metrics::read).unwrap_or_default();
    let access_log = root.table("log", "log").and_then(|table| log::read(table, source));
    let tracing = root.table("tracing", "tracing").map(tracing::read).unwrap_or_default();
    let services = services(&mut root, source);
    // The parts of a service are looked for at the top by those who forget its name.
    root.finish(|key| match key {
        "services" => Some("write `[service.NAME]`".into()),
        "listeners" => Some("write `[[listener]]`".into()),
        "health" | "rollout" | "drain" | "timeouts" | "retry" | "connections" | "balance" | "eject" | "hold"
        | "tls" | "access" | "basic_auth" | "forward_auth" | "request_headers" | "response_headers" | "compression"
        | "cohort" | "preview" | "shadow" => Some(format!("write `[service.NAME.{key}]`")),
        "rate" | "redirect" | "rewrite" => Some(format!("write `[[service.NAME.{key}]]`")),
        _ => misplaced(key),
    });
    File {
        include,
        listeners,
        admin_socket,
        admin_http,
        admin_tls,
        admin_tokens,
        state_dir,
        workers,
        trusted_proxies,
        limits,
        errors,
        shutdown,
        metrics,
        access_log,
        tracing,
        services,
        lacks_listener,
    }
}

/// Reads an included file, which holds services and nothing else.
pub(super) fn read_included<'t>(
    table: &'t toml::Spanned<DeTable<'t>>,
    source: &Path,
    findings: &'t Findings<'t>,
) -> Vec<RawService<'t>> {
    const MAIN: [&str; 12] = [
        "include",
        "listener",
        "admin",
        "state_dir",
        "workers",
        "trusted_proxies",
        "limits",
        "errors",
        "shutdown",
        "metrics",
        "log",
        "tracing",
    ];
    let mut root = Table::new(table.get_ref(), 0..0, "", findings);
    for key in MAIN {
        let fault = Fault::new(format!("an included file can only hold `[service.NAME]` tables, not `{key}`"));
        root.refuse(key, fault.hint(format!("move `{key}` into the main file")));
    }
    let services = services(&mut root, source);
    root.finish(misplaced);
    services
}

/// Where a key belongs that is written under the wrong header: in TOML, a header reaches to the next one.
pub(super) fn misplaced(key: &str) -> Option<String> {
    match key {
        "include" | "state_dir" | "workers" | "trusted_proxies" => {
            Some(format!("write `{key}` above the first `[…]` of the main file"))
        }
        "match" | "strip_prefix" | "canonical_host" | "release" | "versions" | "nodes" => {
            Some(format!("write `{key}` straight under `[service.NAME]`, above its other tables"))
        }
        _ => None,
    }
}

fn list(field: Field<Strings<'_>>) -> Strings<'_> {
    match field {
        Field::Is(at) => at.value,
        _ => Vec::new(),
    }
}

fn listener<'t>(mut t: Table<'t>, source: &Path) -> RawListener<'t> {
    let (name, bind) = (t.string("name"), t.string("bind"));
    let accepting = tls::accepting(&mut t, source);
    let listener = RawListener { name, bind, accepting, span: t.span.clone() };
    t.finish(misplaced);
    listener
}

fn limits(mut t: Table<'_>) -> Limits {
    let d = Limits::default();
    let connections = t.count_or("connections", d.connections, 1..=10_000_000);
    let limits = Limits {
        connections,
        connections_per_address: t.count("connections_per_address", 1..=10_000_000).get().map(|at| at.value),
        requests: t.count_or("requests", connections, 1..=10_000_000),
        requests_per_connection: t.count("requests_per_connection", 1..=1_000_000_000).get().map(|at| at.value),
        head_size: t.size("head_size", d.head_size, 8 << 10..=1 << 20),
        headers: t.count_or("headers", d.headers, 1..=10_000),
        head: t.some_duration("head", d.head),
        idle: t.some_duration("idle", d.idle),
        streams: t.count_or("streams", d.streams, 1..=10_000),
        ping: t.some_duration("ping", d.ping),
        handshake: t.some_duration("handshake", d.handshake),
        handshakes: t.count_or("handshakes", d.handshakes, 1..=1_000_000),
        body: t.some_size("body", 1..=1 << 40).map(|size| size as u64),
        body_rate: t.size("body_rate", d.body_rate, 0..=1 << 30),
    };
    t.finish(misplaced);
    limits
}

fn shutdown(mut t: Table<'_>) -> Shutdown {
    let d = Shutdown::default();
    let shutdown = Shutdown {
        delay: t.duration("delay", d.delay),
        linger: t.duration("linger", d.linger),
        deadline: t.some_duration("deadline", d.deadline),
    };
    t.finish(misplaced);
    shutdown
}

fn services<'t>(root: &mut Table<'t>, source: &Path) -> Vec<RawService<'t>> {
    root.named_tables("service", "service.*").into_iter().map(|(name, table)| service(name, table, source)).collect()
}

fn service<'t>(name: At<&'t str>, mut t: Table<'t>, source: &Path) -> RawService<'t> {
    let service = RawService {
        name,
        matches: t.string_or_strings("match", "`match` is empty: no request would reach the service"),
        strip_prefix: t.flag("strip_prefix", false),
        release: t.string("release"),
        versions: t.named_nodes("versions", "a version needs at least one node"),
        nodes: t.some_nodes("nodes", "a service needs at least one node"),
        health: health(t.table("health", "service.*.health")),
        rollout: rollout::rollout(t.table("rollout", "service.*.rollout")),
        drain: t.table("drain", "service.*.drain").map(drain).unwrap_or_default(),
        timeouts: t.table("timeouts", "service.*.timeouts").map(timeouts).unwrap_or_default(),
        retry: t.table("retry", "service.*.retry").map(retry).unwrap_or_default(),
        connections: t.table("connections", "service.*.connections").map(connections).unwrap_or_default(),
        balance: balance::balance(t.table("balance", "service.*.balance")),
        eject: balance::eject(t.table("eject", "service.*.eject")),
        hold: balance::hold(t.table("hold", "service.*.hold")),
        tls: tls::client(t.table("tls", "service.*.tls"), source),
        door: door::read(&mut t),
        trial: trial::read(&mut t),
    };
    t.finish(|key| match key {
        "version" => Some("name the version that shall serve with `release`, and its nodes in `versions`".into()),
        "host" | "path" | "hosts" | "domain" => {
            Some("a service is chosen by `match`, like \"example.com/shop\"".into())
        }
        _ => misplaced(key),
    });
    service
}

fn health(table: Option<Table<'_>>) -> RawHealth<'_> {
    let mut rest = super::Health::default();
    let Some(mut t) = table else {
        return RawHealth {
            path: Field::Missing,
            grpc: Field::Missing,
            host: Field::Missing,
            status: Field::Missing,
            body: Field::Missing,
            header: Field::Missing,
            rest,
        };
    };
    rest.interval = t.some_duration("interval", rest.interval);
    rest.timeout = t.some_duration("timeout", rest.timeout);
    rest.rise = t.count_or("rise", rest.rise as usize, 1..=1000) as u32;
    rest.fall = t.count_or("fall", rest.fall as usize, 1..=1000) as u32;
    rest.all_down =
        t.choice("all_down", rest.all_down, &[("serve", AllDown::Serve), ("refuse", AllDown::Refuse)], |_| None);
    let health = RawHealth {
        path: t.string("path"),
        grpc: t.string("grpc"),
        host: t.string("host"),
        status: t.numbers_or_strings("status", "`status` is empty: no probe would ever pass"),
        body: t.string("body"),
        header: t.string("header"),
        rest,
    };
    t.finish(misplaced);
    health
}

fn drain(mut t: Table<'_>) -> Drain {
    let d = Drain::default();
    let drain = Drain {
        requests: t.duration("requests", d.requests),
        streams: t.duration("streams", d.streams),
        websockets: t.duration("websockets", d.websockets),
        spread: t.duration("spread", d.spread),
    };
    t.finish(misplaced);
    drain
}

fn timeouts(mut t: Table<'_>) -> Timeouts {
    let d = Timeouts::default();
    let timeouts = Timeouts {
        connect: t.some_duration("connect", d.connect),
        response: t.some_duration("response", d.response),
        body: t.some_duration("body", d.body),
        tunnel: t.some_duration("tunnel", d.tunnel),
    };
    t.finish(misplaced);
    timeouts
}

fn retry(mut t: Table<'_>) -> Retry {
    let d = Retry::default();
    let retry = Retry {
        attempts: t.count_or("attempts", d.attempts as usize, 1..=10) as u32,
        budget: t.percent("budget", d.budget),
        buffer: t.size("buffer", d.buffer, 0..=64 << 20),
    };
    t.finish(misplaced);
    retry
}

fn connections(mut t: Table<'_>) -> Connections {
    let d = Connections::default();
    let max = t.count_or("max", d.max, 1..=1_000_000);
    let idle = t.count("idle", 0..=1_000_000);
    if let Some(idle) = idle.get().filter(|idle| idle.value > max) {
        t.findings().add(&idle.span, Fault::new(format!("`idle` is more than `max`, which is {max}")));
    }
    let protocol = protocol::read(&mut t, d.protocol);
    let connections = Connections {
        max,
        // A lower `max` alone must not make the default of `idle` an error.
        idle: idle.get().map_or(d.idle.min(max), |at| at.value),
        idle_timeout: t.some_duration("idle_timeout", d.idle_timeout),
        fresh: t.duration("fresh", d.fresh),
        protocol,
        proxy_protocol: tls::proxy_version(&mut t, protocol),
        streams: t.count_or("streams", d.streams, 1..=10_000),
        ping: t.some_duration("ping", d.ping),
    };
    t.finish(misplaced);
    connections
}
