//! The access log's writer: started, replaced and ended as the configuration says.

use std::sync::Arc;

use tracing::{error, info};

use crate::config::{self, LogTarget};
use crate::pool;
use crate::telemetry::lines::{Lines, Target};

/// The writer, if there is one. Ended with this.
#[derive(Debug, Default)]
pub(super) struct AccessLog {
    running: Option<(LogTarget, Lines)>,
    /// What workers have.
    shared: Option<Arc<pool::AccessLog>>,
    /// Writers that were replaced, for as long as some worker may have lines for them.
    replaced: Vec<Lines>,
    /// What writers wrote and lost that are gone: these counts must not go backwards.
    before: (u64, u64),
}

impl AccessLog {
    /// Follows the settings. Lines that another writer was given are written by it.
    pub(super) fn follow(&mut self, wanted: Option<&Arc<config::AccessLog>>) {
        if self.shared.as_ref().map(|shared| &shared.settings) == wanted {
            return;
        }
        if self.running.as_ref().map(|(target, _)| target) != wanted.map(|wanted| &wanted.target) {
            self.replaced.extend(self.running.take().map(|(_, lines)| lines));
            if let Some(wanted) = wanted {
                let target = match &wanted.target {
                    LogTarget::Stdout => Target::Stdout,
                    LogTarget::File(path) => Target::File(path.clone()),
                };
                match Lines::start("access", target) {
                    Ok(lines) => self.running = Some((wanted.target.clone(), lines)),
                    Err(error) => error!(%error, "the access log cannot be written: no thread"),
                }
            }
        }
        self.shared = None;
        for gone in self.replaced.extract_if(.., |lines| !lines.is_shared()) {
            let (written, lost) = gone.sink().fate().counts();
            self.before = (self.before.0 + written, self.before.1 + lost);
        }
        self.shared = wanted.zip(self.running.as_ref()).map(|(settings, (_, lines))| {
            Arc::new(pool::AccessLog { settings: Arc::clone(settings), sink: lines.sink().clone() })
        });
    }

    /// What workers shall have.
    pub(super) fn shared(&self) -> Option<&Arc<pool::AccessLog>> {
        self.shared.as_ref()
    }

    /// Opens the file again.
    pub(super) fn reopen(&self) {
        if let Some((_, lines)) = &self.running {
            info!("told to open the access log again");
            lines.reopen();
        }
    }

    /// Lines that were written, and lines that were lost.
    pub(super) fn counts(&self) -> (u64, u64) {
        let all = self.replaced.iter().chain(self.running.as_ref().map(|(_, lines)| lines));
        all.map(|lines| lines.sink().fate().counts()).fold(self.before, |sums, more| (sums.0 + more.0, sums.1 + more.1))
    }

    /// Whether lines can be written.
    pub(super) fn is_failing(&self) -> bool {
        self.running.as_ref().is_some_and(|(_, lines)| lines.sink().fate().is_failing())
    }
}
