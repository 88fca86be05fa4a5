//! `sluice run`: the proxy, in the foreground.

use std::path::PathBuf;

use super::failure::{Failure, PROXY};
use crate::app::paths::{self, Environment};
use crate::app::{self, Error, Options};
use crate::config;
use crate::telemetry::{self, Format};

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
    /// What is logged: error, warn, info, debug, or a filter such as `info,sluicegate::proxy=debug`
    #[arg(long, env = "SLUICE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How it is logged
    #[arg(long, env = "SLUICE_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Runs until told to stop.
pub fn run(args: Args, socket: Option<PathBuf>, environment: &Environment) -> Result<u8, Failure> {
    let config = paths::config(args.config, environment).map_err(Failure::usage)?;
    let format = match args.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    telemetry::init(args.log.as_deref(), format);
    let options = Options { config, socket, state_dir: args.state_dir };
    match app::run(&options) {
        Ok(()) => Ok(0),
        Err(Error::Config(problems)) => {
            let text: String = problems.iter().map(config::render).collect();
            let name = options.config.display();
            Err(Failure::usage(format!(
                "the configuration is invalid, so the proxy does not start\n{text}{name}: {} in all",
                problems.len()
            )))
        }
        Err(error @ Error::Start(_)) => Err(Failure::new(PROXY, "failed", error.to_string())),
    }
}
