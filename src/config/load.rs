//! From the file system: the main file, the files that it includes, and what is held back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::again::load_changed;
use super::cache::{Cache, Known, Whole};
use super::claims::{Claims, Placed};
use super::door::Attachments;
use super::error::{Fault, Findings, whole};
use super::file::{self, RawService};
use super::include::Patterns;
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
    /// Every file that was read or should have been, missing ones included; the main file first. The same pointer as last
    /// time if they are the same.
    pub files: Arc<[PathBuf]>,
    /// Folders whose listing matters, because an include pattern looks into them.
    pub folders: Arc<[PathBuf]>,
    /// Included files that are held back: the caller keeps the services that it last got from them.
    pub held_back: BTreeSet<PathBuf>,
    /// Hash of the names and contents of all files: tells a real change from a touched file.
    pub digest: u64,
    /// For [`load_again`].
    pub cache: Cache,
}

impl Loaded {
    /// Before anything was read.
    pub(super) fn unread(path: &Path) -> Self {
        Self {
            config: None,
            problems: Vec::new(),
            files: Arc::from([path.to_owned()]),
            folders: Arc::default(),
            held_back: BTreeSet::new(),
            digest: 0,
            cache: Cache::default(),
        }
    }
}

/// Reads a configuration: the main file and what it includes. Blocks on the file system.
pub fn load(path: &Path) -> Loaded {
    load_again(path, Cache::default())
}

/// The same, when it was read before: included files that are as they were are not read again, and their services are the
/// same ones (`Arc::ptr_eq`).
pub fn load_again(path: &Path, mut cache: Cache) -> Loaded {
    let main = read(path);
    if let Ok(Read { hash, .. }) = main
        && let Some(loaded) = load_changed(path, hash, &mut cache)
    {
        return loaded;
    }
    let mut digest = Xxh3::new();
    let mut loaded = match main {
        Ok(Read { text, hash, .. }) => {
            note(&mut digest, path, hash);
            assemble(&text, path, Some((hash, &mut digest)), cache)
        }
        Err(unread) => {
            note(&mut digest, path, unread.hash);
            Loaded { problems: vec![*unread.problem], cache, ..Loaded::unread(path) }
        }
    };
    loaded.digest = digest.digest();
    loaded
}

/// Reads a configuration from memory, as if it stood in the file `path`. Nothing is read from disk: `include` is checked for
/// its type and left aside.
pub fn load_str(text: &str, path: &Path) -> Loaded {
    Loaded { digest: xxh3_64(text.as_bytes()), ..assemble(text, path, None, Cache::default()) }
}

/// `disk` is the hash of the main file and the digest of what is read from the disk; without it nothing is.
fn assemble(text: &str, path: &Path, mut disk: Option<(u64, &mut Xxh3)>, cache: Cache) -> Loaded {
    let mut loaded = Loaded { cache, ..Loaded::unread(path) };
    let mut files = vec![path.to_owned()];
    let mut attachments = 0;
    let findings = Findings::new(text);
    let Some(table) = syntax::parse(text, &findings) else {
        loaded.problems = findings.into_problems(path);
        return loaded;
    };
    let mut claims = Claims::default();
    let (mut config, patterns, included) = {
        let mut file = file::read(&table, path, &findings);
        if let Some((_, digest)) = &mut disk {
            let mut attached = Attached { digest, files: &mut files, count: 0 };
            if let Some(errors) = &mut file.errors {
                errors.attach(path, &mut attached, &findings);
            }
            attach(&mut file.services, path, &mut attached, &findings);
            attachments += attached.count;
        }
        let mut config = validate::settings(&file, &findings);
        let patterns = Patterns::new(&file.include, path, &findings);
        let included =
            if disk.is_some() { patterns.files(|span, fault| findings.add(span, fault)) } else { Vec::new() };
        let services = validate::services(&file.services, path, &findings);
        claims.claim(services, path, !included.is_empty(), &findings, &mut config.services);
        (config, patterns, included)
    };
    let usable = findings.is_empty();
    drop(table);
    loaded.problems = findings.into_problems(path);

    if let Some((main, digest)) = disk {
        let mut known = Vec::with_capacity(included.len());
        for path in included {
            let mut attached = Attached { digest: &mut *digest, files: &mut files, count: 0 };
            let found = include(&path, &mut attached, &loaded.cache, &mut claims, &mut config.services);
            // A file that names others is read again with them: it alone does not say whether they are as they were.
            attachments += attached.count;
            let alone = attached.count == 0;
            match found {
                Ok(found) if alone => known.push((path.clone(), found)),
                Ok(_) => {}
                Err(problems) => {
                    loaded.problems.extend(problems);
                    loaded.held_back.insert(path.clone());
                }
            }
            files.push(path);
        }
        loaded.files = files.into();
        loaded.folders = patterns.folders().into();
        loaded.cache = Cache { files: known, whole: None };
        if usable && loaded.problems.is_empty() && attachments == 0 && loaded.files.len() > 1 {
            let (files, folders) = (Arc::clone(&loaded.files), Arc::clone(&loaded.folders));
            let whole = Whole { main, patterns, files, folders, config: config.clone(), claims };
            loaded.cache.whole = Some(Box::new(whole));
        }
    }
    loaded.config = usable.then_some(config);
    loaded
}

/// The files that settings name: what they hold is a part of the configuration, so an edit to one is an edit to it.
pub(super) struct Attached<'a> {
    pub(super) digest: &'a mut Xxh3,
    pub(super) files: &'a mut Vec<PathBuf>,
    /// How many were read.
    pub(super) count: usize,
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
    for trial in services.iter_mut().filter_map(|service| service.trial.as_mut()) {
        trial.attach(base, attached, findings);
    }
}

/// Adds the services of an included file, if all is well with it: the same as last time if the file is the same.
fn include(
    path: &Path,
    attached: &mut Attached<'_>,
    cache: &Cache,
    claims: &mut Claims,
    services: &mut BTreeMap<ServiceName, Arc<Service>>,
) -> Result<Known, Vec<Problem>> {
    let known = cache.get(path).filter(|known| claims.are_free(&known.services));
    if let Some(known) = known
        && known.stamp.is_some()
        && fs::metadata(path).is_ok_and(|meta| known.stamp == Some(Stamp::of(&meta)))
    {
        note(attached.digest, path, known.hash);
        claims.take(&known.services, path, services);
        return Ok(known.clone());
    }
    let Read { text, stamp, hash } = match read(path) {
        Ok(read) => read,
        Err(unread) => {
            note(attached.digest, path, unread.hash);
            return Err(vec![*unread.problem]);
        }
    };
    note(attached.digest, path, hash);
    if let Some(known) = known.filter(|known| known.hash == hash) {
        claims.take(&known.services, path, services);
        return Ok(Known { stamp, ..known.clone() });
    }
    let placed = parse_included(&text, path, attached, claims, services)?;
    Ok(Known { stamp, hash, services: placed.into() })
}

/// Reads the text of an included file, and adds its services.
pub(super) fn parse_included(
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
pub(super) struct Read {
    pub(super) text: String,
    /// None if the file is too young for it to prove anything.
    pub(super) stamp: Option<Stamp>,
    pub(super) hash: u64,
}

/// A file that could not be read.
pub(super) struct Unread {
    problem: Box<Problem>,
    /// For the digest: a file that becomes readable is a change.
    hash: u64,
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Read, Unread> {
    let (bytes, stamp) = read_bytes(path, LARGEST).map_err(|error| {
        let message = format!("cannot be read: {error}");
        let hash = !xxh3_64(message.as_bytes());
        let hint = (error.kind() == io::ErrorKind::PermissionDenied)
            .then(|| "give the user that runs sluice the right to read it".to_owned());
        Unread { problem: Box::new(whole(path, message, hint)), hash }
    })?;
    let hash = xxh3_64(&bytes);
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        // Everything before the bad byte is unchanged, so its offset still holds.
        let findings = Findings::new(&text);
        findings.add(&(good..good + 1), Fault::new("this is not UTF-8 text").hint("save the file as UTF-8"));
        let problem =
            findings.into_problems(path).pop().unwrap_or_else(|| whole(path, "this is not UTF-8 text".into(), None));
        Unread { problem: Box::new(problem), hash }
    })?;
    Ok(Read { text, stamp, hash })
}

/// Adds a file to the digest: its name, and a hash of what it holds.
pub(super) fn note(digest: &mut Xxh3, path: &Path, hash: u64) {
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
