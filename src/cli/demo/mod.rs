//! `sluice demo`: toy services, load, and a rolling deploy before your eyes. The end-to-end tests use the same parts.
//!
//! Reading order: `origin` and `service` (the toy services), `ledger` (what they did), `load`, `work` and `client` (the
//! load), `tally` (what it saw); then the demo itself: `script`, `view`, `summary`. `seam` is where it meets the proxy.

mod client;
mod content;
mod io;
mod lane;
mod ledger;
mod load;
mod meter;
mod origin;
mod process;
mod script;
mod seam;
mod service;
mod summary;
mod tables;
mod tally;
mod view;
mod work;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod script_tests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use clap::builder::FalseyValueParser;
use tokio::signal::unix::{SignalKind, signal};

use script::{Release, Setup, Stage};
use view::Screen;

pub use lane::Over;
pub use ledger::{Duplicate, Ledger};
pub use load::{Load, LoadOptions, Rates};
pub use origin::{Faults, Origin, OriginCounts, OriginOptions};
pub use process::{OriginArgs, run_origin_process};
pub use summary::{Latency, Summary};
pub use tally::{Failure, Kind, KindTally, Reason, Tally, VersionTally};

/// The load that goes on with `--keep`, as a part of the load before.
const KEPT_LOAD: f64 = 0.1;

/// The demo could not be played, or something was not as promised.
const FAILED: u8 = 1;
/// Ctrl-C, as shells count it (128 + SIGINT).
const INTERRUPTED: u8 = 130;

/// Toy services, load, and a rolling deploy before your eyes; ends with a count of requests and failures
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: sluice demo --broken")]
pub struct Args {
    /// Leave everything up afterwards, to play with, until Ctrl-C
    #[arg(long, env = "SLUICE_DEMO_KEEP", value_parser = FalseyValueParser::new())]
    pub keep: bool,
    /// Deploy a version that never becomes healthy, and see it refused
    #[arg(long, env = "SLUICE_DEMO_UNHEALTHY", value_parser = FalseyValueParser::new())]
    pub unhealthy: bool,
    /// Give the new version a share of the traffic, and more by steps, while the guard judges it
    #[arg(long, env = "SLUICE_DEMO_CANARY", value_parser = FalseyValueParser::new(), conflicts_with = "unhealthy")]
    pub canary: bool,
    /// Deploy a version that fails half of its requests, and see the guard send it back
    #[arg(long, env = "SLUICE_DEMO_BROKEN", value_parser = FalseyValueParser::new(), conflicts_with_all = ["unhealthy", "canary"])]
    pub broken: bool,
    /// Requests a second, of all kinds
    #[arg(long, env = "SLUICE_DEMO_RATE", default_value_t = 300, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub rate: u32,
    /// Print one JSON document at the end, and nothing else
    #[arg(long, env = "SLUICE_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

/// Runs the demo and gives the exit code: 0 only if no request failed, none was executed twice, and the rollout ended as
/// it should.
pub fn run(args: Args) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let played = match runtime {
        Ok(runtime) => runtime.block_on(interruptible(&args)),
        Err(error) => Err(error.to_string()),
    };
    played.unwrap_or_else(|error| {
        anstream::eprintln!("error: {error}");
        FAILED
    })
}

async fn interruptible(args: &Args) -> Result<u8, String> {
    let setup = Setup {
        release: match args {
            Args { unhealthy: true, .. } => Release::Unhealthy,
            Args { canary: true, .. } => Release::Canary,
            Args { broken: true, .. } => Release::Broken,
            _ => Release::Good,
        },
        rate: f64::from(args.rate),
        before: Duration::from_secs(3),
        after: Duration::from_secs(2),
        launch: seam::start_proxy,
    };
    let mut screen = Screen::new(args.json);
    let played = tokio::select! {
        played = script::play(&setup, &mut screen) => played,
        () = told_to_end() => {
            anstream::eprintln!("interrupted before the end: nothing was found out");
            return Ok(INTERRUPTED);
        }
    };
    let (summary, mut stage) = played?;
    screen.summary(&summary);
    if args.keep {
        keep(&setup, &mut screen, &mut stage, told_to_end()).await?;
    }
    Ok(if summary.ok { 0 } else { FAILED })
}

/// Waits for Ctrl-C or SIGTERM. Both end the demo in order, so that its folder does not stay behind.
async fn told_to_end() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

/// Leaves everything up until `end`, under a little load.
async fn keep(
    setup: &Setup,
    screen: &mut Screen,
    stage: &mut Stage,
    end: impl Future<Output = ()>,
) -> Result<(), String> {
    stage.revive_old();
    let (config, socket) = (stage.config.display(), stage.admin.socket.display());
    screen.say(&[
        String::new(),
        format!("Everything stays up, under a little load, until Ctrl-C. The shop: http://{}/", stage.target),
        format!("Its configuration: {config}"),
        String::new(),
        format!("  sluice status --socket {socket}"),
        "  the nodes of v1 are up again; go back to them, and watch:".into(),
        format!("  sed -i 's/^release = .*/release = \"v1\"/' {config} && sluice wait shop --socket {socket}"),
        format!("  sluice history shop --socket {socket}"),
        String::new(),
    ]);
    let rate = (setup.rate * KEPT_LOAD).max(1.0);
    let options = LoadOptions::mixed(stage.target, "shop.example.com", rate, fastrand::u64(..));
    let load = Load::start(options).map_err(|error| format!("no load can be made: {error}"))?;
    end.await;
    // Somebody waits: what is in flight gets less time than in the demo itself.
    let tally = load.tally();
    let _ = tokio::time::timeout(Duration::from_secs(4), load.stop()).await;
    screen.say(&[format!("{} requests since then, {} failed", tally.started_total(), tally.failures())]);
    Ok(())
}
