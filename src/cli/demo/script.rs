//! The course of the demo: what happens, in order.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::ledger::Ledger;
use super::load::{Load, LoadOptions, Rates};
use super::origin::{Faults, Origin, OriginOptions};
use super::seam::{self, Admin, Launch, Stop};
use super::summary::{Evidence, Summary};
use super::view::Screen;
use crate::api::{Ended, ServiceStatus};
use crate::model::NodeState;

/// The service in the demo's configuration.
const SERVICE: &str = "shop";
/// Nodes of each version.
const NODES: usize = 3;
/// The first version must serve within this.
const START: Duration = Duration::from_secs(10);
/// A new node needs this long to become ready, and each further one a little longer, so that the shift can be seen.
const READY: Duration = Duration::from_secs(1);
const READY_NEXT: Duration = Duration::from_millis(700);
/// The rollout must have ended by then, one way or the other.
const ROLLOUT: Duration = Duration::from_mins(1);

/// The release that is deployed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// Node by node.
    Good,
    /// It never becomes healthy.
    Unhealthy,
    /// By steps, each judged.
    Canary,
    /// By steps, and half of its answers are errors.
    Broken,
}

impl Release {
    /// Whether traffic goes to it by steps.
    fn by_steps(self) -> bool {
        matches!(self, Self::Canary | Self::Broken)
    }
}

/// What the demo shall do.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) release: Release,
    /// Requests a second.
    pub(super) rate: f64,
    /// Load before the edit.
    pub(super) before: Duration,
    /// Load after the old nodes are gone.
    pub(super) after: Duration,
    pub(super) launch: Launch,
}

/// Everything that is running. Dropping it ends all of it.
pub(super) struct Stage {
    pub(super) admin: Admin,
    pub(super) config: PathBuf,
    pub(super) target: std::net::SocketAddr,
    pub(super) old: Vec<Origin>,
    pub(super) new: Vec<Origin>,
    pub(super) ledger: Ledger,
    stop: Option<Stop>,
    /// Removed last.
    _folder: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The proxy goes first: it must not find its nodes gone.
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }
}

/// Plays all of it, and leaves the stage standing.
pub(super) async fn play(setup: &Setup, screen: &mut Screen) -> Result<(Summary, Stage), String> {
    let begun = Instant::now();
    let mut stage = Stage::build(setup).await?;
    let rate = setup.rate;
    screen.note(&format!("{NODES} nodes of v1 serve behind {}; about {rate:.0} requests a second begin", stage.target));
    let mut options = LoadOptions::mixed(stage.target, "shop.example.com", rate, fastrand::u64(..));
    if setup.release == Release::Broken {
        // Who fails, and who is shielded, is clearest with these two.
        options.rates = Rates { get: rate * 0.75, post: rate * 0.25, ..Rates::default() };
    }
    let load = Load::start(options).map_err(|error| format!("no load can be made: {error}"))?;
    stage.watch(screen, &load, setup.before).await;

    stage.new = start_nodes("v2", &stage.ledger, setup.release)?;
    let (at_edit, edited) = (load.tally(), Instant::now());
    seam::set_release(&stage.config, SERVICE, "v2", &addresses(&stage.new))?;
    screen.note(match setup.release {
        Release::Unhealthy => {
            "3 nodes of v2 start, which will never become healthy; the file now says `release = \"v2\"`"
        }
        Release::Broken => {
            "3 nodes of v2 start: their probes pass, but half of their answers are 500; the file now says `release = \"v2\"`"
        }
        Release::Good | Release::Canary => "3 nodes of v2 start; the file now says `release = \"v2\"`",
    });

    let ended = stage.follow(screen, &load).await?;
    let waited = edited.elapsed();
    if ended.outcome.is_done() {
        // What a deploy script does next, without a moment's mercy.
        for node in &stage.old {
            node.stop_gracefully();
            node.kill();
        }
        screen.note("wait says that the old nodes may be stopped: all nodes of v1 are killed");
    } else {
        screen.note("wait says that the new version did not come:");
        let lines = ended.message.lines().map(|line| format!("         {line}"));
        screen.say(&lines.collect::<Vec<_>>());
    }
    let at_end = load.tally();
    stage.watch(screen, &load, setup.after).await;
    screen.note("the load ends; what is in flight finishes");
    let tally = load.stop().await;
    let counts = |nodes: &[Origin]| nodes.iter().map(Origin::counts).collect();
    let summary = Summary::of(Evidence {
        release: setup.release,
        begun,
        edited,
        waited,
        ended: &ended,
        tallies: [&at_edit, &at_end, &tally],
        ledger: &stage.ledger,
        nodes: [counts(&stage.old), counts(&stage.new)],
    });
    Ok((summary, stage))
}

impl Stage {
    /// Starts the first version and the proxy, and waits until every node serves.
    async fn build(setup: &Setup) -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("sluice-demo-")
            .tempdir()
            .map_err(|error| format!("no folder for the demo's files can be made: {error}"))?;
        let ledger = Ledger::new();
        let old = start_nodes("v1", &ledger, Release::Good)?;
        let config = folder.path().join("sluice.toml");
        let socket = folder.path().join("admin.sock");
        let text = configuration(folder.path(), &socket, &addresses(&old), setup.release);
        seam::replace_file(&config, &text)?;
        let stop = (setup.launch)(&config).map_err(|error| format!("the proxy cannot be started: {error}"))?;
        let mut stage = Self {
            admin: Admin { socket },
            config,
            target: ([127, 0, 0, 1], 0).into(),
            old,
            new: Vec::new(),
            ledger,
            stop: Some(stop),
            _folder: folder,
        };
        let begun = Instant::now();
        loop {
            let told = stage.serving().await;
            match told {
                Ok(target) => {
                    stage.target = target;
                    return Ok(stage);
                }
                Err(error) if begun.elapsed() > START => {
                    return Err(format!("the proxy did not begin to serve: {error}"));
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Where the proxy listens, once every node of the first version serves.
    async fn serving(&self) -> Result<std::net::SocketAddr, String> {
        let status = self.admin.status().await?;
        let listener = status.listeners.first().ok_or("it has no listener")?;
        if let Some(error) = &listener.error {
            return Err(error.clone());
        }
        let service = find(status.services).ok_or("it does not know the service")?;
        let serves = |node: &&crate::api::NodeStatus| node.state == NodeState::Serving;
        let serving = service.nodes.iter().filter(serves).count();
        if serving < NODES {
            return Err(format!("{serving} of {NODES} nodes serve"));
        }
        listener.address.parse().map_err(|_| format!("it listens on `{}`", listener.address))
    }

    /// Shows frames for a while.
    pub(super) async fn watch(&self, screen: &mut Screen, load: &Load, time: Duration) {
        let _ = timeout(time, self.frames(screen, load)).await;
    }

    /// Shows frames for ever.
    async fn frames(&self, screen: &mut Screen, load: &Load) {
        let mut ticks = interval(screen.every());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A status that does not come is not the demo's failure: the load goes on, and it decides.
            if let Ok(status) = self.admin.status().await
                && let Some(service) = find(status.services)
            {
                screen.frame(&service, load.tally(), self.ledger.duplicates().len());
            }
        }
    }

    /// Waits for the rollout's end like `sluice wait`, and shows frames meanwhile.
    async fn follow(&self, screen: &mut Screen, load: &Load) -> Result<Ended, String> {
        let wait = async {
            let mut lines = self.admin.wait(SERVICE, "v2").await?;
            while let Some(progress) = lines.recv().await {
                if let Some(ended) = progress?.ended {
                    return Ok(ended);
                }
            }
            Err("the proxy stopped telling how the rollout goes".to_owned())
        };
        tokio::select! {
            ended = timeout(ROLLOUT, wait) => ended
                .unwrap_or_else(|_| Err(format!("the rollout did not end within {ROLLOUT:?}"))),
            () = self.frames(screen, load) => Err("no more frames".into()),
        }
    }

    /// Starts the old nodes again where they were, so that there is a version to go back to.
    pub(super) fn revive_old(&mut self) {
        for node in &mut self.old {
            let options = OriginOptions { port: node.address().port(), ..OriginOptions::new("v1", &self.ledger) };
            if node.is_ended()
                && let Ok(started) = Origin::start(options)
            {
                *node = started;
            }
        }
    }
}

fn find(services: Vec<ServiceStatus>) -> Option<ServiceStatus> {
    services.into_iter().find(|service| service.name.as_str() == SERVICE)
}

fn start_nodes(version: &str, ledger: &Ledger, release: Release) -> Result<Vec<Origin>, String> {
    let is_new = version != "v1";
    (0..NODES)
        .map(|index| {
            let ready = READY + READY_NEXT * index as u32;
            Origin::start(OriginOptions {
                ready_after: if is_new { ready } else { Duration::ZERO },
                unhealthy: release == Release::Unhealthy,
                faults: Faults { fail: if release == Release::Broken { 0.5 } else { 0.0 }, ..Faults::default() },
                ..OriginOptions::new(version, ledger)
            })
            .map_err(|error| format!("a toy service cannot be started: {error}"))
        })
        .collect()
}

fn addresses(nodes: &[Origin]) -> Vec<String> {
    nodes.iter().map(|node| node.address().to_string()).collect()
}

/// The configuration as an operator would have written it.
fn configuration(folder: &Path, socket: &Path, nodes: &[String], release: Release) -> String {
    let quote = |text: &str| toml_edit::Value::from(text).to_string();
    let quoted: Vec<_> = nodes.iter().map(|node| quote(node)).collect();
    // A demo is not the time to wait long for a version that never comes.
    let deadline = if release == Release::Unhealthy { "5s" } else { "30s" };
    let strategy = if release.by_steps() {
        r#"strategy = "canary"
steps = [{ share = "5%", hold = "3s" }, { share = "25%", hold = "3s" }, { share = "50%", hold = "3s" }]
keep = "1s"                         # the old version stays warm this long, ready to go back to
shield = "safe"                     # a GET that v2 fails is answered by v1
guard = { min_requests = 20 }"#
    } else {
        r#"strategy = "rolling""#
    };
    format!(
        r#"# Written by `sluice demo`. Edit it while the demo runs with --keep.
state_dir = {state}

[admin]
socket = {socket}

[[listener]]
name = "http"
bind = "127.0.0.1:0"

[service.{SERVICE}]
match = ["*"]
release = "v1"                      # the version that shall serve

[service.{SERVICE}.versions]
v1 = [{nodes}]

[service.{SERVICE}.health]
path = "/healthz"
interval = "200ms"

[service.{SERVICE}.rollout]
{strategy}
deadline = "{deadline}"
"#,
        state = quote(&folder.join("state").to_string_lossy()),
        socket = quote(&socket.to_string_lossy()),
        nodes = quoted.join(", "),
    )
}
