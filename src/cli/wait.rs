//! `sluice wait`: for scripts that edit the file themselves.

use std::time::Duration;

use super::Session;
use super::client::of_service;
use super::failure::Failure;
use super::follow::{Follow, follow};
use super::words::parse_duration;
use crate::api::Outcome;
use crate::net::ask::encode;

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Returns 0 only when the old nodes may be stopped.\n\nExample: sed -i 's/release = \"v1\"/release = \"v2\"/' services/shop.toml && sluice wait shop --version v2 --timeout 10m"
)]
pub struct Args {
    /// Service
    #[arg(env = "SLUICE_SERVICE")]
    pub service: String,
    /// Version that the file asks for; if it asks for another one, fail at once with exit code 5
    #[arg(long, env = "SLUICE_WAIT_VERSION", value_name = "VERSION")]
    pub version: Option<String>,
    /// Stop waiting after this long; the change goes on
    #[arg(long, env = "SLUICE_TIMEOUT", value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Write JSON: a line for each change, the last with `ended`
    #[arg(long, env = "SLUICE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

/// Waits, and shows.
pub async fn run(args: &Args, session: &mut Session<'_>) -> Result<u8, Failure> {
    let how = Follow {
        target: target(&args.service, args.version.as_deref()),
        timeout: args.timeout,
        json: args.json,
        goes_on: &format!(
            "the rollout goes on: follow it with `sluice wait {0}`, or look with `sluice status {0}`",
            args.service
        ),
        wants: Outcome::Done,
    };
    let end = follow(&session.client, &how, &mut session.screen).await?;
    Ok(end.code())
}

/// The API's path to wait for a service.
pub(super) fn target(service: &str, version: Option<&str>) -> String {
    let path = of_service(service, "wait");
    match version {
        Some(version) => format!("{path}?version={}", encode(version)),
        None => path,
    }
}
