//! Which requests the version on trial gets as copies.

use std::time::Duration;

use super::super::error::Fault;
use super::super::file::misplaced;
use super::super::reader::Table;
use super::super::rollout::share_of;
use crate::model::Share;

/// `[service.NAME.shadow]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// The part of the old version's requests that is copied, among those that change nothing and have no body.
    pub share: Share,
    /// Copies under way at once, over all workers; more are left out.
    pub most: usize,
    /// How long one may take, with its answer.
    pub timeout: Duration,
}

impl Default for Shadow {
    fn default() -> Self {
        Self {
            // Enough to see what breaks at all, too little to be felt by what both versions share: a database.
            share: Share(100),
            // With answers in 50 ms these are 600 copies a second.
            most: 32,
            // Whoever takes longer has been judged by then, and holds a place.
            timeout: Duration::from_secs(5),
        }
    }
}

pub(super) fn read(mut t: Table<'_>) -> Shadow {
    let d = Shadow::default();
    let share = t.string("share");
    let share = share.get().map_or(Ok(d.share), |at| {
        let nothing = || Fault::new("a share of nothing copies nothing").hint("remove the section to switch it off");
        let share = share_of(at.value).and_then(|share| if share == Share::NONE { Err(nothing()) } else { Ok(share) });
        share.map_err(|fault| t.findings().add(&at.span, fault))
    });
    let shadow = Shadow {
        share: share.unwrap_or(d.share),
        most: t.count_or("most", d.most, 1..=10_000),
        timeout: t.some_duration("timeout", d.timeout),
    };
    t.finish(misplaced);
    shadow
}
