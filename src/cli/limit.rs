//! `--timeout` of the verbs that ask and do not wait for an end.

use std::time::Duration;

use super::failure::{Failure, TIMED_OUT};
use super::words::{duration, parse_duration};

/// How long an answer may take.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Patience {
    /// Give up after this long. Without it a proxy that does not answer is given up after some seconds, with exit code 1
    #[arg(long, env = "SLUICE_TIMEOUT", value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

impl Patience {
    /// Does it within this time.
    pub async fn within<T>(self, verb: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let Some(limit) = self.timeout else {
            return verb.await;
        };
        tokio::time::timeout(limit, verb).await.unwrap_or_else(|_| {
            let message = format!(
                "--timeout {} passed; a change that was asked for may have been made all the same, `sluice status` tells",
                duration(limit)
            );
            Err(Failure::new(TIMED_OUT, "timed-out", message))
        })
    }
}
