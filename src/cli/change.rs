//! An edit of the configuration, carried through: made, waited for, and put back if what it asked for was refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::Session;
use super::client;
use super::differences::differences;
use super::edit::{self, EditError};
use super::failure::{Failure, PROXY, TIMED_OUT, USAGE};
use super::file::{self, Edited, FileError};
use super::follow::{End, Follow, follow};
use super::limit::Patience;
use super::wait;
use super::words::colored;
use crate::api::{ConfigStatus, Outcome, ServiceStatus, Status};

/// What is changed, and how it is followed.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The service.
    pub service: &'a str,
    /// The version that is waited for; none in the short form.
    pub version: Option<&'a str>,
    /// The file that defines the service.
    pub path: &'a Path,
    /// When the verb gives up waiting.
    pub timeout: Option<Duration>,
    /// Whether lines of JSON are written.
    pub json: bool,
}

/// The service as it is, and the file that defines it: the one named, or the one that the proxy reads.
pub async fn locate(
    session: &Session<'_>,
    service: &str,
    named: Option<&Path>,
) -> Result<(ServiceStatus, PathBuf), Failure> {
    // Asked in any case: a proxy that is not there, or knows no such service, is found out before the file is touched.
    let status: Status = session.client.get(&client::status(Some(service))).await?;
    let Some(found) = status.services.into_iter().find(|one| one.name.as_str() == service) else {
        return Err(Failure::new(
            USAGE,
            "not-found",
            format!("the proxy has no service `{service}`; `sluice status` lists what it has"),
        ));
    };
    let path = match named {
        Some(path) => path.to_owned(),
        None if found.source.is_absolute() => found.source.clone(),
        // A relative path means the proxy's working directory, not ours.
        None => match std::fs::read_link(format!("/proc/{}/cwd", status.pid)) {
            Ok(folder) => folder.join(&found.source),
            Err(_) => found.source.clone(),
        },
    };
    Ok((found, path))
}

/// Makes the edit and follows what it starts. The exit code.
pub async fn carry_out(
    session: &mut Session<'_>,
    change: &Change<'_>,
    edit: impl FnMut(&str) -> Result<String, EditError>,
) -> Result<u8, Failure> {
    let begun = Instant::now();
    let patience = Patience { timeout: change.timeout };
    let turn = change.timeout.unwrap_or(file::TURN);
    let edited = file::edit(change.path, turn, edit).map_err(|error| {
        let code = match error {
            FileError::Edit { .. } => USAGE,
            FileError::Turn { .. } if turn < file::TURN => {
                return Failure::new(TIMED_OUT, "timed-out", format!("--timeout passed; {error}"));
            }
            FileError::Io { .. } | FileError::Turn { .. } | FileError::Busy(_) => PROXY,
        };
        let hint = match (&error, code) {
            (FileError::Io { .. }, _) => "; name the file that the proxy reads with --config if it is another one",
            _ => "",
        };
        Failure::new(code, "edit", format!("{error}{hint}"))
    })?;
    if !change.json {
        show(&edited, session);
    }

    let service = change.service;
    let how = Follow {
        target: wait::target(service, change.version),
        timeout: patience.left(begun),
        json: change.json,
        goes_on: &format!(
            "the rollout goes on and {} keeps the edit: follow it with `sluice wait {service}`, undo it with `sluice rollback {service}`",
            edited.path.display()
        ),
        wants: Outcome::Done,
    };
    match follow(&session.client, &how, &mut session.screen).await {
        Ok(end) => {
            let refused = matches!(
                &end,
                End::Ended(ended) if matches!(ended.outcome, Outcome::Unhealthy | Outcome::RolledBack)
            );
            if refused {
                put_back(&edited, service, session).await;
            }
            Ok(end.code())
        }
        // The proxy did not take what was written: then it must not stay written either.
        Err(failure) if failure.code == USAGE => {
            put_back(&edited, service, session).await;
            Err(failure)
        }
        Err(mut failure) => {
            if edited.before != edited.after {
                failure.message = format!(
                    "{}\n{} keeps the edit; `sluice status {service}` shows what became of it",
                    failure.message,
                    edited.path.display()
                );
            }
            Err(failure)
        }
    }
}

fn show(edited: &Edited, session: &mut Session<'_>) {
    if edited.before == edited.after {
        let path = edited.path.display();
        session.screen.line(&format!("{path}: nothing to change, it says that already"));
        return;
    }
    session.screen.line(&format!("{}", edited.path.display()));
    for line in differences(&edited.before, &edited.after) {
        let color = if line.starts_with('-') { anstyle::AnsiColor::Red } else { anstyle::AnsiColor::Green };
        session.screen.line(&format!("  {}", colored(color, line)));
    }
}

/// Puts the file back and says so. To standard error, since a line of JSON with `ended` is to be the last.
async fn put_back(edited: &Edited, service: &str, session: &mut Session<'_>) {
    let path = edited.path.display();
    if edited.before == edited.after {
        session.screen.complain(&format!(
            "{path} was not changed by this and still asks for it: edit it, or `sluice rollback {service}`"
        ));
        return;
    }
    let done = match file::put_back(edited) {
        Ok(true) => format!("{path} is put back as it was"),
        // One file may hold many services, and others may be deployed at the same time.
        Ok(false) if undo(edited, service).is_ok_and(|undone| undone) => {
            format!("{path} was changed elsewhere meanwhile, so only service `{service}` is put back")
        }
        Ok(false) => {
            session.screen.complain(&format!(
                "{path} was changed by somebody else meanwhile, so it is left as it is: look at it"
            ));
            return;
        }
        Err(error) => {
            session.screen.complain(&format!("the file could NOT be put back, it still holds the edit: {error}"));
            return;
        }
    };
    // The watcher sees it as well; this is only sooner, and says whether it was taken.
    let reload = session.client.post::<ConfigStatus>("/v1/reload").await;
    session.screen.complain(&match reload {
        Ok(config) if config.stale => {
            format!("{done}, but the proxy does not take it: `sluice check` tells why")
        }
        Ok(_) => done,
        Err(failure) => format!("{done}, but the proxy could not be told: {}", failure.message),
    });
}

/// Takes back only what was written about this service. False if that has changed too.
fn undo(edited: &Edited, service: &str) -> Result<bool, FileError> {
    let read =
        |text: &str| edit::read(text, service).map_err(|source| FileError::Edit { path: edited.path.clone(), source });
    let (before, after) = (read(&edited.before)?, read(&edited.after)?);
    let undone = file::edit(&edited.path, file::TURN, |text| edit::undo(text, service, &before, &after))?;
    Ok(undone.before != undone.after)
}
