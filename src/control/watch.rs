//! Notices that configuration files may have changed, however they are saved.
//!
//! What comes out is a hint, never a fact: the caller reads the files and compares. Two sources feed it. inotify (by
//! `notify`) on *directories* is the quick one: a watch on a file dies with the first rename over it, and a watch on a
//! symbolic link sees nothing at all. A slow poll that compares contents stands behind it, for file systems that send no
//! events and for hosts whose inotify limits are used up.
//!
//! Not here: which files exist and what they say (`config`), and what to do about it (the controller).

mod arm;
mod contents;
mod hops;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep, sleep_until};

use arm::Arms;
use contents::Contents;

/// A followed file that changed less than this before it was first followed may have changed after the caller read it.
const YOUNG: Duration = Duration::from_secs(10);

/// An endless burst of events is cut after this many times `settle`.
const BURST: u32 = 10;

/// Behind a rename it is settled after this part of `settle`: what was moved into place is whole.
const WHOLE: u32 = 5;

/// After a hint the watches are renewed once the caller says what to follow now, and at the latest after this many times
/// `settle`.
const OWED: u32 = 4;

/// Starts watching; hints (not facts) that the files may have changed come out of [`Watcher::changed`].
#[derive(Debug)]
pub struct Watcher {
    /// From one look at the contents to the next.
    poll: Duration,
    /// How long it must be quiet before a hint is given.
    settle: Duration,
    /// See [`YOUNG`].
    young: Duration,
    /// The inotify watches; written by `follow` and at every batch of events.
    arms: Arms,
    /// What the files held when the last hint was given.
    contents: Contents,
    /// When the poll looks next.
    next_poll: Instant,
    /// Since when something has been going on that no hint was given for. Kept here, so that a caller that drops the
    /// future of `changed` (a `select!`) loses nothing.
    stirred: Option<Instant>,
    /// When the watches must be renewed, because a hint was given before that was done. To walk thousands of paths first
    /// would only make the caller wait.
    owed: Option<Instant>,
}

impl Watcher {
    /// A watcher that follows nothing yet. Contents are compared every `poll` (5 s is a good value); a hint is given when
    /// no event came for `settle` (50 ms is a good value), and at the latest after ten times that.
    ///
    /// Must be called inside a tokio runtime with its clock enabled. If inotify cannot be had, this says so in the log and
    /// the poll works alone.
    pub fn new(poll: Duration, settle: Duration) -> Self {
        Self::build(poll, settle, YOUNG, Arms::new())
    }

    fn build(poll: Duration, settle: Duration, young: Duration, arms: Arms) -> Self {
        let poll = poll.max(Duration::from_millis(10));
        Self {
            poll,
            settle,
            young,
            arms,
            contents: Contents::default(),
            next_poll: Instant::now() + poll,
            stirred: None,
            owed: None,
        }
    }

    /// What to watch from now on: `files` (the main one and the included ones, existing or not) and `folders` (where
    /// include patterns look, existing or not). Called again after each load; calling it twice with the same is harmless.
    ///
    /// A file that is new here and was changed just before may have changed between the caller's read and this call; then
    /// the next `changed` returns soon, once.
    pub fn follow(&mut self, files: &[PathBuf], folders: &[PathBuf]) {
        let absolute = |paths: &[PathBuf]| -> Vec<PathBuf> {
            paths.iter().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())).collect()
        };
        let (files, folders) = (absolute(files), absolute(folders));
        let fresh = self.arms.follow(&files, &folders);
        if self.owed.take().is_some() && fresh {
            // What happened there since the hint was not seen.
            self.arms.shared().stir();
        }
        let newest = self.contents.follow(files, folders);
        let is_young = |changed: SystemTime| {
            // A time in the future is a skewed clock (a network file system): it cannot be called old.
            SystemTime::now().duration_since(changed).map_or(true, |age| age < self.young)
        };
        if !self.young.is_zero() && newest.is_some_and(is_young) {
            self.arms.shared().stir();
        }
    }

    /// Waits until something may have changed and has settled, or until the poll found other contents than it saw last.
    /// Never ends for good and never fails: call it again. Nothing is lost if the future is dropped.
    ///
    /// After a change that inotify told, the poll finds those other contents too: one hint more, which shows the caller
    /// nothing new. To look at them at once would make it wait, and what changed unseen between the look and its own
    /// reading would be lost.
    pub async fn changed(&mut self) {
        loop {
            if self.stirred.is_none() {
                let shared = self.arms.shared();
                tokio::select! {
                    () = shared.woken() => self.stirred = Some(Instant::now()),
                    () = sleep_until(self.owed.unwrap_or(self.next_poll)), if self.owed.is_some() => {
                        self.owed = None;
                        if self.arms.renew() {
                            self.arms.shared().stir();
                        }
                        continue;
                    }
                    () = sleep_until(self.next_poll) => {
                        self.next_poll = Instant::now() + self.poll;
                        self.arms.renew();
                        if !self.contents.look() {
                            continue;
                        }
                        self.arms.shared().stir();
                        self.stirred = Some(Instant::now());
                    }
                }
            }
            self.settled().await;
            let (stirred, overflowed) = self.arms.shared().take();
            self.stirred = None;
            if stirred {
                self.owed = Some(Instant::now() + self.settle * OWED);
                return;
            }
            if overflowed {
                // An overflow alone is judged by the contents. Reading a folder of thousands of files overflows the queue by
                // itself, so an overflow that always counted would make the caller read them again, for ever.
                self.arms.renew();
                if self.contents.look() {
                    return;
                }
            }
        }
    }

    /// Waits until it has been quiet for `settle`, or the burst is too long.
    async fn settled(&mut self) {
        let end = self.stirred.unwrap_or_else(Instant::now) + self.settle * BURST;
        loop {
            let shared = self.arms.shared();
            let quiet = if shared.is_whole() { self.settle / WHOLE } else { self.settle };
            tokio::select! {
                biased;
                () = sleep_until(end) => return,
                () = shared.woken() => {}
                () = sleep(quiet) => return,
            }
        }
    }
}
