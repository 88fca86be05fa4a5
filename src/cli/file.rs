//! Replacing a configuration file so that nobody ever sees half of it, and putting it back.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::edit::EditError;

/// Tries, when somebody who does not know our lock writes at the same moment.
const TRIES: usize = 5;

/// An edit takes milliseconds; who holds the lock for longer is stuck.
pub const TURN: Duration = Duration::from_secs(30);

/// An edit that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The file itself, behind all symlinks.
    pub path: PathBuf,
    /// Its text before.
    pub before: String,
    /// Its text after; equal if there was nothing to do.
    pub after: String,
}

/// Why a file could not be edited.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Reading or writing failed.
    #[error("{path}: cannot {doing} it: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The text cannot be edited.
    #[error("{path}: {source}")]
    Edit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: EditError,
    },
    /// Another sluice edits in the folder, and did not end in this time.
    #[error("{path}: another sluice edits in its folder and did not end within {}; nothing was written", super::words::duration(*.waited))]
    Turn {
        /// The file.
        path: PathBuf,
        /// How long its turn was waited for.
        waited: Duration,
    },
    /// Somebody else keeps writing.
    #[error("{0}: something else changes the file all the time; nothing was written")]
    Busy(PathBuf),
}

/// Edits the file. Other sluice verbs wait for their turn; any other writer's text is never overwritten unseen, up to the instant
/// of the rename. Waits for its turn so long, which is at most [`TURN`].
pub fn edit(
    path: &Path,
    turn: Duration,
    mut change: impl FnMut(&str) -> Result<String, EditError>,
) -> Result<Edited, FileError> {
    let path = path.canonicalize().map_err(|source| failed(path, "find", source))?;
    let folder = lock(&path, turn)?;
    for _ in 0..TRIES {
        let before = read(&path)?;
        let after = change(&before).map_err(|source| FileError::Edit { path: path.clone(), source })?;
        if after == before || replace(&path, &folder, &before, &after)? {
            return Ok(Edited { path, before, after });
        }
    }
    Err(FileError::Busy(path))
}

/// Puts the former text back, if the file still holds exactly what was written. False if somebody changed it since.
pub fn put_back(edited: &Edited) -> Result<bool, FileError> {
    let folder = lock(&edited.path, TURN)?;
    if read(&edited.path)? != edited.after {
        return Ok(false);
    }
    replace(&edited.path, &folder, &edited.after, &edited.before)
}

fn failed(path: &Path, doing: &'static str, source: io::Error) -> FileError {
    FileError::Io { path: path.to_owned(), doing, source }
}

fn read(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(|source| failed(path, "read", source))
}

/// The folder is what is locked: the file itself is replaced, and a lock file beside it would wake the watcher.
fn lock(path: &Path, turn: Duration) -> Result<File, FileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let handle = File::open(folder).map_err(|source| failed(path, "lock", source))?;
    let waited = turn.min(TURN);
    let deadline = Instant::now() + waited;
    loop {
        match flock(&handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(handle),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(Errno::WOULDBLOCK) => return Err(FileError::Turn { path: path.to_owned(), waited }),
            Err(error) => return Err(failed(path, "lock", error.into())),
        }
    }
}

/// False if the file does not hold `expected` any more.
fn replace(path: &Path, folder: &File, expected: &str, text: &str) -> Result<bool, FileError> {
    let write = || -> io::Result<bool> {
        let old = fs::metadata(path)?;
        let mut file = tempfile::Builder::new()
            .prefix(".sluice-")
            .suffix(".tmp")
            .tempfile_in(path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(text.as_bytes())?;
        let new = file.as_file().metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            // A file that the proxy's user can no longer read would be worse than none.
            std::os::unix::fs::fchown(file.as_file(), Some(old.uid()), Some(old.gid())).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!(
                        "its owner {}:{} cannot be kept ({error}); run this as that user and group, or as root",
                        old.uid(),
                        old.gid()
                    ),
                )
            })?;
        }
        file.as_file().set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
        file.as_file().sync_all()?;
        if fs::read_to_string(path)? != expected {
            return Ok(false);
        }
        file.persist(path).map_err(|error| error.error)?;
        folder.sync_all()?;
        Ok(true)
    };
    write().map_err(|source| failed(path, "write", source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(line: &str) -> impl FnMut(&str) -> Result<String, EditError> {
        move |text| Ok(format!("{text}{line}\n"))
    }

    #[test]
    fn an_edit_keeps_mode_and_symlink_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real.toml");
        let link = folder.path().join("link.toml");
        fs::write(&real, "a\n").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real.toml", &link).unwrap();
        let edited = edit(&link, TURN, add("b")).unwrap();
        assert_eq!((edited.before.as_str(), edited.after.as_str()), ("a\n", "a\nb\n"));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "a\nb\n");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn it_is_put_back_only_if_nobody_changed_it_since() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.toml");
        fs::write(&path, "a\n").unwrap();
        let edited = edit(&path, TURN, add("b")).unwrap();
        assert!(put_back(&edited).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\n");
        let edited = edit(&path, TURN, add("b")).unwrap();
        fs::write(&path, "mine\n").unwrap();
        assert!(!put_back(&edited).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine\n");
    }

    #[test]
    fn edits_at_once_lose_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.toml");
        fs::write(&path, "").unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    for n in 0..5 {
                        edit(path, TURN, add(&format!("{thread}.{n}"))).unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 40);
    }

    #[test]
    fn a_writer_that_does_not_know_the_lock_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.toml");
        fs::write(&path, "a\n").unwrap();
        let mut first = true;
        let edited = edit(&path, TURN, |text| {
            if std::mem::take(&mut first) {
                fs::write(&path, "theirs\n").unwrap();
            }
            Ok(format!("{text}b\n"))
        })
        .unwrap();
        assert_eq!(edited.after, "theirs\nb\n");
        let busy = edit(&path, TURN, |text| {
            fs::write(&path, format!("{text}x")).unwrap();
            Ok("mine".into())
        });
        assert!(matches!(busy, Err(FileError::Busy(_))));
    }

    #[test]
    fn whoever_does_not_get_a_turn_in_time_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.toml");
        fs::write(&path, "a\n").unwrap();
        let holds = lock(&path, TURN).unwrap();
        let waited = Duration::from_millis(30);
        let refused = edit(&path, waited, add("b")).unwrap_err();
        assert!(matches!(&refused, FileError::Turn { waited: told, .. } if *told == waited), "{refused}");
        assert!(refused.to_string().contains("within 30ms; nothing was written"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\n");
        drop(holds);
        edit(&path, waited, add("b")).unwrap();
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = edit(Path::new("/nowhere/s.toml"), TURN, add("b")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/s.toml"), "{error}");
    }
}
