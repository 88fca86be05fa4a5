//! What clients see when something goes wrong.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::HeaderValue;

use super::super::error::{Fault, Findings, Span};
use super::super::file::misplaced;
use super::super::reader::{At, Table};
use super::super::units::shorten;

/// Bytes of a page: it is held in memory and may be sent to many at once.
const LARGEST: u64 = 1 << 20;

/// `[errors]` and `[service.NAME.errors]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Errors {
    /// The first that fits is taken: those for the fewest statuses come first.
    pub pages: Vec<Page>,
    /// Answers of nodes with these statuses get a page, too.
    pub intercept: Vec<Statuses>,
}

/// Statuses from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statuses(pub u16, pub u16);

impl Statuses {
    /// Whether this is one of them.
    pub fn contains(self, status: u16) -> bool {
        (self.0..=self.1).contains(&status)
    }
}

/// A body for some statuses.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// For which.
    pub statuses: Statuses,
    /// What it is.
    pub kind: HeaderValue,
    /// The body itself.
    pub body: Bytes,
    /// Where it comes from.
    pub source: PageSource,
}

/// Where a page comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum PageSource {
    /// It stands in the configuration.
    Text,
    /// A file, and the place in the configuration that names it.
    File(PathBuf, std::ops::Range<usize>),
}

impl Errors {
    /// The page for a status.
    pub fn page(&self, status: u16) -> Option<&Page> {
        self.pages.iter().find(|page| page.statuses.contains(status))
    }
}

/// Reads the files that settings name. Told by the loader, which alone knows the disk.
pub(in super::super) trait Attachments {
    /// The bytes of a file, named as in the configuration file `base`; `None` if nothing is read from disk now.
    fn read(&mut self, base: &Path, file: &Path, largest: u64) -> Option<Result<Vec<u8>, String>>;
}

impl Errors {
    /// Fills in the pages that are files.
    pub(in super::super) fn attach(&mut self, base: &Path, files: &mut dyn Attachments, findings: &Findings<'_>) {
        for page in &mut self.pages {
            let PageSource::File(file, span) = &mut page.source else { continue };
            match files.read(base, file, LARGEST) {
                Some(Ok(bytes)) => page.body = bytes.into(),
                Some(Err(why)) => {
                    let fault = Fault::new(format!("the page {} cannot be used: {why}", file.display()));
                    findings.add(span, fault.hint("its path is relative to this file"));
                }
                None => {}
            }
            // From here on it would only make the same page in another line another page.
            *span = 0..0;
        }
    }
}

pub(in super::super) fn errors(mut t: Table<'_>) -> Option<Errors> {
    let mut pages = Vec::new();
    for (at, file) in t.named_texts("files") {
        if file.value.is_empty() || file.value.contains('\0') {
            t.findings().add(&file.span, Fault::new("this is not a path"));
        }
        let path = PathBuf::from(file.value);
        let kind = match path.extension().and_then(|extension| extension.to_str()) {
            Some("txt") => "text/plain; charset=utf-8",
            Some("json") => "application/json",
            _ => "text/html; charset=utf-8",
        };
        let source = PageSource::File(path, file.span.clone());
        pages.extend(page(&at, &t, kind, Bytes::new(), source));
    }
    for (at, text) in t.named_texts("texts") {
        let html = text.value.trim_start().starts_with('<');
        let kind = if html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
        pages.extend(page(&at, &t, kind, text.value.to_owned().into(), PageSource::Text));
    }
    let intercept = t.numbers_or_strings("intercept", "`intercept` is empty");
    let intercept = intercept.get().map(|at| &at.value[..]).unwrap_or_default();
    let intercept = intercept.iter().filter_map(|at| statuses(at, &t)).collect();
    pages.sort_by_key(|page| page.statuses.1 - page.statuses.0);
    t.finish(misplaced);
    let errors = Errors { pages, intercept };
    (errors != Errors::default()).then_some(errors)
}

fn page(at: &At<&str>, t: &Table<'_>, kind: &'static str, body: Bytes, source: PageSource) -> Option<Page> {
    Some(Page { statuses: statuses(at, t)?, kind: HeaderValue::from_static(kind), body, source })
}

/// `"404"`, `"5xx"`, `"500-504"`.
fn statuses(at: &At<&str>, t: &Table<'_>) -> Option<Statuses> {
    let code = |text: &str| text.parse::<u16>().ok().filter(|code| (400..=599).contains(code));
    let range = match at.value {
        "4xx" => Some(Statuses(400, 499)),
        "5xx" => Some(Statuses(500, 599)),
        text => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            code(first).zip(code(last)).filter(|(first, last)| first <= last).map(|(first, last)| Statuses(first, last))
        }
    };
    if range.is_none() {
        let fault = Fault::new(format!("`{}` is not the status of an error", shorten(at.value)));
        let span: &Span = &at.span;
        t.findings().add(span, fault.hint("write it like \"404\", \"5xx\" or \"500-504\""));
    }
    range
}
