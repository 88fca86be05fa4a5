//! A control plane that says what a test tells it to say, behind the real admin API on a real socket.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::{mpsc, oneshot, watch};

use super::UnixSocket;
use crate::api::{
    Call, ConfigStatus, Ended, HistoryEntry, Load, NodeStatus, Outcome, Port, Progress, Refusal, RefusalKind, Reply,
    Request, RolloutStatus, ServiceStatus, Status, VersionStatus,
};
use crate::model::{NodeState, Timestamp, Version};

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Runs until dropped.
pub(crate) struct Fake {
    pub(crate) socket: PathBuf,
    pub(crate) ready: watch::Sender<bool>,
    asked: Arc<Mutex<Vec<Request>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Fake {
    /// Answers each request with what `control` says; it is called inside a runtime, so it may spawn what writes progress.
    pub(crate) fn start(folder: &Path, mut control: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let socket = UnixSocket::bind(&folder.join("sluice.sock")).unwrap();
        let path = socket.path().to_owned();
        let (ready, ready_now) = watch::channel(true);
        let (stop, stopped) = oneshot::channel::<()>();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let (port, mut calls): (Port, mpsc::Receiver<Call>) = Port::new(4);
                let answer = async move {
                    while let Some(call) = calls.recv().await {
                        log.lock().unwrap_or_else(PoisonError::into_inner).push(call.request.clone());
                        let _ = call.reply.send(control(&call.request));
                    }
                };
                tokio::select! {
                    served = socket.serve(port, ready_now) => served.unwrap(),
                    () = answer => {}
                    _ = stopped => {}
                }
            });
        });
        Self { socket: path, ready, asked, stop: Some(stop), thread: Some(thread) }
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Progress that is there already, in this order; the watch channel may show only the last.
pub(crate) fn progress(mut moments: Vec<Progress>) -> Reply {
    let first = moments.remove(0);
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(async move {
        for moment in moments {
            // One thread runs all of this, so after some turns the stream has shown this moment, however slow the machine.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let _ = sender.send(moment);
        }
    });
    Reply::Progress(receiver)
}

/// Progress that never ends; the task holds the sender.
pub(crate) fn endless(first: Progress) -> Reply {
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(async move { sender.closed().await });
    Reply::Progress(receiver)
}

pub(crate) fn refused(kind: RefusalKind, message: &str) -> Reply {
    Reply::Refused(Refusal { kind, message: message.into() })
}

pub(crate) fn node(version: &str, address: &str, state: NodeState) -> NodeStatus {
    NodeStatus {
        version: version.into(),
        address: address.into(),
        state,
        since: Timestamp(NOW.0 - 12_000),
        reason: "passed 2 probes".into(),
        probe: None,
        weight: 1,
        until: None,
        in_flight: 3,
        requests: 10,
        failures: 0,
        holders: Vec::new(),
    }
}

pub(crate) fn service(name: &str, source: &Path) -> ServiceStatus {
    let share = |version: &str, share| VersionStatus {
        version: version.into(),
        share,
        serving: 1,
        nodes: 2,
        requests: 100,
        failures: 1,
        shielded: 0,
        shadowed: 0,
        shadow_differed: 0,
    };
    ServiceStatus {
        name: name.into(),
        source: source.to_owned(),
        release: "v2".into(),
        change: 7,
        phase: "rolling".into(),
        reason: Some("1 of 2 nodes of v2 serve".into()),
        all_down: false,
        halt: None,
        tag: String::new(),
        waiting: 0,
        held: 0,
        held_in_vain: 0,
        rollout: Some(RolloutStatus {
            from: Some("v1".into()),
            to: "v2".into(),
            strategy: "rolling".into(),
            started: Timestamp(NOW.0 - 30_000),
            ready: 1,
            wanted: 2,
            deadline: None,
            trial: None,
        }),
        versions: vec![share("v1", 50.0), share("v2", 50.0)],
        nodes: vec![
            node("v1", "10.0.0.5:5001", NodeState::Serving),
            node("v2", "10.0.0.5:5002", NodeState::Serving),
            node("v2", "10.0.0.6:5002", NodeState::Joining),
        ],
        refused: Vec::new(),
        unsaved: None,
    }
}

pub(crate) fn status(services: Vec<ServiceStatus>) -> Status {
    Status {
        schema: 1,
        sluice: "0.1.0".into(),
        pid: std::process::id(),
        started: Timestamp(NOW.0 - 3_600_000),
        now: NOW,
        generation: 3,
        ready: true,
        load: Load { connections: 12, requests: 1_000, errors: 2 },
        config: ConfigStatus {
            path: "/etc/sluice/sluice.toml".into(),
            files: std::sync::Arc::from(["/etc/sluice/sluice.toml".into()]),
            loaded: Timestamp(NOW.0 - 60_000),
            stale: false,
            problems: Vec::new(),
        },
        journal: None,
        certificates: crate::api::CertificatesStatus::default(),
        listeners: Vec::new(),
        services,
    }
}

pub(crate) fn moment(service: ServiceStatus, ended: Option<(Outcome, &str)>) -> Progress {
    Progress { service, ended: ended.map(|(outcome, message)| Ended { outcome, message: message.into(), entry: None }) }
}

pub(crate) fn entry(from: &str, to: &str, nodes: &[&str], outcome: Outcome) -> HistoryEntry {
    HistoryEntry {
        change: 1,
        from: Some(Version::new(from)),
        to: Version::new(to),
        nodes: nodes.iter().map(|node| (*node).into()).collect(),
        strategy: "rolling".into(),
        started: Timestamp(NOW.0 - 90_000),
        finished: Timestamp(NOW.0 - 60_000),
        outcome,
        reason: "all nodes healthy".into(),
        cut: Vec::new(),
        steps: Vec::new(),
        steered: Vec::new(),
    }
}
