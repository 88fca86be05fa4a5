//! The inotify watches: armed on directories, and armed again whenever a directory may have been replaced.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::hops::Hops;

/// Arming a directory can show another one behind it (a link was swapped meanwhile); after so many rounds the next event
/// or poll goes on.
const ROUNDS: usize = 5;

/// What the thread of `notify` and the watcher share. Four bits and a list of names: nothing here can grow with the
/// number of events.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Something that matters happened; written by both sides, cleared by `take`.
    stirred: AtomicBool,
    /// The kernel's queue was too short, so events are missing; written by notify's thread, cleared by `take`.
    overflowed: AtomicBool,
    /// Whether the last event that matters was a rename into place; written by both sides.
    whole: AtomicBool,
    /// Wakes `changed`; holds at most one permit.
    wake: Notify,
    /// Which names matter; written by `Arms::renew`.
    hops: Mutex<Hops>,
}

impl Shared {
    /// Says that something may have changed.
    pub(super) fn stir(&self) {
        self.stirred.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether nothing but a rename into place was the last that happened: the file is whole then, and nothing that
    /// follows belongs to it. An editor that writes in place may open the file again.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    /// Says that events were lost.
    pub(super) fn overflow(&self) {
        self.overflowed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Waits for the next sign of life.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// What happened since the last call: (something that matters, an overflow).
    pub(super) fn take(&self) -> (bool, bool) {
        (self.stirred.swap(false, Ordering::AcqRel), self.overflowed.swap(false, Ordering::AcqRel))
    }

    fn hops(&self) -> MutexGuard<'_, Hops> {
        self.hops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called on notify's thread.
    fn handle(&self, event: notify::Result<Event>) {
        match event {
            Ok(event) if event.need_rescan() => self.overflow(),
            Ok(event) if self.matters(&event) => {
                let moved_in = EventKind::Modify(ModifyKind::Name(RenameMode::To));
                let both = EventKind::Modify(ModifyKind::Name(RenameMode::Both));
                self.whole.store(event.kind == moved_in || event.kind == both, Ordering::Release);
                self.stir();
            }
            Ok(_) => {}
            Err(error) => {
                debug!(%error, "watching configuration files");
                self.stir();
            }
        }
    }

    fn matters(&self, event: &Event) -> bool {
        match event.kind {
            // The end of a write is a sign. All other access is reading, ours among it, and would never end.
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
            EventKind::Access(_) => return false,
            _ => {}
        }
        if event.paths.is_empty() {
            return true;
        }
        let hops = self.hops();
        event.paths.iter().any(|path| {
            let named = match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => hops.0.get(parent).is_some_and(|names| names.contains(name)),
                _ => false,
            };
            // A watched directory itself was moved or removed.
            named || hops.0.contains_key(path)
        })
    }
}

/// The watches.
#[derive(Debug)]
pub(super) struct Arms {
    shared: Arc<Shared>,
    /// None if inotify cannot be had.
    notify: Option<RecommendedWatcher>,
    /// Followed, in absolute form.
    files: Vec<PathBuf>,
    /// Followed, in absolute form.
    folders: Vec<PathBuf>,
    /// The armed directories and which one (device, inode) it was.
    armed: HashMap<PathBuf, (u64, u64)>,
    /// Whether the log already says that watches are missing.
    warned: bool,
}

impl Arms {
    /// Starts notify.
    pub(super) fn new() -> Self {
        let mut arms = Self::without_inotify();
        let shared = Arc::clone(&arms.shared);
        match notify::recommended_watcher(move |event| shared.handle(event)) {
            Ok(watcher) => arms.notify = Some(watcher),
            Err(error) => arms.warn(&error, None),
        }
        arms
    }

    /// Arms nothing, ever: what is left when inotify cannot be had.
    pub(super) fn without_inotify() -> Self {
        Self {
            shared: Arc::default(),
            notify: None,
            files: Vec::new(),
            folders: Vec::new(),
            armed: HashMap::new(),
            warned: false,
        }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Replaces the list of what is followed. Whether any directory was armed that was not armed before.
    pub(super) fn follow(&mut self, files: &[PathBuf], folders: &[PathBuf]) -> bool {
        self.files = files.to_vec();
        self.folders = folders.to_vec();
        self.renew()
    }

    /// Arms every directory on the way to what is followed, and disarms the others. Whether any is new.
    pub(super) fn renew(&mut self) -> bool {
        let mut renewed = false;
        if self.notify.is_none() {
            return renewed;
        }
        for _ in 0..ROUNDS {
            let hops = Hops::of(&self.files, &self.folders);
            let dirs: Vec<PathBuf> = hops.0.keys().cloned().collect();
            {
                // Before the watches, so that no event of theirs is judged by the old list. Not held while arming: notify's
                // thread, which answers that call, takes the same lock.
                let mut current = self.shared.hops();
                if *current != hops {
                    *current = hops;
                }
            }
            let mut gone = self.armed.clone();
            for dir in &dirs {
                gone.remove(dir);
            }
            for dir in gone.into_keys() {
                self.disarm(&dir);
            }
            let mut fresh = false;
            for dir in dirs {
                fresh |= self.arm(&dir);
            }
            renewed |= fresh;
            if !fresh {
                break;
            }
        }
        renewed
    }

    /// Arms one directory. Whether it was not armed before.
    ///
    /// The call is made even if it is armed: notify drops a watch when it hears that the path was moved or removed, and if
    /// a new directory stands there by then, it is the new one's watch that it drops.
    fn arm(&mut self, dir: &Path) -> bool {
        let Ok(meta) = dir.metadata() else {
            return false;
        };
        let identity = (meta.dev(), meta.ino());
        let before = self.armed.get(dir).copied();
        if before.is_some_and(|before| before != identity) {
            self.disarm(dir);
        }
        let Some(notify) = &mut self.notify else {
            return false;
        };
        match notify.watch(dir, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.armed.insert(dir.to_path_buf(), identity);
                before != Some(identity)
            }
            Err(error) => {
                self.armed.remove(dir);
                // A directory may be passed but not listed (mode 0711), or be gone again. The poll sees what is behind it.
                if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) {
                    self.warn(&error, Some(dir));
                } else {
                    debug!(dir = %dir.display(), %error, "cannot watch a directory");
                }
                false
            }
        }
    }

    fn disarm(&mut self, dir: &Path) {
        self.armed.remove(dir);
        if let Some(notify) = &mut self.notify {
            // It may be gone already, with its directory.
            let _ = notify.unwatch(dir);
        }
    }

    fn warn(&mut self, error: &notify::Error, dir: Option<&Path>) {
        if std::mem::replace(&mut self.warned, true) {
            return;
        }
        let dir = dir.map(|dir| format!(" {}", dir.display())).unwrap_or_default();
        warn!(
            "cannot watch configuration files{dir}: {error}. Edits are still found, but only every few seconds. \
             Raise fs.inotify.max_user_instances or fs.inotify.max_user_watches, or send SIGHUP after an edit."
        );
    }
}
