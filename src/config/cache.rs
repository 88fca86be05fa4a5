//! What the last read found, so that the next one reads and parses only what changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::attached::Attachment;
use super::blocks::Blocks;
use super::claims::{Claims, Placed};
use super::include::Patterns;
use super::{Config, Stamp};

/// One file at the last read.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// None if the file was too young then: its bytes must be read to know whether they are the same.
    pub(super) stamp: Option<Stamp>,
    /// Of its bytes.
    pub(super) hash: u64,
    /// Its services, as they are shared with what runs; in the order of the file.
    pub(super) services: Arc<[Placed]>,
    /// Its text, and where they stand in it. None if it is small, or so written that it is read whole each time.
    pub(super) blocks: Option<Arc<Blocks>>,
    /// What else was read because of it.
    pub(super) attached: Arc<[Attachment]>,
}

/// What one read leaves to the next. [`Loaded`](super::Loaded) carries it.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// Included files without a problem, in the order of their paths. A problem is told with the line it stands in, and that
    /// needs the text. A large file with one is in here as it was before.
    pub(super) files: Vec<(PathBuf, Known)>,
    /// If nothing at all was wrong.
    pub(super) whole: Option<Box<Whole>>,
}

/// A whole configuration without a problem, and what is needed to replace a part of it.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    /// The main file.
    pub(super) main: Known,
    pub(super) patterns: Patterns,
    /// The main file, then those of [`Cache::files`].
    pub(super) files: Arc<[PathBuf]>,
    pub(super) folders: Arc<[PathBuf]>,
    pub(super) config: Config,
    /// What all of them have taken.
    pub(super) claims: Claims,
}

impl Cache {
    /// What was known of a file.
    pub(super) fn get(&self, path: &Path) -> Option<&Known> {
        let found = self.files.binary_search_by(|(known, _)| known.as_os_str().cmp(path.as_os_str()));
        found.ok().map(|at| &self.files[at].1)
    }
}
