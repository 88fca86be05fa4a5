//! A toy service of one version on a free port: what a proxy stands before in the demo and in tests.
//!
//! Each origin has a thread and a runtime of its own, so that killing it is what SIGKILL is to a process: every socket
//! is closed at once, whatever was being done. What it answers is in `service`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::io::Io;
use super::ledger::Ledger;
use super::meter::{Meter, Work};
use super::service;

/// What an origin is.
#[derive(Clone, Debug)]
pub struct OriginOptions {
    /// Told in `X-Version` and in bodies.
    pub version: String,
    /// The port; 0 takes any free one.
    pub port: u16,
    /// Until then everything is answered 503.
    pub ready_after: Duration,
    /// Everything is answered 503, for ever.
    pub unhealthy: bool,
    /// Connections that wait this long for their next request are closed without a word, as many servers do.
    pub idle_close: Option<Duration>,
    /// Time between a request and its answer.
    pub delay: Duration,
    /// Where executed orders are noted.
    pub ledger: Ledger,
    /// Executed orders are also appended to this file: a ledger that outlives a killed process.
    pub ledger_file: Option<PathBuf>,
    /// What it does wrong on purpose.
    pub faults: Faults,
}

/// What an origin does wrong on purpose, so that tests can show that the load notices.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Downloads break off after half of their bytes.
    pub truncate: bool,
    /// Downloads have one wrong byte.
    pub corrupt: bool,
    /// Orders are executed twice.
    pub twice: bool,
    /// WebSockets are closed with 1012 (service restart) after this many messages.
    pub restart_after: Option<u32>,
    /// This part of the answers is a 500 (0.5 is half); probes are answered well.
    pub fail: f64,
    /// This part of the answers comes later by so much.
    pub late: Option<(f64, Duration)>,
    /// Connections are accepted, and requests on them never answered; but probes are.
    pub silent: bool,
    /// It dies, as by SIGKILL, when it has got this many requests.
    pub crash_after: Option<u64>,
    /// With more requests than this in work at once, all of them fail.
    pub capacity: Option<usize>,
}

impl OriginOptions {
    /// A healthy origin of this version on a free port, which notes its orders in `ledger`.
    pub fn new(version: impl Into<String>, ledger: &Ledger) -> Self {
        Self {
            version: version.into(),
            port: 0,
            ready_after: Duration::ZERO,
            unhealthy: false,
            idle_close: None,
            delay: Duration::ZERO,
            ledger: ledger.clone(),
            ledger_file: None,
            faults: Faults::default(),
        }
    }
}

/// What an origin saw so far. Probes are requests for `/healthz`; nothing else counts them.
#[derive(Clone, Copy, Debug, Default)]
pub struct OriginCounts {
    /// Requests, without probes.
    pub requests: u64,
    /// Probes.
    pub probes: u64,
    /// Requests that came before it was ready: a proxy must not send any.
    pub early: u64,
    /// Requests that came after it was told to stop: a proxy must not send any.
    pub late: u64,
    /// Requests and WebSockets it is working on.
    pub active: usize,
    /// Connections it accepted.
    pub connections: u64,
    /// When the first request came.
    pub first: Option<Instant>,
    /// When the last request came.
    pub last: Option<Instant>,
}

/// A running origin. Dropping it kills it.
#[derive(Debug)]
pub struct Origin {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    /// Taken by whoever waits for the end.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Where an origin is in its life. Only [`Origin`] moves it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving,
    Stopping,
    Killed,
}

/// What the handle, the thread and its tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: OriginOptions,
    pub(super) address: SocketAddr,
    /// When it becomes ready; none if never.
    ready_at: Option<Instant>,
    /// Written by [`Origin::set_healthy`].
    sick: AtomicBool,
    stopping: AtomicBool,
    /// Read by every [`Io`] when it ends.
    reset: Arc<AtomicBool>,
    pub(super) counters: Counters,
    /// Told when it shall die by itself.
    crash: tokio::sync::Notify,
}

/// Written by the origin's tasks, read by the handle.
#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    probes: AtomicU64,
    early: AtomicU64,
    late: AtomicU64,
    /// Written by [`Work`].
    pub(super) active: AtomicUsize,
    connections: AtomicU64,
    seen: Mutex<Option<(Instant, Instant)>>,
}

impl Shared {
    pub(super) fn is_ready(&self) -> bool {
        !self.sick.load(Ordering::Relaxed) && self.ready_at.is_some_and(|at| Instant::now() >= at)
    }

    /// Counts a request; the answer depends on [`is_ready`](Self::is_ready) at this moment.
    pub(super) fn count(&self, probe: bool) {
        let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        if probe {
            add(&self.counters.probes);
            return;
        }
        let before = add(&self.counters.requests);
        if self.options.faults.crash_after.is_some_and(|limit| before >= limit) {
            self.crash.notify_one();
        }
        if !self.is_ready() {
            add(&self.counters.early);
        }
        if self.stopping.load(Ordering::Acquire) {
            add(&self.counters.late);
        }
        let now = Instant::now();
        let mut seen = lock(&self.counters.seen);
        *seen = Some((seen.map_or(now, |(first, _)| first), now));
    }
}

impl Origin {
    /// Opens the port and serves.
    ///
    /// # Errors
    /// The port is taken, or no thread can be started.
    pub fn start(options: OriginOptions) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        listener.set_nonblocking(true)?;
        let (phase, seen) = watch::channel(Phase::Serving);
        let shared = Arc::new(Shared {
            address: listener.local_addr()?,
            ready_at: (!options.unhealthy).then(|| Instant::now() + options.ready_after),
            sick: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            reset: Arc::default(),
            counters: Counters::default(),
            crash: tokio::sync::Notify::new(),
            options,
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let state = shared.clone();
        let thread =
            std::thread::Builder::new().name(format!("origin-{}", shared.address.port())).spawn(move || {
                runtime.block_on(serve(listener, state, seen));
                // Dropping the runtime drops every task, and so closes every socket.
            })?;
        Ok(Self { shared, phase, thread: Mutex::new(Some(thread)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// The version it tells.
    pub fn version(&self) -> &str {
        &self.shared.options.version
    }

    /// What it saw so far; also after its end.
    pub fn counts(&self) -> OriginCounts {
        let counters = &self.shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let seen = *lock(&counters.seen);
        OriginCounts {
            requests: get(&counters.requests),
            probes: get(&counters.probes),
            early: get(&counters.early),
            late: get(&counters.late),
            active: counters.active.load(Ordering::Relaxed),
            connections: get(&counters.connections),
            first: seen.map(|(first, _)| first),
            last: seen.map(|(_, last)| last),
        }
    }

    /// Makes it answer 503 to everything, or well again.
    pub fn set_healthy(&self, healthy: bool) {
        self.shared.sick.store(!healthy, Ordering::Relaxed);
    }

    /// Does what a well-behaved service does on SIGTERM, and returns at once: accepts no more, closes idle
    /// connections, lets requests finish, closes WebSockets with 1001 (going away). Whatever comes from now on is
    /// counted as late.
    pub fn stop_gracefully(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.advance(Phase::Stopping);
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        lock(&self.thread).as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it as SIGKILL ends a process: every socket is closed at once. Returns when that has happened.
    pub fn kill(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.advance(Phase::Killed);
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// The same, but every connection ends with a TCP reset, as when a machine or a container is taken away.
    pub fn reset(&self) {
        self.shared.reset.store(true, Ordering::Release);
        self.kill();
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let moved = *phase < to;
            *phase = (*phase).max(to);
            moved
        });
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs until everything that was begun is done after a stop, or until it is killed.
async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>, mut phase: watch::Receiver<Phase>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    // Held by everything that must finish before a graceful end; nothing is ever sent.
    let (alive, mut all_done) = mpsc::channel::<()>(1);
    while *phase.borrow_and_update() == Phase::Serving {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                shared.counters.connections.fetch_add(1, Ordering::Relaxed);
                let io = Io::resettable(stream, shared.reset.clone());
                tokio::spawn(connection(io, shared.clone(), phase.clone(), alive.clone()));
            },
            changed = phase.changed() => if changed.is_err() {
                return;
            },
            () = shared.crash.notified() => return,
        }
    }
    drop((listener, alive));
    tokio::select! {
        _ = all_done.recv() => {}
        _ = phase.wait_for(|phase| *phase == Phase::Killed) => {}
    }
}

/// Serves one connection to its end.
async fn connection(io: Io, shared: Arc<Shared>, mut phase: watch::Receiver<Phase>, alive: mpsc::Sender<()>) {
    let limit = shared.options.idle_close;
    let meter = Arc::new(Meter::default());
    let handler = {
        let (meter, phase) = (meter.clone(), phase.clone());
        service_fn(move |request| {
            let work = Work::begin(&shared, &meter, &alive);
            service::answer(request, shared.clone(), work, phase.clone())
        })
    };
    let connection = http1::Builder::new().serve_connection(io, handler).with_upgrades();
    tokio::pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            changed = phase.changed(), if !stopping => {
                if changed.is_err() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                stopping = true;
            }
            () = sleep_until(meter.deadline(limit).into()), if limit.is_some() => {
                // Returning drops the connection. A request that arrives just now is lost: this is the race that a
                // proxy must survive.
                if meter.deadline(limit) <= Instant::now() {
                    return;
                }
            }
        }
    }
}

/// A panic of another holder cannot leave these half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
