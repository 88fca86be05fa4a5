//! Who reaches the version on trial before it has any share.

use http::HeaderName;

use super::super::error::Fault;
use super::super::file::misplaced;
use super::super::reader::Table;
use super::super::units::shorten;
use super::super::words;
use super::Secret;

/// `[service.NAME.preview]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// Where the secret is looked for. No node ever sees it.
    pub by: PreviewBy,
    /// What opens; each of them does, so that one can be replaced while it is in use. At least one.
    pub secrets: Vec<Secret>,
}

/// Where the secret is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreviewBy {
    /// In this header.
    Header(HeaderName),
    /// In this cookie.
    Cookie(String),
}

pub(super) fn read(mut t: Table<'_>) -> Option<Preview> {
    let by = t.string("by");
    let (secret, file) = (t.string("secret"), t.string("secret_file"));
    let by = match by.get() {
        None => Some(PreviewBy::Header(HeaderName::from_static("x-sluice-preview"))),
        Some(at) => {
            let (kind, name) = at.value.split_once(' ').unwrap_or((at.value, ""));
            let parsed = name.trim().parse::<HeaderName>();
            match (kind, parsed) {
                ("header", Ok(name)) if !words::frames(&name) && name != http::header::HOST => {
                    Some(PreviewBy::Header(name))
                }
                ("cookie", Ok(_)) => Some(PreviewBy::Cookie(name.trim().to_owned())),
                _ => {
                    let fault = Fault::new(format!("a preview cannot be asked for by `{}`", shorten(at.value)));
                    t.findings().add(&at.span, fault.hint("write \"header X-Preview\" or \"cookie preview\""));
                    None
                }
            }
        }
    };
    if secret.is_missing() && file.is_missing() {
        let fault = Fault::new("this preview has no `secret`: everybody could see the version on trial");
        t.findings().add(&t.span, fault.hint("write `secret_file = \"preview.secret\"`, or the `secret` itself"));
    }
    let written = secret.get().and_then(|at| Secret::written(at, &t));
    let in_file = file.get().map(|at| Secret::in_file(at, &t));
    t.finish(misplaced);
    Some(Preview { by: by?, secrets: written.into_iter().chain(in_file).collect() })
}
