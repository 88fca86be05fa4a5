//! Looks at the proxy, again and again, and does what was confirmed. Every question has a deadline; none waits for the screen.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::app::Question;
use crate::api::{HistoryEntry, ServiceStatus, Status};
use crate::cli::client::{self, Client, of_service};
use crate::cli::failure::{Failure, PROXY};
use crate::model::ServiceName;

/// From one look to the next, at least.
const LOOK: Duration = Duration::from_secs(1);
/// An answer that takes long makes the next question wait this many times as long, so that ten thousand services cost the proxy no more
/// than a quarter of one processor.
const REST: u32 = 3;
/// What is not answered within this is no answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// With more services than this, whoever looks at one asks for that one alone.
const MANY: usize = 200;
/// The history of an open service is asked for in each so manyeth look.
const HISTORY: u32 = 5;

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// What runs; only this service, if one is named.
    Status(Box<Status>, Option<ServiceName>),
    /// Finished rollouts.
    History(ServiceName, Vec<HistoryEntry>),
    /// Nothing, and why.
    Failed(String),
    /// What came of a deed.
    Done(Result<String, String>),
}

/// What is wanted. A change of it is asked for at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The service whose page is open.
    pub open: Option<ServiceName>,
    /// Grows when something happened that is to be seen soon.
    pub round: u64,
}

/// Looks until nobody listens.
pub async fn look(client: Client, mut wish: watch::Receiver<Wish>, answers: mpsc::Sender<Answer>) {
    let mut services = 0;
    let mut told: Option<ServiceName> = None;
    let mut looks = 0_u32;
    loop {
        let open = wish.borrow_and_update().open.clone();
        let begun = Instant::now();
        let only = open.clone().filter(|_| services > MANY);
        let answer = match status(&client, only.as_ref()).await {
            Ok(status) => {
                if only.is_none() {
                    services = status.services.len();
                }
                Answer::Status(Box::new(status), only)
            }
            Err(failure) => Answer::Failed(failure.message),
        };
        let took = begun.elapsed();
        let failed = matches!(answer, Answer::Failed(_));
        if answers.send(answer).await.is_err() {
            return;
        }
        looks = looks.wrapping_add(1);
        if let Some(name) =
            open.filter(|name| !failed && (told.as_ref() != Some(name) || looks.is_multiple_of(HISTORY)))
        {
            // A service that is gone has none, and its page says so.
            if let Ok(entries) = history(&client, &name).await {
                told = Some(name.clone());
                if answers.send(Answer::History(name, entries)).await.is_err() {
                    return;
                }
            }
        }
        sleep(took).await;
        tokio::select! {
            () = sleep(LOOK.saturating_sub(took * 2).max(took * REST)) => {}
            changed = wish.changed() => if changed.is_err() { return },
        }
        if wish.has_changed().unwrap_or(true) {
            told = None;
        }
    }
}

async fn status(client: &Client, only: Option<&ServiceName>) -> Result<Status, Failure> {
    let text = match within(client.get_text(&client::status(only.map(ServiceName::as_str)))).await {
        // It went while its page was open; the rest is still worth a look.
        Err(failure) if only.is_some() && failure.kind == "not-found" => {
            within(client.get_text(&client::status(None))).await?
        }
        text => text?,
    };
    let client = client.clone();
    // Megabytes, with very many services: keys must not wait for it.
    let decoded = spawn_blocking(move || client.decode(&text)).await;
    decoded.map_err(Failure::internal)?
}

async fn history(client: &Client, service: &ServiceName) -> Result<Vec<HistoryEntry>, Failure> {
    within(client.get(&of_service(service.as_str(), "history"))).await
}

/// Does it, unless the service is no longer as it was when that was decided.
pub async fn act(client: Client, question: Question, answers: mpsc::Sender<Answer>) {
    let deed = question.deed;
    let target = deed.target(question.service.as_str());
    let tag = if deed.is_of_what_was_seen() { question.tag.as_str() } else { "" };
    let asked = within(client.post_if::<ServiceStatus>(&target, tag)).await;
    let told = match asked {
        Ok(service) => Ok(deed.done(&service)),
        Err(failure) => Err(failure.message),
    };
    // If nobody listens any more, nobody wants to know.
    let _ = answers.send(Answer::Done(told)).await;
}

async fn within<T>(asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
        let message = format!("no whole answer within {} s: the proxy hangs", PATIENCE.as_secs());
        Err(Failure::new(PROXY, "unreachable", message))
    })
}
