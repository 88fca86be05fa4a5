//! What the files held at the last look: a hash of each file, and of each folder's list of names.

use std::collections::HashMap;
use std::fs::{Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// No more of a file is read. A configuration is never as long; a mistaken path may lead to anything.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// No more names of a folder are read.
const MAX_NAMES: usize = 100_000;

/// A file whose times are this young when it is read may change again without its times changing (coarse clocks), so it
/// is read again at the next look.
const COARSE: Duration = Duration::from_secs(3);

/// What identifies a file's contents without reading it, where clocks are fine enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stat {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// The later of its two times.
    fn newest(&self) -> SystemTime {
        let (seconds, nanos) = self.modified.max(self.changed);
        let since = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
        SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// One file or folder at the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// None if it must be read at the next look.
    stat: Option<Stat>,
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
            let seen = old.remove(&path).unwrap_or_else(|| {
                newest = newest.max(path.metadata().ok().map(|meta| Stat::of(&meta).newest()));
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
    if before.stat == Some(Stat::of(&meta)) {
        return before.clone();
    }
    let read = || -> std::io::Result<Seen> {
        // Not blocking, in case it became a FIFO since.
        let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Ok(Seen::default());
        }
        let stat = Stat::of(&meta);
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        let coarse = SystemTime::now().duration_since(stat.newest()).map_or(true, |age| age < COARSE);
        let too_long = if meta.size() > MAX_FILE { meta.size() } else { 0 };
        Ok(Seen { stat: (!coarse).then_some(stat), hash: Some(xxh3_64(&bytes) ^ too_long) })
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
