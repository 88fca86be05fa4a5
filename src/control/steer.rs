//! Operators steer a rollout by hand: what the verbs `promote`, `pause`, `resume`, `abort` and `retry` come to.

use tracing::info;

use super::controller::Controller;
use super::report;
use crate::api::{Refusal, RefusalKind, ServiceStatus, Steered, Steering};
use crate::model::ServiceName;
use crate::rollout::Event;

impl Controller {
    /// Carries it out, or says why it cannot be.
    pub(super) fn steer(
        &mut self,
        name: &ServiceName,
        steering: Steering,
        by: String,
    ) -> Result<ServiceStatus, Refusal> {
        self.refuse_if_invalid(name)?;
        let Some(entry) = self.entries.get(name) else {
            return Err(self.unknown(name));
        };
        entry
            .machine
            .can_steer(steering)
            .map_err(|why| Refusal { kind: RefusalKind::Conflict, message: format!("{name}: {why}") })?;
        info!(service = %name, verb = steering.as_str(), by, "an operator steers");
        if steering == Steering::Retry {
            // Another try is another change: whoever waited for the first one has its end.
            self.supersede(name, "the version is tried again");
        }
        let at = self.clock.now();
        if let Some(entry) = self.entries.get_mut(name) {
            entry.change.note_steered(Steered { at, steering, by });
        }
        self.tell(name, Event::Steer(steering));
        // What the caller is told must be what serves.
        self.end_turn();
        self.entries.get(name).map(report::service).ok_or_else(|| self.unknown(name))
    }
}
