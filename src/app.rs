//! Wiring: from the command line's options to a running proxy, and from signals to its end.
//!
//! The calling thread becomes the control plane's; the workers have their own. What can be wrong (files, sockets, state)
//! is found before the first worker starts.

pub mod paths;

use std::path::PathBuf;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::admin::{self, UnixSocket};
use crate::api::{Port, Problem};
use crate::config::{self, Loaded};
use crate::control::{self, Clock, Parts, Signal};
use crate::pool::Pool;
use crate::proxy;
use paths::Environment;

/// Verbs that may wait for the control plane at once.
const CALLS: usize = 64;

/// What `sluice run` was told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// The admin socket, if the command line names one.
    pub socket: Option<PathBuf>,
    /// The folder for state, if the command line names one.
    pub state_dir: Option<PathBuf>,
}

/// Why the proxy does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("the configuration is invalid")]
    Config(Vec<Problem>),
    /// Anything else, for people.
    #[error("{0}")]
    Start(String),
}

/// Runs the proxy on this thread until SIGTERM or SIGINT; SIGHUP reads the configuration again.
pub fn run(options: &Options) -> Result<(), Error> {
    let setup = Setup::new(options)?;
    let (signals, received) = mpsc::channel(8);
    setup.serve(received, Some(signals), |_| {})
}

/// A proxy that runs beside its caller. Dropping this without [`Running::stop`] leaves it running.
#[derive(Debug)]
pub struct Running {
    port: Port,
    signals: mpsc::Sender<Signal>,
    thread: JoinHandle<Result<(), Error>>,
}

/// Starts a proxy on a thread of its own, without touching the process's signals. Returns when it is ready.
pub fn start(options: &Options) -> Result<Running, Error> {
    let options = options.clone();
    let (signals, received) = mpsc::channel(8);
    let (ready, is_ready) = std_mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            // Dropped unused if it does not get that far, and so the caller learns of it.
            let on_ready = move |port| {
                let _ = ready.send(port);
            };
            Setup::new(&options)?.serve(received, None, on_ready)
        })
        .map_err(|error| Error::Start(format!("cannot start a thread: {error}")))?;
    if let Ok(port) = is_ready.recv() {
        return Ok(Running { port, signals, thread });
    }
    match thread.join() {
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) | Err(_) => Err(Error::Start("the proxy ended before it was ready".into())),
    }
}

impl Running {
    /// The way to its control plane, past the admin socket.
    pub fn port(&self) -> Port {
        self.port.clone()
    }

    /// Ends the proxy as SIGTERM would, and waits for it.
    pub fn stop(self) -> Result<(), Error> {
        // A full queue means that it was told already.
        let _ = self.signals.try_send(Signal::Shutdown);
        self.thread.join().unwrap_or_else(|_| Err(Error::Start("the proxy broke down".into())))
    }
}

/// Everything that has to be right before a worker starts.
struct Setup {
    config_path: PathBuf,
    loaded: Loaded,
    workers: usize,
    state_dir: PathBuf,
    socket: UnixSocket,
    http: Option<admin::Http>,
}

impl Setup {
    fn new(options: &Options) -> Result<Self, Error> {
        let mut loaded = config::load(&options.config);
        control::check_files(&mut loaded, Clock::system().now());
        let Some(config) = &loaded.config else { return Err(Error::Config(loaded.problems)) };
        let environment = Environment::real();
        let socket = paths::socket(options.socket.clone(), config.admin.socket.clone(), &environment);
        let state_dir = paths::state_dir(options.state_dir.clone(), config.state_dir.clone(), &environment);
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let failed = |error: std::io::Error| Error::Start(error.to_string());
        Ok(Self {
            config_path: options.config.clone(),
            workers: config.workers.unwrap_or_else(cores),
            state_dir: state_dir.map_err(Error::Start)?,
            socket: UnixSocket::bind(&socket.map_err(Error::Start)?).map_err(failed)?,
            http: admin::Http::bind(&config.admin).map_err(failed)?,
            loaded,
        })
    }

    /// Serves until told to end. With `own`, the process's signals are taken and sent there.
    fn serve(
        self,
        signals: mpsc::Receiver<Signal>,
        own: Option<mpsc::Sender<Signal>>,
        on_ready: impl FnOnce(Port) + 'static,
    ) -> Result<(), Error> {
        raise_descriptor_limit();
        let failed = |error: std::io::Error| Error::Start(error.to_string());
        let (pool, subscriptions) = Pool::new(self.workers);
        proxy::start(subscriptions).map_err(failed)?;
        let clock = Clock::system();
        let (port, calls) = Port::new(CALLS);
        let (ready, is_ready) = watch::channel(false);
        let parts = Parts {
            config_path: self.config_path,
            pool,
            calls,
            state_dir: Some(self.state_dir),
            admin_tls: self.http.as_ref().and_then(admin::Http::certificates),
            started: clock.now(),
            initial: self.loaded,
            signals,
            ready,
            clock,
        };
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).map_err(failed)?;
        runtime.block_on(async move {
            if let Some(own) = own {
                take_signals(own).map_err(failed)?;
            }
            tokio::task::spawn_local(self.socket.serve(port.clone(), is_ready.clone()));
            if let Some(http) = self.http {
                http.serve_apart(port.clone(), is_ready.clone()).map_err(failed)?;
            }
            tokio::task::spawn_local(async move {
                let mut is_ready = is_ready;
                if is_ready.wait_for(|ready| *ready).await.is_ok() {
                    on_ready(port);
                }
            });
            let summary = control::run(parts).await.map_err(|error| Error::Start(error.to_string()))?;
            for work in &summary.cut {
                tracing::warn!(kind = %work.kind, method = work.method, path = work.path, client = work.client, "cut by the shutdown");
            }
            Ok(())
        })
    }
}

fn take_signals(out: mpsc::Sender<Signal>) -> std::io::Result<()> {
    for (kind, meaning) in [
        (SignalKind::hangup(), Signal::Reload),
        (SignalKind::user_defined1(), Signal::Reopen),
        (SignalKind::terminate(), Signal::Shutdown),
        (SignalKind::interrupt(), Signal::Shutdown),
    ] {
        let mut signal = signal(kind)?;
        let out = out.clone();
        tokio::task::spawn_local(async move {
            while signal.recv().await.is_some() {
                if out.send(meaning).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

/// Each request in flight holds two descriptors; the usual soft limit of 1,024 is for programs that call `select`.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused only if somebody lowered the hard limit meanwhile; then the old one stands.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
