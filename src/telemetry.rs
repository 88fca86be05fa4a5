//! Logs: one set-up for the process. Events come from the control plane; the request path logs nothing that is not wrong.

pub mod lines;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Writes events to standard error from now on. `filter` is as in `SLUICE_LOG`: `info`, `sluicegate=debug`, …; an invalid one
/// is told and `info` is taken. A second call changes nothing.
pub fn init(filter: Option<&str>, format: Format) {
    let usual = || EnvFilter::new("info");
    let filter = match filter.map(EnvFilter::try_new) {
        None => usual(),
        Some(Ok(filter)) => filter,
        Some(Err(error)) => {
            anstream::eprintln!("warning: SLUICE_LOG: {error}; taking `info`");
            usual()
        }
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    // Fails only if there is one already, as in tests.
    let _ = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().try_init(),
    };
}
