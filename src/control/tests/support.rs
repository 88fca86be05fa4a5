//! A control plane to try things on.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, LocalSet};

use crate::api::{Ended, Port, Progress, Reply, Request, ServiceStatus, Status};
use crate::config;
use crate::control::{Clock, Parts, Signal, StartError, Summary, run};
use crate::model::{Holder, WorkKind};
use crate::pool::{Command, Node, Pool, ServiceView, Subscription};

pub const LISTENER: &str = "[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:0\"\n";

pub type Failure = Box<dyn std::error::Error>;
pub type Outcome = Result<(), Failure>;

/// Everything here ends within this, also on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// Probes that are quick, so that tests are.
pub const QUICK: &str = "health = { interval = \"20ms\", rise = 1, fall = 2 }\n";

/// Runs a test inside a `LocalSet`.
pub fn within(test: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let done = local.block_on(&runtime, async { tokio::time::timeout(2 * PATIENCE, test).await });
    done.map_err(|_| "the test took too long")?
}

/// Waits until `found` answers.
pub async fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return Ok(found);
        }
        if tokio::time::Instant::now() > end {
            return Err(format!("never: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A node that takes connections and closes them, until dropped.
pub struct Origin {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Origin {
    pub fn start() -> Result<Self, Failure> {
        Self::on(([127, 0, 0, 1], 0).into())
    }

    pub fn on(address: SocketAddr) -> Result<Self, Failure> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let socket = tokio::net::TcpListener::from_std(socket)?;
        let task = tokio::task::spawn_local(async move { while socket.accept().await.is_ok() {} });
        Ok(Self { address, task })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address where nobody listens.
pub fn nobody() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// A service with versions: `("v1", [..])`.
pub fn service(name: &str, release: &str, versions: &[(&str, &[SocketAddr])], more: &str) -> String {
    let versions: Vec<_> = versions.iter().map(|(version, nodes)| format!("{version} = {}", list(nodes))).collect();
    format!(
        "[service.{name}]\nmatch = \"{name}.test\"\nrelease = \"{release}\"\nversions = {{ {} }}\n{QUICK}{more}\n",
        versions.join(", ")
    )
}

/// A service of the short form.
pub fn plain(name: &str, nodes: &[SocketAddr], more: &str) -> String {
    format!("[service.{name}]\nmatch = \"{name}.test\"\nnodes = {}\n{QUICK}{more}\n", list(nodes))
}

fn list(nodes: &[SocketAddr]) -> String {
    let nodes: Vec<_> = nodes.iter().map(|node| format!("\"{node}\"")).collect();
    format!("[{}]", nodes.join(", "))
}

/// What the workers were told, in order, without `Refresh`.
pub type Told = Rc<RefCell<Vec<String>>>;

/// A worker that carries out commands. `Cut` releases one claim of the node that it finds in the snapshots it saw.
fn worker(mut end: Subscription, told: Told, dark: Told, claimed: Rc<RefCell<Vec<Arc<Node>>>>) {
    tokio::task::spawn_local(async move {
        let mut sockets = Vec::new();
        let holder = |kind| Holder {
            kind,
            method: "GET".into(),
            path: "/slow".into(),
            client: "127.0.0.1:9".into(),
            age_ms: 1234,
        };
        while let Some(command) = end.commands.recv().await {
            match command {
                Command::Refresh => {
                    let snapshot = end.snapshot.load();
                    let slices = snapshot.services.iter().flat_map(|view| &view.slices);
                    let closed = slices.flat_map(|slice| &slice.nodes).filter(|node| node.is_closed());
                    told.borrow_mut().extend(closed.map(|node| format!("{} is closed and published", node.id)));
                    let empty = snapshot.services.iter().filter(|view| view.slices.is_empty());
                    dark.borrow_mut().extend(empty.map(|view| view.settings.name.to_string()));
                }
                Command::Listen { id, socket, .. } => {
                    told.borrow_mut().push(format!("listen {id}"));
                    sockets.push((id, socket));
                }
                Command::Unlisten { id } => {
                    told.borrow_mut().push(format!("unlisten {id}"));
                    sockets.retain(|(open, _)| *open != id);
                }
                Command::Holders { node, reply, .. } => {
                    let held = claimed.borrow().iter().filter(|claimed| claimed.key == node).count();
                    let _ = reply.send(vec![holder(WorkKind::Request); held]);
                }
                Command::Cut(spec) => {
                    let mut cut = Vec::new();
                    if spec.kind == WorkKind::Request {
                        claimed.borrow_mut().retain(|node| {
                            let hit = node.key == spec.node;
                            if hit {
                                cut.push(holder(spec.kind));
                                node.release(end.worker);
                            }
                            !hit
                        });
                    }
                    let _ = spec.reply.send(cut);
                }
                Command::Shutdown(spec) => {
                    told.borrow_mut().push("shutdown".into());
                    let _ = spec.reply.send(Vec::new());
                    return;
                }
            }
        }
    });
}

/// A configuration needs a listener. It stands at the end, so that keys without a table may stand at the start.
fn with_listener(text: &str) -> String {
    if text.contains("[[listener]]") { text.into() } else { format!("{text}\n{LISTENER}") }
}

/// A running control plane.
pub struct Bench {
    pub dir: Rc<TempDir>,
    pub pool: Arc<Pool>,
    pub port: Port,
    pub signals: mpsc::Sender<Signal>,
    pub ready: watch::Receiver<bool>,
    pub told: Told,
    /// As a worker tells of a node that fails.
    pub suspects: mpsc::Sender<Arc<Node>>,
    /// Services that were published without a node that gets traffic, once each time.
    pub dark: Told,
    /// Claims of worker 0, which `Cut` ends.
    pub claimed: Rc<RefCell<Vec<Arc<Node>>>>,
    pub run: JoinHandle<Result<Summary, StartError>>,
}

impl Bench {
    pub fn start(text: &str) -> Result<Self, Failure> {
        let dir = Rc::new(tempfile::tempdir()?);
        std::fs::write(dir.path().join("sluice.toml"), with_listener(text))?;
        Ok(Self::start_in(dir))
    }

    /// Starts with the files and the state that are there.
    pub fn start_in(dir: Rc<TempDir>) -> Self {
        let state_dir = dir.path().join("state");
        Self::run(dir, Some(state_dir))
    }

    /// Starts without a journal.
    pub fn forgetful(text: &str) -> Result<Self, Failure> {
        let dir = Rc::new(tempfile::tempdir()?);
        std::fs::write(dir.path().join("sluice.toml"), with_listener(text))?;
        Ok(Self::run(dir, None))
    }

    fn run(dir: Rc<TempDir>, state_dir: Option<PathBuf>) -> Self {
        let (pool, workers) = Pool::new(2);
        let dark = Told::default();
        let suspects = workers[0].suspects.clone();
        let (told, claimed) = (Told::default(), Rc::<RefCell<Vec<_>>>::default());
        for end in workers {
            // Only the first one tells and claims: two would say everything twice.
            let first = end.worker == 0;
            let told = if first { Rc::clone(&told) } else { Told::default() };
            let claimed = if first { Rc::clone(&claimed) } else { Rc::default() };
            worker(end, told, Rc::clone(&dark), claimed);
        }
        let (port, calls) = Port::new(16);
        let (signals, heard) = mpsc::channel(4);
        let (ready, is_ready) = watch::channel(false);
        let config_path = dir.path().join("sluice.toml");
        let clock = Clock::system();
        let parts = Parts {
            initial: config::load(&config_path),
            config_path,
            pool: Arc::clone(&pool),
            calls,
            state_dir,
            admin_tls: None,
            started: clock.now(),
            signals: heard,
            ready,
            clock,
        };
        let run = tokio::task::spawn_local(run(parts));
        Self { dir, pool, port, signals, ready: is_ready, told, suspects, dark, claimed, run }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> Outcome {
        let temp = self.path("being-written");
        let text = if name == "sluice.toml" { with_listener(text) } else { text.into() };
        std::fs::write(&temp, text)?;
        std::fs::rename(temp, self.path(name))?;
        Ok(())
    }

    /// Writes the main file and has it read.
    pub async fn edit(&self, text: &str) -> Outcome {
        self.write("sluice.toml", text)?;
        self.reload().await
    }

    pub async fn reload(&self) -> Outcome {
        match self.port.ask(Request::Reload).await {
            Reply::Config(_) => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    }

    pub async fn status(&self) -> Result<Status, Failure> {
        match self.port.ask(Request::Status { service: None }).await {
            Reply::Status(status) => Ok(*status),
            other => Err(format!("{other:?}").into()),
        }
    }

    pub async fn service(&self, name: &str) -> Result<ServiceStatus, Failure> {
        match self.port.ask(Request::Status { service: Some(name.into()) }).await {
            Reply::Status(status) => Ok(status.services.into_iter().next().ok_or("no service")?),
            other => Err(format!("{other:?}").into()),
        }
    }

    pub async fn follow(&self, name: &str) -> Result<watch::Receiver<Progress>, Failure> {
        match self.port.ask(Request::Wait { service: name.into(), version: None }).await {
            Reply::Progress(progress) => Ok(progress),
            other => Err(format!("{other:?}").into()),
        }
    }

    pub async fn wait(&self, name: &str) -> Result<Ended, Failure> {
        end_of(self.follow(name).await?).await
    }

    /// The service as the workers see it, found by its host.
    pub fn view(&self, name: &str) -> Option<Arc<ServiceView>> {
        let snapshot = self.pool.snapshot();
        let route = snapshot.router.find(&format!("{name}.test"), "/")?;
        snapshot.services.get(route.service).cloned()
    }

    /// The nodes that get traffic.
    pub fn nodes(&self, name: &str) -> Vec<Arc<Node>> {
        let view = self.view(name);
        view.iter().flat_map(|view| &view.slices).flat_map(|slice| &slice.nodes).cloned().collect()
    }

    /// A request of worker 0 that goes on until it is cut.
    pub fn claim(&self, node: &Arc<Node>) -> Outcome {
        if !node.claim(0) {
            return Err("the gate is closed".into());
        }
        self.claimed.borrow_mut().push(Arc::clone(node));
        Ok(())
    }

    /// As `kill -9` would, but for the lock on the state folder, which the kernel would free.
    pub async fn kill(self) -> Result<Rc<TempDir>, Failure> {
        self.run.abort();
        let _ = self.run.await;
        // The journal's thread ends a moment later, and its lock with it.
        let lock = self.dir.path().join("state/lock");
        if let Ok(file) = std::fs::File::open(lock) {
            let free = || flock(&file, FlockOperation::NonBlockingLockExclusive).ok();
            eventually("the journal is let go", free).await?;
        }
        Ok(self.dir)
    }
}

/// Follows to the end.
pub async fn end_of(mut progress: watch::Receiver<Progress>) -> Result<Ended, Failure> {
    loop {
        if let Some(ended) = progress.borrow_and_update().ended.clone() {
            return Ok(ended);
        }
        progress.changed().await.map_err(|_| "ended without a last line")?;
    }
}
