//! The journal: what must survive `kill -9`, one small file a service.
//!
//! ```text
//! state_dir/lock                          held by the proxy that uses it, with its process id
//! state_dir/services/shop.json            the newest record: one line with a checksum, then JSON
//! state_dir/services/shop.json.previous   the one before
//! state_dir/services/shop.json.temp       being written; left over by a crash, never read
//! state_dir/services/*.corrupt            what could not be read, kept for people
//! ```
//!
//! A record is written beside the old one, synced, renamed over it, and the folder is synced. So a crash at any moment
//! leaves the old record or the new one. The checksum and the previous record are for disks that lose or change what they
//! were given. [`Writer`] does this on a thread of its own, because a sync takes milliseconds.

mod file;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use crate::api::HistoryEntry;
use crate::model::ServiceName;

use file::{CORRUPT, CURRENT, PREVIOUS, TEMP};
pub use writer::Writer;

/// History entries kept for a service; the oldest go first.
pub const MAX_HISTORY: usize = 100;

/// What is kept of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record<T> {
    /// The service.
    pub service: ServiceName,
    /// Its change number: the number that `wait` waits for. Never goes back, so it must survive.
    pub change: u64,
    /// The rollout's state.
    pub state: T,
    /// Finished rollouts, oldest first. Only the newest [`MAX_HISTORY`] are saved.
    pub history: Vec<HistoryEntry>,
}

/// A record in the form in which it is written; made where the record lives, written elsewhere.
#[derive(Clone, Debug)]
pub struct Encoded {
    service: ServiceName,
    bytes: Vec<u8>,
}

impl Encoded {
    /// A hash of what would be written: the same for the same record.
    pub fn digest(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.bytes)
    }
}

impl<T: Serialize> Record<T> {
    /// Turns the record into bytes. Fails only if `state` has a form that JSON does not (a map with odd keys).
    pub fn encode(&self) -> Result<Encoded, StateError> {
        #[derive(Serialize)]
        struct Borrowed<'a, T> {
            service: &'a ServiceName,
            change: u64,
            state: &'a T,
            history: &'a [HistoryEntry],
        }
        let newest = self.history.len().saturating_sub(MAX_HISTORY);
        let body = serde_json::to_vec(&Borrowed {
            service: &self.service,
            change: self.change,
            state: &self.state,
            history: &self.history[newest..],
        })
        .map_err(|source| StateError::Encode { service: self.service.clone(), source })?;
        Ok(Encoded { service: self.service.clone(), bytes: file::seal(&body) })
    }
}

/// Why state could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder cannot be used.
    #[error("cannot use the state folder {}: {what}: {source}; give a folder that this user may write to as `state_dir`", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Another proxy uses it.
    #[error("the state folder {} is in use by another sluice ({by}); stop it, or give this one a `state_dir` of its own", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who, in words: `process 4711`.
        by: String,
    },
    /// A record has a form that cannot be written. Nothing on disk changed.
    #[error("cannot save the state of service {service}: {source}")]
    Encode {
        /// The service.
        service: ServiceName,
        /// Why.
        source: serde_json::Error,
    },
    /// A record could not be made durable. The one that was saved before is still there.
    #[error("cannot save the state of service {service}: {what} {}: {source}; what was saved before is still there", path.display())]
    Write {
        /// The service.
        service: ServiceName,
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk did not answer in time; the record may still become durable.
    #[error("the state of service {service} was not saved within {within:?}; the disk is slow or hangs")]
    Slow {
        /// The service.
        service: ServiceName,
        /// How long was waited.
        within: std::time::Duration,
    },
    /// An earlier write failed and was not repaired yet.
    #[error("{0}; it is tried again every few seconds, and is lost if the proxy is killed before that works")]
    Failing(String),
}

/// The journal on disk. One process at a time.
#[derive(Debug)]
pub struct Store {
    /// `state_dir/services`.
    services: PathBuf,
    /// Holds the lock as long as it is open.
    _lock: File,
}

impl Store {
    /// Opens the journal in `dir`, which is created (mode 0700) if it does not exist, and takes its lock. What a crash left
    /// half-written is removed.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let failed = |what| move |source| StateError::Folder { path: dir.to_path_buf(), what, source };
        let services = dir.join("services");
        DirBuilder::new().recursive(true).mode(0o700).create(&services).map_err(failed("creating it"))?;
        let lock = take_lock(dir)?;
        // So that the folder itself is there after a power cut.
        sync_dir(dir).map_err(failed("syncing it"))?;
        let entries = fs::read_dir(&services).map_err(failed("reading it"))?;
        for entry in entries.filter_map(Result::ok) {
            if entry.file_name().to_string_lossy().ends_with(TEMP) {
                // It is written over if it stays.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Self { services, _lock: lock })
    }

    /// Every record, by name of its file. A record that cannot be read is replaced by the one before it, with a warning; if
    /// there is none, the service starts anew, with an error in the log. What could not be read stays beside, as `*.corrupt`.
    pub fn load_all<T: DeserializeOwned>(&self) -> Vec<Record<T>> {
        let mut stems = BTreeSet::new();
        match fs::read_dir(&self.services) {
            Ok(entries) => {
                for name in entries.filter_map(Result::ok).map(|entry| entry.file_name()) {
                    let name = name.to_string_lossy();
                    if let Some(stem) = name.strip_suffix(PREVIOUS).or_else(|| name.strip_suffix(CURRENT)) {
                        stems.insert(stem.to_owned());
                    }
                }
            }
            Err(error) => error!("cannot read {}: {error}. Every service starts anew.", self.services.display()),
        }
        stems.iter().filter_map(|stem| self.load(stem)).collect()
    }

    fn load<T: DeserializeOwned>(&self, stem: &str) -> Option<Record<T>> {
        let current = self.services.join(format!("{stem}{CURRENT}"));
        let previous = self.services.join(format!("{stem}{PREVIOUS}"));
        let mut troubles = Vec::new();
        for path in [&current, &previous] {
            match file::read::<Record<T>>(path) {
                Ok(None) => {}
                Ok(Some(record)) if file::stem(&record.service) != stem => {
                    troubles.push(format!("{} holds the state of service {}", path.display(), record.service));
                    set_aside(path);
                }
                Ok(Some(record)) => {
                    if let Some(trouble) = troubles.first() {
                        warn!(
                            "{trouble}. Service {} goes on from the record before it (change {}).",
                            record.service, record.change
                        );
                    }
                    return Some(record);
                }
                Err(trouble) => {
                    troubles.push(format!("{}: {trouble}", path.display()));
                    if trouble.is_corrupt() {
                        set_aside(path);
                    }
                }
            }
        }
        if !troubles.is_empty() {
            error!(
                "THE STATE OF A SERVICE IS LOST: {}. It starts anew: a rollout in progress, refused versions and history are \
                 forgotten. What could be found is kept in {} as *{CORRUPT}.",
                troubles.join("; "),
                self.services.display()
            );
        }
        None
    }

    /// Makes the record durable: when this returns `Ok`, it survives a power cut. The one saved before is kept as well.
    pub fn save<T: Serialize>(&self, record: &Record<T>) -> Result<(), StateError> {
        self.write(&record.encode()?)
    }

    /// As `save`, for a record that is already encoded.
    pub fn write(&self, record: &Encoded) -> Result<(), StateError> {
        self.write_all(std::slice::from_ref(record)).pop().unwrap_or(Ok(()))
    }

    /// Writes several records and syncs the folder once for all of them; at most one a service. One result a
    /// record, in order.
    pub fn write_all(&self, records: &[Encoded]) -> Vec<Result<(), StateError>> {
        let paths: Vec<[PathBuf; 3]> = records
            .iter()
            .map(|record| {
                let stem = file::stem(&record.service);
                [TEMP, CURRENT, PREVIOUS].map(|suffix| self.services.join(format!("{stem}{suffix}")))
            })
            .collect();
        // All are written before the first is synced: the file system then commits many of them at once.
        let written: Vec<io::Result<File>> =
            records.iter().zip(&paths).map(|(record, [temp, ..])| write_new(temp, &record.bytes)).collect();
        let mut results: Vec<Result<(), StateError>> = records
            .iter()
            .zip(&paths)
            .zip(written)
            .map(|((record, [temp, current, previous]), written)| {
                let failed = |what, path: &Path| {
                    let (service, path) = (record.service.clone(), path.to_path_buf());
                    // What is left would be taken for the remains of a crash.
                    let _ = fs::remove_file(temp);
                    move |source| StateError::Write { service, what, path, source }
                };
                written.and_then(|file| file.sync_all()).map_err(|source| failed("writing", temp)(source))?;
                match fs::rename(current, previous) {
                    // The first record, or the last one was set aside.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    moved => moved.map_err(|source| failed("replacing", previous)(source))?,
                }
                fs::rename(temp, current).map_err(|source| failed("replacing", current)(source))
            })
            .collect();
        if let Err(error) = sync_dir(&self.services) {
            for (result, record) in results.iter_mut().zip(records).filter(|(result, _)| result.is_ok()) {
                *result = Err(StateError::Write {
                    service: record.service.clone(),
                    what: "syncing",
                    path: self.services.clone(),
                    source: io::Error::new(error.kind(), error.to_string()),
                });
            }
        }
        results
    }

    /// Forgets a service, durably. Not an error if nothing is known of it.
    pub fn remove(&self, service: &ServiceName) -> Result<(), StateError> {
        let stem = file::stem(service);
        let failed =
            |what, path: PathBuf| move |source| StateError::Write { service: service.clone(), what, path, source };
        // The older one first: alone, it would come back as the newest.
        for suffix in [PREVIOUS, CURRENT, TEMP] {
            let path = self.services.join(format!("{stem}{suffix}"));
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(failed("removing", path))?,
            }
        }
        sync_dir(&self.services).map_err(failed("syncing", self.services.clone()))
    }
}

/// Takes the lock file, or says who has it. The kernel frees it when the process ends, however it ends.
fn take_lock(dir: &Path) -> Result<File, StateError> {
    let failed = |what| move |source| StateError::Folder { path: dir.to_path_buf(), what, source };
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join("lock"))
        .map_err(failed("opening its lock"))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let _ = (&lock).take(32).read_to_string(&mut text);
            let by = text.trim().parse::<u32>().map_or("unknown process".to_owned(), |pid| format!("process {pid}"));
            return Err(StateError::InUse { path: dir.to_path_buf(), by });
        }
        Err(errno) => return Err(failed("locking it")(errno.into())),
    }
    // For the message above only: the lock holds without it, so a full disk is no reason to stop.
    let _ = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
    Ok(lock)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

/// A rename is durable only when its folder is.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn set_aside(path: &Path) {
    let mut aside = path.as_os_str().to_owned();
    aside.push(CORRUPT);
    if let Err(error) = fs::rename(path, &aside) {
        warn!("cannot set {} aside: {error}", path.display());
    }
}
