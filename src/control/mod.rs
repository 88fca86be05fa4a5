//! x

pub mod health;
pub mod state;
pub mod watch;
