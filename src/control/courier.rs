//! Tells an outside server what happens in a service's rollouts: one after the other, again and again until it takes it or the
//! time is over. Nothing ever waits for it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use http::Method;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::endpoint::{Unanswered, ask, request};
use super::entry::Entry;
use crate::api::{Happening, Outcome, What};
use crate::config::Events;
use crate::model::{Timestamp, Version};
use crate::rollout::Verdict;

/// What waits to be told; the oldest are lost first.
const MOST: usize = 500;

/// From the first failure to the next try, and the longest such pause.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

type Post = Rc<RefCell<VecDeque<(Instant, Happening)>>>;

/// What one service tells.
#[derive(Debug, Default)]
pub(super) struct Courier {
    /// Whom, when something was told last.
    to: Option<Events>,
    /// Oldest first; the first one may be on its way.
    post: Post,
    /// Ends when everything is told.
    task: Option<AbortHandle>,
    /// Told so far.
    count: u64,
    /// The change whose end was told last.
    ended: Option<u64>,
}

impl Courier {
    /// One that told the end of this change.
    pub(super) fn after(ended: Option<u64>) -> Self {
        Self { ended, ..Self::default() }
    }

    fn send(&mut self, to: &Events, happening: Happening) {
        {
            let mut post = self.post.borrow_mut();
            if post.len() >= MOST
                && let Some((_, lost)) = post.remove(1)
            {
                warn!(service = %lost.service, text = lost.text, "an event is lost: too many wait to be told");
            }
            post.push_back((Instant::now(), happening));
        }
        let same = self.to.as_ref() == Some(to);
        if same && self.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        if let Some(task) = self.task.take() {
            task.abort();
        }
        self.to = Some(to.clone());
        self.task = Some(tokio::task::spawn_local(deliver(to.clone(), Rc::clone(&self.post))).abort_handle());
    }
}

/// Tells what waits, until nothing does.
async fn deliver(to: Events, post: Post) {
    let (first, longest) = PAUSES;
    let mut pause = first;
    loop {
        let Some((since, happening)) = post.borrow().front().cloned() else {
            return;
        };
        let Some(error) = tell(&to, &happening).await.err() else {
            post.borrow_mut().pop_front();
            pause = first;
            continue;
        };
        if error.is_final() || since.elapsed() + pause > to.give_up {
            warn!(service = %happening.service, to = to.endpoint.host, text = happening.text, %error,
                "an event could not be told");
            post.borrow_mut().pop_front();
            continue;
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

async fn tell(to: &Events, happening: &Happening) -> Result<(), Unanswered> {
    let body = serde_json::to_vec(happening).map_err(|error| error.to_string())?;
    let request = request(&to.endpoint, Method::POST, &to.endpoint.path, body.into())?;
    ask(&to.endpoint, request).await.map(drop)
}

impl Entry {
    /// Tells what happened to whom the configuration says, if it does.
    pub(super) fn announce(&mut self, what: What, now: Timestamp) {
        let Some(to) = &self.settings.rollout.events else {
            return;
        };
        self.courier.count += 1;
        let happening = Happening {
            id: format!("{}-{}-{}-{}", self.settings.name, self.number, now.0, self.courier.count),
            at: now,
            service: self.settings.name.clone(),
            change: self.number,
            text: format!("{}: {}", self.settings.name, in_words(&what)),
            what,
        };
        self.courier.send(to, happening);
    }

    /// Tells the guard's verdict.
    pub(super) fn announce_verdict(&mut self, version: &Version, share: f64, verdict: &Verdict, now: Timestamp) {
        let reason = verdict.why().unwrap_or_default().into();
        let verdict = verdict.as_str().into();
        self.announce(What::Verdict { version: version.clone(), share, verdict, reason }, now);
    }

    /// Tells the end of a rollout, once.
    pub(super) fn announce_end(&mut self, now: Timestamp) {
        let Some(ended) = self.change.ended.as_ref().filter(|_| self.courier.ended != Some(self.number)) else {
            return;
        };
        self.courier.ended = Some(self.number);
        let Some(entry) = &ended.entry else {
            return;
        };
        let (version, outcome, reason) = (entry.to.clone(), entry.outcome, entry.reason.clone());
        self.announce(What::Ended { version, outcome, reason }, now);
    }
}

fn in_words(what: &What) -> String {
    match what {
        What::Began { from: Some(from), version } => format!("{version} is to take over from {from}"),
        What::Began { from: None, version } => format!("{version} is to serve"),
        What::Stepped { version, share } => format!("{version} has {share}% of the traffic"),
        What::Verdict { version, share, verdict, reason } => {
            let between = if reason.is_empty() { "" } else { ": " };
            format!("{version} at {share}%: {verdict}{between}{reason}")
        }
        What::Ended { version, outcome, reason } => {
            let word = match outcome {
                Outcome::Done | Outcome::DoneWithCuts => "done",
                Outcome::Unhealthy | Outcome::RolledBack => "refused",
                Outcome::Superseded => "overtaken",
                Outcome::TimedOut => "goes on",
            };
            format!("{version} {word}: {reason}")
        }
    }
}
