//! Operators stop a service's traffic, and let it go on: what the verbs `hold`, `release` and `maintenance` come to.

use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use super::clock::Clock;
use super::controller::Controller;
use super::report;
use crate::api::{HaltKind, HaltStatus, Halting, Refusal, RefusalKind, ServiceStatus};
use crate::model::{ServiceName, Timestamp};
use crate::pool::{Halt, Maintenance};

/// Requests wait no longer than this: no client does.
const LONGEST: Duration = Duration::from_hours(1);

/// Bytes of a message for clients, which each of them gets.
const MESSAGE: usize = 4096;

/// As the workers see it.
pub(super) fn halt(status: &HaltStatus, clock: &Clock) -> Option<Arc<Halt>> {
    let halt = match status.kind {
        HaltKind::Hold => Halt::Held { until: clock.instant(status.until?).into_std() },
        HaltKind::Maintenance => Halt::Maintenance(Arc::new(Maintenance {
            message: status.message.clone(),
            retry_after: status.retry_after.unwrap_or_default(),
        })),
    };
    Some(Arc::new(halt))
}

/// What shall be after it, or why it cannot be.
fn next(
    name: &ServiceName,
    halting: Halting,
    present: Option<&HaltStatus>,
    by: &str,
    now: Timestamp,
) -> Result<Option<HaltStatus>, String> {
    let kind = present.map(|halt| halt.kind);
    let empty = HaltStatus {
        kind: HaltKind::Hold,
        since: present.map_or(now, |halt| halt.since),
        until: None,
        message: None,
        retry_after: None,
        by: by.to_owned(),
    };
    match (halting, kind) {
        (Halting::Hold { .. }, Some(HaltKind::Maintenance)) => {
            Err(format!("it is in maintenance; `sluice maintenance {name} off` first"))
        }
        (Halting::Hold { for_ms }, _) => {
            let length = Duration::from_millis(for_ms);
            if length.is_zero() || length > LONGEST {
                return Err("a hold lasts longer than nothing and at most an hour: no client waits longer".into());
            }
            Ok(Some(HaltStatus { until: Some(now.plus(length)), ..empty }))
        }
        (Halting::MaintenanceOn { message, .. }, _) if message.as_ref().is_some_and(|text| text.len() > MESSAGE) => {
            Err(format!(
                "the message is longer than {MESSAGE} bytes; a whole page goes into `errors.files` of the configuration"
            ))
        }
        (Halting::MaintenanceOn { message, retry_after }, _) => {
            Ok(Some(HaltStatus { kind: HaltKind::Maintenance, message, retry_after: Some(retry_after), ..empty }))
        }
        (Halting::Release, Some(HaltKind::Hold)) | (Halting::MaintenanceOff, Some(HaltKind::Maintenance)) => Ok(None),
        (Halting::Release, _) => Err("its requests are not on hold".into()),
        (Halting::MaintenanceOff, _) => Err("it is not in maintenance".into()),
    }
}

impl Controller {
    /// Carries it out, or says why it cannot be.
    pub(super) fn halt(&mut self, name: &ServiceName, halting: Halting, by: &str) -> Result<ServiceStatus, Refusal> {
        let now = self.clock.now();
        let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.machine.wanted().is_some()) else {
            return Err(self.unknown(name));
        };
        entry.halt = next(name, halting, entry.halt.as_ref(), by, now)
            .map_err(|why| Refusal { kind: RefusalKind::Conflict, message: format!("{name}: {why}") })?;
        if let Some(halt) = &entry.halt {
            info!(service = %name, kind = ?halt.kind, by, "an operator stops the traffic");
        } else {
            info!(service = %name, by, "an operator lets the traffic go on");
        }
        self.turn.views.insert(name.clone());
        self.turn.touched.insert(name.clone());
        // What the caller is told must be what serves.
        self.end_turn();
        self.entries.get(name).map(report::service).ok_or_else(|| self.unknown(name))
    }

    /// Ends a hold whose time is over: forgotten ones must not stay.
    pub(super) fn end_hold(&mut self, name: &ServiceName, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        if entry.halt.take_if(|halt| halt.until.is_some_and(|until| until <= now)).is_some() {
            info!(service = %name, "a hold has lasted as long as it was meant to; the requests go on");
            self.turn.views.insert(name.clone());
            self.turn.touched.insert(name.clone());
        }
    }
}
