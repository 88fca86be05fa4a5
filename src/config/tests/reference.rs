//! `config/reference.toml` says what the code does.

use std::path::{Path, PathBuf};

use super::super::error::Findings;
use super::super::file;
use super::super::*;
use super::rendered;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

/// The reference with every option switched on: a `#` straight before a word or a header is one, `# ` begins a sentence.
fn all_on() -> String {
    let text = std::fs::read_to_string(path("reference.toml")).unwrap();
    let on = |line: &str| match line.strip_prefix('#') {
        Some(option) if option.starts_with(|c: char| c.is_ascii_lowercase() || "[\"".contains(c)) => option.to_owned(),
        _ => line.to_owned(),
    };
    let mut skipped = false;
    // What this build does not know stays off.
    let known = |line: &&str| {
        if line.trim_start_matches('#').starts_with('[') {
            skipped = cfg!(not(feature = "compression")) && line.contains(".compression]")
                || cfg!(not(feature = "otlp")) && line.contains("[tracing.export]");
        }
        !skipped
    };
    text.lines().filter(known).map(on).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_reference_holds_the_defaults() {
    let loaded = load(&path("reference.toml"));
    assert_eq!(rendered(&loaded), "");
    let config = loaded.config.unwrap();
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.shutdown, Shutdown::default());
    assert_eq!(config.admin, Admin::default());
    assert_eq!(config.trusted_proxies, Vec::new());
    assert_eq!((config.workers, config.state_dir), (None, None));
    assert_eq!(config.metrics, Metrics::default());
    assert_eq!((config.access_log, config.tracing), (None, Tracing::default()));
    assert_eq!(config.errors, None);
    for name in ["shop", "blog"] {
        let service = &config.services[name];
        assert_eq!(service.health, Health::default());
        assert_eq!(service.rollout, Rollout::default());
        assert_eq!(service.drain, Drain::default());
        assert_eq!(service.timeouts, Timeouts::default());
        assert_eq!(service.retry, Retry::default());
        assert_eq!(service.connections, Connections::default());
        assert_eq!(service.balance, Balance::default());
        assert_eq!(service.eject, Eject::default());
        assert_eq!(service.hold, Hold::default());
        assert!(service.weights.is_empty());
        assert!(!service.strip_prefix);
        assert_eq!(service.door, None);
        assert_eq!(service.trial, None);
    }
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let text = all_on();
    let findings = Findings::new(&text);
    let table = syntax::parse(&text, &findings).unwrap();
    file::read(&table, Path::new("reference.toml"), &findings);
    let keys = findings.keys.take();
    assert!(keys.len() > 50);
    let mut missing = keys.into_iter().filter(|(_, written)| !written);
    assert_eq!(missing.next(), None, "known to the code, not in the reference");
    // A key that the code does not know would be a problem.
    assert_eq!(findings.into_problems(Path::new("")), Vec::new());
}

#[test]
fn every_option_of_the_reference_can_be_switched_on() {
    let loaded = load_str(&all_on(), Path::new("reference.toml"));
    assert_eq!(rendered(&loaded), "");
    let config = loaded.config.unwrap();
    let Probe::Http { status, .. } = &config.services["shop"].health.probe else { panic!("no HTTP probe") };
    assert_eq!(*status, [defaults::STATUS]);
}

#[test]
fn the_minimal_file_works() {
    let loaded = load(&path("minimal.toml"));
    assert_eq!(rendered(&loaded), "");
    let config = loaded.config.unwrap();
    assert_eq!(config.services["app"].versions[&Version::unnamed()].len(), 2);
}
