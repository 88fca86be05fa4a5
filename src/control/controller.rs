//! The loop. It waits for whatever comes first, takes in what came, and ends the turn: one publication, then the gates,
//! then the journal, however much came at once. It ends on shutdown and on nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::access_log::AccessLog;
use super::build::Assembler;
use super::calls::Caller;
use super::certificates::{self, Certificates, Held, Read};
use super::clock::Clock;
use super::entry::{Draining, Entry, Kept};
use super::events::Events;
use super::gather::Scrapes;
use super::listeners::Listeners;
use super::outliers;
use super::probing::Mailbox;
use super::reading::Reading;
use super::shutdown::{self, Summary};
use super::spans::Spans;
use super::start::{self, StartError};
use super::state::{Record, Writer};
use super::turn::Turn;
use super::watch::Watcher;
use crate::api::{Call, ConfigStatus};
use crate::config::{Config, Loaded};
use crate::model::{Holder, ServiceName, Timestamp};
use crate::net::tls::Server;
use crate::pool::Pool;
use crate::rollout::{Event, NodeRef};

/// From one comparison of the files' contents to the next, in case the file system sends no events.
const POLL: Duration = Duration::from_secs(5);

/// It must be quiet this long before changed files are read.
const SETTLE: Duration = Duration::from_millis(50);

/// A listener that could not be opened is tried again after this long.
const LISTEN_RETRY: Duration = Duration::from_millis(500);

/// Followers see counters and what holds a draining node this often, even if nothing else changes.
const FOLLOW: Duration = Duration::from_millis(500);

/// How often the ends of certificates are looked at.
const EXPIRY: Duration = Duration::from_hours(1);

/// Things taken in before the turn ends, if more come than can be done at once.
const BATCH: usize = 512;

/// What tasks tell, on its way to the loop.
const EVENTS: usize = 1024;

/// What the control plane is made of.
#[derive(Debug)]
pub struct Parts {
    /// The main configuration file.
    pub config_path: PathBuf,
    /// Where the workers are met.
    pub pool: Arc<Pool>,
    /// What verbs ask.
    pub calls: mpsc::Receiver<Call>,
    /// Where the journal is; without it nothing outlives the process.
    pub state_dir: Option<PathBuf>,
    /// What the admin API shows over TCP, which renews it; looked at for when it ends.
    pub admin_tls: Option<Arc<ArcSwap<Server>>>,
    /// When the proxy started.
    pub started: Timestamp,
    /// The configuration as read before the threads were started.
    pub initial: Loaded,
    /// What the process is told from outside.
    pub signals: mpsc::Receiver<Signal>,
    /// Whether requests are welcome: turned true when the first snapshot serves and every listener is open, false when shutdown begins.
    pub ready: watch::Sender<bool>,
    /// The time.
    pub clock: Clock,
}

/// What the process is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: read the configuration now.
    Reload,
    /// SIGUSR1: open the access log again.
    Reopen,
    /// SIGTERM or SIGINT: end. A second one: at once.
    Shutdown,
}

/// What tasks tell the loop.
#[derive(Debug)]
pub(super) enum Happened {
    /// A node holds no work any more.
    Drained { service: ServiceName, node: NodeRef, cut: Vec<Holder> },
    /// What holds a draining node open.
    Held { service: ServiceName, node: NodeRef, holders: Vec<Holder> },
    /// The end of a change is on disk, or why it is not.
    Durable { service: ServiceName, change: u64, error: Option<String> },
}

/// Everything the loop knows. The loop's thread is the only one that has it.
#[derive(Debug)]
pub(super) struct Controller {
    pub(super) pool: Arc<Pool>,
    pub(super) clock: Clock,
    pub(super) started: Timestamp,
    /// The configuration that runs; none before the first valid one.
    pub(super) config: Option<Config>,
    /// What is told about the files.
    pub(super) files: ConfigStatus,
    /// Included files that are held back.
    pub(super) held_back: BTreeSet<PathBuf>,
    /// Of the last read, valid or not.
    pub(super) digest: Option<u64>,
    /// Configured services, and removed ones until their nodes are drained.
    pub(super) entries: BTreeMap<ServiceName, Entry>,
    /// Kept by the journal for services whose file could not be read since the start.
    pub(super) dormant: HashMap<ServiceName, Record<Kept>>,
    pub(super) assembler: Assembler,
    pub(super) listeners: Listeners,
    /// Certificates, and what else is read from files that the configuration names.
    pub(super) held: Held,
    /// The next moment that each service's machine waits for, soonest first.
    pub(super) deadlines: BTreeSet<(Timestamp, ServiceName)>,
    /// Services that somebody follows.
    pub(super) followed: BTreeSet<ServiceName>,
    /// Services with nodes that warm up; kept by the publication.
    pub(super) warming: BTreeSet<ServiceName>,
    /// Services with a version on trial.
    pub(super) on_trial: BTreeSet<ServiceName>,
    pub(super) writer: Option<Rc<Writer>>,
    pub(super) happened: mpsc::Sender<Happened>,
    pub(super) mailbox: Rc<Mailbox>,
    pub(super) ready: watch::Sender<bool>,
    /// Writes the access log.
    pub(super) access_log: AccessLog,
    pub(super) spans: Spans,
    /// Who asked for measures.
    pub(super) scrapes: Scrapes,
    /// Whether shutdown began.
    pub(super) closing: bool,
    /// What happened lately, and who listens.
    pub(super) events: Events,
    /// What was told of the files: which, and whether they are stale.
    pub(super) read_told: (Option<u64>, bool),
    /// What the end of this turn must do.
    pub(super) turn: Turn,
}

/// Runs the control plane until it is told to shut down and the workers have let their clients go. Call it inside a
/// `LocalSet` or a local runtime with time and I/O: it spawns local tasks, which end with it.
///
/// # Errors
/// Only before anything serves: the state folder cannot be used, or a listener cannot be opened.
pub async fn run(parts: Parts) -> Result<Summary, StartError> {
    let Parts { config_path, pool, mut calls, state_dir, admin_tls, started, mut initial, mut signals, ready, clock } =
        parts;
    let (happened, mut events) = mpsc::channel(EVENTS);
    let mailbox = Rc::new(Mailbox::default());
    let mut watcher = Watcher::new(POLL, SETTLE);
    let mut suspects = pool.take_suspects();
    let read = certificates::read(&mut initial, &Certificates::default());
    let (files, folders) = followed(&initial, &read);
    watcher.follow(&files, &folders);
    let mut reading: Reading<Caller> =
        Reading::new(config_path, std::mem::take(&mut initial.cache), read.certificates.clone());
    let mut controller = Controller {
        listeners: Listeners::new(Arc::clone(&pool)),
        held: Held::new(admin_tls),
        pool,
        clock,
        started,
        config: None,
        files: ConfigStatus::default(),
        held_back: BTreeSet::new(),
        digest: None,
        entries: BTreeMap::new(),
        dormant: HashMap::new(),
        assembler: Assembler::default(),
        deadlines: BTreeSet::new(),
        followed: BTreeSet::new(),
        warming: BTreeSet::new(),
        on_trial: BTreeSet::new(),
        writer: None,
        happened,
        mailbox: Rc::clone(&mailbox),
        ready,
        access_log: AccessLog::default(),
        spans: Spans::default(),
        scrapes: Scrapes::default(),
        closing: false,
        events: Events::new(started),
        read_told: (None, false),
        turn: Turn::default(),
    };
    controller.held.take(read);
    start::start(&mut controller, initial, state_dir.as_deref())?;

    let mut listen_retry = Instant::now();
    let mut follow = Instant::now();
    let mut look = Instant::now();
    let mut warm: Option<Instant> = None;
    let mut judge: Option<Instant> = None;
    let mut expiry = Instant::now() + EXPIRY;
    // Set when shutdown began: when its delay is over.
    let mut closing: Option<Instant> = None;
    let mut deaf = false;
    loop {
        let tick = controller.next_deadline();
        tokio::select! {
            biased;
            signal = signals.recv(), if !deaf => match signal {
                Some(Signal::Reload) => {
                    info!("told to read the configuration");
                    reading.ask(None);
                }
                Some(Signal::Reopen) => controller.access_log.reopen(),
                Some(Signal::Shutdown) if closing.is_none() => {
                    closing = Some(Instant::now() + controller.begin_shutdown());
                }
                Some(Signal::Shutdown) => {
                    warn!("told a second time to end: ending at once");
                    return Ok(Summary { hurried: true, ..Summary::default() });
                }
                None => {
                    // Nobody is left who could tell us to end.
                    deaf = true;
                    closing = closing.or_else(|| Some(Instant::now() + controller.begin_shutdown()));
                }
            },
            () = until(closing), if closing.is_some() => break,
            Some(event) = events.recv() => {
                controller.note(event);
                for _ in 0..BATCH {
                    let Ok(event) = events.try_recv() else { break };
                    controller.note(event);
                }
            }
            () = mailbox.arrived() => {
                for ((service, node), (healthy, detail)) in mailbox.take(BATCH) {
                    controller.tell(&service, Event::Health { node, healthy, detail });
                }
            }
            () = until(tick), if tick.is_some() => controller.tick(),
            node = outliers::next(&mut suspects) => controller.note_suspect(&node),
            () = sleep_until(look) => {
                look = Instant::now() + outliers::LOOK;
                controller.look_at_outliers();
            }
            () = until(judge), if judge.is_some() => judge = controller.judge_trials(),
            () = until(warm), if warm.is_some() => warm = controller.warm_up(),
            Some(call) = calls.recv() => {
                if let Some(caller) = controller.answer(call) {
                    reading.ask(Some(caller));
                }
            }
            (loaded, callers) = reading.done() => {
                if let Some((loaded, read)) = loaded {
                    let (files, folders) = followed(&loaded, &read);
                    controller.held.take(read);
                    controller.apply(loaded);
                    controller.tell_read();
                    // What callers are told must be what serves.
                    controller.end_turn();
                    controller.spread_certificates();
                    // Last, because it asks the file system for every file.
                    watcher.follow(&files, &folders);
                }
                for caller in callers {
                    controller.answer_after_read(caller);
                }
            }
            () = watcher.changed() => reading.ask(None),
            () = sleep_until(listen_retry), if !controller.listeners.all_open() => {
                listen_retry = Instant::now() + LISTEN_RETRY;
                controller.listeners.retry();
                controller.set_ready();
            }
            () = until(controller.held.again), if controller.held.again.is_some() => {
                controller.held.again = None;
                reading.ask(None);
            }
            () = sleep_until(expiry) => {
                expiry = Instant::now() + EXPIRY;
                controller.held.warn_of_expiry(controller.clock.now());
            }
            () = sleep_until(follow), if !controller.followed.is_empty() => {
                follow = Instant::now() + FOLLOW;
                controller.refresh_followers();
            }
            // Other tasks have their turn between two pieces of a gathering.
            () = tokio::task::yield_now(), if controller.scrapes.is_busy() => {}
        }
        controller.end_turn();
        controller.gather();
        if warm.is_none() && !controller.warming.is_empty() {
            warm = Some(Instant::now());
        }
        if judge.is_none() && !controller.on_trial.is_empty() {
            judge = Some(Instant::now());
        }
    }
    // From here on a verb is told that the proxy is shutting down.
    drop(calls);
    Ok(shutdown::let_clients_go(controller, &mut signals).await)
}

/// The files and folders that decide what runs.
fn followed(loaded: &Loaded, read: &Read) -> (Arc<[PathBuf]>, Arc<[PathBuf]>) {
    let both = |ours: &Arc<[PathBuf]>, theirs: &[PathBuf]| match theirs {
        [] => Arc::clone(ours),
        theirs => ours.iter().chain(theirs).cloned().collect(),
    };
    (both(&loaded.files, &read.files), both(&loaded.folders, &read.folders))
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Controller {
    fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| self.clock.instant(*at))
    }

    /// Tells the machines whose moment has come.
    fn tick(&mut self) {
        let now = self.clock.now();
        let due: Vec<_> =
            self.deadlines.iter().take_while(|(at, _)| *at <= now).take(BATCH).map(|(_, name)| name.clone()).collect();
        for name in due {
            self.end_hold(&name, now);
            self.tell(&name, Event::Tick);
        }
    }

    fn note(&mut self, happened: Happened) {
        match happened {
            Happened::Drained { service, node, cut } => self.note_drained(&service, node, cut),
            Happened::Held { service, node, holders } => {
                let entry = self.entries.get_mut(&service);
                let member = entry.and_then(|entry| entry.members.get_mut(&node));
                // Once the drain is over, `holders` is what it cut.
                if let Some(member) = member.filter(|member| member.draining == Draining::Running) {
                    member.holders = holders;
                }
            }
            Happened::Durable { service, change, error } => {
                self.note_durable(&service, change, error);
            }
        }
    }
}
