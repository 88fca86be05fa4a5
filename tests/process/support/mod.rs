//! A proxy as a process, and what surrounds it.

mod ask;
mod exposition;
#[cfg(feature = "top")]
mod pty;
mod save;
pub mod server;

use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sluicegate::api::{HistoryEntry, ServiceStatus, Status};
use sluicegate::cli::demo::{Ledger, Load, Origin, OriginOptions, Tally};
use tempfile::TempDir;

pub use ask::{Answer, Client, get, over_unix};

pub use exposition::Exposition;
#[cfg(feature = "top")]
pub use pty::Pty;
pub use save::{Way, half};

/// How long anything may take on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Asks again until there is an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Random choices that can be replayed.
pub fn random(salt: u64) -> fastrand::Rng {
    let seed = number("SLUICE_SEED", 2026);
    println!("SLUICE_SEED={seed}");
    fastrand::Rng::with_seed(seed ^ salt)
}

/// A toy service on a free port.
pub fn origin(version: &str) -> Origin {
    Origin::start(OriginOptions::new(version, &Ledger::new())).expect("an origin")
}

/// The same, with a ledger and a delay.
pub fn slow_origin(version: &str, delay: Duration) -> Origin {
    Origin::start(OriginOptions { delay, ..OriginOptions::new(version, &Ledger::new()) }).expect("an origin")
}

/// A TOML list of the origins' addresses.
pub fn list(origins: &[Origin]) -> String {
    let all: Vec<_> = origins.iter().map(|origin| format!("\"{}\"", origin.address())).collect();
    format!("[{}]", all.join(", "))
}

/// A listener on any free port.
pub const LISTENER: &str = "[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:0\"\n";

/// Probes that tell quickly.
pub const QUICK: &str = "health = { path = \"/healthz\", interval = \"50ms\", rise = 1 }\n";

/// A canary whose steps somebody must promote.
pub fn canary(release: &str, old: &[Origin], new: &[Origin]) -> String {
    format!(
        "{LISTENER}[service.shop]\nmatch = \"*\"\nrelease = \"{release}\"\n{QUICK}{}\
         [service.shop.versions]\nv1 = {}\nv2 = {}\n",
        by_hand("shop"),
        list(old),
        list(new)
    )
}

/// How a service goes over by steps that somebody must promote.
pub fn by_hand(service: &str) -> String {
    format!(
        "[service.{service}.rollout]\nstrategy = \"canary\"\nkeep = \"0s\"\nguard = {{ more_errors = \"off\" }}\n\
         steps = [{{ share = \"25%\", hold = \"manual\" }}, {{ share = \"50%\", hold = \"manual\" }}]\n"
    )
}

/// Ends load, and gives what it saw.
pub fn stop(load: Load) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(load.stop())
}

/// A folder with everything that one proxy uses.
pub struct Site {
    pub dir: TempDir,
}

impl Site {
    pub fn new(text: &str) -> Self {
        let site = Self { dir: TempDir::new().expect("a folder") };
        site.write(text);
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("sluice.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.path("s.sock")
    }

    /// Saves the configuration the careful way.
    pub fn write(&self, text: &str) {
        self.replace("sluice.toml", text);
    }

    pub fn replace(&self, name: &str, text: &str) {
        let beside = self.path("beside.tmp");
        fs::write(&beside, text).expect("a written file");
        fs::rename(&beside, self.path(name)).expect("a renamed file");
    }

    /// `sluice` with these arguments, and nothing of the tester's environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SLUICE_") {
                command.env_remove(name);
            }
        }
        command.args(args).env("SLUICE_SOCKET", self.socket()).env("SLUICE_STATE_DIR", self.path("state"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a verb to its end.
    pub fn verb(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("a verb that ran")
    }

    /// `sluice run` that is expected to refuse: its exit code and what it said.
    pub fn refused(&self, more: &[&str]) -> (Option<i32>, String) {
        let config = self.config();
        let mut args = vec!["run", "--log", "error", "--config", config.to_str().expect("a path in UTF-8")];
        args.extend(more);
        let mut child = self.command(&args).spawn().expect("a process");
        let status = exit_of(&mut child).unwrap_or_else(|| {
            let _ = child.kill();
            panic!("it runs instead of refusing");
        });
        let mut text = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut text).expect("text");
        (status.code(), text)
    }

    /// Starts the proxy and waits until its first answer, without waiting until it is ready.
    pub fn launch(&self) -> Proxy {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).expect("a log");
        let mut command = self.command(&["run", "--config"]);
        command.arg(self.config()).stderr(log).stdout(Stdio::null());
        let child = command.spawn().expect("a process");
        Proxy { child, socket: self.socket(), log: self.path("log") }
    }

    /// Starts the proxy and waits until it is ready.
    pub fn start(&self) -> Proxy {
        let mut proxy = self.launch();
        eventually("the proxy is ready", || {
            if let Ok(Some(status)) = proxy.child.try_wait() {
                panic!("it ended with {status}:\n{}", proxy.log());
            }
            proxy.status().filter(|status| status.ready)
        });
        proxy
    }
}

/// What a verb said, to whomever.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A running proxy. Dropping it kills it.
pub struct Proxy {
    pub child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Proxy {
    /// What the admin socket answers; None if it does not.
    pub fn ask(&self, method: &str, path: &str) -> Option<Answer> {
        over_unix(&self.socket, method, path)
    }

    pub fn status(&self) -> Option<Status> {
        serde_json::from_slice(&self.ask("GET", "/v1/status")?.body).ok()
    }

    pub fn service(&self, name: &str) -> Option<ServiceStatus> {
        self.status()?.services.into_iter().find(|service| service.name.as_str() == name)
    }

    pub fn history(&self, name: &str) -> Vec<HistoryEntry> {
        let answer = self.ask("GET", &format!("/v1/services/{name}/history")).expect("an answer");
        serde_json::from_slice(&answer.body).expect("a history")
    }

    /// Waits until a service has nothing to do.
    pub fn settled(&self, name: &str) -> ServiceStatus {
        eventually("the service is settled", || self.service(name).filter(|service| service.phase == "settled"))
    }

    /// Where a listener really listens.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let status = self.status().expect("a status");
        let listener = status.listeners.iter().find(|listener| listener.name == name).expect("this listener");
        listener.address.parse().expect("an address")
    }

    pub fn address(&self) -> SocketAddr {
        self.listener("http")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a process");
    }

    /// What SIGKILL does to it.
    pub fn kill(mut self) {
        self.child.kill().expect("a process");
        self.child.wait().expect("its end");
    }

    /// Waits for its end.
    pub fn exit(&mut self) -> ExitStatus {
        exit_of(&mut self.child).expect("it ends in time")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- the proxy's last words\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

fn exit_of(child: &mut Child) -> Option<ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().expect("a process") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    None
}

/// The body of the newest record in the journal. A kill between two renames leaves only the one before it, which counts then.
pub fn record(state_dir: &Path, service: &str) -> serde_json::Value {
    let read = |ending| fs::read_to_string(state_dir.join("services").join(format!("{service}{ending}")));
    let text = read(".json").or_else(|_| read(".json.previous")).expect("a record");
    let (_, body) = text.split_once('\n').expect("a line with a checksum");
    serde_json::from_str(body).expect("JSON")
}
