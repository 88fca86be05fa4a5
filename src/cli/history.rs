//! `sluice history`: finished rollouts.

use super::Session;
use super::client::of_service;
use super::failure::Failure;
use super::follow::now;
use super::limit::Patience;
use super::view;
use crate::api::HistoryEntry;

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sluice history shop --limit 5")]
pub struct Args {
    /// Service
    #[arg(env = "SLUICE_SERVICE")]
    pub service: String,
    /// Only the newest
    #[arg(long, env = "SLUICE_HISTORY_LIMIT", value_name = "COUNT")]
    pub limit: Option<usize>,
    /// How long an answer may take.
    #[command(flatten)]
    pub patience: Patience,
    /// Write JSON
    #[arg(long, env = "SLUICE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

/// Asks, and shows.
pub async fn run(args: &Args, session: &mut Session<'_>) -> Result<u8, Failure> {
    let mut entries = fetch(session, &args.service).await?;
    entries.truncate(args.limit.unwrap_or(usize::MAX));
    if args.json {
        let text = serde_json::to_string(&entries).map_err(Failure::internal)?;
        session.screen.line(&text);
    } else {
        session.screen.line(&view::history(&entries, now()));
    }
    Ok(0)
}

/// A service's finished rollouts, newest first.
pub(super) async fn fetch(session: &Session<'_>, service: &str) -> Result<Vec<HistoryEntry>, Failure> {
    let target = of_service(service, "history");
    session.client.get(&target).await
}
