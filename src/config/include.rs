//! Which files the patterns of `include` mean.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{Fault, Findings, Span};
use super::file::Strings;

/// The patterns of one main file, checked. Kept from one read to the next.
#[derive(Clone, Debug)]
pub(super) struct Patterns {
    /// Written out.
    single: Vec<PathBuf>,
    listed: Vec<Listed>,
    /// It fits a pattern like "*.toml", and is not included by itself.
    main: PathBuf,
}

#[derive(Clone, Debug)]
struct Listed {
    /// As it is written before the last part.
    folder: PathBuf,
    /// The last part.
    pattern: String,
    /// Where it stands in the main file.
    span: Span,
}

impl Listed {
    /// What is read: an empty path is the current folder.
    fn place(&self) -> PathBuf {
        if self.folder.as_os_str().is_empty() { PathBuf::from(".") } else { self.folder.clone() }
    }
}

impl Patterns {
    /// Checks what is written; relative to the main file's folder.
    pub(super) fn new(include: &Strings<'_>, main: &Path, findings: &Findings<'_>) -> Self {
        let base = main.parent().unwrap_or(Path::new(""));
        let mut patterns = Self { single: Vec::new(), listed: Vec::new(), main: plain(main).to_owned() };
        for at in include {
            let fail = |fault| findings.add(&at.span, fault);
            let (folder, last) = match at.value.rsplit_once('/') {
                Some(("", last)) => ("/", last),
                Some(split) => split,
                None => ("", at.value),
            };
            if matches!(last, "" | "." | "..") || at.value.contains('\0') {
                fail(Fault::new("this names no file").hint("write it like \"services/*.toml\""));
            } else if folder.contains(['*', '?']) {
                fail(
                    Fault::new("`*` and `?` can only be in the last part of a path")
                        .hint("write one pattern for each folder"),
                );
            } else if last.contains(['*', '?']) {
                // Without doubled slashes, so that a file is known by one spelling.
                let folder = base.join(folder).components().collect();
                patterns.listed.push(Listed { folder, pattern: last.to_owned(), span: at.span.clone() });
            } else {
                patterns.single.push(base.join(at.value).components().collect());
            }
        }
        patterns
    }

    /// Folders whose listing matters.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for place in self.listed.iter().map(Listed::place) {
            if !folders.contains(&place) {
                folders.push(place);
            }
        }
        folders
    }

    /// The files, each once, in the order of their paths. What cannot be listed goes to `fail`.
    pub(super) fn files(&self, mut fail: impl FnMut(&Span, Fault)) -> Vec<PathBuf> {
        let mut files = self.single.clone();
        for listed in &self.listed {
            match list(&listed.place(), &listed.pattern) {
                Ok(names) => files.extend(names.iter().map(|name| listed.folder.join(name))),
                // Not the same as an empty one: a folder that is gone for a moment must not take its services with it.
                Err(error) => {
                    let fault = Fault::new(format!("the folder {} cannot be read: {error}", listed.place().display()));
                    fail(&listed.span, fault.hint("create it, or remove the pattern"));
                }
            }
        }
        files.sort_unstable_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
        files.dedup_by(|a, b| a.as_os_str() == b.as_os_str());
        let name = self.main.file_name();
        files.retain(|file| file.file_name() != name || plain(file) != self.main);
        files
    }
}

fn plain(path: &Path) -> &Path {
    path.strip_prefix(".").unwrap_or(path)
}

/// The names in a folder that fit a pattern. Hidden files fit only a pattern that begins with a dot: editors leave them.
fn list(folder: &Path, pattern: &str) -> io::Result<Vec<std::ffi::OsString>> {
    let fits = |name: &OsStr| {
        let name = name.to_str()?;
        ((!name.starts_with('.') || pattern.starts_with('.')) && fits(pattern, name)).then_some(())
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if fits(&name).is_some() && !entry.file_type()?.is_dir() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether a name fits a pattern, where `*` stands for any text and `?` for any character.
fn fits(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    // Behind the last `*`, and what it may still take: to come back to when what follows does not fit.
    let mut star = None;
    loop {
        let mut ahead = pattern.clone();
        let mut next = name.clone();
        match (ahead.next(), next.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                star = Some((ahead.clone(), name.clone()));
                pattern = ahead;
            }
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                pattern = ahead;
                name = next;
            }
            _ => {
                let Some((behind, rest)) = &mut star else {
                    return false;
                };
                if rest.next().is_none() {
                    return false;
                }
                pattern = behind.clone();
                name = rest.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name, fit) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", true),
            ("*.toml", "a.toml~", false),
            ("*.toml", "toml", false),
            ("a?.toml", "ab.toml", true),
            ("a?.toml", "a.toml", false),
            ("?", "é", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*", "a", true),
            ("**a*b", "xxayyab", true),
            ("*a*b", "xxayya", false),
            ("a", "b", false),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
    }
}
