//! A service whose traffic an operator has stopped: requests wait, or are told to come back.
//!
//! Asked before a request's first try, once, and again by whoever waited: what is under way goes on.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::call::{Call, Stage};
use super::error::Fault;
use super::refuse::ended_by;
use super::view::View;
use super::worker::Worker;
use crate::pool::{Halt, ServiceView};

/// Until when its requests wait, if they do now. A hold ends by itself, even if the control plane hangs.
fn held_until(service: &ServiceView) -> Option<Instant> {
    match service.halt.as_deref() {
        Some(Halt::Held { until }) => {
            Some(*until).filter(|until| *until > std::time::Instant::now()).map(Instant::from_std)
        }
        _ => None,
    }
}

/// Whether its requests wait now.
pub fn is_held(service: &ServiceView) -> bool {
    held_until(service).is_some()
}

/// Lets the request through, with the newest view: at once, after a wait, or never.
pub async fn pass(worker: &Rc<Worker>, call: &Call, view: Rc<View>, index: usize) -> Result<(Rc<View>, usize), Fault> {
    let (mut view, mut index) = (view, index);
    let mut place = None;
    loop {
        let (service, _) = view.service(index).ok_or(Fault::NoService)?;
        if let Some(Halt::Maintenance(what)) = service.halt.as_deref() {
            return Err(Fault::Maintenance(Arc::clone(what)));
        }
        let Some(until) = held_until(service) else {
            return Ok((view, index));
        };
        // A hold that outlives the process is in vain: who is told so at once can ask the next one.
        if worker.closes_at().is_some_and(|end| Instant::from_std(end) < until) {
            return Err(Fault::Shutdown);
        }
        let place = if let Some(place) = &place {
            place
        } else {
            let entered = service.hold.enter(service.settings.hold.most).ok_or(Fault::Held)?;
            call.enter(Stage::Free, Duration::MAX);
            &*place.insert(entered)
        };
        let mut called = pin!(place.called());
        called.as_mut().enable();
        // Who lets them go publishes first, and then calls: one of the two is seen.
        let newest = worker.view();
        if !Rc::ptr_eq(&newest, &view) {
            index = newest.index_of(index, &view).ok_or(Fault::NoService)?;
            view = newest;
            continue;
        }
        // Called or not, the next look decides.
        let _ = call.unless_judged(timeout_at(until, called)).await.map_err(ended_by)?;
    }
}
