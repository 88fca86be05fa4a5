//! What can be written after `sluice`. Each verb's own arguments are in its file.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::limit::{Asked, Patience};
#[cfg(feature = "top")]
use super::top;
use super::{demo, deploy, drain, halt, history, plan, rollback, run, shell, status, steer, wait};

/// A zero-downtime reverse proxy for rolling deploys.
#[derive(Debug, Parser)]
#[command(
    name = "sluice",
    version,
    about,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, the old nodes may be stopped; 1 the proxy could not be reached, or failed; 2 the command line or the configuration is wrong; 3 the new version never became healthy; 4 it was rolled back; 5 a newer change took over; 6 done, but a drain deadline cut something; 7 --timeout passed; 8 `plan`: something would change.\n\nExample: sluice demo"
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
    /// Show what a configuration would do to the running proxy; nothing is changed
    Plan(plan::Args),
    /// Show versions, shares, and nodes with their state and its reason
    Status(status::Args),
    /// Show everything live, in the terminal, and steer it by keys
    #[cfg(feature = "top")]
    Top(top::Args),
    /// Edit the configuration for a new version, wait, and put it back if it fails
    Deploy(deploy::Args),
    /// Wait until the change that the file asks for has ended
    Wait(wait::Args),
    /// Go back to an earlier version that served
    Rollback(rollback::Args),
    /// List finished rollouts, newest first
    History(history::Args),
    /// End the hold of the step that the new version is at
    #[command(after_help = "Example: sluice promote shop --full --wait")]
    Promote(steer::PromoteArgs),
    /// Keep the rollout where it is
    #[command(after_help = "A new version that fails is sent back all the same.\n\nExample: sluice pause shop")]
    Pause(steer::Args),
    /// Let a paused rollout go on
    #[command(after_help = "Example: sluice resume shop")]
    Resume(steer::Args),
    /// Go back to what served before, at once, and refuse the new version
    #[command(
        after_help = "The file still asks for the new version, which is not tried again until it changes or `sluice retry`. A `sluice deploy` that waits for it puts the file back. With --wait: exit code 0 when it is back.\n\nExample: sluice abort shop --wait"
    )]
    Abort(steer::WaitingArgs),
    /// Try a refused version again
    #[command(after_help = "Example: sluice retry shop --wait")]
    Retry(steer::WaitingArgs),
    /// Keep a service's requests waiting in a bounded queue, for a database migration or the like
    Hold(halt::HoldArgs),
    /// Let held requests go
    #[command(after_help = "Example: sluice release shop")]
    Release(steer::Args),
    /// Answer a service's requests with a maintenance page and Retry-After, or no longer
    Maintenance(halt::MaintenanceArgs),
    /// Take one node out by hand, or put it back
    Drain(drain::Args),
    /// Make a token for the admin API over TCP
    Token(shell::TokenArgs),
    /// Write the JSON Schema of the configuration, for editors
    Schema(shell::SchemaArgs),
    /// Write completions for a shell
    Completions(shell::CompletionsArgs),
    /// Write manual pages
    Man(shell::ManArgs),
    /// One toy service of the demo, as a process of its own: for trying out what happens when it is killed
    #[command(hide = true)]
    DemoOrigin(demo::OriginArgs),
}

impl Verb {
    /// How long its answer may take. Those that wait for an end have a `--timeout` of their own.
    pub fn patience(&self) -> Patience {
        match self {
            Self::Plan(args) => args.patience,
            // A health check that gets no answer in time has one.
            Self::Status(args) if !args.ready => args.patience,
            Self::History(args) => args.patience,
            Self::Pause(args) | Self::Resume(args) | Self::Release(args) => args.patience,
            Self::Hold(args) => args.patience,
            Self::Maintenance(args) => args.patience,
            _ => Patience::default(),
        }
    }

    /// Whether it asks for a change, of those that have an answer in that time.
    pub fn asks(&self) -> Asked {
        match self {
            Self::Plan(_) | Self::Status(_) | Self::History(_) => Asked::Nothing,
            _ => Asked::Change,
        }
    }

    /// Whether errors are wanted as JSON too.
    pub fn json(&self) -> bool {
        match self {
            Self::Run(_) | Self::DemoOrigin(_) | Self::Completions(_) | Self::Man(_) => false,
            Self::Schema(args) => args.json,
            Self::Token(args) => args.json,
            Self::Demo(args) => args.json,
            Self::Check(args) => args.json,
            Self::Plan(args) => args.json,
            Self::Status(args) => args.json,
            #[cfg(feature = "top")]
            Self::Top(_) => false,
            Self::Deploy(args) => args.json,
            Self::Wait(args) => args.json,
            Self::Rollback(args) => args.json,
            Self::History(args) => args.json,
            Self::Promote(args) => args.more.json,
            Self::Pause(args) | Self::Resume(args) | Self::Release(args) => args.json,
            Self::Hold(args) => args.json,
            Self::Maintenance(args) => args.json,
            Self::Abort(args) | Self::Retry(args) => args.json,
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
