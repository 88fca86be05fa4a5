//! `sluice check`.

use std::io::Write;
use std::path::{Path, PathBuf};

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sluice check --config /etc/sluice/sluice.toml")]
pub struct Args {
    /// Configuration file
    #[arg(long, env = "SLUICE_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Write JSON
    #[arg(long, env = "SLUICE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

/// Validates; gives the exit code.
pub fn run(_path: &Path, _json: bool, _out: &mut dyn Write, _err: &mut dyn Write) -> u8 {
    super::failure::PROXY
}
