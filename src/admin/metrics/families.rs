//! The names of everything that `/metrics` tells. `docs/metrics.md` says the same; a test keeps both equal.

/// What a family holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows, until the process or the service ends. Its name has `_total` behind it.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// A family of series with one name.
#[derive(Debug)]
pub struct Family {
    /// Without `_total`, and without the unit.
    pub name: &'static str,
    /// What it is measured in; behind the name.
    pub unit: Option<&'static str>,
    /// What it holds.
    pub kind: Kind,
    /// What the series differ by.
    pub labels: &'static [&'static str],
    /// One line for people.
    pub help: &'static str,
}

impl Family {
    /// The name as it is asked for.
    pub fn full_name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{unit}")).unwrap_or_default();
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{}{unit}{total}", self.name)
    }

    const fn of(
        kind: Kind,
        name: &'static str,
        unit: Option<&'static str>,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, unit, kind, labels, help }
    }
}

macro_rules! families {
    ($($id:ident = $kind:ident $name:literal $([$unit:literal])? ($($label:literal),*) $help:literal;)*) => {
        $(pub(super) static $id: Family = Family::of(Kind::$kind, $name, families!(@ $($unit)?), &[$($label),*], $help);)*
        /// All of them, in the order in which they are told.
        pub static ALL: &[&Family] = &[$(&$id),*];
    };
    (@) => { None };
    (@ $unit:literal) => { Some($unit) };
}

families! {
    BUILD = Gauge "sluice_build_info" ("version") "Always 1; tells which Sluice runs";
    READY = Gauge "sluice_ready" () "1 while requests are welcome: 0 before something serves, and from the beginning of the shutdown";
    GENERATION = Gauge "sluice_snapshot_generation" () "Number of the snapshot that serves; grows with every publication";
    CONFIG_OK = Gauge "sluice_config_last_reload_successful" () "0 while a file is newer than what runs, because it is invalid";
    CONFIG_LOADED = Gauge "sluice_config_last_reload_success_timestamp" ["seconds"] () "When what runs was loaded";
    CONFIG_PROBLEMS = Gauge "sluice_config_problems" () "Errors and warnings of the last read of the configuration";
    JOURNAL_OK = Gauge "sluice_journal_successful" () "0 while the newest state of some service is not on disk: a crash would lose it";
    LOG_OK = Gauge "sluice_access_log_successful" () "0 while lines of the access log cannot be written";
    LOG_LINES = Counter "sluice_access_log_lines" () "Lines of the access log that were written";
    LOG_DROPPED = Counter "sluice_access_log_dropped" () "Lines of the access log that were lost, because the disk was slow or full";
    SPANS = Counter "sluice_spans_exported" () "Spans that the collector took";
    SPANS_DROPPED = Counter "sluice_spans_dropped" () "Spans that were lost, because the collector was slow or gone";
    LISTENER_UP = Gauge "sluice_listener_up" ("listener") "1 if the listener is open";
    CERTIFICATE = Gauge "sluice_certificate_expiry_timestamp" ["seconds"] ("file") "When a certificate ends that listeners, or the admin API, show";
    SERVICES = Gauge "sluice_services" () "Services there are";

    WORKER_ACCEPTED = Counter "sluice_worker_connections_accepted" ("worker") "Client connections accepted";
    WORKER_REFUSED = Counter "sluice_worker_connections_refused" ("worker") "Client connections refused at a limit";
    WORKER_OPEN = Gauge "sluice_worker_connections" ("worker") "Client connections open";
    WORKER_REQUESTS = Counter "sluice_worker_requests" ("worker") "Requests, of any service or of none";
    WORKER_FAILED = Counter "sluice_worker_requests_failed" ("worker") "Requests that Sluice answered itself because something was wrong";
    WORKER_HANDSHAKES = Counter "sluice_worker_tls_handshakes" ("worker", "kind") "TLS handshakes with clients, full or resumed";
    WORKER_HANDSHAKES_FAILED = Counter "sluice_worker_handshakes_failed" ("worker") "Client connections that ended before their first request, in TLS or for want of a PROXY header";
    WORKER_ABUSIVE = Counter "sluice_worker_connections_abusive" ("worker") "HTTP/2 connections that were ended because they brought more trouble than requests";
    UNROUTED = Counter "sluice_unrouted_requests" ("code") "Requests that were for no service, by the class of their answers";

    REQUESTS = Counter "sluice_requests" ("service", "code") "Requests by the class of what their clients got";
    OWN_ANSWERS = Counter "sluice_requests_failed" ("service") "Requests that Sluice answered itself because something was wrong";
    RETRIES = Counter "sluice_retries" ("service") "Requests sent again to another node";
    WAITING = Gauge "sluice_requests_waiting" ("service") "Requests that wait because no node is ready";
    HELD = Counter "sluice_requests_held" ("service") "Requests that had to wait because no node was ready";
    HELD_IN_VAIN = Counter "sluice_requests_held_in_vain" ("service") "Requests that waited, and were not answered by a node";
    PHASE = Gauge "sluice_rollout_phase" ("service", "phase") "Always 1; tells what is going on with a service";
    ROLLOUTS = Counter "sluice_changes_ended" ("service", "outcome") "Changes that ended: edits of a service's versions and nodes, by how they came out";
    ALL_DOWN = Gauge "sluice_service_all_nodes_down" ("service") "1 while every node is unhealthy and traffic goes to all of them regardless";
    HALTED = Gauge "sluice_service_halted" ("service", "kind") "1 while an operator has stopped the service's traffic: on hold, or in maintenance";
    REFUSED = Gauge "sluice_refused_versions" ("service") "Versions that are not tried again by themselves";
    VERDICTS = Counter "sluice_guard_verdicts" ("service", "verdict") "What the guard made of versions on trial, counted whenever it changed its mind";
    DRAINED = Counter "sluice_nodes_drained" ("service") "Nodes that were drained";
    CUT = Counter "sluice_drain_cut" ("service", "kind") "Pieces of work that drain deadlines cut";

    SHARE = Gauge "sluice_version_share" ["ratio"] ("service", "version") "The version's part of the traffic now: 1 is all of it";
    IN_FLIGHT = Gauge "sluice_version_requests_in_flight" ("service", "version") "Requests that nodes are working on, WebSockets and other tunnels too";
    NODES = Gauge "sluice_nodes" ("service", "version", "state") "Nodes by state";
    CONNECTIONS = Gauge "sluice_node_connections" ("service", "version") "Connections to nodes that are open";
    OPENED = Counter "sluice_node_connections_opened" ("service", "version") "Connections to nodes that were opened, or could not be";
    TRIES = Counter "sluice_node_requests" ("service", "version") "Requests sent to nodes, retries included";
    ANSWERS = Counter "sluice_node_responses" ("service", "version", "code") "Answers of nodes by class";
    FAILURES = Counter "sluice_node_failures" ("service", "version", "kind") "Requests that failed at nodes, by what went wrong: what the guard counts";
    LATENCY = Histogram "sluice_node_response" ["seconds"] ("service", "version") "From sending a request to the head of the node's answer";
    SHIELDED = Counter "sluice_shielded" ("service", "version") "Requests that a version failed on trial, and that the old version was asked in its place";
    SHADOWED = Counter "sluice_shadow_requests" ("service", "version") "Copies of requests that a version got on trial";
    SHADOW_DIFFERED = Counter "sluice_shadow_differences" ("service", "version") "Of these copies, those that were answered with another status than the original";
    PROBES = Counter "sluice_probes" ("service", "version", "result") "Health probes";

    NODE_STATE = Gauge "sluice_node_state" ("service", "version", "node", "state") "Always 1; tells where a node is. Only with `metrics.nodes`";
    NODE_IN_FLIGHT = Gauge "sluice_node_requests_in_flight" ("service", "version", "node") "Requests that a node is working on. Only with `metrics.nodes`";
    NODES_LEFT_OUT = Gauge "sluice_metrics_nodes_left_out" () "Nodes that are not told one by one because there are more than 10,000";

    CPU = Counter "process_cpu" ["seconds"] () "Processor time used, by user and system";
    MEMORY = Gauge "process_resident_memory" ["bytes"] () "Memory that is resident";
    DESCRIPTORS = Gauge "process_open_fds" () "Descriptors open";
    MAX_DESCRIPTORS = Gauge "process_max_fds" () "Descriptors that may be open";
    STARTED = Gauge "process_start_time" ["seconds"] () "When the process started";
}
