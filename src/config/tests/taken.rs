//! What is accepted, and what becomes of it.

use std::time::Duration;

use super::super::*;
use super::{LISTENER, valid};
use crate::model::Version;

/// The service `shop` of a configuration that says this about it.
fn shop(text: &str) -> Service {
    let config = valid(&format!("[service.shop]\n{text}\n{LISTENER}"));
    Service::clone(&config.services["shop"])
}

#[test]
fn matches_are_brought_into_one_form() {
    let of = |host, prefix: &str| Match { host, prefix: prefix.into() };
    let exact = |name: &str| HostPattern::Exact(name.into());
    let wild = |name: &str| HostPattern::Wildcard(name.into());
    for (written, wanted, shown) in [
        ("Shop.Example.COM", of(exact("shop.example.com"), ""), "shop.example.com"),
        ("example.com.", of(exact("example.com"), ""), "example.com"),
        ("example.com/", of(exact("example.com"), ""), "example.com"),
        ("example.com/Shop/", of(exact("example.com"), "/Shop"), "example.com/Shop"),
        ("*.Example.com/a/b", of(wild("example.com"), "/a/b"), "*.example.com/a/b"),
        ("*", of(HostPattern::Any, ""), "*"),
        ("*/", of(HostPattern::Any, ""), "*"),
        ("*/~a/%20", of(HostPattern::Any, "/~a/%20"), "*/~a/%20"),
        ("localhost", of(exact("localhost"), ""), "localhost"),
        ("127.0.0.1/x", of(exact("127.0.0.1"), "/x"), "127.0.0.1/x"),
        ("[0:0::1]/x", of(exact("[::1]"), "/x"), "[::1]/x"),
    ] {
        let service = shop(&format!("match = \"{written}\"\nnodes = [\"a:1\"]"));
        assert_eq!(service.matches, [wanted], "{written}");
        assert_eq!(service.matches[0].to_string(), shown);
    }
}

#[test]
fn one_match_and_a_list_of_one_are_the_same() {
    let one = shop("match = \"a\"\nnodes = [\"a:1\"]");
    assert_eq!(one, shop("match = [\"a\"]\nnodes = [\"a:1\"]"));
}

#[test]
fn nodes_stay_as_they_are_written() {
    let written = ["10.0.0.5:5001", "[2001:DB8::1]:80", "Node-1.example.com:65535", "my_node:1"];
    let service = shop(&format!("match = \"*\"\nnodes = {written:?}"));
    let nodes: Vec<_> = service.versions[&Version::unnamed()].iter().map(|node| node.as_str().to_owned()).collect();
    assert_eq!(nodes, written);
    assert!(service.release.is_unnamed());
}

#[test]
fn the_only_version_is_the_release() {
    let service = shop("match = \"*\"\nversions.v1 = [\"a:1\"]");
    assert_eq!(service.release, Version::new("v1"));
}

#[test]
fn the_same_address_may_serve_two_versions() {
    let service = shop("match = \"*\"\nrelease = \"v2\"\nversions.v1 = [\"a:1\"]\nversions.v2 = [\"a:1\"]");
    assert_eq!(service.release, Version::new("v2"));
    assert_eq!(service.versions.len(), 2);
}

#[test]
fn names_of_versions_are_tags_hashes_and_numbers() {
    for name in ["v1", "2026.11.22", "1.0.0-rc.1+build.5", "sha256:0a1b", "main@0a1b2c3", "7"] {
        let service = shop(&format!("match = \"*\"\nversions.\"{name}\" = [\"a:1\"]"));
        assert_eq!(service.release, Version::new(name));
    }
}

#[test]
fn a_path_makes_the_probe_ask() {
    let base = "match = \"*\"\nnodes = [\"a:1\"]\n[service.shop.health]\npath = \"/healthz?full=1\"\n";
    let http = |status| Probe::Http { path: "/healthz?full=1".into(), host: None, status, body: None, header: None };
    for (line, status) in [
        ("", vec![200..=299]),
        ("status = 204", vec![204..=204]),
        ("status = \"200-399\"", vec![200..=399]),
        ("status = [200, \"301-308\", \"404\"]", vec![200..=200, 301..=308, 404..=404]),
    ] {
        assert_eq!(shop(&format!("{base}{line}")).health.probe, http(status), "{line}");
    }
    let more = "host = \"shop.example.com:80\"\nbody = \"{version}\"\nheader = \"X-Version:  {version} \"\nall_down = \"refuse\"";
    let health = shop(&format!("{base}{more}")).health;
    assert_eq!(health.all_down, AllDown::Refuse);
    let Probe::Http { host, body, header, .. } = health.probe else { panic!("connects only") };
    assert_eq!(host.as_deref(), Some("shop.example.com:80"));
    assert_eq!(body.as_deref(), Some("{version}"));
    assert_eq!(header, Some(("x-version".into(), "{version}".into())));
}

#[test]
fn settings_of_a_service_are_its_own() {
    let text = "match = \"*\"\nstrip_prefix = true\nnodes = [\"a:1\"]\nrollout.strategy = \"blue-green\"\nrollout.keep = \"0s\"\n\
        drain.requests = \"1m 30s\"\ntimeouts.response = \"2h\"\nretry.budget = \"12.5%\"\nretry.buffer = \"0B\"\n\
        connections.max = 0x10\nhealth.rise = 1_0";
    let service = shop(text);
    assert!(service.strip_prefix);
    assert_eq!(service.rollout, Rollout { strategy: Strategy::BlueGreen, keep: Duration::ZERO, ..Rollout::default() });
    assert_eq!(service.drain, Drain { requests: Duration::from_secs(90), ..Drain::default() });
    assert_eq!(service.timeouts, Timeouts { response: Duration::from_hours(2), ..Timeouts::default() });
    assert_eq!(service.retry, Retry { budget: 0.125, buffer: 0, ..Retry::default() });
    // A lower `max` takes the default of `idle` with it.
    assert_eq!(service.connections, Connections { max: 16, idle: 16, ..Connections::default() });
    assert_eq!(service.health, Health { rise: 10, ..Health::default() });
}

#[test]
fn settings_of_the_process_are_read() {
    let config = valid(
        "state_dir = \"state\"\nworkers = 3\ntrusted_proxies = [\"10.1.2.3/8\", \"::1\"]\n\
         [admin]\nsocket = \"s.sock\"\nhttp = \"[::1]:9901\"\n\
         [limits]\nhead_size = \"1MiB\"\n[shutdown]\ndelay = \"5s\"\n\
         [[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n[[listener]]\nname = \"b\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"c\"\nbind = \"[::]:80\"\n",
    );
    assert_eq!(config.state_dir.as_deref(), Some(std::path::Path::new("state")));
    assert_eq!(config.workers, Some(3));
    let networks: Vec<_> = config.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "::1/128"]);
    assert_eq!(config.admin.http, Some("[::1]:9901".parse().unwrap()));
    assert_eq!(config.limits.head_size, 1 << 20);
    assert_eq!(config.shutdown.delay, Duration::from_secs(5));
    let names: Vec<_> = config.listeners.iter().map(|listener| listener.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(config.services.is_empty());
}
