//! The second read: a few of many services changed, and everything else is as it was.
//!
//! An edit to one of ten thousand services must not cost ten thousand of anything but a look at each file's times. Whatever
//! is not that simple (a problem, a file that came or went, an edit of the main file's settings) is left to the whole read,
//! which tells it well.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::Service;
use super::attached::{Attached, Attachment};
use super::cache::{Cache, Known, Whole};
use super::claims::Claims;
use super::load::{Loaded, Read, note, parse_included, read};
use super::patch::Patch;
use super::stamp::Stamp;
use crate::model::ServiceName;
use xxhash_rust::xxh3::Xxh3;

/// Reads what changed, if what the main file says of anything but services did not. Otherwise all must be read, and the main
/// file comes back; what `cache` knows of single files holds in any case.
pub(super) fn load_changed(path: &Path, main: Read, cache: &mut Cache) -> Result<Loaded, Read> {
    let mut digest = Xxh3::new();
    let Some((mut whole, patch)) = changed(path, &main, cache, &mut digest) else {
        return Err(main);
    };
    if let Some(patch) = patch {
        whole.main = patch.into_known(&whole.main, main);
    }
    Ok(Loaded {
        config: Some(whole.config.clone()),
        files: whole.files.clone(),
        folders: whole.folders.clone(),
        digest: digest.digest(),
        cache: Cache { files: std::mem::take(&mut cache.files), whole: Some(whole) },
        ..Loaded::unread(path)
    })
}

/// Takes over what changed, and gives what is to be remembered of the main file if it is among that.
fn changed(path: &Path, main: &Read, cache: &mut Cache, digest: &mut Xxh3) -> Option<(Box<Whole>, Option<Patch>)> {
    let mut whole = cache.whole.take()?;
    let mut listed = true;
    let files = whole.patterns.files(|_, _| listed = false);
    let as_before = files.iter().map(|file| file.as_os_str()).eq(cache.files.iter().map(|(file, _)| file.as_os_str()));
    if !listed || !as_before {
        return None;
    }
    let same = |known: &Known| known.attached.iter().all(Attachment::is_same);
    if !same(&whole.main) {
        return None;
    }
    let mut patch = None;
    if main.hash != whole.main.hash {
        patch = Patch::new(&whole.main, &main.text, path)
            .filter(|patch| patch.apply(&whole.main, path, &mut whole.claims, &mut whole.config.services));
        if patch.is_none() {
            // The edit that mends it will be a change to the same.
            cache.whole = Some(whole);
            return None;
        }
    }
    let mut noted = |path: &Path, known: &Known, hash| {
        note(digest, path, hash);
        known.attached.iter().for_each(|one| note(digest, &one.path, one.hash));
    };
    noted(path, &whole.main, main.hash);
    for (path, known) in &mut cache.files {
        if !same(known) {
            return None;
        }
        if known.stamp.is_none() || !fs::metadata(&*path).is_ok_and(|meta| known.stamp == Some(Stamp::of(&meta))) {
            let new = read(path).ok()?;
            if new.hash == known.hash {
                known.stamp = new.stamp;
            } else {
                *known = replace(path, known, new, &mut whole.claims, &mut whole.config.services)?;
            }
        }
        noted(path, known, known.hash);
    }
    Some((whole, patch))
}

/// What an included file says now. None if there is any problem with it, or if it names other files.
fn replace(
    path: &Path,
    known: &Known,
    new: Read,
    claims: &mut Claims,
    services: &mut BTreeMap<ServiceName, Arc<Service>>,
) -> Option<Known> {
    if let Some(patch) = Patch::new(known, &new.text, path).filter(|patch| patch.apply(known, path, claims, services)) {
        return Some(patch.into_known(known, new));
    }
    claims.release(&*known.services, services);
    // Another list of files that it names would be one for all; then all is read.
    let (mut digest, mut more) = (Xxh3::new(), Vec::new());
    let mut attached = Attached::new(&mut digest, &mut more);
    let alone = known.attached.is_empty();
    let known = parse_included(new, path, &mut attached, claims, services).ok()?;
    (alone && known.attached.is_empty()).then_some(known)
}
