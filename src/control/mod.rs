//! The control plane: one thread that makes what serves what the configuration asks for.
//!
//! In reading order: [`run`] (`controller`: the loop) · `start` (from journal and configuration to the first snapshot) ·
//! `apply` (one edit) · `act` (what the rollout machine asks to be done) · `turn` and `settle` (what each turn ends with) · `build` (what the workers
//! see) · `drain` · `listeners` · `calls` (what verbs ask) with `report`, `words` and `followers` · `shutdown`. Beside them,
//! on their own: [`watch`] (files change), [`state`] (the journal), `reading`, `probing`, `clock`.
//!
//! Nothing here decides how a version takes over; `rollout` does.

pub mod health;
pub mod state;
pub mod watch;

mod access_log;
mod act;
mod apply;
mod build;
mod calls;
mod certificates;
mod clock;
mod cohort_key;
mod controller;
mod courier;
mod drain;
mod endpoint;
mod entry;
mod events;
mod followers;
mod gather;
mod halt;
mod judges;
mod listeners;
mod outliers;
mod outline;
mod probing;
mod reading;
mod report;
mod settle;
mod shutdown;
mod spans;
mod start;
mod steer;
mod trial;
mod turn;
mod words;

pub use certificates::check_files;
pub use clock::Clock;
pub use controller::{Parts, Signal, run};
pub use outline::outline;
pub use shutdown::Summary;
pub use start::StartError;

#[cfg(test)]
mod tests;
