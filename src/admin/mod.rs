//! The admin API: plain HTTP and JSON on a Unix socket, which the verbs use; and, if wanted, over TCP.
//!
//! Nothing is decided here. A request becomes an [`api::Request`](crate::api::Request), goes through the
//! [`Port`](crate::api::Port), and its answer is written as JSON. Who may ask is decided by the socket file's mode (0660).
//! What can be asked is in `endpoints`, one row each.
//!
//! Errors are `{"error": {"kind": …, "message": …}}`. Names are percent-encoded; `+` stands for itself, because versions hold it.

mod answer;
mod audit;
mod credentials;
mod dashboard;
mod endpoints;
mod events;
mod http;
pub mod metrics;
mod openapi;
mod origin;
mod patient;
mod route;
mod server;
mod shapes;
mod socket;
mod stream;
mod visitor;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub use self::http::Http;
pub use credentials::new_token;
pub use socket::UnixSocket;
