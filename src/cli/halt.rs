//! `sluice hold`, `release`, `maintenance`: a service's traffic, stopped by hand and let go.

use std::time::Duration;

use super::Session;
use super::client::of_service;
use super::failure::Failure;
use super::limit::Patience;
use super::steer;
use super::words::{duration, parse_duration};
use crate::api::ServiceStatus;
use crate::net::ask::encode;

/// How long a hold lasts if nothing is said.
#[cfg(feature = "top")]
pub(super) const HOLD: Duration = Duration::from_secs(30);
/// When clients are asked to come back if nothing is said.
#[cfg(feature = "top")]
pub(super) const RETRY_AFTER: Duration = Duration::from_mins(1);

/// Of `hold`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "New requests wait, up to `hold.most` of the service; more are answered 503. Those under way, and WebSockets, go on. It ends by itself after --for, and is kept over a restart of the proxy.\n\nExample: sluice hold shop --for 30s"
)]
pub struct HoldArgs {
    /// Service
    #[arg(env = "SLUICE_SERVICE")]
    pub service: String,
    /// How long at most, up to an hour; a hold that is there already gets this much from now on
    #[arg(long = "for", env = "SLUICE_HOLD_FOR", value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub length: Duration,
    /// How long an answer may take.
    #[command(flatten)]
    pub patience: Patience,
    /// Write JSON: the service as it is afterwards
    #[arg(long, env = "SLUICE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

/// Of `maintenance`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Clients get 503 with `Retry-After`, and --message, or the page that `errors` of the configuration has for 503. Requests under way, and WebSockets, go on. It is kept over a restart of the proxy.\n\nExample: sluice maintenance shop on --retry-after 10m"
)]
pub struct MaintenanceArgs {
    /// Service
    #[arg(env = "SLUICE_SERVICE")]
    pub service: String,
    /// Begin or end
    #[arg(env = "SLUICE_MAINTENANCE_SWITCH")]
    pub switch: Switch,
    /// What clients are told, as plain text, in place of the page
    #[arg(long, env = "SLUICE_MAINTENANCE_MESSAGE", value_name = "TEXT")]
    pub message: Option<String>,
    /// When clients are asked to come back
    #[arg(long, env = "SLUICE_MAINTENANCE_RETRY_AFTER", value_name = "DURATION", default_value = "1m", value_parser = parse_duration)]
    pub retry_after: Duration,
    /// How long an answer may take.
    #[command(flatten)]
    pub patience: Patience,
    /// Write JSON: the service as it is afterwards
    #[arg(long, env = "SLUICE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// Begin.
    On,
    /// End.
    Off,
}

/// Holds.
pub async fn hold(args: &HoldArgs, session: &mut Session<'_>) -> Result<u8, Failure> {
    let target = of_service(&args.service, &format!("hold?for={}ms", args.length.as_millis()));
    let service: ServiceStatus = session.client.post(&target).await?;
    let text = held(&service, args.length);
    tell(&service, &text, args.json, session)
}

/// What is said of a hold.
pub(super) fn held(service: &ServiceStatus, length: Duration) -> String {
    format!(
        "{0}: new requests wait, for {1} at most; {2} under way go on; `sluice release {0}` lets them go",
        service.name,
        duration(length),
        working(service)
    )
}

/// What is said of a release.
pub(super) fn released(service: &ServiceStatus) -> String {
    format!("{}: requests go on", service.name)
}

/// What is said when maintenance begins.
pub(super) fn closed(service: &ServiceStatus, retry_after: Duration) -> String {
    format!(
        "{0}: new requests are answered 503, to come back after {1}; {2} under way go on; `sluice maintenance {0} off` ends it",
        service.name,
        duration(retry_after),
        working(service)
    )
}

/// What is said when it ends.
pub(super) fn opened(service: &ServiceStatus) -> String {
    format!("{}: requests are answered again", service.name)
}

fn working(service: &ServiceStatus) -> usize {
    service.nodes.iter().map(|node| node.in_flight).sum()
}

/// Lets go.
pub async fn release(args: &steer::Args, session: &mut Session<'_>) -> Result<u8, Failure> {
    let service: ServiceStatus = session.client.post(&of_service(&args.service, "release")).await?;
    let text = released(&service);
    tell(&service, &text, args.json, session)
}

/// Begins or ends maintenance.
pub async fn maintenance(args: &MaintenanceArgs, session: &mut Session<'_>) -> Result<u8, Failure> {
    let on = args.switch == Switch::On;
    if !on && args.message.is_some() {
        return Err(Failure::usage("a message is for `on`: nobody sees it when maintenance ends"));
    }
    let query = if on {
        let message = args.message.as_ref().map(|text| format!("&message={}", encode(text))).unwrap_or_default();
        format!("maintenance?retry_after={}ms{message}", args.retry_after.as_millis())
    } else {
        "maintenance?undo=true".to_owned()
    };
    let service: ServiceStatus = session.client.post(&of_service(&args.service, &query)).await?;
    let text = if on { closed(&service, args.retry_after) } else { opened(&service) };
    tell(&service, &text, args.json, session)
}

fn tell(service: &ServiceStatus, text: &str, json: bool, session: &mut Session<'_>) -> Result<u8, Failure> {
    let text = if json { serde_json::to_string(service).map_err(Failure::internal)? } else { text.to_owned() };
    session.screen.line(&text);
    warn(service, session);
    Ok(0)
}

/// What was decided serves, but would not outlive a crash.
pub(super) fn warn(service: &ServiceStatus, session: &mut Session<'_>) {
    if let Some(why) = &service.unsaved {
        session.screen.complain(&format!("warning: {why}"));
    }
}
