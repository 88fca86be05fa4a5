//! `sluice plan`: what a configuration would do to the running proxy. Nothing is changed.

use std::path::{Path, PathBuf};

use super::Session;
use super::failure::{Failure, PROXY, USAGE};
use super::limit::Patience;
use super::planned::{Plan, Wanted};
use crate::api::{Outline, Problem, Status};
use crate::config::{self, Loaded};
use crate::control::{self, Clock};

/// The exit code if something would change.
pub const CHANGES: u8 = 8;

/// Its arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A proxy takes over what is saved in its own files at once, so plan a copy: of the folder, if the files include others. Without --config: the file that the proxy reads, which shows what is held back. Exit codes: 0 nothing would change; 8 something would; 2 the files are wrong; 1 the proxy could not be reached.\n\nExample: sluice plan --config next/sluice.toml"
)]
pub struct Args {
    /// Configuration file to compare with what runs
    #[arg(long, env = "SLUICE_PLAN_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// How long an answer may take.
    #[command(flatten)]
    pub patience: Patience,
    /// Write JSON
    #[arg(long, env = "SLUICE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

/// Asks, reads, compares, shows.
pub async fn run(args: &Args, session: &mut Session<'_>) -> Result<u8, Failure> {
    let running: Outline = session.client.get("/v1/config").await?;
    let status: Status = session.client.get("/v1/status").await?;
    if running.sluice != env!("CARGO_PKG_VERSION") {
        return Err(Failure::new(
            PROXY,
            "protocol",
            format!(
                "the proxy is sluice {}, this is {}: settings can only be compared by the same version; use the proxy's own binary",
                running.sluice,
                env!("CARGO_PKG_VERSION")
            ),
        ));
    }
    let path = args.config.clone().unwrap_or_else(|| in_its_folder(&status.config.path, status.pid));
    let mut loaded = config::load(&path);
    let troubles = control::check_files(&mut loaded, Clock::system().now());
    loaded.problems.extend(troubles);
    let plan = compare(&running, &status, &mut loaded);
    let code = match (&plan, loaded.problems.is_empty()) {
        (_, false) => USAGE,
        (Some(plan), true) if plan.changes => CHANGES,
        _ => 0,
    };
    tell(plan, &path, &loaded.problems, args.json, session)?;
    Ok(code)
}

/// A relative path is one of the proxy's working directory.
fn in_its_folder(path: &Path, pid: u32) -> PathBuf {
    match std::fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(folder) => folder.join(path),
        Err(_) => path.to_owned(),
    }
}

/// None if nothing of the configuration can be used.
fn compare(running: &Outline, status: &Status, loaded: &mut Loaded) -> Option<Plan> {
    let config = loaded.config.as_mut()?;
    let mut outline = control::outline(config);
    let held_back: Vec<_> = loaded.held_back.iter().collect();
    // What is held back stays as it runs.
    for (name, service) in &running.services {
        if held_back.iter().any(|file| same_file(file, &service.source)) {
            outline.services.insert(name.clone(), service.clone());
        }
    }
    let wanted = Wanted { outline: &outline, services: &config.services };
    let mut plan = Plan::new(running, &status.services, wanted, status.generation);
    plan.problems.clone_from(&loaded.problems);
    Some(plan)
}

/// Of a copy as well as of the original.
fn same_file(one: &Path, other: &Path) -> bool {
    one == other || one.file_name() == other.file_name()
}

fn tell(
    plan: Option<Plan>,
    path: &Path,
    problems: &[Problem],
    json: bool,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let screen = &mut session.screen;
    let Some(plan) = plan else {
        if json {
            let invalid = serde_json::json!({"schema": 1, "changes": false, "problems": problems});
            screen.line(&invalid.to_string());
        } else {
            for problem in problems {
                screen.complain(config::render_coloured(problem).trim_end());
            }
            screen.complain(&format!("{}: invalid; nothing of it would be applied", path.display()));
        }
        return Ok(());
    };
    if json {
        let text = serde_json::to_string(&plan).map_err(Failure::internal)?;
        screen.line(&text);
        return Ok(());
    }
    for problem in problems {
        screen.complain(config::render_coloured(problem).trim_end());
    }
    if !problems.is_empty() {
        screen.complain(&format!("{}: files with errors would be held back; the rest:", path.display()));
    }
    for line in plan.lines() {
        screen.line(&line);
    }
    if !plan.changes {
        screen.line(&format!("{}: nothing would change", path.display()));
    }
    Ok(())
}
