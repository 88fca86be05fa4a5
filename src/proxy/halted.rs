//! A service whose traffic an operator has stopped: requests wait, or are told to come back.
//!
//! Asked before a request's first try, once, and again by whoever waited: what is under way goes on.

use std::pin::pin;
use std::rc::Rc;

use tokio::time::{Instant, timeout_at};

use super::call::{Call, Stage};
use super::error::Fault;
use super::refuse::ended_by;
use super::view::View;
use super::worker::Worker;
use crate::pool::{Halt, ServiceView};

/// Whether its requests wait now. A hold ends by itself, even if the control plane hangs.
pub fn is_held(service: &ServiceView) -> bool {
    matches!(service.halt.as_deref(), Some(Halt::Held { until }) if *until > std::time::Instant::now())
}

/// Lets the request through, with the newest view: at once, after a wait, or never.
pub async fn pass(worker: &Rc<Worker>, call: &Call, view: Rc<View>, index: usize) -> Result<(Rc<View>, usize), Fault> {
    let (mut view, mut index) = (view, index);
    let mut place = None;
    loop {
        let (service, _) = view.service(index).ok_or(Fault::NoService)?;
        let until = match service.halt.as_deref() {
            Some(Halt::Held { until }) if *until > std::time::Instant::now() => Instant::from_std(*until),
            Some(Halt::Maintenance(what)) => return Err(Fault::Maintenance(std::sync::Arc::clone(what))),
            Some(Halt::Held { .. }) | None => return Ok((view, index)),
        };
        // A hold that outlives the process is in vain: who is told so at once can ask the next one.
        if worker.closes_at().is_some_and(|end| Instant::from_std(end) < until) {
            return Err(Fault::Shutdown);
        }
        if place.is_none() {
            place = Some(service.hold.enter(service.settings.hold.most).ok_or(Fault::Held)?);
            call.enter(Stage::Free, std::time::Duration::MAX);
        }
        let Some(place) = &place else {
            return Err(Fault::Held);
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
