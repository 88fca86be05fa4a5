//! What a call notes for the access log; nothing if there is none.

use std::rc::Rc;

use super::super::access_log::{Entry, Outcome};
use super::{Call, Verdict};

impl Call {
    /// Told by the handler if the request is to be told in the access log.
    pub fn set_entry(&self, entry: &Rc<Entry>) {
        *self.entry.borrow_mut() = Some(Rc::clone(entry));
    }

    /// Notes something for the access log, if there is one.
    pub(super) fn note(&self, note: impl FnOnce(&Entry)) {
        if let Some(entry) = &*self.entry.borrow() {
            note(entry);
        }
    }

    /// Told by the handler when the request goes to a node.
    pub fn count_attempt(&self) {
        self.forget_hints();
        self.note(Entry::count_attempt);
    }

    /// Told by the handler when the head of an answer came.
    pub fn note_head(&self) {
        self.note(Entry::note_head);
    }

    /// Told by the body or the tunnel: how it ended. The first to tell is right.
    pub fn note_end(&self, outcome: Outcome) {
        self.note(|entry| entry.end(outcome));
    }

    /// How a body ended that nobody takes any more.
    pub fn outcome_of_drop(&self) -> Outcome {
        match self.verdict.get() {
            Some(Verdict::TimedOut(_)) => Outcome::TimeoutBody,
            Some(Verdict::Cut(reason)) => Outcome::cut(reason),
            None => Outcome::ClientBody,
        }
    }

    /// Told by the tunnel: bytes that came from the client.
    pub fn count_received(&self, bytes: usize) {
        self.pace.count(bytes);
    }

    /// Told by the body or the tunnel: bytes for the client.
    pub fn count_sent(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
    }
}
