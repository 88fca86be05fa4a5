//! What tells two states of a file apart without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

/// A file whose times are this young when it is read may change again without its times changing (coarse clocks), so its
/// stamp proves nothing yet.
const COARSE: Duration = Duration::from_secs(3);

/// What identifies a file's contents without reading it, where clocks are fine enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of an open file, so that it belongs to what is read from it.
    pub fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// The later of its two times.
    pub fn newest(&self) -> SystemTime {
        let (seconds, nanos) = self.modified.max(self.changed);
        let since = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
        SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// The stamp, if the file is old enough for the next change to give it another one.
    pub fn settled(self, now: SystemTime) -> Option<Self> {
        let old = now.duration_since(self.newest()).is_ok_and(|age| age >= COARSE);
        old.then_some(self)
    }
}
