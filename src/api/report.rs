//! Reports: the state of the proxy at one moment.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::halt::HaltStatus;
use super::history::Outcome;
use super::load::Load;
use crate::model::{Holder, NodeAddress, NodeState, ServiceName, Timestamp, Version};

/// Everything `sluice status --json` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of this document's shape; grows when a field changes its meaning or goes.
    pub schema: u32,
    /// Version of the running binary.
    pub sluice: String,
    /// Process id of the proxy.
    pub pid: u32,
    /// When the proxy started.
    pub started: Timestamp,
    /// When this report was made.
    pub now: Timestamp,
    /// Number of the snapshot that is serving; grows with every publication.
    pub generation: u64,
    /// False before shutdown drains, and while nothing is loaded.
    pub ready: bool,
    /// What all workers do and did, whichever services the report holds.
    #[serde(default)]
    pub load: Load,
    /// The configuration: what is loaded and what could not be.
    pub config: ConfigStatus,
    /// Why the newest state of some service is not on disk: a crash now would lose it. None if all is well.
    #[serde(default)]
    pub journal: Option<String>,
    /// Open listeners.
    pub listeners: Vec<ListenerStatus>,
    /// What listeners show to clients, and what is wrong with files of what runs.
    #[serde(default)]
    pub certificates: CertificatesStatus,
    /// One entry a service, by name.
    pub services: Vec<ServiceStatus>,
}

/// What the configuration file says against what runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// The main file.
    pub path: PathBuf,
    /// Every file that was read.
    pub files: Arc<[PathBuf]>,
    /// When what runs was loaded.
    pub loaded: Timestamp,
    /// True if a file is newer than what runs, because it is invalid; `problems` says why.
    pub stale: bool,
    /// Every error and warning of the last read.
    pub problems: Vec<Problem>,
}

/// One error in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file, as the operator named it.
    pub path: PathBuf,
    /// Line, from 1; 0 if the whole file is meant.
    pub line: usize,
    /// Column in characters, from 1; 0 if the whole file is meant.
    pub column: usize,
    /// The line, quoted; empty if the whole file is meant.
    pub text: String,
    /// Length of the offending part in characters, for the caret line.
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// Its name in the configuration.
    pub name: String,
    /// The address it really listens on (a configured port 0 is resolved here).
    pub address: String,
    /// Why it could not be opened.
    pub error: Option<String>,
}

/// Certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificatesStatus {
    /// Those that are shown, by file.
    pub list: Vec<CertificateStatus>,
    /// Files that cannot be used now. What was read of them before goes on.
    pub problems: Vec<Problem>,
}

/// One certificate that listeners, or the admin API, show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// The listeners that show it; `admin.http` is the admin API.
    pub listeners: Vec<String>,
    /// The file of its chain.
    pub file: PathBuf,
    /// The names that it proves.
    pub names: Vec<String>,
    /// From when on it holds.
    pub not_before: Timestamp,
    /// Until when it holds.
    pub not_after: Timestamp,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// The file that defines it.
    pub source: PathBuf,
    /// The version that shall serve; `-` for the short form.
    pub release: Version,
    /// Differs as soon as anything was decided about the service: what `If-Match` takes.
    #[serde(default)]
    pub tag: String,
    /// Grows with every edit that changes what this service shall be: the number that `wait` waits for.
    pub change: u64,
    /// What is going on: `settled`, `waiting for health`, `rolling`, `keeping`, `draining`, `failed`.
    pub phase: String,
    /// Why, in words for people.
    pub reason: Option<String>,
    /// True if every node is unhealthy and traffic goes to all of them regardless.
    pub all_down: bool,
    /// What an operator did to its traffic.
    #[serde(default)]
    pub halt: Option<HaltStatus>,
    /// Requests that wait because no node is ready.
    #[serde(default)]
    pub waiting: usize,
    /// Requests that have waited since the service was first seen.
    #[serde(default)]
    pub held: u64,
    /// Of them, those that waited in vain.
    #[serde(default)]
    pub held_in_vain: u64,
    /// The rollout in progress.
    pub rollout: Option<RolloutStatus>,
    /// How traffic is split.
    pub versions: Vec<VersionStatus>,
    /// Every node known, drained ones included until they are forgotten.
    pub nodes: Vec<NodeStatus>,
    /// Versions that were refused and are not tried again until they change.
    pub refused: Vec<Refused>,
    /// Why the newest of this is not on disk, so that a crash now would forget it. Not told to those who follow a change: its end is.
    #[serde(default)]
    pub unsaved: Option<String>,
}

/// The rollout in progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// What served before; none for a first deploy.
    pub from: Option<Version>,
    /// What shall serve.
    pub to: Version,
    /// `rolling` or `blue-green`.
    pub strategy: String,
    /// When it began.
    pub started: Timestamp,
    /// New nodes that are healthy and serve.
    pub ready: usize,
    /// New nodes in all.
    pub wanted: usize,
    /// When it gives up, or moves on by itself.
    pub deadline: Option<Timestamp>,
    /// The version on trial, while one is.
    #[serde(default)]
    pub trial: Option<TrialStatus>,
}

/// A version that has a share beside the old one and is judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialStatus {
    /// Its share now, in percent.
    pub share: f64,
    /// Which step this is, from 1; 0 before the first.
    pub step: usize,
    /// The steps, as configured.
    pub steps: Vec<StepStatus>,
    /// Since when it has this share.
    pub since: Timestamp,
    /// Since when it is paused.
    pub paused: Option<Timestamp>,
    /// Whether it goes through the further steps without holding any.
    pub promoted: bool,
    /// What the guard sees; none if it is off.
    pub evidence: Option<Evidence>,
}

/// One configured step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepStatus {
    /// In percent.
    pub share: f64,
    /// In milliseconds; none: until it is promoted.
    pub hold_ms: Option<u64>,
}

/// What the guard knows of a step, and what it makes of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// `pass`, `fail`, `not enough requests`, or `hold`: an outside judge does not let it pass.
    pub verdict: String,
    /// The rule that decided, and its numbers, in words for people.
    pub reason: String,
    /// The version on trial.
    pub new: Sample,
    /// The old version in the same time.
    pub old: Sample,
    /// What outside judges say.
    #[serde(default)]
    pub judges: Vec<Opinion>,
}

/// What an outside judge says of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opinion {
    /// Who: what is asked, and where.
    pub judge: String,
    /// `pass`, `fail`, `hold`, `unavailable`, or `waiting`: it has not answered yet.
    pub verdict: String,
    /// Why, in words for people; may be empty.
    pub reason: String,
}

/// One version in the eyes of the guard. Rates are parts of one; latencies are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Requests whose outcome is known.
    pub requests: u64,
    /// Of them, those that failed.
    pub failures: u64,
    /// Failures by kind: `status`, `connect`, `reset`, `timeout`, `truncated`.
    pub kinds: std::collections::BTreeMap<String, u64>,
    /// `failures` of `requests`.
    pub rate: f64,
    /// Where the true rate lies, at the guard's level of confidence, however often one looks.
    pub interval: (f64, f64),
    /// The median latency until an answer begins.
    pub p50: Option<f64>,
    /// The 95th percentile.
    pub p95: Option<f64>,
    /// The 99th percentile.
    pub p99: Option<f64>,
}

/// One version's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionStatus {
    /// The version.
    pub version: Version,
    /// Its part of the traffic now, in percent.
    pub share: f64,
    /// Its nodes that get traffic.
    pub serving: usize,
    /// Its nodes in all.
    pub nodes: usize,
    /// Requests it was given since it was first seen.
    pub requests: u64,
    /// Requests that it failed: 5xx, resets, timeouts.
    pub failures: u64,
    /// Requests that it failed on trial, and that the old version was asked in its place.
    #[serde(default)]
    pub shielded: u64,
    /// Copies of requests that it got on trial.
    #[serde(default)]
    pub shadowed: u64,
    /// Of them, those that it answered with another status than the original had.
    #[serde(default)]
    pub shadow_differed: u64,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its version.
    pub version: Version,
    /// Its address.
    pub address: NodeAddress,
    /// Where it is on its way.
    pub state: NodeState,
    /// Since when it is there.
    pub since: Timestamp,
    /// Why it is there.
    pub reason: String,
    /// The last probe's result.
    pub probe: Option<ProbeReport>,
    /// Its part of the traffic beside the others', as configured.
    #[serde(default = "one")]
    pub weight: u32,
    /// When it comes back if it is ejected because of how it answers, or is warm if it warms up.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Requests it is working on.
    pub in_flight: usize,
    /// Requests it was given.
    pub requests: u64,
    /// Requests that it failed.
    pub failures: u64,
    /// What holds it open, if it is draining; oldest first, bounded.
    pub holders: Vec<Holder>,
}

/// The weight of a node in a report that does not tell it.
fn one() -> u32 {
    1
}

/// The result of one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// When it ended.
    pub at: Timestamp,
    /// What was asked: `GET http://10.0.0.5:5001/healthz` or `connect 10.0.0.5:5001`.
    pub target: String,
    /// Whether it passed.
    pub passed: bool,
    /// The status, if there was a response.
    pub status: Option<u16>,
    /// Why it failed.
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The first bytes of the body of a failed probe.
    pub body: Option<String>,
}

/// A version that is not tried again until it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The version.
    pub version: Version,
    /// Its nodes then; other nodes under the same name are a new try.
    pub nodes: Vec<NodeAddress>,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// Never healthy, or rolled back.
    #[serde(default = "unhealthy")]
    pub outcome: Outcome,
}

fn unhealthy() -> Outcome {
    Outcome::Unhealthy
}
