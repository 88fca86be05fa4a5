//! Warns of certificates before they end.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use tracing::{error, warn};

use crate::model::Timestamp;
use crate::net::tls::Server;

/// What the log was told about each certificate: the shortest warning so far.
#[derive(Debug, Default)]
pub(in crate::control) struct Expiry(HashMap<(PathBuf, Timestamp), Duration>);

/// The warning that is due: the shortest one that is not shorter than what is left. Zero: it has ended.
fn due(warnings: &[Duration], left: Duration) -> Option<Duration> {
    if left.is_zero() {
        return Some(Duration::ZERO);
    }
    warnings.iter().copied().filter(|warning| *warning >= left).min()
}

impl Expiry {
    /// Looks at a listener's certificates.
    pub(super) fn look(&mut self, listener: &str, server: &Server, now: Timestamp) {
        for pair in server.pairs() {
            let left = pair.not_after.since(now);
            let Some(due) = due(&server.settings().expiry_warning, left) else { continue };
            let told = self.0.entry((pair.cert.clone(), pair.not_after)).or_insert(Duration::MAX);
            if due >= *told {
                continue;
            }
            *told = due;
            let (file, names) = (pair.cert.display(), pair.names.join(", "));
            if due.is_zero() {
                error!(listener, %file, names, "a certificate has ended: clients will refuse it; replace the file, no reload is needed");
            } else {
                let days = left.as_secs() / 86_400;
                warn!(listener, %file, names, days, "a certificate ends soon; replace the file, no reload is needed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warning_is_due_once_what_is_left_is_less() {
        let day = Duration::from_hours(24);
        let warnings = [day * 30, day * 7, day];
        for (left, expected) in [
            (day * 31, None),
            (day * 30, Some(day * 30)),
            (day * 8, Some(day * 30)),
            (day * 7, Some(day * 7)),
            (day / 2, Some(day)),
            (Duration::ZERO, Some(Duration::ZERO)),
        ] {
            assert_eq!(due(&warnings, left), expected, "{left:?}");
        }
        assert_eq!(due(&[], day), None);
    }
}
