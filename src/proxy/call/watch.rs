//! The watchdog's part of a call: its limits, looked at each 100 ms, so that no timer is armed for a request.

use std::time::{Duration, Instant};

use super::{Call, Stage, Verdict};
use crate::model::WorkKind;
use crate::pool::CutReason;

/// How long a call whose deadline has passed may take to end between two messages.
const OVERTIME: Duration = Duration::from_secs(1);

impl Call {
    /// The watchdog's look at this call.
    pub fn check(&self, now: Instant) {
        if let Some(cut) = self.cut.get() {
            let judged = self.was_cut.get();
            if now >= cut.at && !judged {
                self.was_cut.set(true);
                self.verdict.set(Some(Verdict::Cut(cut.reason)));
                self.wake();
            } else if now >= cut.by && judged {
                return self.kill();
            }
        }
        if self.held_since.get().is_some_and(|since| now - since >= Duration::from_secs(1)) {
            self.release_body();
            self.wake();
        }
        self.check_patience(now);
        if let Some(deadline) = self.deadline.get()
            && now >= deadline
        {
            if now >= deadline + OVERTIME {
                return self.kill();
            }
            if self.verdict.get().is_none() {
                self.verdict.set(Some(Verdict::Cut(CutReason::Deadline)));
                self.wake();
            }
            return;
        }
        let stage = self.stage.get();
        if self.is_too_slow(now, stage) {
            // The client's fault, not the node's: after the head there is no verdict that could be taken for a stalled node.
            if stage == Stage::Flow {
                return self.kill();
            }
            self.verdict.set(Some(Verdict::TimedOut(stage)));
            return self.wake();
        }
        let beat = self.beat_of(stage);
        if self.restarted.replace(false) || beat != self.beat.replace(beat) {
            return self.moved.set(now);
        }
        let limit = match stage {
            Stage::Response if self.awaits_client.get() => self.client_limit.get(),
            _ => self.limit.get(),
        };
        let bounded = stage == Stage::Response && self.deadline.get().is_some();
        let waits = stage == Stage::Free || bounded || (stage == Stage::Flow && self.client_stalls.get());
        if waits || self.verdict.get().is_some() || now - self.moved.get() < limit {
            return;
        }
        self.verdict.set(Some(Verdict::TimedOut(stage)));
        if stage == Stage::Flow {
            // The head is out: nothing but the end of the connection can tell the client that this is not all.
            self.kill();
        } else {
            self.wake();
        }
    }

    /// Whether the client sends its body, or takes the answer's, too slowly. Bytes that wait for a stream's window cannot be
    /// seen here: HTTP/2 has its own watch.
    fn is_too_slow(&self, now: Instant, stage: Stage) -> bool {
        match stage {
            Stage::Response => self.pace.is_too_slow(now, self.awaits_client.get(), self.pace.came()),
            Stage::Flow if self.task.is_none() && self.kind.get() == WorkKind::Request => {
                let pulse = &self.front.pulse;
                self.pace.is_too_slow(now, pulse.is_blocked(), pulse.written())
            }
            _ => false,
        }
    }

    fn beat_of(&self, stage: Stage) -> u64 {
        let upstream = self.upstream.borrow();
        let upstream = upstream.as_ref();
        let client = self.task.is_none().then_some(&self.front.pulse);
        let bytes = match stage {
            Stage::Response => {
                client.map_or(0, |client| client.read()).wrapping_add(upstream.map_or(0, |node| node.written()))
            }
            Stage::Flow => {
                client.map_or(0, |client| client.beat()).wrapping_add(upstream.map_or(0, |node| node.beat()))
            }
            Stage::Free | Stage::Connect => return 0,
        };
        bytes.wrapping_add(self.pieces.get())
    }

    /// Ends it so that the client cannot take what it got for the whole: in HTTP/1 its connection with it.
    fn kill(&self) {
        self.killed.set(true);
        match &self.task {
            Some(task) => task.wake_by_ref(),
            None => self.front.kill(),
        }
    }
}
