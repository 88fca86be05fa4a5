//! The data plane: workers that answer requests from what the pool says is serving.
//!
//! Read `worker` for the thread, `front` for a client connection, and `handler` for one request from top to bottom. Nothing
//! here knows what a rollout is, or how a node's health is found out.

mod accept;
pub mod access_log;
mod answer;
mod attempts;
mod body;
mod border;
mod call;
mod claim;
mod client_body;
mod cuts;
mod date;
mod door;
pub mod error;
pub mod events;
mod forwarded;
mod front;
mod grpc;
mod halted;
mod handler;
pub mod headers;
mod key;
mod pace;
mod refuse;
mod replay;
mod to_https;
mod trace;
mod trial;
mod upgrade;
mod upstream;
mod view;
pub mod websocket;
mod worker;

pub use error::FAULT;
pub use worker::start;
