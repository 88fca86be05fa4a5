//! `sluice deploy`: the edit that an operator would make, made and seen through.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::Session;
use super::change::{Change, carry_out, locate};
use super::edit;
use super::failure::Failure;
use super::limit::{Asked, Patience};
use super::words::parse_duration;

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The file keeps its comments and its order; older versions stay in it. If the new version is refused, or rolled back, the file is put back. Returns 0 only when the old nodes may be stopped.\n\nExample: sluice deploy shop --version v2 --node 10.0.0.5:5002 --node 10.0.0.6:5002"
)]
pub struct Args {
    /// Service
    #[arg(env = "SLUICE_SERVICE")]
    pub service: String,
    /// Name of the version; left out for a service that lists its `nodes` without versions
    #[arg(long, env = "SLUICE_DEPLOY_VERSION", value_name = "VERSION")]
    pub version: Option<String>,
    /// A node of the version, once for each; not needed for a version that the file has
    #[arg(long = "node", env = "SLUICE_DEPLOY_NODES", value_name = "HOST:PORT", value_delimiter = ',')]
    pub nodes: Vec<String>,
    /// File that defines the service, if it is not the one that the proxy names
    #[arg(long, env = "SLUICE_DEPLOY_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Stop waiting after this long; the change goes on
    #[arg(long, env = "SLUICE_TIMEOUT", value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Write JSON: a line for each change, the last with `ended`
    #[arg(long, env = "SLUICE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

/// Edits, waits, shows, and puts back what failed.
pub async fn run(args: &Args, session: &mut Session<'_>) -> Result<u8, Failure> {
    let (begun, patience) = (Instant::now(), Patience { timeout: args.timeout });
    let (_, place) = patience.within(Asked::Nothing, locate(session, &args.service, args.config.as_deref())).await?;
    let change = Change {
        service: &args.service,
        version: args.version.as_deref(),
        path: &place,
        timeout: patience.left(begun),
        json: args.json,
    };
    carry_out(session, &change, |text| edit::set_release(text, &args.service, args.version.as_deref(), &args.nodes))
        .await
}
