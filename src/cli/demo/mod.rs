//! `sluice demo`.

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sluice demo --unhealthy")]
pub struct Args {
    /// Leave everything running at the end, to play with
    #[arg(long, env = "SLUICE_DEMO_KEEP", value_parser = clap::builder::FalseyValueParser::new())]
    pub keep: bool,
    /// Deploy a version that never becomes healthy
    #[arg(long, env = "SLUICE_DEMO_UNHEALTHY", value_parser = clap::builder::FalseyValueParser::new())]
    pub unhealthy: bool,
    /// Seconds of load
    #[arg(long, env = "SLUICE_DEMO_SECONDS")]
    pub seconds: Option<u64>,
}

/// Shows a deploy; gives the exit code.
pub fn run(_args: Args) -> u8 {
    super::failure::PROXY
}
