//! Every way in which a file gets new contents.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// How a file is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Written over what is there, then cut to length.
    InPlace,
    /// Cut to nothing, then written.
    Truncate,
    /// Cut to nothing, then written in two halves with a pause.
    Halves,
    /// Written beside, renamed over.
    Rename,
    /// A symbolic link that is replaced.
    Symlink,
    /// As Kubernetes mounts a ConfigMap: the file is a link through `..data`, and `..data` is replaced.
    ConfigMap,
    /// Removed, and written anew after a pause.
    Recreate,
}

impl Way {
    pub const ALL: [Self; 7] =
        [Self::InPlace, Self::Truncate, Self::Halves, Self::Rename, Self::Symlink, Self::ConfigMap, Self::Recreate];

    /// Saves. `serial` makes names that were not there before.
    pub fn save(self, path: &Path, text: &str, serial: u64, pause: Duration) -> io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        let beside = dir.join(format!("beside-{serial}.tmp"));
        match self {
            Self::InPlace => {
                let mut file = OpenOptions::new().write(true).open(path)?;
                file.write_all(text.as_bytes())?;
                file.set_len(text.len() as u64)
            }
            Self::Truncate => {
                let mut file = File::create(path)?;
                sleep(pause);
                file.write_all(text.as_bytes())
            }
            Self::Halves => {
                let mut file = File::create(path)?;
                let middle = half(text, text.len() / 2);
                file.write_all(&text.as_bytes()[..middle])?;
                sleep(pause);
                file.write_all(&text.as_bytes()[middle..])
            }
            Self::Rename => {
                fs::write(&beside, text)?;
                fs::rename(beside, path)
            }
            Self::Symlink => {
                let real = format!("real-{serial}.toml");
                fs::write(dir.join(&real), text)?;
                symlink(&real, &beside)?;
                fs::rename(beside, path)
            }
            Self::ConfigMap => {
                let folder = format!("..{serial}");
                fs::create_dir(dir.join(&folder))?;
                let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
                fs::write(dir.join(&folder).join(name), text)?;
                symlink(&folder, &beside)?;
                fs::rename(&beside, dir.join("..data"))?;
                let link = Path::new("..data").join(name);
                if fs::read_link(path).ok().as_ref() != Some(&link) {
                    symlink(&link, &beside)?;
                    fs::rename(&beside, path)?;
                }
                Ok(())
            }
            Self::Recreate => {
                fs::remove_file(path)?;
                sleep(pause);
                fs::write(path, text)
            }
        }
    }
}

/// A place near `at` where nobody could take the first half for a whole file: inside a string.
pub fn half(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len().saturating_sub(1));
    while at > 0 {
        let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
        if text.is_char_boundary(at) && text[line..at].matches('"').count() % 2 == 1 {
            return at;
        }
        at -= 1;
    }
    0
}
