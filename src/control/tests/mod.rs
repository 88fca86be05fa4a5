//! The control plane with real files, real sockets, and workers that do what they are told and nothing else.

mod churn;
mod edits;
mod ends;
mod outliers;
mod rollouts;
mod scale;
mod support;
mod trials;
