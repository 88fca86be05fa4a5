//! The end: not ready any more, a pause for load balancers to see it, then clients are let go, with a deadline.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::controller::{Controller, Signal};
use crate::config::Shutdown;
use crate::model::Holder;
use crate::pool::{Command, ShutdownSpec};

/// How much longer than the deadline the workers may take to say what they cut.
const MARGIN: Duration = Duration::from_secs(2);

/// The journal gets this long at the end.
const FLUSH: Duration = Duration::from_secs(5);

/// How the proxy ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Work that was cut because the shutdown deadline came.
    pub cut: Vec<Holder>,
    /// Workers that did not say that they ended.
    pub silent: usize,
    /// Whether a second signal ended everything at once.
    pub hurried: bool,
}

impl Controller {
    fn ending(&self) -> Shutdown {
        match &self.config {
            Some(config) => config.shutdown.clone(),
            // Nothing was ever served.
            None => Shutdown { delay: Duration::ZERO, linger: Duration::ZERO, deadline: Duration::ZERO },
        }
    }

    /// Turns `/readyz` false. Everything goes on until the returned delay is over.
    pub(super) fn begin_shutdown(&mut self) -> Duration {
        let delay = self.ending().delay;
        self.closing = true;
        self.ready.send_replace(false);
        info!(?delay, "shutting down: not ready any more");
        delay
    }
}

/// Closes the listeners, lets the workers' clients go, and saves what waits. A second signal ends it at once.
pub(super) async fn let_clients_go(mut controller: Controller, signals: &mut mpsc::Receiver<Signal>) -> Summary {
    let Shutdown { linger, deadline, .. } = controller.ending();
    controller.listeners.close_all();
    let end = Instant::now() + deadline + MARGIN;
    let pool = &controller.pool;
    let answers: Vec<_> = (0..pool.workers())
        .filter_map(|worker| {
            let (reply, answer) = oneshot::channel();
            let spec = ShutdownSpec { linger, deadline, reply };
            pool.tell_one(worker, Command::Shutdown(spec)).then(|| timeout_at(end, answer))
        })
        .collect();
    info!(workers = answers.len(), ?linger, ?deadline, "letting clients go");
    let mut summary = Summary::default();
    tokio::select! {
        biased;
        () = second(signals) => {
            warn!("told a second time to end: ending at once");
            summary.hurried = true;
        }
        answers = join_all(answers) => {
            for answer in answers {
                match answer {
                    Ok(Ok(cut)) => summary.cut.extend(cut),
                    _ => summary.silent += 1,
                }
            }
        }
    }
    if !summary.hurried {
        tokio::select! {
            biased;
            () = second(signals) => summary.hurried = true,
            () = controller.spans.finish() => {}
        }
    }
    if let Some(writer) = controller.writer.take()
        && !summary.hurried
    {
        tokio::select! {
            biased;
            () = second(signals) => summary.hurried = true,
            _ = writer.flush_all(FLUSH) => {}
        }
        if let Some(error) = writer.last_error() {
            warn!("{error}");
        }
    }
    info!(cut = summary.cut.len(), silent = summary.silent, "ended");
    summary
}

async fn second(signals: &mut mpsc::Receiver<Signal>) {
    loop {
        match signals.recv().await {
            Some(Signal::Shutdown) => return,
            Some(Signal::Reload | Signal::Reopen) => {}
            // Nobody is left who could hurry us.
            None => std::future::pending().await,
        }
    }
}
