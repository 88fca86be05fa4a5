//! The real process: `sluice run` with real files, a real admin socket and real signals. What is shown here is what an
//! operator sees; the parts have their own tests.
//!
//! Small numbers by default. `SLUICE_CRASHES=100 SLUICE_EDITS=1000` gives the full ones, `SLUICE_SEED=…` replays a run.

mod support;

mod admin;
mod balance;
mod crash;
mod edits;
mod ending;
mod halts;
mod journal;
mod judges;
mod live;
mod metrics;
mod midway;
mod outcomes;
mod spans;
mod starting;
mod steering;
mod together;
#[cfg(feature = "top")]
mod top;
mod trial;
mod verbs;
