//! What the last read found in the included files, so that the next one parses only those that changed.
//!
//! Only files without a problem are in here: a problem is told with the line it stands in, and that needs the text.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Stamp;
use super::claims::Placed;

/// One included file at the last read.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// None if the file was too young then: its bytes must be read to know whether they are the same.
    pub(super) stamp: Option<Stamp>,
    /// Of its bytes.
    pub(super) hash: u64,
    /// Its services, as they are shared with what runs.
    pub(super) services: Arc<[Placed]>,
}

/// The included files at the last read. [`Loaded`](super::Loaded) carries it from one read to the next.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    last: HashMap<PathBuf, Known>,
    next: HashMap<PathBuf, Known>,
}

impl Cache {
    /// What was known of a file.
    pub(super) fn get(&self, path: &Path) -> Option<&Known> {
        self.last.get(path)
    }

    /// What is known of it now.
    pub(super) fn put(&mut self, path: &Path, known: Known) {
        self.next.insert(path.to_owned(), known);
    }

    /// Goes over to what this read found; files that it did not meet are forgotten.
    pub(super) fn turn(&mut self) {
        self.last = std::mem::take(&mut self.next);
    }
}
