//! `sluice status`: what runs, as a report.

use std::time::Duration;

use serde_json::Value;

use super::Session;
use super::client;
use super::failure::{Failure, PROXY};
use super::limit::{Asked, Patience};
use super::view;
use crate::api::Status;

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1000 });

/// Fields that change without anybody's decision. Not the verdict of a guard, but what it counts.
const COUNTERS: [&str; 12] = [
    "now",
    "load",
    "requests",
    "failures",
    "in_flight",
    "holders",
    "probe",
    "waiting",
    "held",
    "held_in_vain",
    "new",
    "old",
];

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
    /// On a terminal, show it again every second; else write what changes, and with --json a document for each change
    #[arg(long, env = "SLUICE_STATUS_WATCH", value_parser = clap::builder::FalseyValueParser::new())]
    pub watch: bool,
    /// Say nothing; exit code 0 if the proxy wants traffic, 1 if not (for health checks)
    #[arg(long, env = "SLUICE_STATUS_READY", value_parser = clap::builder::FalseyValueParser::new())]
    pub ready: bool,
    /// How long an answer may take; with --watch, all of them.
    #[command(flatten)]
    pub patience: Patience,
}

/// Asks, and shows.
pub async fn run(args: &Args, session: &mut Session<'_>) -> Result<u8, Failure> {
    if args.ready {
        // However it fails, the time included: a health check has two answers.
        let ready = args.patience.within(Asked::Nothing, session.client.get_text("/readyz")).await;
        return Ok(if ready.is_ok() { 0 } else { PROXY });
    }
    let target = client::status(args.service.as_deref());
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut last = Watched::default();
    loop {
        let text = session.client.get_text(&target).await?;
        if !args.watch {
            Watched::show(&text, args.json, session)?;
            return Ok(0);
        }
        last.show_change(&text, args.json, session)?;
        if session.screen.lost().is_some() {
            return Ok(0);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = &mut interrupt => return Ok(0),
        }
    }
}

/// What was shown last.
#[derive(Default)]
struct Watched {
    status: Option<Status>,
    /// Without what changes with every request.
    decided: Option<Value>,
}

impl Watched {
    /// All of it, once.
    fn show(text: &str, json: bool, session: &mut Session<'_>) -> Result<(), Failure> {
        if json {
            session.screen.line(text.trim_end());
        } else {
            let status: Status = session.client.decode(text)?;
            session.screen.line(&view::status(&status));
        }
        Ok(())
    }

    /// On a terminal all of it, again and again. Into a pipe: what has changed, a line each; as JSON, a document whenever something has.
    fn show_change(&mut self, text: &str, json: bool, session: &mut Session<'_>) -> Result<(), Failure> {
        if json {
            let mut decided: Value = session.client.decode(text)?;
            leave_out_counters(&mut decided);
            if self.decided.as_ref() != Some(&decided) {
                session.screen.line(text.trim_end());
            }
            self.decided = Some(decided);
            return Ok(());
        }
        let status: Status = session.client.decode(text)?;
        if session.screen.terminal().is_some() {
            session.screen.draw(&view::status(&status));
            return Ok(());
        }
        for line in view::status_changes(self.status.as_ref(), &status) {
            session.screen.line(&line);
        }
        self.status = Some(status);
        Ok(())
    }
}

/// Takes out what changes with time and with every request.
fn leave_out_counters(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in COUNTERS {
                fields.remove(name);
            }
            // A guard's reason has its counts in it.
            if fields.contains_key("verdict") {
                fields.remove("reason");
            }
            fields.values_mut().for_each(leave_out_counters);
        }
        Value::Array(items) => items.iter_mut().for_each(leave_out_counters),
        _ => {}
    }
}
