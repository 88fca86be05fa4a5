//! From journal and configuration to the first snapshot, then to open listeners.
//!
//! What served when the last process ended serves again at once, before any probe: users did not stop coming.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tracing::{info, warn};

use super::cohort_key;
use super::controller::Controller;
use super::entry::{Entry, Kept};
use super::state::{Record, StateError, Store, Writer};
use crate::config::Loaded;

/// Why the control plane cannot start. What to do is in the text.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal.
    #[error(transparent)]
    State(#[from] StateError),
    /// A listener could not be opened.
    #[error("{0}")]
    Listen(String),
}

/// Takes up what the journal holds, applies the configuration, publishes, and then opens the listeners.
pub(super) fn start(controller: &mut Controller, initial: Loaded, state_dir: Option<&Path>) -> Result<(), StartError> {
    if let Some(dir) = state_dir {
        let store = Store::open(dir)?;
        let records = store.load_all::<Kept>();
        controller.writer = Some(Rc::new(Writer::start(store)?));
        for record in records {
            take_up(controller, record, &initial);
        }
    }
    controller.assembler.set_cohort_key(cohort_key::key(state_dir));
    controller.apply(initial);
    controller.end_turn();
    controller.spread_certificates();
    if let Some(error) = controller.listeners.error() {
        let error = error.to_owned();
        controller.listeners.close_all();
        return Err(StartError::Listen(error));
    }
    info!(generation = controller.pool.generation(), services = controller.entries.len(), "serving");
    Ok(())
}

fn take_up(controller: &mut Controller, record: Record<Kept>, initial: &Loaded) {
    let name = record.service.clone();
    let settings = initial.config.as_ref().and_then(|config| config.services.get(&name));
    match settings {
        Some(settings) => {
            let mut entry = Entry::kept(Arc::clone(settings), record, controller.pool.workers());
            let now = controller.clock.now();
            let actions = entry.machine.resume(now);
            info!(service = %name, phase = entry.machine.phase().as_str(), "goes on from the journal");
            controller.entries.insert(name.clone(), entry);
            controller.turn.views.insert(name.clone());
            controller.carry_out(&name, actions, now);
        }
        None if initial.config.is_none() || !initial.held_back.is_empty() => {
            warn!(service = %name,
                "not every file can be read now, and none of the others configures it; what is known of it is kept");
            controller.dormant.insert(name, record);
        }
        None => {
            // Its nodes hold no work: this process has sent them none.
            info!(service = %name, "was removed from the configuration while no proxy ran; it is forgotten");
            if let Some(writer) = &controller.writer {
                writer.remove(&name);
            }
        }
    }
}
