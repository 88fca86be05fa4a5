//! What happened, told to those who listen. It is found by comparing what a service is with what was told of it, in one place, so
//! that nothing has to remember to tell.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast;

use super::controller::Controller;
use super::entry::Entry;
use crate::api::{Event, EventKind, Feed, HaltKind};
use crate::model::{NodeAddress, ServiceName, Timestamp, Version};

/// Events that are kept for those who come back.
const KEPT: usize = 1024;

/// Events that a listener may be behind.
const BEHIND: usize = 256;

/// The newest events, and those who listen.
#[derive(Debug)]
pub(super) struct Events {
    next: u64,
    kept: VecDeque<Arc<Event>>,
    sender: broadcast::Sender<Arc<Event>>,
}

impl Events {
    /// Numbers go on over a restart, as long as there are fewer than a thousand events in a millisecond.
    pub(super) fn new(started: Timestamp) -> Self {
        let (sender, _) = broadcast::channel(BEHIND);
        Self { next: started.0.saturating_mul(1000), kept: VecDeque::new(), sender }
    }

    fn tell(&mut self, at: Timestamp, service: Option<&ServiceName>, news: News) {
        let News { kind, version, node, message } = news;
        let event = Arc::new(Event { id: self.next, at, kind, service: service.cloned(), version, node, message });
        self.next += 1;
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Arc::clone(&event));
        // Nobody may listen.
        let _ = self.sender.send(event);
    }

    /// From the event after `after` on; without it, only what comes.
    pub(super) fn feed(&self, after: Option<u64>, now: Timestamp) -> Feed {
        let mut past = Vec::new();
        if let Some(after) = after {
            let first = self.kept.front().map_or(self.next, |event| event.id);
            // Of another process, or pushed out by newer ones.
            if after.saturating_add(1) < first || after >= self.next {
                past.push(Arc::new(Event::gap(first.saturating_sub(1), now)));
            }
            let known = |event: &&Arc<Event>| event.id > after || after >= self.next;
            past.extend(self.kept.iter().filter(known).cloned());
        }
        Feed { past, live: self.sender.subscribe() }
    }
}

/// What is new in a service.
#[derive(Debug)]
struct News {
    kind: EventKind,
    version: Option<Version>,
    node: Option<NodeAddress>,
    message: String,
}

impl News {
    fn new(kind: EventKind, version: Option<&Version>, message: impl Into<String>) -> Self {
        Self { kind, version: version.cloned(), node: None, message: message.into() }
    }
}

/// What was told of a service.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    change: u64,
    began: bool,
    steps: usize,
    judged: usize,
    steered: usize,
    cut: usize,
    ended: bool,
    paused: bool,
    halt: Option<HaltKind>,
}

impl Told {
    /// Of a service as it is: what happened before is not told again.
    pub(super) fn of(entry: &Entry) -> Self {
        let change = &entry.change;
        Self {
            change: entry.number,
            began: change.began.is_some(),
            steps: change.steps.len(),
            judged: change.steps.iter().filter(|step| step.evidence.is_some()).count(),
            steered: change.steered.len(),
            cut: change.cut.len(),
            ended: change.ended.is_some(),
            paused: entry.machine.paused().is_some(),
            halt: entry.halt.as_ref().map(|halt| halt.kind),
        }
    }
}

impl Controller {
    /// Tells what is new in a service.
    pub(super) fn tell_news(&mut self, name: &ServiceName) {
        let now = self.clock.now();
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let mut news = nodes(entry);
        let next = Told::of(entry);
        let mut last = std::mem::replace(&mut entry.told, next.clone());
        if last.change != next.change {
            if last.began && !last.ended {
                news.push(News::new(EventKind::Ended, None, "a newer change took over"));
            }
            last = Told { change: next.change, halt: last.halt, ..Told::default() };
        }
        news.extend(self::news(entry, &last, &next));
        for news in news {
            self.events.tell(now, Some(name), news);
        }
    }

    /// Tells what was read.
    pub(super) fn tell_read(&mut self) {
        let now = self.clock.now();
        let told = (self.digest, self.files.stale);
        if std::mem::replace(&mut self.read_told, told) == told {
            return;
        }
        let news = if self.files.stale {
            let first = self.files.problems.first();
            let place =
                first.map(|problem| format!(": {}:{}: {}", problem.path.display(), problem.line, problem.message));
            let errors = super::words::count(self.files.problems.len(), "error");
            News::new(EventKind::Invalid, None, format!("the files have {errors}{}", place.unwrap_or_default()))
        } else {
            News::new(EventKind::Configured, None, "the configuration that is on disk runs")
        };
        self.events.tell(now, None, news);
    }
}

/// Nodes whose state is another one. The log is told as well.
fn nodes(entry: &mut Entry) -> Vec<News> {
    let mut news = Vec::new();
    for node in entry.machine.nodes() {
        let Some(member) = entry.members.get_mut(&node.node) else {
            continue;
        };
        if member.told == node.state {
            continue;
        }
        tracing::info!(service = %member.node.id.service, version = %node.node.version, node = %node.node.address,
            from = %member.told, to = %node.state, reason = node.reason, "node changed its state");
        let message = format!("{} {}: {}", node.node.address, node.state, node.reason);
        let address = Some(node.node.address.clone());
        news.push(News { node: address, ..News::new(EventKind::Node, Some(&node.node.version), message) });
        member.told = node.state;
    }
    news
}

fn news(entry: &Entry, last: &Told, next: &Told) -> Vec<News> {
    let change = &entry.change;
    let release = &entry.settings.release;
    let of = |kind, message: String| News::new(kind, Some(release), message);
    let mut news = Vec::new();
    if let (false, Some((_, from))) = (last.began, &change.began) {
        let from = from.as_ref().filter(|from| !from.is_unnamed());
        let from = from.map(|from| format!(" from {from}")).unwrap_or_default();
        let who = if release.is_unnamed() { "another list of nodes" } else { release.as_str() };
        news.push(of(EventKind::Began, format!("{who} is to take over{from}")));
    }
    let judged = change.steps.iter().filter_map(|step| Some((step.share, step.evidence.as_ref()?)));
    for (share, evidence) in judged.skip(last.judged) {
        news.push(of(EventKind::Verdict, format!("at {share}%: {}: {}", evidence.verdict, evidence.reason)));
    }
    for step in change.steps.iter().skip(last.steps) {
        news.push(of(EventKind::Step, format!("{release} has {}%", step.share)));
    }
    for act in change.steered.iter().skip(last.steered) {
        news.push(of(EventKind::Steered, format!("{} by {}", act.steering.as_str(), act.by)));
    }
    if last.paused != next.paused && next.change == last.change {
        let text = if next.paused { "the rollout is paused" } else { "the rollout goes on" };
        news.push(of(EventKind::Pause, text.into()));
    }
    for cut in change.cut.iter().skip(last.cut) {
        let pieces = super::words::count(cut.work.len(), "piece");
        let message = format!("{pieces} of work cut on {} when the drain deadline came", cut.address);
        news.push(News { node: Some(cut.address.clone()), ..News::new(EventKind::Cut, Some(&cut.version), message) });
    }
    if let (false, Some(ended)) = (last.ended, &change.ended) {
        news.push(of(EventKind::Ended, ended.message.clone()));
    }
    if last.halt != next.halt {
        let message = match &entry.halt {
            Some(halt) if halt.kind == HaltKind::Hold => format!("requests are on hold, by {}", halt.by),
            Some(halt) => format!("maintenance, by {}", halt.by),
            None => "requests go on".into(),
        };
        news.push(News::new(EventKind::Halt, None, message));
    }
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(number: u64) -> Events {
        let mut events = Events::new(Timestamp(5));
        for _ in 0..number {
            events.tell(Timestamp(6), None, News::new(EventKind::Configured, None, "m"));
        }
        events
    }

    fn ids(feed: &Feed) -> Vec<(u64, EventKind)> {
        feed.past.iter().map(|event| (event.id, event.kind)).collect()
    }

    #[test]
    fn who_comes_back_gets_what_he_missed_and_is_told_if_some_is_lost() {
        let now = Timestamp(7);
        let some = events(3);
        assert!(ids(&some.feed(None, now)).is_empty());
        assert_eq!(ids(&some.feed(Some(5001), now)), [(5002, EventKind::Configured)]);
        assert!(ids(&some.feed(Some(5002), now)).is_empty());
        // Of an older process, and of one whose clock was ahead.
        for strange in [7, 99_999] {
            let told = ids(&some.feed(Some(strange), now));
            assert_eq!((told.len(), told[0]), (4, (4999, EventKind::Gap)), "{strange}");
        }
        let many = events(KEPT as u64 + 10);
        let told = ids(&many.feed(Some(5003), now));
        assert_eq!((told.len(), told[0], told[1].0), (KEPT + 1, (5009, EventKind::Gap), 5010));
        assert_eq!(ids(&many.feed(Some(5009), now)).len(), KEPT);
    }

    #[test]
    fn a_listener_gets_what_comes_after_what_was() {
        let mut events = events(2);
        let mut feed = events.feed(Some(5000), Timestamp(7));
        events.tell(Timestamp(8), None, News::new(EventKind::Invalid, None, "m"));
        assert_eq!(ids(&feed).len(), 1);
        assert_eq!(feed.live.try_recv().map(|event| event.id).ok(), Some(5002));
    }
}
