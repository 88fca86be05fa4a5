//! What the files held at the last look: a hash of each file, and of each folder's list of names.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::OFlags;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::config::Stamp;

/// No more of a file is read. A configuration is never as long; a mistaken path may lead to anything.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// No more names of a folder are read.
const MAX_NAMES: usize = 100_000;

/// One file or folder at the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// None if it must be read at the next look.
    stat: Option<Stamp>,
    /// None if there is nothing to read: missing, not a regular file, unreadable.
    hash: Option<u64>,
}

/// What the followed files and folders held at the last look.
#[derive(Debug, Default)]
pub(super) struct Contents {
    files: HashMap<PathBuf, Seen>,
    folders: HashMap<PathBuf, Option<u64>>,
}

impl Contents {
    /// Replaces the lists. Looks at what is new in them, and keeps what was seen of the rest: a change since the last look
    /// is still a change. The time of the youngest new file is returned.
    pub(super) fn follow(&mut self, files: Vec<PathBuf>, folders: Vec<PathBuf>) -> Option<SystemTime> {
        let mut newest = None;
        let mut old = std::mem::take(&mut self.files);
        for path in files {
            // A certificate is named by the configuration and by what was read of it: named twice, it is not new again.
            if self.files.contains_key(&path) {
                continue;
            }
            let seen = old.remove(&path).unwrap_or_else(|| {
                newest = newest.max(path.metadata().ok().map(|meta| Stamp::of(&meta).newest()));
                look_at(&path, &Seen::default())
            });
            self.files.insert(path, seen);
        }
        let mut old = std::mem::take(&mut self.folders);
        for path in folders {
            let seen = old.remove(&path).unwrap_or_else(|| list(&path));
            self.folders.insert(path, seen);
        }
        newest
    }

    /// Looks at everything. Whether anything differs from the last look.
    pub(super) fn look(&mut self) -> bool {
        let mut differs = false;
        for (path, seen) in &mut self.files {
            let now = look_at(path, seen);
            differs |= now.hash != seen.hash;
            *seen = now;
        }
        for (path, seen) in &mut self.folders {
            let now = list(path);
            differs |= now != *seen;
            *seen = now;
        }
        differs
    }
}

/// Reads the file, unless its metadata shows that it is as it was.
fn look_at(path: &Path, before: &Seen) -> Seen {
    let Ok(meta) = path.metadata() else {
        return Seen::default();
    };
    // Opening anything else may wait for ever (a FIFO) or do something (a device).
    if !meta.is_file() {
        return Seen::default();
    }
    if before.stat == Some(Stamp::of(&meta)) {
        return before.clone();
    }
    let read = || -> std::io::Result<Seen> {
        // Not blocking, in case it became a FIFO since.
        let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Ok(Seen::default());
        }
        let stat = Stamp::of(&meta);
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        let too_long = if meta.len() > MAX_FILE { meta.len() } else { 0 };
        Ok(Seen { stat: stat.settled(SystemTime::now()), hash: Some(xxh3_64(&bytes) ^ too_long) })
    };
    read().unwrap_or_default()
}

/// A hash of the folder's names, whatever their order. None if it cannot be read.
fn list(path: &Path) -> Option<u64> {
    let mut names: Vec<_> =
        path.read_dir().ok()?.take(MAX_NAMES).filter_map(Result::ok).map(|entry| entry.file_name()).collect();
    names.sort_unstable();
    let mut hash = Xxh3::new();
    for name in names {
        hash.update(name.as_bytes());
        hash.update(b"\0");
    }
    Some(hash.digest())
}
