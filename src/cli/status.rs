//! `sluice status`: what runs, as a report.

use std::time::Duration;

use super::Session;
use super::failure::{Failure, PROXY};
use super::view;
use crate::admin::encode;
use crate::api::Status;

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sluice status shop --watch")]
pub struct Args {
    /// Only this service
    #[arg(env = "SLUICE_SERVICE")]
    pub service: Option<String>,
    /// Write JSON
    #[arg(long, env = "SLUICE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
    /// Show it again every second
    #[arg(long, env = "SLUICE_STATUS_WATCH", value_parser = clap::builder::FalseyValueParser::new())]
    pub watch: bool,
    /// Say nothing; exit code 0 if the proxy wants traffic, 1 if not (for health checks)
    #[arg(long, env = "SLUICE_STATUS_READY", value_parser = clap::builder::FalseyValueParser::new())]
    pub ready: bool,
}

/// Asks, and shows.
pub async fn run(args: &Args, session: &mut Session<'_>) -> Result<u8, Failure> {
    if args.ready {
        let ready = session.client.get_text("/readyz").await;
        return Ok(if ready.is_ok() { 0 } else { PROXY });
    }
    let target = match &args.service {
        Some(service) => format!("/v1/status?service={}", encode(service)),
        None => "/v1/status".to_owned(),
    };
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        if args.json {
            let text = session.client.get_text(&target).await?;
            session.screen.line(text.trim_end());
        } else {
            let status: Status = session.client.get(&target).await?;
            let text = view::status(&status);
            if args.watch {
                session.screen.draw(&text);
            } else {
                session.screen.line(&text);
            }
        }
        if !args.watch || session.screen.lost().is_some() {
            return Ok(0);
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = &mut interrupt => return Ok(0),
        }
    }
}
