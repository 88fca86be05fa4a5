//! Broken releases under load, each rolled out as a canary again and again: who notices, for how long, and how much of the new
//! version was seen until it was sent back.
//!
//! `cargo bench --bench broken -- [--runs N] [--rate N] [--only NAME] [--no-shield]` prints a Markdown table. Everything runs in
//! this process: the proxy with two workers, the nodes, the load. Each run begins with what served before, whole.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sluicegate::api::{HistoryEntry, Outcome, Port, Reply, Request};
use sluicegate::app;
use sluicegate::cli::demo::{Faults, Kind, Ledger, Load, LoadOptions, Origin, OriginOptions, Rates};
use sluicegate::model::ServiceName;

type Anything<T> = Result<T, Box<dyn Error>>;

/// Nodes of each version.
const NODES: usize = 3;
/// A verdict must come within this.
const PATIENCE: Duration = Duration::from_mins(1);

/// A way of being broken.
struct Case {
    name: &'static str,
    what: &'static str,
    new: Faults,
    old: Faults,
    /// What the guard is told beside the defaults.
    guard: &'static str,
    /// The first share.
    share: &'static str,
    /// `rollout.deadline`, for those whose nodes are gone.
    deadline: &'static str,
}

fn cases() -> Vec<Case> {
    let none = Faults::default();
    let case = |name, what, new| Case { name, what, new, old: none, guard: "", share: "5%", deadline: "1m" };
    let slow = (0.04, Duration::from_millis(60));
    vec![
        case("half", "half of the answers are 500", Faults { fail: 0.5, ..none }),
        case("all", "every answer is 500", Faults { fail: 1.0, ..none }),
        Case {
            old: Faults { fail: 0.005, ..none },
            share: "25%",
            ..case("five", "5% errors over 0.5%", Faults { fail: 0.05, ..none })
        },
        Case {
            old: Faults { late: Some((0.04, Duration::from_millis(20))), ..none },
            guard: "latency_ratio = { p99 = \"2x\" }",
            share: "25%",
            ..case("slow", "p99 three times slower", Faults { late: Some(slow), ..none })
        },
        Case {
            guard: "patience = \"1s\"",
            ..case("silent", "accepted, never answered", Faults { silent: true, ..none })
        },
        Case {
            deadline: "5s",
            ..case("crash", "each node dies after 10 requests", Faults { crash_after: Some(10), ..none })
        },
        Case {
            share: "50%",
            new: Faults { capacity: Some(1), late: Some((1.0, Duration::from_millis(15))), ..none },
            ..case("load", "wrong only under load", none)
        },
    ]
}

#[derive(Clone, Debug)]
struct Options {
    runs: usize,
    rate: f64,
    only: Option<String>,
    shields: Vec<bool>,
}

fn options() -> Anything<Options> {
    let mut options = Options { runs: 10, rate: 500.0, only: None, shields: vec![true, false] };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--runs" => options.runs = value()?.parse()?,
            "--rate" => options.rate = value()?.parse()?,
            "--only" => options.only = Some(value()?),
            "--shield" => options.shields = vec![true],
            "--no-shield" => options.shields = vec![false],
            "--bench" => {}
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    Ok(options)
}

/// What one run came to.
#[derive(Debug)]
struct Run {
    outcome: Outcome,
    gets: u64,
    posts: u64,
    /// Requests that the new nodes got.
    new: u64,
    /// Outcomes of the new version when the guard decided.
    judged: u64,
    /// From the first request at the new version to the decision.
    decision: Duration,
    /// From the decision to the last request at the new version; zero if none came after it.
    swap: Duration,
}

struct Stage {
    folder: tempfile::TempDir,
    port: Port,
    runtime: tokio::runtime::Runtime,
    ledger: Ledger,
    old: Vec<Origin>,
    running: Option<app::Running>,
}

fn main() -> Anything<()> {
    let options = options()?;
    println!(
        "| release | shield | runs | sent back | failed GET (all, worst) | failed POST (all, worst) | requests to the decision: median, p99 | time to it: median, p99 | last request after it: median, worst |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|");
    for case in cases() {
        if options.only.as_ref().is_some_and(|only| only != case.name) {
            continue;
        }
        for shield in &options.shields {
            println!("{}", row(&case, *shield, &measure(&case, *shield, &options)?));
        }
    }
    Ok(())
}

fn measure(case: &Case, shield: bool, options: &Options) -> Anything<Vec<Run>> {
    let mut stage = Stage::start(case, shield)?;
    let load = LoadOptions {
        rates: Rates { get: options.rate * 0.7, post: options.rate * 0.3, ..Rates::default() },
        ..LoadOptions::mixed(stage.target()?, "shop.example.com", 1.0, 7)
    };
    let load = Load::start(load)?;
    let runs = (0..options.runs).map(|number| stage.run(case, shield, number, &load)).collect();
    stage.runtime.block_on(load.stop());
    runs
}

impl Stage {
    fn start(case: &Case, shield: bool) -> Anything<Self> {
        let folder = tempfile::tempdir()?;
        let ledger = Ledger::new();
        let old = nodes("v0", case.old, &ledger)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut stage = Self { folder, port: Port::new(1).0, runtime, ledger, old, running: None };
        stage.save(case, shield, None)?;
        let options = app::Options { config: stage.config(), socket: None, state_dir: None };
        let running = app::start(&options).map_err(|error| error.to_string())?;
        stage.port = running.port();
        stage.running = Some(running);
        stage.until(|shop| shop.nodes.iter().all(|node| node.state.as_str() == "serving"))?;
        Ok(stage)
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("sluice.toml")
    }

    fn save(&self, case: &Case, shield: bool, new: Option<(&str, &[Origin])>) -> Anything<()> {
        let folder = self.folder.path().display();
        let mut versions = format!("v0 = {}\n", list(&self.old));
        if let Some((version, nodes)) = new {
            let _ = writeln!(versions, "{version} = {}", list(nodes));
        }
        let release = new.map_or("v0", |(version, _)| version);
        let shield = if shield { "safe" } else { "off" };
        let text = format!(
            "state_dir = \"{folder}/state\"\nworkers = 2\n[admin]\nsocket = \"{folder}/admin.sock\"\n[[listener]]\n\
             name = \"http\"\nbind = \"127.0.0.1:0\"\n[service.shop]\nmatch = \"*\"\nrelease = \"{release}\"\n\
             [service.shop.versions]\n{versions}[service.shop.health]\npath = \"/healthz\"\ninterval = \"100ms\"\n\
             [service.shop.rollout]\nstrategy = \"canary\"\nshield = \"{shield}\"\nkeep = \"0s\"\ndeadline = \"{}\"\n\
             steps = [{{ share = \"{}\", hold = \"60s\" }}]\n[service.shop.rollout.guard]\n{}\n",
            case.deadline, case.share, case.guard
        );
        let beside = self.folder.path().join("new");
        fs::write(&beside, text)?;
        Ok(fs::rename(beside, self.config())?)
    }

    fn target(&self) -> Anything<std::net::SocketAddr> {
        match self.runtime.block_on(self.port.ask(Request::Status { service: None })) {
            Reply::Status(status) => Ok(status.listeners[0].address.parse()?),
            other => Err(format!("{other:?}").into()),
        }
    }

    fn until(&self, so: impl Fn(&sluicegate::api::ServiceStatus) -> bool) -> Anything<()> {
        let begun = Instant::now();
        loop {
            if let Reply::Status(status) = self.runtime.block_on(self.port.ask(Request::Status { service: None }))
                && status.services.first().is_some_and(&so)
            {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err("not in time".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn newest(&self) -> Option<HistoryEntry> {
        let service = ServiceName::new("shop");
        match self.runtime.block_on(self.port.ask(Request::History { service })) {
            Reply::History(entries) => entries.into_iter().next(),
            _ => None,
        }
    }

    fn run(&mut self, case: &Case, shield: bool, number: usize, load: &Load) -> Anything<Run> {
        let version = format!("v{}", number + 1);
        let new = nodes(&version, case.new, &self.ledger)?;
        let before = load.tally();
        self.save(case, shield, Some((&version, &new)))?;
        let begun = Instant::now();
        let ended = loop {
            if let Some(entry) = self.newest().filter(|entry| entry.to.as_str() == version) {
                break entry;
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("{}: no verdict within {PATIENCE:?}", case.name).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        std::thread::sleep(Duration::from_millis(300));
        let soon = load.tally();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let ago = since_epoch.saturating_sub(Duration::from_millis(ended.finished.0));
        let decided = Instant::now().checked_sub(ago).ok_or("the machine has just started")?;
        let seen: Vec<_> = new.iter().map(Origin::counts).collect();
        let first = seen.iter().filter_map(|counts| counts.first).min();
        let last = seen.iter().filter_map(|counts| counts.last).max();
        let evidence = ended.steps.last().and_then(|step| step.evidence.clone());
        self.save(case, shield, None)?;
        self.until(|shop| shop.release.as_str() == "v0" && shop.phase == "settled" && shop.nodes.len() == NODES)?;
        // What hung at the new nodes has ended with their drain, and counts. Where the old version fails now and then by itself, that would
        // count, too; there nothing hangs.
        let after = if case.old.fail > 0.0 { soon } else { load.tally() };
        let failed = |kind| after.kinds[&kind].failures() - before.kinds[&kind].failures();
        Ok(Run {
            outcome: ended.outcome,
            gets: failed(Kind::Get),
            posts: failed(Kind::Post),
            new: seen.iter().map(|counts| counts.requests).sum(),
            judged: evidence.map_or(0, |evidence| evidence.new.requests),
            decision: first.map_or(Duration::ZERO, |first| decided.saturating_duration_since(first)),
            swap: last.map_or(Duration::ZERO, |last| last.saturating_duration_since(decided)),
        })
    }
}

fn nodes(version: &str, faults: Faults, ledger: &Ledger) -> Anything<Vec<Origin>> {
    let options = || OriginOptions { faults, ..OriginOptions::new(version, ledger) };
    Ok((0..NODES).map(|_| Origin::start(options())).collect::<Result<_, _>>()?)
}

fn list(nodes: &[Origin]) -> String {
    let nodes: Vec<_> = nodes.iter().map(|node| format!("\"{}\"", node.address())).collect();
    format!("[{}]", nodes.join(", "))
}

fn row(case: &Case, shield: bool, runs: &[Run]) -> String {
    let back = runs.iter().filter(|run| !run.outcome.is_done()).count();
    let sum = |of: fn(&Run) -> u64| (runs.iter().map(of).sum::<u64>(), runs.iter().map(of).max().unwrap_or(0));
    let at = |quantile: f64, of: &dyn Fn(&Run) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[((values.len() as f64 * quantile).ceil() as usize).clamp(1, values.len()) - 1]
    };
    let ((gets, worst_get), (posts, worst_post)) = (sum(|run| run.gets), sum(|run| run.posts));
    let judged = |run: &Run| run.judged as f64;
    let decision = |run: &Run| run.decision.as_secs_f64();
    let swap = |run: &Run| run.swap.as_secs_f64() * 1e3;
    let most = runs.iter().map(|run| run.new).max().unwrap_or(0);
    format!(
        "| {} | {} | {} | {back} | {gets}, {worst_get} | {posts}, {worst_post} | {:.0}, {:.0} (most sent: {most}) | {:.2} s, {:.2} s | {:.0} ms, {:.0} ms |",
        case.what,
        if shield { "on" } else { "off" },
        runs.len(),
        at(0.5, &judged),
        at(0.99, &judged),
        at(0.5, &decision),
        at(0.99, &decision),
        at(0.5, &swap),
        at(1.0, &swap),
    )
}
