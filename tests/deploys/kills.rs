//! Nodes as processes of their own, killed or stopped under load without a word to Sluice.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sluicegate::cli::demo::{Kind, Ledger, Load, Rates, Reason, Tally};

use super::stage::{PATIENCE, Stage, list, more, state, stop, summary, times};

/// Nodes of the service.
const NODES: usize = 3;

/// A toy service in a process of its own. Dropping it kills it.
struct Process {
    child: Child,
    address: SocketAddr,
    ledger: PathBuf,
}

impl Process {
    fn start(port: u16, ledger: &Path) -> Option<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(["demo-origin", "--version", "v1", "--delay-ms", "50"]);
        command.arg("--port").arg(port.to_string()).arg("--ledger").arg(ledger);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("a process");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("its port");
        // Nothing is said if the port is not free.
        let Ok(port) = line.trim().parse::<u16>() else {
            child.wait().expect("it ended");
            return None;
        };
        Some(Self { child, address: ([127, 0, 0, 1], port).into(), ledger: ledger.to_owned() })
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.child.kill().expect("a signal");
        self.child.wait().expect("it ended");
    }

    /// SIGTERM, and its end: the service finishes what it has begun.
    fn terminate(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("a signal");
        let status = self.child.wait().expect("it ended");
        assert_eq!(status.code(), Some(0));
    }

    /// Starts again at the same address.
    fn restart(&mut self) {
        let begun = Instant::now();
        // A client connection may have been given the port meanwhile; it goes away again.
        *self = loop {
            if let Some(process) = Self::start(self.address.port(), &self.ledger) {
                break process;
            }
            assert!(begun.elapsed() < PATIENCE, "the port {} does not come free", self.address);
            sleep(Duration::from_millis(100));
        };
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three processes behind a proxy.
fn stage() -> (Stage, Vec<Process>) {
    let mut stage = Stage::new();
    let nodes: Vec<Process> = (0..NODES)
        .map(|index| Process::start(0, &stage.file(&format!("ledger-{index}"))).expect("any free port"))
        .collect();
    let text = list(&nodes.iter().map(|node| node.address).collect::<Vec<_>>());
    stage.run(&format!("nodes = {text}\nhealth = {{ path = \"/healthz\", interval = \"100ms\" }}\n"));
    (stage, nodes)
}

/// Plain requests of every method. Uploads fit into the replay buffer; sessions cannot outlive their node, and are left out.
fn load(stage: &Stage) -> Load {
    stage.load(0.0, |options| {
        options.rates = Rates { get: 60.0, post: 40.0, slow: 3.0, upload: 15.0, websocket: 0.0, events: 0.0 };
        options.upload_bytes = 48 * 1024;
    })
}

/// No order was executed twice, and each that was answered was executed.
fn check_orders(tally: &Tally, nodes: &[Process]) {
    let ledger = Ledger::new();
    for node in nodes {
        ledger.absorb(&node.ledger).expect("a ledger");
    }
    assert_eq!(ledger.duplicates(), []);
    let posts = &tally.kinds[&Kind::Post];
    let orders = ledger.orders();
    println!("orders: {} answered, {} failed, {orders} executed, none twice", posts.ok, posts.failures());
    assert!(orders >= posts.ok, "{orders} executed, {} answered", posts.ok);
    assert!(orders <= posts.ok + posts.failures(), "{orders} executed, {} asked for", posts.started);
}

#[test]
fn a_node_killed_under_load_costs_at_most_the_posts_it_had() {
    let (stage, mut nodes) = stage();
    let load = load(&stage);
    let rounds = times(6);
    for round in 0..rounds {
        more(&load, 100);
        let node = &mut nodes[round % NODES];
        node.kill();
        // Every other time it is back before anybody noticed.
        if round % 2 == 0 {
            stage.until("the killed node is ejected", |shop| state(shop, node.address) == "ejected");
            more(&load, 50);
        }
        node.restart();
        stage.until("it is back", |shop| state(shop, node.address) == "serving");
    }
    more(&load, 100);
    let tally = stop(load);
    println!("{rounds} kills: {}", summary(&tally));
    for kind in [Kind::Get, Kind::Upload] {
        assert_eq!(tally.kinds[&kind].failures(), 0, "{}", tally.explain());
    }
    // What a download had already got cannot come from another node: it ends early, and the client can see that it did.
    let downloads = &tally.kinds[&Kind::Slow];
    let cut = downloads.failed.get(&Reason::Truncated).copied().unwrap_or(0);
    assert_eq!(downloads.failures(), cut, "{}", tally.explain());
    let posts = &tally.kinds[&Kind::Post];
    let told = posts.failed.get(&Reason::Status).copied().unwrap_or(0);
    assert_eq!(posts.failures(), told, "a POST without a clear answer\n{}", tally.explain());
    assert_eq!(tally.client_retries, 0);
    check_orders(&tally, &nodes);
}

#[test]
fn a_node_stopped_without_telling_anybody_costs_no_replayable_request() {
    let (stage, mut nodes) = stage();
    let load = load(&stage);
    let rounds = times(3);
    for round in 0..rounds {
        more(&load, 100);
        let node = &mut nodes[round % NODES];
        node.terminate();
        node.restart();
        stage.until("it is back", |shop| state(shop, node.address) == "serving");
    }
    let tally = stop(load);
    println!("{rounds} stops: {}", summary(&tally));
    for kind in [Kind::Get, Kind::Upload, Kind::Slow] {
        assert_eq!(tally.kinds[&kind].failures(), 0, "{}", tally.explain());
    }
    assert_eq!(tally.client_retries, 0);
    check_orders(&tally, &nodes);
}
