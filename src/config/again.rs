//! The second read: a few of many included files changed, and everything else is as it was.
//!
//! An edit to one of ten thousand services must not cost ten thousand of anything but a look at each file's times. Whatever
//! is not that simple (a problem, a file that came or went, another main file) is left to the whole read, which tells it well.

use std::fs;
use std::path::Path;

use super::cache::{Cache, Known};
use super::load::{Attached, Loaded, Read, note, parse_included, read};
use super::stamp::Stamp;
use xxhash_rust::xxh3::Xxh3;

/// Reads what changed, if the main file, which `main` is the hash of, did not. None if all must be read; what `cache` knows
/// of single files holds in any case.
pub(super) fn load_changed(path: &Path, main: u64, cache: &mut Cache) -> Option<Loaded> {
    let mut whole = cache.whole.take().filter(|whole| whole.main == main)?;
    let mut listed = true;
    let files = whole.patterns.files(|_, _| listed = false);
    let same = files.iter().map(|file| file.as_os_str()).eq(cache.files.iter().map(|(file, _)| file.as_os_str()));
    if !listed || !same {
        return None;
    }
    let mut digest = Xxh3::new();
    note(&mut digest, path, main);
    for (path, known) in &mut cache.files {
        if known.stamp.is_none() || !fs::metadata(&*path).is_ok_and(|meta| known.stamp == Some(Stamp::of(&meta))) {
            let Read { text, stamp, hash } = read(path).ok()?;
            if hash == known.hash {
                known.stamp = stamp;
            } else {
                let services = &mut whole.config.services;
                whole.claims.release(&known.services, services);
                let mut more = Vec::new();
                let mut attached = Attached { digest: &mut digest, files: &mut more, count: 0 };
                let placed = parse_included(&text, path, &mut attached, &mut whole.claims, services).ok()?;
                if attached.count > 0 {
                    return None;
                }
                *known = Known { stamp, hash, services: placed.into() };
            }
        }
        note(&mut digest, path, known.hash);
    }
    Some(Loaded {
        config: Some(whole.config.clone()),
        files: whole.files.clone(),
        folders: whole.folders.clone(),
        digest: digest.digest(),
        cache: Cache { files: std::mem::take(&mut cache.files), whole: Some(whole) },
        ..Loaded::unread(path)
    })
}
