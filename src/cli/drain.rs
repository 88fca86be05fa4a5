//! `sluice drain`: take one node out by hand.

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
    after_help = "Returns 0 when the node holds no work and may be stopped.\n\nExample: sluice drain shop 10.0.0.5:5001"
)]
pub struct Args {
    /// Service
    #[arg(env = "SLUICE_SERVICE")]
    pub service: String,
    /// Address of the node, as `sluice status` shows it
    #[arg(env = "SLUICE_DRAIN_NODE")]
    pub node: String,
    /// Put it back instead
    #[arg(long, env = "SLUICE_DRAIN_UNDO", value_parser = clap::builder::FalseyValueParser::new())]
    pub undo: bool,
    /// Stop waiting after this long; the change goes on
    #[arg(long, env = "SLUICE_TIMEOUT", value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Write JSON: a line for each change, the last with `ended`
    #[arg(long, env = "SLUICE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

/// Drains, and shows.
pub async fn run(args: &Args, session: &mut Session<'_>) -> Result<u8, Failure> {
    let how = Follow {
        target: of_service(
            &args.service,
            &format!("nodes/{}/drain{}", encode(&args.node), if args.undo { "?undo=true" } else { "" }),
        ),
        timeout: args.timeout,
        json: args.json,
        goes_on: &format!(
            "it goes on: look with `sluice status {0}`, undo with `sluice drain {0} {1} --undo`",
            args.service, args.node
        ),
        wants: Outcome::Done,
    };
    let end = follow(&session.client, &how, &mut session.screen).await?;
    Ok(end.code())
}
