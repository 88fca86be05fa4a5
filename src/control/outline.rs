//! A configuration in outline, for those who compare.

use std::fmt::Debug;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::api::{ListenerOutline, Outline, ServiceOutline};
use crate::config::{Config, HostPattern, Match, Service};

/// Version of the document's shape.
const SCHEMA: u32 = 1;

/// The outline of a configuration.
pub fn outline(config: &Config) -> Outline {
    // Whatever is added to the configuration does not compile until it is here too.
    let Config {
        listeners,
        services,
        admin,
        state_dir,
        workers,
        trusted_proxies,
        limits,
        errors,
        shutdown,
        metrics,
        access_log,
        tracing,
    } = config;
    Outline {
        schema: SCHEMA,
        sluice: env!("CARGO_PKG_VERSION").into(),
        settings: [
            setting("trusted_proxies", trusted_proxies),
            setting("limits", limits),
            setting("errors", errors),
            setting("shutdown", shutdown),
            setting("metrics", metrics),
            setting("log", access_log),
            setting("tracing", tracing),
        ]
        .into(),
        fixed: [setting("admin", admin), setting("state_dir", state_dir), setting("workers", workers)].into(),
        listeners: listeners
            .iter()
            .map(|listener| {
                let settings = [setting("accepting", &listener.accepting)].into();
                (listener.name.clone(), ListenerOutline { bind: listener.bind.to_string(), settings })
            })
            .collect(),
        services: services.iter().map(|(name, service)| (name.clone(), self::service(service))).collect(),
    }
}

fn service(service: &Arc<Service>) -> ServiceOutline {
    let Service {
        name: _,
        source,
        matches,
        strip_prefix,
        release,
        versions,
        weights,
        health,
        rollout,
        drain,
        timeouts,
        retry,
        connections,
        balance,
        eject,
        hold,
        tls,
        door,
        trial,
    } = &**service;
    let trial = trial.as_deref();
    ServiceOutline {
        source: source.clone(),
        release: release.clone(),
        versions: versions.clone(),
        matches: matches.iter().map(written).collect(),
        settings: [
            setting("strip_prefix", strip_prefix),
            setting("weights", weights),
            setting("health", health),
            setting("rollout", rollout),
            setting("drain", drain),
            setting("timeouts", timeouts),
            setting("retry", retry),
            setting("connections", connections),
            setting("balance", balance),
            setting("eject", eject),
            setting("hold", hold),
            setting("tls", tls),
            setting("policies", door),
            setting("cohort", &trial.and_then(|trial| trial.cohort.as_ref())),
            setting("preview", &trial.and_then(|trial| trial.preview.as_ref())),
            setting("shadow", &trial.and_then(|trial| trial.shadow.as_ref())),
        ]
        .into(),
    }
}

/// The debugging output names every field and nothing that differs between two readings of the same text.
fn setting(name: &str, value: &impl Debug) -> (String, String) {
    (name.to_owned(), format!("{:016x}", xxh3_64(format!("{value:?}").as_bytes())))
}

/// As in the file.
fn written(pattern: &Match) -> String {
    let prefix = &pattern.prefix;
    match &pattern.host {
        HostPattern::Exact(host) => format!("{host}{prefix}"),
        HostPattern::Wildcard(host) => format!("*.{host}{prefix}"),
        HostPattern::Any => format!("*{prefix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn read(more: &str) -> Outline {
        let text = format!(
            "[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:1\"\n[service.shop]\nmatch = [\"*\", \"a.test/b\", \"*.c.test\"]\nnodes = [\"a:1\"]\n{more}"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sluice.toml");
        std::fs::write(&path, text).unwrap();
        let loaded = config::load(&path);
        outline(&loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.problems)))
    }

    #[test]
    fn the_same_text_has_the_same_outline_and_another_differs_where_it_does() {
        let mut first = read("");
        let second = read("");
        for (ours, theirs) in first.services.values_mut().zip(second.services.values()) {
            ours.source.clone_from(&theirs.source);
        }
        assert_eq!(first, second);
        let shop = &first.services["shop"];
        assert_eq!(shop.matches, ["*", "a.test/b", "*.c.test"]);
        for (more, section) in [
            ("timeouts = { response = \"7s\" }", "timeouts"),
            ("health = { path = \"/x\" }", "health"),
            ("[service.shop.access]\nallow = [\"10.0.0.0/8\"]", "policies"),
        ] {
            let other = read(more);
            let differ: Vec<_> = other.services["shop"]
                .settings
                .iter()
                .filter(|(name, value)| shop.settings[*name] != **value)
                .map(|(name, _)| name.as_str())
                .collect();
            assert_eq!(differ, [section]);
        }
    }
}
