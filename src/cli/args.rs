//! What can be written after `sluice`. Each verb's own arguments are in its file.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::{demo, deploy, drain, history, rollback, run, status, wait};

/// A zero-downtime reverse proxy for rolling deploys.
#[derive(Debug, Parser)]
#[command(
    name = "sluice",
    version,
    about,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, the old nodes may be stopped; 1 the proxy could not be reached, or failed; 2 the command line or the configuration is wrong; 3 the new version never became healthy; 4 it was rolled back; 5 a newer change took over; 6 done, but a drain deadline cut something; 7 --timeout passed.\n\nExample: sluice demo"
)]
pub struct Cli {
    /// Admin socket of the proxy
    #[arg(long, global = true, env = "SLUICE_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the proxy, in the foreground
    Run(run::Args),
    /// Show a rolling deploy before your eyes; needs nothing
    Demo(demo::Args),
    /// Validate the configuration; nothing is contacted
    Check(CheckArgs),
    /// Show versions, shares, and nodes with their state and its reason
    Status(status::Args),
    /// Edit the configuration for a new version, wait, and put it back if it fails
    Deploy(deploy::Args),
    /// Wait until the change that the file asks for has ended
    Wait(wait::Args),
    /// Go back to an earlier version that served
    Rollback(rollback::Args),
    /// List finished rollouts, newest first
    History(history::Args),
    /// Take one node out by hand, or put it back
    Drain(drain::Args),
    /// One toy service of the demo, as a process of its own: for trying out what happens when it is killed
    #[command(hide = true)]
    DemoOrigin(demo::OriginArgs),
}

impl Verb {
    /// Whether errors are wanted as JSON too.
    pub fn json(&self) -> bool {
        match self {
            Self::Run(_) | Self::DemoOrigin(_) => false,
            Self::Demo(args) => args.json,
            Self::Check(args) => args.json,
            Self::Status(args) => args.json,
            Self::Deploy(args) => args.json,
            Self::Wait(args) => args.json,
            Self::Rollback(args) => args.json,
            Self::History(args) => args.json,
            Self::Drain(args) => args.json,
        }
    }
}

/// Arguments of `sluice check`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --config: config/sluice.toml, then /etc/sluice/sluice.toml.\n\nExample: sluice check --config /etc/sluice/sluice.toml"
)]
pub struct CheckArgs {
    /// Configuration file
    #[arg(long, env = "SLUICE_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Write JSON
    #[arg(long, env = "SLUICE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}
