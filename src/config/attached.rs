//! Files that settings name and that are read with them, like error pages and secrets.

use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::door::Attachments;
use super::error::Findings;
use super::file::RawService;
use super::load::{note, read_bytes};

/// The files that settings name: what they hold is a part of the configuration, so an edit to one is an edit to it.
pub(super) struct Attached<'a> {
    pub(super) digest: &'a mut Xxh3,
    pub(super) files: &'a mut Vec<PathBuf>,
    /// What was read.
    pub(super) found: Vec<Attachment>,
}

impl<'a> Attached<'a> {
    pub(super) fn new(digest: &'a mut Xxh3, files: &'a mut Vec<PathBuf>) -> Self {
        Self { digest, files, found: Vec::new() }
    }

    /// Adds what was read before and is the same.
    pub(super) fn add(&mut self, one: Attachment) {
        if !self.files.contains(&one.path) {
            self.files.push(one.path.clone());
        }
        note(self.digest, &one.path, one.hash);
        self.found.push(one);
    }
}

impl Attachments for Attached<'_> {
    fn read(&mut self, base: &Path, file: &Path, largest: u64) -> Option<Result<Vec<u8>, String>> {
        let path = base.parent().unwrap_or(Path::new("")).join(file);
        let (read, hash) = Attachment::read(&path, largest);
        self.add(Attachment { path, largest, hash });
        Some(read)
    }
}

/// One of them, as it was read.
#[derive(Clone, Debug)]
pub(super) struct Attachment {
    pub(super) path: PathBuf,
    /// More bytes are not read.
    largest: u64,
    pub(super) hash: u64,
}

impl Attachment {
    fn read(path: &Path, largest: u64) -> (Result<Vec<u8>, String>, u64) {
        let read = read_bytes(path, largest).map(|(bytes, _)| bytes).map_err(|error| error.to_string());
        let hash = match &read {
            Ok(bytes) => xxh3_64(bytes),
            Err(error) => !xxh3_64(error.as_bytes()),
        };
        (read, hash)
    }

    /// Whether the file is what it was.
    pub(super) fn is_same(&self) -> bool {
        Self::read(&self.path, self.largest).1 == self.hash
    }
}

/// Reads the files that services name. Which of the services do.
pub(super) fn attach(
    services: &mut [RawService<'_>],
    base: &Path,
    files: &mut dyn Attachments,
    findings: &Findings<'_>,
) -> Vec<bool> {
    let one = |service: &mut RawService<'_>| {
        let mut files = Noticed { files: &mut *files, asked: false };
        if let Some(errors) = service.door.as_mut().and_then(|door| door.errors.as_mut()) {
            errors.attach(base, &mut files, findings);
        }
        if let Some(trial) = &mut service.trial {
            trial.attach(base, &mut files, findings);
        }
        files.asked
    };
    services.iter_mut().map(one).collect()
}

/// Whether a file was asked for.
struct Noticed<'a> {
    files: &'a mut dyn Attachments,
    asked: bool,
}

impl Attachments for Noticed<'_> {
    fn read(&mut self, base: &Path, file: &Path, largest: u64) -> Option<Result<Vec<u8>, String>> {
        self.asked = true;
        self.files.read(base, file, largest)
    }
}
