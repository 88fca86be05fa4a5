//! `sluice promote`, `pause`, `resume`, `abort`, `retry`: a rollout, steered by hand.

use std::time::Duration;

use tokio::time::Instant;

use super::Session;
use super::client::of_service;
use super::failure::Failure;
use super::follow::{End, Follow, follow, now};
use super::halt;
use super::limit::{Asked, Patience};
use super::trial;
use super::wait;
use super::words::{parse_duration, percent};
use crate::api::{Outcome, ServiceStatus, Steering};

/// Of `pause` and `resume`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service
    #[arg(env = "SLUICE_SERVICE")]
    pub service: String,
    /// How long an answer may take.
    #[command(flatten)]
    pub patience: Patience,
    /// Write JSON: the service as it is afterwards
    #[arg(long, env = "SLUICE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

/// Of `abort` and `retry`, which have an end to wait for.
#[derive(Debug, clap::Args)]
pub struct WaitingArgs {
    /// Service
    #[arg(env = "SLUICE_SERVICE")]
    pub service: String,
    /// Return when it has ended, with its exit code
    #[arg(long, env = "SLUICE_WAIT", value_parser = clap::builder::FalseyValueParser::new())]
    pub wait: bool,
    /// Give up after this long; with --wait, stop waiting, and the change goes on
    #[arg(long, env = "SLUICE_TIMEOUT", value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Write JSON: the service as it is afterwards; with --wait a line for each change, the last with `ended`
    #[arg(long, env = "SLUICE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

/// Of `promote`.
#[derive(Debug, clap::Args)]
pub struct PromoteArgs {
    /// End all further holds too
    #[arg(long, env = "SLUICE_PROMOTE_FULL", value_parser = clap::builder::FalseyValueParser::new())]
    pub full: bool,
    /// What all verbs that may wait have.
    #[command(flatten)]
    pub more: WaitingArgs,
}

/// Steers, and tells what happens next.
pub async fn run(steering: Steering, args: &Args, session: &mut Session<'_>) -> Result<u8, Failure> {
    let service = steer(steering, &args.service, session).await?;
    tell(steering, &service, args.json, session)
}

/// The same, and waits if that is wanted.
pub async fn run_waiting(steering: Steering, args: &WaitingArgs, session: &mut Session<'_>) -> Result<u8, Failure> {
    let (begun, patience) = (Instant::now(), Patience { timeout: args.timeout });
    let service = patience.within(Asked::Change, steer(steering, &args.service, session)).await?;
    if !args.wait {
        return tell(steering, &service, args.json, session);
    }
    if !args.json {
        session.screen.line(&next(steering, &service));
    }
    // Whoever steered v2 does not want to hear of the end of v3. But an aborted deploy puts the file back at once, and then it asks
    // for what serves again: that is what was wanted.
    let named = steering != Steering::Abort && !service.release.is_unnamed();
    let version = Some(service.release.as_str()).filter(|_| named);
    let how = Follow {
        target: wait::target(&args.service, version),
        timeout: patience.left(begun),
        json: args.json,
        goes_on: &format!("it goes on: `sluice wait {0}` follows it, `sluice status {0}` shows it", args.service),
        wants: if steering == Steering::Abort { Outcome::RolledBack } else { Outcome::Done },
    };
    let end = follow(&session.client, &how, &mut session.screen).await?;
    Ok(match &end {
        // That is what was asked for.
        End::Ended(ended) if ended.outcome == how.wants => 0,
        end => end.code(),
    })
}

async fn steer(steering: Steering, service: &str, session: &mut Session<'_>) -> Result<ServiceStatus, Failure> {
    let service = session.client.post(&target(steering, service)).await?;
    halt::warn(&service, session);
    Ok(service)
}

/// Where the API is asked to steer.
pub(super) fn target(steering: Steering, service: &str) -> String {
    let full = if steering == Steering::PromoteFull { "?full=true" } else { "" };
    of_service(service, &format!("{}{full}", steering.as_str()))
}

fn tell(steering: Steering, service: &ServiceStatus, json: bool, session: &mut Session<'_>) -> Result<u8, Failure> {
    if json {
        let text = serde_json::to_string(service).map_err(Failure::internal)?;
        session.screen.line(&text);
    } else {
        session.screen.line(&next(steering, service));
        for line in trial::lines(service, now()) {
            session.screen.line(&line);
        }
    }
    Ok(0)
}

/// What happens now, and what can be done next.
pub(super) fn next(steering: Steering, service: &ServiceStatus) -> String {
    let (name, release) = (&service.name, &service.release);
    let version = if release.is_unnamed() { "the new nodes".to_owned() } else { release.to_string() };
    let trial = service.rollout.as_ref().and_then(|rollout| rollout.trial.as_ref());
    match (steering, trial) {
        (Steering::Promote | Steering::PromoteFull, Some(trial)) if trial.paused.is_some() => {
            format!("{name}: the hold of this step is over, but it is paused: `sluice resume {name}` lets it go on")
        }
        (Steering::PromoteFull, _) => {
            format!(
                "{name}: {version} goes through every further step without a hold; the guard goes on judging; `sluice wait {name}` follows it"
            )
        }
        (Steering::Promote, Some(trial)) => {
            let place = match trial.steps.get(trial.step.saturating_sub(1)) {
                Some(_) if trial.step > 0 => format!(" (step {} of {})", trial.step, trial.steps.len()),
                _ => String::new(),
            };
            format!("{name}: {version} has {}{place}; `sluice wait {name}` follows it", percent(trial.share))
        }
        (Steering::Promote, None) => format!("{name}: {version} takes over; `sluice wait {name}` follows it"),
        (Steering::Pause, Some(trial)) => format!(
            "{name}: paused; {version} stays at {} and is judged as before; `sluice resume {name}` lets it go on, `sluice abort {name}` sends it back",
            percent(trial.share)
        ),
        (Steering::Pause, None) => {
            format!(
                "{name}: paused: nothing moves until `sluice resume {name}`; `sluice abort {name}` sends {version} back"
            )
        }
        (Steering::Resume, _) => format!("{name}: goes on; `sluice wait {name}` follows it"),
        (Steering::Abort, _) => format!(
            "{name}: what served before serves again, and {version} is refused; the file still asks for it: change `release` there, or `sluice retry {name}` tries it again"
        ),
        (Steering::Retry, _) => format!("{name}: {version} is tried again; `sluice wait {name}` follows it"),
    }
}
