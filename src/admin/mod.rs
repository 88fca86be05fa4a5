//! The admin API: plain HTTP and JSON on a Unix socket, which the verbs use; and, if wanted, a read-only listener on loopback.
//!
//! Nothing is decided here. A request becomes an [`api::Request`](crate::api::Request), goes through the
//! [`Port`](crate::api::Port), and its answer is written as JSON. Who may ask is decided by the socket file's mode (0660).
//!
//! | route | answer |
//! |---|---|
//! | `GET /healthz` | 200 `ok`: the process lives |
//! | `GET /readyz` | 200 or 503: it wants traffic |
//! | `GET /v1/status[?service=S]` | [`Status`](crate::api::Status) |
//! | `GET /v1/history?service=S` | a list of [`HistoryEntry`](crate::api::HistoryEntry), newest first |
//! | `GET /v1/services/S` | [`ServiceStatus`](crate::api::ServiceStatus) |
//! | `GET /v1/services/S/history` | as above |
//! | `POST /v1/reload` | [`ConfigStatus`](crate::api::ConfigStatus) |
//! | `POST /v1/services/S/wait[?version=V]` | a line of [`Progress`](crate::api::Progress) for each change until one has `ended` |
//! | `POST /v1/services/S/nodes/ADDRESS/drain[?undo=true]` | the same |
//!
//! Errors are `{"error": {"kind": …, "message": …}}`. Names are percent-encoded; `+` stands for itself, because versions hold it.

mod answer;
mod origin;
mod route;
mod server;
mod socket;
mod stream;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub use route::encode;
pub use server::{bind_http, serve_http};
pub use socket::UnixSocket;
