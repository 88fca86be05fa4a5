//! `--timeout`: of the verbs that ask and do not wait for an end, and of the others as long as they ask.

use std::time::Duration;

use tokio::time::Instant;

use super::failure::{Failure, TIMED_OUT};
use super::words::{duration, parse_duration};

/// What may have become of what a verb asked for and got no answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It only looks.
    Nothing,
    /// It asked for a change.
    Change,
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Patience {
    /// Give up after this long. Without it a proxy that does not answer is given up after some seconds, with exit code 1
    #[arg(long, env = "SLUICE_TIMEOUT", value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

impl Patience {
    /// Does it within this time.
    pub async fn within<T>(self, asked: Asked, verb: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let Some(limit) = self.timeout else {
            return verb.await;
        };
        tokio::time::timeout(limit, verb).await.unwrap_or_else(|_| {
            let became = match asked {
                Asked::Nothing => "nothing was changed",
                Asked::Change => "a change that was asked for may have been made all the same, `sluice status` tells",
            };
            Err(Failure::new(TIMED_OUT, "timed-out", format!("--timeout {} passed; {became}", duration(limit))))
        })
    }

    /// What is left of it for somebody who began then: a verb with several parts has one `--timeout` for all of them.
    pub fn left(self, begun: Instant) -> Option<Duration> {
        self.timeout.map(|limit| limit.saturating_sub(begun.elapsed()))
    }
}
