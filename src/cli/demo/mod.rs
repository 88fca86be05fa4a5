//! `sluice demo`: toy services, load, and a rolling deploy before your eyes. The end-to-end tests use the same parts.

mod client;
mod content;
mod io;
mod ledger;
mod load;
mod origin;
mod service;
mod tally;
mod work;

#[cfg(test)]
mod tests;

pub use ledger::{Duplicate, Ledger};
pub use load::{Load, LoadOptions, Rates};
pub use origin::{Faults, Origin, OriginCounts, OriginOptions};
pub use tally::{Failure, Kind, KindTally, Reason, Tally, VersionTally};
