//! What a service does with its users while two of its versions serve: who stays where (`cohort`), who may look first
//! (`preview`), and which requests the version on trial gets as copies (`shadow`). One file a section.

mod cohort;
mod preview;
mod secret;
mod shadow;

use std::path::Path;

use super::door::Attachments;
use super::error::Findings;
use super::reader::Table;

pub use cohort::{Cohort, CohortBy, OwnCookie};
pub use preview::{Preview, PreviewBy};
pub use secret::Secret;
pub use shadow::Shadow;

/// These sections of a service. One with none of them has no `Trial` at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trial {
    /// Users stay on one version.
    pub cohort: Option<Cohort>,
    /// Whoever knows a secret reaches the version on trial.
    pub preview: Option<Preview>,
    /// The version on trial gets copies of requests.
    pub shadow: Option<Shadow>,
}

/// Reads the sections; `None` if there are none.
pub(super) fn read(t: &mut Table<'_>) -> Option<Trial> {
    let trial = Trial {
        cohort: t.table("cohort", "service.*.cohort").map(cohort::read),
        preview: t.table("preview", "service.*.preview").and_then(preview::read),
        shadow: t.table("shadow", "service.*.shadow").map(shadow::read),
    };
    (trial != Trial::default()).then_some(trial)
}

impl Trial {
    /// Fills in the secrets that are files.
    pub(super) fn attach(&mut self, base: &Path, files: &mut dyn Attachments, findings: &Findings<'_>) {
        let own = self.cohort.as_mut().and_then(|cohort| match &mut cohort.by {
            CohortBy::Own(cookie) => cookie.secret.as_mut(),
            CohortBy::Key(_) => None,
        });
        let preview = self.preview.iter_mut().flat_map(|preview| &mut preview.secrets);
        for secret in own.into_iter().chain(preview) {
            secret.attach(base, files, findings);
        }
    }
}

#[cfg(test)]
mod tests;
