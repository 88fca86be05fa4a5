//! Wiring and signals.

use std::path::PathBuf;

/// What `sluice run` was told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// The admin socket, if the command line names one.
    pub socket: Option<PathBuf>,
    /// The folder for state, if the command line names one.
    pub state_dir: Option<PathBuf>,
}

/// Runs the proxy until it is told to stop.
pub fn run(options: Options) -> Result<(), String> {
    Err(format!("{}: not wired yet", options.config.display()))
}
