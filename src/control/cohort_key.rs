//! The key that the cookies of cohorts are signed with, where a service names none: made once, and kept in the state folder, so that
//! a restart leaves every user where it was.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tracing::warn;

use crate::pool::CohortKey;

const NAME: &str = "cohort.key";
const TEMP: &str = "cohort.key.temp";

/// As long as what HMAC-SHA256 gives: more adds nothing.
const LENGTH: usize = 32;

/// The key. One that cannot be kept serves until the process ends. None without a source of randomness.
pub(super) fn key(dir: Option<&Path>) -> Option<CohortKey> {
    let known = dir.map(read).transpose().unwrap_or_else(|error| {
        warn!(%error, "the key for cohort cookies cannot be read: a new one is made, and users are dealt anew");
        None
    });
    if let Some(secret) = known.flatten() {
        return Some(CohortKey::new(&secret));
    }
    let mut secret = [0; LENGTH];
    if aws_lc_rs::rand::fill(&mut secret).is_err() {
        warn!("there is no randomness for a key: cohorts get no cookie");
        return None;
    }
    if let Some(Err(error)) = dir.map(|dir| write(dir, &secret)) {
        warn!(%error, "the key for cohort cookies cannot be kept: a restart will deal users anew");
    }
    Some(CohortKey::new(&secret))
}

/// None if there is no file.
fn read(dir: &Path) -> io::Result<Option<[u8; LENGTH]>> {
    let file = match File::open(dir.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(LENGTH as u64 + 1).read_to_end(&mut bytes)?;
    let secret = bytes.try_into().map_err(|_| io::Error::other("it has not the length of a key"))?;
    Ok(Some(secret))
}

/// Whole or not at all, and for nobody else to read.
fn write(dir: &Path, secret: &[u8]) -> io::Result<()> {
    let temp = dir.join(TEMP);
    match fs::remove_file(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
    file.write_all(secret)?;
    file.sync_all()?;
    fs::rename(&temp, dir.join(NAME))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::model::ServiceName;

    fn cookie(dir: Option<&Path>) -> String {
        key(dir).expect("a key").sign(&ServiceName::new("shop"), 7)
    }

    #[test]
    fn the_key_outlives_the_process_and_is_readable_to_nobody_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = cookie(Some(dir.path()));
        assert_eq!(cookie(Some(dir.path())), first);
        let file = dir.path().join(NAME);
        let mode = fs::metadata(&file).expect("the key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_ne!(cookie(None), cookie(None), "without a folder, each has its own");
        let other = tempfile::tempdir().expect("a folder");
        assert_ne!(cookie(Some(other.path())), first);
    }

    #[test]
    fn a_key_that_is_cut_off_or_out_of_reach_is_made_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = cookie(Some(dir.path()));
        for broken in [&b""[..], b"short", &[7; LENGTH + 1]] {
            fs::write(dir.path().join(NAME), broken).expect("a file");
            let next = cookie(Some(dir.path()));
            assert_ne!(next, first);
            assert_eq!(cookie(Some(dir.path())), next, "and kept");
        }
        // A folder in its place can neither be read nor replaced: cookies are set all the same.
        fs::remove_file(dir.path().join(NAME)).expect("the key");
        fs::create_dir(dir.path().join(NAME)).expect("a folder");
        assert!(cookie(Some(dir.path())).starts_with("1.7."));
    }
}
