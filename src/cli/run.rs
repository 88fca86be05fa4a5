//! `sluice run`: the proxy, in the foreground.

use std::path::PathBuf;

use super::failure::{Failure, PROXY};
use super::paths::{self, Environment};
use crate::app::{self, Options};

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --config: config/sluice.toml, then /etc/sluice/sluice.toml.\n\nExample: sluice run --config config/minimal.toml"
)]
pub struct Args {
    /// Configuration file
    #[arg(long, env = "SLUICE_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Folder for the journal and the history
    #[arg(long, env = "SLUICE_STATE_DIR", value_name = "PATH")]
    pub state_dir: Option<PathBuf>,
}

/// Runs until told to stop.
pub fn run(args: Args, socket: Option<PathBuf>, environment: &Environment) -> Result<u8, Failure> {
    let config = paths::config(args.config, environment).map_err(Failure::usage)?;
    let options = Options {
        config,
        socket,
        state_dir: args.state_dir,
    };
    app::run(options)
        .map(|()| 0)
        .map_err(|message| Failure::new(PROXY, "failed", message))
}
