//! Files that the configuration names, like certificates: read elsewhere, and told of where they are named.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Fault, Findings};
use super::reader::At;
use crate::api::Problem;

/// A file that the configuration names, and where it does. Two are equal if they are the same file.
#[derive(Clone)]
pub struct NamedFile {
    /// The file; a relative path was resolved against the folder of the file that names it.
    pub path: PathBuf,
    /// Where it is named, as a problem without a message.
    place: Arc<Problem>,
}

impl NamedFile {
    /// A problem with the file, shown where the configuration names it.
    pub fn problem(&self, message: String, hint: Option<String>) -> Problem {
        Problem { message, hint, ..Problem::clone(&self.place) }
    }

    /// Tells another line from now on: the file that names it has more or fewer above.
    pub(super) fn move_lines(&mut self, by: isize) {
        let place = Arc::make_mut(&mut self.place);
        place.line = place.line.saturating_add_signed(by);
    }
}

/// Without the place, as in the comparison: outlines are made from this.
impl fmt::Debug for NamedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.path, f)
    }
}

impl PartialEq for NamedFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for NamedFile {}

/// Resolves file names, and tells where they stand.
pub(super) struct Files<'a> {
    pub(super) source: &'a Path,
    pub(super) findings: &'a Findings<'a>,
}

impl Files<'_> {
    pub(super) fn named(&self, at: &At<&str>) -> NamedFile {
        if at.value.is_empty() || at.value.contains('\0') {
            self.findings.add(&at.span, Fault::new("this is not a path"));
        }
        let base = self.source.parent().unwrap_or(Path::new(""));
        NamedFile { path: base.join(at.value), place: Arc::new(self.findings.place(self.source, &at.span)) }
    }
}
