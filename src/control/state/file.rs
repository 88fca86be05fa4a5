//! One record's file: its name, and the line that tells whether its bytes are as they were written.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::model::ServiceName;

pub(super) const CURRENT: &str = ".json";
pub(super) const PREVIOUS: &str = ".json.previous";
pub(super) const TEMP: &str = ".json.temp";
pub(super) const CORRUPT: &str = ".corrupt";

/// First word of a file: what it is, and the version of its form.
const MAGIC: &str = "sluice-state-1";

/// Longer files are not ours: a record holds one service's nodes and 100 history entries.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// A longer stem is cut, to stay below the 255 bytes that file systems allow for a name.
const MAX_STEM: usize = 160;

/// The file name of a service, without its ending. Lower-case letters, digits, `-` and `_` stand for themselves, every
/// other byte is `%XX`; so a dot never meets an ending, a slash never leaves the folder, and two names never share a file
/// on a file system that ignores case. The name of a long one ends in `~` and a hash of it.
pub(super) fn stem(service: &ServiceName) -> String {
    use std::fmt::Write as _;
    let name = service.as_str();
    let mut stem = String::with_capacity(name.len());
    for byte in name.bytes() {
        if matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_') {
            stem.push(char::from(byte));
        } else {
            let _ = write!(stem, "%{byte:02X}");
        }
    }
    if stem.is_empty() {
        // No name gives this.
        return "%".to_owned();
    }
    if stem.len() > MAX_STEM {
        stem.truncate(MAX_STEM);
        let _ = write!(stem, "~{:032x}", xxh3_128(name.as_bytes()));
    }
    stem
}

/// Puts the line with the checksum before the body.
pub(super) fn seal(body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{MAGIC} {:016x} {}\n", xxh3_64(body), body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Why a file gives no record.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("it was cut off or changed on disk: {0}")]
    Changed(&'static str),
    #[error("it is whole, but not understood: {0}")]
    Unknown(serde_json::Error),
}

impl Trouble {
    /// Whether the bytes are wrong, as opposed to out of reach.
    pub(super) fn is_corrupt(&self) -> bool {
        !matches!(self, Self::Unreadable(_))
    }
}

/// Reads a file; None if there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Trouble> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(Trouble::Unreadable)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(Trouble::Unreadable)?;
    serde_json::from_slice(unseal(&bytes)?).map(Some).map_err(Trouble::Unknown)
}

/// The body, if it is as it was written.
pub(super) fn unseal(bytes: &[u8]) -> Result<&[u8], Trouble> {
    if bytes.len() as u64 > MAX_FILE {
        return Err(Trouble::Changed("it is far too long"));
    }
    let end = bytes.iter().position(|&byte| byte == b'\n').ok_or(Trouble::Changed("its first line is not whole"))?;
    let (line, body) = (&bytes[..end], &bytes[end + 1..]);
    // Made anew and compared as a whole, so that no change of the line can pass as another spelling of it.
    let sealed = seal(body);
    if sealed[..sealed.len() - body.len() - 1] != *line {
        let known = line.starts_with(MAGIC.as_bytes());
        return Err(Trouble::Changed(if known {
            "its checksum or its length is wrong"
        } else {
            "it does not begin as a record of this version of sluice does"
        }));
    }
    Ok(body)
}
