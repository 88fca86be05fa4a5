//! x

pub mod state;
pub mod watch;
