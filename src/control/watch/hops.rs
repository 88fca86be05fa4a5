//! Which directories, and which names in them, decide what a path leads to.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

/// As many symbolic links as the kernel follows before it says `ELOOP`.
const MAX_LINKS: usize = 40;

/// From so many files in a directory on, listing it is cheaper than asking for each of them whether it is a link.
const MANY: usize = 64;

/// The names that matter in one directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Every name matters: an include pattern looks here.
    any: bool,
    /// These matter.
    some: HashSet<OsString>,
}

impl Names {
    pub(super) fn contains(&self, name: &OsStr) -> bool {
        self.any || self.some.contains(name)
    }
}

/// The directories to watch, each by its path without symbolic links, so that one directory is not watched by two names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hops(pub(super) HashMap<PathBuf, Names>);

impl Hops {
    /// Every directory on the way to `files` and `folders`: each parent (the parent of a folder sees that the folder is
    /// replaced), and the same for every symbolic link met. The way ends where something is missing; the last directory on
    /// it sees it appear.
    pub(super) fn of(files: &[PathBuf], folders: &[PathBuf]) -> Self {
        let mut hops = Self::default();
        // Thousands of files share few parents.
        let mut parents: HashMap<&Path, Vec<&OsStr>> = HashMap::new();
        for file in files {
            if let (Some(parent), Some(name)) = (file.parent(), file.file_name()) {
                parents.entry(parent).or_default().push(name);
            }
        }
        for (parent, names) in parents {
            let Some(real) = hops.walk(PathBuf::from("/"), parent) else { continue };
            let links = if names.len() > MANY { links_in(&real) } else { None };
            for name in names {
                if links.as_ref().is_none_or(|links| links.contains(name)) {
                    hops.walk(real.clone(), Path::new(name));
                } else {
                    hops.note(&real, name);
                }
            }
        }
        for folder in folders {
            if let Some(real) = hops.walk(PathBuf::from("/"), folder) {
                hops.0.entry(real).or_default().any = true;
            }
        }
        hops
    }

    fn note(&mut self, dir: &Path, name: &OsStr) {
        if !self.0.contains_key(dir) {
            self.0.insert(dir.to_path_buf(), Names::default());
        }
        if let Some(names) = self.0.get_mut(dir)
            && !names.some.contains(name)
        {
            names.some.insert(name.to_owned());
        }
    }

    /// Follows `path` from the directory `at`, noting every step. The place it leads to, if it exists.
    fn walk(&mut self, mut at: PathBuf, path: &Path) -> Option<PathBuf> {
        let mut todo: VecDeque<OsString> = VecDeque::new();
        let prepend = |todo: &mut VecDeque<OsString>, path: &Path| {
            for part in path.components().rev() {
                match part {
                    Component::Normal(name) => todo.push_front(name.to_owned()),
                    Component::ParentDir => todo.push_front(OsString::from("..")),
                    Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
                }
            }
        };
        prepend(&mut todo, path);
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let step = at.join(&name);
            self.note(&at, &name);
            if !step.symlink_metadata().ok()?.is_symlink() {
                at = step;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return None;
            }
            let target = step.read_link().ok()?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            prepend(&mut todo, &target);
        }
        Some(at)
    }
}

/// The symbolic links in a directory; None if it cannot be listed.
fn links_in(dir: &Path) -> Option<HashSet<OsString>> {
    let entries = dir.read_dir().ok()?.filter_map(Result::ok);
    let links = entries.filter(|entry| entry.file_type().map_or(true, |kind| kind.is_symlink()));
    Some(links.map(|entry| entry.file_name()).collect())
}
