//! Logs: one set-up for the process. Events come from the control plane; the request path logs nothing that is not wrong.

pub mod lines;

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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
    let filter = filter.map_or(Ok(usual()), targets).unwrap_or_else(|problem| {
        anstream::eprintln!("warning: --log (SLUICE_LOG): {problem}; taking `info`");
        usual()
    });
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let registry = tracing_subscriber::registry().with(filter);
    // Fails only if there is one already, as in tests.
    let _ = match format {
        Format::Text => registry.with(lines).try_init(),
        Format::Json => registry.with(lines.json()).try_init(),
    };
}

fn usual() -> Targets {
    Targets::new().with_default(LevelFilter::INFO)
}

/// What is logged, from parts as `LEVEL` or `TARGET=LEVEL`. The library's own parser takes a mistyped level for a target, and then logs nothing.
fn targets(filter: &str) -> Result<Targets, String> {
    let mut targets = Targets::new();
    for part in filter.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (target, level) =
            part.split_once('=').map_or((None, part), |(target, level)| (Some(target.trim()), level.trim()));
        // An empty one would be taken for `error`.
        let known = Some(level).filter(|level| !level.is_empty()).and_then(|level| level.parse::<LevelFilter>().ok());
        let level = known.ok_or_else(|| format!("`{level}` is no level (off, error, warn, info, debug or trace)"))?;
        targets = match target {
            Some(target) => targets.with_target(target, level),
            None => targets.with_default(level),
        };
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::targets;

    #[test]
    fn a_filter_names_a_level_for_all_and_others_for_some() {
        let filter = targets("warn, sluicegate::proxy=debug,audit=off").unwrap();
        assert!(filter.would_enable("sluicegate::control", &Level::WARN));
        assert!(!filter.would_enable("sluicegate::control", &Level::INFO));
        assert!(filter.would_enable("sluicegate::proxy::handler", &Level::DEBUG));
        assert!(!filter.would_enable("audit", &Level::ERROR));
    }

    #[test]
    fn a_mistyped_level_is_told_and_does_not_silence_the_log() {
        assert_eq!(targets("inof").unwrap_err(), "`inof` is no level (off, error, warn, info, debug or trace)");
        assert!(targets("sluicegate=").is_err());
        assert!(targets("info,sluicegate=verbose").is_err());
    }
}
