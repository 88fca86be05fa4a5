//! From the file system: the main file, the files that it includes, and what is held back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::again::load_changed;
use super::attached::{Attached, Attachment, attach};
use super::blocks::Blocks;
use super::cache::{Cache, Known, Whole};
use super::claims::Claims;
use super::error::{Fault, Findings, whole};
use super::file;
use super::include::Patterns;
use super::patch::Patch;
use super::validate::Checked;
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
    let mut digest = Xxh3::new();
    let mut loaded = match read(path).map(|main| load_changed(path, main, &mut cache)) {
        Ok(Ok(loaded)) => return loaded,
        Ok(Err(main)) => {
            note(&mut digest, path, main.hash);
            assemble(main, path, Some(&mut digest), cache)
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
    let main = Read { text: text.to_owned(), stamp: None, hash: xxh3_64(text.as_bytes()) };
    Loaded { digest: main.hash, ..assemble(main, path, None, Cache::default()) }
}

/// `disk` is the digest of what is read from the disk; without it nothing is.
fn assemble(main: Read, path: &Path, mut disk: Option<&mut Xxh3>, cache: Cache) -> Loaded {
    let Read { text, stamp, hash } = main;
    let mut loaded = Loaded { cache, ..Loaded::unread(path) };
    let mut files = vec![path.to_owned()];
    let findings = Findings::new(&text);
    let Some(table) = syntax::parse(&text, &findings) else {
        loaded.problems = findings.into_problems(path);
        return loaded;
    };
    let mut claims = Claims::default();
    let mut attached = Vec::new();
    let (mut config, patterns, included, placed, starts) = {
        let mut file = file::read(&table, path, &findings);
        let mut asked = Vec::new();
        if let Some(digest) = &mut disk {
            let mut files = Attached::new(digest, &mut files);
            if let Some(errors) = &mut file.errors {
                errors.attach(path, &mut files, &findings);
            }
            asked = attach(&mut file.services, path, &mut files, &findings);
            attached = files.found;
        }
        let mut config = validate::settings(&file, &findings);
        let patterns = Patterns::new(&file.include, path, &findings);
        let included =
            if disk.is_some() { patterns.files(|span, fault| findings.add(span, fault)) } else { Vec::new() };
        let services = validate::services(&file.services, path, &findings);
        let starts = starts(&services, asked);
        let more = disk.is_some() && (!included.is_empty() || Blocks::are_for(&text));
        let placed = claims.claim(services, path, more, &findings, &mut config.services);
        (config, patterns, included, placed, starts)
    };
    let usable = findings.is_empty();
    drop(table);
    loaded.problems = findings.into_problems(path);

    if let Some(digest) = disk {
        let mut known = Vec::with_capacity(included.len());
        for path in included {
            let mut attached = Attached::new(digest, &mut files);
            match include(&path, &mut attached, &loaded.cache, &mut claims, &mut config.services) {
                Ok(found) => known.push((path.clone(), found)),
                Err(problems) => {
                    // The edit that mends it will be a change to the same.
                    let before = loaded.cache.get(&path).filter(|known| known.blocks.is_some());
                    known.extend(before.map(|known| (path.clone(), known.clone())));
                    loaded.problems.extend(problems);
                    loaded.held_back.insert(path.clone());
                }
            }
            files.push(path);
        }
        loaded.files = files.into();
        loaded.folders = patterns.folders().into();
        if usable || loaded.cache.whole.is_none() {
            loaded.cache = Cache { files: known, whole: None };
        }
        if usable && loaded.problems.is_empty() {
            let blocks = Blocks::of(text, &starts).map(Arc::new);
            if blocks.is_some() || loaded.files.len() > 1 {
                let services = placed.unwrap_or_default().into();
                let main = Known { stamp, hash, services, blocks, attached: attached.into() };
                let (files, folders) = (Arc::clone(&loaded.files), Arc::clone(&loaded.folders));
                let whole = Whole { main, patterns, files, folders, config: config.clone(), claims };
                loaded.cache.whole = Some(Box::new(whole));
            }
        }
    }
    loaded.config = usable.then_some(config);
    loaded
}

/// Adds the services of an included file, if all is well with it: the same as last time if the file is the same.
fn include(
    path: &Path,
    attached: &mut Attached<'_>,
    cache: &Cache,
    claims: &mut Claims,
    services: &mut BTreeMap<ServiceName, Arc<Service>>,
) -> Result<Known, Vec<Problem>> {
    let known = cache
        .get(path)
        .filter(|known| claims.are_free(&known.services) && known.attached.iter().all(Attachment::is_same));
    if let Some(known) = known
        && known.stamp.is_some()
        && fs::metadata(path).is_ok_and(|meta| known.stamp == Some(Stamp::of(&meta)))
    {
        note(attached.digest, path, known.hash);
        known.attached.iter().for_each(|one| attached.add(one.clone()));
        claims.take(&*known.services, path, services);
        return Ok(known.clone());
    }
    let new = match read(path) {
        Ok(read) => read,
        Err(unread) => {
            note(attached.digest, path, unread.hash);
            return Err(vec![*unread.problem]);
        }
    };
    note(attached.digest, path, new.hash);
    if let Some(known) = known {
        if known.hash == new.hash {
            known.attached.iter().for_each(|one| attached.add(one.clone()));
            claims.take(&*known.services, path, services);
            return Ok(Known { stamp: new.stamp, ..known.clone() });
        }
        let patch = Patch::new(known, &new.text, path);
        if let Some(patch) = patch.filter(|patch| patch.apply_all(path, claims, services)) {
            known.attached.iter().for_each(|one| attached.add(one.clone()));
            return Ok(patch.into_known(known, new));
        }
    }
    parse_included(new, path, attached, claims, services)
}

/// Where the services' names stand, and which of the services name files.
fn starts(services: &[Checked], asked: Vec<bool>) -> Vec<(usize, bool)> {
    services.iter().map(|one| one.name_at.start).zip(asked).collect()
}

/// Reads the text of an included file, and adds its services.
pub(super) fn parse_included(
    Read { text, stamp, hash }: Read,
    path: &Path,
    attached: &mut Attached<'_>,
    claims: &mut Claims,
    services: &mut BTreeMap<ServiceName, Arc<Service>>,
) -> Result<Known, Vec<Problem>> {
    let findings = Findings::new(&text);
    let mut found = None;
    if let Some(table) = syntax::parse(&text, &findings) {
        let mut raw = file::read_included(&table, path, &findings);
        let asked = attach(&mut raw, path, attached, &findings);
        if raw.is_empty() && findings.is_empty() {
            // An editor that writes in place shows an empty file for a moment. That must not remove the services.
            findings.add_whole(
                Fault::new("there is no service in this file").hint("to remove its services, delete the file"),
            );
        }
        let checked = validate::services(&raw, path, &findings);
        let starts = starts(&checked, asked);
        let placed = claims.claim(checked, path, true, &findings, services);
        found = placed.map(|placed| (placed, starts));
    }
    let Some((placed, starts)) = found else {
        return Err(findings.into_problems(path));
    };
    let blocks = Blocks::of(text, &starts).map(Arc::new);
    Ok(Known { stamp, hash, services: placed.into(), blocks, attached: std::mem::take(&mut attached.found).into() })
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

pub(super) fn read_bytes(path: &Path, largest: u64) -> io::Result<(Vec<u8>, Option<Stamp>)> {
    // Opening a pipe would wait for its writer, perhaps for ever.
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    let stamp = Stamp::of(&metadata).settled(SystemTime::now());
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(largest) + 1).unwrap_or_default());
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
