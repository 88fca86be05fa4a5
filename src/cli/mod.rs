//! x

pub mod check;
