//! Mixed load on a schedule, whatever becomes of it: open loop.
//!
//! A request begins when it is due, never when an earlier one is done, and its latency counts from then. So a proxy that
//! stalls for a second shows as a second of late and failed requests, not as one slow one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::client::{Client, Fault};
use super::lane::Over;
use super::tally::{Failure, Kind, Reason, Tally};
use super::work;

/// After the load was stopped, what is in flight has this long to end.
const FINISH: Duration = Duration::from_secs(15);
/// The runtime's timer is exact to a millisecond. So a request begins up to this much early rather than late, and
/// counts from its real beginning then.
const EARLY: Duration = Duration::from_millis(1);

/// The smallest rate that is not zero: one in three hours.
const RAREST: f64 = 0.0001;

/// How much of each kind begins in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// GETs of a small page.
    pub get: f64,
    /// POSTs of an order.
    pub post: f64,
    /// Downloads that take seconds.
    pub slow: f64,
    /// Uploads in many pieces.
    pub upload: f64,
    /// WebSocket sessions.
    pub websocket: f64,
    /// Event streams.
    pub events: f64,
}

impl Rates {
    /// A mixture of every kind, so many a second in all.
    pub fn mixed(total: f64) -> Self {
        Self {
            get: total * 0.70,
            post: total * 0.25,
            slow: total * 0.02,
            upload: total * 0.015,
            websocket: total * 0.01,
            events: total * 0.005,
        }
    }

    /// The rate of one kind.
    pub fn of(&self, kind: Kind) -> f64 {
        match kind {
            Kind::Get => self.get,
            Kind::Post => self.post,
            Kind::Slow => self.slow,
            Kind::Upload => self.upload,
            Kind::WebSocket => self.websocket,
            Kind::Events => self.events,
        }
    }
}

/// What load to make.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where to connect.
    pub target: SocketAddr,
    /// How.
    pub over: Over,
    /// The `Host` header.
    pub host: String,
    /// How much.
    pub rates: Rates,
    /// Order ids begin with it, and every choice follows from it. Loads that share a ledger need different ones.
    pub seed: u64,
    /// A short request must be complete within this; a long one within its own time and this.
    pub timeout: Duration,
    /// More than this in flight is a failure by itself.
    pub max_in_flight: usize,
    /// How long a download takes.
    pub slow: Duration,
    /// How many bytes a download has.
    pub slow_bytes: usize,
    /// How many bytes an upload has.
    pub upload_bytes: usize,
    /// How long a WebSocket session or an event stream is used.
    pub session: Duration,
    /// Time between two messages of a WebSocket, and between two events.
    pub beat: Duration,
    /// Whether the client may send a request again, on a new connection, if a reused one turns out to be closed: as RFC
    /// 9110 §9.2.2 allows for idempotent ones, and for any that was not written at all. Counted in
    /// [`Tally::client_retries`]. Off: such a request failed.
    pub retry: bool,
}

impl LoadOptions {
    /// Mixed load, so many a second in all.
    pub fn mixed(target: SocketAddr, host: impl Into<String>, rate: f64, seed: u64) -> Self {
        Self {
            target,
            over: Over::default(),
            host: host.into(),
            rates: Rates::mixed(rate),
            seed,
            timeout: Duration::from_secs(10),
            max_in_flight: 2_000,
            slow: Duration::from_secs(3),
            slow_bytes: 60_000,
            upload_bytes: 256 * 1024,
            session: Duration::from_secs(3),
            beat: Duration::from_millis(100),
            retry: false,
        }
    }
}

/// Running load, on a thread of its own. Dropping it breaks everything off; [`stop`](Self::stop) does not.
pub struct Load {
    client: Arc<Client>,
    stop: watch::Sender<bool>,
    /// Resolves when the thread has ended.
    ended: oneshot::Receiver<()>,
    _thread: JoinHandle<()>,
}

impl Load {
    /// Begins.
    ///
    /// # Errors
    /// No thread or runtime can be made.
    pub fn start(options: LoadOptions) -> io::Result<Self> {
        let client = Client::new(options);
        let (stop, stopping) = watch::channel(false);
        let (end, ended) = oneshot::channel();
        let (begin, begun) = mpsc::sync_channel(1);
        let load = client.clone();
        let thread = std::thread::Builder::new().name("load".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = begin.send(Err(error));
                    return;
                }
            };
            let _ = begin.send(Ok(()));
            runtime.block_on(run(load, stopping));
            drop(runtime);
            let _ = end.send(());
        })?;
        begun.recv().unwrap_or_else(|_| Err(io::Error::other("the load's thread ended at once")))?;
        Ok(Self { client, stop, ended, _thread: thread })
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        self.client.count().clone()
    }

    /// Begins nothing more, waits at most 15 seconds for what is in flight, and tells what was counted. What is still
    /// not done counts as failed.
    pub async fn stop(mut self) -> Tally {
        self.stop.send_replace(true);
        let _ = timeout(FINISH + Duration::from_secs(5), &mut self.ended).await;
        self.client.count().clone()
    }
}

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Load").finish_non_exhaustive()
    }
}

/// One kind's place in the schedule.
struct Due {
    kind: Kind,
    every: Duration,
    next: Instant,
}

async fn run(client: Arc<Client>, mut stop: watch::Receiver<bool>) {
    let options = &client.options;
    let mut random = fastrand::Rng::with_seed(options.seed);
    let begin = Instant::now();
    let mut schedule: Vec<Due> = Kind::ALL
        .into_iter()
        .filter(|kind| options.rates.of(*kind) > 0.0)
        .map(|kind| {
            let every = Duration::from_secs_f64(1.0 / options.rates.of(kind).max(RAREST));
            // Kinds of equal rate must not begin together for ever.
            let next = begin + every.mul_f64(random.f64());
            Due { kind, every, next }
        })
        .collect();
    let mut tasks = JoinSet::new();
    let mut serial = 0_u64;
    let broken_off = loop {
        let Some(due) = schedule.iter_mut().min_by_key(|due| due.next) else {
            break stop.changed().await.is_err();
        };
        tokio::select! {
            biased;
            changed = stop.changed() => break changed.is_err(),
            () = sleep_until((due.next.checked_sub(EARLY).unwrap_or(due.next)).into()) => {}
        }
        let (kind, at) = (due.kind, due.next.min(Instant::now()));
        // Between half and one and a half of the interval: no rhythm that something else could fall into.
        due.next += due.every.mul_f64(0.5 + random.f64());
        while tasks.try_join_next().is_some() {}
        let running = Running::begin(&client, kind, at);
        if tasks.len() >= options.max_in_flight {
            let limit = options.max_in_flight;
            let detail = format!("{limit} requests are in flight already");
            running.end(Err(Fault::new(Reason::Overload, detail)));
            continue;
        }
        serial += 1;
        let job = work::Job { client: client.clone(), serial, random: random.fork() };
        tasks.spawn(async move {
            let outcome = job.run(kind).await;
            running.end(outcome);
        });
    };
    if !broken_off {
        let _ = timeout(FINISH, async {
            tokio::select! {
                // The handle was dropped while it waited.
                _ = stop.wait_for(|_| false) => {}
                () = async { while tasks.join_next().await.is_some() {} } => {}
            }
        })
        .await;
    }
    // Dropping a task that has not ended counts it as unfinished.
    tasks.shutdown().await;
}

/// One piece of work on its way; ends exactly once.
struct Running {
    client: Arc<Client>,
    kind: Kind,
    /// When it was due.
    at: Instant,
    ended: bool,
}

impl Running {
    fn begin(client: &Arc<Client>, kind: Kind, at: Instant) -> Self {
        client.count().begin(kind);
        Self { client: client.clone(), kind, at, ended: false }
    }

    fn end(mut self, outcome: Result<(), Fault>) {
        self.finish(outcome);
    }

    fn finish(&mut self, outcome: Result<(), Fault>) {
        self.ended = true;
        let mut tally = self.client.count();
        match outcome {
            Ok(()) => tally.succeed(self.kind, self.at.elapsed()),
            Err(fault) => {
                let at = tally.started.elapsed();
                tally.fail(Failure {
                    at,
                    kind: self.kind,
                    reason: fault.reason,
                    detail: fault.detail,
                    version: fault.version,
                });
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let detail = format!("begun {:.1?} ago", self.at.elapsed());
            self.finish(Err(Fault::new(Reason::Unfinished, detail)));
        }
    }
}
