//! x

pub mod watch;
