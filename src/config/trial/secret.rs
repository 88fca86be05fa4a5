//! What only some may know: it is never shown, and compared in a time that tells nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use super::super::door::Attachments;
use super::super::error::{Fault, Findings, Span};
use super::super::reader::{At, Table};

/// Fewer bytes can be guessed.
const LEAST: usize = 16;

/// More are a mistake: another file.
const LARGEST: u64 = 4096;

/// A secret. Two are equal if their bytes are, wherever they come from.
#[derive(Clone)]
pub struct Secret {
    /// Empty while the file was not read; then it is nobody's.
    bytes: Vec<u8>,
    /// The file that holds it, and the place in the configuration that names it.
    file: Option<(PathBuf, Span)>,
}

impl Secret {
    /// The bytes; none if they are not known.
    pub fn bytes(&self) -> Option<&[u8]> {
        (!self.bytes.is_empty()).then_some(&self.bytes)
    }

    /// Whether this is it. The time tells nothing but whether the lengths are the same.
    pub fn is(&self, tried: &[u8]) -> bool {
        !self.bytes.is_empty() && verify_slices_are_equal(&self.bytes, tried).is_ok()
    }

    /// A secret that stands in the configuration.
    pub(super) fn written(at: &At<&str>, t: &Table<'_>) -> Option<Self> {
        // What a header field cannot say would never be told.
        let sayable = at.value.bytes().all(|byte| byte.is_ascii_graphic());
        if at.value.len() < LEAST || at.value.len() as u64 > LARGEST || !sayable {
            t.findings().add(&at.span, unfit("this secret").secret());
            return None;
        }
        Some(Self { bytes: at.value.as_bytes().to_owned(), file: None })
    }

    /// A secret in a file, which is read when all else is in order.
    pub(super) fn in_file(at: &At<&str>, t: &Table<'_>) -> Self {
        if at.value.is_empty() || at.value.contains('\0') {
            t.findings().add(&at.span, Fault::new("this is not a path"));
        }
        Self { bytes: Vec::new(), file: Some((at.value.into(), at.span.clone())) }
    }

    pub(super) fn attach(&mut self, base: &Path, files: &mut dyn Attachments, findings: &Findings<'_>) {
        let Some((file, span)) = &self.file else { return };
        match files.read(base, file, LARGEST) {
            Some(Ok(bytes)) => {
                let bytes = bytes.trim_ascii_end();
                if bytes.len() < LEAST {
                    findings.add(span, unfit(&format!("the secret in {}", file.display())));
                }
                bytes.clone_into(&mut self.bytes);
            }
            Some(Err(why)) => {
                let fault = Fault::new(format!("the secret in {} cannot be used: {why}", file.display()));
                findings.add(span, fault.hint("its path is relative to this file"));
            }
            None => {}
        }
    }
}

fn unfit(what: &str) -> Fault {
    Fault::new(format!("{what} must have from {LEAST} to {LARGEST} letters, digits or signs, and no spaces"))
        .hint("make one with `openssl rand -hex 16`")
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.path() == other.path()
    }
}

impl Secret {
    fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(path, _)| path.as_path())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to tell that it is another one, and nothing to find it by.
        let digest = digest(&SHA256, &self.bytes);
        f.debug_struct("Secret").field("file", &self.path()).field("digest", &&digest.as_ref()[..2]).finish()
    }
}
