//! From the file system: the main file, the files that it includes, and what is held back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::cache::{Cache, Known};
use super::claims::{Claims, Placed};
use super::door::Attachments;
use super::error::{Fault, Findings, whole};
use super::file::{self, RawService, Strings};
use super::{Config, Match, Service, Stamp};
use super::{syntax, validate};
use crate::api::Problem;
use crate::model::ServiceName;

/// A larger file is surely not a configuration. 10,000 services take 2 MiB.
const LARGEST: u64 = 16 << 20;

/// What is on disk.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// None if the main file cannot be used at all: nothing may change. It lacks the services of files that are held
    /// back; [`Config::keep`] adds those that served before.
    pub config: Option<Config>,
    /// Every problem: the main file's first, then each included file's, in the order of the file. Empty means all is well.
    pub problems: Vec<Problem>,
    /// Every file that was read or should have been, missing ones included; the main file first.
    pub files: Vec<PathBuf>,
    /// Folders whose listing matters, because an include pattern looks into them.
    pub folders: Vec<PathBuf>,
    /// Included files that are held back: the caller keeps the services that it last got from them.
    pub held_back: BTreeSet<PathBuf>,
    /// Hash of the names and contents of all files: tells a real change from a touched file.
    pub digest: u64,
    /// For [`load_again`].
    pub cache: Cache,
}

impl Loaded {
    /// Before anything was read.
    fn unread(path: &Path, cache: Cache) -> Self {
        Self {
            config: None,
            problems: Vec::new(),
            files: vec![path.to_owned()],
            folders: Vec::new(),
            held_back: BTreeSet::new(),
            digest: 0,
            cache,
        }
    }
}

/// Reads a configuration: the main file and what it includes. Blocks on the file system.
pub fn load(path: &Path) -> Loaded {
    load_again(path, Cache::default())
}

/// The same, when it was read before: included files that are as they were are not read again, and their services are the
/// same ones (`Arc::ptr_eq`).
pub fn load_again(path: &Path, cache: Cache) -> Loaded {
    let mut loaded = Loaded::unread(path, cache);
    let mut digest = Xxh3::new();
    match read(path, &mut digest) {
        Ok(Read { text, .. }) => assemble(&text, path, Some(&mut digest), &mut loaded),
        Err(problem) => loaded.problems.push(problem),
    }
    loaded.digest = digest.digest();
    loaded
}

/// Reads a configuration from memory, as if it stood in the file `path`. Nothing is read from disk: `include` is checked for
/// its type and left aside.
pub fn load_str(text: &str, path: &Path) -> Loaded {
    let mut loaded = Loaded::unread(path, Cache::default());
    loaded.digest = xxh3_64(text.as_bytes());
    assemble(text, path, None, &mut loaded);
    loaded
}

/// `disk` is the digest of what is read from it; without one nothing is.
fn assemble(text: &str, path: &Path, mut disk: Option<&mut Xxh3>, loaded: &mut Loaded) {
    let findings = Findings::new(text);
    let Some(table) = syntax::parse(text, &findings) else {
        loaded.problems = findings.into_problems(path);
        return;
    };
    let mut claims = Claims::default();
    let mut included = BTreeSet::new();
    let mut config = {
        let mut file = file::read(&table, path, &findings);
        if let Some(digest) = disk.as_deref_mut() {
            let mut attached = Attached { digest, files: &mut loaded.files, count: 0 };
            if let Some(errors) = &mut file.errors {
                errors.attach(path, &mut attached, &findings);
            }
            attach(&mut file.services, path, &mut attached, &findings);
        }
        let mut config = validate::settings(&file, &findings);
        if disk.is_some() {
            included = expand(&file.include, path, &findings, &mut loaded.folders);
        }
        let services = validate::services(&file.services, path, &findings);
        claims.claim(services, path, !included.is_empty(), &findings, &mut config.services);
        config
    };
    let usable = findings.is_empty();
    drop(table);
    loaded.problems = findings.into_problems(path);

    if let Some(digest) = disk {
        for path in included {
            let mut attached = Attached { digest: &mut *digest, files: &mut loaded.files, count: 0 };
            let problems = include(&path, &mut attached, &mut loaded.cache, &mut claims, &mut config.services);
            if !problems.is_empty() {
                loaded.problems.extend(problems);
                loaded.held_back.insert(path.clone());
            }
            loaded.files.push(path);
        }
        loaded.cache.turn();
    }
    loaded.config = usable.then_some(config);
}

/// The files that settings name: what they hold is a part of the configuration, so an edit to one is an edit to it.
struct Attached<'a> {
    digest: &'a mut Xxh3,
    files: &'a mut Vec<PathBuf>,
    /// How many were read.
    count: usize,
}

impl Attachments for Attached<'_> {
    fn read(&mut self, base: &Path, file: &Path, largest: u64) -> Option<Result<Vec<u8>, String>> {
        let path = base.parent().unwrap_or(Path::new("")).join(file);
        if !self.files.contains(&path) {
            self.files.push(path.clone());
        }
        self.count += 1;
        let read = read_bytes(&path, largest).map(|(bytes, _)| bytes).map_err(|error| error.to_string());
        let hash = match &read {
            Ok(bytes) => xxh3_64(bytes),
            Err(error) => !xxh3_64(error.as_bytes()),
        };
        note(self.digest, &path, hash);
        Some(read)
    }
}

fn attach(services: &mut [RawService<'_>], base: &Path, attached: &mut Attached<'_>, findings: &Findings<'_>) {
    for errors in services.iter_mut().filter_map(|service| service.door.as_mut()?.errors.as_mut()) {
        errors.attach(base, attached, findings);
    }
}

/// Adds the services of an included file, if all is well with it: the same as last time if the file is the same.
fn include(
    path: &Path,
    attached: &mut Attached<'_>,
    cache: &mut Cache,
    claims: &mut Claims,
    services: &mut BTreeMap<ServiceName, Arc<Service>>,
) -> Vec<Problem> {
    let known = cache.get(path).filter(|known| claims.are_free(&known.services)).cloned();
    if let Some(known) = &known
        && known.stamp.is_some()
        && fs::metadata(path).is_ok_and(|meta| known.stamp == Some(Stamp::of(&meta)))
    {
        note(attached.digest, path, known.hash);
        claims.take(&known.services, path, services);
        cache.put(path, known.clone());
        return Vec::new();
    }
    let Read { text, stamp, hash } = match read(path, attached.digest) {
        Ok(read) => read,
        Err(problem) => return vec![problem],
    };
    if let Some(known) = known.filter(|known| known.hash == hash) {
        claims.take(&known.services, path, services);
        cache.put(path, Known { stamp, ..known });
        return Vec::new();
    }
    match parse_included(&text, path, attached, claims, services) {
        Ok(placed) => {
            // A file that names others is read again with them: it alone does not say whether they are as they were.
            if attached.count == 0 {
                cache.put(path, Known { stamp, hash, services: placed.into() });
            }
            Vec::new()
        }
        Err(problems) => problems,
    }
}

fn parse_included(
    text: &str,
    path: &Path,
    attached: &mut Attached<'_>,
    claims: &mut Claims,
    services: &mut BTreeMap<ServiceName, Arc<Service>>,
) -> Result<Vec<Placed>, Vec<Problem>> {
    let findings = Findings::new(text);
    let mut placed = None;
    if let Some(table) = syntax::parse(text, &findings) {
        let mut raw = file::read_included(&table, path, &findings);
        attach(&mut raw, path, attached, &findings);
        if raw.is_empty() && findings.is_empty() {
            // An editor that writes in place shows an empty file for a moment. That must not remove the services.
            findings.add_whole(
                Fault::new("there is no service in this file").hint("to remove its services, delete the file"),
            );
        }
        let checked = validate::services(&raw, path, &findings);
        placed = claims.claim(checked, path, true, &findings, services);
    }
    placed.ok_or_else(|| findings.into_problems(path))
}

/// A file as it was read.
struct Read {
    text: String,
    /// None if the file is too young for it to prove anything.
    stamp: Option<Stamp>,
    hash: u64,
}

/// Reads a file, and adds it to the digest even if that fails: a file that becomes readable is a change.
fn read(path: &Path, digest: &mut Xxh3) -> Result<Read, Problem> {
    let (bytes, stamp) = match read_bytes(path, LARGEST) {
        Ok(read) => read,
        Err(error) => {
            let message = format!("cannot be read: {error}");
            note(digest, path, !xxh3_64(message.as_bytes()));
            let hint = (error.kind() == io::ErrorKind::PermissionDenied)
                .then(|| "give the user that runs sluice the right to read it".to_owned());
            return Err(whole(path, message, hint));
        }
    };
    let hash = xxh3_64(&bytes);
    note(digest, path, hash);
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        // Everything before the bad byte is unchanged, so its offset still holds.
        let findings = Findings::new(&text);
        findings.add(&(good..good + 1), Fault::new("this is not UTF-8 text").hint("save the file as UTF-8"));
        findings.into_problems(path).pop().unwrap_or_else(|| whole(path, "this is not UTF-8 text".into(), None))
    })?;
    Ok(Read { text, stamp, hash })
}

/// Adds a file to the digest: its name, and a hash of what it holds.
fn note(digest: &mut Xxh3, path: &Path, hash: u64) {
    let name = path.as_os_str().as_encoded_bytes();
    digest.update(&(name.len() as u64).to_le_bytes());
    digest.update(name);
    digest.update(&hash.to_le_bytes());
}

fn read_bytes(path: &Path, largest: u64) -> io::Result<(Vec<u8>, Option<Stamp>)> {
    // Opening a pipe would wait for its writer, perhaps for ever.
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path)?;
    let stamp = Stamp::of(&file.metadata()?).settled(SystemTime::now());
    file.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        return Err(io::Error::other(format!("it is larger than {} MiB", largest >> 20)));
    }
    Ok((bytes, stamp))
}

/// The files that the patterns of `include` mean, relative to the main file's folder.
fn expand(
    include: &Strings<'_>,
    main: &Path,
    findings: &Findings<'_>,
    folders: &mut Vec<PathBuf>,
) -> BTreeSet<PathBuf> {
    let base = main.parent().unwrap_or(Path::new(""));
    let mut files = BTreeSet::new();
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
        } else if !last.contains(['*', '?']) {
            files.insert(base.join(at.value));
        } else {
            let folder = base.join(folder);
            let listed = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.clone() };
            match list(&listed, last) {
                Ok(names) => files.extend(names.iter().map(|name| folder.join(name))),
                // Not the same as an empty one: a folder that is gone for a moment must not take its services with it.
                Err(error) => {
                    let fault = Fault::new(format!("the folder {} cannot be read: {error}", listed.display()));
                    fail(fault.hint("create it, or remove the pattern"));
                }
            }
            if !folders.contains(&listed) {
                folders.push(listed);
            }
        }
    }
    // A pattern like "*.toml" finds the main file, too.
    let plain = |path: &Path| path.strip_prefix(".").unwrap_or(path).to_owned();
    let main = plain(main);
    files.retain(|file| plain(file) != main);
    files
}

/// The names in a folder that fit a pattern. Hidden files fit only a pattern that begins with a dot: editors leave them.
fn list(folder: &Path, pattern: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if (name.starts_with('.') && !pattern.starts_with('.')) || !fits(pattern, &name) {
            continue;
        }
        if !entry.file_type()?.is_dir() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether a name fits a pattern, where `*` stands for any text and `?` for any character.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // The last `*`, and how much of the name it has taken: to come back to when what follows does not fit.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else {
                    return false;
                };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

impl Config {
    /// Adds the services that `last` had from files that are held back now. What was read anew comes first: a service of
    /// the same name stays out, and so does a match that another service has taken.
    pub fn keep(&mut self, last: &Config, held_back: &BTreeSet<PathBuf>) {
        let kept: Vec<_> = last
            .services
            .values()
            .filter(|service| held_back.contains(&service.source) && !self.services.contains_key(&service.name))
            .collect();
        if kept.is_empty() {
            return;
        }
        let taken: std::collections::HashSet<&Match> =
            self.services.values().flat_map(|service| &service.matches).collect();
        let kept: Vec<_> = kept
            .into_iter()
            .map(|service| {
                if service.matches.iter().any(|pattern| taken.contains(pattern)) {
                    let mut service = Service::clone(service);
                    service.matches.retain(|pattern| !taken.contains(pattern));
                    Arc::new(service)
                } else {
                    Arc::clone(service)
                }
            })
            .collect();
        self.services.extend(kept.into_iter().map(|service| (service.name.clone(), service)));
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
            ("**a*b", "xxayyab", true),
            ("*a*b", "xxayya", false),
            ("a", "b", false),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
    }
}
